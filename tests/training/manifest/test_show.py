"""`tritonforge manifest show`: pictures from here and from S3, and what cannot be shown report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.manifest_samples import SEGMENTS, SPECIES, THINGS, Run, images, text
from tritonforge.transform.object_store import LocalStore, StoredObject


def test_a_sheet_of_copies_of_the_pictures(run: Run, tmp_path: Path) -> None:
    """Chosen by number, first, or sample; found by the end of their addresses."""
    manifest, png = images(tmp_path, 6), tmp_path / "sheet.png"
    copies = ("--images", tmp_path)
    code, out, _ = run("show", manifest, "-o", png, *copies)
    assert (code, out) == (0, f"{png}: 6 of 6 images\n")
    with Image.open(png) as page:
        assert page.size == (3 * 420 + 20, page.height)
    assert "2 of 2" in run("show", manifest, "-o", png, "--lines", "2,4-4", *copies)[1]
    assert "3 of 3" in run("show", manifest, "-o", png, "--sample", "3", *copies)[1]
    assert "1 of 1" in run("show", manifest, "-o", png, "--first", "1", "--images", tmp_path / "images")[1]
    for wrong in (("--lines", "x"), ("--lines", "1-9999"), ("--lines", "3", "--first", "2"), ("--lines", "77")):
        assert run("show", manifest, "-o", png, *copies, *wrong)[0] == 2


def test_a_sheet_of_every_form(run: Run, tmp_path: Path) -> None:
    """Documents and annotations.json name images below a folder."""
    manifest, png = images(tmp_path, 2), tmp_path / "sheet.png"
    train = ("--images", "s3://bucket/train")
    run("convert", manifest, "--to", "annotations", "-o", tmp_path / "a.json", *train)
    run("convert", manifest, "--to", "detector", "-o", tmp_path / "d", *train)
    (tmp_path / "c").write_text(json.dumps([{"prefix": "s3://bucket/train/images/"}, "0.png", "1.png"]))
    for path in ("a.json", "d", "c"):
        code, out, err = run("show", tmp_path / path, "-o", png, "--images", tmp_path)
        assert (code, out) == (0, f"{png}: 2 of 2 images\n"), err


def test_pictures_that_cannot_be_shown_are_reported(run: Run, tmp_path: Path) -> None:
    """Missing, cut off, a broken line, a wrong label: exit code 0 as long as one is shown, and 1 without any."""
    manifest, png = images(tmp_path, 4), tmp_path / "sheet.png"
    (tmp_path / "images/1.png").unlink()
    cut = (tmp_path / "images/2.png").read_bytes()[:60]
    (tmp_path / "images/2.png").write_bytes(cut)
    (tmp_path / "images/3.png").write_bytes(b"no picture")
    lines = manifest.read_bytes().replace(b'"width": 20', b'"width": 99').splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines) + b"{\n")
    code, out, err = run("show", manifest, "-o", png, "--images", tmp_path)
    assert (code, out) == (0, f"{png}: 1 of 5 images\n")
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert f"note: {manifest}:2: source-ref: {tmp_path} has no copy of s3://bucket/train/images/1.png" in notes
    assert any(note.startswith(f"note: {manifest}:3: source-ref: the picture cannot be decoded") for note in notes)
    assert f"note: {manifest}:4: source-ref: the picture cannot be decoded: its format is unknown" in notes
    assert f"note: {manifest}:1: b: annotations[0]: the box reaches to x=103, outside the image, which is 64" in err
    assert any(note.startswith(f"note: {manifest}:5: the line is not JSON") for note in notes)
    code, out, _ = run("show", manifest, "-o", png, "--images", tmp_path, "--lines", "2,3,5", "--format", "json")
    report = json.loads(out)
    assert (code, report["asked"], report["shown"], [problem["line"] for problem in report["problems"]]) == (
        1,
        3,
        0,
        [2, 2, 3, 3, 5],
    )


def test_lines_without_boxes_are_shown_too(run: Run, tmp_path: Path) -> None:
    """One that is not labelled yet, and labels of other kinds."""
    manifest, png = images(tmp_path, 1), tmp_path / "sheet.png"
    image = {"source-ref": "s3://bucket/train/images/0.png"}
    manifest.write_bytes(manifest.read_bytes() + text(image))
    assert run("show", manifest, "-o", png, "--images", tmp_path)[:2] == (0, f"{png}: 2 of 2 images\n")
    for line in (SPECIES, THINGS, SEGMENTS):
        manifest.write_bytes(text({**line, **image}, image))
        assert run("show", manifest, "-o", png, "--images", tmp_path)[:2] == (0, f"{png}: 2 of 2 images\n")


def test_paths_are_those_beside_the_manifest(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training job of this machine finds them; else those from the working folder on."""
    manifest = images(tmp_path, 2)
    manifest.write_bytes(manifest.read_bytes().replace(b"s3://bucket/train/", b""))
    assert run("show", manifest, "-o", tmp_path / "s.png")[1].endswith("2 of 2 images\n")
    (tmp_path / "other").mkdir()
    manifest = manifest.rename(tmp_path / "other" / "b.manifest")
    assert run("show", manifest, "-o", tmp_path / "s.png")[0] == 1
    monkeypatch.chdir(tmp_path)
    assert run("show", manifest, "-o", tmp_path / "s.png")[1].endswith("2 of 2 images\n")


class Bucket(LocalStore):
    """S3 as a place, in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _path(self, uri: str) -> str:
        return f"{self._folder}/{uri.removeprefix('s3://')}"

    def find(self, uri: str) -> StoredObject | None:
        """The object at an address."""
        found = super().find(self._path(uri))
        return None if found is None else StoredObject(uri, found.size, found.etag)

    def open(self, uri: str, offset: int = 0) -> Iterator[Any]:
        """Its bytes."""
        return super().open(self._path(uri), offset)


def patch_s3(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Replace S3 by a directory."""
    store = lambda uri, aws: Bucket(folder) if uri.startswith("s3://") else LocalStore()  # noqa: E731
    monkeypatch.setattr("tritonforge.cli.data_set.create_store", store)


def test_manifests_and_pictures_on_s3(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the place that a job reads from."""
    (tmp_path / "bucket" / "train").mkdir(parents=True)
    manifest = images(tmp_path / "bucket" / "train", 2)
    patch_s3(monkeypatch, tmp_path)
    code, out, _ = run("check", "s3://bucket/train/b.manifest")
    assert code == 0
    assert out.startswith("s3://bucket/train/b.manifest: 2 lines; b: boxes on 2 lines (")
    assert run("show", manifest, "-o", tmp_path / "s.png")[1] == f"{tmp_path / 's.png'}: 2 of 2 images\n"
    (tmp_path / "bucket/train/images/1.png").unlink()
    code, out, err = run("show", "s3://bucket/train/b.manifest", "-o", tmp_path / "s.png")
    assert (code, "1 of 2" in out) == (0, True)
    assert "b.manifest:2: source-ref: s3://bucket/train/images/1.png does not exist" in err


def test_objects_that_are_not_there_are_problems(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --objects only; here, on S3, and for every form."""
    (tmp_path / "bucket" / "train").mkdir(parents=True)
    manifest = images(tmp_path / "bucket" / "train", 3)
    patch_s3(monkeypatch, tmp_path)
    assert run("check", manifest, "--objects")[0] == 0
    gone = "s3://bucket/train/images/1.png"
    (tmp_path / "bucket/train/images/1.png").unlink()
    (tmp_path / "c").write_text(json.dumps([{"prefix": "s3://bucket/train/images/"}, "0.png", "1.png"]))
    train = ("--images", "s3://bucket/train")
    run("convert", manifest, "--to", "annotations", "-o", tmp_path / "a.json", *train)
    assert run("check", manifest)[0] == 0
    for path, options in ((manifest, ()), (tmp_path / "c", ()), (tmp_path / "a.json", train)):
        code, out, _ = run("check", path, "--objects", *options)
        assert code == 1
        assert out.splitlines()[0] == f"{path}:2: source-ref: {gone} does not exist"
    manifest.write_bytes(manifest.read_bytes() + b"{\n")
    code, out, _ = run("check", manifest, "--objects", "--images", tmp_path)
    assert out.splitlines()[1] == f"{manifest}:2: source-ref: {tmp_path} has no copy of {gone}"
    assert out.splitlines()[-1] == f"{manifest}: 2 problems"
