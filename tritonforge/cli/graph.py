"""The command graph."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import EXISTING_PATH, FILE, OUTPUT, format_option, option
from tritonforge.cli.printing import echo, echo_json
from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.files import describe_error, write_file
from tritonforge.validation.context import Options

if TYPE_CHECKING:
    from tritonforge.graph.diagram import Graph
    from tritonforge.graph.svg import Theme
    from tritonforge.validation.tree import Tree

__all__ = ["graph"]

#: The end of a file's name -> the format that is written.
_SUFFIXES = {
    ".svg": "svg", ".png": "png", ".html": "html", ".htm": "html", ".mmd": "mermaid", ".mermaid": "mermaid",
    ".dot": "dot", ".gv": "dot", ".json": "json", ".txt": "text",
}  # fmt: skip


@click.command(
    cls=Command,
    example="tritonforge graph build/digits\n"
    "tritonforge graph build/digits -o digits.svg\n"
    "tritonforge graph repos/digits/definition.py --format mermaid",
)
@click.argument("repository", metavar="REPOSITORY|DEFINITION", type=EXISTING_PATH)
@option("-o", "--output", type=FILE, help="The file to write; its name ends in .svg, .png, .html, .mmd, .dot, .json or "
        ".txt. Default: print to standard output.")  # fmt: skip
@option("--model", "models", multiple=True, metavar="NAME", help="Draw this model and what it uses only. May be "
        "repeated. Default: all models.")  # fmt: skip
@option("--image", metavar="TAG", help="The server image that the findings are for: 24.09, a tag, or an image URI. "
        "[default: 24.10, the local server]")  # fmt: skip
@option("--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True, group=OUTPUT,
        help="The colours of .svg and .png. auto follows the viewer's preference; for .png it is light.")  # fmt: skip
@format_option("text", "json", "mermaid", "dot", "svg", "html")
def graph(
    repository: Path,
    output: Path | None,
    models: tuple[str, ...],
    image: str | None,
    theme: Theme,
    output_format: str,
) -> int:
    """Draw the models of a repository: ensembles with their steps and tensors, nested ensembles, requests of Python
    models to other models (BLS), and the findings of `tritonforge validate` at the part that they are about.

    REPOSITORY is a directory. No code in it is run, also not a definition.py. DEFINITION is a Python file, such as
    definition.py; it is run, as by `tritonforge build`, and nothing is built.

    Exit code 0: the graph is drawn, whatever the findings are; 2: invalid input or usage.
    """  # noqa: D205 - the help of a command begins with a sentence
    if output is not None:
        if click.get_current_context().get_parameter_source("output_format") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--format is the format of standard output; with -o the name of the file decides")
        if output.suffix.lower() not in _SUFFIXES:
            raise click.UsageError(f"-o {output}: expected a name that ends in {', '.join(_SUFFIXES)}")
        output_format = _SUFFIXES[output.suffix.lower()]
    from tritonforge.graph.graph_builder import MAXIMAL_NODES, MAXIMAL_TEXT_NODES
    from tritonforge.graph.graph_reader import read_graph

    limit = MAXIMAL_TEXT_NODES if output_format in ("text", "json") else MAXIMAL_NODES
    tree = _read_tree(repository)
    try:
        drawn = read_graph(tree, Options(image=image), models=models, max_nodes=limit)
    except DefinitionError as error:
        raise DefinitionError(f"{repository}: {error}") from error
    title = ", ".join(diagram.name for diagram in drawn.diagrams[:4])
    if output is None and output_format == "json":
        echo_json(asdict(drawn))
    elif output is None:
        echo(_render(drawn, output_format, theme, title).decode(), nl=False)
    else:
        try:
            write_file(output, _render(drawn, output_format, theme, title))
        except OSError as error:
            raise TritonForgeError(f"{output}: cannot write: {describe_error(error)}") from error
        findings = f"{len(drawn.findings) or 'no'} finding{'' if len(drawn.findings) == 1 else 's'}"
        echo(f"{output}: {len(drawn.diagrams)} diagram{'' if len(drawn.diagrams) == 1 else 's'}, {findings}")
    return 0


def _read_tree(path: Path) -> Tree:
    if path.is_file():
        from tritonforge.repository.definition.loading import load
        from tritonforge.repository.resolve import resolve

        definitions = load(path)
        return resolve(definitions.models, definitions.package).tree()
    from tritonforge.cli.terminal import note
    from tritonforge.validation.tree_reader import read_tree

    try:
        tree = read_tree(path)
    except OSError as error:
        raise DefinitionError(f"{path}: cannot read: {describe_error(error)}") from error
    if tree.is_file("config.pbtxt"):
        note(f"{path} contains a config.pbtxt: if it is a model, pass its parent directory")
    if tree.is_file("definition.py"):
        note(f"{path / 'definition.py'} is not run: pass the file itself to draw the definition")
    if not tree.subdirectories():
        raise DefinitionError(f"{path}: no models found (expected a directory for each model)")
    return tree


def _render(graph: Graph, output_format: str, theme: Theme, title: str) -> bytes:
    if output_format == "png":
        from tritonforge.graph.png import render_png

        return render_png(graph, theme=theme, title=title)
    if output_format == "svg":
        from tritonforge.graph.svg import render_svg

        text = render_svg(graph, theme=theme, title=title)
    elif output_format == "html":
        from tritonforge.graph.html_page import render_html

        text = render_html(graph, title=title)
    elif output_format == "mermaid":
        from tritonforge.graph.mermaid import render_mermaid

        text = render_mermaid(graph)
    elif output_format == "dot":
        from tritonforge.graph.dot import render_dot

        text = render_dot(graph)
    elif output_format == "json":
        import json

        text = json.dumps(asdict(graph), indent=2) + "\n"
    else:
        from tritonforge.graph.outline import render_outline

        text = render_outline(graph)
    return text.encode()
