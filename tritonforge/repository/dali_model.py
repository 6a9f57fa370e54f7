"""DALI pipelines built from a function of the definition: ``model.dali``, the same bytes in any directory.

The function runs once, here, on data nodes; only the graph that it describes is stored. No GPU is needed, even for a
pipeline that will run on one.

A ``model.dali`` declares at most the element type and the number of dimensions of its outputs; extents are known only
when it runs, and DALI compares a declared type with the real one only then, at the first request. So the pipeline runs
here, on the CPU, on two generated samples of different size: an extent that is the same for both does not depend on
the sample.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tritonforge.datatypes import BY_CONFIG, TYPE_UINT8
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.signature import Difference, Signature, TensorSpec, compare_signatures
from tritonforge.repository.definition.models import Dali
from tritonforge.repository.definition.tensors import Input, Output
from tritonforge.repository.signature_check import build_specs

__all__ = ["compare_outputs", "write_pipeline"]


#: Threads where the model has no parameter ``num_threads``. Source: `PipelineDef.num_threads`, DALI's own default.
_NUM_THREADS = 4


def write_pipeline(model: Dali, path: Path) -> None:
    """Serialise the pipeline function of a model for its device.

    Raises:
        ArtifactError: DALI refuses the pipeline, or the function gives another number of outputs than stated.
    """
    data = dali_pipeline.strip_source(_serialize(model))
    if model.device == "cpu":
        data = dali_pipeline.move_to_cpu(data)
        _check_runs_here(model, data)
    path.write_bytes(data)


def _serialize(model: Dali) -> bytes:
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
            raise ArtifactError(f"{model.name}: {kind} {tensor.name!r} is {tensor.data_type}, which DALI does not have")
        return types.DALIDataType(dali_pipeline.NUMBERS[tensor.data_type])

    def ndim(tensor: Input | Output) -> int | None:
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        # DALI counts the dimensions of one sample; with max_batch_size 0 the dims begin with the batch.
        return None if dims is None else len(dims) - (0 if model.max_batch_size > 0 else 1)

    assert model.pipeline is not None
    function = model.pipeline
    if not model.input:
        raise ArtifactError(f"{model.name}: state the inputs of its pipeline function")
    options: dict[str, Any] = {}
    if model.output:
        options["output_dtype"] = [dtype(output) for output in model.output]
        options["output_ndim"] = [ndim(output) for output in model.output]
    pipeline = Pipeline(
        batch_size=max(1, model.max_batch_size),
        num_threads=_read_num_threads(model),
        device_id=None,  # the only way to write a GPU pipeline without a GPU
        **options,
    )
    try:
        with pipeline:
            nodes = [
                fn.external_source(name=tensor.name, device="cpu", dtype=dtype(tensor), ndim=ndim(tensor))
                for tensor in model.input
            ]
            results = function(*nodes)
            outputs: Sequence[Any] = results if isinstance(results, Sequence) else (results,)
            if model.output and len(outputs) != len(model.output):
                raise ArtifactError(
                    f"{model.name}: its pipeline function gives {len(outputs)} outputs, but the definition states "
                    f"{len(model.output)} ({', '.join(output.name for output in model.output)})"
                )
            for output in outputs:
                if not isinstance(output, DataNode):
                    kind = type(output).__name__
                    raise ArtifactError(f"{model.name}: its pipeline function gives a {kind}, not a DALI data node")
            pipeline.set_outputs(*outputs)
        return bytes(pipeline.serialize())
    except RuntimeError as error:
        raise ArtifactError(f"{model.name}: DALI refuses its pipeline: {_read_first_sentence(error)}") from error


def _check_runs_here(model: Dali, data: bytes) -> None:
    """Build the pipeline once, so that an operator without a CPU variant fails now, not when a server loads it."""
    from nvidia.dali.pipeline import Pipeline

    try:
        Pipeline.deserialize(data).build()
    except RuntimeError as error:
        raise ArtifactError(
            f"{model.name}: its pipeline cannot run on the CPU: {_read_first_sentence(error)}"
        ) from error


def _read_num_threads(model: Dali) -> int:
    value = model.parameters.get("num_threads", _NUM_THREADS)
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ArtifactError(f"{model.name}: parameter num_threads is {value!r}; write a whole number above 0")
    return number


def _read_first_sentence(error: Exception) -> str:
    """Return the sentence of a DALI error; the lines below it are stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentences = [line for line in lines if not line.startswith(("Error in", "Critical error"))]
    return (sentences or lines or [type(error).__name__])[0]


#: Extents of the two samples where a definition leaves them open: small, but enough for the usual crops and windows.
_EXTENTS: Final = ((320, 288), (272, 352))
#: The extent of a sample that has one dimension: a second of sound, for example.
_LENGTHS: Final = (16_000, 12_000)


def compare_outputs(model: Dali, data: bytes) -> list[str]:
    """Return one sentence for each output that is not what the definition states.

    Nothing is compared where DALI is not installed, the pipeline needs a GPU, or it cannot process the samples: their
    content is generated.
    """
    try:
        from nvidia.dali.pipeline import Pipeline
    except ImportError:
        return []
    undeclared = dali_pipeline.clear_declared_outputs(dali_pipeline.move_to_cpu(data))
    decodes = any(name in operator.name for operator in dali_pipeline.parse(data).op for name in ("Image", "image"))
    runs = []
    for number in range(len(_EXTENTS)):
        samples = {tensor.name: _build_sample(model, tensor, number, decodes=decodes) for tensor in model.input}
        if any(sample is None for sample in samples.values()):
            return []
        try:
            runs.append(_run(Pipeline, undeclared, samples))
        # DALI and its plugins raise anything; a pipeline may be right and not process these samples.
        except Exception:
            return []
    batched = model.max_batch_size > 0
    stated = Signature((), build_specs(model.output, batched=batched))
    found = Signature((), [_merge(first, second) for first, second in zip(*runs, strict=True)], positional_outputs=True)
    differences = compare_signatures(stated, found, batched=batched)
    return [sentence for difference in differences for sentence in _describe(difference, model)]


def _run(pipeline_class: Any, data: bytes, samples: dict[str, Any]) -> list[TensorSpec]:
    """Return each output of one run, with the shape of a batch."""
    options = {"batch_size": 1, "num_threads": 1, "device_id": None, "prefetch_queue_depth": 1}
    pipeline = pipeline_class.deserialize(serialized_pipeline=data, exec_async=False, exec_pipelined=False, **options)
    for name, sample in samples.items():
        pipeline.feed_input(name, [sample])
    specs = []
    for index, output in enumerate(pipeline.run()):
        shape = [int(size) for size in output.as_cpu().at(0).shape]
        specs.append(TensorSpec(str(index), dali_pipeline.DATA_TYPES.get(int(output.dtype)), [-1, *shape]))
    return specs


def _merge(first: TensorSpec, second: TensorSpec) -> TensorSpec:
    """Return what two runs have in common: extents that depend on the sample are open, and so is a rank that does."""
    left, right = first.shape or (), second.shape or ()
    if len(left) != len(right):
        return replace(first, shape=None)
    return replace(first, shape=[a if a == b else -1 for a, b in zip(left, right, strict=True)])


def _describe(difference: Difference, model: Dali) -> Iterator[str]:
    stated, found = difference.stated, difference.found
    if stated is None or found is None:
        return  # another number of outputs, which `signature_check` reports
    where = f"{model.name}: output {stated.name!r}"
    if difference.kind == "data_type":
        yield f"{where} is stated as {stated.data_type}, but its pipeline gives {found.data_type}"
        return
    batched = model.max_batch_size > 0
    dims, shape = (list(spec.shape or ())[1 if batched else 0 :] for spec in (stated, found))
    reshaped = any(tensor.name == stated.name and tensor.reshape is not None for tensor in model.output)
    varies = " (-1 varies with the input)" if -1 in list(found.shape or ())[1:] else ""
    yield (f"{where} is stated with {'reshape' if reshaped else 'dims'} {dims}, but its pipeline gives {shape}{varies}")


def _get_sample_dims(model: Dali, tensor: Input) -> tuple[int, ...] | None:
    """Return the dims of one sample: with ``max_batch_size`` 0 the batch is the first of the dims."""
    dims = tensor.reshape if tensor.reshape is not None else tensor.dims
    if dims is None:
        return None
    return tuple(dims) if model.max_batch_size > 0 else tuple(dims[1:])


def _build_sample(model: Dali, tensor: Input, number: int, *, decodes: bool) -> Any:
    """Return one sample of an input: an image file for a decoder, otherwise ones; None where type or dims are open."""
    import numpy as np

    dims = _get_sample_dims(model, tensor)
    if dims is None or tensor.data_type is None or tensor.data_type not in dali_pipeline.NUMBERS:
        return None
    if decodes and dims == (-1,) and tensor.data_type == TYPE_UINT8:
        return np.frombuffer(_encode_png(*_EXTENTS[number]), np.uint8)
    extents = (_LENGTHS[number],) if len(dims) == 1 else (*_EXTENTS[number], *(3 for _ in dims))
    shape = [extents[axis] if extent == -1 else extent for axis, extent in enumerate(dims)]
    return np.ones(shape, BY_CONFIG[tensor.data_type].dtype)


def _encode_png(height: int, width: int) -> bytes:
    """Return a PNG file (RFC 2083) of one colour: DALI's decoders recognise formats by their first bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits of red, green and blue
    rows = (b"\0" + b"\x80\x90\xa0" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
