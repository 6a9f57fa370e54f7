"""What a DALI pipeline declares, against what the configuration says: checks and completion. This module does no I/O.

Only what is declared is compared: ``dtype=``, ``ndim=`` or ``layout=`` of an external source, ``output_dtype`` and
``output_ndim`` of the pipeline. The messages are dali_backend's own (src/config_tools/config_tools.cc).
"""

from __future__ import annotations

from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import UNSUPPORTED, Difference, Signature, TensorSpec, compare_signatures
from tritonforge.serving.backends.config_check import build_specs
from tritonforge.serving.backends.configuration import Configuration

__all__ = ["check", "complete"]


def check(config: Configuration, declared: Signature) -> None:
    """Compare inputs by name and outputs by position; raises ArtifactError with the first difference."""
    for tensor in (*config.inputs, *config.outputs):
        if tensor.data_type == UNSUPPORTED:
            raise ArtifactError(f'Missing data_type config for "{tensor.name}"')
    # Of a shape only the number of dimensions is declared.
    stated = Signature(build_specs(config.inputs), build_specs(config.outputs))
    for difference in compare_signatures(stated, declared, batched=config.batched):
        raise ArtifactError(_describe(difference, config, declared))


def _describe(difference: Difference, config: Configuration, declared: Signature) -> str:
    stated, found = difference.stated, difference.found
    if difference.kind == "count":
        return (
            "The number of outputs specified in the DALI pipeline and the configuration file do not match. "
            f"Model config outputs: {len(config.outputs)}, pipeline outputs: {len(declared.outputs)}"
        )
    if stated is None:
        assert found is not None
        return f'Missing config for "{found.name}" input.'
    if found is None:
        return f"Configuration file contains config for {stated.name} but such input is not present in the pipeline."
    if difference.kind == "data_type":
        return (
            f'Mismatch of data_type config for "{stated.name}". Data type defined in config: {stated.data_type}. '
            f"Data type defined in pipeline: {found.data_type}"
        )
    return (
        f'Mismatch in number of dimensions for "{stated.name}". '
        f"Number of dimensions defined in config: {len(stated.shape or ()) - 1}. "
        f"Number of dimensions defined in pipeline: {len(found.shape or ()) - 1}"
    )


def complete(config: Any, declared: Signature, batch_size: int | None) -> None:
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


def _fill(given: dict[str, Any], declared: TensorSpec, *, batched: bool) -> None:
    if given["data_type"] == "TYPE_INVALID" and declared.data_type is not None:
        given["data_type"] = declared.data_type
    if not given["dims"] and "reshape" not in given and declared.shape is not None:
        given["dims"] = list(declared.shape[1:] if batched else declared.shape)
