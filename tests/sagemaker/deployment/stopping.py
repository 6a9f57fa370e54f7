"""Runs in processes of their own that end, as if killed, at one of their calls to AWS.

`Stopper` keeps one process that has made its clients already and forks for each run, so that a run takes milliseconds;
this file is that process's program.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.sagemaker.deployment.running import deploy, destroy
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.applying import uploading, waiting
from tritonforge.sagemaker.aws import Session, Store
from tritonforge.sagemaker.deployment import Deployment

#: How a process ends that was stopped, one that made fewer calls than that, and one in which an error was raised.
STOPPED, DONE, BROKEN = 77, 0, 78

#: Parts small enough that a small archive has several: S3's least is 5 MiB.
PART = 5 << 20

_ROOT = Path(__file__).parents[3]
_SERVICES = ("sts", "sagemaker", "s3", "application-autoscaling", "cloudwatch", "logs")


class Stopper:
    """Runs that are stopped; a context manager."""

    def __enter__(self) -> Stopper:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sagemaker.deployment.stopping"],
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

    def run(
        self, what: str, wanted: Deployment, repository: Path, *, prune: int | None = None, call: int, before: bool
    ) -> bool:
        """Deploy or destroy, and stop at a call: before it is sent, or when AWS has answered it.

        Whether it was stopped, and not done before it made so many calls.
        """
        # Read-only views of dicts cannot be pickled.
        values = {each.name: getattr(wanted, each.name) for each in dataclasses.fields(wanted)}
        fields = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        task = pickle.dumps((what, fields, repository, prune, call, before))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(task).decode() + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (STOPPED, DONE), f"the run ended with {code}"
        return code == STOPPED


class _Small(Store):
    """A store with small parts."""

    def __init__(self, session: Session, **options: Any) -> None:
        super().__init__(session, **{"part_size": PART, **options})


def _stopped(task: bytes, session: Session) -> int:
    """One run, in a process that was forked for it."""
    what, fields, repository, prune, call, before = pickle.loads(task)
    lock, calls = threading.Lock(), 0

    def reached(**_: Any) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == call:
                os._exit(STOPPED)

    for service in _SERVICES:
        session.client(service).meta.events.register("before-send" if before else "response-received", reached)
    if what == "deploy":
        deploy(session, Deployment(**fields), repository, prune=prune)
    else:
        destroy(session, Deployment(**fields))
    return DONE


def main() -> None:
    """Fork for each task that comes as a line, and answer how it ended."""
    session = Session(endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name=os.environ["AWS_DEFAULT_REGION"])
    for service in _SERVICES:
        session.client(service)
        service_model.service(service)
    waiting._FIRST = 0.02  # type: ignore[misc]  # the emulated endpoint changes in milliseconds
    uploading.Store = _Small  # type: ignore[attr-defined,misc]  # small parts
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = BROKEN
            try:
                code = _stopped(base64.b64decode(line), session)
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
