"""The views of the models in a tree: each configuration parsed and completed as the server does on its own. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from tritonforge.pbtxt import Document, Message, parse
from tritonforge.triton import Image
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.inference import (
    Inferred,
    file_sought,
    infer,
    policy_of,
    read_version,
    versions_loaded,
)
from tritonforge.validation.rules.python_model import may_complete
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["build"]

#: Backends that fill in inputs and outputs from the model's file, whatever the configuration leaves out (facts: the
#: backends' own repositories). ONNX Runtime does so only when inputs or outputs are absent altogether.
_COMPLETING: Final = ("tensorrt", "openvino", "dali")


def build(
    tree: Tree,
    *,
    auto_complete: bool = True,
    target: Literal["triton", "sagemaker"] = "triton",
    image: Image | None = None,
    gpus: int | None = None,
    load: tuple[str, ...] | None = None,
    config_name: str = "",
) -> Context:
    """The context of a tree: a view of every directory in it, which is what the server takes for a model."""
    context = Context(tree, {}, auto_complete, target, image, gpus, load, config_name)
    models = {
        name: _view(name, tree, auto_complete=auto_complete, config_name=config_name, release=context.release)
        for name in tree.subdirectories()
    }
    return replace(context, models=models)


def _view(name: str, tree: Tree, *, auto_complete: bool, config_name: str, release: str) -> ModelView:
    config_path = f"{name}/config.pbtxt"
    if config_name and tree.kind(f"{name}/configs/{config_name}.pbtxt") != "missing":
        config_path = f"{name}/configs/{config_name}.pbtxt"
    entry = tree.entry(config_path)
    content = entry.content if entry is not None and entry.size <= MAXIMAL_TEXT else None
    document = parse(content if content is not None else "")
    readable = (tree.kind(config_path) == "missing" and not tree.leaves(name)) or content is not None
    directories: dict[int, str] = {}
    for directory in tree.subdirectories(name):
        number = read_version(directory).number
        if number is not None:
            directories.setdefault(number, f"{name}/{directory}")
            if read_version(directory).exact:
                directories[number] = f"{name}/{directory}"
    inferred = infer(name, document, tree, release)
    versions = versions_loaded(policy_of(document), directories)
    return ModelView(
        name=name,
        configured_name=document.text("name") or name,
        config_path=config_path,
        has_config=tree.kind(config_path) != "missing",
        parsed=readable and not document.problems,
        document=document,
        platform=inferred.platform,
        backend=inferred.backend,
        default_model_filename=inferred.default_model_filename,
        max_batch_size=document.integer("max_batch_size"),
        inputs=tuple([_tensor(node) for node in document.messages("input")]),
        outputs=tuple([_tensor(node) for node in document.messages("output")]),
        decoupled=_decoupled(document),
        version_directories=directories,
        versions=versions,
        completes=auto_complete and _completes(inferred, document, tree, [directories[each] for each in versions]),
    )


def _tensor(node: Message) -> TensorView:
    reshape = node.message("reshape")
    return TensorView(
        name=node.text("name"),
        data_type=node.text("data_type", "TYPE_INVALID"),
        dims=node.integers("dims"),
        reshape=None if reshape is None else reshape.integers("shape"),
        optional=node.flag("optional"),
        node=node,
    )


def _decoupled(document: Document) -> bool:
    policy = document.message("model_transaction_policy")
    return policy is not None and policy.flag("decoupled")


def _completes(inferred: Inferred, document: Document, tree: Tree, directories: list[str]) -> bool:
    """Whether the backend may change the configuration when it loads: its kind can, and its file is there."""
    sought = file_sought(inferred.backend, inferred.platform, inferred.default_model_filename)
    if not sought or not directories:
        return False
    path = f"{directories[-1]}/{sought}"
    if inferred.backend == "dali":
        return any(tree.kind(each) == "file" for each in (path, f"{directories[-1]}/dali.py"))
    if tree.kind(path) == "missing":
        return False
    if inferred.platform == "tensorflow_savedmodel" or inferred.backend in _COMPLETING:
        return True
    if inferred.backend == "onnxruntime":
        return not document.has("input") or not document.has("output")
    if inferred.backend == "python":
        return may_complete(tree, directories[-1], path)
    return inferred.backend not in ("tensorflow", "pytorch", "identity", "")
