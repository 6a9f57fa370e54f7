"""On which nodes of a cluster workers are started. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Node", "Placement", "WorkerDemand", "name_nodes", "plan_placements"]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster that is alive, with its CPUs and GPUs, reserved or not."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Placement:
    """A worker's node and the CPUs and GPUs that it reserves there."""

    node: Node
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDemand:
    """How many workers a job has and what each reserves.

    ``workers`` None is one for each node; ``cpus`` None is an equal part of the node's.
    """

    workers: int | None = None
    cpus: float | None = None
    gpus: float = 0.0


def plan_placements(
    demand: WorkerDemand, nodes: Sequence[Node], running: Collection[Placement], barred: Collection[str] = ()
) -> list[Placement]:
    """Return the workers that can be started now.

    Args:
        demand: what the job asks for.
        nodes: the nodes that are alive.
        running: the workers that run or start.
        barred: ids of nodes where workers do not start.
    """
    usable = [node for node in nodes if node.id not in barred and node.cpus >= 1]
    if not usable:
        return []
    on_node = {node.id: [placed for placed in running if placed.node.id == node.id] for node in usable}
    missing = len(usable) if demand.workers is None else max(0, demand.workers - len(running))
    per_node = 1 if demand.workers is None else -(-demand.workers // len(usable))
    placements: list[Placement] = []
    for _ in range(per_node):
        for node in usable:
            placed = on_node[node.id]
            cpus = demand.cpus if demand.cpus is not None else _divide(node.cpus, per_node)
            free_cpus = node.cpus - sum(other.cpus for other in placed)
            free_gpus = node.gpus - sum(other.gpus for other in placed)
            has_space = cpus <= free_cpus and demand.gpus <= free_gpus and len(placed) < per_node
            if has_space and len(placements) < missing:
                placements.append(Placement(node, cpus, demand.gpus))
                placed.append(placements[-1])
    return placements


def _divide(cpus: float, workers: int) -> float:
    """Return the CPUs of one of several workers: whole ones where there are enough.

    >>> _divide(8, 3), _divide(2, 4)
    (2.0, 0.5)
    """
    return float(cpus // workers) if cpus >= workers else cpus / workers


def name_nodes(nodes: Iterable[tuple[str, str, float, float]]) -> list[Node]:
    """Return nodes of (id, host name, CPUs, GPUs); two on one host have their ids in their names.

    >>> [node.name for node in name_nodes([("a1b2c3d4", "x", 1, 0), ("f6e5d4c3", "x", 1, 0), ("b", "y", 1, 0)])]
    ['x-a1b2c3', 'x-f6e5d4', 'y']
    """
    given = list(nodes)
    hosts = [host for _, host, _, _ in given]
    return [
        Node(identity, f"{host}-{identity[:6]}" if hosts.count(host) > 1 else host, cpus, gpus)
        for identity, host, cpus, gpus in given
    ]
