"""ResNet-50 twice: on preprocessed images, and on encoded ones as the SavedModels of TensorFlow's models take them.

Both have random weights. The official Keras weights (``resnet50_weights_tf_dim_ordering_tf_kernels.h5``) are published
with an MD5 digest only, and a definition holds downloads to a SHA-256; whoever has computed one declares the file with
`Download`, or puts it beside the definition.
"""

from __future__ import annotations

from typing import Any

SIDE = 224
CLASSES = 1000  # ImageNet's, as Keras' ResNet50 has them
CLASSES_WITH_BACKGROUND = 1001  # as the SavedModels of TensorFlow's official models have them

#: ImageNet's mean colour, red, green, blue. Source: keras/src/applications/imagenet_utils.py, mode "caffe", where it is
#: written in the order blue, green, red.
MEAN = (123.68, 116.779, 103.939)


def preprocess(images: Any) -> Any:
    """DALI: encoded images (UINT8, any size) to 224 x 224 BGR less the mean colour (FP32, HWC), Keras' mode "caffe"."""
    from nvidia.dali import fn, types

    decoded = fn.decoders.image(images, device="mixed", output_type=types.BGR)
    resized = fn.resize(decoded, resize_x=SIDE, resize_y=SIDE)
    return fn.crop_mirror_normalize(resized, dtype=types.FLOAT, output_layout="HWC", mean=MEAN[::-1], std=[1.0] * 3)


def network() -> Any:
    """Keras: ResNet-50 with random weights, FP32 [batch, 224, 224, 3] (BGR less the mean) to [batch, 1000]."""
    import keras

    return keras.applications.ResNet50(weights=None, classes=CLASSES, input_shape=(SIDE, SIDE, 3))


def image_bytes_network() -> Any:
    """TensorFlow: encoded images (string, [batch]) to ``classes`` (int64, [batch]), ``probabilities`` ([batch, 1001]).

    ResNet-50 version 2 with random weights; decoding, cropping and normalisation are part of the graph, as in the
    official models (`imagenet_preprocessing.py`): the shorter side becomes 256, the middle 224 x 224 are taken, the
    mean colour is subtracted. JPEG and PNG are decoded.
    """
    import keras
    import tensorflow as tf

    model = keras.applications.ResNet50V2(weights=None, classes=CLASSES_WITH_BACKGROUND, input_shape=(SIDE, SIDE, 3))

    def decode(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)  # this operator takes PNG too
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        size = tf.cast(tf.round(size * 256.0 / tf.reduce_min(size)), tf.int32)
        image = tf.image.resize(image, size)
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        return tf.reshape(image[top : top + SIDE, left : left + SIDE], (SIDE, SIDE, 3)) - tf.constant(MEAN)

    def classify(image_bytes: Any) -> dict[str, Any]:
        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec((SIDE, SIDE, 3), tf.float32))
        probabilities = model(images, training=False)
        return {"classes": tf.argmax(probabilities, axis=-1), "probabilities": probabilities}

    return classify
