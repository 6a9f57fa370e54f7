"""The server of a search: a local tritonserver for this process only, or one that runs elsewhere; and its load.

Both load models by request (`model_control`). The local one is at a random address of loopback with a secret header, so
that no web page loads models into it. It is started again if it ended, for example because a Python model died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ConnectError, LaunchError
from tritonforge.inference.client import Client
from tritonforge.inference.private_server import open_private_server
from tritonforge.inference.wire import Payload
from tritonforge.profiling.load import Load, LoadResult, StopRule
from tritonforge.profiling.load_generator import MeasureProgress, measure
from tritonforge.profiling.target import Target, open_target
from tritonforge.serving.repository_overlay import has_gpu
from tritonforge.triton.schema import ModelConfig, new_model_config
from tritonforge.tuning.model_control import ModelControl, TrialError
from tritonforge.tuning.objective import Measurement
from tritonforge.validation.loaded_config import move_instances_to_cpu

__all__ = ["LoadedServer", "TrialLoad", "open_local_server", "open_running_server"]

#: Responses after which a measurement may be ended as hopeless, and how many standard deviations of their number count.
_FEWEST: Final = 20
_DEVIATIONS: Final = 3.0

_WARM_UP: Final = 0.3
#: The precision at which a measurement ends before its time is over, and how much longer a long one may take.
_SHORT_PRECISION: Final = 0.04
_LONG_PRECISION: Final = 0.02
_LONGER: Final = 2.0


@dataclass(frozen=True, slots=True)
class TrialLoad:
    """The load of every trial: requests, how they are sent, and when a short and a long measurement end."""

    model: str
    build_requests: Callable[[Client], tuple[Sequence[Payload], Sequence[Sequence[int]]]]
    load: Load
    short: StopRule
    long: StopRule

    @classmethod
    def create(
        cls,
        model: str,
        build_requests: Callable[[Client], tuple[Sequence[Payload], Sequence[Sequence[int]]]],
        load: Load,
        *,
        measure_seconds: float,
    ) -> TrialLoad:
        """Return a load whose short measurements take at most ``measure_seconds``, and long ones at least that."""
        short = StopRule(
            precision=_SHORT_PRECISION,
            min_seconds=min(1.0, measure_seconds),
            max_seconds=measure_seconds,
            warm_up=_WARM_UP,
        )
        long = StopRule(
            precision=_LONG_PRECISION,
            min_seconds=measure_seconds,
            max_seconds=_LONGER * measure_seconds,
            warm_up=_WARM_UP,
        )
        return cls(model, build_requests, load, short, long)


@dataclass(slots=True)
class LoadedServer:
    """A server whose models' configurations change from trial to trial, under a load.

    ``restart`` starts a local server again; None for one that this process did not start.
    """

    load: TrialLoad
    control: ModelControl
    client: Client
    restart: Callable[[], tuple[ModelControl, Client]] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    #: The last result of the load generator.
    result: LoadResult | None = None
    _requests: Sequence[Payload] = ()
    _scripts: Sequence[Sequence[int]] = ()
    _target: Target | None = None

    def apply(self, configs: Mapping[str, ModelConfig]) -> None:
        """Serve these configurations.

        Raises:
            TrialError: Triton does not load one of them.
            LaunchError, ConnectError: the server ended and does not start again.
        """
        fitted = _fit_machine(configs)
        try:
            self.control.apply(fitted)
        except ConnectError:
            if self.restart is None:
                raise
            # It may have ended during the trial before; if it ends again, these configurations are the reason.
            self._restart(self.restart)
            try:
                self.control.apply(fitted)
            except ConnectError as error:
                self._restart(self.restart)
                raise TrialError(f"the server ended while it loaded models: {error}") from error

    def _restart(self, restart: Callable[[], tuple[ModelControl, Client]]) -> None:
        self.control, self.client = restart()
        self._target = None

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Measure the load on the present configurations.

        A measurement whose throughput is below ``least_throughput`` by three standard deviations of its number of
        responses (as of a Poisson process; a queue has less) ends early. One that is cancelled may have no responses.

        Raises:
            ConnectError, ServerError, DecodeError, EncodeError: the server gives no valid answer.
        """
        hopeless = threading.Event()

        def watch(progress: MeasureProgress) -> None:
            if self.cancelled.is_set():
                hopeless.set()
            if progress.phase != "measuring" or progress.requests < _FEWEST:
                return
            most = (progress.requests + _DEVIATIONS * progress.requests**0.5) / progress.seconds
            if most < least_throughput:
                hopeless.set()

        if self._target is None:
            self._target = open_target(self.client, model=self.load.model)
            self._requests, self._scripts = self.load.build_requests(self.client)
        self.result = result = measure(
            self._target,
            self._requests,
            self.load.load,
            stop=self.load.long if is_long else self.load.short,
            scripts=self._scripts,
            cancelled=hopeless,
            on_progress=watch,
        )
        total = result.requests + result.failures
        if not total and not self.cancelled.is_set():
            raise ConnectError(f"{self._target.url}: no answers")
        return Measurement(
            throughput=result.throughput.value,
            p50=result.p50 if result.requests else 0.0,
            p99=result.p99 if result.requests else 0.0,
            errors=result.failures / max(total, 1),
        )

    def list_executed_models(self) -> frozenset[str]:
        """Return the models that ran during the last measurement."""
        statistics = self.result.statistics if self.result is not None else None
        return frozenset(entry.name for entry in (statistics or {}).values() if entry.executions)


@contextmanager
def open_local_server(
    repository: Path,
    configs: Mapping[str, ModelConfig],
    load: TrialLoad,
    *,
    timeout: float = 300.0,
    on_progress: Callable[[str], None] = lambda sentence: None,
    on_warning: Callable[[str], None] = lambda sentence: None,
) -> Iterator[LoadedServer]:
    """Serve a repository while the context lasts, for this process only.

    Raises:
        LaunchError: it does not load, with Triton's own reason.
        MissingExtraError: nvidia-pytriton is not installed.
    """
    fitted = _fit_machine(configs)
    with ExitStack() as stack:
        running = stack.enter_context(ExitStack())

        def start() -> tuple[ModelControl, Client]:
            running.close()
            private = running.enter_context(
                open_private_server(
                    repository,
                    configs,
                    models=sorted(configs),
                    timeout=timeout,
                    on_progress=on_progress,
                    on_warning=on_warning,
                )
            )
            headers = private.server.model_control_headers
            control = ModelControl(private.http_url, fitted, headers=headers, timeout=timeout)
            running.callback(control.close)
            return control, private.open_stream() or private.client

        control, client = start()
        yield LoadedServer(load, control, client, start)


@contextmanager
def open_running_server(
    url: str,
    configs: Mapping[str, ModelConfig],
    load: TrialLoad,
    *,
    headers: Mapping[str, str],
    timeout: float = 300.0,
    on_restore: Callable[[str], None] = lambda sentence: None,
) -> Iterator[LoadedServer]:
    """Use a Triton that runs elsewhere, in explicit model control and with the repository of these configurations.

    Its files do not change. At the end its models are loaded again as its repository has them.

    Raises:
        ServerError: it does not load models by request.
        ConnectError: it does not answer.
    """
    control = ModelControl(url, configs, headers=headers, timeout=timeout)
    try:
        control.load_all()
        with Client(url, front_end="triton") as client:
            yield LoadedServer(load, control, client)
    finally:
        try:
            control.restore()
        except (TrialError, LaunchError, ConnectError) as error:
            on_restore(f"{url}: its models were not loaded again as its repository has them: {error}")
        control.close()


def _fit_machine(configs: Mapping[str, ModelConfig]) -> dict[str, ModelConfig]:
    """Return the configurations for this machine: instances of a GPU run on the CPU if the machine has no GPU."""
    if has_gpu():
        return dict(configs)
    fitted = {}
    for name, config in configs.items():
        fitted[name] = new_model_config()
        _as_any(fitted[name]).CopyFrom(config)
        move_instances_to_cpu(fitted[name])
    return fitted


def _as_any(config: ModelConfig) -> Any:
    """Return a message whose class protobuf makes at run time."""
    return config
