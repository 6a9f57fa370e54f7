"""How fast validation is: whole processes, against fixed bounds and against the real server on the same repository.

``run()`` gives rows as the other benchmarks do: ``ours_ms`` is the whole process of a validation from start to end,
``other_ms`` the real tritonserver's start with the same repository (stand-in backends), or the bound itself. The row of
memory has mebibytes in the place of milliseconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

Row = dict[str, Any]

#: The whole of a validation in a fresh process; prints its peak memory in KiB (ru_maxrss on Linux).
SCRIPT: Final = """
import resource, sys
from tritonforge.validation.tree_reader import read_tree
from tritonforge.validation.report import validate
findings = validate(read_tree(sys.argv[1]))
assert not findings, findings[:3]
assert "numpy" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

MODEL: Final = """name: "{name}"
backend: "identity"
max_batch_size: 8
input [
  {{
    name: "INPUT"
    data_type: TYPE_FP32
    dims: [ 16, 16 ]
  }}
]
output [
  {{
    name: "OUTPUT"
    data_type: TYPE_FP32
    dims: [ 16, 16 ]
  }}
]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{ preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }}
"""

ENSEMBLE: Final = """name: "{name}"
platform: "ensemble"
max_batch_size: 8
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 16, 16 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 16, 16 ] }} ]
ensemble_scheduling {{
  step [
{steps}
  ]
}}
"""

STEP: Final = """    {{
      model_name: "{model}"
      model_version: -1
      input_map {{ key: "INPUT" value: "{reads}" }}
      output_map {{ key: "OUTPUT" value: "{writes}" }}
    }}"""

STEPS: Final = 5


def repository(folder: Path, *, models: int, ensembles: int) -> dict[str, str]:
    """Write a good repository; gives its files too."""
    names = [f"model_{index:04}" for index in range(models)]
    files = {f"{name}/config.pbtxt": MODEL.format(name=name) for name in names}
    for index in range(ensembles):
        tensors = ["INPUT", *(f"tensor_{step}" for step in range(1, STEPS)), "OUTPUT"]
        steps = ",\n".join(
            STEP.format(model=names[(index * STEPS + step) % models], reads=tensors[step], writes=tensors[step + 1])
            for step in range(STEPS)
        )
        name = f"ensemble_{index:04}"
        files[f"{name}/config.pbtxt"] = ENSEMBLE.format(name=name, steps=steps)
    files.update({path.replace("config.pbtxt", "1/.gitkeep"): "" for path in list(files)})
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return files


def run() -> list[Row]:
    """All figures; about ten seconds on two cores."""
    with tempfile.TemporaryDirectory() as temporary:
        large, small = Path(temporary, "large"), Path(temporary, "small")
        files = repository(large, models=1000, ensembles=200)
        repository(small, models=2, ensembles=1)
        seconds, memory = timed(large)
        rows = [
            bound("validate 1,000 models with 200 ensembles, whole process", seconds * 1e3, 500.0),
            bound("validate three models, whole process", timed(small)[0] * 1e3, 400.0),
            bound("validate 1,000 models with 200 ensembles, MiB", memory, 150.0),
        ]
        rows.append(bound("validate them again, whole command", time_second_run(large) * 1e3, 150.0))
        rows += beside_the_server(files, Path(temporary), seconds)
    return rows


def timed(folder: Path, *, times: int = 5) -> tuple[float, float]:
    """The median seconds of a whole process, and its memory in MiB."""
    seconds, memory = [], 0.0
    for _ in range(times):
        start = time.perf_counter()
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        memory = int(done.stdout) / 1024
    return statistics.median(seconds), memory


def time_second_run(folder: Path, *, times: int = 5) -> float:
    """The median seconds of the command on a folder that it has validated before, and that has not changed."""
    command = [sys.executable, "-c", "from tritonforge.cli.main import main; main()", "validate", str(folder)]
    environment = {**os.environ, "TRITONFORGE_CACHE": str(folder.parent / "cache")}
    time.sleep(2.0)  # the result of files that are newer is not stored
    subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def bound(name: str, ours: float, most: float) -> Row:
    """A figure beside its bound."""
    return {
        "name": name, "ours_ms": ours, "other_ms": most, "ratio": ours / most, "target": "<= 1.0", "ok": ours <= most,
    }  # fmt: skip


def beside_the_server(files: dict[str, str], folder: Path, ours: float) -> list[Row]:
    """The real server's start with the same repository, where it and a C compiler are installed."""
    from tritonforge.errors import TritonForgeError

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.support.server_oracle import Oracle

    place = folder / "oracle"
    place.mkdir()
    try:
        oracle = Oracle(place)
    except TritonForgeError:
        return []
    if not oracle.fast:
        return []
    start = time.perf_counter()
    heard = oracle.judge(files, seconds=300)
    server = time.perf_counter() - start
    name = "the real server's verdict on them / ours, whole processes"
    return [
        {
            "name": name, "ours_ms": ours * 1e3, "other_ms": server * 1e3, "ratio": server / ours, "target": ">= 1.0",
            "ok": heard.loads and server >= ours,
        }
    ]  # fmt: skip


if __name__ == "__main__":
    for row in run():
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:60} {row['ours_ms']:9.1f} {row['other_ms']:9.1f} {row['ratio']:6.2f} {row['target']}"
            f" {'ok' if row['ok'] else 'MISSED'}"
        )
