"""Runs in processes of their own that end, as if killed, at one of their calls to AWS.

`Stopper` keeps one process that has made its clients already and forks for each run, so that a run takes milliseconds;
this file is that process's program.

TRITONFORGE_KILLS=all stops runs at every call instead of at every twelfth.
"""

from __future__ import annotations

import base64
import copyreg
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any

import pytest

from tests.support import deployments
from tests.support import training_runs as jobs
from tests.support.checkout import ROOT
from tests.support.short_waits import sleep_shortly
from tests.support.small_parts import PART, accept_small_parts
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.client import Session, Store
from tritonforge.sagemaker.jobs import job_data
from tritonforge.sagemaker.plans import executor

#: How a process ends that was stopped, one that made fewer calls than that, and one in which an error was raised.
STOPPED, DONE, BROKEN = 77, 0, 78

#: What can be stopped.
RUNS: dict[str, Callable[..., Any]] = {
    "deploy": deployments.deploy,
    "destroy": deployments.destroy,
    "train": jobs.create,
}

_SERVICES = ("sts", "sagemaker", "s3", "application-autoscaling", "cloudwatch", "logs")

# A read-only view of a dict, as values hold them, is sent as that dict.
copyreg.pickle(MappingProxyType, lambda view: (dict, (dict(view),)))


class SmallParts(Store):
    """A store with small parts."""

    def __init__(self, session: Session, **options: Any) -> None:
        super().__init__(session, **{"part_size": PART, **options})


@contextmanager
def small_parts() -> Iterator[None]:
    """Uploads of this process go in parts of `PART` bytes, and its emulator takes them."""
    with accept_small_parts(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "Store", SmallParts)
        patch.setattr(job_data, "Store", SmallParts)
        yield


class Stopper:
    """Runs that are stopped; a context manager. The emulator must be running: its address is in the environment."""

    def __enter__(self) -> Stopper:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stopped_runs"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes its input, which ends it
            pass

    def run(self, what: str, *given: Any, call: int, before: bool, **options: Any) -> int | None:
        """Begin one of `RUNS`, and stop at a call: before it is sent, or when AWS has answered it.

        Return None if it was stopped, and how many calls it made if it was done before.
        """
        task = pickle.dumps((what, given, options, call, before))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(task).decode() + "\n")
        self._process.stdin.flush()
        code, calls = map(int, self._process.stdout.readline().split())
        assert code in (STOPPED, DONE), f"the run ended with {code}"
        return calls if code == DONE else None


def stop_at_calls(attempt: Callable[[int], int | None], *, before: bool, least: int) -> None:
    """Call ``attempt`` with the numbers of calls at which it stops a run, up to the run's last call.

    ``attempt`` returns None, and the number of calls when the run made fewer. Every twelfth call is taken and the last
    one, and with TRITONFORGE_KILLS=all every call. What is left after a call is what is left before the next one: the
    runs that are stopped after a call begin at the seventh, so that both together cover every sixth state.

    Raises:
        AssertionError: if the run makes no more than ``least`` calls.
    """
    step = 1 if os.environ.get("TRITONFORGE_KILLS") == "all" else 12
    numbers = itertools.count(1 if before or step == 1 else 1 + step // 2, step)
    stopped = set()
    for number in numbers:
        if (calls := attempt(number)) is not None:
            break
        stopped.add(number)
    # How often a run looks at what AWS does varies. A number is tried once: what it made is there.
    last = next(number for number in range(calls, 0, -1) if number in stopped or attempt(number) is None)
    assert last >= least


def _run_stopped(task: bytes, session: Session) -> int:
    """One run, in a process that was forked for it; return how many calls it made if it was not stopped."""
    what, given, options, call, before = pickle.loads(task)
    lock, calls = threading.Lock(), 0

    def count_call(**_: Any) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == call:
                os._exit(STOPPED)

    for service in _SERVICES:
        session.client(service).meta.events.register("before-send" if before else "response-received", count_call)
    RUNS[what](session, *given, **options)
    return calls


def main() -> None:
    """Fork for each task that comes as a line, and answer how it ended."""
    session = Session(
        endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name=os.environ["AWS_DEFAULT_REGION"], sleep=sleep_shortly
    )
    for service in _SERVICES:
        session.client(service)
        service_model.load_service(service)
    with small_parts():
        _run_tasks(session)


def _run_tasks(session: Session) -> None:
    """Fork for each task."""
    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            code = BROKEN
            try:
                os.write(write, str(_run_stopped(base64.b64decode(line), session)).encode())
                code = DONE
            finally:
                sys.stderr.flush()
                if code == BROKEN:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is an exception
                os._exit(code)
        os.close(write)
        with os.fdopen(read) as report:
            calls = report.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {calls or 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
