"""The lines of a plot's SVG document: shapes in light and dark, markers, dashes and hatching. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from tritonforge.escaping import escape_html
from tritonforge.graph.text_widths import measure_text

__all__ = ["TEXT_SIZE", "Canvas", "Theme", "format_number"]

Theme: TypeAlias = Literal["auto", "light", "dark"]

_FONTS: Final = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
TEXT_SIZE: Final = 12.0

#: Class -> colour in light and in dark; ``fill`` or ``stroke`` is set by the shape.
_COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "page": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9da7b3"),
    "grid": ("#d8dee4", "#30363d"),
    "axis": ("#6e7781", "#8b949e"),
    "c0": ("#0969da", "#4493f8"),
    "c1": ("#bc4c00", "#f0883e"),
    "c2": ("#1a7f37", "#3fb950"),
    "c3": ("#8250df", "#ab7df8"),
    "c4": ("#bf3989", "#f778ba"),
    "c5": ("#57606a", "#9da7b3"),
}
_SERIES: Final = 6
_MARKERS: Final = {2: "m0-5l5 9h-10z", 3: "m0-6l6 6l-6 6l-6-6z", 4: "m-5-2h3v-3h4v3h3v4h-3v3h-4v-3h-3z"}
_DASHES: Final = ("", "7 4", "2 3", "10 3 2 3", "1 5", "12 6")


class Canvas:
    """The lines of an SVG document."""

    def __init__(self, width: float, height: float, title: str, description: str, theme: Theme) -> None:
        self._theme = theme
        size = f'width="{_place(width)}" height="{_place(height)}"'
        view = f'viewBox="0 0 {_place(width)} {_place(height)}" role="img"'
        fonts = f'font-family="{_FONTS}" font-size="{_place(TEXT_SIZE)}"'
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {fonts}>',
            f"<title>{escape_html(title)}</title>",
            f"<desc>{escape_html(description)}</desc>",
        ]
        if theme == "auto":
            rules = "".join(
                f".tp-{name}-f{{fill:{dark}}}.tp-{name}-s{{stroke:{dark}}}" for name, (_, dark) in _COLOURS.items()
            )
            self._lines.append(f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>")
        self._lines.append(f"<rect {size}{self._paint('page', 'fill')}/>")
        self.add_text(14, 20, title, "text", is_bold=True)

    def render(self) -> str:
        """Return the document."""
        return "\n".join([*self._lines, "</svg>"]) + "\n"

    def add_line(self, x1: float, y1: float, x2: float, y2: float, name: str, *, dashes: str = "") -> None:
        """Add a straight line."""
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._lines.append(
            f'<line x1="{_place(x1)}" y1="{_place(y1)}" x2="{_place(x2)}" y2="{_place(y2)}"{dash}'
            f"{self._paint(name, 'stroke')}/>"
        )

    def add_text(
        self,
        x: float,
        y: float,
        text: str,
        name: str,
        *,
        anchor: str = "",
        is_bold: bool = False,
        is_vertical: bool = False,
    ) -> None:
        """Add a line of text."""
        attributes = f' text-anchor="{anchor}"' if anchor else ""
        attributes += ' font-weight="bold"' if is_bold else ""
        attributes += f' transform="rotate(-90 {_place(x)} {_place(y)})"' if is_vertical else ""
        self._lines.append(
            f'<text x="{_place(x)}" y="{_place(y)}"{attributes}{self._paint(name, "fill")}>{escape_html(text)}</text>'
        )

    def add_path(self, points: Sequence[tuple[float, float]], number: int) -> None:
        """Add a line through points, with the dashes of a series."""
        path = "L".join(f"{_place(x)} {_place(y)}" for x, y in points)
        dashes = _DASHES[number % _SERIES]
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._lines.append(
            f'<path d="M{path}" fill="none" stroke-width="2"{dash}{self._paint(_series(number), "stroke")}/>'
        )

    def add_interval(self, x: float, low: float, high: float, number: int) -> None:
        """Add the interval of a point: a vertical line with a bar at both ends."""
        ends = "".join(f"M{_place(x - 4)} {_place(y)}h8" for y in (low, high))
        path = f"M{_place(x)} {_place(low)}V{_place(high)}{ends}"
        self._lines.append(f'<path d="{path}" fill="none"{self._paint(_series(number), "stroke")}/>')

    def add_marker(self, x: float, y: float, number: int, hint: str = "") -> None:
        """Add the marker of a series: circle, square, triangle, diamond, cross, ring."""
        paint = self._paint(_series(number), "fill")
        inner = f"<title>{escape_html(hint)}</title>" if hint else ""
        shape = number % _SERIES
        if shape == 0:
            self._lines.append(f'<circle cx="{_place(x)}" cy="{_place(y)}" r="4"{paint}>{inner}</circle>')
        elif shape == 1:
            self._lines.append(
                f'<rect x="{_place(x - 4)}" y="{_place(y - 4)}" width="8" height="8"{paint}>{inner}</rect>'
            )
        elif shape == 5:
            stroke = self._paint(_series(number), "stroke")
            self._lines.append(
                f'<circle cx="{_place(x)}" cy="{_place(y)}" r="4" fill="none" stroke-width="2"{stroke}>{inner}</circle>'
            )
        else:
            path = {
                2: "m0-5l5 9h-10z",
                3: "m0-6l6 6l-6 6l-6-6z",
                4: "m-4-6l4 4l4-4l2 2l-4 4l4 4l-2 2l-4-4l-4 4l-2-2l4-4l-4-4z",
            }
            self._lines.append(f'<path d="M{_place(x)} {_place(y)}{path[shape]}"{paint}>{inner}</path>')

    def add_box(self, x: float, y: float, width: float, height: float, number: int, *, hint: str = "") -> None:
        """Add a part of a bar, with the hatching of its number."""
        inner = f"<title>{escape_html(hint)}</title>" if hint else ""
        self._lines.append(
            f'<rect x="{_place(x)}" y="{_place(y)}" width="{_place(width)}" height="{_place(height)}"'
            f"{self._paint(_series(number), 'fill')}>{inner}</rect>"
        )
        hatching = _hatch(x, y, width, height, number)
        if hatching:
            self._lines.append(f'<path d="{hatching}" fill="none"{self._paint("page", "stroke")}/>')

    def add_legend(self, names: Sequence[str], x: float, *, has_markers: bool) -> None:
        """Add the names of series or parts, in a row below the title."""
        for number, name in enumerate(names):
            if has_markers:
                self.add_marker(x + 6, 34, number)
            else:
                self.add_box(x, 28, 12, 12, number)
            self.add_text(x + 18, 38, name, "text")
            x += measure_text(name, TEXT_SIZE) + 36

    def _paint(self, name: str, attribute: str) -> str:
        light, dark = _COLOURS[name]
        colour = dark if self._theme == "dark" else light
        kind = f' class="tp-{name}-{attribute[0]}"' if self._theme == "auto" else ""
        return f'{kind} {attribute}="{colour}"'


def _hatch(x: float, y: float, width: float, height: float, number: int) -> str:
    """Return the path of a part's hatching: none, dots apart, horizontal or vertical lines; "" for a small part."""
    kind = number % _SERIES
    if kind == 0 or width < 4:
        return ""
    if kind in (1, 4):  # vertical lines, close or wide
        gap = 4 if kind == 1 else 8
        return "".join(
            f"M{_place(x + offset)} {_place(y)}v{_place(height)}" for offset in range(gap // 2, int(width), gap)
        )
    if kind in (2, 5):  # horizontal lines
        gap = 5 if kind == 2 else 3
        return "".join(
            f"M{_place(x)} {_place(y + offset)}h{_place(width)}" for offset in range(gap // 2, int(height), gap)
        )
    return "".join(  # both
        [
            *(f"M{_place(x + offset)} {_place(y)}v{_place(height)}" for offset in range(3, int(width), 6)),
            *(f"M{_place(x)} {_place(y + offset)}h{_place(width)}" for offset in range(3, int(height), 6)),
        ]
    )


def _series(number: int) -> str:
    return f"c{number % _SERIES}"


def _place(value: float) -> str:
    """Return a coordinate with at most one decimal, the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def format_number(value: float) -> str:
    """Return a value with at most four digits."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
