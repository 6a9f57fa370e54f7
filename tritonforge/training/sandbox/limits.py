"""Limits of a container's memory, CPU and processes: by control groups where possible, else by rlimits. An edge.

Sources: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst; setrlimit(2); docker run,
"Runtime options with Memory, CPUs" for the names and meaning of the three limits.
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
    "NO_LIMITS", "EnforcedLimits", "Limits", "PreparedLimits", "apply_limits", "prepare_limits", "release_limits",
]  # fmt: skip

_PREFIX: Final = "tritonforge-"
#: Microseconds over which CPU time is counted: the kernel's default, which Docker keeps.
_PERIOD: Final = 100_000
#: Seconds for which Linux may still count a cgroup's dead processes.
_RELEASE_SECONDS: Final = 1.0
_GROUP: Final = re.compile(rf"{_PREFIX}(\d+)-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of docker run; None means unlimited.

    Attributes:
        memory: bytes (--memory).
        cpus: CPU time, in CPUs (--cpus).
        pids: processes and threads (--pids-limit).
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


NO_LIMITS: Final = Limits()


class EnforcedLimits(TypedDict):
    """The steps by which a container's first process applies its limits; a value of `ContainerSpec`."""

    groups: list[str]  # folders of control groups to enter
    rlimits: dict[str, int]  # by the number of the resource, as JSON has keys
    processors: list[int]  # empty: all


@dataclass(frozen=True, slots=True)
class PreparedLimits:
    """Limits ready to be applied, and a sentence for each that says what enforces it."""

    enforced: EnforcedLimits
    sentences: tuple[str, ...] = ()


@dataclass(slots=True)
class _Hierarchy:
    """A mounted hierarchy of control groups, and the group of this process in it."""

    version: int
    mount: Path
    group: Path
    created: Path | None = field(default=None)


def prepare_limits(limits: Limits) -> PreparedLimits:
    """Create control groups with these limits, and say for each limit what will enforce it.

    A limit that no control group can enforce here is enforced for each process (rlimits), or by a choice of processors.
    """
    enforced: EnforcedLimits = {"groups": [], "rlimits": {}, "processors": []}
    sentences = []
    hierarchies = _find_hierarchies()
    values = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
    for controller, value in values.items():
        if value is None:
            continue
        hierarchy = hierarchies.get(controller)
        by = ""
        if hierarchy is not None and _set_limit(hierarchy, controller, value):
            by = f"by a control group (cgroup v{hierarchy.version})"
        sentences.append(_describe_enforcement(controller, value, by, enforced))
    enforced["groups"] = sorted(
        {str(hierarchy.created) for hierarchy in hierarchies.values() if hierarchy.created is not None}
    )
    return PreparedLimits(enforced, tuple(sentences))


def apply_limits(enforced: EnforcedLimits) -> None:
    """Put this process, and those that it starts, under the limits. Raises OSError."""
    for group in enforced["groups"]:
        Path(group, "cgroup.procs").write_text("0")  # the process that writes it
    if enforced["processors"]:
        os.sched_setaffinity(0, enforced["processors"])
    for number, value in enforced["rlimits"].items():
        _, most = resource.getrlimit(int(number))
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(int(number), (value, value))


def release_limits(enforced: EnforcedLimits) -> None:
    """Remove the control groups, once no process is in them."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    for group in map(Path, enforced["groups"]):
        while group.is_dir():
            with contextlib.suppress(OSError):  # its dead processes are still counted
                group.rmdir()
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)


def _describe_enforcement(controller: str, value: float, by: str, enforced: EnforcedLimits) -> str:
    """Return what enforces a limit; without a control group the next best way is added to ``enforced``."""
    if controller == "memory":
        if not by:
            enforced["rlimits"][str(int(resource.RLIMIT_DATA))] = int(value)
            by = "of each process (RLIMIT_DATA): no control group can be created here"
        return f"memory is limited to {int(value):,} bytes, {by}"
    if controller == "cpu":
        if not by:
            usable = sorted(os.sched_getaffinity(0))
            enforced["processors"] = usable[: max(1, math.ceil(value))]
            used = f"{len(enforced['processors'])} of {len(usable)} CPUs"
            by = f"by its use of {used}: no control group can be created here"
        return f"CPU time is limited to {value:g} CPUs, {by}"
    if not by:
        enforced["rlimits"][str(int(resource.RLIMIT_NPROC))] = int(value)
        by = "of this user (RLIMIT_NPROC, which does not bind root): no control group can be created here"
    return f"processes and threads are limited to {int(value)}, {by}"


def _set_limit(hierarchy: _Hierarchy, controller: str, value: float) -> bool:
    """Limit a controller in the container's group, which is created if missing; return True on success."""
    group = hierarchy.created or _create_group(hierarchy, controller)
    if group is None:
        return False
    try:
        for name, text in _list_settings(hierarchy.version, controller, value).items():
            (group / name).write_text(text)
    except OSError:
        if not hierarchy.created:
            with contextlib.suppress(OSError):
                group.rmdir()
        return False
    if hierarchy.version == 2 or controller == "memory":
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):  # swap would exceed the limit
            if controller == "memory" and (group / swap).exists():
                with contextlib.suppress(OSError):
                    (group / swap).write_text("0" if hierarchy.version == 2 else str(int(value)))
    hierarchy.created = group
    return True


def _list_settings(version: int, controller: str, value: float) -> Mapping[str, str]:
    if controller == "pids":
        return {"pids.max": str(int(value))}
    if controller == "memory":
        return {"memory.max" if version == 2 else "memory.limit_in_bytes": str(int(value))}
    quota = max(1000, int(value * _PERIOD))
    if version == 2:
        return {"cpu.max": f"{quota} {_PERIOD}"}
    return {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}


def _create_group(hierarchy: _Hierarchy, controller: str) -> Path | None:
    """Create a group below this process's own, or in v2 below the nearest ancestor that delegates the controller.

    A group of v2 that has processes cannot delegate its controllers, so the nearest is most often the parent.
    """
    name = f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
    above = [hierarchy.group]
    while hierarchy.version == 2 and above[-1] != hierarchy.mount:
        above.append(above[-1].parent)
    for parent in above:
        _remove_stale_groups(parent)
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


def _remove_stale_groups(parent: Path) -> None:
    """Remove the groups of runs that were killed: empty ones, whose creator ended. Groups in use cannot be removed."""
    with contextlib.suppress(OSError):
        for group in parent.iterdir():
            named = _GROUP.fullmatch(group.name)
            if named is not None and not Path("/proc", named[1]).exists():
                with contextlib.suppress(OSError):
                    group.rmdir()


def _find_hierarchies() -> dict[str, _Hierarchy]:
    """Find the hierarchy of each controller, with this process's own group in it."""
    hierarchies: dict[str, _Hierarchy] = {}
    try:
        mounts = list(_parse_mounts(Path("/proc/self/mountinfo").read_text()))
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return hierarchies
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
                hierarchies |= {name: hierarchy for name in names if name in ("memory", "cpu", "pids")}
    return hierarchies


def _parse_mounts(text: str) -> Iterator[tuple[str, str, Path, set[str]]]:
    """Yield the mounts of control groups in /proc/self/mountinfo: kind, root, mount point and options."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2"):
            _, _, _, root, place, *_ = before.split(" ")
            yield kind, root, Path(place), set(after.rsplit(" ", 1)[-1].split(","))
