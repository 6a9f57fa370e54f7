"""A process that runs the detector's training again and again: TensorFlow is loaded once, as it is what takes long.

Orders come as lines of JSON on standard input, answers go to standard output, one line each:

    {"train": BASE}     train in this process, on the container's folder BASE; of the model its weights and labels are
                        written alone, as the models for Triton hold nothing about training
    {"fork": BASE}      train in a copy of this process, whose output goes to BASE/train.out and BASE/train.err
    {"checks": null}    the report of `learner_checks`

To a training the answer is the exit code and what was printed. On the PYTHONPATH lies the detector.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import exporting
import learning
import numpy as np
from algorithm import algorithm
from earlier import SETTINGS, WEIGHTS, arrays_of

from tritonforge.training.algorithm import run


def main() -> None:
    """Answer one order after the other."""
    exporting.export = keep
    for line in sys.stdin:
        ((kind, base),) = json.loads(line).items()
        answer = checks() if kind == "checks" else {"train": train_here, "fork": train_in_fork}[kind](Path(base))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def keep(network: Any, *, categories: Any, labels: Any, side: int, folder: Path) -> None:
    """What training continues from, and the names of the classes, without the models."""
    (folder / WEIGHTS).parent.mkdir()
    np.savez(folder / WEIGHTS, **arrays_of(network))
    settings = {"categories": list(categories), "labels": list(labels), "image_size": side}
    (folder / SETTINGS).write_text(json.dumps(settings))
    (folder / "detector/labels.txt").write_text("".join(f"{label}\n" for label in labels))


def train_here(base: Path) -> tuple[int, str]:
    """Train here."""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            run(algorithm, learning.train, base=base)
        except SystemExit as ended:
            return int(str(ended.code)), printed.getvalue()


def train_in_fork(base: Path) -> tuple[int, str]:
    """Train in a copy of this process."""
    child = os.fork()
    if not child:
        run_program(base)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), (base / "train.out").read_text()


def run_program(base: Path) -> NoReturn:
    """The program, with its output in files; the process ends with it, and never returns to the orders."""
    try:
        for number, name in ((1, "train.out"), (2, "train.err")):
            os.dup2(os.open(base / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        run(algorithm, learning.train, base=base)
    except SystemExit as ended:
        code = int(str(ended.code))
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def checks() -> dict[str, Any]:
    """The parts of the learner."""
    import learner_checks

    return learner_checks.build_report()


if __name__ == "__main__":
    main()
