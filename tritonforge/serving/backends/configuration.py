"""A model's configuration as a Triton stub passes it to a backend: read, and completed from the model's file.

Triton passes the configuration as JSON in the field names of model_config.proto, after its own normalisation, so that
fields with defaults are present. Shapes here are full: the batch dimension -1 comes first where the model batches, and
``reshape`` has replaced ``dims``, as Triton does for the tensors themselves.

What a configuration leaves out is filled in as Triton's own backends do ("auto-complete"). Triton calls for it in a
process of its own before it loads a model, unless ``--disable-auto-complete-config`` is given, and passes nothing but
the configuration; the model's folder is found in the command line of that process.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge.datatypes import TYPE_BOOL, TYPE_FP32, TYPE_INT32, TYPE_STRING
from tritonforge.errors import ArtifactError, MissingExtraError, TritonForgeError
from tritonforge.model_files.config_check import StatedModel, list_conflicts
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.triton.backends import BACKENDS

__all__ = ["Configuration", "State", "Tensor", "build_specs", "check_tensors", "check_texts", "explain_missing_module",
           "parse_config", "read_arguments", "read_incomplete_config", "report_errors"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: ``data_type`` is a config name, ``dims`` is the ``shape`` without the batch dimension."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    shape: tuple[int, ...]
    optional: bool = False


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

    def is_text(self, name: str) -> bool:
        """Return True if the input of this name is TYPE_STRING."""
        return any(tensor.name == name and tensor.data_type == TYPE_STRING for tensor in self.all_inputs)

    def get_path(self, default: str) -> Path:
        """Return the model's file or folder in the version's directory."""
        return self.folder / (self.default_model_filename or default)

    def refuse(self, *parameters: str) -> None:
        """Raise ArtifactError for a parameter that changes answers on Triton's own backend but is unsupported here."""
        for name in parameters:
            if name in self.parameters:
                raise ArtifactError(
                    f"parameter '{name}' of model '{self.name}' is not supported by tritonforge's backend; remove it, "
                    "or serve the model on Triton's own"
                )

    def read_number(self, parameter: str, default: int, *, minimum: int = 0) -> int:
        """Return an integer of ``parameters``; raises ArtifactError unless it is an integer of at least ``minimum``."""
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


def read_arguments(args: Mapping[str, str]) -> Configuration:
    """Return the configuration in the arguments of a `TritonPythonModel.initialize`.

    Raises:
        ArtifactError: it has strings, which the stub cannot carry with the installed numpy.
    """
    folder = Path(args["model_repository"], args["model_version"])
    device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
    config = parse_config(json.loads(args["model_config"]), folder, device=device)
    check_texts(config, numpy_version=np.__version__)
    return config


def check_texts(config: Configuration, *, numpy_version: str) -> None:
    """Raise ArtifactError for a configuration with strings and numpy 2, with which a stub dies at the first string.

    The stub of nvidia-pytriton 0.7.0 is compiled for numpy 1 (`dlpack`), and DLPack carries no strings.
    """
    texts = [tensor.name for tensor in (*config.all_inputs, *config.outputs) if tensor.data_type == TYPE_STRING]
    if texts and int(numpy_version.split(".")[0]) > 1:
        raise ArtifactError(
            f"model '{config.name}', tensor '{texts[0]}': nvidia-pytriton's python backend cannot carry TYPE_STRING "
            f"with this numpy (expected numpy 1, got {numpy_version}). Run: pip install 'numpy<2'"
        )


def parse_config(config: Mapping[str, Any], folder: Path, *, device: int | None = None) -> Configuration:
    """Return the configuration in a ModelConfig's JSON form."""
    max_batch_size = int(config.get("max_batch_size", 0))
    batched = max_batch_size > 0
    return Configuration(
        name=config["name"],
        folder=folder,
        platform=config.get("platform", ""),
        max_batch_size=max_batch_size,
        inputs=tuple(_parse_tensor(tensor, batched=batched) for tensor in config.get("input", ())),
        outputs=tuple(_parse_tensor(tensor, batched=batched) for tensor in config.get("output", ())),
        parameters={key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()},
        default_model_filename=config.get("default_model_filename", ""),
        device=device,
        sequence="sequence_batching" in config,
        controls=tuple(_parse_controls(config.get("sequence_batching", {}), batched=batched)),
        states=tuple(
            _parse_state(state, batched=batched) for state in config.get("sequence_batching", {}).get("state", ())
        ),
        sequence_idle_seconds=int(config.get("sequence_batching", {}).get("max_sequence_idle_microseconds", 0)) / 1e6,
    )


#: The value pairs of a control and the element types that they stand for. Source: model_config_utils.cc
#: `GetBooleanSequenceControlProperties`.
_CONTROL_TYPES = {"int32_false_true": TYPE_INT32, "fp32_false_true": TYPE_FP32, "bool_false_true": TYPE_BOOL}


def _parse_controls(sequence_batching: Mapping[str, Any], *, batched: bool) -> Iterator[Tensor]:
    """Yield the control inputs: one element each, of the type of their value pair or ``data_type``."""
    for tensor in sequence_batching.get("control_input", ()):
        for control in tensor.get("control", ()):
            types = [data_type for pair, data_type in _CONTROL_TYPES.items() if control.get(pair)]
            data_type = types[0] if types else control.get("data_type", "TYPE_INVALID")
            yield Tensor(tensor["name"], data_type, (1,), (-1, 1) if batched else (1,))


def _parse_state(state: Mapping[str, Any], *, batched: bool) -> State:
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


def _parse_tensor(config: Mapping[str, Any], *, batched: bool) -> Tensor:
    reshape = config.get("reshape")
    dims = tuple(int(extent) for extent in (config["dims"] if reshape is None else reshape.get("shape", ())))
    return Tensor(
        name=config["name"],
        data_type=config["data_type"],
        dims=dims,
        shape=(-1, *dims) if batched else dims,
        optional=bool(config.get("optional", False)),
    )


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Raise errors of this project and of reading files as Triton's, which then are why a model does not load."""
    import triton_python_backend_utils as pb_utils

    try:
        yield
    except TritonForgeError as error:
        raise pb_utils.TritonModelException(str(error)) from error
    except ModuleNotFoundError as error:
        raise pb_utils.TritonModelException(str(explain_missing_module(error.name))) from error
    except FileNotFoundError as error:
        raise pb_utils.TritonModelException(f"unable to find '{error.filename}'") from error


def explain_missing_module(module: str | None) -> MissingExtraError:
    """Return the error for a module that a backend cannot import, with the extra of that backend."""
    name = module or "a framework"
    extras = [row.extra for row in BACKENDS.values() if row.extra and row.package.startswith(name)]
    return MissingExtraError(name, extra=extras[0] if extras else "local")


def read_incomplete_config(config: Any) -> Configuration:
    """Return the configuration to complete (a `ModelConfig` of the stub), with the model's folder."""
    # argv[1] of a stub is <model folder>/<version>/<file name> (python_backend src/stub_launcher.cc).
    command = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return parse_config(config.as_dict(), Path(command[1].decode()).parent)


def build_specs(tensors: Sequence[Tensor]) -> list[TensorSpec]:
    """Return tensors of a configuration as they are compared with those of a file."""
    return [TensorSpec(tensor.name, tensor.data_type, tensor.shape) for tensor in tensors]


def check_tensors(config: Configuration, found: Signature, *, shapes: bool = True) -> None:
    """Compare a configuration with a model's file, with ``shapes`` also the shapes.

    Raises:
        ArtifactError: the first disagreement, in the words of Triton's backends.
    """
    states = [TensorSpec(state.output.name, state.output.data_type) for state in config.states]
    stated = StatedModel(
        config.name,
        is_batched=config.batched,
        signature=Signature(build_specs(config.all_inputs), [*build_specs(config.outputs), *states]),
        controls=frozenset(tensor.name for tensor in config.controls),
        exact=frozenset(tensor.name for tensor in config.outputs),
        optional=frozenset(tensor.name for tensor in config.inputs if tensor.optional),
    )
    for conflict in list_conflicts(stated, found):
        if shapes or conflict.kind != "shape" or conflict.tensor in stated.controls:
            raise ArtifactError(conflict.message)
