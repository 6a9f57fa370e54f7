"""A TensorFlow repository as ONNX on the real server: the answers are those of TensorFlow, the labels are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.test_digits import heldout  # noqa: F401 - a fixture
from tests.support.conversion import Silent
from tritonforge.inference.client import Client
from tritonforge.repository.conversion import Conversion, converted
from tritonforge.repository.validation import validate
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]


@pytest.fixture(scope="module")
def digits_onnx(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """`repos/digits`, converted for 26.05."""
    return converted(digits, tmp_path_factory.mktemp("onnx") / "digits", image="26.05", progress=Silent())


@pytest.fixture(scope="module")
def digits_onnx_server(digits_onnx: Conversion) -> Iterator[Server]:
    """A real tritonserver that runs the converted digits."""
    with Server(digits_onnx.repository, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as server:
        yield server


def asked(server: Server, images: list[bytes], **options: Any) -> Any:
    """The ensemble's answer through the SageMaker front end."""
    with Client(str(server.sagemaker_url)) as client:
        return client.infer_images(images, **options)


def test_the_repository_is_right_for_the_newest_image(digits_onnx: Conversion, digits: Path) -> None:
    """Validated for 26.05 on SageMaker: nothing is refused; the original is."""
    found = validate(digits_onnx.repository, image="26.05", target="sagemaker")
    assert [each for each in found if each.refused_by] == []
    assert "E601" in {each.code for each in validate(digits, image="26.05")}


def test_digits_are_read_as_well_as_before(
    digits_server: Server,
    digits_onnx_server: Server,
    heldout: tuple[list[bytes], list[int]],  # noqa: F811 - the fixture
) -> None:
    """A hundred held-out images: each gets the label that it got from TensorFlow, with all but the same probability."""
    images = heldout[0][:100]
    ours, theirs = (asked(server, images[:50]) for server in (digits_server, digits_onnx_server))
    assert np.abs(ours["PROBABILITIES"] - theirs["PROBABILITIES"]).max() <= 1e-5
    rows = [asked(server, images[50:], classification=1).classes() for server in (digits_server, digits_onnx_server)]
    assert [row[0].label for row in rows[0]] == [row[0].label for row in rows[1]]
    assert len({row[0].label for row in rows[0]}) > 5
