"""The model functions of repos/: built as a user builds them, run in process with DALI and TensorFlow."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import told
from tritonforge import dali_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPOS = Path(__file__).parents[2] / "repos"

pytestmark = pytest.mark.framework


def network_module(repo: str) -> Any:
    """The module network.py of a repository, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"{repo}_network", REPOS / repo / "network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def preprocessed(path: Path, encoded: Sequence[bytes]) -> Any:
    """What a pipeline file makes of encoded images, on the CPU."""
    from nvidia.dali.pipeline import Pipeline

    data = path.read_bytes()
    (name,) = [each.name for each in dali_pipeline.signature(data).inputs]
    pipe = Pipeline.deserialize(dali_pipeline.on_cpu(data), batch_size=len(encoded), num_threads=2)
    pipe.build()
    pipe.feed_input(name, [np.frombuffer(each, np.uint8) for each in encoded])
    return pipe.run()[0].as_array()


def frozen(path: Path, feed: str, fetch: str) -> Callable[[Any], Any]:
    """A GraphDef file as a function of one array."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    pruned = function.prune(f"{feed}:0", f"{fetch}:0")
    return lambda array: pruned(tf.constant(array, tf.float32)).numpy()


def photographs() -> list[bytes]:
    """scikit-learn's two photographs as JPEG."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    encoded = []
    for image in load_sample_images().images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        encoded.append(buffer.getvalue())
    return encoded


def test_digits_are_recognised_and_every_step_before_the_network_counts(digits: Path) -> None:
    """At least 95 % of held-out images are right; swapped colours or another network's scale are far below."""
    network = network_module("digits")
    pixels = preprocessed(digits / "decode/1/model.dali", network.heldout()[0])
    classify = frozen(digits / "classify/1/model.graphdef", "pixels", "probabilities")
    labels = np.array(network.heldout()[1])
    assert len(labels) == 360

    def accuracy(array: Any) -> float:
        return float((classify(array).argmax(axis=1) == labels).mean())

    assert accuracy(pixels) >= 0.95
    colours = pixels * np.array(network.STD) + np.array(network.MEAN)
    for wrong in (pixels[..., ::-1], colours, colours / 255, colours / 127.5 - 1, pixels.transpose(0, 2, 1, 3)):
        assert accuracy(wrong) < 0.5


def test_inception_answers_differ_from_image_to_image(inception: Path) -> None:
    """The offline graph has the official names, says that it is random, and tells images and colours apart."""
    (sentence,) = [line for line in told(inception).splitlines() if line.startswith("note: ")]
    assert sentence.startswith("note: inception_graphdef: https://storage.googleapis.com/")
    assert sentence.endswith(
        "seeded random weights of the same architecture are used instead, so its labels mean nothing"
    )
    classify = frozen(inception / "inception_graphdef/1/model.graphdef", "input", "InceptionV3/Predictions/Softmax")
    images = preprocessed(inception / "dali/1/model.dali", photographs())
    assert images.shape == (2, 299, 299, 3)
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1
    both = classify(images)
    assert both.shape == (2, 1001)
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-5)
    # What a server adds must stay below 1e-5; that says something only where answers differ by much more.
    assert np.abs(both[0] - both[1]).max() > 1e-2
    assert np.abs(classify(images[..., ::-1]) - both).max() > 1e-3
    assert np.abs(classify(images[:1])[0] - both[0]).max() < 1e-5


def test_resnet_preprocessing_is_that_of_keras(resnet50: Path) -> None:
    """Blue, green, red, less ImageNet's mean colour, as `keras.applications.resnet50.preprocess_input` gives it."""
    import keras
    from PIL import Image

    random = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(random).save(buffer, "PNG")
    found = preprocessed(resnet50 / "preprocess_resnet50/1/model.dali", [buffer.getvalue()])[0]
    expected = keras.applications.resnet50.preprocess_input(random.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_resnet_on_encoded_images_answers_with_classes_and_probabilities(resnet50: Path) -> None:
    """The SavedModel takes JPEG and PNG of any size in one batch, and has the published signature."""
    import tensorflow as tf
    from PIL import Image

    serve = tf.saved_model.load(str(resnet50 / "resnet50_image_bytes/1/model.savedmodel")).signatures["serving_default"]
    buffer = io.BytesIO()
    Image.effect_noise((300, 250), 90).convert("RGB").save(buffer, "PNG")
    answer = serve(image_bytes=tf.constant([*photographs(), buffer.getvalue()]))
    assert (answer["classes"].dtype, answer["classes"].shape) == (tf.int64, (3,))
    assert (answer["probabilities"].dtype, answer["probabilities"].shape) == (tf.float32, (3, 1001))
    assert answer["classes"].numpy().tolist() == answer["probabilities"].numpy().argmax(axis=1).tolist()
    assert np.abs(answer["probabilities"][0] - answer["probabilities"][1]).max() > 1e-2


def test_the_label_files_have_one_line_a_class() -> None:
    """1001 with the background first; the same 1000 names without it; well-known ones are in their places."""
    inception = (REPOS / "inception_v3" / "inception_labels.txt").read_text().splitlines()
    resnet = (REPOS / "resnet50" / "resnet50_labels.txt").read_text().splitlines()
    assert inception == ["background", *resnet]
    assert len(inception) == 1001
    # The classes that TensorFlow's label_image example gives for its own picture with the official graph.
    assert (inception[653], inception[668]) == ("military uniform", "mortarboard")
