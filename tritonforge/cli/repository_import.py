"""The command import."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import EXISTING_DIRECTORY, FILE, json_option, option
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import err, escape_markup, out
from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.escaping import escape_line
from tritonforge.files import describe_error, write_file
from tritonforge.repository.repository_import import ImportedRepository, import_repository
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import read_tree

__all__ = ["import_definition"]

#: The directory beside the definition that --copy fills.
_COPIES: Final = "models"


@click.command("import", cls=Command, example="tritonforge import model_repository -o definition.py")
@click.argument("repository", type=EXISTING_DIRECTORY)
@option("-o", "--output", type=FILE, default=Path("definition.py"), show_default=True, help="The file to write.")
@option("--copy", "is_copied", is_flag=True, help=f"Copy the model files to {_COPIES}/ beside the definition.")
@option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def import_definition(repository: Path, output: Path, *, is_copied: bool, force: bool, as_json: bool) -> int:
    """Write the Python definition of REPOSITORY, a hand-written model repository.

    No code of the repository is run. Model files are referred to where they are; `tritonforge build` of the definition
    gives equal configurations and the same files. What has no field in a definition becomes its override, and comments
    stay beside their fields. Python code of DALI pipelines cannot be recovered: they are imported as files.
    """
    if output.exists() and not force:
        raise DefinitionError(f"{output}: it already exists; give another file, or --force to replace it")
    copies = output.parent / _COPIES
    if is_copied and copies.exists():
        raise DefinitionError(f"{copies}: it already exists; remove it, or leave --copy out")
    try:
        tree = read_tree(repository)
    except OSError as error:
        raise DefinitionError(f"{repository}: cannot be read: {describe_error(error)}") from error
    relative = os.path.relpath(repository.resolve(), output.parent.resolve())
    name = escape_line(repository.resolve().name)
    imported = import_repository(
        tree, directory=_COPIES if is_copied else relative, title=f"Imported from the model repository {name}."
    )
    if imported.problems:
        raise DefinitionError("\n".join(f"{repository}: {problem}" for problem in imported.problems))
    try:
        if is_copied:
            _copy_files(repository, tree, imported, copies)
        write_file(output, imported.text.encode())
    except OSError as error:
        if is_copied:
            shutil.rmtree(copies, ignore_errors=True)  # it did not exist before
        raise TritonForgeError(f"{error.filename or output}: cannot write: {describe_error(error)}") from error
    if as_json:
        echo_json({"definition": str(output), "models": list(imported.models), "notes": list(imported.notes)})
        return 0
    for note in imported.notes:
        err.print(f"[yellow]note:[/yellow] {escape_markup(note)}")
    noun = "model" if len(imported.models) == 1 else "models"
    out.print(f"wrote {escape_markup(str(output))}  {len(imported.models)} {noun}")
    return 0


def _copy_files(repository: Path, tree: Tree, imported: ImportedRepository, destination: Path) -> None:
    """Copy the files that a definition names, by their path without links."""
    for path in imported.files:
        real = tree.real(path)
        assert real is not None  # the import refuses links that leave the repository
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / real, target, follow_symlinks=False)
