"""Render a picture as SVG: one that is equal byte for byte for the same graph, in light and dark. No I/O.

Every shape has its light colours as attributes, which every viewer shows; a viewer that supports the user's preference
(``prefers-color-scheme``) shows the dark ones. Meaning does not depend on colours: kinds differ by words and outlines,
findings by badges with their codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from tritonforge.escaping import escape_html
from tritonforge.graph.diagram import Graph
from tritonforge.graph.picture import draw_graph
from tritonforge.graph.shapes import TINY, Badge, Box, Curve, Picture, Text
from tritonforge.graph.text_widths import measure_text

__all__ = ["Theme", "render_dark_style", "render_picture", "render_svg"]

Theme: TypeAlias = Literal["auto", "light", "dark"]

_FONTS: Final = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"

#: Class -> attributes in light and in dark.
_COLOURS: Final[Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]] = {
    "page": ({"fill": "#ffffff"}, {"fill": "#0d1117"}),
    "text": ({"fill": "#1f2328"}, {"fill": "#e6edf3"}),
    "muted": ({"fill": "#59636e"}, {"fill": "#9da7b3"}),
    "edge": ({"stroke": "#6e7781"}, {"stroke": "#8b949e"}),
    "head": ({"fill": "#6e7781"}, {"fill": "#8b949e"}),
    "frame": ({"fill": "#fbfcfd", "stroke": "#afb8c1"}, {"fill": "#11161d", "stroke": "#484f58"}),
    "cover": ({"fill": "#fbfcfd"}, {"fill": "#11161d"}),
    "model": ({"fill": "#eef1f4", "stroke": "#57606a"}, {"fill": "#21262d", "stroke": "#8b949e"}),
    "missing": ({"fill": "#ffffff", "stroke": "#57606a"}, {"fill": "#0d1117", "stroke": "#8b949e"}),
    "called": ({"fill": "#f6f0fd", "stroke": "#8250df"}, {"fill": "#241b36", "stroke": "#ab7df8"}),
    "input": ({"fill": "#ddf4ff", "stroke": "#0969da"}, {"fill": "#0b2240", "stroke": "#4493f8"}),
    "output": ({"fill": "#dafbe1", "stroke": "#1a7f37"}, {"fill": "#0c2a17", "stroke": "#3fb950"}),
    "tensor": ({"fill": "#ffffff", "stroke": "#afb8c1"}, {"fill": "#0d1117", "stroke": "#484f58"}),
    "error": ({"stroke": "#cf222e"}, {"stroke": "#f85149"}),
    "warning": ({"stroke": "#9a6700"}, {"stroke": "#d29922"}),
    "error-head": ({"fill": "#cf222e"}, {"fill": "#f85149"}),
    "warning-head": ({"fill": "#9a6700"}, {"fill": "#d29922"}),
    "error-badge": ({"fill": "#cf222e", "stroke": "#cf222e"}, {"fill": "#f85149", "stroke": "#f85149"}),
    "warning-badge": ({"fill": "#fff8c5", "stroke": "#9a6700"}, {"fill": "#2e2306", "stroke": "#d29922"}),
    "error-text": ({"fill": "#ffffff"}, {"fill": "#0d1117"}),
    "warning-text": ({"fill": "#6b4700"}, {"fill": "#e3b341"}),
}

#: The dashes of outlines and the radius of corners, by the kind of box.
_OUTLINES: Final = {
    "frame": ("", 8), "model": ("", 4), "missing": ("2 3", 4), "called": ("6 3", 4), "input": ("", 14),
    "output": ("", 14), "tensor": ("", 14),
}  # fmt: skip


def render_svg(graph: Graph, *, theme: Theme = "auto", title: str = "", in_page: bool = False) -> str:
    """Return a graph as an SVG document.

    ``theme`` "auto" follows the viewer's preference. With ``in_page`` the picture is for a page that lists the findings
    itself: it has no list, and badges link to the page's elements ``finding-1`` and so on.
    """
    picture = draw_graph(graph, has_list=not in_page)
    return render_picture(picture, theme=theme, title=title, has_links=in_page)


def render_picture(
    picture: Picture, *, theme: Theme = "auto", title: str = "", has_links: bool = False, has_style: bool = True
) -> str:
    """Return a picture as an SVG document.

    With ``has_links`` badges link to the elements ``finding-1`` and so on of the page around it. Without ``has_style``
    the page has the rules of `render_dark_style`, for a page whose policy allows style sheets only.
    """
    return "\n".join(_list_lines(picture, theme, title, has_links=has_links, has_style=has_style)) + "\n"


def render_dark_style() -> str:
    """Return the rules of CSS for the dark colours of pictures whose theme is "auto"."""
    rules = "".join(
        f".tf-{name}{{{';'.join(f'{key}:{value}' for key, value in dark.items())}}}"
        for name, (_, dark) in _COLOURS.items()
    )
    return f"@media (prefers-color-scheme:dark){{{rules}}}"


def _list_lines(picture: Picture, theme: Theme, title: str, *, has_links: bool, has_style: bool) -> Iterator[str]:
    width, height = _number(picture.width), _number(picture.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="{_FONTS}">'
    )
    if title:
        yield f"<title>{escape_html(title)}</title>"
    if theme == "auto" and has_style:
        yield f"<style>{render_dark_style()}</style>"
    paint = _Paint(theme)
    yield f'<rect width="{width}" height="{height}"{paint("page")}/>'
    # A frame lies below its edges, and they below the boxes that they lead to.
    yield from (line for box in picture.boxes if box.kind == "frame" for line in _list_box(box, paint))
    yield from (line for curve in picture.curves for line in _list_curve(curve, paint))
    yield from (line for box in picture.boxes if box.kind not in ("frame", "label") for line in _list_box(box, paint))
    yield from (line for text in picture.texts for line in _list_text(text, paint))
    for badge in picture.badges:
        lines = "".join(_list_badge(badge, paint))
        yield f'<a href="#finding-{badge.text.partition(" ")[0]}">{lines}</a>' if has_links else lines
    yield "</svg>"


class _Paint:
    """Returns the attributes of a class in a theme."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme

    def __call__(self, *names: str) -> str:
        attributes: dict[str, str] = {}
        for name in names:
            attributes |= _COLOURS[name][self._theme == "dark"]
        classes = f' class="{" ".join(f"tf-{name}" for name in names)}"' if self._theme == "auto" else ""
        return classes + "".join(f' {key}="{value}"' for key, value in attributes.items())


def _list_box(box: Box, paint: _Paint) -> Iterator[str]:
    dashes, radius = _OUTLINES[box.kind]
    names = [box.kind, *([box.severity] if box.severity else [])]
    stroke = "3" if box.severity == "error" else "2.2" if box.severity else "1.2"
    dashes = "7 3" if box.severity == "warning" else dashes
    yield (
        f'<rect x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}" '
        f'rx="{radius}" stroke-width="{stroke}"{_dash(dashes)}{paint(*names)}>{_hint(box.hint)}</rect>'
    )


def _list_curve(curve: Curve, paint: _Paint) -> Iterator[str]:
    points = curve.points
    path = [f"M{_number(points[0].x)} {_number(points[0].y)}"]
    end = points[-1]
    is_upward = end.y < points[0].y
    tip = end.y + (6.0 if is_upward else -6.0) if curve.has_head else end.y
    for place, point in enumerate(points[1:], 1):
        y = tip if place == len(points) - 1 else point.y
        before = points[place - 1]
        if place % 2 or (point.x == before.x):
            path.append(f"V{_number(y)}")
        else:
            middle = _number((before.y + point.y) / 2)
            path.append(f"C{_number(before.x)} {middle} {_number(point.x)} {middle} {_number(point.x)} {_number(y)}")
    stroke = "2.6" if curve.severity == "error" else "2.2" if curve.severity else "1.4"
    dashes = "5 4" if curve.is_dashed else "8 3" if curve.severity == "warning" else ""
    names = ["edge", *([curve.severity] if curve.severity else [])]
    line = f'd="{"".join(path)}" fill="none" stroke-width="{stroke}"{_dash(dashes)}{paint(*names)}'
    yield f"<path {line}>{_hint(curve.hint)}</path>"
    if curve.has_head:
        back = _number(tip + (2.0 if is_upward else -2.0))
        left, right = _number(end.x - 4.5), _number(end.x + 4.5)
        colour = paint(f"{curve.severity}-head" if curve.severity else "head")
        yield f'<path d="M{_number(end.x)} {_number(end.y)}L{left} {back}H{right}Z"{colour}/>'


def _list_text(text: Text, paint: _Paint) -> Iterator[str]:
    if text.covers:
        width = measure_text(text.text, text.size, bold=text.bold)
        yield (
            f'<rect x="{_number(text.x - 2)}" y="{_number(text.y - text.size)}" width="{_number(width + 4)}" '
            f'height="{_number(text.size + 4)}"{paint("cover")}/>'
        )
    anchor = ' text-anchor="middle"' if text.centred else ""
    weight = ' font-weight="bold"' if text.bold else ""
    colour = paint("muted" if text.muted else "text")
    yield (
        f'<text x="{_number(text.x)}" y="{_number(text.y)}" font-size="{_number(text.size)}"{anchor}{weight}{colour}>'
        f"{escape_html(text.text)}</text>"
    )


def _list_badge(badge: Badge, paint: _Paint) -> Iterator[str]:
    """Yield a filled rectangle for an error, a rounded outline for a warning."""
    radius = "2" if badge.severity == "error" else "7"
    yield (
        f'<rect x="{_number(badge.x)}" y="{_number(badge.y)}" width="{_number(badge.width)}" height="15" rx="{radius}" '
        f'stroke-width="1.2"{paint(f"{badge.severity}-badge")}/>'
    )
    yield (
        f'<text x="{_number(badge.x + badge.width / 2)}" y="{_number(badge.y + 11)}" font-size="{_number(TINY)}" '
        f'text-anchor="middle" font-weight="bold"{paint(f"{badge.severity}-text")}>{escape_html(badge.text)}</text>'
    )


def _dash(dashes: str) -> str:
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _hint(text: str) -> str:
    return f"<title>{escape_html(text)}</title>" if text else ""


def _number(value: float) -> str:
    """Return a number with at most one decimal, the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")
