"""A repository like those of `repos/`, from a picture to probabilities, that needs no framework.

It has an ensemble of two models of Triton's python backend: the first decodes encoded images with Pillow, the second
classifies them with fixed random weights. A server with it starts in a second, where DALI and TensorFlow take ten.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.python_models import write_model

_DECODE = '''
import io

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


class TritonPythonModel:
    """Encoded images to RGB from 0 to 1. A request with bytes that are not an image is refused."""

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        pictures = []
        for row in request.inputs()[0].as_numpy():
            try:
                pictures.append(self.decoded(row.tobytes()))
            except OSError:
                sentence = f"decode: not an image: {row[:20].tobytes().decode(errors='replace')}"
                error = pb_utils.TritonError(sentence, pb_utils.TritonError.INVALID_ARG)
                return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", np.stack(pictures))])

    def decoded(self, encoded):
        picture = Image.open(io.BytesIO(encoded)).convert("RGB").resize((16, 16))
        return np.asarray(picture, np.float32) / 255
'''

_CLASSIFY = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A softmax over products with fixed random weights; each image is computed by itself."""

    def initialize(self, args):
        self.weights = np.random.default_rng(0).normal(0, 0.2, (16 * 16 * 3, CLASSES)).astype(np.float32)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        pictures = request.inputs()[0].as_numpy()
        scores = np.stack([picture.reshape(-1) @ self.weights for picture in pictures])
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", scores)])
'''


@dataclass(frozen=True)
class Names:
    """What a repository calls its models and the tensors of its ensemble; ``labels`` are those of the classes."""

    decode: str
    classify: str
    ensemble: str
    image: str
    probabilities: str
    labels: Sequence[str]


DIGITS = Names(
    *("decode", "classify", "digits", "IMAGE", "PROBABILITIES"),
    labels=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
)
INCEPTION = Names(
    *("dali", "inception_graphdef", "ensemble_dali_inception", "INPUT", "OUTPUT"),
    labels=[f"class {number}" for number in range(1001)],
)


def write_repository(folder: Path, names: Names) -> Path:
    """Write the repository into a new folder, and return the folder."""
    classes = len(names.labels)
    write_model(
        folder,
        names.decode,
        'max_batch_size: 64 input { name: "encoded" data_type: TYPE_UINT8 dims: [-1] }\n'
        'output { name: "pixels" data_type: TYPE_FP32 dims: [16, 16, 3] }\n',
        _DECODE,
    )
    write_model(
        folder,
        names.classify,
        'max_batch_size: 64 input { name: "pixels" data_type: TYPE_FP32 dims: [16, 16, 3] }\n'
        f'output {{ name: "probabilities" data_type: TYPE_FP32 dims: [{classes}] label_filename: "labels.txt" }}\n',
        _CLASSIFY.replace("CLASSES", str(classes)),
    )
    (folder / names.classify / "labels.txt").write_text("".join(f"{label}\n" for label in names.labels))
    (folder / names.ensemble / "1").mkdir(parents=True)
    (folder / names.ensemble / "1" / ".gitkeep").touch()
    (folder / names.ensemble / "config.pbtxt").write_text(
        f"""
platform: "ensemble"
max_batch_size: 64
input {{ name: "{names.image}" data_type: TYPE_UINT8 dims: [-1] }}
output {{ name: "{names.probabilities}" data_type: TYPE_FP32 dims: [{classes}] }}
ensemble_scheduling {{
  step {{
    model_name: "{names.decode}"
    model_version: -1
    input_map {{ key: "encoded" value: "{names.image}" }}
    output_map {{ key: "pixels" value: "pixels" }}
  }}
  step {{
    model_name: "{names.classify}"
    model_version: -1
    input_map {{ key: "pixels" value: "pixels" }}
    output_map {{ key: "probabilities" value: "{names.probabilities}" }}
  }}
}}
"""
    )
    return folder


def with_one_process(repository: Path, folder: Path, model: str) -> Path:
    """Copy a repository into a new folder, and have a TensorFlow model run in one process there, not in two."""
    shutil.copytree(repository, folder)
    with (folder / model / "config.pbtxt").open("a") as config:
        config.write("instance_group { count: 1 kind: KIND_CPU }\n")
    return folder
