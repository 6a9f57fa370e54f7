"""Flags that limit a program's memory, CPU and processes, named and written as docker run has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from tritonforge.training.sandbox import Limits

__all__ = ["limit_flags", "limits_of", "parse_memory"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MEMORY: Final = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
#: What docker run takes at least; less does not hold a Python.
_LEAST_MEMORY: Final = 6 * 2**20

_FLAGS: Final = (
    click.option("--memory", metavar="SIZE", help="Limit the program's memory: 512m, 8g; default: no limit."),
    click.option(
        "--cpus", type=click.FloatRange(0, min_open=True), metavar="N", help="Limit its CPU time, in CPUs: 1.5."
    ),
    click.option("--pids-limit", type=click.IntRange(1), metavar="N", help="Limit its processes and threads."),
)


def limit_flags(command: _Command) -> _Command:
    """The flags --memory, --cpus and --pids-limit."""
    for option in reversed(_FLAGS):
        command = option(command)
    return command


def limits_of(memory: str | None, cpus: float | None, pids_limit: int | None) -> Limits:
    """The limits that the flags give. Raises click.UsageError for a size that cannot be read."""
    return Limits(memory=None if memory is None else parse_memory(memory), cpus=cpus, pids=pids_limit)


def parse_memory(text: str) -> int:
    """Bytes of a size as docker run writes it: 512m, 8g, 1048576. Raises click.UsageError."""
    found = _MEMORY.fullmatch(text)
    if found is None:
        raise click.UsageError(f"--memory {text!r} is not a size (expected a number with b, k, m or g, such as 512m)")
    size = int(found[1]) * _UNITS[found[2].lower()]
    if size < _LEAST_MEMORY:
        raise click.UsageError(f"--memory {text} is less than the minimum of 6m")
    return size
