"""The data that batch jobs are tested with: reproducible, the same in every form, and true to the manifest."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures import make_pictures
from tests.fixtures.make_pictures import Recipe, make, picture, read_manifest
from tritonforge.records import decode_example, gunzip, split

COUNT = 12


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its key."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def pictures_in(folder: Path, form: Any, *, compress: bool = False) -> list[tuple[str, int, bytes]]:
    """Key, record and JPEG of everything in a folder, in the order of keys, as a job reads it."""
    found = []
    for key, data in contents(folder).items():
        chunks = gunzip([data]) if compress else [data]
        for record in split(chunks, "None" if form == "JPEG" else form):
            payload = bytes(record.payload)
            if form == "TFRecord":
                (payload,) = decode_example(payload)["image/encoded"]  # type: ignore[assignment]  # it is bytes
            found.append((key, record.number, payload))
    return found


@pytest.mark.process
@pytest.mark.parametrize("form", ["JPEG", "TFRecord", "RecordIO"])
@pytest.mark.parametrize("compress", [False, True])
def test_the_manifest_says_what_is_in_every_record(tmp_path: Path, form: Any, compress: bool) -> None:
    """In each form the manifest names each record in order, with the digest of its picture, the same in all forms."""
    manifest = make(tmp_path / "set", COUNT, form=form, files=4, compress=compress)
    answers = read_manifest(manifest)
    assert manifest.parent == tmp_path
    assert [(answer.key, answer.record, answer.sha256) for answer in answers] == [
        (key, record, hashlib.sha256(data).hexdigest())
        for key, record, data in pictures_in(tmp_path / "set", form, compress=compress)
    ]
    assert [answer.index for answer in answers] == list(range(COUNT))
    assert [answer.sha256 for answer in answers] == [
        hashlib.sha256(picture(index).data).hexdigest() for index in range(COUNT)
    ]


@pytest.mark.process
# Each new process imports scikit-learn. JPEG shows that the number of processes changes nothing.
@pytest.mark.parametrize(
    ("form", "processes"), [("JPEG", 2), ("TFRecord", 1), pytest.param("TFRecord", 2, marks=pytest.mark.long)]
)
def test_the_same_bytes_come_from_every_run(
    tmp_path: Path, form: Any, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process or two, more pictures in all: the same number is the same picture; another seed is another set."""
    monkeypatch.setattr(make_pictures, "_OBJECTS", 5)
    one = make(tmp_path / "one", COUNT, form=form, files=3)
    two = make(tmp_path / "two", COUNT, form=form, files=3, processes=processes)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    more = make(tmp_path / "more", COUNT + 5, form=form)
    digests = [answer.sha256 for answer in read_manifest(one)]
    assert [answer.sha256 for answer in read_manifest(more)][:COUNT] == digests
    other = make(tmp_path / "other", COUNT, form=form, recipe=Recipe(seed=1))
    assert not {answer.sha256 for answer in read_manifest(other)} & set(digests)


@pytest.mark.slow
def test_the_digit_on_a_picture_is_the_one_of_its_label() -> None:
    """Of all held-out digits, its red channel is nearest to the one that the manifest names, and has its label."""
    _, red, _, labels = make_pictures._heldout()
    templates = np.stack([digit / 16.0 for digit in red]).reshape(len(red), -1)
    for index in range(30):
        made = picture(index, Recipe(kinds=("digits",)))
        image = Image.open(io.BytesIO(made.data))
        assert (image.format, image.size) == ("JPEG", (made.width, made.height))
        pixels = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32)
        ink = ((90.0 - pixels[..., 0]) / 80.0).reshape(-1)
        nearest = int(np.argmin(((templates - ink) ** 2).sum(axis=1)))
        assert made.label == labels[nearest]
        assert made.source == f"digits/{nearest}"


@pytest.mark.slow
def test_photographs_are_of_many_sizes_and_have_no_label() -> None:
    """Both photographs come, in sizes of all ratios within the bounds, each of them a JPEG."""
    made = [picture(index, Recipe(kinds=("photographs",))) for index in range(30)]
    assert {picture.source for picture in made} == {"china.jpg", "flower.jpg"}
    assert {picture.label for picture in made} == {None}
    assert len({(picture.width, picture.height) for picture in made}) > 25
    low, high = make_pictures.SIDES
    for shot in made:
        image = Image.open(io.BytesIO(shot.data))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (shot.width, shot.height))
        assert low <= max(image.size) <= high


@pytest.mark.parametrize("size", [5_000, 66_000, 200_000])
def test_comments_fill_a_picture_up(size: int) -> None:
    """The file has the size that is asked for, or up to 3 bytes more, and shows the same pixels."""
    for index in range(4):
        plain, filled = picture(index), picture(index, Recipe(at_least=size))
        assert len(filled.data) == len(plain.data) if len(plain.data) >= size else size <= len(filled.data) <= size + 3
        shown = [np.asarray(Image.open(io.BytesIO(image.data))) for image in (plain, filled)]
        assert np.array_equal(*shown)


def test_the_command_makes_what_it_is_asked_for(tmp_path: Path) -> None:
    """The arguments of the command line reach the pictures; a folder that is there already is not written into."""
    arguments = ["--count", "5", "--as", "TFRecord", "--files", "2", "--kinds", "digits", "--at-least", "3000"]
    make_pictures.main([str(tmp_path / "set"), *arguments])
    answers = read_manifest(tmp_path / "set.manifest.jsonl")
    assert [answer.key[:10] for answer in answers] == ["part-00000"] * 2 + ["part-00001"] * 3
    assert None not in {answer.label for answer in answers}
    assert all(len(data) >= 3000 for *_, data in pictures_in(tmp_path / "set", "TFRecord"))
    with pytest.raises(FileExistsError):
        make_pictures.main([str(tmp_path / "set"), *arguments])
