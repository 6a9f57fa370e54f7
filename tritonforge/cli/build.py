"""The command build."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from tritonforge.building import BuildResult, build_definitions
from tritonforge.cli.command import Command
from tritonforge.cli.options import DIRECTORY, EXISTING_PATH, json_option, option
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import err, escape_markup, human_bytes, out, steps
from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.repository.definition.loading import load
from tritonforge.repository.resolve import Repository, resolve

__all__ = ["build"]


@click.command(cls=Command, example="tritonforge build repos/digits -o build/digits")
@click.argument("definition", type=EXISTING_PATH)
@option("-o", "--output", type=DIRECTORY, help="The directory to write. Default: build/NAME.")
@option("--check", is_flag=True, help="Only compare the committed config.pbtxt files; exit 1 with a diff.")
@option("--write-configs", is_flag=True, help="Only write the config.pbtxt files beside the definition.")
@json_option
def build(definition: Path, output: Path | None, *, check: bool, write_configs: bool, as_json: bool) -> int:
    """Build the model repository of DEFINITION: a definition.py, or the directory that contains one.

    A definition that declares a TensorFlowServing package is built as that: numbered SavedModels and code/.

    The previous repository is replaced when the new one is complete; unchanged files are linked, not built again.
    The digest covers the sorted paths and contents, so equal builds have equal digests.
    """
    if check and write_configs:
        raise click.UsageError("--check and --write-configs exclude each other")
    if output is not None and (check or write_configs):
        raise click.UsageError(f"-o applies to a build, not to {'--check' if check else '--write-configs'}")
    definitions = load(definition)
    directory = definition if definition.is_dir() else definition.parent
    if check or write_configs:
        repository = resolve(definitions.models, definitions.package)
        if write_configs:
            return _write_configs(directory, repository, as_json=as_json)
        owns_directory = definitions.path.name == "definition.py"
        return _check(directory, repository, as_json=as_json, owns_directory=owns_directory)
    destination = output if output is not None else Path("build") / definitions.folder.name
    with steps() as progress:
        built = build_definitions(definitions, destination, on_progress=progress.on_build)
    _report(built, destination, as_json=as_json)
    return 0


def _report(built: BuildResult, destination: Path, *, as_json: bool) -> None:
    if as_json:
        echo_json(
            {
                "repository": str(destination),
                "digest": built.digest,
                "changed": built.changed,
                "made": list(built.made),
                "notes": list(built.notes),
                "models": list(built.models),
                "files": dict(built.files),
            }
        )
        return
    for path, size in built.files.items():
        out.print(f"  {escape_markup(path)}  [dim]{human_bytes(size)}[/dim]")
    state = "built" if built.changed else "unchanged"
    out.print(f"{state} {escape_markup(str(destination))}  {human_bytes(built.size)}  {built.digest}")


def _check(directory: Path, repository: Repository, *, as_json: bool, owns_directory: bool) -> int:
    """Compare the committed configurations; if the definition owns the directory, no other model may have one."""
    stale = sorted(directory.glob("*/config.pbtxt")) if owns_directory else []
    stale = [path for path in stale if path.relative_to(directory).as_posix() not in repository.configs]
    expected = {directory / path: text for path, text in repository.configs.items()} | dict.fromkeys(stale, "")
    differing: dict[str, str] = {}
    for committed, text in expected.items():
        old = committed.read_text() if committed.is_file() else ""
        if old != text or committed in stale:
            lines = difflib.unified_diff(
                old.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"{committed} (committed)",
                f"{committed} (definition)",
            )
            differing[committed.relative_to(directory).as_posix()] = "".join(lines)
    if as_json:
        echo_json({"equal": not differing, "differing": differing})
        return 1 if differing else 0
    for diff in differing.values():
        echo(diff, nl=False)
    for path in stale:
        sentence = f"{path}: the definition has no model {path.parent.name!r}. Remove it."
        err.print(escape_markup(sentence))
    if len(differing) > len(stale):
        changed = len(differing) - len(stale)
        err.print(f"{changed} of {len(repository.configs)} config.pbtxt files differ from the definition; run:")
        err.print(f"  tritonforge build {escape_markup(str(directory))} --write-configs")
    if not differing:
        out.print(f"{len(repository.configs)} config.pbtxt files match the definition")
    return 1 if differing else 0


def _write_configs(directory: Path, repository: Repository, *, as_json: bool) -> int:
    for path, text in repository.configs.items():
        committed = directory / path
        try:
            committed.parent.mkdir(parents=True, exist_ok=True)
            committed.write_text(text)
        except OSError as error:
            raise TritonForgeError(f"{committed}: cannot write: {describe_error(error)}") from error
        if not as_json:
            out.print(escape_markup(str(committed)))
    if as_json:
        echo_json({"written": [str(directory / path) for path in repository.configs]})
    return 0
