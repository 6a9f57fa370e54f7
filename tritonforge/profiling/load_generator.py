"""The load generator: processes that send requests, and the measurement of what comes back.

`measure` is the function that others call. The processes run in sessions of their own, so that Ctrl-C reaches the
caller only, which then has the figures until that moment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tritonforge.errors import EncodeError
from tritonforge.inference.wire import Payload
from tritonforge.profiling.load import (
    ClosedLoop,
    Load,
    LoadResult,
    OpenLoop,
    StopRule,
    build_result,
    is_precise,
)
from tritonforge.profiling.load_process import FRAME_SECONDS, LoadProcesses
from tritonforge.profiling.statistics import subtract_statistics
from tritonforge.profiling.target import Target

__all__ = ["MeasureProgress", "measure"]

Array = npt.NDArray[np.float64]

#: Seconds between two checks for stability, at first.
_CHECK: Final = 0.25
#: A process that takes more than this share of a processor gets another one beside it.
_BUSY: Final = 0.75
#: Warm-up ends when the throughput of two windows in a row differs by at most this share, or after this many windows.
_STEADY: Final = 0.1
_MOST_WINDOWS: Final = 10


@dataclass(frozen=True, slots=True)
class MeasureProgress:
    """Where a measurement is: ``phase`` is "warm-up" or "measuring"."""

    phase: str
    seconds: float
    requests: int
    throughput: float


def measure(
    target: Target,
    requests: Sequence[Payload],
    load: Load,
    *,
    stop: StopRule = StopRule(),  # noqa: B008 - a frozen value
    scripts: Sequence[Sequence[int]] = (),
    processes: int | None = None,
    seed: int = 0,
    timeout: float = 70.0,
    cancelled: threading.Event | None = None,
    on_progress: Callable[[MeasureProgress], None] = lambda progress: None,
) -> LoadResult:
    """Send requests to a model until the figures are stable, and return them.

    Args:
        target: where requests are sent.
        requests: what is sent; connections take them in turn.
        load: how they are sent.
        stop: when the measurement ends.
        scripts: for sequences: the numbers of the requests that a connection sends, again and again; the connections
            take the scripts in turn. Default: all requests, for every connection.
        processes: how many send. Default: one, and more while one cannot keep up and there are processors.
        seed: of the times of a Poisson load.
        timeout: seconds until a request without an answer is an error.
        cancelled: once set, ends the measurement; the result has what was measured, and ``is_interrupted``.
        on_progress: is called about ten times per second.

    Raises:
        EncodeError: no requests, or a load that the target cannot carry.
        ConnectError: a process of the generator ended, with its reason.
        DecodeError: the server's statistics are invalid, or a model was loaded again meanwhile.
    """
    if not requests:
        raise EncodeError("no requests to send (expected at least one)")
    if isinstance(load, ClosedLoop) and load.concurrency < 1:
        raise EncodeError(f"concurrency: expected at least 1, got {load.concurrency}")
    if isinstance(load, OpenLoop) and not load.rate > 0:
        raise EncodeError(f"rate: expected more than 0 requests per second, got {load.rate:g}")
    if target.is_decoupled and not target.url.startswith("grpc://"):
        raise EncodeError(f"{target.model} is decoupled; use Triton's gRPC port (grpc://host:port)")
    scripts = scripts or [range(len(requests))]
    most = max(1, os.cpu_count() or 1)
    if isinstance(load, ClosedLoop):
        most = min(most, load.concurrency)
    count = min(processes or 1, most if processes is None else processes)
    while True:
        with LoadProcesses(
            target, requests, load, count=count, scripts=scripts, seed=seed, timeout=timeout
        ) as generator:
            session = _Measurement(generator, target, load, stop, cancelled or threading.Event(), on_progress)
            is_limited = session.warm_up()
            if is_limited and processes is None and count < most:
                count = min(most, 2 * count)
                continue
            return session.run()


class _Measurement:
    """Warms up, measures until the stop rule is met, and builds the result."""

    def __init__(
        self,
        generator: LoadProcesses,
        target: Target,
        load: Load,
        stop: StopRule,
        cancelled: threading.Event,
        on_progress: Callable[[MeasureProgress], None],
    ) -> None:
        self._generator = generator
        self._target = target
        self._load = load
        self._stop = stop
        self._cancelled = cancelled
        self._on_progress = on_progress
        self._started = time.monotonic()

    def warm_up(self) -> bool:
        """Wait until the throughput is steady; return whether the generator limits it."""
        self._wait_for_answer()
        window = self._stop.warm_up
        if window <= 0:
            return False
        before = -1.0
        for _ in range(_MOST_WINDOWS):
            begin = time.monotonic()
            self._pause("warm-up", begin, window)
            if self._cancelled.is_set():
                return False
            now = begin + window
            count = len(self._generator.read_times(begin, now))
            tolerance = max(_STEADY * max(before, count), 3 * max(before, count, 1) ** 0.5)
            if before >= 0 and abs(count - before) <= tolerance:
                return self._generator.measure_usage(begin, now).busiest > _BUSY
            before = count
        return self._generator.measure_usage(begin, now).busiest > _BUSY

    def run(self) -> LoadResult:
        """Measure and return the result."""
        read = self._target.read_statistics
        before = read() if read is not None else None
        begin = time.monotonic()
        next_check = begin + self._stop.min_seconds
        is_reached = False
        while True:
            self._pause("measuring", begin, FRAME_SECONDS)
            now = time.monotonic()
            if self._cancelled.is_set() or now - begin >= self._stop.max_seconds:
                break
            if now >= next_check:
                times = self._generator.read_times(begin, now - FRAME_SECONDS)
                if is_reached := is_precise(times, begin, self._stop):
                    break
                next_check = now + max(_CHECK, (now - begin) / 20)
        statistics, seconds = None, 0.0
        end = time.monotonic()
        if read is not None and before is not None:
            statistics = subtract_statistics(read(), before)
            seconds = end - begin
        time.sleep(2 * FRAME_SECONDS)  # the last frames
        times = self._generator.read_times(begin, end)
        return build_result(
            self._load,
            times,
            begin=begin,
            end=end,
            warm_up=begin - self._started,
            errors=self._generator.count_errors(begin, end),
            generator=self._generator.measure_usage(begin, end),
            is_stable=is_reached,
            is_interrupted=self._cancelled.is_set(),
            statistics=statistics,
            statistics_seconds=seconds,
        )

    def _wait_for_answer(self) -> None:
        """Wait for the first answers, which a process that starts and a cold model delay, or for an error."""
        deadline = time.monotonic() + self._stop.max_seconds
        while not self._cancelled.is_set() and time.monotonic() < deadline:
            if len(self._generator.read_times(0.0, float("inf"))) or self._generator.count_errors(0.0, float("inf")):
                return
            self._cancelled.wait(FRAME_SECONDS / 2)

    def _pause(self, phase: str, begin: float, seconds: float) -> None:
        """Wait, and report the progress meanwhile."""
        until = time.monotonic() + seconds
        while not self._cancelled.is_set() and (left := until - time.monotonic()) > 0:
            self._cancelled.wait(min(left, FRAME_SECONDS))
            now = time.monotonic()
            count = self._generator.count_answers(begin)
            passed = max(now - begin, 1e-9)
            self._on_progress(MeasureProgress(phase, passed, count, count / passed))
