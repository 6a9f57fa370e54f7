"""Handwritten digits in colour: a small residual network that is really trained, its preprocessing, and its test.

scikit-learn's digits (1797 of 8 x 8) are drawn as pictures in which every step before the network counts. The digit
that is asked for is drawn in red; another one lies over it in blue, so that swapped colours answer the wrong digit. The
pictures are dark, so that the offset and scale of another network ([0, 1], [-1, 1], ImageNet's mean) answer wrongly.
"""

from __future__ import annotations

import math
from typing import Any

SIDE = 32
EPOCHS = 12
BATCH = 32
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: What is subtracted from red, green and blue, and what they are divided by.
MEAN = (66.0, 70.0, 77.0)
STD = (32.0, 16.0, 36.0)

_SIZES = ((32, 32), (48, 64), (64, 40), (96, 96))  # height, width of held-out images; the network sees all as 32 x 32


def preprocess(images: Any) -> Any:
    """DALI: encoded images (UINT8, any size) to 32 x 32 RGB, normalised (FP32, HWC)."""
    from nvidia.dali import fn, types

    decoded = fn.decoders.image(images, device="mixed", output_type=types.RGB)
    resized = fn.resize(decoded, resize_x=SIDE, resize_y=SIDE)
    return fn.crop_mirror_normalize(resized, dtype=types.FLOAT, output_layout="HWC", mean=MEAN, std=STD)


def network() -> Any:
    """Keras: the trained network, FP32 [batch, 32, 32, 3] to probabilities [batch, 10]."""
    import keras
    import numpy as np
    from PIL import Image

    red, blue, labels = _split()[0]
    # Drawn in the sizes that will come, so that the network learns how they look at 32 x 32.
    drawn = [
        _picture(*pair, _SIZES[index % len(_SIZES)]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for index, pair in enumerate(zip(red, blue, strict=True))
    ]
    images = np.stack([np.asarray(picture) for picture in drawn])
    tensors = (images.astype(np.float32) - MEAN) / STD
    model = _residual()
    rate = keras.optimizers.schedules.CosineDecay(4e-3, EPOCHS * math.ceil(len(labels) / BATCH))
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    model.fit(tensors, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def heldout() -> tuple[list[bytes], list[int]]:
    """The 360 images that training never saw, PNG and JPEG in turn and of four sizes, and the digit on each."""
    import io

    red, blue, labels = _split()[1]
    encoded = []
    for index, pair in enumerate(zip(red, blue, strict=True)):
        buffer = io.BytesIO()
        image = _picture(*pair, _SIZES[index // 2 % len(_SIZES)])
        if index % 2:
            image.save(buffer, "JPEG", quality=95, subsampling=0)
        else:
            image.save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return encoded, [int(label) for label in labels]


def _split() -> tuple[Any, Any]:
    """(digits in red, digits in blue, labels of the red ones) for training and for the test; the same on each call."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    parts = train_test_split(digits.images, digits.target, test_size=360, random_state=0, stratify=digits.target)
    train, test, train_labels, test_labels = parts
    random = np.random.default_rng(0)
    return tuple(
        (images, images[random.permutation(len(images))], labels)
        for images, labels in ((train, train_labels), (test, test_labels))
    )


def _picture(red: Any, blue: Any, size: tuple[int, int]) -> Any:
    """One digit in red and one in blue (8 x 8, 0 to 16) as an RGB picture."""
    import numpy as np
    from PIL import Image

    height, width = size

    def large(digit: Any) -> Any:
        drawn = Image.fromarray(np.asarray(digit, np.float32) / 16.0)
        return np.asarray(drawn.resize((width, height), Image.Resampling.BICUBIC))

    ink, other = large(red), large(blue)
    picture = np.stack([90.0 - 80.0 * ink, 70.0 + 30.0 * (other - ink), 50.0 + 90.0 * other], axis=-1)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _residual() -> Any:
    """Two residual blocks after one convolution; about 30,000 weights."""
    import keras
    from keras import layers

    def block(tensor: Any, filters: int) -> Any:
        shortcut = layers.Conv2D(filters, 1, strides=2)(tensor)
        tensor = layers.Conv2D(filters, 3, strides=2, padding="same")(layers.Activation("silu")(tensor))
        tensor = layers.Conv2D(filters, 3, padding="same")(layers.Activation("silu")(tensor))
        return layers.Add()([shortcut, tensor])

    image = keras.Input((SIDE, SIDE, 3), name="image")
    tensor = layers.Conv2D(16, 3, strides=2, padding="same", activation="tanh")(image)
    tensor = block(block(tensor, 24), 32)
    tensor = layers.GlobalAveragePooling2D()(layers.Activation("silu")(tensor))
    return keras.Model(image, layers.Dense(len(LABELS), activation="softmax")(tensor))
