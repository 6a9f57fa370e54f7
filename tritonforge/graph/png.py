"""Render a graph as PNG: its SVG, rasterised by resvg with the fonts of this package."""

from __future__ import annotations

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


def render_png(graph: Graph, *, theme: Theme = "auto", title: str = "") -> bytes:
    """Return a graph as a PNG image with two pixels for one of the SVG; "auto" is "light", as a PNG has one look.

    Characters that DejaVu Sans's part in this package does not have are drawn with a font of the system, if any.

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
        )
    return bytes(image)
