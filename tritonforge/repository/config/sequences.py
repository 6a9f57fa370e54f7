"""The tensors that ``sequence_batching`` adds to a model's inputs and outputs: controls and implicit states. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tritonforge import datatypes
from tritonforge.repository.config.lowering import to_config
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.tensors import Input, Output
from tritonforge.triton.schema import load_model_config_pb2

__all__ = ["SequenceTensors", "sequence_tensors"]

#: The value pairs of a control and the element types that they stand for. Source: model_config_utils.cc
#: `GetBooleanSequenceControlProperties`.
_PAIR_TYPES: Final = (
    ("int32_false_true", datatypes.TYPE_INT32),
    ("fp32_false_true", datatypes.TYPE_FP32),
    ("bool_false_true", datatypes.TYPE_BOOL),
)


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    """What the file of a sequence model has besides the model's own inputs and outputs.

    ``controls`` have one element a request; ``state_inputs`` and ``state_outputs`` are in the order of the states.
    """

    controls: tuple[Input, ...] = ()
    state_inputs: tuple[Input, ...] = ()
    state_outputs: tuple[Output, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The controls, then the state inputs."""
        return (*self.controls, *self.state_inputs)


def sequence_tensors(model: Model) -> SequenceTensors:
    """The control inputs and states of a model, from its ``sequence_batching`` or its ``override``."""
    if model.sequence_batching is None and "sequence_batching" not in model.override:
        return SequenceTensors()
    config: Any = to_config(model)
    sequence_batching = config.sequence_batching

    def data_type(number: int) -> str | None:
        return None if number == 0 else str(load_model_config_pb2().DataType.Name(number))

    controls = []
    for tensor in sequence_batching.control_input:
        for control in tensor.control:
            stated = [name for pair, name in _PAIR_TYPES if getattr(control, pair)]
            controls.append(Input(tensor.name, stated[0] if stated else data_type(control.data_type), [1]))
    states = [(state, data_type(state.data_type), list(state.dims) or None) for state in sequence_batching.state]
    return SequenceTensors(
        tuple(controls),
        tuple(Input(state.input_name, kind, dims) for state, kind, dims in states),
        tuple(Output(state.output_name, kind, dims) for state, kind, dims in states),
    )
