"""Implicit state of sequences: a state output of one request becomes the state input of the sequence's next one.

Triton's core keeps states for backends in C, which hand it each new state (`TRITONBACKEND_StateUpdate`). Its python
backend has no such call: every request of a sequence arrives with the initial state, or with uninitialised memory where
the configuration has no ``initial_state``. So the states live here, one value for each instance of a model: Triton
gives all requests of a sequence to one instance.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from tritonforge.datatypes import BY_CONFIG, TYPE_STRING
from tritonforge.errors import ArtifactError
from tritonforge.serving.backends.configuration import Configuration, State

__all__ = ["CorrelationId", "SequencePosition", "SequenceStates"]

CorrelationId: TypeAlias = "int | str"

_Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

#: Flags of a request. Source: tritonserver.h `TRITONSERVER_RequestFlag`.
_START: Final = 1
_END: Final = 2

#: Seconds that a state outlives ``max_sequence_idle_microseconds``: Triton measures from the request's arrival.
_IDLE_MARGIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class SequencePosition:
    """The place of a request in its sequence.

    ``correlation_id`` is 0 or "" for a request that Triton adds to fill an idle batch slot.
    """

    correlation_id: CorrelationId
    is_start: bool
    is_end: bool

    @classmethod
    def of(cls, request: Any) -> SequencePosition:
        """Read the place of an `InferenceRequest` of the python backend."""
        flags = int(request.flags())
        return cls(request.correlation_id(), bool(flags & _START), bool(flags & _END))

    @property
    def is_padding(self) -> bool:
        """Return True for a request that belongs to no sequence and has no answer."""
        return not self.correlation_id


@dataclass(slots=True)
class SequenceStates:
    """The implicit states of the sequences that one model instance works on.

    Raises:
        ArtifactError: the file of an initial state is missing or too short.
    """

    configuration: Configuration
    clock: Callable[[], float] = time.monotonic
    _initial: dict[str, np.ndarray[Any, Any]] = field(init=False)
    _kept: dict[CorrelationId, tuple[float, dict[str, np.ndarray[Any, Any]]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        folder = self.configuration.folder.parent / "initial_state"
        self._initial = {
            state.input.name: _read_initial_state(state, folder, batched=self.configuration.batched)
            for state in self.configuration.states
        }

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that the model must compute for every request."""
        return tuple(state.output.name for state in self.configuration.states)

    def get_inputs(self, sequence: SequencePosition) -> _Arrays:
        """Return the state inputs of a request: the initial ones at a start, else those of the request before it."""
        if sequence.is_padding or sequence.is_start or sequence.correlation_id not in self._kept:
            return self._initial
        return self._kept[sequence.correlation_id][1]

    def update(self, sequence: SequencePosition, outputs: _Arrays) -> None:
        """Keep the state outputs of an answered request for the next one of its sequence."""
        if not self.configuration.states or sequence.is_padding:
            return
        now = self.clock()
        if sequence.is_start:
            self._remove_idle(now)
        if sequence.is_end:
            self._kept.pop(sequence.correlation_id, None)
            return
        # Copies: an output may be a slice of a whole batch.
        states = {state.input.name: outputs[state.output.name].copy() for state in self.configuration.states}
        self._kept[sequence.correlation_id] = (now, states)

    def _remove_idle(self, now: float) -> None:
        """Remove sequences without an end: Triton frees their slot after the idle time, too."""
        oldest = now - self.configuration.sequence_idle_seconds - _IDLE_MARGIN
        for correlation_id in [name for name, (used, _) in self._kept.items() if used < oldest]:
            del self._kept[correlation_id]


def _read_initial_state(state: State, folder: Path, *, batched: bool) -> np.ndarray[Any, Any]:
    shape = (1, *state.initial_dims) if batched else state.initial_dims
    count = int(np.prod(shape, dtype=np.int64))
    data_type = state.input.data_type
    data = None if state.initial_file is None else (folder / state.initial_file).read_bytes()
    if data_type == TYPE_STRING:
        texts = [b""] * count if data is None else _read_texts(data, count, folder / str(state.initial_file))
        return np.array(texts, dtype=object).reshape(shape)
    dtype = BY_CONFIG[data_type].dtype
    if data is None:
        return np.zeros(shape, dtype)
    size = count * dtype.itemsize
    if len(data) < size:
        raise ArtifactError(
            f"{folder / str(state.initial_file)}: the initial state of '{state.input.name}' is too short (expected "
            f"{size} bytes, got {len(data)})"
        )
    return np.frombuffer(data[:size], dtype).reshape(shape)


def _read_texts(data: bytes, count: int, path: Path) -> list[bytes]:
    """Return elements of TYPE_STRING: each is a length as little-endian uint32, then that many bytes."""
    texts: list[bytes] = []
    start = 0
    while len(texts) < count:
        stop = start + 4
        length = struct.unpack("<I", data[start:stop])[0] if stop <= len(data) else len(data)
        if stop + length > len(data):
            raise ArtifactError(f"{path}: the initial state is too short (expected {count} strings, got {len(texts)})")
        texts.append(data[stop : stop + length])
        start = stop + length
    return texts
