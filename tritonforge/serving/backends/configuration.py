"""A model's configuration as a Triton stub hands it to a backend, made into values. This module does no I/O.

Triton gives the configuration as JSON in the field names of model_config.proto, after its own normalisation, so that
fields with defaults are present. Shapes here are full: the batch dimension -1 comes first where the model batches, and
``reshape`` has replaced ``dims``, as Triton does for the tensors themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonforge.datatypes import TYPE_BF16, TYPE_BOOL, TYPE_FP32, TYPE_INT32
from tritonforge.errors import ArtifactError

__all__ = ["Configuration", "State", "Tensor", "read", "read_config"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: ``data_type`` is a config name, ``shape`` full, ``dims`` without the batch dimension."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    shape: tuple[int, ...]
    optional: bool = False
    ragged: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """An implicit state (`ModelSequenceBatching.State`): ``output`` of one request is ``input`` of the sequence's next.

    ``initial_dims`` (no batch dimension, no -1) and ``initial_file`` (its name in ``initial_state/``) give the value at
    a sequence's start; without a file it is zeros.
    """

    input: Tensor
    output: Tensor
    initial_dims: tuple[int, ...]
    initial_file: str | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a backend reads of a ModelConfig.

    ``folder`` is the version's directory, ``device`` the GPU of this instance or None on the CPU. ``sequence`` is True
    with ``sequence_batching``; ``controls`` are its control inputs, ``states`` its implicit states.
    """

    name: str
    folder: Path
    platform: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, str]
    default_model_filename: str
    device: int | None
    sequence: bool = False
    controls: tuple[Tensor, ...] = ()
    states: tuple[State, ...] = ()
    sequence_idle_seconds: float = 0.0

    @property
    def all_inputs(self) -> tuple[Tensor, ...]:
        """Every tensor that the model's file is fed: its inputs, control inputs and states."""
        return (*self.inputs, *self.controls, *(state.input for state in self.states))

    @property
    def batched(self) -> bool:
        """Whether every tensor has a batch dimension in front."""
        return self.max_batch_size > 0

    def is_bfloat16(self, name: str) -> bool:
        """Whether the input of this name is BF16."""
        return any(tensor.name == name and tensor.data_type == TYPE_BF16 for tensor in self.all_inputs)

    def file(self, default: str) -> Path:
        """The model's file or folder in the version's directory."""
        return self.folder / (self.default_model_filename or default)

    def refuse(self, *parameters: str) -> None:
        """Raise ArtifactError for a parameter that changes answers on Triton's own backend and has no counterpart here.

        To ignore it would serve something else than what the configuration says.
        """
        for name in parameters:
            if name in self.parameters:
                raise ArtifactError(
                    f"parameter '{name}' of model '{self.name}' is not known to tritonforge's backend; take it out, or "
                    "serve the model on Triton's own"
                )

    def number(self, parameter: str, default: int, *, minimum: int = 0) -> int:
        """An integer in ``parameters``; raises ArtifactError when it is no integer or smaller than ``minimum``."""
        text = self.parameters.get(parameter)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise ArtifactError(
                f"parameter '{parameter}' of model '{self.name}' is '{text}'; write a whole number from {minimum} on"
            )
        return value


def read(args: Mapping[str, str]) -> Configuration:
    """The configuration in the arguments of a `TritonPythonModel.initialize`."""
    folder = Path(args["model_repository"], args["model_version"])
    device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
    return read_config(json.loads(args["model_config"]), folder, device=device)


def read_config(config: Mapping[str, Any], folder: Path, *, device: int | None = None) -> Configuration:
    """The configuration in a ModelConfig's JSON form."""
    max_batch_size = int(config.get("max_batch_size", 0))
    batched = max_batch_size > 0
    return Configuration(
        name=config["name"],
        folder=folder,
        platform=config.get("platform", ""),
        max_batch_size=max_batch_size,
        inputs=tuple(_tensor(each, batched=batched) for each in config.get("input", ())),
        outputs=tuple(_tensor(each, batched=batched) for each in config.get("output", ())),
        parameters={key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()},
        default_model_filename=config.get("default_model_filename", ""),
        device=device,
        sequence="sequence_batching" in config,
        controls=tuple(_controls(config.get("sequence_batching", {}), batched=batched)),
        states=tuple(_state(state, batched=batched) for state in config.get("sequence_batching", {}).get("state", ())),
        sequence_idle_seconds=int(config.get("sequence_batching", {}).get("max_sequence_idle_microseconds", 0)) / 1e6,
    )


#: The value pairs of a control and the element types that they stand for. Source: model_config_utils.cc
#: `GetBooleanSequenceControlProperties`.
_CONTROL_TYPES = {"int32_false_true": TYPE_INT32, "fp32_false_true": TYPE_FP32, "bool_false_true": TYPE_BOOL}


def _controls(sequence_batching: Mapping[str, Any], *, batched: bool) -> Iterator[Tensor]:
    """The control inputs: one element each, of the type that its value pair or ``data_type`` says."""
    for tensor in sequence_batching.get("control_input", ()):
        for control in tensor.get("control", ()):
            types = [data_type for pair, data_type in _CONTROL_TYPES.items() if control.get(pair)]
            data_type = types[0] if types else control.get("data_type", "TYPE_INVALID")
            yield Tensor(tensor["name"], data_type, (1,), (-1, 1) if batched else (1,))


def _state(state: Mapping[str, Any], *, batched: bool) -> State:
    dims = tuple(int(extent) for extent in state.get("dims", ()))
    shape = (-1, *dims) if batched else dims
    # Without an initial state, Triton starts with an extent of 1 where it varies (sequence_state.cc `Initialize`).
    initial: Mapping[str, Any] = next(iter(state.get("initial_state", ())), {})
    initial_dims = tuple(int(extent) for extent in initial.get("dims", [max(1, extent) for extent in dims]))
    return State(
        Tensor(state["input_name"], state["data_type"], dims, shape),
        Tensor(state["output_name"], state["data_type"], dims, shape),
        initial_dims,
        initial.get("data_file") or None,
    )


def _tensor(config: Mapping[str, Any], *, batched: bool) -> Tensor:
    reshape = config.get("reshape")
    dims = tuple(int(each) for each in (config["dims"] if reshape is None else reshape.get("shape", ())))
    return Tensor(
        name=config["name"],
        data_type=config["data_type"],
        dims=dims,
        shape=(-1, *dims) if batched else dims,
        optional=bool(config.get("optional", False)),
        ragged=bool(config.get("allow_ragged_batch", False)),
    )
