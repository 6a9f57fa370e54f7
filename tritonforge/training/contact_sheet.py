"""Contact sheets: labelled pictures side by side on one page, with their boxes drawn. An edge: it decodes pictures.

Pillow is imported when a sheet is drawn.
"""

from __future__ import annotations

import colorsys
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tritonforge.errors import MissingExtraError, TritonForgeError
from tritonforge.training.manifest.labels import Box, ImageSize

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["Fonts", "Sheet", "SheetImage", "choose_colour", "draw_sheet"]

#: Pixels: of a cell's picture at most, between cells, and of a line of text.
_WIDE: Final = 400
_HIGH: Final = 300
_GAP: Final = 20
_TEXT: Final = 15
_TITLE: Final = 22
_LINE: Final = 21

#: A small picture is shown at most this much larger.
_ZOOM: Final = 4

#: What is decoded; other formats of Pillow's start programs, or are no pictures.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_PAPER: Final = "#ffffff"
_INK: Final = "#1c1f24"
_FAINT: Final = "#6b7280"
_FRAME: Final = "#eceef1"
_ALARM: Final = "#b42318"

#: The first classes: far from each other, also for who tells red and green apart badly, as their lightness differs.
_COLOURS: Final = (
    0xD81B3C, 0x1565D8, 0xF5C518, 0x0F8A4B, 0xB026C9, 0x27C4E8, 0xE8640A, 0x5B3FD6, 0x9BE04B, 0xF58FB8,
    0x7A4A21, 0x39424E,
)  # fmt: skip

#: A step around the circle of colours that comes near none of the steps before it: the golden ratio.
_STEP: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class SheetImage:
    """One cell of a sheet: a picture's bytes, or why there are none, its boxes, and the two lines under it.

    ``size`` is what the picture's label says of it; an ``alarming`` note is one that must not be missed.
    """

    caption: str
    note: str = ""
    data: bytes | None = None
    failure: str = ""
    boxes: tuple[Box, ...] = ()
    size: ImageSize | None = None
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn sheet as PNG, and what was wrong with which shot, by its index."""

    png: bytes
    faults: tuple[tuple[int, str], ...]
    shown: int


class Fonts:
    """The font of a sheet in its sizes: a TrueType file, or the one that comes with Pillow, which has Latin letters."""

    def __init__(self, path: str | None = None) -> None:
        from PIL import ImageFont

        self._path = path
        self._module = ImageFont
        self._sizes: dict[int, Any] = {}

    def __call__(self, size: int) -> ImageFont.FreeTypeFont:
        """The font in a size of pixels. Raises TritonForgeError where the file is no font."""
        if size not in self._sizes:
            try:
                given = self._path
                self._sizes[size] = (
                    self._module.truetype(given, size) if given is not None else self._module.load_default(size)
                )
            except (OSError, ImportError) as error:
                raise TritonForgeError(f"{self._path or 'Pillow'}: no font could be read: {error}") from error
        font: ImageFont.FreeTypeFont = self._sizes[size]
        return font


def choose_colour(index: int) -> tuple[int, int, int]:
    """The colour of the class at an index, in red, green and blue of 0 to 255: far from those before it."""
    if index < len(_COLOURS):
        value = _COLOURS[index]
        return value >> 16, value >> 8 & 255, value & 255
    lightness = (0.42, 0.62)[index % 2]
    red, green, blue = colorsys.hls_to_rgb(index * _STEP % 1, lightness, 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def _why(error: Exception) -> str:
    """An error of Pillow's in words; its own ones for a file of no known format name an object in memory."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it has no format that is known"
    return str(error) or type(error).__name__


def draw_sheet(
    shots: Sequence[SheetImage],
    *,
    title: str,
    names: Mapping[int, str],
    columns: int | None = None,
    font: str | None = None,
) -> Sheet:
    """Draw shots side by side, with the classes that are on them explained at the top.

    ``names`` are those of classes; one without a name is shown as its number. A picture that cannot be decoded is shown
    as such, and told. Raises MissingExtraError without Pillow.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("Pillow", extra="local") from error
    fonts = Fonts(font)
    columns = columns or _columns(len(shots))
    classes = sorted({box.class_id for shot in shots for box in shot.boxes})
    colours = {number: choose_colour(index) for index, number in enumerate(classes)}
    width = columns * (_WIDE + _GAP) + _GAP
    legend = _Legend(fonts, [(colours[number], _name(names, number)) for number in classes], width - 2 * _GAP)
    top = _GAP + _TITLE + 10 + legend.height + _GAP
    rows = -(-len(shots) // columns)
    cell = _HIGH + 2 * _LINE + 8 + _GAP
    page = Image.new("RGB", (width, top + max(rows, 1) * cell), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP - 4), _cut(title, fonts(_TITLE), width - 2 * _GAP), _INK, fonts(_TITLE))
    legend.draw(pen, _GAP, _GAP + _TITLE + 10)
    faults: list[tuple[int, str]] = []
    shown = 0
    for index, shot in enumerate(shots):
        left = _GAP + index % columns * (_WIDE + _GAP)
        above = top + index // columns * cell
        pen.rectangle((left, above, left + _WIDE - 1, above + _HIGH - 1), _FRAME)
        fault = shot.failure
        if not fault:
            try:
                picture, wrong = _picture(shot)
            except Exception as error:  # Pillow raises anything on a damaged file, struct.error and KeyError too
                fault = f"the picture cannot be decoded: {_why(error)}"
            else:
                _place(page, pen, picture, (left, above), shot, colours, names, fonts)
                shown += 1
                if wrong:
                    faults.append((index, wrong))
        if fault:
            faults.append((index, fault))
            _cross(pen, (left, above), fault, fonts)
        below = above + _HIGH + 8
        pen.text((left, below), _cut(shot.caption, fonts(_TEXT), _WIDE), _INK, fonts(_TEXT))
        told = next((what for number, what in faults if number == index and not fault), "")
        note, ink = told or shot.note, _ALARM if told or shot.alarming else _FAINT
        pen.text((left, below + _LINE), _cut(note, fonts(_TEXT), _WIDE), ink, fonts(_TEXT))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return Sheet(buffer.getvalue(), tuple(faults), shown)


class _Legend:
    """Which colour is which class, in as many rows as it needs."""

    def __init__(self, fonts: Fonts, entries: Sequence[tuple[tuple[int, int, int], str]], width: int) -> None:
        self._font = fonts(_TEXT)
        self._entries: list[tuple[int, int, tuple[int, int, int], str]] = []
        x = y = 0
        for shade, name in entries:
            text = _cut(name, self._font, width // 3)
            wide = 18 + round(self._font.getlength(text)) + 18
            if x and x + wide > width:
                x, y = 0, y + _LINE
            self._entries.append((x, y, shade, text))
            x += wide
        self.height = y + _LINE if entries else 0

    def draw(self, pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
        for x, y, shade, text in self._entries:
            pen.rectangle((left + x, top + y + 3, left + x + 11, top + y + 14), shade)
            pen.text((left + x + 18, top + y), text, _INK, self._font)


def _picture(shot: SheetImage) -> tuple[Image.Image, str]:
    """The picture upright and in colour, and what does not fit its label; raises what Pillow raises."""
    from PIL import Image, ImageOps

    assert shot.data is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(shot.data), formats=_FORMATS) as opened:
            opened.load()
            picture = opened
            size = shot.size
            if size is not None and opened.size != (size.width, size.height):
                turned = ImageOps.exif_transpose(opened)  # a camera that was held upright: labelled as people see it
                if turned.size == (size.width, size.height):
                    picture = turned
            return picture.convert("RGB"), _mismatch(picture.size, size)


def _mismatch(found: tuple[int, int], size: ImageSize | None) -> str:
    if size is None or found == (size.width, size.height):
        return ""
    return f"the picture has {found[0]} x {found[1]} pixels, its label says {size.width} x {size.height}"


def _place(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    picture: Image.Image,
    corner: tuple[int, int],
    shot: SheetImage,
    colours: Mapping[int, tuple[int, int, int]],
    names: Mapping[int, str],
    fonts: Fonts,
) -> None:
    """Draw a picture into the middle of its cell, and its boxes on it, the large ones first."""
    from PIL import Image

    scale = min(_WIDE / picture.width, _HIGH / picture.height, _ZOOM)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left, top = corner[0] + (_WIDE - size[0]) // 2, corner[1] + (_HIGH - size[1]) // 2
    page.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
    frame = (left, top, left + size[0], top + size[1])
    boxes = sorted(shot.boxes, key=lambda box: -box.width * box.height)
    drawn = [(box, _on_page(box, left, top, scale, frame)) for box in boxes]
    for box, (x0, y0, x1, y1) in drawn:
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="#000000")
        pen.rectangle((x0, y0, x1, y1), outline=colours[box.class_id], width=3)
    tags: list[tuple[int, int, int, int]] = []
    for box, place in drawn:
        _tag(pen, _name(names, box.class_id), colours[box.class_id], place, frame, tags, fonts)


def _on_page(
    box: Box, left: int, top: int, scale: float, frame: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """The corners of a box on the page, kept inside the picture's frame."""
    x0, y0 = left + round(box.left * scale), top + round(box.top * scale)
    x1, y1 = left + round(box.right * scale) - 1, top + round(box.bottom * scale) - 1
    x0, y0 = max(frame[0], min(x0, frame[2] - 2)), max(frame[1], min(y0, frame[3] - 2))
    return x0, y0, max(x0 + 1, min(x1, frame[2] - 1)), max(y0 + 1, min(y1, frame[3] - 1))


def _tag(
    pen: ImageDraw.ImageDraw,
    name: str,
    shade: tuple[int, int, int],
    place: tuple[int, int, int, int],
    frame: tuple[int, int, int, int],
    tags: list[tuple[int, int, int, int]],
    fonts: Fonts,
) -> None:
    """Write the class of a box at one of its corners: the first place inside the picture where no other tag is."""
    font = fonts(_TEXT - 2)
    text = _cut(name, font, max(40, (frame[2] - frame[0]) * 2 // 3))
    wide, high = round(font.getlength(text)) + 8, _TEXT + 3
    x0, y0, x1, y1 = place
    best: tuple[int, int, int, int] | None = None
    for x, y in _corners(x0, y0, x1, y1, wide, high):
        x = max(frame[0], min(x, frame[2] - wide))
        tag = (x, y, x + wide, y + high)
        if y < frame[1] or y + high > frame[3]:
            continue
        best = best or tag
        if not any(_touch(tag, other) for other in tags):
            best = tag
            break
    best = best or (max(frame[0], min(x0, frame[2] - wide)), frame[1], x0 + wide, frame[1] + high)
    tags.append(best)
    pen.rectangle((best[0], best[1], best[0] + wide, best[1] + high), shade)
    light = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
    pen.text((best[0] + 4, best[1] + high / 2), text, "#000000" if light > 140 else "#ffffff", font, anchor="lm")


def _corners(x0: int, y0: int, x1: int, y1: int, wide: int, high: int) -> Iterator[tuple[int, int]]:
    yield x0, y0 - high
    yield x0, y1 + 1
    yield x1 - wide, y0 - high
    yield x1 - wide, y1 + 1
    yield x0, y0
    yield x0, y1 - high
    yield x1 - wide, y0
    yield x1 - wide, y1 - high


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _cross(pen: ImageDraw.ImageDraw, corner: tuple[int, int], fault: str, fonts: Fonts) -> None:
    """A cell without a picture: crossed out, with the reason."""
    x, y = corner
    font = fonts(_TEXT)
    pen.line((x, y, x + _WIDE - 1, y + _HIGH - 1), "#d5d9df", 2)
    pen.line((x, y + _HIGH - 1, x + _WIDE - 1, y), "#d5d9df", 2)
    pen.rectangle((x, y, x + _WIDE - 1, y + _HIGH - 1), outline=_ALARM)
    lines = _wrapped(fault, font, _WIDE - 40)[:6]
    middle = y + _HIGH // 2 - len(lines) * _LINE // 2
    pen.rectangle((x + 10, middle - 6, x + _WIDE - 11, middle + len(lines) * _LINE + 4), _FRAME)
    for index, text in enumerate(lines):
        pen.text((x + _WIDE // 2, middle + index * _LINE), text, _ALARM, font, anchor="ma")


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """A text in lines of at most a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(_cut(word, font, width))
        else:
            lines[-1] = _cut(longer, font, width)
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text as far as it fits a width in pixels; where it does not, its middle is left out."""
    text = " ".join(text[:1000].split())
    if font.getlength(text) <= width:
        return text
    least, most = 0, len(text)
    while least < most:
        kept = (least + most + 1) // 2
        if font.getlength(_halves(text, kept)) <= width:
            least = kept
        else:
            most = kept - 1
    return _halves(text, least)


def _halves(text: str, kept: int) -> str:
    end = kept // 2
    return f"{text[: kept - end]}…{text[len(text) - end :]}"


def _name(names: Mapping[int, str], number: int) -> str:
    return names.get(number, str(number))


def _columns(count: int) -> int:
    return max(1, min(count, 4 if count > 9 else 3 if count > 4 else 2))
