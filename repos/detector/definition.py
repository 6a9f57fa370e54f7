"""A detector of objects: DALI decoding, a network of one stage, suppression, and their ensemble `detect`.

As committed its weights are random: it shows how a trained detector is served, and is what CI checks. Training
declares the same models with the weights that it has learned (`exporting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from graphs import MOST, OVERLAP, THRESHOLD, decode_images, detector, image_bytes_detector
from locations import count

from tritonforge import (
    TYPE_FP32,
    TYPE_INT32,
    TYPE_STRING,
    TYPE_UINT8,
    Dali,
    DynamicBatching,
    Ensemble,
    File,
    Function,
    Input,
    Model,
    Output,
    Python,
    Tensor,
    TensorFlow,
)
from tritonforge.training.detection import boxes


def declare_models(
    labels: Sequence[str],
    side: int,
    *,
    weights: str | None = None,
    kept: Mapping[str, File | bytes] | None = None,
) -> Mapping[str, Model | Ensemble]:
    """The models of a detector by name.

    ``labels`` are the names of its classes, ``side`` that of its input in pixels, ``weights`` the file of its weights
    (None for random ones), ``kept`` what further lies in the folder of the network.
    """
    made_with = {"classes": len(labels), "side": side, "weights": weights}
    lines = "".join(f"{label}\n" for label in labels).encode()
    places = count(side)
    decode = Dali(
        "decode",
        max_batch_size=32,
        input=[Input("encoded", TYPE_UINT8, [-1], allow_ragged_batch=True)],
        output=[Output("pixels", TYPE_FP32, [side, side, 3])],
        dynamic_batching=DynamicBatching(),
        parameters={"num_threads": 2},
        pipeline=partial(decode_images, side=side),
    )
    network = TensorFlow(
        "detector",
        max_batch_size=32,
        input=[Input("pixels", TYPE_FP32, [side, side, 3], format="FORMAT_NHWC")],
        output=[
            Output("boxes", TYPE_FP32, [places, 4]),
            Output("scores", TYPE_FP32, [places, len(labels)]),
        ],
        dynamic_batching=DynamicBatching(),
        artifact=Function(build=partial(detector, **made_with), random_weights=weights is None),
        files={"labels.txt": lines, **(kept or {})},
    )
    postprocess = Python(
        "postprocess",
        max_batch_size=32,
        input=[Input("boxes", TYPE_FP32, [places, 4]), Input("scores", TYPE_FP32, [places, len(labels)])],
        output=[
            Output("count", TYPE_INT32, [1]),
            Output("boxes", TYPE_FP32, [MOST, 4]),
            Output("classes", TYPE_INT32, [MOST]),
            Output("scores", TYPE_FP32, [MOST]),
            Output("labels", TYPE_STRING, [MOST]),
        ],
        dynamic_batching=DynamicBatching(),
        parameters={"iou": OVERLAP, "score": THRESHOLD},
        artifact=File(path="postprocess.py"),
        files={"boxes.py": File(path=str(boxes.__file__)), "labels.txt": lines},
    )
    raw = network(decode(Tensor("IMAGE"), to="pixels"), to=["all_boxes", "all_scores"])
    found = postprocess(*raw)
    detect = Ensemble("detect", outputs={tensor.output: tensor for tensor in found})
    # As the SavedModels of TensorFlow's Object Detection API: it takes the encoded image.
    whole = TensorFlow(
        "detector_image_bytes",
        max_batch_size=32,
        input=[Input("image_bytes", TYPE_STRING, [1], reshape=[])],
        output=[
            Output("detection_boxes", TYPE_FP32, [MOST, 4]),
            Output("detection_classes", TYPE_FP32, [MOST]),
            Output("detection_scores", TYPE_FP32, [MOST]),
            Output("num_detections", TYPE_FP32, [1], reshape=[]),
        ],
        artifact=Function(build=partial(image_bytes_detector, **made_with), random_weights=weights is None),
    )
    return {model.name: model for model in (decode, network, postprocess, detect, whole)}


models = tuple(
    declare_models(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), 160).values()
)
