"""Data sets as people name them: folders, empty names, files that are not text, and folders that are not there."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.support.manifest_samples import Run, images


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A folder as SageMaker's own detectors take it: images/ and annotations.json."""
    manifest = images(tmp_path, 2)
    where = ("--images", "s3://bucket/train/images")
    run("convert", manifest, "--to", "annotations", "-o", tmp_path / "annotations.json", *where)
    return tmp_path


def test_a_folder_with_annotations_is_the_data_set_of_that_file(run: Run, folder: Path) -> None:
    code, out, _ = run("check", folder, "--objects")
    assert (code, out) == (0, f"{folder / 'annotations.json'}: no problems\n")
    png = folder / "sheet.png"
    assert run("show", folder, "-o", png)[:2] == (0, f"{png}: 2 of 2 images\n")
    assert run("check", folder, "--from", "annotations")[0] == 0
    assert run("check", folder, "--from", "detector")[0] == 1
    (folder / "images" / "1.png").unlink()
    code, out, _ = run("check", folder, "--objects")
    assert code == 1
    assert f"{folder / 'annotations.json'}:2: source-ref: {folder / 'images' / '1.png'} does not exist" in out


def test_images_beside_annotations_are_found_where_there_is_no_folder_of_them(run: Run, folder: Path) -> None:
    """Names are then paths from the file on."""
    for path in (folder / "images").iterdir():
        path.rename(folder / path.name)
    (folder / "images").rmdir()
    assert run("check", folder / "annotations.json", "--objects")[0] == 0


@pytest.mark.parametrize("content", [gzip.compress(b"{}", mtime=0), '{"source-ref": "s3://b/x"}'.encode("utf-16")])
def test_a_file_that_is_no_text_is_one_sentence(run: Run, tmp_path: Path, content: bytes) -> None:
    """And not a problem for each of its lines."""
    (tmp_path / "m").write_bytes(content)
    code, out, err = run("check", tmp_path / "m")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'm'}: expected text in UTF-8" in err


def test_an_empty_name_is_not_this_folder(run: Run) -> None:
    """As a variable of the shell that is not set leaves one."""
    code, _, err = run("check", "")
    assert (code, "DATASET is empty" in err) == (2, True)


def test_a_folder_of_copies_that_is_not_there(run: Run, folder: Path) -> None:
    manifest, png = folder / "b.manifest", folder / "sheet.png"
    code, _, err = run("show", manifest, "-o", png, "--images", folder / "none")
    assert (code, f"--images {folder / 'none'}: directory not found" in err) == (2, True)
    assert run("check", manifest, "--objects", "--images", folder / "none")[0] == 2
    assert run("check", manifest, "--images", folder)[0] == 2
    assert not png.exists()


def test_a_label_that_no_line_has_is_reported(run: Run, folder: Path) -> None:
    """With those that they have; the pictures are shown all the same."""
    manifest, png = folder / "b.manifest", folder / "sheet.png"
    code, out, err = run("show", manifest, "-o", png, "--images", folder, "--label", "boxes")
    assert (code, out) == (0, f"{png}: 2 of 2 images\n")
    assert f"note: {manifest}: boxes: none of these lines has this label; they have b" in err


def test_a_font_that_is_none_is_reported_before_pictures_are_fetched(run: Run, folder: Path) -> None:
    manifest, png = folder / "b.manifest", folder / "sheet.png"
    code, _, err = run("show", manifest, "-o", png, "--images", folder, "--font", manifest)
    assert code == 2
    assert f"--font {manifest}: cannot read the font" in err
    assert "fetching" not in err
