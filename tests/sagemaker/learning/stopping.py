"""Runs of training jobs in processes of their own that end, as if killed, at one of their calls to AWS.

`Stopper` keeps one process that has made its clients already and forks for each run; this file is its program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.sagemaker.deployment.stopping import BROKEN, DONE, PART, STOPPED
from tests.sagemaker.learning.running import create
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.applying import Silent
from tritonforge.sagemaker.aws import Session, Store
from tritonforge.sagemaker.learning import uploading
from tritonforge.training.job import TrainingJob

_ROOT = Path(__file__).parents[3]
_SERVICES = ("sts", "sagemaker", "s3", "logs")


class Stopper:
    """Runs that are stopped; a context manager."""

    def __enter__(self) -> Stopper:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sagemaker.learning.stopping"],
            cwd=_ROOT,
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

    def run(self, job: TrainingJob, *, call: int, before: bool) -> bool:
        """Create a job, and stop at a call: before it is sent, or when AWS has answered it.

        Whether it was stopped, and not done before it made so many calls.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([job.to_request(), call, before]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (STOPPED, DONE), f"the run ended with {code}"
        return code == STOPPED


class _Small(Store):
    """A store with small parts."""

    def __init__(self, session: Session, **options: Any) -> None:
        super().__init__(session, **{"part_size": PART, **options})


def _stopped(task: str, session: Session) -> int:
    """One run, in a process that was forked for it."""
    request, call, before = json.loads(task)
    lock, calls = threading.Lock(), 0

    def reached(**_: Any) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == call:
                os._exit(STOPPED)

    for service in _SERVICES:
        session.client(service).meta.events.register("before-send" if before else "response-received", reached)
    create(session, TrainingJob.from_request(request), progress=Silent())
    return DONE


def main() -> None:
    """Fork for each task that comes as a line, and answer how it ended."""
    session = Session(endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name=os.environ["AWS_DEFAULT_REGION"])
    for service in _SERVICES:
        session.client(service)
        service_model.service(service)
    uploading.Store = _Small  # type: ignore[attr-defined,misc]  # small parts
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = BROKEN
            try:
                code = _stopped(line, session)
            finally:
                sys.stderr.flush()
                if code == BROKEN:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is an exception
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
