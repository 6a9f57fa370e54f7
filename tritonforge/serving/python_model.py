"""A model of Triton's python backend in this process, for unit tests without a server.

The model gets the backend's own ``triton_python_backend_utils`` from the wheel, and the classes of `backend_utils` for
what is C++ in Triton's stub. Three things differ from the stub: the model runs in this process, without shared memory
and GPU; its exceptions are raised unchanged; and inputs and outputs are compared with the configuration by name and
data type, not by dims.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_CONFIG
from tritonforge.errors import ArtifactError, EncodeError, ServerError
from tritonforge.files import describe_error
from tritonforge.serving import backend_utils, installation
from tritonforge.serving.repository_overlay import parse_config
from tritonforge.validation.loaded_config import render_json

__all__ = ["PythonModel", "Responder"]

Array = npt.NDArray[Any]

#: Answers the requests that a model sends to another one (BLS): arrays by input, to arrays by output.
Responder = Callable[[Mapping[str, Array]], Mapping[str, Array]]

_UTILS: Final = "triton_python_backend_utils"

#: HTTP status of the codes of a TritonError. Source: server/src/http_server.cc, HttpCodeFromError; other codes are 500.
_STATUS: Final = {"INVALID_ARG": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "UNSUPPORTED": 501, "ALREADY_EXISTS": 409}


class PythonModel:
    """A loaded model; a context manager that finalizes it.

    Args:
        path: the model's directory, with ``config.pbtxt`` and numbered versions, as in a built repository.
        version: the version; by default the highest one.
        models: what answers the requests to other models, by their names.

    Raises:
        MissingExtraError: nvidia-pytriton, which has the backend's module, is not installed.
        ArtifactError: the directory has no such version, or no valid configuration.

    Whatever the model raises when it is imported or initialized is raised as it is.
    """

    def __init__(
        self, path: Path | str, *, version: int | None = None, models: Mapping[str, Responder] | None = None
    ) -> None:
        self.path = Path(path).absolute()
        self.config = _read_config(self.path)
        self.name = self.config["name"] or self.path.name
        self.version = version if version is not None else _find_version(self.path)
        file = self.path / str(self.version) / (self.config["default_model_filename"] or "model.py")
        if not file.is_file():
            raise ArtifactError(f"{file}: file not found (expected the code of version {self.version})")
        self._modules: dict[str, ModuleType] = {_UTILS: _load_utils(models or {})}
        with self._open_environment(file):
            module = _import(f"tritonforge_python_model_{self.name}", file)
            self._model = module.TritonPythonModel()
            if hasattr(self._model, "initialize"):
                self._model.initialize(
                    {
                        "model_config": json.dumps(self.config),
                        "model_instance_kind": "CPU",
                        "model_instance_name": f"{self.name}_0_0",
                        "model_instance_device_id": "0",
                        "model_repository": str(self.path),
                        "model_version": str(self.version),
                        "model_name": self.name,
                    }
                )
        self._file = file

    def __enter__(self) -> PythonModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Call the model's ``finalize``, if it has one."""
        if hasattr(self._model, "finalize"):
            with self._open_environment(self._file):
                self._model.finalize()

    def infer(self, inputs: Mapping[str, Any], **attributes: Any) -> dict[str, Array]:
        """Return the outputs of one request, by name; ``attributes`` are those of `infer_stream`.

        Raises:
            EncodeError: an input does not have the name or data type of the configuration.
            ServerError: the model answers with an error.
            ArtifactError: it breaks the rules of the backend, such as an output of another data type.
        """
        responses = self.infer_stream(inputs, **attributes)
        if len(responses) != 1:
            raise ArtifactError(f"{self.name}: expected one response, got {len(responses)}; use infer_stream")
        return responses[0]

    def infer_stream(
        self,
        inputs: Mapping[str, Any],
        *,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        parameters: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Array]]:
        """Return the responses to one request, of a decoupled model any number. Arguments and errors as in `infer`."""
        request = backend_utils.InferenceRequest(
            request_id=request_id,
            correlation_id=correlation_id,
            inputs=[self._convert_input(name, value) for name, value in inputs.items()],
            requested_output_names=[output["name"] for output in self.config["output"]],
            model_name=self.name,
            model_version=self.version,
            flags=flags,
            parameters=parameters,
        )
        with self._open_environment(self._file):
            returned = self._model.execute([request])
        if self.config.get("model_transaction_policy", {}).get("decoupled"):
            if returned is not None:
                raise ArtifactError(
                    f"{self.name}: execute of a decoupled model returns None, got {type(returned).__name__}"
                )
            responses = request.get_response_sender().responses
        elif not isinstance(returned, list) or len(returned) != 1:
            raise ArtifactError(f"{self.name}: execute returns a list with one response for each request")
        else:
            responses = returned
        return [self._read_response(response) for response in responses]

    def _convert_input(self, name: str, value: Any) -> backend_utils.Tensor:
        known = {entry["name"]: entry["data_type"] for entry in self.config["input"]}
        if known and name not in known and name not in self._list_control_inputs():
            raise EncodeError(f"input {name!r}: {self.name} has no such input (expected {', '.join(known)})")
        array = np.asarray(value)
        if name not in known:
            return backend_utils.Tensor(name, array)
        expected = BY_CONFIG[known[name]].dtype
        if expected.kind == "O":
            texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.reshape(-1).tolist()]
            array = np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)
        elif isinstance(value, np.ndarray) and array.dtype != expected:
            raise EncodeError(f"input {name!r}: expected an array of {expected}, got one of {array.dtype}")
        return backend_utils.Tensor(name, array.astype(expected))

    def _list_control_inputs(self) -> list[str]:
        """Return the inputs that the sequence batcher fills: the server's in a repository, the caller's here."""
        batching = self.config.get("sequence_batching", {})
        controls = [entry["name"] for entry in batching.get("control_input", ())]
        return [*controls, *(entry["input_name"] for entry in batching.get("state", ()))]

    def _read_response(self, response: Any) -> dict[str, Array]:
        if not isinstance(response, backend_utils.InferenceResponse):
            raise ArtifactError(
                f"{self.name}: a response is a pb_utils.InferenceResponse, got {type(response).__name__}"
            )
        error = response.error()
        if error is not None:
            raise ServerError(error.message(), status=_STATUS.get(error.code().name, 500))
        known = {entry["name"]: entry["data_type"] for entry in self.config["output"]}
        outputs: dict[str, Array] = {}
        for tensor in response.output_tensors():
            if known and tensor.name() not in known:  # Triton removes an output that is not requested
                continue
            array = tensor.as_numpy()
            expected = BY_CONFIG[known[tensor.name()]].dtype if tensor.name() in known else array.dtype
            if array.dtype != expected:
                raise ArtifactError(
                    f"{self.name}: output {tensor.name()!r} is an array of {array.dtype} (expected {expected}, "
                    f"{known[tensor.name()]} in config.pbtxt)"
                )
            outputs[tensor.name()] = array
        return outputs

    @contextmanager
    def _open_environment(self, file: Path) -> Iterator[None]:
        """Give the model its modules and the directories that Triton's stub adds to ``sys.path``.

        Files of its directory that it imports are its own, as in a stub: another model never gets them by their names.
        """
        path, before = list(sys.path), dict(sys.modules)
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        sys.modules.update(self._modules)
        sys.path += [str(file.parent), str(file.parent.parent)]  # pb_stub.cc, Stub::Initialize
        try:
            yield
        finally:
            sys.path[:] = path
            sys.dont_write_bytecode = writes_bytecode
            imported = {name: module for name, module in sys.modules.items() if before.get(name) is not module}
            self._modules.update((name, module) for name, module in imported.items() if self._is_own(module))
            for name in imported.keys() & self._modules.keys():
                if name in before:
                    sys.modules[name] = before[name]
                else:
                    del sys.modules[name]

    def _is_own(self, module: ModuleType) -> bool:
        origin = getattr(module, "__file__", None)
        return origin is not None and Path(origin).is_relative_to(self.path)


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.pbtxt"
    try:
        message = parse_config(file.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{file}: cannot read: {describe_error(error)}") from error
    if message is None:
        raise ArtifactError(f"{file}: this is not a valid configuration; run tritonforge validate {path.parent}")
    return render_json(message)


def _find_version(path: Path) -> int:
    versions = [int(entry.name) for entry in path.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    if not versions:
        raise ArtifactError(f"{path}: no versions found (expected a directory such as 1)")
    return max(versions)


def _load_utils(models: Mapping[str, Responder]) -> ModuleType:
    """Return a copy of the backend's module with what Triton's stub adds to it."""
    module = _import(_UTILS, installation.find_installation().python_backend / f"{_UTILS}.py")
    for name in backend_utils.__all__:
        setattr(module, name, getattr(backend_utils, name))

    class InferenceRequest(backend_utils.InferenceRequest):
        responders = models

    module.InferenceRequest = InferenceRequest  # type: ignore[attr-defined]  # as in the stub's module
    return module


def _import(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the file ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
