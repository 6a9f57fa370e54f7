"""The real tritonserver, TensorFlow and DALI inside a container: no network, a read-only machine, little /dev/shm."""

from __future__ import annotations

import importlib.util
import urllib.request
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.sandbox_containers import PROGRAMS, Ran, until
from tritonforge.inference.client import Client
from tritonforge.training.sandbox.volumes import build_serving_volumes

pytestmark = [pytest.mark.server, pytest.mark.framework]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def heldout() -> tuple[list[bytes], list[int]]:
    """Encoded images that the network never saw, and their digits."""
    spec = importlib.util.spec_from_file_location("digits_network_of_isolation", ROOT / "repos/digits/network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = module.heldout()
    return images[:60], labels[:60]


def test_tritonserver_answers_out_of_its_container(digits: Path) -> None:
    begun = Ran("serve", binds=build_serving_volumes(PROGRAMS / "triton", model=digits).binds, publish=8080)
    with begun.process as process:
        address = f"http://127.0.0.1:{process.port}"

        def well() -> bool:
            try:
                return bool(urllib.request.urlopen(f"{address}/ping", timeout=10).status == 200)
            except OSError:
                assert process.returncode is None, begun.lines
                return False

        assert until(well, 120)
        images, labels = heldout()
        with Client(address) as client:
            rows = client.infer_images(images, classification=1).classes()
        right = sum(row[0].label == NAMES[label] for row, label in zip(rows, labels, strict=True))
        assert right / len(images) >= 0.9
        assert process.terminate(30) == 0
    assert begun.lines[-1] == "tritonserver has ended"
