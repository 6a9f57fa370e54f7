"""Clients that each send one request after another to Triton's HTTP front end, with as little work as possible."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np


@dataclass
class Load:
    """Counts of a running load."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def send_closed_load(url: str, model: str, array: np.ndarray, *, clients: int) -> Iterator[Load]:
    """Send the array as the input IN of a model while the context lasts."""
    data = array.tobytes()
    tensor = {"name": "IN", "datatype": "FP32", "shape": array.shape, "parameters": {"binary_data_size": len(data)}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    load, ended, lock = Load(), threading.Event(), threading.Lock()

    def run(host: str, port: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        while not ended.is_set():
            connection.request("POST", f"/v2/models/{model}/infer", header + data, headers)
            response = connection.getresponse()
            body = response.read()
            with lock:
                load.answered += 1
                if response.status != 200:
                    load.failures.append(body[:200].decode(errors="replace"))
        connection.close()

    threads = [threading.Thread(target=run, args=(address.hostname, address.port)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()
