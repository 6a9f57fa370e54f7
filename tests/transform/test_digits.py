"""The digits as JPEG objects and as TFRecords of tf.train.Examples, through the real ensembles.

Answers are compared with those of the models to each picture alone. That these are what DALI and
TensorFlow give in process is shown by end_to_end/test_digits.py.

TRITONFORGE_IMAGES says how many pictures (2,000 for the whole proof; fewer unless it is stated).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.folder_transforms import Folder
from tests.support.framework_children import FrameworkProcess
from tests.support.picture_models import DIGITS, with_one_process, write_repository
from tritonforge.inference.client import Client
from tritonforge.inference.wire import decode_response, find_header_length
from tritonforge.transform import RAW, Outcome
from tritonforge.transform.local_server import LocalServer

pytestmark = [pytest.mark.server, pytest.mark.framework]

IMAGES = int(os.environ.get("TRITONFORGE_IMAGES", "120"))
FILES = 8


def _pictures() -> ModuleType:
    path = Path(__file__).parents[1] / "fixtures" / "make_pictures.py"
    spec = importlib.util.spec_from_file_location("make_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


make_pictures = _pictures()


@pytest.fixture(scope="module")
def examples(
    digits: Path,
    framework_processes: tuple[FrameworkProcess, FrameworkProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The built repository of `repos/digits_examples`, with the network of `repos/digits`, in one process."""
    folder = tmp_path_factory.mktemp("definition")
    for name in ("network.py", "example.py"):
        shutil.copy(ROOT / "repos" / "digits_examples" / name, folder)
    shutil.copy(digits / "classify/1/model.graphdef", folder)
    definition = (ROOT / "repos" / "digits_examples" / "definition.py").read_text()
    trained = "artifact=Function(build=network)"
    assert trained in definition
    definition = definition.replace(trained, 'artifact=File(path="model.graphdef")')
    (folder / "definition.py").write_text(definition)
    repository = tmp_path_factory.mktemp("built") / "digits_examples"
    with framework_processes[0].forks():
        done = tritonforge("build", str(folder / "definition.py"), "-o", str(repository))
    assert done.returncode == 0, done.stderr
    return with_one_process(repository, repository.with_name("one_process"), "classify")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as JPEG objects in ``jpegs`` and as TFRecords in ``tfrecords``."""
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures.make(folder / "jpegs", IMAGES)
    make_pictures.make(folder / "tfrecords", IMAGES, form="TFRecord", files=FILES)
    return folder


@pytest.fixture(scope="module", params=["jpegs", "tfrecords"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two jobs."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(examples: Path, kind: str) -> Iterator[LocalServer]:
    """The repository, with the ensemble of this job as its default model."""
    with LocalServer(examples, default_model={"jpegs": "digits", "tfrecords": "digits_examples"}[kind]) as found:
        yield found


@pytest.fixture(scope="module")
def alone(server: LocalServer) -> np.ndarray[Any, Any]:
    """What the two models give to each picture, asked one by one, without a job and without an ensemble."""
    found = []
    with Client(server.server.http_url or "") as client:
        for index in range(IMAGES):
            encoded = np.frombuffer(make_pictures.picture(index).data, np.uint8)[None]
            pixels = client.infer({"encoded": encoded}, model="decode")["pixels"]
            found.append(client.infer({"pixels": pixels}, model="classify")["probabilities"])
    return np.concatenate(found)


def transform(
    folder: Folder, server: LocalServer, source: Path, *, gather: bool = False, form: str = "container", **fields: Any
) -> Outcome:
    """The seed's job, with the strategy set that its Python example leaves out."""
    if source.name == "tfrecords":
        fields |= {"split_type": "TFRecord", "batch_strategy": "SingleRecord", "assemble_with": "Line"}
    options = {"coalescer": server.probe_coalescer() if gather else None, "output_format": form}
    return folder.run(server, uri=str(source), content_type=RAW, max_payload_in_mb=1, options=options, **fields)


def scores(outputs: dict[str, bytes], manifest: list[Any]) -> np.ndarray[Any, Any]:
    """The probabilities of every record, in the order of the manifest, out of JSON lines."""
    lines = {key: content.splitlines() for key, content in outputs.items()}
    assert sum(map(len, lines.values())) == len(manifest)
    found = [json.loads(lines[f"{item.key}.out"][item.record])["predictions"][0] for item in manifest]
    assert all(item["classes"] == int(np.argmax(item["probabilities"])) for item in found)
    return np.array([item["probabilities"] for item in found], np.float32)


def test_every_record_has_the_answer_of_its_picture(
    folder: Folder, server: LocalServer, pictures: Path, kind: str, alone: np.ndarray[Any, Any]
) -> None:
    """Record by record and in order; and of the digits nearly all are read right."""
    manifest = make_pictures.read_manifest(pictures / f"{kind}.manifest.jsonl")
    outcome = transform(folder, server, pictures / kind, form="jsonl", gather=True, max_concurrent_transforms=4)
    assert (outcome.state, outcome.records, outcome.notes) == ("Completed", IMAGES, ())
    found = scores(folder.outputs(), manifest)
    expected = alone[[item.index for item in manifest]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    labelled = [(row.argmax(), item.label) for row, item in zip(found, manifest, strict=True) if item.label is not None]
    assert sum(best == label for best, label in labelled) / len(labelled) >= 0.95


def test_outputs_do_not_depend_on_how_many_are_asked_at_once(
    folder: Folder, server: LocalServer, pictures: Path, kind: str
) -> None:
    """One request at a time, eight at once, gathered or not: equal to the byte."""
    outcome = transform(folder, server, pictures / kind, max_concurrent_transforms=1)
    assert (outcome.state, outcome.objects) == ("Completed", IMAGES if kind == "jpegs" else FILES)
    expected = folder.outputs()
    for concurrent, gather in ((8, False), (8, True), (2, True)):
        assert (
            transform(folder, server, pictures / kind, max_concurrent_transforms=concurrent, gather=gather).state
            == "Completed"
        )
        assert folder.outputs() == expected
    key, content = next(iter(expected.items()))
    first = content if kind == "jpegs" else content[: content.index(b"\n{")]
    response = decode_response(first, header_length=find_header_length(first))
    assert response["PROBABILITIES"].shape == (1, 10), key


@pytest.mark.parametrize("gather", [True, False])
def test_a_record_without_an_image_costs_its_object_alone(
    folder: Folder, server: LocalServer, pictures: Path, kind: str, gather: bool
) -> None:
    """A text file among the JPEGs, an Example without an image: the model's own sentence, and where it stood."""
    from tritonforge.records import encode_example, frame_tfrecord

    if kind == "jpegs":
        files = {f"{index}.jpg": make_pictures.picture(index).data for index in range(20)} | {"note.txt": b"no image"}
    else:
        good = [make_pictures._example(index, make_pictures.picture(index)) for index in range(10)]
        bad = [*good[:7], encode_example({"image/format": "JPEG"}), *good[7:]]
        files = {"good": b"".join(map(frame_tfrecord, good)), "bad": b"".join(map(frame_tfrecord, bad))}
    folder.write(files)
    outcome = transform(
        folder,
        server,
        folder.source,
        gather=gather,
        retries=0,
        max_concurrent_transforms=4,
        **({} if kind == "jpegs" else {"split_type": "TFRecord", "batch_strategy": "SingleRecord"}),
    )
    (failure,) = outcome.failures
    if kind == "jpegs":
        assert failure.uri.endswith("note.txt")
    else:
        assert (Path(failure.uri).name, failure.record) == ("bad", 7)
        assert "it has no bytes in a feature 'image/encoded'" in failure.reason
    assert len(folder.outputs()) == len(files) - 1


def test_the_command_does_it_all(tmp_path: Path, examples: Path, pictures: Path) -> None:
    """From two folders and a repository to JSON lines, with a report for machines; models without a framework do."""
    repository = write_repository(tmp_path / "repository", DIGITS)
    for name in ("example", "digits_examples"):
        shutil.copytree(examples / name, repository / name)
    done = tritonforge(
        "transform",
        str(pictures / "tfrecords"),
        str(tmp_path / "out"),
        *("--repository", str(repository), "--model", "digits_examples", "--split-type", "TFRecord"),
        *("--format", "json"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["state"], report["objects"], report["records"]) == ("Completed", FILES, IMAGES)
    lines = [line for path in sorted((tmp_path / "out").iterdir()) for line in path.read_text().splitlines()]
    assert len(lines) == IMAGES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "repository"]
