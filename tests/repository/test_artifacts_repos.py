"""The model functions of repos/: built as a user builds them, run in process with DALI and TensorFlow."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.checkout import read_build_log
from tests.support.photographs import PHOTOGRAPHS
from tritonforge.model_files import dali_pipeline
from tritonforge.repository.artifact_builder import build_artifact
from tritonforge.repository.definition import Dali
from tritonforge.repository.definition.loading import load

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
    (name,) = [tensor.name for tensor in dali_pipeline.read_signature(data).inputs]
    pipe = Pipeline.deserialize(dali_pipeline.move_to_cpu(data), batch_size=len(encoded), num_threads=2)
    pipe.build()
    pipe.feed_input(name, [np.frombuffer(image, np.uint8) for image in encoded])
    return pipe.run()[0].as_array()


def frozen(path: Path, feed: str, fetch: str) -> Callable[[Any], Any]:
    """A GraphDef file as a function of one array."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    pruned = function.prune(f"{feed}:0", f"{fetch}:0")
    return lambda array: pruned(tf.constant(array, tf.float32)).numpy()


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


# The graph takes long to build and to run. test_artifacts_make.py shows that another function is used offline, the test
# of `repos/digits` above that colours matter, and the test below what the preprocessing gives.
@pytest.mark.long
def test_inception_answers_differ_from_image_to_image(inception: Path) -> None:
    """The offline graph has the official names, reports that it is random, and distinguishes images and colours."""
    (sentence,) = [line for line in read_build_log(inception).splitlines() if line.startswith("note: ")]
    assert sentence.startswith("note: inception_graphdef: https://storage.googleapis.com/")
    assert sentence.endswith(
        "seeded random weights of the same architecture are used instead, so its labels mean nothing"
    )
    classify = frozen(inception / "inception_graphdef/1/model.graphdef", "input", "InceptionV3/Predictions/Softmax")
    images = preprocessed(inception / "dali/1/model.dali", PHOTOGRAPHS)
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


def preprocessing(repo: str, model: str, folder: Path) -> Path:
    """The pipeline file of a model of `repos/`; the other models are not built."""
    found = load(REPOS / repo / "definition.py")
    made = found.models[model]
    assert isinstance(made, Dali)
    build_artifact(made, folder, base=found.folder)
    return folder / "model.dali"


def test_inception_preprocessing_gives_numbers_from_minus_one_to_one(tmp_path: Path) -> None:
    """Each image becomes 299 by 299 pixels."""
    images = preprocessed(preprocessing("inception_v3", "dali", tmp_path), PHOTOGRAPHS)
    assert images.shape == (2, 299, 299, 3)
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1


def test_resnet_preprocessing_is_that_of_keras(tmp_path: Path) -> None:
    """Blue, green, red, less ImageNet's mean colour, as `keras.applications.resnet50.preprocess_input` gives it."""
    import keras
    from PIL import Image

    random = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(random).save(buffer, "PNG")
    found = preprocessed(preprocessing("resnet50", "preprocess_resnet50", tmp_path), [buffer.getvalue()])[0]
    expected = keras.applications.resnet50.preprocess_input(random.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("repo", "function"), [("resnet50", "image_bytes_network"), ("resnet50_tfs", "network")])
def test_encoded_images_are_decoded_and_cropped_before_the_network(
    repo: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function takes JPEG and PNG of any size in one batch; a small network is in the place of ResNet-50."""
    import keras
    import tensorflow as tf
    from PIL import Image

    def small(*, weights: None, classes: int, input_shape: tuple[int, int, int]) -> Any:
        image = keras.Input(input_shape)
        pooled = keras.layers.GlobalAveragePooling2D()(image)
        return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(pooled))

    monkeypatch.setattr(keras.applications, "ResNet50V2", small)
    buffer = io.BytesIO()
    Image.effect_noise((300, 250), 90).convert("RGB").save(buffer, "PNG")
    answer = getattr(network_module(repo), function)()(tf.constant([*PHOTOGRAPHS, buffer.getvalue()]))
    check_answer(answer)


def check_answer(answer: Any) -> None:
    """The outputs have the published signature, and the first two images have different answers."""
    assert (answer["classes"].dtype, answer["classes"].shape) == ("int64", (3,))
    assert (answer["probabilities"].dtype, answer["probabilities"].shape) == ("float32", (3, 1001))
    assert answer["classes"].numpy().tolist() == answer["probabilities"].numpy().argmax(axis=1).tolist()
    assert np.abs(answer["probabilities"][0] - answer["probabilities"][1]).max() > 1e-2


# The test above runs the same function with a small network.
@pytest.mark.long
def test_resnet_on_encoded_images_answers_with_classes_and_probabilities(resnet50: Path) -> None:
    """The SavedModel takes JPEG and PNG of any size in one batch, and has the published signature."""
    import tensorflow as tf
    from PIL import Image

    serve = tf.saved_model.load(str(resnet50 / "resnet50_image_bytes/1/model.savedmodel")).signatures["serving_default"]
    buffer = io.BytesIO()
    Image.effect_noise((300, 250), 90).convert("RGB").save(buffer, "PNG")
    check_answer(serve(image_bytes=tf.constant([*PHOTOGRAPHS, buffer.getvalue()])))


def test_the_label_files_have_one_line_a_class() -> None:
    """1001 with the background first; the same 1000 names without it; well-known ones are in their places."""
    inception = (REPOS / "inception_v3" / "inception_labels.txt").read_text().splitlines()
    resnet = (REPOS / "resnet50" / "resnet50_labels.txt").read_text().splitlines()
    assert inception == ["background", *resnet]
    assert len(inception) == 1001
    # The classes that TensorFlow's label_image example gives for its own picture with the official graph.
    assert (inception[653], inception[668]) == ("military uniform", "mortarboard")
