"""What a DALI pipeline declares, against what the configuration says: checks and completion. This module does no I/O.

Only what is declared is compared: ``dtype=``, ``ndim=`` or ``layout=`` of an external source, ``output_dtype`` and
``output_ndim`` of the pipeline. The messages are dali_backend's own (src/config_tools/config_tools.cc).
"""

from __future__ import annotations

from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files.dali_pipeline import DaliSignature, DaliTensor
from tritonforge.serving.backends.configuration import Configuration, Tensor

__all__ = ["check", "complete"]


def check(config: Configuration, declared: DaliSignature) -> None:
    """Compare inputs by name and outputs by position; raises ArtifactError with the first disagreement."""
    inputs = {each.name: each for each in declared.inputs}
    for tensor in config.inputs:
        if tensor.name not in inputs:
            raise ArtifactError(
                f"Configuration file contains config for {tensor.name} but such input is not present in the pipeline."
            )
        _check_tensor(config, tensor, inputs[tensor.name])
    for name in inputs:
        if name not in {each.name for each in config.inputs}:
            raise ArtifactError(f'Missing config for "{name}" input.')
    if len(config.outputs) != len(declared.outputs):
        raise ArtifactError(
            "The number of outputs specified in the DALI pipeline and the configuration file do not match. "
            f"Model config outputs: {len(config.outputs)}, pipeline outputs: {len(declared.outputs)}"
        )
    for tensor, output in zip(config.outputs, declared.outputs, strict=True):
        _check_tensor(config, tensor, output)


def complete(config: Any, declared: DaliSignature, batch_size: int | None) -> None:
    """Fill in types and dims that the pipeline declares; ``batch_size`` where max_batch_size is to be set.

    Every input of a batched model takes samples of different sizes, and its requests are batched dynamically.
    """
    parts = config.as_dict()
    if batch_size:
        config.set_max_batch_size(batch_size)
    batched = int(parts["max_batch_size"]) > 0
    inputs = {each["name"]: each for each in parts.setdefault("input", [])}
    for tensor in declared.inputs:
        if tensor.name not in inputs:
            inputs[tensor.name] = {"name": tensor.name, "data_type": "TYPE_INVALID", "dims": []}
            parts["input"].append(inputs[tensor.name])
        _fill(inputs[tensor.name], tensor, batched=batched)
        if batched:
            inputs[tensor.name]["allow_ragged_batch"] = True
    outputs = parts.setdefault("output", [])
    for place, tensor in enumerate(declared.outputs):
        if place == len(outputs):
            outputs.append({"name": tensor.name, "data_type": "TYPE_INVALID", "dims": []})
        _fill(outputs[place], tensor, batched=batched)
    if batched and "sequence_batching" not in parts:
        config.set_dynamic_batching()


def _fill(given: dict[str, Any], declared: DaliTensor, *, batched: bool) -> None:
    if given["data_type"] == "TYPE_INVALID" and declared.data_type is not None:
        given["data_type"] = declared.data_type
    if not given["dims"] and "reshape" not in given and declared.ndim is not None:
        given["dims"] = [-1] * (declared.ndim + (0 if batched else 1))


def _check_tensor(config: Configuration, tensor: Tensor, declared: DaliTensor) -> None:
    if tensor.data_type == "TYPE_INVALID":
        raise ArtifactError(f'Missing data_type config for "{tensor.name}"')
    # A model that does not batch has the samples as the first of its dims.
    ndim = len(tensor.dims) - (0 if config.batched else 1)
    if declared.ndim is not None and ndim != declared.ndim:
        raise ArtifactError(
            f'Mismatch in number of dimensions for "{tensor.name}". Number of dimensions defined in config: {ndim}. '
            f"Number of dimensions defined in pipeline: {declared.ndim}"
        )
    if declared.data_type is not None and tensor.data_type != declared.data_type:
        raise ArtifactError(
            f'Mismatch of data_type config for "{tensor.name}". Data type defined in config: {tensor.data_type}. '
            f"Data type defined in pipeline: {declared.data_type}"
        )
