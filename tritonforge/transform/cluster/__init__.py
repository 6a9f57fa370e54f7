"""Batch transform on a cluster: one tritonserver for each worker, objects distributed by a driver on this machine.

    listing -> driver (journal, dispatcher) -> windows of objects -> workers (one `engine.run` each) -> outputs
                      ^------------- finished objects, notes, ends --------------'

`run_on_cluster` returns the same `Outcome` as `run`. `dispatch` and `placement` decide without I/O which worker gets
what; `ray_cluster` is the only importer of ray.
"""

from __future__ import annotations

from tritonforge.transform.cluster.driver import run_on_cluster
from tritonforge.transform.cluster.messages import Gathering, WorkerSettings
from tritonforge.transform.cluster.placement import WorkerDemand
from tritonforge.transform.cluster.ray_cluster import RayCluster

__all__ = ["Gathering", "RayCluster", "WorkerDemand", "WorkerSettings", "run_on_cluster"]
