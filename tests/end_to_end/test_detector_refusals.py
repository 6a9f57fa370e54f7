"""What the detector's training refuses: one clear sentence, the same in the failure file and on the terminal."""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import detector_programs as detection
from tests.support.detector_programs import SMALL, Host, lay_out, train_program
from tritonforge.records import frame_recordio

sys.path.insert(0, str(detection.ROOT / "tests/fixtures"))

import make_detections

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("good") / "pictures"
    make_detections.make(folder, 6, classes=(0, 1))
    return folder


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """The sentence of a training that fails for invalid input, before it loads TensorFlow.

    Each runs in a copy of one process that has imported what the program imports.
    """
    with Host(tmp_path_factory.mktemp("host")) as host:

        def sentence(base: Path, *, pipe: bytes | None = None) -> str:
            host.train(base, pipe=pipe, code=2)
            return read_failure(base)

        yield sentence


def read_failure(base: Path) -> str:
    """Return the reason of a training that failed: the file and the log have it."""
    failure = (base / "output/failure").read_text()
    lines = (base / "train.err").read_text().splitlines()
    assert lines[-1] == failure
    assert "Traceback" not in "\n".join(lines)
    assert not (base / "model").exists() or not any((base / "model").iterdir())
    return failure


def missing(folder: Path, document: dict[str, Any]) -> None:
    """An image is not there."""
    (folder / "images/000003.jpg").unlink()


def outside(folder: Path, document: dict[str, Any]) -> None:
    """A box goes beyond its image."""
    document["annotations"][0]["bbox"] = [10, 10, 500, 40]


def truncated(folder: Path, document: dict[str, Any]) -> None:
    """An image ends in its middle."""
    path = folder / "images/000002.jpg"
    path.write_bytes(path.read_bytes()[:1500])


def text(folder: Path, document: dict[str, Any]) -> None:
    """An image is none."""
    (folder / "images/000002.jpg").write_text("hello")


def other_size(folder: Path, document: dict[str, Any]) -> None:
    """The label is of an image of another size."""
    document["images"][1].update(width=1000, height=1000)


def keyless(folder: Path, document: dict[str, Any]) -> None:
    """A key of the document is not there."""
    del document["annotations"]


def boxless(folder: Path, document: dict[str, Any]) -> None:
    """Nothing is on any image."""
    document["annotations"] = []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, ["images/000003.jpg is not there", "annotations.json names it"]),
        (outside, ["annotations.json", "annotations[0].bbox", "x=500, outside the image"]),
        (truncated, ["images/000002.jpg cannot be decoded", "truncated", "replace it"]),
        (text, ["images/000002.jpg is not a JPEG or PNG image"]),
        (other_size, ["images/000001.jpg has", "its label has 1000 x 1000"]),
        (keyless, ["annotations.json", "annotations", "must be a list"]),
        (boxless, ["no box on any image"]),
    ],
)
def test_wrong_files_are_named(
    spoil: Callable[[Path, dict[str, Any]], None],
    words: list[str],
    good: Path,
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    """The file, what is wrong with it, and what to do."""
    folder = tmp_path / "pictures"
    shutil.copytree(good, folder)
    document = json.loads((folder / "annotations.json").read_text())
    spoil(folder, document)
    (folder / "annotations.json").write_text(json.dumps(document))
    sentence = refused(lay_out(tmp_path / "base", SMALL, {"training": folder}))
    assert [word for word in words if word not in sentence] == [], sentence


def test_a_folder_without_annotations_is_rejected_with_what_it_needs(good: Path, tmp_path: Path) -> None:
    """`annotations.json` is what the channel is read by; here the program itself says so."""
    base = lay_out(tmp_path / "base", SMALL, {"training": good / "images"})
    train_program(base, code=2)
    sentence = read_failure(base)
    assert "channel training has no annotations.json" in sentence


def records(good: Path) -> list[bytes]:
    """What comes out of the pipe, record by record."""
    lines = [json.loads(line) for line in (good / "digits.manifest").read_text().splitlines()]
    return [
        part for line in lines for part in (Path(line["source-ref"]).read_bytes(), json.dumps(line["digits"]).encode())
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.__setitem__(4, found[4][:900]), ["record 4, an image,", "cannot be decoded"]),
        (lambda found: found.__setitem__(3, b"1"), ["record 3", "not a label", "AttributeNames"]),
        (lambda found: found.__delitem__(5), ["record 5", "not a label", "AttributeNames"]),
        (lambda found: found.__delitem__(2), ["record 2", "label without an image"]),
        (
            lambda found: found.__setitem__(1, found[1].replace(b'"left": ', b'"left": 9')),
            ["record 1, a label", "outside the image"],
        ),
        (lambda found: found.__delitem__(-1), ["ends after record 10, an image"]),
        (lambda found: found.clear(), ["no labelled image"]),
    ],
)
def test_wrong_records_are_numbered(
    change: Callable[[list[bytes]], None], words: list[str], good: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    """In a pipe there are no names: the record's number says which one, counted from 0."""
    found = records(good)
    change(found)
    base = lay_out(tmp_path / "base", SMALL, {}, pipes={"training": good})
    sentence = refused(base, pipe=b"".join(frame_recordio(record) for record in found))
    assert [word for word in words if word not in sentence] == [], sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learning_rat": "0.1", "epochs": "0"}, ["learning_rate?", "epochs is '0'"]),
        ({"train_only_on_top_layer": "True"}, ["train_only_on_top_layer", "without a channel model"]),
        ({"reinitialize_top_layer": "False"}, ["reinitialize_top_layer", "without a channel model"]),
        ({"image_size": "100"}, ["image_size", "'100'"]),
    ],
)
def test_wrong_hyperparameters_are_reported(
    given: dict[str, str], words: list[str], good: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    """All at once, where the declaration shows them to be wrong."""
    sentence = refused(lay_out(tmp_path / "base", {**SMALL, **given}, {"training": good}))
    assert [word for word in words if word not in sentence] == [], sentence


def test_another_algorithms_model_is_refused(good: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    """A model.tar.gz without this detector's weights is nothing to go on from."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "saved_model.pb", "1/saved_model.pb")
    sentence = refused(lay_out(tmp_path / "base", SMALL, {"training": good, "model": folder}))
    assert "channel model holds no model of this detector" in sentence
    assert "detector/settings.json" in sentence


def test_a_model_of_other_classes_keeps_its_head_only_by_a_wrong_hyperparameter(
    good: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    """`reinitialize_top_layer` False with another class set is refused before anything is trained."""
    folder = tmp_path / "model/detector"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"categories": [7], "labels": ["seven"], "image_size": 64}))
    np.savez(folder / "weights.npz", stem=np.zeros(1))
    given = {**SMALL, "reinitialize_top_layer": "False"}
    sentence = refused(lay_out(tmp_path / "base", given, {"training": good, "model": tmp_path / "model"}))
    assert "finds the classes 7" in sentence
    assert "the training data have the classes 0, 1" in sentence


def test_a_checkpoint_of_another_training_is_refused(good: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    """It is neither taken for this training's nor silently passed over."""
    base = lay_out(tmp_path / "base", SMALL, {"training": good})
    checkpoints = base / "checkpoints"
    checkpoints.mkdir()
    state = np.frombuffer(json.dumps({"job": {"seed": 5}}).encode(), np.uint8)
    arrays = {"told": state}
    np.savez(checkpoints / "state.npz", **arrays)
    assert "is of a training with another epochs" not in (sentence := refused(base))
    assert "is of a training with another batch_size" in sentence
    os.truncate(checkpoints / "state.npz", 100)
    assert "cannot be read" in refused(base)
