"""The host: from a variant to a running container.

The steps are SageMaker's: the model data are downloaded and unpacked, the image's `serve` script reads them, then
tritonserver starts and must answer /ping in time. Before it starts, the repository is validated for the release that
the image represents, as the server that runs here is of another one. A TensorFlow Serving image runs its package
instead, an algorithm image its program.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.emulator.emulated_s3 import EmulatedS3, make_private_folder
from tritonforge.emulator.hosting import container_images, program_containers
from tritonforge.emulator.hosting.container_definitions import ContainerError, UnhealthyError, Variant, download_model
from tritonforge.emulator.hosting.container_images import ServedImage, is_tensorflow_serving, resolve_image
from tritonforge.emulator.hosting.multi_model import Limits, ModelCache
from tritonforge.emulator.hosting.program_containers import ProgramContainer, TensorFlowContainer
from tritonforge.emulator.hosting.tritonserver_container import Container
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.errors import LaunchError, TritonForgeError
from tritonforge.serving import repository_overlay, server_process
from tritonforge.triton import parse_instance_family
from tritonforge.triton.backends import is_word
from tritonforge.triton.changes import SERVE_VARIABLES
from tritonforge.validation.context import Options
from tritonforge.validation.report import run

__all__ = ["Host", "HostedContainer", "start"]

#: "unexpected directory name": the front end maps the directory of a multi-model archive to the target's name.
_DIRECTORY_NAME: Final = "E104"


class HostedContainer:
    """A running container; `interfaces.Container` is what the runtime uses of it. Safe for use by many threads."""

    def __init__(self, container: Container, models: ModelCache | None, closing: ExitStack) -> None:
        self._container = container
        self._models = models
        self._closing = closing
        self._changed = threading.Condition()
        self._in_flight = 0
        self._stopped = False

    @property
    def multi_model(self) -> bool:
        """Whether requests must name a TargetModel."""
        return self._models is not None

    @property
    def pid(self) -> int | None:
        """The process id of tritonserver; None while it does not run."""
        return self._container.pid

    @property
    def url(self) -> str | None:
        """The address of the container's own front end; None while it does not listen."""
        return self._container.url

    @property
    def loaded_models(self) -> tuple[str, ...]:
        """The targets that a multi-model container has loaded, least recently used first."""
        return () if self._models is None else self._models.loaded

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Send POST /invocations and return the container's response."""
        with self._count_request():
            return self._container.request("POST", "/invocations", body, headers, timeout=timeout)

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """Send a GET, such as of /ping or /execution-parameters, and return the container's response."""
        with self._count_request():
            return self._container.request("GET", path, b"", {}, timeout=timeout)

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Send POST /models/{hash}/invoke and return the container's response."""
        assert self._models is not None
        with self._count_request():
            return self._models.invoke(target_model, body, headers, timeout=timeout)

    def stop(self, *, drain: float = 30.0) -> None:
        """End the container once its requests in flight have ended, ``drain`` seconds at most; may be called twice."""
        with self._changed:
            stopped, self._stopped = self._stopped, True
            self._changed.wait_for(lambda: self._in_flight == 0, timeout=drain)
        if not stopped:
            self._closing.close()

    @contextmanager
    def _count_request(self) -> Iterator[None]:
        with self._changed:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()


def start(
    variant: Variant,
    *,
    objects: EmulatedS3,
    folder: Path,
    log: Callable[[str], None],
    images: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    cancelled: threading.Event | None = None,
) -> HostedContainer:
    """Start a variant's container; returns when it answers /ping.

    ``folder`` is this variant's own, made here and removed when the container is stopped. ``log`` takes the
    container's lines, from threads of the host. ``images`` declares the release of a custom image
    (`container_images.resolve_image`) or its program folder (`program_containers.find_program`), ``limits`` what a
    multi-model container may have loaded. ``cancelled`` ends a start in progress.

    Raises:
        ContainerError: its text is the endpoint's FailureReason.
    """
    program = program_containers.find_program(variant.container.image, images or {})
    if program is not None or is_tensorflow_serving(variant.container.image, images or {}):
        return _start_program(variant, program, objects=objects, folder=folder, log=log, cancelled=cancelled)
    served = resolve_image(variant.container.image, images or {})
    with ExitStack() as closing:
        make_private_folder(folder)
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        repository = folder / "model"
        repository.mkdir()
        environment = dict(variant.container.environment)
        if variant.container.multi_model:
            environment["SAGEMAKER_MULTI_MODEL"] = "true"
        elif variant.container.model_data is not None:
            download_model(
                variant.container.model_data,
                repository,
                objects=objects,
                timeout=variant.download_timeout,
                cancelled=cancelled,
            )
        outcome = container_images.run_serve_script(environment, _list_folder(repository), release=served.release)
        for line in outcome.output:
            log(line)
        if outcome.exit_code:
            raise _build_unhealthy_error(variant, outcome.reason)
        _check_front_end(variant, served)
        if not outcome.multi_model:
            _check_release(variant, repository, served, outcome, log)
        models: ModelCache | None = None
        container = Container(
            repository,
            folder,
            outcome=outcome,
            environment=environment,
            log=log,
            startup_timeout=variant.startup_timeout,
        )
        closing.callback(container.stop)
        if variant.container.multi_model:
            models = _create_model_cache(variant, container, folder, objects, served, limits, closing)
            container.restarted = models.clear
        _wait_for(container, variant, cancelled)
        return HostedContainer(container, models, closing.pop_all())


def _wait_for(container: Container, variant: Variant, cancelled: threading.Event | None) -> None:
    began = time.monotonic()
    try:
        container.start(cancelled)
    except LaunchError as error:
        if cancelled is not None and cancelled.is_set():
            raise ContainerError("The endpoint was deleted while its container started.") from error
        if time.monotonic() - began >= variant.startup_timeout:
            raise _build_unhealthy_error(
                variant, f"It was not ready within {variant.startup_timeout:g} seconds."
            ) from error
        raise _build_unhealthy_error(variant, container.to_container_paths(str(error))) from error


def _start_program(
    variant: Variant,
    program: Path | None,
    *,
    objects: EmulatedS3,
    folder: Path,
    log: Callable[[str], None],
    cancelled: threading.Event | None,
) -> HostedContainer:
    """Start the container of an image that has no tritonserver.

    A TensorFlow Serving image runs its package's handlers before a predictor, an algorithm image its ``program``.
    """
    data = variant.container.model_data
    if variant.container.multi_model or (data is None and program is None):
        kind = "a TensorFlow Serving image" if program is None else "an algorithm image"
        raise ContainerError(
            f"The container of production variant {variant.name} cannot run here: {kind} needs the ModelDataUrl of one "
            "model, a multi-model one is not run."
        )
    if program is not None and not (program / "serve").is_file():
        raise ContainerError(
            f"The image {variant.container.image!r} cannot be run here: its program folder {program} has no serve."
        )
    with ExitStack() as closing:
        make_private_folder(folder)
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        model = folder / "model"
        model.mkdir()
        if data is not None:
            download_model(data, model, objects=objects, timeout=variant.download_timeout, cancelled=cancelled)
        made = TensorFlowContainer if program is None else partial(ProgramContainer, program)
        container: Container = made(
            model, folder, environment=variant.container.environment, log=log, startup_timeout=variant.startup_timeout
        )
        closing.callback(container.stop)
        _wait_for(container, variant, cancelled)
        return HostedContainer(container, None, closing.pop_all())


@dataclass(frozen=True, slots=True)
class Host:
    """`start` with limits for multi-model containers: ``Emulator(containers=Host(Limits(models=2)))``."""

    limits: Limits

    def start(self, variant: Variant, **settings: Any) -> HostedContainer:
        """Start a variant's container, as `start` does with the same settings."""
        return start(variant, **settings, limits=self.limits)


def _create_model_cache(
    variant: Variant,
    container: Container,
    folder: Path,
    objects: EmulatedS3,
    served: ServedImage,
    limits: Limits | None,
    closing: ExitStack,
) -> ModelCache:
    if variant.container.model_data is None:
        raise ContainerError(f"The multi-model container of production variant {variant.name} has no ModelDataUrl.")
    place = folder / "models"
    if not is_word(str(place)):  # Triton reads the models there, and their paths reach a shell
        place = server_process.make_folder(temporary.build_prefix("models"))
        closing.callback(shutil.rmtree, place, ignore_errors=True)
    has_gpu = repository_overlay.has_gpu()

    def check(repository: Path, model: str) -> str:
        reason = _find_refusal(variant, repository, served, [model] if model else [], {}, exempt=(_DIRECTORY_NAME,))
        reason = reason or "; ".join(
            server_process.find_unsafe_names(repository, repository_overlay.read_configs(repository))
        )
        if not reason:
            repository_overlay.rewrite_configs(repository, to_cpu=not has_gpu)
        return reason

    return ModelCache(
        container,
        variant.container.model_data.uri,
        place,
        objects=objects,
        check=check,
        caching=variant.container.model_cache,
        limits=limits,
        download_timeout=variant.download_timeout,
    )


def _list_folder(repository: Path) -> container_images.FolderListing:
    """List the top of the model folder in the order in which the file system lists it, as `find` does."""
    with os.scandir(repository) as entries:
        listed = list(entries)
    return container_images.FolderListing(
        tuple(entry.name for entry in listed if entry.is_dir(follow_symlinks=False)),
        tuple(entry.name for entry in listed if entry.is_symlink() and entry.is_dir()),
        (repository / "config.pbtxt").is_file(),
    )


def _check_front_end(variant: Variant, served: ServedImage) -> None:
    """Raise unless the front end is one of this tritonserver; those of generate requests are newer."""
    name = "SAGEMAKER_TRITON_INFERENCE_TYPE"
    kind = variant.container.environment.get(name, "")
    if kind not in ("", "infer") and SERVE_VARIABLES[name].applies_to(served.release):
        raise ContainerError(
            f"The container of production variant {variant.name} cannot run here: {name}={kind} needs a Triton of "
            f"{SERVE_VARIABLES[name].first} or later, and the local one is 24.10; leave it out to serve infer requests."
        )


def _check_release(
    variant: Variant,
    repository: Path,
    served: ServedImage,
    outcome: container_images.ScriptOutcome,
    log: Callable[[str], None],
) -> None:
    loaded = [argument.partition("=")[2] for argument in outcome.arguments if argument.startswith("--load-model=")]
    reason = _find_refusal(variant, repository, served, loaded, variant.container.environment)
    if not reason and not repository_overlay.has_gpu():
        repository_overlay.move_to_cpu(repository)
    if reason:
        log(f"error: creating server: {reason}")
        raise _build_unhealthy_error(variant, f"Triton {served.release} refuses the repository: {reason}")


def _find_refusal(
    variant: Variant,
    repository: Path,
    served: ServedImage,
    models: list[str],
    environment: Mapping[str, str],
    *,
    exempt: tuple[str, ...] = (),
) -> str:
    """Return what the declared image cannot load of the repository, "" if nothing; ignores unknown instance types."""
    try:
        parse_instance_family(variant.instance_type)
        instance_type: str | None = variant.instance_type
    except TritonForgeError:
        instance_type = None
    report = run(
        repository,
        Options(
            image=served.tag,
            target="triton" if variant.container.multi_model else "sagemaker",
            environment=environment,
            instance_type=instance_type,
            # Developer guide, "Deploy models with Amazon SageMaker Serverless Inference": GPUs are not supported.
            gpus=0 if variant.serverless else None,
            load_models=models or None,
            exempt=exempt,
            allow_empty=True,
        ),
    )
    refused = [finding for finding in report.findings if served.refuses(finding)]
    return "; ".join(
        dict.fromkeys(f"{finding.path}: {finding.message}" if finding.path else finding.message for finding in refused)
    )


def _build_unhealthy_error(variant: Variant, reason: str) -> UnhealthyError:
    """Build the error of a container that ended, or never became ready; ``reason`` is what its log says."""
    return UnhealthyError(
        f"The {variant.container_name} for production variant {variant.name} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint.",
        detail=reason,
    )
