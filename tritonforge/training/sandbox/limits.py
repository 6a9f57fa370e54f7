"""Limits of a container's memory, CPU and processes: by control groups where there are any, by rlimits otherwise.

Sources: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst; setrlimit(2); docker run,
"Runtime options with Memory, CPUs" for what the three are called and mean.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

__all__ = [
    "NO_LIMITS",
    "EnforcedLimits",
    "Limits",
    "PreparedLimits",
    "apply_limits",
    "prepare_limits",
    "release_limits",
]

_PREFIX: Final = "tritonforge-"
#: Microseconds over which CPU time is counted: the kernel's default, which Docker keeps.
_PERIOD: Final = 100_000
#: Linux counts a cgroup's dead processes for a moment longer.
_RELEASE_SECONDS: Final = 1.0
_GROUP: Final = re.compile(rf"{_PREFIX}(\d+)-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits as docker run has them; None is no limit.

    ``memory`` is in bytes (--memory), ``cpus`` in CPUs' worth of time (--cpus), ``pids`` counts processes and threads
    (--pids-limit).
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


NO_LIMITS: Final = Limits()


class EnforcedLimits(TypedDict):
    """What a container's first process does to come under its limits; one value of `Container`."""

    groups: list[str]  # folders of control groups to enter
    rlimits: dict[str, int]  # by the number of the resource, as JSON has keys
    processors: list[int]  # empty: all


@dataclass(frozen=True, slots=True)
class PreparedLimits:
    """Limits ready to be entered, and what enforces each of them, in sentences."""

    enforced: EnforcedLimits
    sentences: tuple[str, ...] = ()


@dataclass(slots=True)
class _Hierarchy:
    """A mounted hierarchy of control groups, and the group of this process in it."""

    version: int
    mount: Path
    group: Path
    made: Path | None = field(default=None)


def prepare_limits(limits: Limits) -> PreparedLimits:
    """Make control groups with these limits, and say for each limit what will enforce it.

    What no control group can limit here is limited for each process (rlimits), or by a choice of processors.
    """
    enforced: EnforcedLimits = {"groups": [], "rlimits": {}, "processors": []}
    said = []
    found = _hierarchies()
    wanted = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
    for controller, value in wanted.items():
        if value is None:
            continue
        hierarchy = found.get(controller)
        by = ""
        if hierarchy is not None and _set(hierarchy, controller, value):
            by = f"by a control group (cgroup v{hierarchy.version})"
        said.append(_sentence(controller, value, by, enforced))
    enforced["groups"] = sorted({str(each.made) for each in found.values() if each.made is not None})
    return PreparedLimits(enforced, tuple(said))


def apply_limits(enforced: EnforcedLimits) -> None:
    """Put this process, and what it starts, under the limits. Raises OSError."""
    for group in enforced["groups"]:
        Path(group, "cgroup.procs").write_text("0")  # the process that writes it
    if enforced["processors"]:
        os.sched_setaffinity(0, enforced["processors"])
    for number, value in enforced["rlimits"].items():
        _, most = resource.getrlimit(int(number))
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(int(number), (value, value))


def release_limits(enforced: EnforcedLimits) -> None:
    """Remove the control groups, once nothing runs in them any more."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    for group in map(Path, enforced["groups"]):
        while group.is_dir():
            with contextlib.suppress(OSError):  # its processes are dead, and not yet counted as such
                group.rmdir()
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)


def _sentence(controller: str, value: float, by: str, enforced: EnforcedLimits) -> str:
    """What enforces a limit; without a control group the next best is put into ``enforced``."""
    if controller == "memory":
        if not by:
            enforced["rlimits"][str(int(resource.RLIMIT_DATA))] = int(value)
            by = "of each process (RLIMIT_DATA): no control group can be made here"
        return f"memory is limited to {int(value):,} bytes, {by}"
    if controller == "cpu":
        if not by:
            usable = sorted(os.sched_getaffinity(0))
            enforced["processors"] = usable[: max(1, math.ceil(value))]
            by = f"by its use of {len(enforced['processors'])} of {len(usable)} CPUs: no control group can be made here"
        return f"CPU time is limited to {value:g} CPUs, {by}"
    if not by:
        enforced["rlimits"][str(int(resource.RLIMIT_NPROC))] = int(value)
        by = "of this user (RLIMIT_NPROC, which does not bind root): no control group can be made here"
    return f"processes and threads are limited to {int(value)}, {by}"


def _set(hierarchy: _Hierarchy, controller: str, value: float) -> bool:
    """Limit a controller in the hierarchy's group for this container, which is made first; whether that worked."""
    group = hierarchy.made or _make(hierarchy, controller)
    if group is None:
        return False
    try:
        for name, text in _files(hierarchy.version, controller, value).items():
            (group / name).write_text(text)
    except OSError:
        if not hierarchy.made:
            with contextlib.suppress(OSError):
                group.rmdir()
        return False
    if hierarchy.version == 2 or controller == "memory":
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):  # swap would be memory without a limit
            if controller == "memory" and (group / swap).exists():
                with contextlib.suppress(OSError):
                    (group / swap).write_text("0" if hierarchy.version == 2 else str(int(value)))
    hierarchy.made = group
    return True


def _files(version: int, controller: str, value: float) -> Mapping[str, str]:
    if controller == "pids":
        return {"pids.max": str(int(value))}
    if controller == "memory":
        return {"memory.max" if version == 2 else "memory.limit_in_bytes": str(int(value))}
    quota = max(1000, int(value * _PERIOD))
    if version == 2:
        return {"cpu.max": f"{quota} {_PERIOD}"}
    return {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}


def _make(hierarchy: _Hierarchy, controller: str) -> Path | None:
    """A new group below this process's own, or of v2 below the nearest one above that hands the controller down.

    A group of v2 that has processes cannot hand its controllers down, so the nearest is most often the parent.
    """
    name = f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
    above = [hierarchy.group]
    while hierarchy.version == 2 and above[-1] != hierarchy.mount:
        above.append(above[-1].parent)
    for parent in above:
        _sweep(parent)
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if hierarchy.version == 1 or controller in (group / "cgroup.controllers").read_text().split():
                return group
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def _sweep(parent: Path) -> None:
    """Remove the groups of runs that were killed: empty ones, whose maker is gone. One in use cannot be removed."""
    with contextlib.suppress(OSError):
        for each in parent.iterdir():
            named = _GROUP.fullmatch(each.name)
            if named is not None and not Path("/proc", named[1]).exists():
                with contextlib.suppress(OSError):
                    each.rmdir()


def _hierarchies() -> dict[str, _Hierarchy]:
    """The hierarchy of each controller, with this process's own group in it."""
    found: dict[str, _Hierarchy] = {}
    try:
        mounts = list(_mounts(Path("/proc/self/mountinfo").read_text()))
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return found
    for kind, root, mount, options in mounts:
        for _, controllers, path in groups:
            is_own = controllers == "" if kind == "cgroup2" else bool(set(controllers.split(",")) & options)
            inside = os.path.relpath(path, root)
            group = mount / inside
            if not is_own or inside.startswith("..") or not group.is_dir():
                continue
            hierarchy = _Hierarchy(2 if kind == "cgroup2" else 1, mount, group)
            with contextlib.suppress(OSError):
                names = (mount / "cgroup.controllers").read_text().split() if kind == "cgroup2" else options
                found |= {name: hierarchy for name in names if name in ("memory", "cpu", "pids")}
    return found


def _mounts(text: str) -> Iterator[tuple[str, str, Path, set[str]]]:
    """The mounts of control groups in /proc/self/mountinfo: kind, root, place and options of each."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2"):
            _, _, _, root, place, *_ = before.split(" ")
            yield kind, root, Path(place), set(after.rsplit(" ", 1)[-1].split(","))
