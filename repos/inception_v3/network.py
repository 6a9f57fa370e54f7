"""Inception V3 and the preprocessing that its official graph was trained with.

The official graph (TensorFlow's `inception_v3_2016_08_28_frozen.pb`) takes RGB images of 299 x 299, scaled to [-1, 1]:
Open Model Zoo's `googlenet-v3/model.yml` states mean and scale 127.5, as TF-slim's `inception_preprocessing.py` has it.
"""

from __future__ import annotations

from typing import Any

#: The official frozen graph: 88,668,554 bytes, one file of the archive. The digest is stated alike by Open Model Zoo
#: (models/public/googlenet-v3/model.yml) and by Yocto's TensorFlow recipes (``SRC_URI[model-inv3.sha256sum]``).
OFFICIAL_URL = "https://storage.googleapis.com/download.tensorflow.org/models/inception_v3_2016_08_28_frozen.pb.tar.gz"
OFFICIAL_SHA256 = "7045b72a954af4dce36346f478610acdccbf149168fa25c78e54e32f0c723d6d"
OFFICIAL_MEMBER = "inception_v3_2016_08_28_frozen.pb"

SIDE = 299
CLASSES = 1001  # ImageNet's 1000, after one for the background


def preprocess(images: Any) -> Any:
    """DALI: encoded images (UINT8, any size) to 299 x 299 RGB in [-1, 1] (FP32, HWC)."""
    from nvidia.dali import fn, types

    decoded = fn.decoders.image(images, device="mixed", output_type=types.RGB)
    resized = fn.resize(decoded, resize_x=SIDE, resize_y=SIDE)
    return fn.crop_mirror_normalize(
        resized, dtype=types.FLOAT, output_layout="HWC", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]
    )


def network() -> Any:
    """Keras: Inception V3 with 1001 classes and random weights, FP32 [batch, 299, 299, 3] to [batch, 1001].

    As Keras initialises it, every image gets the same answer up to the seventh digit: forty layers shrink what differs.
    The last layer is therefore scaled, so that answers differ from image to image and a mistake before it is seen.
    """
    import keras
    import numpy as np

    model = keras.applications.InceptionV3(weights=None, classes=CLASSES, input_shape=(SIDE, SIDE, 3))
    last = model.layers[-1]
    features = keras.Model(model.inputs, model.layers[-2].output)
    images = np.concatenate([_clouds(grid) for grid in (4, 12, 40, 150)])
    kernel, _ = last.get_weights()
    logits = np.asarray(features(images, training=False)) @ kernel
    centre = logits.mean(axis=0)
    scale = np.float32(1.5) / (logits - centre).std()
    last.set_weights([kernel * scale, -centre * scale])
    return model


def _clouds(grid: int) -> Any:
    """Two images of random colours on a coarse grid, as light, dark and contrasted as photographs are."""
    import keras
    import numpy as np

    random = np.random.default_rng(grid)
    light = random.uniform(-0.6, 0.6, (2, 1, 1, 3))
    contrast = random.uniform(0.2, 0.8, (2, 1, 1, 1))
    coarse = np.clip(light + contrast * random.normal(size=(2, grid, grid, 3)), -1, 1).astype(np.float32)
    return np.asarray(keras.ops.image.resize(coarse, (SIDE, SIDE), interpolation="bilinear"))
