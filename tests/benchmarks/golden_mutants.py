"""`make mutants`: every mutant fails its golden tests and names the right step; the originals pass 20 runs of 20.

An original is recorded with a batch of 1 and one of 8 images, on one instance of each model; it is replayed on a server
with one instance of each and on one with two. A mutant is right if at least one case fails, and all that fail name its
step: a filter does not change an image that has the size already. About 20 minutes on two cores; the figures are in
build/golden_mutants.json. Arguments are names of repositories.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.support.checkout import ROOT
from tests.support.golden_mutants import BASELINES, MUTANTS, build_baseline, build_mutant
from tests.support.golden_pictures import write_picture_cases
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.session import open_runner
from tritonforge.golden_tests.suite import run_case

RUNS: Final = 20

console = Console(highlight=False, soft_wrap=True, markup=False)


def set_instances(repository: Path, count: int) -> None:
    """Give every model with a backend this number of instances."""
    for path in repository.glob("*/config.pbtxt"):
        text = path.read_text()
        if "ensemble_scheduling" not in text:
            path.write_text(f"{text}\ninstance_group {{ count: {count} kind: KIND_CPU }}\n")


def check_original(folder: Path, name: str, cases: CaseDirectory, count: int) -> int:
    """Return how many of the runs of the original with this number of instances fail."""
    repository = folder / name / f"instances{count}"
    shutil.copytree(folder / name / "built", repository)
    set_instances(repository, count)
    failures = 0
    with open_runner(repository) as runner:
        for case in cases.list_names():
            results = [run_case(cases, case, runner) for _ in range(RUNS)]
            failed = [result for result in results if not result.is_success]
            failures += len(failed)
            console.print(f"{name}, instances: {count}, {case}: {RUNS - len(failed)} of {RUNS} runs pass")
            for result in failed[:1]:
                console.print("  ", result.headline, *(entry.sentence for entry in result.differences))
    return failures


def check_mutants(folder: Path, name: str, cases: CaseDirectory) -> list[dict[str, Any]]:
    """Return a row for each mutant of a repository: the steps that its failing cases name."""
    rows: list[dict[str, Any]] = []
    for mutant in MUTANTS:
        if mutant.repository != name:
            continue
        began = time.monotonic()
        with open_runner(build_mutant(mutant, folder)) as runner:
            results = [run_case(cases, case, runner) for case in cases.list_names()]
        named = {result.name: result.differences[0].step for result in results if result.differences}
        is_right = bool(named) and set(named.values()) == {mutant.step}
        sentence = next((entry.sentence for result in results for entry in result.differences), "")
        rows.append(
            {"mutant": str(mutant), "expected": mutant.step, "named": named, "sentence": sentence, "ok": is_right}
        )
        seconds = time.monotonic() - began
        console.print(f"{'ok' if is_right else 'MISSED'}  {mutant}: {named}  {sentence[:110]}  ({seconds:.0f} s)")
    return rows


def main(names: list[str]) -> int:
    """Check the repositories of these names, or all; 1 if a mutant is missed or an original fails."""
    rows: list[dict[str, Any]] = []
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in names or BASELINES:
            built = ROOT / "build" / name
            original = build_baseline(name, folder, built=built if built.is_dir() else None)
            cases = CaseDirectory(folder / name / "cases")
            write_picture_cases(cases.folder, name)
            with open_runner(original) as runner:
                for case in cases.list_names():
                    result = run_case(cases, case, runner, mode="record")
                    assert result.status == "recorded", (result.headline, result.differences)
            failures += sum(check_original(folder, name, cases, count) for count in (1, 2))
            rows += check_mutants(folder, name, cases)
            shutil.rmtree(folder / name)
    target = ROOT / "build" / "golden_mutants.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    missed = [row["mutant"] for row in rows if not row["ok"]]
    console.print(f"{len(rows) - len(missed)} of {len(rows)} mutants are named; failing runs of originals: {failures}")
    return 1 if missed or failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
