"""A model as its backend completes it when it loads, where the model's file or its code shows how. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files.completion import Config, complete_onnx, complete_pipeline, complete_saved_model
from tritonforge.model_files.dali_pipeline import parse as parse_pipeline
from tritonforge.model_files.signature import UNSUPPORTED, Signature
from tritonforge.pbtxt import parse
from tritonforge.triton import changes
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.model_headers import find_signature, read_pipeline
from tritonforge.validation.python_completion import complete_config
from tritonforge.validation.python_models import read_python_models
from tritonforge.validation.tree import Tree

__all__ = ["complete_from_file", "complete_python_view", "complete_view"]


def complete_view(tree: Tree, view: ModelView) -> ModelView:
    """Return the view as its backend completes it, where the header of the file states all of it; else unchanged."""
    signature = find_signature(tree, view)
    tensors = (*signature.inputs, *signature.outputs) if signature is not None else ()
    if signature is None or any(tensor.data_type in (None, UNSUPPORTED) or tensor.shape is None for tensor in tensors):
        return view
    try:
        config = complete_from_file(tree, view, signature)
    except ArtifactError:
        return view
    return replace(
        view,
        inputs=tuple([_build_completed(tensor, "input", view.inputs) for tensor in config["input"]]),
        outputs=tuple([_build_completed(tensor, "output", view.outputs) for tensor in config["output"]]),
        max_batch_size=config["max_batch_size"],
        completes=False,
        is_completed=True,
        adds_dynamic_batching="dynamic_batching" in config,
    )


def complete_from_file(tree: Tree, view: ModelView, signature: Signature) -> Config:
    """Return the configuration in its JSON form, with what the backend fills in from the file.

    Raises:
        ArtifactError: the backend cannot complete it, with the backend's reason.
    """
    config = _build_json_config(view)
    if view.backend == "dali":
        pipeline = parse_pipeline(read_pipeline(tree, view) or b"")
        has_size = view.document.has("max_batch_size")
        complete_pipeline(config, signature, None if has_size else pipeline.batch_size)
    elif view.backend == "onnxruntime":
        complete_onnx(config, signature)
    else:
        complete_saved_model(config, signature)
    return config


def _build_json_config(view: ModelView) -> Config:
    """Return what a completion looks at, in the JSON form."""
    config: Config = {"name": view.name, "max_batch_size": view.max_batch_size}
    for key, tensors in (("input", view.inputs), ("output", view.outputs)):
        config[key] = [
            {
                "name": tensor.name,
                "data_type": tensor.data_type,
                "dims": list(tensor.dims),
                "optional": tensor.optional,
                "allow_ragged_batch": tensor.node.flag("allow_ragged_batch"),
                **({} if tensor.reshape is None else {"reshape": {"shape": list(tensor.reshape)}}),
            }
            for tensor in tensors
        ]
    for scheduler in ("sequence_batching", "dynamic_batching"):
        if view.document.has(scheduler):
            config[scheduler] = {}
    return config


def complete_python_view(context: Context, view: ModelView) -> ModelView:
    """Return the view as its ``auto_complete_config`` makes it, where that is known; else unchanged."""
    codes = read_python_models(context, view)
    member = codes[0].members.get("auto_complete_config") if codes else None
    completion = complete_config(view, member) if member is not None else None
    if completion is None or completion.problem or not context.has(changes.PYTHON_COMPLETION_OPTIONAL):
        return view
    inputs = [_build_completed(asdict(tensor), "input", view.inputs) for tensor in completion.inputs]
    outputs = [_build_completed(asdict(tensor), "output", view.outputs) for tensor in completion.outputs]
    return replace(
        view,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=completion.max_batch_size,
        decoupled=completion.decoupled,
        completes=False,
        is_completed=True,
        adds_dynamic_batching=completion.dynamic_batching,
    )


def _build_completed(tensor: Mapping[str, Any], kind: str, stated: Sequence[TensorView]) -> TensorView:
    """Return the view of a completed tensor; one that the configuration does not state has a node of its own."""
    name, data_type, dims = tensor["name"], tensor["data_type"], tuple(tensor["dims"])
    view = next((view for view in stated if view.name == name), None)
    if view is None:
        text = f"name: {json.dumps(name)} data_type: {data_type} dims: {list(dims)}"
        (node,) = parse(f"{kind} {{ {text} }}").messages(kind)
        view = TensorView(name, "", (), None, optional=False, node=node)
    reshape = tuple(tensor["reshape"]["shape"]) if "reshape" in tensor else None
    return replace(view, data_type=data_type, dims=dims, reshape=reshape, optional=tensor.get("optional", False))
