"""Scheduling, placement, versions and warm-up of a model, as in config.pbtxt. This module does no I/O.

Each class is the message of model_config.proto with that name (less its ``Model`` prefix), each field the field of that
name. What these classes leave out is reached through a model's ``override``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tritonforge.datatypes import BY_CONFIG, describe_unknown
from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, set_field
from tritonforge.repository.definition.sources import File, as_file
from tritonforge.repository.definition.tensors import check_dims

__all__ = ["All", "BatchInput", "BatchOutput", "Control", "ControlInput", "Direct", "DynamicBatching", "InitialState",
           "InstanceGroup", "Latest", "Oldest", "QueuePolicy", "RateLimiter", "Resource", "SecondaryDevice",
           "SequenceBatching", "Specific", "State", "VersionPolicy", "Warmup", "WarmupInput"]  # fmt: skip


class _Setting:
    """A value whose fields have the types of their annotations; sequences are tuples, mappings read-only copies."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self)
        data_type = getattr(self, "data_type", "")
        if data_type and data_type not in BY_CONFIG:
            raise DefinitionError(f"{type(self).__name__}: {describe_unknown(data_type)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy(_Setting):
    """What happens to requests that wait: ``timeout_action`` is ``REJECT`` or ``DELAY``; times in microseconds."""

    timeout_action: Literal["", "REJECT", "DELAY"] = ""
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicBatching(_Setting):
    """Requests are joined into batches; ``priority_queue_policy`` maps a priority level to its `QueuePolicy`."""

    preferred_batch_size: Sequence[int] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy | None = None
    priority_queue_policy: Mapping[int, QueuePolicy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct(_Setting):
    """Each sequence keeps one batch slot."""

    max_queue_delay_microseconds: int = 0
    minimum_slot_utilization: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest(_Setting):
    """The oldest requests of different sequences are joined into batches."""

    max_candidate_sequences: int = 0
    preferred_batch_size: Sequence[int] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(_Setting):
    """One control signal: ``kind`` is ``CONTROL_SEQUENCE_START``, ``_READY``, ``_END`` or ``_CORRID``."""

    kind: Literal["CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_CORRID"]
    int32_false_true: Sequence[int] = ()
    fp32_false_true: Sequence[float] = ()
    bool_false_true: Sequence[bool] = ()
    data_type: str = ""


@dataclass(frozen=True, slots=True)
class ControlInput(_Setting):
    """The input tensor that carries control signals to the model."""

    name: str
    control: Sequence[Control]


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialState(_Setting):
    """The value of a state at a sequence's start: ``zero_data`` or ``data_file`` in ``initial_state/``."""

    name: str = ""
    data_type: str = ""
    dims: Sequence[int] = ()
    zero_data: bool | None = None
    data_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State(_Setting):
    """A tensor that Triton keeps between the requests of one sequence."""

    input_name: str
    output_name: str
    data_type: str
    dims: Sequence[int]
    initial_state: Sequence[InitialState] = ()
    use_same_buffer_for_input_output: bool = False
    use_growable_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBatching(_Setting):
    """Requests of one sequence go to one model instance, by one of two strategies: ``direct`` or ``oldest``."""

    direct: Direct | None = None
    oldest: Oldest | None = None
    max_sequence_idle_microseconds: int = 0
    control_input: Sequence[ControlInput] = ()
    state: Sequence[State] = ()
    iterative_sequence: bool = False

    def __post_init__(self) -> None:
        # super() without arguments fails in a slotted dataclass: its class is replaced after this body is compiled.
        _Setting.__post_init__(self)
        if self.direct is not None and self.oldest is not None:
            raise DefinitionError("SequenceBatching takes direct or oldest, not both")


@dataclass(frozen=True, slots=True)
class Resource(_Setting):
    """``count`` of a named resource that one execution takes."""

    name: str
    count: int
    global_: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimiter(_Setting):
    """What an instance needs before it may execute, and its priority against other instances."""

    resources: Sequence[Resource] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondaryDevice(_Setting):
    """A further device of an instance: ``kind`` is ``KIND_NVDLA``."""

    kind: Literal["", "KIND_NVDLA"] = ""
    device_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup(_Setting):
    """``count`` instances of a model on a device: ``kind`` is ``KIND_AUTO``, ``_GPU``, ``_CPU`` or ``_MODEL``."""

    name: str = ""
    kind: Literal["", "KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"] = ""
    count: int = 0
    rate_limiter: RateLimiter | None = None
    gpus: Sequence[int] = ()
    secondary_devices: Sequence[SecondaryDevice] = ()
    profile: Sequence[str] = ()
    passive: bool = False
    host_policy: str = ""


@dataclass(frozen=True, slots=True)
class Latest(_Setting):
    """The server loads the ``num_versions`` highest versions."""

    num_versions: int = 1


@dataclass(frozen=True, slots=True)
class All(_Setting):
    """The server loads every version."""


@dataclass(frozen=True, slots=True)
class Specific(_Setting):
    """The server loads exactly these versions."""

    versions: Sequence[int]


VersionPolicy: TypeAlias = Latest | All | Specific


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInput(_Setting):
    """An input that Triton makes from the shapes of a ragged batch (``kind`` is one of `BatchInput.Kind`)."""

    kind: Literal[
        "BATCH_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE",
        "BATCH_ITEM_SHAPE_FLATTEN",
    ]
    target_name: Sequence[str]
    data_type: str
    source_input: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutput(_Setting):
    """An output that Triton scatters by the shapes of an input (``kind`` is one of `BatchOutput.Kind`)."""

    kind: Literal["BATCH_SCATTER_WITH_INPUT_SHAPE"]
    target_name: Sequence[str]
    source_input: Sequence[str]


@dataclass(frozen=True, slots=True)
class WarmupInput(_Setting):
    """What one input is given at warm-up: zeros, random values, or the bytes of ``input_data_file``.

    ``dims`` are without the batch dimension. ``input_data_file`` is written to the model's ``warmup/`` directory from
    ``data``: the bytes themselves, or a `File` beside the definition. TYPE_STRING data is each element's length as
    little-endian uint32 and then its bytes, as on the wire.
    """

    data_type: str
    dims: Sequence[int]
    zero_data: bool | None = None
    random_data: bool | None = None
    input_data_file: str | None = None
    data: bytes | File | None = None

    def __post_init__(self) -> None:
        set_field(self, "data", as_file(self.data))
        _Setting.__post_init__(self)
        given = [
            name for name in ("zero_data", "random_data", "input_data_file") if getattr(self, name) not in (None, False)
        ]
        if len(given) != 1:
            raise DefinitionError(
                "a warm-up input takes exactly one of zero_data, random_data and input_data_file, got "
                f"{' and '.join(given) or 'none'}"
            )
        if (self.data is not None) != (self.input_data_file is not None):
            raise DefinitionError("a warm-up input's input_data_file and data come together: the name and the content")
        set_field(self, "dims", check_dims(self.dims, "a warm-up input's dims"))


@dataclass(frozen=True, slots=True)
class Warmup(_Setting):
    """One request that every instance answers before the model is ready; ``inputs`` by input name."""

    name: str
    inputs: Mapping[str, WarmupInput]
    batch_size: int = 1
    count: int = 0
