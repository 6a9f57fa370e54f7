"""How long a keystroke takes: from the editor's message to the diagnostics, over the standard streams of the server.

The repository has 100 models, 20 of them ensembles. Two sides alternate: a keystroke in the language server, and a
validation of the whole tree in this process, which a server without increments would need for each. ``run()`` gives
rows as the other benchmarks do; percentiles are beside the bound of 50 ms.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tritonforge.validation.report import run as validate
from tritonforge.validation.tree_reader import read_tree

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from validation import repository

from tests.support.language_client import LanguageClient

Row = dict[str, Any]

BOUND: Final = 50.0
KEYSTROKES: Final = 200


def run() -> list[Row]:
    """All figures; about half a minute on two cores."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        models = folder / "models"
        repository(models, models=80, ensembles=20)
        os.environ["TRITONFORGE_CACHE"] = str(folder / "cache")
        tree = read_tree(models)
        with LanguageClient(folder) as editor:
            model = models / "model_0007" / "config.pbtxt"
            ensemble = models / "ensemble_0001" / "config.pbtxt"
            rows = []
            for name, file in (("a model", model), ("an ensemble", ensemble)):
                keystrokes, whole = time_keystrokes(editor, file, lambda: validate(tree))
                rows += [
                    bound(f"lsp: keystroke in {name} of 100, {label}", quantile(keystrokes, share))
                    for label, share in (("median", 0.5), ("90th percentile", 0.9), ("99th percentile", 0.99))
                ]
                ours, other = statistics.median(keystrokes) * 1e3, statistics.median(whole) * 1e3
                rows.append(
                    {
                        "name": f"lsp: validating all of them / a keystroke in {name}", "ours_ms": ours,
                        "other_ms": other, "ratio": other / ours, "target": ">= 1.5", "ok": other >= 1.5 * ours,
                    }
                )  # fmt: skip
            rows += time_requests(editor, ensemble)
        return rows


def time_keystrokes(
    editor: LanguageClient, file: Path, whole: Callable[[], object]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the seconds of keystrokes in a file, each of which changes the diagnostics, and of whole validations."""
    text = file.read_text()
    uri = editor.open(file)
    editor.change(uri, f"{text}\nunknown: 1")
    editor.wait_for(uri, bool)
    keystrokes, validations = [], []
    for index in range(KEYSTROKES):
        column = len("unknown") + index + 1
        start = time.perf_counter()
        editor.change(uri, f"{text}\nunknown{'x' * (index + 1)}: 1")
        editor.wait_for(uri, lambda listed: bool(listed) and listed[0]["range"]["end"]["character"] == column)  # noqa: B023 - called in this turn
        keystrokes.append(time.perf_counter() - start)
        if index % 4 == 0:
            start = time.perf_counter()
            whole()
            validations.append(time.perf_counter() - start)
    editor.change(uri, text)
    editor.wait_for(uri, lambda listed: not listed)
    return keystrokes, validations


def time_requests(editor: LanguageClient, file: Path) -> list[Row]:
    """Return the 99th percentile of completion, hover and definition at the name of a step's model."""
    lines = file.read_text().splitlines()
    line = next(index for index, text in enumerate(lines) if "model_name" in text)
    column = lines[line].index('"') + 3
    rows = []
    for feature in ("completion", "hover", "definition"):
        seconds = []
        for _ in range(KEYSTROKES // 4):
            start = time.perf_counter()
            assert editor.ask(feature, file.as_uri(), line, column)
            seconds.append(time.perf_counter() - start)
        rows.append(bound(f"lsp: {feature}, 99th percentile", quantile(seconds, 0.99)))
    return rows


def quantile(seconds: Sequence[float], share: float) -> float:
    """Return the milliseconds that this share of the measurements does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


def bound(name: str, ours: float) -> Row:
    """A figure beside the bound."""
    return {
        "name": name, "ours_ms": ours, "other_ms": BOUND, "ratio": ours / BOUND, "target": "<= 1.0",
        "ok": ours <= BOUND,
    }  # fmt: skip


if __name__ == "__main__":
    for row in run():
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:60} {row['ours_ms']:9.1f} {row['other_ms']:9.1f} {row['ratio']:6.2f} {row['target']}"
            f" {'ok' if row['ok'] else 'MISSED'}"
        )
