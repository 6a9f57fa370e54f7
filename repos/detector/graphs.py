"""What runs in Triton before, as and beside the network: DALI's decoding, and two TensorFlow graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from network import boxes_of, network

__all__ = ["MOST", "OVERLAP", "THRESHOLD", "decode_images", "detector", "image_bytes_detector"]

#: Detections of one image at most, the least score of one, and how much two of one class may share.
MOST: Final = 100
THRESHOLD: Final = 0.05
OVERLAP: Final = 0.5


def decode_images(images: Any, *, side: int) -> Any:
    """DALI: encoded images (UINT8, any size) to RGB of one size (FP32, HWC, 0 to 255).

    Turned as they are stored, whatever EXIF says: so were the boxes of the training data, and so does TensorFlow.
    """
    from nvidia.dali import fn, types

    image = fn.decoders.image(images, device="mixed", output_type=types.RGB, adjust_orientation=False)
    return fn.cast(fn.resize(image, resize_x=side, resize_y=side), dtype=types.FLOAT)


def detector(classes: int, side: int, weights: str | None) -> Any:
    """TensorFlow: pixels (FP32 [b, side, side, 3], 0 to 255) to ``boxes`` [b, n, 4] and ``scores`` [b, n, classes].

    Boxes are [xmin, ymin, xmax, ymax] as parts of the image. ``weights`` is a file of `earlier.arrays_of`, None for
    random ones.
    """
    import tensorflow as tf

    model = network(classes, side)
    if weights is not None:
        import numpy as np

        with np.load(Path(weights), allow_pickle=False) as arrays:
            for variable in model.variables:
                variable.assign(arrays[variable.path])

    def detect(pixels: Any) -> dict[str, Any]:
        logits, distances = model(pixels, training=False)
        boxes = tf.clip_by_value(boxes_of(distances, side) / side, 0.0, 1.0)
        return {"boxes": boxes, "scores": tf.sigmoid(logits)}

    return detect


def image_bytes_detector(classes: int, side: int, weights: str | None) -> Any:
    """TensorFlow: encoded images (string [b]) to what TensorFlow's Object Detection API gives, suppression included.

    ``detection_boxes`` [b, MOST, 4] are [ymin, xmin, ymax, xmax] as parts of the image, ``detection_classes`` and
    ``detection_scores`` [b, MOST], ``num_detections`` [b] how many of them are there. JPEG and PNG are decoded.
    """
    import tensorflow as tf

    detect = detector(classes, side, weights)

    def pixels(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)  # this operator takes PNG too
        return tf.image.resize(tf.cast(image, tf.float32), (side, side), antialias=True)

    def answer(encoded: Any) -> dict[str, Any]:
        found = detect(tf.map_fn(pixels, encoded, fn_output_signature=tf.TensorSpec((side, side, 3), tf.float32)))
        rows_first = tf.gather(found["boxes"], [1, 0, 3, 2], axis=-1)
        kept = tf.image.combined_non_max_suppression(
            rows_first[:, :, None, :],
            found["scores"],
            max_output_size_per_class=MOST,
            max_total_size=MOST,
            iou_threshold=OVERLAP,
            score_threshold=THRESHOLD,
        )
        return {
            "detection_boxes": kept.nmsed_boxes,
            "detection_classes": kept.nmsed_classes,
            "detection_scores": kept.nmsed_scores,
            "num_detections": tf.cast(kept.valid_detections, tf.float32),
        }

    return answer
