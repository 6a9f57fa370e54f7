"""`repos/resnet50_tfs` as SageMaker's TensorFlow Serving container runs it: photographs, alone and in TFRecords."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn

from tests.conftest import once, tritonforge
from tritonforge.serving.tfs.server import TfsServer

pytestmark = pytest.mark.framework

PHOTOGRAPHS = [
    (Path(sklearn.__file__).parent / "datasets" / "images" / name).read_bytes() for name in ("china.jpg", "flower.jpg")
]
IMAGE = {"Content-Type": "application/x-image", "Accept": "application/json"}
EXAMPLE = {"Content-Type": "application/x-tfexample", "Accept": "application/jsonlines"}

#: Computes with the SavedModel itself, and writes the photographs as tf.Example messages and as TFRecords.
IN_PROCESS = """
import sys, numpy, tensorflow as tf
model, folder, *photographs = sys.argv[1:]
serve = tf.saved_model.load(model).signatures["serving_default"]
images = [open(each, "rb").read() for each in photographs]
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


@pytest.fixture(scope="module")
def package(shared: Path) -> Path:
    """The built package."""
    return once("resnet50_tfs", shared)


@pytest.fixture(scope="module")
def in_process(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the SavedModel gives for the photographs, and with the photographs as records."""
    folder = tmp_path_factory.mktemp("in_process")
    paths = []
    for number, photograph in enumerate(PHOTOGRAPHS):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(photograph)
    command = [sys.executable, "-c", IN_PROCESS, package / "resnet50" / "1538687370", folder, *paths]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def expected(in_process: Path) -> Any:
    """What the SavedModel gives."""
    with np.load(in_process / "expected.npz") as found:
        return {name: found[name] for name in found.files}


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[TfsServer]:
    """The package, running as the container runs it."""
    with TfsServer(package, environment={"SAGEMAKER_BATCH": "true"}) as running:
        yield running


def check(line: bytes, expected: Any, row: int) -> None:
    """A line of the answer is, bit for bit, what the SavedModel gives."""
    assert b" " not in line
    (prediction,) = json.loads(line)["predictions"]
    assert prediction["classes"] == expected["classes"][row]
    np.testing.assert_array_equal(np.float32(prediction["probabilities"]), expected["probabilities"][row])


def test_the_package_is_one(package: Path) -> None:
    """As the container finds it, and `tritonforge validate` has nothing to say."""
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
        (b"\x0a\xff", "application/x-tfexample", 400, "The body is no application/x-tfexample: a number is cut off"),
        (b"\x0a\x00", "application/x-tfexample", 400, "it has no bytes with the key 'image/encoded'"),
        (PHOTOGRAPHS[0], "application/x-tfexample", 400, "The body is no application/x-tfexample: "),
    ],
)
def test_what_is_not_taken_is_refused_with_its_status(
    server: TfsServer, body: bytes, content_type: str, status: int, sentence: str
) -> None:
    """415 is 415, what is wrong with a body is 400, and the next request is answered."""
    answer = server.invoke(body, {"Content-Type": content_type})
    assert answer.status == status
    assert sentence in json.loads(answer.body)["description"]


def test_requests_are_batched_as_the_seed_asks_for(package: Path, expected: Any) -> None:
    """The seed's environment: requests from many connections are computed together, each answered with its own."""
    environment = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
        "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "50000",
        "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16",
    }
    with TfsServer(package, environment=environment) as running, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: running.invoke(PHOTOGRAPHS[number % 2], IMAGE), range(32)))
    for number, answer in enumerate(answers):
        assert answer.status == 200
        (prediction,) = json.loads(answer.body)["predictions"]
        assert prediction["classes"] == expected["classes"][number % 2]
        np.testing.assert_allclose(
            prediction["probabilities"], expected["probabilities"][number % 2], rtol=2e-4, atol=1e-7
        )
