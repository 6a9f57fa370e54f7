"""A Ray cluster of several nodes on this machine, which can be killed, and a repository for its jobs."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.killed_transforms import descendants
from tests.support.python_models import write_model

#: An address of the loopback network that Ray does not replace by the machine's own.
LOOPBACK = "127.0.0.2"


@contextmanager
def start_nodes(count: int, *, cpus: int = 1) -> Iterator[Any]:
    """Yield a `ray.cluster_utils.Cluster` of a head without CPUs, where the driver runs, and ``count`` nodes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray._private.utils import get_ray_address_file
    from ray.cluster_utils import Cluster

    # A cluster writes its address there, also where its own directory is another one, and expects the directory.
    Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
    shared = {"node_ip_address": LOOPBACK, "include_dashboard": False, "object_store_memory": 80 << 20}
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: the paths of Ray's sockets have at most 107 bytes
    # A lost node is noticed in a second, instead of half a minute.
    quick = {"health_check_period_ms": 300, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
    head = {**shared, "num_cpus": 0, "temp_dir": folder, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.worker_list = [cluster.add_node(num_cpus=cpus, wait=False, **shared) for _ in range(count)]
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def find_working_node(cluster: Any, seen: Path) -> Any:
    """Return the node of a model that has answered a request, by the files that models leave in ``seen``; else None."""
    answered = {int(path.name) for path in seen.iterdir()}
    for node in cluster.worker_list:
        (raylet,) = node.all_processes["raylet"]
        if answered & set(descendants(raylet.process.pid)):
            return node
    return None


#: A model that says a text backwards, after PAUSE seconds, and leaves its process number in the folder SEEN.
_CONFIG = """
max_batch_size: 16
input { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "TURNED" data_type: TYPE_STRING dims: [ 1 ] }
"""
_CODE = """
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        if "SEEN" in os.environ:
            open(os.path.join(os.environ["SEEN"], str(os.getpid())), "w").close()
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            time.sleep(float(os.environ.get("PAUSE", "0")))
            turned = np.array([[text[::-1]] for text in texts], dtype=object)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("TURNED", turned)]))
        return answers
"""


def write_repository(repository: Path) -> Path:
    """A repository with the one model."""
    write_model(repository, "turn", _CONFIG, _CODE)
    return repository


def list_listeners(pid: int) -> set[str]:
    """The addresses at which a process and those below it listen."""
    inodes = set()
    for process in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    addresses = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # LISTEN
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[start : start + 4][::-1] for start in range(0, len(raw), 4)]
                address = ipaddress.ip_address(b"".join(words))
                addresses.add(str(getattr(address, "ipv4_mapped", None) or address))
    return addresses
