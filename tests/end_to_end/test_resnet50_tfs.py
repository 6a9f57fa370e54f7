"""The handlers of `repos/resnet50_tfs` in a stand-in for SageMaker's TensorFlow Serving container.

`make test` runs them with a small model of the same signature, `make test-all` with ResNet-50 as well.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.checkout import ROOT, build_once
from tests.support.command import tritonforge
from tests.support.photographs import PHOTOGRAPHS
from tritonforge.serving.tfs.server import TfsServer

pytestmark = pytest.mark.framework

IMAGE = {"Content-Type": "application/x-image", "Accept": "application/json"}
EXAMPLE = {"Content-Type": "application/x-tfexample", "Accept": "application/jsonlines"}

#: Requests are computed in batches, as in the jobs of AWS's post.
BATCHING = {
    "SAGEMAKER_BATCH": "true",
    "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
    "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "50000",
    "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16",
}

#: Runs a SavedModel without a server, and writes the photographs as tf.Example messages and as TFRecords. Makes the
#: SavedModel first, a small one, if the folder does not exist.
IN_PROCESS = """
import os, sys, numpy, tensorflow as tf
model, folder, *photographs = sys.argv[1:]
images = [open(each, "rb").read() for each in photographs]

class Small(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def __call__(self, image_bytes):
        def pixels(image):
            return tf.image.resize(tf.io.decode_jpeg(image, channels=3), [8, 8]) / 255.0
        small = tf.map_fn(pixels, image_bytes, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.float32))
        masks = tf.random.stateless_normal([1001, 192], seed=[5, 0])
        scores = tf.nn.softmax(tf.reshape(small, [-1, 192]) @ tf.transpose(masks))
        return {"classes": tf.argmax(scores, axis=1), "probabilities": scores}

if not os.path.exists(model):
    module = Small()
    tf.saved_model.save(module, model, signatures=module.__call__)
serve = tf.saved_model.load(model).signatures["serving_default"]
found = [serve(image_bytes=tf.constant([image])) for image in images]
numpy.savez(f"{folder}/expected.npz", **{
    name: numpy.concatenate([each[name].numpy() for each in found]) for name in ("classes", "probabilities")
})
with tf.io.TFRecordWriter(f"{folder}/records.tfrecord") as writer:
    for number, image in enumerate(images):
        feature = {
            "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number, -1])),
            "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image, b"not this one"])),
            "image/height": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5])),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
        writer.write(example)
        open(f"{folder}/{number}.example", "wb").write(example)
"""


# ResNet-50 itself only in `make test-all`: the handlers do not depend on the size of the model.
@pytest.fixture(scope="module", params=["small", pytest.param("resnet50", marks=pytest.mark.long)])
def size(request: pytest.FixtureRequest) -> str:
    """Which model the package has."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def model(size: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the SavedModel; the small one is made by `in_process`."""
    if size == "resnet50":
        return build_once("resnet50_tfs", shared) / "resnet50" / "1538687370"
    return tmp_path_factory.mktemp("small") / "model"


@pytest.fixture(scope="module")
def in_process(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the SavedModel gives for the photographs, and with the photographs as records."""
    folder = tmp_path_factory.mktemp("in_process")
    paths = []
    for number, photograph in enumerate(PHOTOGRAPHS):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(photograph)
    subprocess.run([sys.executable, "-c", IN_PROCESS, model, folder, *paths], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def package(size: str, model: Path, in_process: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built package: `repos/resnet50_tfs`, or the same definition with the small model."""
    if size == "resnet50":
        return build_once("resnet50_tfs", shared)
    folder = tmp_path_factory.mktemp("definition")
    source = ROOT / "repos" / "resnet50_tfs"
    text = (source / "definition.py").read_text()
    for old, new in (
        ("Function(build=network, random_weights=True)", f"File(path={str(model)!r})"),
        ("from network import CLASSES_WITH_BACKGROUND, network", "CLASSES_WITH_BACKGROUND = 1001"),
        ("import TYPE_FP32", "import File, TYPE_FP32"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "definition.py").write_text(text)
    shutil.copytree(source / "code", folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    done = tritonforge("build", str(folder), "-o", str(folder / "built"))
    assert done.returncode == 0, done.stderr
    return folder / "built"


@pytest.fixture(scope="module")
def expected(in_process: Path) -> Any:
    """What the SavedModel gives."""
    with np.load(in_process / "expected.npz") as found:
        return {name: found[name] for name in found.files}


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[TfsServer]:
    """The package, running as the container runs it."""
    with TfsServer(package, environment=BATCHING) as running:
        yield running


def check(line: bytes, expected: Any, row: int) -> None:
    """A line of the answer is, bit for bit, what the SavedModel gives."""
    assert b" " not in line
    (prediction,) = json.loads(line)["predictions"]
    assert prediction["classes"] == expected["classes"][row]
    np.testing.assert_array_equal(np.float32(prediction["probabilities"]), expected["probabilities"][row])


def test_the_package_is_one(package: Path) -> None:
    """As the container finds it, and `tritonforge validate` reports nothing."""
    done = tritonforge("validate", str(package), "--strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert (package / "code" / "lib" / "tfexample.py").is_file()


def test_photographs_get_exactly_what_the_saved_model_gives(server: TfsServer, expected: Any) -> None:
    """JPEG objects of batch transform, one a request: one line of JSON each."""
    for row, photograph in enumerate(PHOTOGRAPHS):
        answer = server.invoke(photograph, IMAGE)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        check(answer.body, expected, row)


def test_examples_get_exactly_what_the_saved_model_gives(server: TfsServer, in_process: Path, expected: Any) -> None:
    """Records with their framing stripped (SingleRecord): the image of each tf.Example, and the very same answer."""
    for row, photograph in enumerate(PHOTOGRAPHS):
        answer = server.invoke((in_process / f"{row}.example").read_bytes(), EXAMPLE)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/jsonlines")
        check(answer.body, expected, row)
        assert answer.body == server.invoke(photograph, IMAGE).body


def test_framed_records_get_a_line_each(server: TfsServer, in_process: Path, expected: Any) -> None:
    """Records with their framing (MultiRecord): a line for each, in their order, from one batch."""
    answer = server.invoke((in_process / "records.tfrecord").read_bytes(), EXAMPLE)
    assert answer.status == 200
    lines = answer.body.split(b"\n")
    assert len(lines) == len(PHOTOGRAPHS)
    for row, line in enumerate(lines):
        (prediction,) = json.loads(line)["predictions"]
        assert prediction["classes"] == expected["classes"][row]
        # Two images computed together are rounded otherwise than one alone.
        np.testing.assert_allclose(prediction["probabilities"], expected["probabilities"][row], rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "sentence"),
    [
        (
            b"x",
            "text/csv",
            415,
            'Unsupported content type "text/csv": send application/x-image or application/x-tfexam',
        ),
        (b"", "application/x-image", 400, "The request has no body"),
        (b"no image", "application/x-image", 400, "Unknown image file format"),
        (
            b"\x0a\xff",
            "application/x-tfexample",
            400,
            "The body is not a valid application/x-tfexample: a number is cut off",
        ),
        (b"\x0a\x00", "application/x-tfexample", 400, "it has no bytes with the key 'image/encoded'"),
        (PHOTOGRAPHS[0], "application/x-tfexample", 400, "The body is not a valid application/x-tfexample: "),
    ],
)
def test_what_is_not_taken_is_refused_with_its_status(
    server: TfsServer, body: bytes, content_type: str, status: int, sentence: str
) -> None:
    """415 is 415, what is wrong with a body is 400, and the next request is answered."""
    answer = server.invoke(body, {"Content-Type": content_type})
    assert answer.status == status
    assert sentence in json.loads(answer.body)["description"]


def test_requests_are_batched_as_the_seed_asks_for(server: TfsServer, expected: Any) -> None:
    """Requests from many connections are computed together, each answered with its own."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: server.invoke(PHOTOGRAPHS[number % 2], IMAGE), range(32)))
    for number, answer in enumerate(answers):
        assert answer.status == 200
        (prediction,) = json.loads(answer.body)["predictions"]
        assert prediction["classes"] == expected["classes"][number % 2]
        np.testing.assert_allclose(
            prediction["probabilities"], expected["probabilities"][number % 2], rtol=2e-4, atol=1e-7
        )
