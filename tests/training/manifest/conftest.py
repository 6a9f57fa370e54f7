"""What the tests of `tritonforge manifest` share: the command in this process, and small labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.manifest_samples import text
from tritonforge.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `tritonforge manifest` in this process: exit code, standard output, standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["manifest", *map(str, arguments)])
        output = capsys.readouterr()
        return int(str(ended.value.code)), output.out, output.err

    return command


def images(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Some pictures, and the augmented manifest with one box on each."""
    lines = []
    for number in range(count):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, (number * 20 % 256, 90, 90)).save(path)
        boxes = {
            "image_size": [{"width": size[0], "height": size[1], "depth": 3}],
            "annotations": [{"class_id": number % 2, "left": 4, "top": 20, "width": 20, "height": 10}],
        }
        metadata = {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/object-detection"}
        lines.append({"source-ref": f"s3://bucket/train/images/{number}.png", "b": boxes, "b-metadata": metadata})
    manifest = folder / "b.manifest"
    manifest.write_bytes(text(*lines))
    return manifest
