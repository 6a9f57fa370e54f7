"""ResNet-50 on encoded images, as the SavedModels of TensorFlow's official models take them; with random weights.

The SavedModel of AWS's post, ``resnet_v2_fp32_savedmodel_NCHW_jpg/1538687370``, has the same signature: put it beside
the definition, and declare it with `File`.
"""

from __future__ import annotations

from typing import Any

SIDE = 224
SHORTER_SIDE = 256
CLASSES_WITH_BACKGROUND = 1001  # as the SavedModels of TensorFlow's official models have them

#: ImageNet's mean colour, red, green, blue. Source: tensorflow/models official, imagenet_preprocessing.py.
MEAN = (123.68, 116.779, 103.939)


def network() -> Any:
    """TensorFlow: encoded images (string, [batch]) to ``classes`` (int64, [batch]), ``probabilities`` ([batch, 1001]).

    ResNet-50 version 2. Decoding, cropping and normalisation are part of the graph: the shorter side becomes 256, the
    middle 224 x 224 are taken, the mean colour is subtracted. JPEG and PNG are decoded.
    """
    import keras
    import tensorflow as tf

    model = keras.applications.ResNet50V2(weights=None, classes=CLASSES_WITH_BACKGROUND, input_shape=(SIDE, SIDE, 3))

    def decode(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)  # this operator takes PNG too
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        size = tf.cast(tf.round(size * SHORTER_SIDE / tf.reduce_min(size)), tf.int32)
        image = tf.image.resize(image, size)
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        return tf.reshape(image[top : top + SIDE, left : left + SIDE], (SIDE, SIDE, 3)) - tf.constant(MEAN)

    def classify(image_bytes: Any) -> dict[str, Any]:
        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec((SIDE, SIDE, 3), tf.float32))
        probabilities = model(images, training=False)
        return {"classes": tf.argmax(probabilities, axis=-1), "probabilities": probabilities}

    return classify
