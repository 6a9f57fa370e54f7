"""The command new."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import DIRECTORY, json_option, option
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import escape_markup, out
from tritonforge.repository.project_templates import TEMPLATES, write_template

__all__ = ["new"]


@click.command(cls=Command, example="tritonforge new flowers --template onnx")
@click.argument("name")
@option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="classify",
    show_default=True,
    help="What the definition is of.",
)
@option("-o", "--output", type=DIRECTORY, help="The directory to write. Default: NAME.")
@json_option
def new(name: str, template: str, output: Path | None, *, as_json: bool) -> int:
    """Write a first definition for a model NAME, which builds, serves and answers.

    classify and detect take encoded images: DALI decodes them, an ONNX network scores them, and an ensemble is the
    whole. onnx is one ONNX model with labels, python one Python model. The networks are small and need no training;
    the definition states where your own model goes.
    """
    directory = output if output is not None else Path(name)
    files = write_template(name, template, directory)
    source, target = shlex.quote(str(directory)), shlex.quote(f"build/{directory.name}")
    steps = [
        f"tritonforge build {source} -o {target}",
        f"tritonforge serve {target}",
        TEMPLATES[template].replace("NAME", name),
    ]
    if as_json:
        echo_json({"files": [str(path) for path in files], "commands": steps})
        return 0
    for path in files:
        out.print(f"wrote {escape_markup(str(path))}")
    out.print("next:")
    for step in steps:
        out.print(f"  {escape_markup(step)}", soft_wrap=True)
    return 0
