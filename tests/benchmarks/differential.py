"""Random repositories by the thousand, judged by us and by the real server: how many are judged differently.

Rows as in `wire`; ``ours_ms`` and ``other_ms`` are the times of one verdict, ours in this process. Each number is a
repository of its own (`tests/support/repository_mutations.py`), so a difference can be looked at again.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

Row = dict[str, Any]

#: Random ensembles that are judged in batches; those of the tests come before them.
ENSEMBLES: Final = range(10_000, 13_500)

ROOT = Path(__file__).parents[2]

#: The tests judge the first few hundred; these come after them.
FIRST, CASES = 10_000, 2_000


def run() -> list[Row]:
    """2,000 repositories; about ten minutes on two cores where there is a C compiler."""
    sys.path.insert(0, str(ROOT))
    from tests.support.repository_mutations import repository
    from tests.support.server_oracle import Oracle, find_difference
    from tritonforge.validation.report import validate
    from tritonforge.validation.tree import Tree

    differing: list[int] = []
    ours = 0.0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(Path(folder))
        cases = CASES if oracle.fast else CASES // 20
        for number in range(FIRST, FIRST + cases):
            files, options = repository(number)
            start = time.perf_counter()
            validate(Tree.of(files), **options)
            ours += time.perf_counter() - start
            if find_difference(oracle, files, options):
                differing.append(number)
    taken = time.perf_counter() - began - 2 * ours
    return [
        *_ensembles(),
        {
            "name": f"{cases:,} random repositories: judged differently by the real server ({differing[:5] or 0})",
            "ours_ms": ours / cases * 1000,
            "other_ms": taken / cases * 1000,
            "ratio": float(len(differing)),
            "target": "0",
            "ok": not differing,
        },
    ]


def _ensembles() -> list[Row]:
    """3,500 ensembles, each with and without model files and for seven releases; the differences are written down."""
    from tests.support.ensemble_differential import differences
    from tests.support.server_oracle import Oracle

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(Path(folder))
        if not oracle.fast:
            return []
        found = dict(differences(oracle, ENSEMBLES))
    place = ROOT / "build" / "ensemble-differences.txt"
    place.parent.mkdir(exist_ok=True)
    place.write_text("".join(f"{seed}: {difference}\n" for seed, difference in found.items()))
    taken = time.perf_counter() - began
    return [
        {
            "name": f"{len(ENSEMBLES):,} random ensembles: judged differently ({list(found)[:5] or 0})",
            "ours_ms": taken / len(ENSEMBLES) * 1000,
            "other_ms": taken / len(ENSEMBLES) * 1000,
            "ratio": float(len(found)),
            "target": "0",
            "ok": not found,
        }
    ]
