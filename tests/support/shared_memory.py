"""A Python model on a real server and what its regions in /dev/shm take; a program that prints it as JSON.

    python tests/support/shared_memory.py FOLDER COUNT ELEMENTS BATCH...

The model has COUNT instances and ELEMENTS FP32 numbers in and out, max_batch_size 8. With `SMALL` before it, the
program runs where /dev/shm has a size of its own.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import urllib3

from tests.support.python_models import IDENTITY
from tests.support.tensor_client import FREE, Asker
from tritonforge.errors import LaunchError
from tritonforge.serving.server import Server

#: The command before another one that has /dev/shm of a size: a mount in namespaces of its own.
SMALL = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size={} tmpfs /dev/shm; exec "$@"'

CONFIG = """
backend: "python"
max_batch_size: 8
input {{ name: "in_A" data_type: TYPE_FP32 dims: [{elements}] }}
output {{ name: "out_A" data_type: TYPE_FP32 dims: [{elements}] }}
instance_group {{ count: {count} kind: KIND_CPU }}
"""


def write_repository(folder: Path, *, count: int, elements: int) -> None:
    """Write the repository of the model "m"."""
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text(CONFIG.format(count=count, elements=elements))
    (folder / "m" / "1" / "model.py").write_text(IDENTITY)


def measure() -> int:
    """Return the bytes in use of /dev/shm, which must be the program's own."""
    state = os.statvfs("/dev/shm")
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def main() -> None:
    """Serve the model, send the batches, and print what was taken, or why a request or the start failed."""
    folder, count, elements, *batches = Path(sys.argv[1]), *map(int, sys.argv[2:])
    write_repository(folder, count=count, elements=elements)
    result: dict[str, object] = {"start": 0, "after": [], "errors": []}
    taken, errors = [], []
    try:
        with Server(folder, **FREE) as server, urllib3.PoolManager() as pool:
            result["start"] = measure()
            client = Asker(str(server.http_url), pool)
            for batch in batches:
                reply = client.infer("m", {"in_A": np.ones((batch, elements), np.float32)})
                taken.append(measure())
                errors += [reply.error] if reply.status != 200 else []
    except LaunchError as error:
        errors.append(str(error))
    sys.stdout.write(json.dumps({**result, "after": taken, "errors": errors}) + "\n")


if __name__ == "__main__":
    main()
