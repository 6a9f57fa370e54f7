"""The detector's programs as a container runs them: their folders, their pipes, their processes; not a test itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.checkout import ROOT
from tritonforge.records import frame_recordio
from tritonforge.training.detection import Truth, to_fractions

PROGRAM = ROOT / "repos" / "detector"

#: What learns three digits from 700 pictures in a quarter of a minute on two cores that have nothing else to do.
LEARNS = {"epochs": "6", "batch_size": "8", "learning_rate": "0.012", "image_size": "96"}

#: Hyperparameters of a training that takes seconds.
SMALL = {"epochs": "3", "batch_size": "3", "learning_rate": "0.002", "image_size": "64"}


def lay_out(
    base: Path, hyperparameters: Mapping[str, str], channels: Mapping[str, Path], *, pipes: Mapping[str, Path] = {}
) -> Path:
    """A container's folders: ``channels`` lead to folders of files, ``pipes`` get a FIFO for their first epoch."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (base / "input" / "data").mkdir()
    channel_settings = {}
    for name, folder in channels.items():
        (base / "input" / "data" / name).symlink_to(folder)
        channel_settings[name] = {"TrainingInputMode": "File", "RecordWrapperType": "None"}
    for name in pipes:
        os.mkfifo(base / "input" / "data" / f"{name}_0")
        channel_settings[name] = {
            "TrainingInputMode": "Pipe",
            "RecordWrapperType": "RecordIO",
            "ContentType": "application/x-recordio",
        }
    (config / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
    (config / "inputdataconfig.json").write_text(json.dumps(channel_settings))
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    return base


def environment(base: Path, **added: str) -> dict[str, str]:
    """As in the container: the program's folder first on the PATH, then this Python's."""
    path = os.pathsep.join([str(PROGRAM), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "SAGEMAKER_BASE_DIR": str(base), "TF_CPP_MIN_LOG_LEVEL": "2", **added}


@contextmanager
def running(program: str, base: Path, **added: str) -> Iterator[subprocess.Popen[str]]:
    """A program of the folder, by its name; killed in the end, where it still runs."""
    log = (base / f"{program}.err").open("w")
    process = subprocess.Popen(
        [program], env=environment(base, **added), stdout=subprocess.PIPE, stderr=log, text=True, cwd=base
    )
    try:
        yield process
    finally:
        log.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def train_program(base: Path, *, code: int = 0) -> str:
    """Train to the end, in a process as the container starts it; gives what was printed."""
    with running("train", base) as process:
        printed, _ = process.communicate(timeout=500)
    assert process.returncode == code, (base / "train.err").read_text()[-2000:]
    return printed


class Host:
    """A process that has imported what trainings import, and forks them (`detector_host`)."""

    def __init__(self, folder: Path, *, keras: bool = False) -> None:
        path = os.pathsep.join(map(str, (PROGRAM, ROOT / "tests/end_to_end", ROOT)))
        self._log = folder / "host.err"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, ROOT / "tests/end_to_end/detector_host.py", *(["keras"] if keras else [])],
                env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=60)
        finally:
            self._process.kill()
            self._process.wait()

    def _ask(self, kind: str, value: str | int) -> Any:
        """The answer to an order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({kind: value}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        return json.loads(line)

    def start(self, base: Path, kind: str = "train") -> int:
        """Start a training, or another program of the host; gives the process id."""
        return int(self._ask(kind, str(base)))

    def is_running(self, pid: int) -> bool:
        """Whether it has not ended; not to be asked again, nor waited for, after a False."""
        return self._ask("poll", pid) is None

    def finish(self, pid: int, base: Path, *, code: int = 0) -> str:
        """Wait for the end; gives what was printed."""
        assert self._ask("wait", pid) == code, (base / "train.err").read_text()[-2000:]
        return (base / "train.out").read_text()

    def train(self, base: Path, *, pipe: bytes | None = None, code: int = 0) -> str:
        """Train to the end, as `train_program` does."""
        if pipe is not None:
            feed(base, pipe)
        return self.finish(self.start(base), base, code=code)


def weights(base: Path) -> dict[str, Any]:
    """What was learned."""
    with np.load(base / "model/detector/weights.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def precisions(base: Path) -> list[float]:
    """Mean average precision on the validation images after each epoch."""
    return [epoch["mAP50"] for epoch in json.loads((base / "output/data/history.json").read_text())]


def stream(manifest: Path, *, label: str = "digits", shuffled: int | None = None) -> bytes:
    """What SageMaker pipes of an augmented manifest: image, label and metadata of each line, as records."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    if shuffled is not None:
        random.Random(shuffled).shuffle(lines)
    records = []
    for line in lines:
        values = [json.dumps(line[name]).encode() for name in (label, f"{label}-metadata")]
        records += [Path(line["source-ref"]).read_bytes(), *values]
    return b"".join(frame_recordio(record) for record in records)


def truth(folder: Path) -> tuple[list[bytes], list[Truth]]:
    """The pictures of a data set, and what is on each: normalised boxes and digits."""
    document = json.loads((folder / "annotations.json").read_text())
    images, truths = [], []
    for image in document["images"]:
        annotations = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
        boxes = to_fractions([entry["bbox"] for entry in annotations], image["width"], image["height"])
        truths.append(Truth(boxes, [entry["category_id"] for entry in annotations]))
        images.append((folder / "images" / image["file_name"]).read_bytes())
    return images, truths


def feed(base: Path, data: bytes) -> None:
    """Write into the FIFO of the channel ``training``, as soon as it is read."""
    threading.Thread(target=_write, args=(base / "input/data/training_0", data), daemon=True).start()


def _write(path: Path, data: bytes) -> None:
    with suppress(BrokenPipeError):  # the program has read enough of it
        path.write_bytes(data)


def draw(curves: Mapping[str, list[float]], path: Path) -> None:
    """Curves from 0 to 1 over epochs as a PNG, with Pillow alone."""
    from PIL import Image, ImageDraw

    width, height, margin = 640, 400, 50
    colours = ("#1f77b4", "#d62728", "#2ca02c")
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    epochs = max(map(len, curves.values()))

    def place(epoch: float, value: float) -> tuple[float, float]:
        across = (epoch - 1) / max(1, epochs - 1)
        return margin + across * (width - 2 * margin), height - margin - value * (height - 2 * margin)

    for tenth in range(0, 11, 2):
        x, y = place(1, tenth / 10)
        pen.line([(x, y), (width - margin, y)], fill="#dddddd")
        pen.text((x - 25, y - 6), f"{tenth / 10:.1f}", fill="black")
    for epoch in range(1, epochs + 1):
        pen.text((place(epoch, 0)[0] - 3, height - margin + 8), str(epoch), fill="black")
    pen.text((width / 2 - 20, height - 22), "epoch", fill="black")
    pen.text((margin, 12), "mean average precision at IoU 0.5, validation images", fill="black")
    for number, (name, values) in enumerate(curves.items()):
        points = [place(epoch, value) for epoch, value in enumerate(values, 1)]
        pen.line(points, fill=colours[number], width=3)
        for x, y in points:
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colours[number])
        pen.text((margin + 10, 30 + 16 * number), name, fill=colours[number])
    path.parent.mkdir(exist_ok=True)
    picture.save(path)
