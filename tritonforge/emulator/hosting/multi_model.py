"""The models of a multi-model container: loaded when they are first requested, unloaded when their memory is needed.

Triton's own SageMaker front end does the loading: ``POST /models``, ``DELETE /models/{hash}``, ``POST
/models/{hash}/invoke``. SageMaker sends the target's name with each of them (X-Amzn-SageMaker-Target-Model), which
Triton then names the model by. Source: server/src/sagemaker_server.cc `SageMakerMMELoadModel`, server PR 6147.

Triton matches the literal path ``/opt/ml/models/<hash>/model`` only for an archive with config.pbtxt at its root, whose
repository is the folder above ``model``. That folder is named here instead, which is the same to Triton, so that no
mount is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDoneError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError, split_uri
from tritonforge.emulator.hosting.container_definitions import (
    ContainerError,
    ContainerGoneError,
    ModelData,
    TargetModelError,
    download_model,
)
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.errors import RequestError

__all__ = ["Limits", "ModelCache", "find_model_directory"]

#: Seconds that loading may take; the request that caused it waits no longer than its own time-out.
#: Source: Amazon SageMaker, "Invoke a Multi-Model Endpoint".
_LOAD_TIMEOUT: Final = 360.0

#: Seconds that a model has for a request at least, however long its load took.
_MIN_TIMEOUT: Final = 1.0

_OK: Final = 200
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_NO_ROOM: Final = 507

#: How the front end recognises an ensemble (sagemaker_server.cc `platform_ensemble_regex_`).
_ENSEMBLE: Final = re.compile(rb'platform:(\s)*"ensemble"')


class ContainerClient(Protocol):
    """What carries requests to the container."""

    def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Send a request to the container and return its response."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be loaded at a time; None: as much as Triton takes, which answers 507 when it is out of memory."""

    models: int | None = None
    size: int | None = None


@dataclass(slots=True)
class _LoadedModel:
    """One target: being loaded until ``done`` has a result. ``users`` are the requests in flight.

    While it is ``leaving``, it takes no requests, and requests for the target wait until it is ``gone``.
    """

    target: str
    name: str
    done: Future[ContainerResponse | None] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)
    leaving: bool = False
    users: int = 0
    used: int = 0
    size: int = 0


class ModelCache:
    """The models of one container; for use by many threads.

    ``prefix`` is where the archives lie. ``check`` is given an unpacked repository and the directory in it that is
    served, and says what the declared image would refuse, "" when nothing.
    """

    def __init__(
        self,
        container: ContainerClient,
        prefix: str,
        folder: Path,
        *,
        objects: EmulatedS3,
        check: Callable[[Path, str], str] = lambda repository, model: "",
        caching: bool = True,
        limits: Limits | None = None,
        download_timeout: float = _LOAD_TIMEOUT,
    ) -> None:
        self._container = container
        self._prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        self._folder = folder
        self._objects = objects
        self._check = check
        self._caching = caching
        self._limits = limits or Limits()
        self._download_timeout = download_timeout
        self._lock = threading.Lock()
        self._models: dict[str, _LoadedModel] = {}
        self._clock = 0

    @property
    def loaded(self) -> tuple[str, ...]:
        """The targets that are loaded, least recently used first."""
        with self._lock:
            ready = [model for model in self._models.values() if _is_ready(model)]
        return tuple(model.target for model in sorted(ready, key=lambda model: model.used))

    def invoke(self, target: str, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Invoke a model, loading it first where necessary; if Triton cannot load it, return Triton's error response.

        Raises:
            TargetModelError: there is no such archive, or the model is not loaded within ``timeout`` seconds.
        """
        target = target.lstrip("/")
        deadline = time.monotonic() + timeout
        model, first = self._enter(target)
        try:
            if first:
                # A thread of its own: the load continues when this request's time is over.
                threading.Thread(target=self._load, args=(model,), daemon=True, name="model-load").start()
            try:
                refused = model.done.result(timeout)
            except NotDoneError as error:
                raise TargetModelError(
                    f"Model {target} is not ready for inference yet: it is being loaded.",
                    status=429,
                    code="ModelNotReadyException",
                ) from error
            if refused is not None:
                return refused
            sent = {**headers, "X-Amzn-SageMaker-Target-Model": target}
            path = f"/models/{model.name}/invoke"
            while True:
                left = max(deadline - time.monotonic(), _MIN_TIMEOUT)
                answer = self._container.request("POST", path, body, sent, timeout=left)
                if answer.status != _NO_ROOM or not self._evict(besides=model):
                    return answer
        finally:
            self._leave(model)

    def clear(self) -> None:
        """Discard every model: the container was started again and has none."""
        with self._lock:
            discarded = [model for model in self._models.values() if _is_ready(model)]
            for model in discarded:
                model.leaving = True
        for model in discarded:
            self._discard(model)

    def _enter(self, target: str) -> tuple[_LoadedModel, bool]:
        while True:
            with self._lock:
                model = self._models.get(target)
                first = model is None
                if model is None:
                    model = _LoadedModel(target, hashlib.sha256(target.encode()).hexdigest()[:32])
                    self._models[target] = model
                if not model.leaving:
                    model.users += 1
                    self._clock += 1
                    model.used = self._clock
                    return model, first
            model.gone.wait()

    def _leave(self, model: _LoadedModel) -> None:
        with self._lock:
            model.users -= 1
            idle = model.users == 0 and self._models.get(model.target) is model
            if self._caching or not idle or not _is_ready(model):
                return
            model.leaving = True
        self._unload(model)

    def _load(self, model: _LoadedModel) -> None:
        """Load a model; its Future gets None, the response that rejected it, or the error."""
        folder = self._folder / model.name
        try:
            refused = self._load_files(model, folder)
        except BaseException as error:  # raised in the threads that wait for the model
            self._discard(model)
            model.done.set_exception(error)
        else:
            if refused is not None:
                self._discard(model)
            model.done.set_result(refused)

    def _discard(self, model: _LoadedModel) -> None:
        """Remove a model's files, and then itself, so that the next request loads it anew."""
        model.leaving = True
        shutil.rmtree(self._folder / model.name, ignore_errors=True)
        with self._lock:
            self._models.pop(model.target, None)
        model.gone.set()

    def _load_files(self, model: _LoadedModel, folder: Path) -> ContainerResponse | None:
        uri = self._prefix + model.target
        try:
            model.size = self._objects.head(uri).size
        except (ObjectMissingError, RequestError) as error:
            bucket, key = split_uri(uri)
            raise TargetModelError(
                f"Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that there is an object "
                "located at the URL and that the role passed to CreateModel has permissions to download the model."
            ) from error
        repository = folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        repository.mkdir(parents=True)
        try:
            download_model(ModelData(uri=uri), repository, objects=self._objects, timeout=self._download_timeout)
        except ContainerError as error:
            raise TargetModelError(str(error)) from error
        if (repository / "config.pbtxt").is_file():
            repository = folder
        if refusal := self._check(repository, find_model_directory(repository)):
            return ContainerResponse(400, {"content-type": "application/json"}, json.dumps({"error": refusal}).encode())
        self._unload_for(model)
        body = json.dumps({"model_name": model.name, "url": str(repository)}).encode()
        headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Model": model.target}
        while True:
            answer = self._container.request("POST", "/models", body, headers, timeout=_LOAD_TIMEOUT)
            if answer.status in (_OK, _CONFLICT):
                return None
            if answer.status != _NO_ROOM or not self._evict(besides=model):
                text = answer.body.replace(str(self._folder).encode(), b"/opt/ml/models")
                return ContainerResponse(answer.status, answer.headers, text)

    def _unload_for(self, model: _LoadedModel) -> None:
        """Unload models until the new one keeps within the limits, or only models in use are left."""
        while True:
            with self._lock:
                loaded = [model for model in self._models.values() if _is_ready(model)]
            count, size = len(loaded) + 1, sum(model.size for model in loaded) + model.size
            within = (self._limits.models is None or count <= self._limits.models) and (
                self._limits.size is None or size <= self._limits.size
            )
            if within or not self._evict(besides=model):
                return

    def _evict(self, *, besides: _LoadedModel) -> bool:
        """Unload the model that was used least recently and is not in use; return False if every model is in use."""
        with self._lock:
            idle = [
                model
                for model in self._models.values()
                if _is_ready(model) and model.users == 0 and model is not besides
            ]
            if not idle:
                return False
            oldest = min(idle, key=lambda model: model.used)
            oldest.leaving = True
        self._unload(oldest)
        return True

    def _unload(self, model: _LoadedModel) -> None:
        """Unload a model that is marked as leaving."""
        headers = {"X-Amzn-SageMaker-Target-Model": model.target}
        try:
            self._container.request("DELETE", f"/models/{model.name}", b"", headers, timeout=_LOAD_TIMEOUT)
        except (ContainerGoneError, TimeoutError):
            pass  # it ended, and its models with it
        finally:
            self._discard(model)


def find_model_directory(repository: Path) -> str:
    """Find the directory of an archive that Triton's front end serves: its ensemble, else the last one listed."""
    last, ensemble = "", ""
    with os.scandir(repository) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            last = entry.name
            config = Path(entry.path) / "config.pbtxt"
            if config.is_file() and _ENSEMBLE.search(config.read_bytes()):
                ensemble = entry.name
    return ensemble or last


def _is_ready(model: _LoadedModel) -> bool:
    return not model.leaving and model.done.done() and model.done.exception() is None and model.done.result() is None
