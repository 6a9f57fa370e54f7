"""The subcommands of the repository wing: build."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import click

from tritonforge.building import BuildResult, build_definitions
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, human_bytes, out, shown, steps
from tritonforge.repository.definition.loading import load
from tritonforge.repository.resolve import Repository, resolve

__all__ = ["build"]


@click.command()
@click.argument("definition", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The model repository; default build/NAME.")
@click.option("--check", is_flag=True, help="Only compare the committed config.pbtxt files; exit 1 with a diff.")
@click.option("--write-configs", is_flag=True, help="Only write the config.pbtxt files beside the definition.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def build(definition: Path, output: Path | None, *, check: bool, write_configs: bool, form: str) -> int:
    """Build the model repository of DEFINITION: a definition.py, or the folder that holds one.

    A definition that declares a TensorFlowServing package is built as that: numbered SavedModels and code/.

    The old repository stays whole until the new one is complete; what did not change is linked, not made again.
    The digest is of the sorted paths and contents, so two equal builds have one digest.
    """
    if check and write_configs:
        raise click.UsageError("--check and --write-configs exclude each other")
    definitions = load(definition)
    folder = definition if definition.is_dir() else definition.parent
    if check:
        return _check(folder, resolve(definitions.models, definitions.package), form)
    if write_configs:
        return _write_configs(folder, resolve(definitions.models, definitions.package), form)
    destination = output if output is not None else Path("build") / definitions.folder.name
    with steps() as progress:
        built = build_definitions(definitions, destination, on_progress=progress.on_build)
    _report(built, destination, form)
    return 0


def _report(built: BuildResult, destination: Path, form: str) -> None:
    if form == "json":
        report = {
            "repository": str(destination),
            "digest": built.digest,
            "changed": built.changed,
            "made": list(built.made),
            "notes": list(built.notes),
            "models": list(built.models),
            "files": dict(built.files),
        }
        echo(json.dumps(report, indent=2))
        return
    for path, size in built.files.items():
        out.print(f"  {shown(path)}  [dim]{human_bytes(size)}[/dim]")
    state = "built" if built.changed else "unchanged"
    out.print(f"{state} {shown(str(destination))}  {human_bytes(built.size)}  {built.digest}")


def _check(folder: Path, repository: Repository, form: str) -> int:
    differing: dict[str, str] = {}
    for path, text in repository.configs.items():
        committed = folder / path
        old = committed.read_text() if committed.is_file() else ""
        if old != text:
            lines = difflib.unified_diff(
                old.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"{committed} (committed)",
                f"{committed} (definition)",
            )
            differing[path] = "".join(lines)
    if form == "json":
        echo(json.dumps({"equal": not differing, "differing": differing}, indent=2))
    elif differing:
        for diff in differing.values():
            echo(diff, nl=False)
        err.print(f"{len(differing)} of {len(repository.configs)} config.pbtxt files differ from the definition; run:")
        err.print(f"  tritonforge build {shown(str(folder))} --write-configs")
    else:
        out.print(f"{len(repository.configs)} config.pbtxt files are as the definition says")
    return 1 if differing else 0


def _write_configs(folder: Path, repository: Repository, form: str) -> int:
    for path, text in repository.configs.items():
        committed = folder / path
        committed.parent.mkdir(parents=True, exist_ok=True)
        committed.write_text(text)
        if form == "text":
            out.print(shown(str(committed)))
    if form == "json":
        echo(json.dumps({"written": [str(folder / path) for path in repository.configs]}, indent=2))
    return 0
