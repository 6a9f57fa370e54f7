"""Render a graph as PNG: its SVG, rasterised by resvg with the fonts of this package."""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from typing import Final

from tritonforge.errors import DefinitionError, MissingExtraError
from tritonforge.graph.diagram import Graph
from tritonforge.graph.picture import draw_graph
from tritonforge.graph.svg import Theme, render_svg

__all__ = ["render_png"]

#: Pixels of the image: more is a file that few viewers open.
MAXIMAL_PIXELS: Final = 100_000_000
#: Pixels of the image per pixel of the picture, so that text is sharp on dense screens.
_SCALE: Final = 2
#: What the fonts of this package do not have (tests/fixtures/make_fonts.py).
_OTHER_CHARACTERS: Final = re.compile("[^\n -~\xa0-\u017f\u2013\u2014\u2026\u2190-\u2193\u2264\u2265]")


def render_png(graph: Graph, *, theme: Theme = "auto", title: str = "") -> bytes:
    """Return a graph as a PNG image with two pixels for one of the SVG; "auto" is "light", as a PNG has one look.

    Latin text is drawn with the fonts of this package, so that the image is the same on every machine. A picture with
    other characters is drawn with the fonts of the system, where it has some.

    Raises:
        MissingExtraError: the extra ``graph`` is not installed.
        DefinitionError: the image would have more than `MAXIMAL_PIXELS` pixels.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise MissingExtraError("resvg-py", extra="graph") from error
    picture = draw_graph(graph)
    if picture.width * picture.height * _SCALE**2 > MAXIMAL_PIXELS:
        raise DefinitionError(
            f"the picture has {round(picture.width)} x {round(picture.height)} pixels, too many for a PNG file. Write "
            "an .svg or .html file, or choose what to draw with --model NAME"
        )
    svg = render_svg(graph, theme="light" if theme == "auto" else theme, title=title)
    with as_file(files("tritonforge.graph") / "fonts") as folder:
        image = svg_to_bytes(
            svg_string=svg,
            zoom=_SCALE,
            font_dirs=[str(folder)],
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
            skip_system_fonts=not _OTHER_CHARACTERS.search(svg),
        )
    return bytes(image)
