"""A process that forks the detector's trainings: what they import is loaded once, as it is what takes long.

``python detector_host.py keras`` imports TensorFlow and Keras too. Orders come as lines of JSON on standard input;
answers go to standard output, one line each:

    {"train": BASE}     start a training on the container's folder BASE; of the model its weights and labels are written
                        alone, as the models for Triton hold nothing about training
    {"checks": BASE}    start the report of `learner_checks` on the pictures in BASE/pictures
    {"poll": PID}       the exit code of one that was started, null while it runs
    {"wait": PID}       its exit code, at its end

To a start the answer is the process id. The output goes to BASE/train.out and BASE/train.err. On the PYTHONPATH lies
the detector.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exporting
import learning
import numpy as np
from algorithm import algorithm
from earlier import SETTINGS, WEIGHTS, arrays_of

from tritonforge import tf_memory
from tritonforge.training.algorithm import run


def main() -> None:
    """Answer one order after the other."""
    exporting.export = keep
    if sys.argv[1:] == ["keras"]:
        tf_memory.import_keras()
    starts = {"train": train, "checks": check}
    for line in sys.stdin:
        ((kind, value),) = json.loads(line).items()
        answer = start(starts[kind], Path(value)) if kind in starts else end(value, wait=kind == "wait")
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def keep(network: Any, *, categories: Any, labels: Any, side: int, folder: Path) -> None:
    """What training continues from, and the names of the classes, without the models."""
    (folder / WEIGHTS).parent.mkdir()
    np.savez(folder / WEIGHTS, **arrays_of(network))
    settings = {"categories": list(categories), "labels": list(labels), "image_size": side}
    (folder / SETTINGS).write_text(json.dumps(settings))
    (folder / "detector/labels.txt").write_text("".join(f"{label}\n" for label in labels))


def start(program: Callable[[Path], None], base: Path) -> int:
    """Fork a process that runs a program, with its output in files; it never returns to the orders."""
    if child := os.fork():
        return child
    code = 0
    try:
        for number, name in ((1, "train.out"), (2, "train.err")):
            os.dup2(os.open(base / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        program(base)
    except SystemExit as ended:
        code = int(str(ended.code))
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end(child: int, *, wait: bool) -> int | None:
    """The exit code of a process that was started; it is asked for until it is there, and then no more."""
    ended, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def train(base: Path) -> None:
    """Train as the program does."""
    run(algorithm, learning.train, base=base)


def check(base: Path) -> None:
    """Print the report about the parts of the learner."""
    import learner_checks

    sys.stdout.write(json.dumps(learner_checks.build_report(base)))


if __name__ == "__main__":
    main()
