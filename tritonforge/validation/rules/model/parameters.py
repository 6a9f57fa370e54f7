"""Parameters of a model that name files: a batching library, a Python environment. No I/O.

Source: backend_model.cc TritonModel::Create; python_backend pb_env.cc EnvironmentManager::ExtractIfNotExtracted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.model.report import report
from tritonforge.validation.rules.paths import Whereabouts, locate
from tritonforge.validation.rules.releases import library_escapes

__all__ = ["ENVIRONMENT", "batching_library", "execution_environment", "value_of"]

_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
#: The parameter that names the Python environment of a model.
ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
#: What the server replaces by the model's directory.
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"


def value_of(view: ModelView, name: str) -> tuple[str, Node] | None:
    """The string of a parameter and its place; None where the parameter is absent."""
    entry = view.document.entries("parameters").get(name)
    if entry is None:
        return None
    value = entry.message("value")
    return (value.text("string_value") if value is not None else ""), (
        value.one("string_value") if value is not None else None
    ) or entry


def batching_library(context: Context, view: ModelView) -> Iterator[Finding]:
    """The batching library that a parameter names."""
    found = value_of(view, _STRATEGY)
    if found is None or view.is_ensemble:
        return
    path, node = found
    if view.document.has("sequence_batching"):
        words = f"{_STRATEGY} cannot be specified with sequence batcher, using default batching strategy"
        yield report(view, "E292", words, node)
        return
    if library_escapes(context, view, path):
        return  # refused as such (E609)
    whereabouts = locate(context, path)
    if whereabouts == "missing":
        yield report(view, "E293", f"Batching library path not found: {path}", node)
    elif whereabouts == "elsewhere":
        yield _elsewhere(view, path, node)


def execution_environment(context: Context, view: ModelView) -> Iterator[Finding]:
    """The Python environment that a parameter names: an archive, or the directory of one."""
    found = value_of(view, ENVIRONMENT) if view.backend == "python" and view.versions else None
    if found is None or not found[0]:
        return
    path, node = found
    whereabouts: Whereabouts
    if path.startswith(_MODEL_DIRECTORY):
        path, whereabouts = _in_model(context, view, path.removeprefix(_MODEL_DIRECTORY))
    else:
        whereabouts = locate(context, path)
    if whereabouts == "missing":
        words = f"Failed to get the canonical path for {path}."
        yield report(view, "E295", words, node, "put the environment there, or leave the parameter out")
    elif whereabouts == "elsewhere":
        yield _elsewhere(view, path, node)


def _in_model(context: Context, view: ModelView, below: str) -> tuple[str, Whereabouts]:
    """A path that begins at the model's directory, as the server prints it, and what is there."""
    tree = context.tree
    parts: list[str] = [view.name]
    for part in below.split("/"):
        if part == "..":
            if not parts:
                # SageMaker has nothing around the repository.
                return f"<repo>/{view.name}{below}", "missing" if context.target == "sagemaker" else "elsewhere"
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    inside = parts[:1] == [view.name] and len(parts) > 1
    # The server takes the dots out of a path that leaves the model's directory only.
    shown = f"{view.name}{below}" if inside else "/".join(parts)
    return f"<repo>/{shown}", tree.kind(f"{view.name}{below}")


def _elsewhere(view: ModelView, path: str, node: Node) -> Finding:
    words = f"{path} lies outside the repository: the model loads only where this file exists"
    return report(view, "W295", words, node, "put the file into the repository")
