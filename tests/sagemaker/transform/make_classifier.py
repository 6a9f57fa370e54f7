"""Writes a light image classifier as a SavedModel: ``python make_classifier.py FOLDER``. It needs TensorFlow.

Its signature is that of the seed's ResNet-50: ``image_bytes`` in, ``probabilities`` and ``classes`` out. Each image is
computed by itself, without a product of matrices, so that no batch changes a number.
"""

import sys
from typing import Any

import tensorflow as tf

SIDE, CLASSES = 8, 11


class Classifier(tf.Module):
    """Brightness in eleven random masks of an image of 8 by 8 pixels, as probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = tf.Variable(tf.random.stateless_normal([CLASSES, SIDE, SIDE], seed=[5, 0]))

    def _pixels(self, encoded: Any) -> Any:
        image = tf.io.decode_image(encoded, channels=1, expand_animations=False)
        return tf.image.resize(image, [SIDE, SIDE])[:, :, 0] / 255.0

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def __call__(self, image_bytes: Any) -> Any:
        """The two outputs."""
        pixels = tf.map_fn(self._pixels, image_bytes, fn_output_signature=tf.TensorSpec([SIDE, SIDE], tf.float32))
        logits = tf.reduce_sum(pixels[:, None] * self.masks[None], axis=[2, 3])
        return {"probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=1)}


module = Classifier()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.__call__})
