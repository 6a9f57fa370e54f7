"""Requests that were cancelled while they waited, on a backend whose model takes long or not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritonforge.serving.backends.configuration import parse_config
from tritonforge.serving.backends.requests import RunTime, run_batch


class Request:
    """A request without tensors that was cancelled."""

    checks = 0

    def is_cancelled(self) -> bool:
        """Count the calls."""
        self.checks += 1
        return True

    def inputs(self) -> Sequence[Any]:
        """No tensors."""
        return ()

    def requested_output_names(self) -> Sequence[str]:
        """No outputs."""
        return ()


@pytest.mark.parametrize(("seconds", "checks"), [(RunTime().seconds, 1), (0.01, 1), (0.001, 0)])
def test_it_is_only_asked_about_where_running_it_takes_long(
    seconds: float, checks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    utilities = SimpleNamespace(TritonError=lambda text, code: text, InferenceResponse=lambda **parts: parts)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    monkeypatch.setattr(utilities.TritonError, "CANCELLED", 1, raising=False)
    runs: list[int] = []

    def compute(batch: Sequence[Any]) -> list[dict[str, Any]]:
        runs.append(len(batch))
        return [{} for _ in batch]

    request, run_time = Request(), RunTime(seconds)
    (response,) = run_batch([request], parse_config({"name": "m"}, Path()), compute, run_time=run_time)
    assert (request.checks, runs) == (checks, [1 - checks])
    assert response.get("error") == ("the request was cancelled" if checks else None)
    assert run_time.seconds == seconds if checks else run_time.seconds < seconds
