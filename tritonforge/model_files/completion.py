"""What Triton's backends fill in from a model's file where a configuration leaves it out ("auto-complete"). No I/O.

A configuration is the JSON form of a ModelConfig, with ``dims`` as integers and an absent ``data_type`` as
"TYPE_INVALID", as Triton's Python stub passes it; the functions change it in place. Sources: tensorflow_backend
src/tensorflow.cc and onnxruntime_backend src/onnxruntime.cc `AutoCompleteConfig`, dali_backend src/dali_model.h
`AutoCompleteConfig`, src/config_tools/config_tools.cc.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import UNSUPPORTED, Signature, TensorSpec

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "Config", "complete_onnx", "complete_pipeline", "complete_saved_model"]

#: A ModelConfig in its JSON form.
Config: TypeAlias = "dict[str, Any]"

#: The ``max_batch_size`` of a completed model that batches (server's ``default-max-batch-size``; backend_common).
DEFAULT_MAX_BATCH_SIZE: Final = 4

_INVALID: Final = "TYPE_INVALID"


def complete_onnx(config: Config, signature: Signature) -> None:
    """Fill in what ONNX Runtime's backend does: nothing if the configuration has both inputs and outputs.

    Raises:
        ArtifactError: the configuration asks for batches and the model cannot.
    """
    if config.get("input") and config.get("output"):
        return
    if _can_batch(signature):
        config["max_batch_size"] = int(config["max_batch_size"]) or DEFAULT_MAX_BATCH_SIZE
        _add_dynamic_batching(config)
    elif int(config["max_batch_size"]):
        raise ArtifactError(
            f"autofill failed for model '{config['name']}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    first = int(config["max_batch_size"] > 0)
    for key, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        if config.get(key):
            continue
        config[key] = []
        for tensor in tensors:
            if tensor.data_type in (None, UNSUPPORTED) or tensor.shape is None:
                continue  # the configuration has to state what the file does not
            stated: dict[str, Any] = {"name": tensor.name, "data_type": tensor.data_type}
            stated["dims"] = list(tensor.shape[first:]) or [1]
            if first and len(tensor.shape) <= 1:
                stated["reshape"] = {"shape": []}
            config[key].append(stated)


def complete_saved_model(config: Config, signature: Signature) -> None:
    """Fill in inputs, outputs, their types and dims, and batching as TensorFlow's backend does for a SavedModel.

    Raises:
        ArtifactError: the configuration asks for batches and the model cannot, or its dims contradict each other.
    """
    batches = _can_batch(signature) and _has_batch_hint(config, signature)
    if int(config["max_batch_size"]) > 0 and not _can_batch(signature):
        raise ArtifactError(
            f"unable to autofill for '{config['name']}', configuration specified max-batch {config['max_batch_size']} "
            "but model signature does not support batching"
        )
    if not int(config["max_batch_size"]):
        config["max_batch_size"] = DEFAULT_MAX_BATCH_SIZE if batches else 0
    _add_dynamic_batching(config)
    for key, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        stated_tensors = {stated["name"]: stated for stated in config.setdefault(key, [])}
        for tensor in tensors:
            if key == "output" and stated_tensors and tensor.name not in stated_tensors:
                continue  # a configuration that names some outputs has these alone
            if tensor.data_type in (None, UNSUPPORTED) or tensor.shape is None:
                continue  # the configuration has to state what the file does not
            stated = stated_tensors.get(tensor.name)
            if stated is None:
                stated = {"name": tensor.name, "data_type": _INVALID, "dims": []}
                config[key].append(stated)
            if stated["data_type"] == _INVALID:
                stated["data_type"] = tensor.data_type
            if not stated["dims"]:
                stated["dims"] = list(tensor.shape[1:] if batches else tensor.shape)
                if not stated["dims"]:
                    stated.update(dims=[1], reshape={"shape": []})


def _can_batch(signature: Signature) -> bool:
    """Return True if the first dimension of every tensor varies."""
    tensors = (*signature.inputs, *signature.outputs)
    return all(tensor.shape is not None and tuple(tensor.shape[:1]) == (-1,) for tensor in tensors)


def _has_batch_hint(config: Config, signature: Signature) -> bool:
    """Return True if the tensors of a configuration have one dimension less than those of the file, or no dims yet."""
    stated = [*config.get("input", ()), *config.get("output", ())]
    if not stated or any(tensor.get("allow_ragged_batch") for tensor in stated):
        return True
    shapes = {tensor.name: tensor.shape or () for tensor in (*signature.inputs, *signature.outputs)}
    has_hint, hints = False, set()
    for tensor in stated:
        dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
        if not shapes.get(tensor["name"]):
            continue
        if dims:
            hints.add(len(dims) == len(shapes[tensor["name"]]) - 1)
        has_hint = True
    if len(hints) > 1:
        raise ArtifactError(
            f"unable to autofill for '{config['name']}', model tensor configurations are contradicting each other in "
            "terms of whether batching is supported"
        )
    return has_hint and hints != {False}


def _add_dynamic_batching(config: Config) -> None:
    if "sequence_batching" not in config and int(config["max_batch_size"]) > 1:
        config.setdefault("dynamic_batching", {})


def complete_pipeline(config: Config, signature: Signature, batch_size: int | None) -> None:
    """Fill in what a DALI pipeline declares, and ``batch_size`` as max_batch_size unless it is None.

    Outputs are matched by their order. Every input of a batched model accepts samples of different sizes, and its
    requests are batched dynamically.
    """
    if batch_size:
        config["max_batch_size"] = batch_size
    batched = int(config["max_batch_size"]) > 0
    inputs = {tensor["name"]: tensor for tensor in config.setdefault("input", [])}
    for tensor in signature.inputs:
        if tensor.name not in inputs:
            inputs[tensor.name] = {"name": tensor.name, "data_type": _INVALID, "dims": []}
            config["input"].append(inputs[tensor.name])
        _complete_tensor(inputs[tensor.name], tensor, batched=batched)
        if batched:
            inputs[tensor.name]["allow_ragged_batch"] = True
    outputs = config.setdefault("output", [])
    for place, tensor in enumerate(signature.outputs):
        if place == len(outputs):
            outputs.append({"name": tensor.name, "data_type": _INVALID, "dims": []})
        _complete_tensor(outputs[place], tensor, batched=batched)
    if batched and "sequence_batching" not in config:
        config.setdefault("dynamic_batching", {})


def _complete_tensor(stated: dict[str, Any], declared: TensorSpec, *, batched: bool) -> None:
    if stated["data_type"] == _INVALID and declared.data_type is not None:
        stated["data_type"] = declared.data_type
    if not stated["dims"] and "reshape" not in stated and declared.shape is not None:
        stated["dims"] = list(declared.shape[1:] if batched else declared.shape)
