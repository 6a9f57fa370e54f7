"""Imported definitions: written, loaded, and compared with the configurations and definitions that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tritonforge.repository.definition import Ensemble, Model
from tritonforge.repository.definition.loading import load
from tritonforge.repository.model_config import build_config, parse_config
from tritonforge.repository.repository_import import ImportedRepository, import_repository
from tritonforge.validation.tree import Tree

#: Where files come from: an import has files where a definition may have functions and downloads.
SOURCES = frozenset({"artifact", "pipeline", "files", "outputs", "inputs", "step_order", "stated"})


def write_and_load(imported: ImportedRepository, folder: Path) -> Mapping[str, Model | Ensemble]:
    """Return the models of an imported definition, by running its text."""
    assert not imported.problems
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definition.py").write_text(imported.text, encoding="utf-8")
    return load(folder / "definition.py").models


def read_configs(tree: Tree) -> dict[str, Any]:
    """Return the messages of a tree by model, with the names and platforms that the server fills in."""
    configs = {}
    for name in tree.subdirectories():
        entry = tree.entry(f"{name}/config.pbtxt")
        if entry is not None and entry.content is not None:
            config: Any = parse_config(entry.content.decode("utf-8", "surrogateescape"))
            config.name = config.name or name
            configs[name] = config
    return configs


def import_and_build(tree: Tree, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configurations of a tree, and those of its definition after import."""
    imported = import_repository(tree, directory="repository", title="Imported.")
    models = write_and_load(imported, folder)
    built = {name: build_config(model) for name, model in models.items()}
    wanted = read_configs(tree)
    return wanted, {name: built[name] for name in wanted}


def describe_settings(model: Model | Ensemble) -> dict[str, Any]:
    """Return every field of a model but the sources of its files, and the class."""
    settings = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in SOURCES}
    if isinstance(model, Ensemble):
        settings["steps"] = [
            (step.model.name, step.model_version, dict(step.input_map), dict(step.output_map)) for step in model.steps
        ]
    else:
        settings["output"] = [
            tuple(getattr(output, field.name) for field in fields(output) if field.name != "labels")
            for output in model.output
        ]
    return {"class": type(model), **settings}
