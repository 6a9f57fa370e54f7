"""What a notebook shows for an ensemble or a repository that is not written yet."""

from __future__ import annotations

from collections.abc import Callable

from tritonforge.errors import DefinitionError
from tritonforge.escaping import escape_html
from tritonforge.graph.diagram import Graph
from tritonforge.graph.graph_reader import read_graph
from tritonforge.graph.html_page import render_notebook_html
from tritonforge.graph.svg import render_svg
from tritonforge.validation.tree import Tree

__all__ = ["show_html", "show_svg"]


def show_html(read_tree: Callable[[], Tree], title: str) -> str:
    """Return the graph as an image with the findings as a table; a sentence if the definition is not complete."""
    try:
        return render_notebook_html(_read(read_tree, title), title=title)
    except DefinitionError as error:
        return f"<pre>{escape_html(f'{title}: no graph: {error}')}</pre>"


def show_svg(read_tree: Callable[[], Tree], title: str) -> str | None:
    """Return the graph as SVG; None, for the text of the object, if the definition is not complete."""
    try:
        return render_svg(_read(read_tree, title), title=title)
    except DefinitionError:
        return None


def _read(read_tree: Callable[[], Tree], name: str) -> Graph:
    """Return the graph of a model, or of the whole repository where it has no model of that name."""
    tree = read_tree()
    return read_graph(tree, models=[name] if name in tree.subdirectories() else [])
