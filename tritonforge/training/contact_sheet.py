"""Contact sheets: labelled pictures side by side on one page, with their boxes drawn. An edge.

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
from tritonforge.files import describe_error
from tritonforge.training.manifest.labels import Box, ImageSize

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["Fonts", "Sheet", "SheetImage", "choose_colour", "draw_sheet"]

#: Pixels: the maximum size of a cell's picture, the gap between cells, and the heights of text.
_WIDE: Final = 400
_HIGH: Final = 300
_GAP: Final = 20
_TEXT: Final = 15
_TITLE: Final = 22
_LINE: Final = 21

#: The maximum enlargement of a small picture.
_ZOOM: Final = 4

#: The formats that are decoded; Pillow's other formats start programs, or are not pictures.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_PAPER: Final = "#ffffff"
_INK: Final = "#1c1f24"
_FAINT: Final = "#6b7280"
_FRAME: Final = "#eceef1"
_ALARM: Final = "#b42318"

#: Colours of the first classes: distinct, also for colour-blind people, as their lightness differs.
_COLOURS: Final = (
    0xD81B3C, 0x1565D8, 0xF5C518, 0x0F8A4B, 0xB026C9, 0x27C4E8, 0xE8640A, 0x5B3FD6, 0x9BE04B, 0xF58FB8,
    0x7A4A21, 0x39424E,
)  # fmt: skip

#: The golden ratio: steps around the circle of colours that stay far from each other.
_STEP: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class SheetImage:
    """One cell of a sheet: a picture's bytes, or a failure, its boxes, and the two lines of text under it.

    ``size`` is the size in the picture's label; an ``alarming`` note is shown in red.
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
    """A drawn sheet as PNG, the faults of its images with their indices, and how many were shown."""

    png: bytes
    faults: tuple[tuple[int, str], ...]
    shown: int


class Fonts:
    """The font of a sheet in its sizes: a TrueType file, or the one of Pillow, which has Latin letters."""

    def __init__(self, path: str | None = None) -> None:
        from PIL import ImageFont

        self._path = path
        self._module = ImageFont
        self._sizes: dict[int, Any] = {}

    def __call__(self, size: int) -> ImageFont.FreeTypeFont:
        """Return the font in a size of pixels. Raises TritonForgeError if the file is not a font."""
        if size not in self._sizes:
            try:
                given = self._path
                self._sizes[size] = (
                    self._module.truetype(given, size) if given is not None else self._module.load_default(size)
                )
            except (OSError, ImportError) as error:
                raise TritonForgeError(
                    f"{self._path or 'Pillow'}: cannot read the font: {describe_error(error)}"
                ) from error
        font: ImageFont.FreeTypeFont = self._sizes[size]
        return font


def choose_colour(index: int) -> tuple[int, int, int]:
    """Return the colour of the class at an index, in red, green and blue of 0 to 255, distinct from those before it."""
    if index < len(_COLOURS):
        value = _COLOURS[index]
        return value >> 16, value >> 8 & 255, value & 255
    lightness = (0.42, 0.62)[index % 2]
    red, green, blue = colorsys.hls_to_rgb(index * _STEP % 1, lightness, 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def _describe_error(error: Exception) -> str:
    """Describe an error of Pillow; its own message for an unknown format names an object in memory."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    return str(error) or type(error).__name__


def draw_sheet(
    images: Sequence[SheetImage],
    *,
    title: str,
    names: Mapping[int, str],
    columns: int | None = None,
    font: str | None = None,
) -> Sheet:
    """Draw images side by side, with a legend of their classes at the top.

    ``names`` are those of classes; a class without a name is shown as its number. A picture that cannot be decoded is
    crossed out, and reported as a fault. Raises MissingExtraError without Pillow.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("Pillow", extra="local") from error
    fonts = Fonts(font)
    columns = columns or _count_columns(len(images))
    classes = sorted({box.class_id for image in images for box in image.boxes})
    colours = {number: choose_colour(index) for index, number in enumerate(classes)}
    width = columns * (_WIDE + _GAP) + _GAP
    legend = _Legend(fonts, [(colours[number], _class_name(names, number)) for number in classes], width - 2 * _GAP)
    top = _GAP + _TITLE + 10 + legend.height + _GAP
    rows = -(-len(images) // columns)
    cell = _HIGH + 2 * _LINE + 8 + _GAP
    page = Image.new("RGB", (width, top + max(rows, 1) * cell), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP - 4), _shorten(title, fonts(_TITLE), width - 2 * _GAP), _INK, fonts(_TITLE))
    legend.draw(pen, _GAP, _GAP + _TITLE + 10)
    faults: list[tuple[int, str]] = []
    shown = 0
    for index, image in enumerate(images):
        left = _GAP + index % columns * (_WIDE + _GAP)
        above = top + index // columns * cell
        pen.rectangle((left, above, left + _WIDE - 1, above + _HIGH - 1), _FRAME)
        fault = image.failure
        if not fault:
            try:
                picture, wrong = _decode_picture(image)
            except Exception as error:  # Pillow raises any error on a damaged file, struct.error and KeyError too
                fault = f"the picture cannot be decoded: {_describe_error(error)}"
            else:
                _draw_picture(page, pen, picture, (left, above), image, colours, names, fonts)
                shown += 1
                if wrong:
                    faults.append((index, wrong))
        if fault:
            faults.append((index, fault))
            _draw_failure(pen, (left, above), fault, fonts)
        below = above + _HIGH + 8
        pen.text((left, below), _shorten(image.caption, fonts(_TEXT), _WIDE), _INK, fonts(_TEXT))
        mismatch = next((what for number, what in faults if number == index and not fault), "")
        note, ink = mismatch or image.note, _ALARM if mismatch or image.alarming else _FAINT
        pen.text((left, below + _LINE), _shorten(note, fonts(_TEXT), _WIDE), ink, fonts(_TEXT))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return Sheet(buffer.getvalue(), tuple(faults), shown)


class _Legend:
    """The legend of colours and classes, in as many rows as necessary."""

    def __init__(self, fonts: Fonts, entries: Sequence[tuple[tuple[int, int, int], str]], width: int) -> None:
        self._font = fonts(_TEXT)
        self._entries: list[tuple[int, int, tuple[int, int, int], str]] = []
        x = y = 0
        for shade, name in entries:
            text = _shorten(name, self._font, width // 3)
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


def _decode_picture(image: SheetImage) -> tuple[Image.Image, str]:
    """Return the upright RGB picture, and how it contradicts its label; raise what Pillow raises."""
    from PIL import Image, ImageOps

    assert image.data is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(image.data), formats=_FORMATS) as opened:
            opened.load()
            picture = opened
            size = image.size
            if size is not None and opened.size != (size.width, size.height):
                turned = ImageOps.exif_transpose(opened)  # a rotated photograph whose label is for the upright picture
                if turned.size == (size.width, size.height):
                    picture = turned
            return picture.convert("RGB"), _describe_mismatch(picture.size, size)


def _describe_mismatch(found: tuple[int, int], size: ImageSize | None) -> str:
    if size is None or found == (size.width, size.height):
        return ""
    return f"the picture has {found[0]} x {found[1]} pixels, its label has {size.width} x {size.height}"


def _draw_picture(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    picture: Image.Image,
    corner: tuple[int, int],
    image: SheetImage,
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
    boxes = sorted(image.boxes, key=lambda box: -box.width * box.height)
    drawn = [(box, _project_box(box, left, top, scale, frame)) for box in boxes]
    for box, (x0, y0, x1, y1) in drawn:
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="#000000")
        pen.rectangle((x0, y0, x1, y1), outline=colours[box.class_id], width=3)
    tags: list[tuple[int, int, int, int]] = []
    for box, place in drawn:
        _draw_tag(pen, _class_name(names, box.class_id), colours[box.class_id], place, frame, tags, fonts)


def _project_box(
    box: Box, left: int, top: int, scale: float, frame: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Return the corners of a box on the page, clipped to the picture's frame."""
    x0, y0 = left + round(box.left * scale), top + round(box.top * scale)
    x1, y1 = left + round(box.right * scale) - 1, top + round(box.bottom * scale) - 1
    x0, y0 = max(frame[0], min(x0, frame[2] - 2)), max(frame[1], min(y0, frame[3] - 2))
    return x0, y0, max(x0 + 1, min(x1, frame[2] - 1)), max(y0 + 1, min(y1, frame[3] - 1))


def _draw_tag(
    pen: ImageDraw.ImageDraw,
    name: str,
    shade: tuple[int, int, int],
    place: tuple[int, int, int, int],
    frame: tuple[int, int, int, int],
    tags: list[tuple[int, int, int, int]],
    fonts: Fonts,
) -> None:
    """Write the class of a box at one of its corners: the first position inside the picture without another tag."""
    font = fonts(_TEXT - 2)
    text = _shorten(name, font, max(40, (frame[2] - frame[0]) * 2 // 3))
    wide, high = round(font.getlength(text)) + 8, _TEXT + 3
    x0, y0, x1, y1 = place
    best: tuple[int, int, int, int] | None = None
    for x, y in _tag_positions(x0, y0, x1, y1, wide, high):
        x = max(frame[0], min(x, frame[2] - wide))
        tag = (x, y, x + wide, y + high)
        if y < frame[1] or y + high > frame[3]:
            continue
        best = best or tag
        if not any(_overlap(tag, other) for other in tags):
            best = tag
            break
    best = best or (max(frame[0], min(x0, frame[2] - wide)), frame[1], x0 + wide, frame[1] + high)
    tags.append(best)
    pen.rectangle((best[0], best[1], best[0] + wide, best[1] + high), shade)
    light = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
    pen.text((best[0] + 4, best[1] + high / 2), text, "#000000" if light > 140 else "#ffffff", font, anchor="lm")


def _tag_positions(x0: int, y0: int, x1: int, y1: int, wide: int, high: int) -> Iterator[tuple[int, int]]:
    yield x0, y0 - high
    yield x0, y1 + 1
    yield x1 - wide, y0 - high
    yield x1 - wide, y1 + 1
    yield x0, y0
    yield x0, y1 - high
    yield x1 - wide, y0
    yield x1 - wide, y1 - high


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_failure(pen: ImageDraw.ImageDraw, corner: tuple[int, int], fault: str, fonts: Fonts) -> None:
    """Draw a cell without a picture: crossed out, with the reason."""
    x, y = corner
    font = fonts(_TEXT)
    pen.line((x, y, x + _WIDE - 1, y + _HIGH - 1), "#d5d9df", 2)
    pen.line((x, y + _HIGH - 1, x + _WIDE - 1, y), "#d5d9df", 2)
    pen.rectangle((x, y, x + _WIDE - 1, y + _HIGH - 1), outline=_ALARM)
    lines = _wrap(fault, font, _WIDE - 40)[:6]
    middle = y + _HIGH // 2 - len(lines) * _LINE // 2
    pen.rectangle((x + 10, middle - 6, x + _WIDE - 11, middle + len(lines) * _LINE + 4), _FRAME)
    for index, text in enumerate(lines):
        pen.text((x + _WIDE // 2, middle + index * _LINE), text, _ALARM, font, anchor="ma")


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Wrap a text into lines of at most a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(_shorten(word, font, width))
        else:
            lines[-1] = _shorten(longer, font, width)
    return lines


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shorten a text to a width in pixels by leaving out its middle."""
    text = " ".join(text[:1000].split())
    if font.getlength(text) <= width:
        return text
    least, most = 0, len(text)
    while least < most:
        kept = (least + most + 1) // 2
        if font.getlength(_elide_middle(text, kept)) <= width:
            least = kept
        else:
            most = kept - 1
    return _elide_middle(text, least)


def _elide_middle(text: str, kept: int) -> str:
    end = kept // 2
    return f"{text[: kept - end]}…{text[len(text) - end :]}"


def _class_name(names: Mapping[int, str], number: int) -> str:
    return names.get(number, str(number))


def _count_columns(count: int) -> int:
    return max(1, min(count, 4 if count > 9 else 3 if count > 4 else 2))
