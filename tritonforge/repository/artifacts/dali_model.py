"""DALI pipelines made from a function of the definition: ``model.dali``, the same bytes from any folder.

The function is run once, here, on data nodes; only the graph that it describes is stored. No GPU is needed, even for a
pipeline that will run on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import dali_pipeline
from tritonforge.repository.definition.models import Dali
from tritonforge.repository.definition.tensors import Input, Output

__all__ = ["write_pipeline"]

#: Threads where the model has no parameter ``num_threads``. Source: `PipelineDef.num_threads`, DALI's own default.
_NUM_THREADS = 4


def write_pipeline(model: Dali, path: Path) -> None:
    """Serialise the pipeline function of a model for its device.

    Raises:
        ArtifactError: DALI refuses the pipeline, or the function gives another number of outputs than stated.
    """
    data = dali_pipeline.stripped(_serialised(model))
    if model.device == "cpu":
        data = dali_pipeline.on_cpu(data)
        _check_runs_here(model, data)
    path.write_bytes(data)


def _serialised(model: Dali) -> bytes:
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.data_node import DataNode
        from nvidia.dali.pipeline import Pipeline
    except ImportError as error:
        raise MissingExtraError("nvidia.dali", extra="local") from error

    def dtype(tensor: Input | Output) -> Any:
        if tensor.data_type is None:
            return None
        if tensor.data_type not in dali_pipeline.NUMBERS:
            kind = type(tensor).__name__.lower()
            raise ArtifactError(f"{model.name}: {kind} {tensor.name!r} is {tensor.data_type}, which DALI has not")
        return types.DALIDataType(dali_pipeline.NUMBERS[tensor.data_type])

    def ndim(tensor: Input | Output) -> int | None:
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        # DALI counts the dimensions of one sample; with max_batch_size 0 the dims begin with the batch.
        return None if dims is None else len(dims) - (0 if model.max_batch_size > 0 else 1)

    assert model.pipeline is not None
    function = model.pipeline
    if not model.input:
        raise ArtifactError(f"{model.name}: state the inputs that its pipeline function takes")
    options: dict[str, Any] = {}
    if model.output:
        options["output_dtype"] = [dtype(each) for each in model.output]
        options["output_ndim"] = [ndim(each) for each in model.output]
    pipeline = Pipeline(
        batch_size=max(1, model.max_batch_size),
        num_threads=_num_threads(model),
        device_id=None,  # a GPU pipeline can be written without one only so
        **options,
    )
    try:
        with pipeline:
            nodes = [
                fn.external_source(name=each.name, device="cpu", dtype=dtype(each), ndim=ndim(each))
                for each in model.input
            ]
            results = function(*nodes)
            outputs: Sequence[Any] = results if isinstance(results, Sequence) else (results,)
            if model.output and len(outputs) != len(model.output):
                raise ArtifactError(
                    f"{model.name}: its pipeline function gives {len(outputs)} outputs, but the definition states "
                    f"{len(model.output)} ({', '.join(each.name for each in model.output)})"
                )
            strange = [each for each in outputs if not isinstance(each, DataNode)]
            if strange:
                raise ArtifactError(
                    f"{model.name}: its pipeline function gives a {type(strange[0]).__name__}, not a DALI data node"
                )
            pipeline.set_outputs(*outputs)
        return bytes(pipeline.serialize())
    except RuntimeError as error:
        raise ArtifactError(f"{model.name}: DALI refuses its pipeline: {_first_line(error)}") from error


def _check_runs_here(model: Dali, data: bytes) -> None:
    """Build the pipeline once: an operator that exists on the GPU only is found now, not when a server loads it."""
    from nvidia.dali.pipeline import Pipeline

    try:
        Pipeline.deserialize(data).build()
    except RuntimeError as error:
        raise ArtifactError(f"{model.name}: its pipeline cannot run on the CPU: {_first_line(error)}") from error


def _num_threads(model: Dali) -> int:
    value = model.parameters.get("num_threads", _NUM_THREADS)
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ArtifactError(f"{model.name}: parameter num_threads is {value!r}; write a whole number above 0")
    return number


def _first_line(error: Exception) -> str:
    """The sentence of a DALI error; the lines below it are stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentences = [line for line in lines if not line.startswith(("Error in", "Critical error"))]
    return (sentences or lines or [type(error).__name__])[0]
