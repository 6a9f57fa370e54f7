"""The same DALI pipeline and graph without a server: the other side of every server figure.

A process of its own, so that its threads are idle while the server is measured. It reads one JSON request a line from
standard input (``{"images": [paths], "rounds": n}``), runs the images as one batch n times, and answers one line: the
seconds of each round.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge.model_files.dali_pipeline import move_to_cpu


def main(pipeline_file: str, graph_file: str, batch: int) -> None:
    """Load both models, then answer requests until standard input ends."""
    import nvidia.dali as dali
    import tensorflow as tf

    pipeline = dali.Pipeline.deserialize(
        serialized_pipeline=move_to_cpu(Path(pipeline_file).read_bytes()),
        batch_size=batch,
        num_threads=2,
        device_id=None,
        prefetch_queue_depth=1,
    )
    pipeline.build()
    graph = tf.Graph()
    with graph.as_default():
        definition = tf.compat.v1.GraphDef()
        definition.ParseFromString(Path(graph_file).read_bytes())
        tf.import_graph_def(definition, name="")
    (source,) = [node.name for node in definition.node if node.op == "Placeholder"]
    read = {name.split(":")[0].lstrip("^") for node in definition.node for name in node.input}
    (output,) = [node.name for node in definition.node if node.name not in read]
    (name,) = [node.name for node in _externals(pipeline_file)]
    session = tf.compat.v1.Session(graph=graph)

    def once(images: list[Any]) -> None:
        pipeline.feed_input(name, images)
        (pixels,) = pipeline.run()
        session.run(f"{output}:0", {f"{source}:0": pixels.as_array()})

    for line in sys.stdin:
        request = json.loads(line)
        images = [np.frombuffer(Path(path).read_bytes(), np.uint8) for path in request["images"]]
        seconds = []
        for _ in range(request["rounds"]):
            began = time.perf_counter()
            once(images)
            seconds.append(time.perf_counter() - began)
        print(json.dumps(seconds), flush=True)  # noqa: T201  # the answer to the benchmark's process


def _externals(pipeline_file: str) -> Any:
    from tritonforge.model_files.dali_pipeline import read_signature

    return read_signature(Path(pipeline_file).read_bytes()).inputs


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
