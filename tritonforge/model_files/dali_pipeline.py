"""A serialised NVIDIA DALI pipeline (``model.dali``) as a value: read it, strip it, move it to the CPU. No I/O here.

DALI stores a pipeline as one protobuf message, `PipelineDef`, of which this module declares the parts it needs; other
fields are kept as they are. The layout was read from the descriptor inside DALI 2.4.0 (`dali.proto`, package
``dali_proto``) and lives in a descriptor pool of its own, so that it cannot conflict with DALI's copy.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.triton.schema import OPTIONAL, REPEATED, REQUIRED, Field, build_message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CPU_ONLY", "DATA_TYPES", "NUMBERS", "clear_declared_outputs", "move_to_cpu", "needs_gpu", "parse",
           "read_signature", "strip_source"]  # fmt: skip

#: A `PipelineDef` message; protobuf makes its class at run time.
PipelineDef: TypeAlias = Any

#: `device_id` of a pipeline that was made without a GPU. Source: `nvidia.dali.types.CPU_ONLY_DEVICE_ID` of DALI 2.4.0.
CPU_ONLY: Final = -99999

#: DALI's element type number -> config name. Source: DALI include/dali/core/dali_data_type.h, `DALIDataType`; the same
#: numbers as `nvidia.dali.types.DALIDataType` 2.4.0. DALI's backend does not support its text types.
DATA_TYPES: Final[Mapping[int, str]] = MappingProxyType({
    0: datatypes.TYPE_UINT8, 1: datatypes.TYPE_UINT16, 2: datatypes.TYPE_UINT32, 3: datatypes.TYPE_UINT64,
    4: datatypes.TYPE_INT8, 5: datatypes.TYPE_INT16, 6: datatypes.TYPE_INT32, 7: datatypes.TYPE_INT64,
    8: datatypes.TYPE_FP16, 9: datatypes.TYPE_FP32, 10: datatypes.TYPE_FP64, 11: datatypes.TYPE_BOOL,
})  # fmt: skip

#: Config name -> DALI's element type number.
NUMBERS: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in DATA_TYPES.items()})

#: Operators that the server feeds. Source: `ExternalSource` as Python writes it now and wrote it in 1.x, and DALI's
#: folder dali/operators/video/input.
_INPUT_OPERATORS: Final = frozenset(
    {"ExternalSource", "_ExternalSource", "inputs__Video", "experimental__inputs__Video"}
)

#: Arguments that describe the Python source, not the computation; older DALI versions reject unknown names.
_SOURCE_ARGUMENTS: Final = frozenset({"_module", "_display_name", "preserve_name"})
_SOURCE_PREFIX: Final = "_origin_stack_"

_GPU: Final = frozenset({"gpu", "mixed"})
_UNDECLARED: Final = -1


def parse(data: bytes) -> PipelineDef:
    """Return the `PipelineDef` message of a ``model.dali``; raise ArtifactError if the bytes are not one."""
    message = _pipeline_def_class()()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise ArtifactError(f"this is not a serialised DALI pipeline: {error}") from error
    missing = message.FindInitializationErrors()
    if missing:
        raise ArtifactError(f"this is not a serialised DALI pipeline: it lacks {', '.join(missing)}")
    if not message.op or not message.pipe_outputs:
        raise ArtifactError("this is not a serialised DALI pipeline: it has no operators or no outputs")
    # protobuf returns a text field that is not UTF-8 as bytes, which means that the file is damaged.
    if not all(isinstance(text, str) for text in _list_texts(message)):
        raise ArtifactError("this is not a serialised DALI pipeline: a name in it is not text")
    return message


def read_signature(data: bytes) -> Signature:
    """Return what a pipeline declares about its inputs, in the order of the file, and its outputs by position.

    DALI declares the dimensions of one sample; the batch comes before them, also with ``max_batch_size`` 0. Extents are
    not declared, and an output's name is DALI's own. Raises ArtifactError for a type that Triton's DALI cannot carry.
    """
    message = parse(data)
    return Signature(
        [_read_input(operator) for operator in message.op if operator.name in _INPUT_OPERATORS],
        [_build_tensor(output.name, output.dtype, output.ndim, output.layout) for output in message.pipe_outputs],
        positional_outputs=True,
    )


def strip_source(data: bytes) -> bytes:
    """Return the pipeline without traces of its Python source: no file names, no lines of code, no module names.

    The bytes depend on the computation alone, so that builds in two directories are equal, and they have no argument
    that only newer DALI versions accept. A pipeline with GPU operators that was written without a GPU is placed on GPU
    0, as if it had been written there.
    """
    message = parse(data)
    if message.device_id == CPU_ONLY and _needs_gpu(message):
        message.device_id = 0
    for operator in message.op:
        for index in reversed(range(len(operator.args))):
            name = operator.args[index].name
            if name in _SOURCE_ARGUMENTS or name.startswith(_SOURCE_PREFIX):
                del operator.args[index]
    return _serialize(message)


def move_to_cpu(data: bytes) -> bytes:
    """Return the pipeline with every operator, edge and output on the CPU, ``mixed`` decoders and GPU copies too."""
    message = parse(data)
    for operator in message.op:
        for argument in operator.args:
            if argument.name == "device":
                argument.strings[:] = ["cpu" for _ in argument.strings]
    for edge in _list_edges(message):
        edge.device = "cpu"
    message.device_id = CPU_ONLY
    return _serialize(message)


def clear_declared_outputs(data: bytes) -> bytes:
    """Return the pipeline without the declared types, dimensions and layouts of its outputs, which DALI enforces."""
    message = parse(data)
    for output in message.pipe_outputs:
        for name in ("dtype", "ndim", "layout"):
            output.ClearField(name)
    return _serialize(message)


def needs_gpu(data: bytes) -> bool:
    """Return True if any operator, edge or output of the pipeline is placed on a GPU."""
    return _needs_gpu(parse(data))


def _needs_gpu(message: PipelineDef) -> bool:
    return any(edge.device in _GPU for edge in _list_edges(message)) or any(
        argument.name == "device" and not _GPU.isdisjoint(argument.strings)
        for operator in message.op
        for argument in operator.args
    )


def _list_edges(message: PipelineDef) -> Iterator[Any]:
    for operator in message.op:
        yield from operator.input
        yield from operator.output
    yield from message.pipe_outputs


def _list_texts(message: PipelineDef) -> Iterator[object]:
    for edge in _list_edges(message):
        yield from (edge.name, edge.device, edge.layout)
    for operator in message.op:
        yield from (operator.name, operator.inst_name)
        for argument in operator.args:
            yield argument.name
            if argument.name in {"device", "layout"}:
                yield from argument.strings


def _read_input(operator: Any) -> TensorSpec:
    """Return an input operator's tensor; its output carries the name that requests use, its arguments the rest."""
    arguments = {argument.name: argument for argument in operator.args}

    def integer(name: str) -> int:
        values = arguments[name].ints if name in arguments else ()
        return values[0] if values else _UNDECLARED

    name = operator.output[0].name if operator.output else operator.inst_name
    layout = "".join(arguments["layout"].strings) if "layout" in arguments else ""
    return _build_tensor(name, integer("dtype"), integer("ndim"), layout)


def _build_tensor(name: str, number: int, ndim: int, layout: str) -> TensorSpec:
    if number != _UNDECLARED and number not in DATA_TYPES:
        raise ArtifactError(f"DALI tensor {name!r} has DALI's element type {number}, which Triton's DALI cannot carry")
    rank = ndim if ndim >= 0 else len(layout)
    shape = (-1,) * (1 + rank) if rank or ndim == 0 else None
    return TensorSpec(name, None if number == _UNDECLARED else DATA_TYPES[number], shape)


def _serialize(message: PipelineDef) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


@lru_cache(maxsize=1)
def _pipeline_def_class() -> Any:
    return build_message_class("dali_proto", _MESSAGES, "PipelineDef")


_MESSAGES: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Argument": (
            (1, REQUIRED, "string", "name", None),
            (2, OPTIONAL, "string", "type", None),
            (3, REPEATED, "float", "floats", None),
            (4, REPEATED, "int64", "ints", None),
            (5, REPEATED, "string", "strings", None),
            (6, REPEATED, "bool", "bools", None),
            (7, REPEATED, "Argument", "extra_args", None),
            (8, REQUIRED, "bool", "is_vector", "false"),
        ),
        "InputOutput": (
            (1, REQUIRED, "string", "name", None),
            (2, REQUIRED, "string", "device", None),
            (3, REQUIRED, "bool", "is_argument_input", None),
            (4, OPTIONAL, "string", "arg_name", None),
            (5, OPTIONAL, "int32", "dtype", "-1"),
            (6, OPTIONAL, "int32", "ndim", "-1"),
            (7, OPTIONAL, "string", "layout", None),
        ),
        "OpDef": (
            (1, REQUIRED, "string", "name", None),
            (2, REPEATED, "InputOutput", "input", None),
            (3, REPEATED, "InputOutput", "output", None),
            (4, REPEATED, "Argument", "args", None),
            (5, OPTIONAL, "string", "inst_name", None),
            (6, OPTIONAL, "int32", "logical_id", "-1"),
        ),
        "PipelineDef": (
            (1, OPTIONAL, "int64", "num_threads", "4"),
            (2, REQUIRED, "int32", "batch_size", None),
            (3, OPTIONAL, "bool", "_unused_use_async", "true"),
            (4, OPTIONAL, "bool", "_unused_pipeline", "true"),
            (5, REPEATED, "OpDef", "op", None),
            (6, REPEATED, "string", "external_inputs", None),
            (7, REPEATED, "InputOutput", "pipe_outputs", None),
            (8, OPTIONAL, "int32", "device_id", "0"),
            (9, OPTIONAL, "int64", "seed", "-1"),
            (10, OPTIONAL, "bool", "enable_checkpointing", None),
            (11, OPTIONAL, "int32", "executor_type", "0"),
            (12, OPTIONAL, "int64", "executor_flags", None),
            (13, OPTIONAL, "int32", "prefetch_queue_depth_cpu", "2"),
            (14, OPTIONAL, "int32", "prefetch_queue_depth_gpu", "2"),
            (15, OPTIONAL, "int64", "bytes_per_sample_hint", None),
        ),
    }
)
