"""The detector's network: a residual backbone, a feature pyramid, one head for its three levels; and what it minimises.

One stage and no anchors: each location says for every class whether an object lies there, and how far its four sides
are (Source: FCOS, Tian et al., 2019). About 330,000 weights, so that two CPU cores train it in a minute or so.

Keras' own layers, not KerasHub's RetinaNet: keras-hub needs tensorflow-text, and that the whole of tensorflow beside
tensorflow-cpu; and the backbone and pyramid alone of its ResNet-18 cost nine times the CPU time of all of this.
"""

from __future__ import annotations

from typing import Any, Final

from locations import STRIDES, centres

__all__ = ["HEAD", "boxes_of", "losses", "network", "top_layers"]

#: The name of the part that finds classes and boxes: the "top layer" of the hyperparameters.
HEAD: Final = "head"

#: Channels of the four stages of the backbone, and of the pyramid.
_STAGES: Final = (16, 24, 48, 64, 96)
_PYRAMID: Final = 48

#: A class is rare: the network begins with saying that it is nowhere. Source: Lin et al., 2017 (RetinaNet), 4.1.
_PRIOR: Final = 0.01

#: The focal loss' weight of what is there, and how little easy locations count. Its authors' 0.25 and 2 (section 5.1)
#: learn the same in twice as many steps: there are far fewer locations here than their 100,000.
_ALPHA: Final = 0.5
_GAMMA: Final = 1.0


def network(classes: int, side: int) -> Any:
    """Keras: pixels (FP32 [batch, side, side, 3], 0 to 255) to class logits [batch, n, classes] and distances [.., 4].

    The n locations are those of `locations.centres`; distances are left, top, right, bottom in strides, above 0.
    """
    import keras
    from keras import layers

    pixels = keras.Input((side, side, 3), name="pixels")
    tensor = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaled")(pixels)
    tensor = _convolve(tensor, _STAGES[0], "stem", strides=2)
    levels = []
    for number, filters in enumerate(_STAGES[1:]):
        tensor = _block(tensor, filters, f"stage{number}", strides=2)
        if filters == _STAGES[2]:
            tensor = _block(tensor, filters, f"stage{number}b", strides=1)
        levels.append(tensor)
    found: list[Any] = []
    for number, tensor in reversed(list(enumerate(levels[1:]))):
        lateral = layers.Conv2D(_PYRAMID, 1, name=f"lateral{number}")(tensor)
        if found:
            above = layers.UpSampling2D(2, name=f"up{number}")(found[0])
            lateral = layers.Add(name=f"pyramid{number}")([lateral, above])
        found.insert(0, lateral)
    logits, distances = _head(classes)(found)
    return keras.Model(pixels, [logits, distances], name="detector")


def _head(classes: int) -> Any:
    """The model that is applied to each level: features to logits and distances of all locations."""
    import math

    import keras
    from keras import layers

    inputs = [keras.Input((None, None, _PYRAMID), name=f"level{number}") for number in range(len(STRIDES))]
    hidden = layers.Conv2D(_PYRAMID, 3, padding="same", activation="silu", name="hidden")
    prior = keras.initializers.Constant(-math.log((1 - _PRIOR) / _PRIOR))
    small = keras.initializers.RandomNormal(stddev=0.01)
    classify = layers.Conv2D(classes, 1, kernel_initializer=small, bias_initializer=prior, name="classes")
    locate = layers.Conv2D(
        4, 1, kernel_initializer=small, bias_initializer=keras.initializers.Constant(1.5), name="box"
    )
    logits, distances = [], []
    for tensor in inputs:
        features = hidden(layers.Activation("silu")(tensor))
        logits.append(layers.Reshape((-1, classes))(classify(features)))
        distances.append(layers.Reshape((-1, 4))(layers.Activation("softplus")(locate(features))))
    joined = [layers.Concatenate(axis=1)(parts) for parts in (logits, distances)]
    return keras.Model(inputs, joined, name=HEAD)


def _convolve(tensor: Any, filters: int, name: str, *, strides: int, size: int = 3) -> Any:
    from keras import layers

    tensor = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(tensor)
    tensor = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(tensor)
    return layers.Activation("silu", name=f"{name}_act")(tensor)


def _block(tensor: Any, filters: int, name: str, *, strides: int) -> Any:
    """Two convolutions beside a shortcut."""
    from keras import layers

    shortcut = tensor
    if strides > 1:
        shortcut = layers.AveragePooling2D(2, name=f"{name}_pool")(tensor)
        shortcut = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_short")(shortcut)
    tensor = _convolve(tensor, filters, f"{name}_1", strides=strides)
    tensor = _convolve(tensor, filters, f"{name}_2", strides=1)
    return layers.Add(name=f"{name}_sum")([shortcut, tensor])


def boxes_of(distances: Any, side: int) -> Any:
    """Distances [.., n, 4] to boxes [.., n, 4] as xmin, ymin, xmax, ymax in pixels of the input, not yet clipped."""
    import tensorflow as tf

    points, strides = centres(side)
    far = distances * strides[:, None]
    return tf.concat([points - far[..., :2], points + far[..., 2:]], axis=-1)


def losses(logits: Any, distances: Any, wanted: Any, targets: Any, side: int) -> tuple[Any, Any]:
    """(localization, classification) of one batch, each by the number of locations that have an object.

    ``wanted`` is int32 [batch, n] (-1 where nothing is), ``targets`` float32 [batch, n, 4], as `locations.assign` gives
    them. Localization is 1 - GIoU (Rezatofighi et al., 2019), classification the focal loss.
    """
    import tensorflow as tf

    there = tf.cast(wanted >= 0, tf.float32)
    total = tf.maximum(tf.reduce_sum(there), 1.0)
    truth = tf.one_hot(wanted, logits.shape[-1])
    likely = tf.sigmoid(logits)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
    missed = truth * (1 - likely) + (1 - truth) * likely
    weight = truth * _ALPHA + (1 - truth) * (1 - _ALPHA)
    classification = tf.reduce_sum(weight * tf.pow(missed, _GAMMA) * entropy) / total
    localization = tf.reduce_sum(there * (1 - _giou(boxes_of(distances, side), targets))) / total
    return localization, classification


def _giou(one: Any, other: Any) -> Any:
    """Generalised intersection over union of boxes [.., 4], pair by pair."""
    import tensorflow as tf

    def area(low: Any, high: Any) -> Any:
        return tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)

    low, high = tf.maximum(one[..., :2], other[..., :2]), tf.minimum(one[..., 2:], other[..., 2:])
    shared = area(low, high)
    union = area(one[..., :2], one[..., 2:]) + area(other[..., :2], other[..., 2:]) - shared
    around = area(tf.minimum(one[..., :2], other[..., :2]), tf.maximum(one[..., 2:], other[..., 2:]))
    tiny = 1e-6
    return shared / (union + tiny) - (around - union) / (around + tiny)


def top_layers(model: Any) -> Any:
    """The head, as a layer of the network."""
    return model.get_layer(HEAD)
