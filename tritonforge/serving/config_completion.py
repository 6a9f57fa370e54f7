"""Configurations that are complete without their backends, so that tritonserver need not complete them.

To complete the configuration of a model ("auto-complete"), tritonserver starts a Python stub, and sleeps for a second
before it ends the stub; a second one then loads the model (python_backend src/stub_launcher.cc `UpdateHealth`). With
``--disable-auto-complete-config`` there is one stub for each instance, and no sleep. The flag changes three things
(r24.10): a model without config.pbtxt is refused and inputs and outputs are checked earlier
(model_repository_manager.cc, ``autofill_``), and `auto_complete_config` is not called (python_be.cc
`ModelState::Create`), so that nothing is added and errors of that function do not occur.

So the flag is only for repositories in which none of these can make a difference: what every model's backend adds is
known and written into its configuration, which passes those checks; the labels exist, whose errors would come before
those of the model's code. The flag is the server's: one model in doubt keeps it from all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge.triton.backends import BACKENDS, find_model_filename, find_platform
from tritonforge.triton.schema import ModelConfig, new_model_config
from tritonforge.validation.context import ModelView, Options
from tritonforge.validation.loaded_config import apply_completion
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree_reader import read_tree

if TYPE_CHECKING:
    from tritonforge.validation.tree import Tree

__all__ = ["FLAG", "complete_configs", "read_complete_configs"]

#: The option of tritonserver for models that need no completion.
FLAG: Final = "--disable-auto-complete-config"

#: Arguments that change nothing about how models are loaded.
_UNRELATED_ARGUMENTS: Final = ("--trace-config=", "--log-")
#: The statement that defines the model's class; another way to define it is not looked for.
_CLASS: Final = re.compile(rb"^class[ \t]+TritonPythonModel\b", re.MULTILINE)
#: Calls that may add a function to a class out of sight.
_DYNAMIC: Final = re.compile(rb"(?<![.\w])(?:exec|eval|globals|setattr)[ \t]*\(")
#: A library in the directory of a model replaces the backend (backend_model.cc `GetBackendLibrarySearchPaths`).
_LIBRARY: Final = re.compile(r"libtriton_.*\.so|batchstrategy\.so")


def read_complete_configs(
    repository: Path, models: Collection[str], arguments: Sequence[str], *, is_stand_in: bool = False
) -> dict[str, ModelConfig] | None:
    """Return what `complete_configs` does for a directory; None also where other ``arguments`` may change loading."""
    if not all(argument.startswith(_UNRELATED_ARGUMENTS) for argument in arguments):
        return None
    try:
        tree = read_tree(repository, max_summed=0)
    except OSError:
        return None
    return complete_configs(tree, models, is_stand_in=is_stand_in)


def complete_configs(
    tree: Tree, models: Collection[str], *, is_stand_in: bool = False
) -> dict[str, ModelConfig] | None:
    """Return the completed configurations of the models that a backend adds something to, by model.

    None if what tritonserver does with one of them may depend on auto-complete. With ``is_stand_in`` every backend is
    replaced by one that adds nothing (`server_check`).
    """
    if tree.truncated:
        return None
    context = build_context(tree, Options(auto_complete=not is_stand_in))
    completed: dict[str, ModelConfig] = {}
    for name in models:
        view = context.models.get(name)
        stated = None if view is None else _parse_plain_config(tree, view)
        if view is None or stated is None or not (view.is_ensemble or is_stand_in or _is_known(tree, view)):
            return None
        config = _complete(stated, view)
        if config is None or not _passes_checks(tree, name, config):
            return None
        if config != stated:
            completed[name] = config
    return completed


def _parse_plain_config(tree: Tree, view: ModelView) -> Any:
    """Return the configuration of a file that all parsers read alike and nothing redirects; None for others."""
    from google.protobuf import text_format

    entry = tree.entry(view.config_path)
    content = None if entry is None else entry.content
    if not view.has_config or not view.parsed or content is None or not content.isascii() or b"\\" in content:
        return None
    config: Any = new_model_config()
    try:
        text_format.Parse(content, config)
    except text_format.ParseError:
        return None
    is_redirected = config.runtime or config.HasField("model_repository_agents")
    return None if is_redirected or "TRITON_BATCH_STRATEGY_PATH" in config.parameters else config


def _is_known(tree: Tree, view: ModelView) -> bool:
    """Return True if it is known what the backend of a model adds to its configuration, or that it adds nothing."""
    backend, platform = BACKENDS.get(view.backend), find_platform(view.platform)
    if backend is None or view.completes or len(view.versions) != 1:
        return False
    directory = view.version_directories[view.versions[0]]
    if any(_LIBRARY.fullmatch(name) for name in (*tree.children(view.name), *tree.children(directory))):
        return False
    if backend.is_local and backend.completion == "never":
        return True
    file = f"{directory}/{find_model_filename(view.backend, view.platform, view.default_model_filename)}"
    if tree.kind(file) == "missing":
        return False
    if backend.name == "python":
        entry = tree.entry(file)
        content = None if entry is None else entry.content
        # Its auto_complete_config is called, whatever is known of it.
        is_plain = content is not None and bool(_CLASS.search(content)) and not _DYNAMIC.search(content)
        return is_plain and not view.is_completed
    if backend.completion == "undeclared" or (platform is not None and not platform.has_signature):
        return backend.is_local
    return backend.is_local and view.is_completed


def _complete(stated: Any, view: ModelView) -> Any:
    """Return the configuration with what its backend adds; None where inputs, outputs or the batch size are added.

    Those belong to a configuration that is not complete: then the checks of the two ways differ.
    """
    completed: Any = new_model_config()
    completed.CopyFrom(stated)
    if view.is_completed:
        apply_completion(completed, view)
    return completed if _clear_additions(completed) == _clear_additions(stated) else None


def _clear_additions(config: Any) -> Any:
    """Return the configuration without what DALI and TensorFlow add to every one that batches."""
    cleared: Any = new_model_config()
    cleared.CopyFrom(config)
    for tensor in cleared.input:
        tensor.allow_ragged_batch = False
    cleared.ClearField("dynamic_batching")
    return cleared


def _passes_checks(tree: Tree, name: str, config: Any) -> bool:
    """Return True if inputs and outputs are valid (model_config_utils.cc `ValidateModelIOConfig`) and labels exist."""
    if config.batch_input or config.batch_output:
        return False
    labels = [tensor.label_filename for tensor in config.output if tensor.label_filename]
    return (
        all(tree.kind(f"{name}/{label}") == "file" for label in labels)
        and all(not tensor.format or len(tensor.dims) == len("HWC") for tensor in config.input)
        and all(_is_valid(tensor, config) for tensor in (*config.input, *config.output))
    )


def _is_valid(tensor: Any, config: Any) -> bool:
    """Return True if core surely accepts an input or output; False also where it may."""
    if not tensor.name or not tensor.data_type or tensor.is_shape_tensor or tensor.is_non_linear_format_io:
        return False
    extents = (*tensor.dims, *tensor.reshape.shape)
    if not tensor.dims or any(extent < 1 and extent != -1 for extent in extents):
        return False
    if not tensor.HasField("reshape"):
        return True
    is_empty = not tensor.reshape.shape
    return (
        -1 not in extents
        and math.prod(tensor.dims) == math.prod(tensor.reshape.shape)
        and not (is_empty and config.max_batch_size == 0)
    )
