"""Contact sheets: the boxes are where they belong, in their class's colour, and what cannot be shown is reported."""

from __future__ import annotations

import io
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tritonforge.errors import MissingExtraError, TritonForgeError
from tritonforge.training.contact_sheet import Sheet, SheetImage, choose_colour, draw_sheet
from tritonforge.training.manifest import Box, ImageSize

GREY = (120, 120, 120)


def picture(width: int, height: int, form: str = "PNG", **options: object) -> bytes:
    """A plain grey picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), GREY).save(buffer, form, **options)
    return buffer.getvalue()


def drawn(*shots: SheetImage, names: dict[int, str] | None = None) -> tuple[Sheet, Image.Image]:
    """A sheet in one column, and its pixels."""
    sheet = draw_sheet(shots, title="title", names=names or {}, columns=1)
    return sheet, Image.open(io.BytesIO(sheet.png)).convert("RGB")


def pixels(page: Image.Image, shade: tuple[int, int, int]) -> np.ndarray:
    """The places [count, (y, x)] of a colour, below the legend at the top."""
    places = np.argwhere((np.asarray(page) == shade).all(axis=2))
    return places[places[:, 0] >= 90]


def found(page: Image.Image, shade: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The smallest frame around all pixels of a colour: left, top, right, bottom."""
    places = pixels(page, shade)
    (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
    return int(left), int(top), int(right), int(bottom)


def test_boxes_are_drawn_where_they_are() -> None:
    """A picture twice as large as its cell: a box in the middle of its lower half lies there on the page, too."""
    shot = SheetImage("one", data=picture(800, 600), boxes=(Box(5, 200, 300, 400, 200),), size=ImageSize(800, 600))
    sheet, page = drawn(shot)
    assert (sheet.faults, sheet.shown) == ((), 1)
    left, top, right, bottom = found(page, choose_colour(0))
    origin = found(page, GREY)
    assert (left - origin[0], right - origin[0]) == (100, 299)
    assert bottom - origin[1] == 249
    assert top - origin[1] == 150 - 18  # the class is above the box
    assert page.getpixel((left + 100, bottom - 50)) == GREY


def test_each_class_has_its_colour_and_is_named() -> None:
    """The same class has one colour on every picture; the first dozen are far from each other."""
    boxes = (Box(7, 10, 40, 30, 30), Box(3, 60, 40, 30, 30))
    _, page = drawn(SheetImage("a", data=picture(100, 100), boxes=boxes), names={3: "car", 7: "dog"})
    first, second = found(page, choose_colour(0)), found(page, choose_colour(1))
    assert first[0] > second[2]  # class 3 comes first, and lies to the right
    for one, other in combinations(map(choose_colour, range(12)), 2):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 90, (one, other)
    assert len({choose_colour(index) for index in range(60)}) == 60


def test_classes_that_stand_close_are_written_beside_each_other() -> None:
    """Two boxes in one place have two labels that do not cover each other."""
    boxes = (Box(0, 40, 40, 20, 20), Box(1, 40, 40, 20, 20))
    _, page = drawn(SheetImage("a", data=picture(100, 100), boxes=boxes))
    assert min(len(pixels(page, choose_colour(index))) for index in (0, 1)) > 150


def test_a_picture_that_is_no_picture_is_shown_as_such() -> None:
    cut = picture(64, 64, "JPEG")
    shots = [
        SheetImage("good", data=picture(64, 64)),
        SheetImage("missing", failure="s3://b/x is not there"),
        SheetImage("cut", data=cut[: len(cut) // 2]),
        SheetImage("text", data=b"hello"),
        SheetImage("empty", data=b""),
        SheetImage("program", data=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ]
    sheet, page = drawn(*shots)
    assert sheet.shown == 1
    assert [index for index, _ in sheet.faults] == [1, 2, 3, 4, 5]
    assert sheet.faults[0][1] == "s3://b/x is not there"
    assert all(what.startswith("the picture cannot be decoded: ") for _, what in sheet.faults[1:])
    assert page.height > 6 * 300


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    sheet = draw_sheet(
        [SheetImage("a", data=picture(400, 400)), SheetImage("b", data=picture(500, 500))], title="t", names={}
    )
    assert sheet.shown == 0
    assert all("decompression bomb" in what for _, what in sheet.faults)


def test_a_wrong_size_in_the_label_is_reported() -> None:
    """The picture is shown all the same."""
    sheet, _ = drawn(SheetImage("a", data=picture(50, 40), size=ImageSize(40, 50)))
    assert sheet.shown == 1
    assert sheet.faults == ((0, "the picture has 50 x 40 pixels, its label has 40 x 50"),)


def test_a_picture_that_a_camera_turned_is_shown_upright() -> None:
    """Where the label was made on the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture(60, 40, "JPEG", exif=exif)
    assert drawn(SheetImage("a", data=turned, size=ImageSize(40, 60)))[0].faults == ()
    assert drawn(SheetImage("a", data=turned, size=ImageSize(60, 40)))[0].faults == ()


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (17, 900)])
def test_any_size_and_any_box_is_drawn(size: tuple[int, int]) -> None:
    """Boxes outside, empty ones, names longer than the picture."""
    boxes = (Box(0, -5, -5, 2, 2), Box(1, 0, 0, *size), Box(2, 10**9, 10**9, 1, 1), Box(3, 0, 0, 0, -3))
    sheet, page = drawn(SheetImage("c" * 500, "n" * 500, picture(*size), boxes=boxes), names={1: "name " * 300})
    assert (sheet.shown, sheet.faults) == (1, ())
    assert (np.asarray(page)[:, 421:] == 255).all()  # nothing runs over into the margin


@pytest.mark.parametrize("box", [(0, 0, 100, 75), (0, 0, 9, 9), (91, 0, 9, 9), (0, 66, 9, 9), (91, 66, 9, 9)])
def test_a_class_is_written_inside_of_its_picture(box: tuple[int, int, int, int]) -> None:
    """Wherever its box lies; a picture of 100 x 75 fills a cell, of which the frame is at (20, 93)."""
    _, page = drawn(SheetImage("a", data=picture(100, 75), boxes=(Box(0, *box),)))
    left, top, right, bottom = found(page, choose_colour(0))
    assert left >= 20
    assert top >= 93
    assert right < 420
    assert bottom < 393
    assert (right - left) * (bottom - top) > 500


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (13, 4)])
def test_a_sheet_is_about_as_wide_as_it_is_high(count: int, columns: int) -> None:
    """In columns of 400 pixels with 20 between them, in rows under each other."""
    sheet = draw_sheet([SheetImage("a", data=picture(8, 6))] * count, title="t", names={})
    with Image.open(io.BytesIO(sheet.png)) as page:
        assert page.width == columns * 420 + 20
        rows = -(-count // columns)
        assert page.height == 20 + 22 + 10 + 20 + rows * (300 + 2 * 21 + 8 + 20)


def test_the_legend_goes_on_in_another_row() -> None:
    """Where the names of classes are long."""
    boxes = tuple(Box(number, 1, 1, 5, 5) for number in range(9))
    heights = []
    for name in ("a", "a name that is long " * 2):
        names = dict.fromkeys(range(9), name)
        sheet = draw_sheet([SheetImage("a", data=picture(9, 9), boxes=boxes)], title="t", names=names, columns=2)
        with Image.open(io.BytesIO(sheet.png)) as page:
            heights.append(page.height)
    assert (heights[1] - heights[0]) % 21 == 0
    assert heights[1] > heights[0]


def test_pillow_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="Pillow is not installed; run: pip install"):
        draw_sheet([SheetImage("a")], title="", names={})


def test_a_file_that_is_no_font_is_named(tmp_path: Path) -> None:
    """By its path."""
    (tmp_path / "font.ttf").write_bytes(b"no font")
    with pytest.raises(TritonForgeError, match=r"font\.ttf: cannot read the font"):
        draw_sheet([SheetImage("a")], title="t", names={}, font=str(tmp_path / "font.ttf"))
