"""Exhaustive grids of three repositories, and how close to their best points a search comes in a tenth of the trials.

``python -m tests.benchmarks.tune_grids record [NAME ...]`` measures every point of a grid on a real tritonserver, in
two passes, and writes ``tests/benchmarks/tune_grids/NAME.json``. Record on a quiet machine: 10 to 20 minutes for each
grid. ``--repeats`` measures a point more often in a pass.

``... simulate`` runs the optimizers on the recorded grids with 20 seeds: a trial is one of the recorded repeats of its
point, and the point that is chosen is judged by the mean of its repeats. With optuna installed, its TPE runs as well.

``... real [NAME ...]`` runs one real search in a tenth of the trials, and then measures its point and the best point of
the recorded grid in turn.

The repositories: ``pipeline`` (Python models that sleep: decode, classify, and one that calls another through BLS),
``digits`` (DALI and TensorFlow), ``onnx`` (one ONNX model).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

import tritonforge
from tests.support.checkout import ROOT
from tritonforge.cli.input_arguments import InputArguments
from tritonforge.cli.profile_requests import build_requests
from tritonforge.inference.client import Client
from tritonforge.inference.wire import Payload
from tritonforge.profiling.load import ClosedLoop, StopRule
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.tuning.loaded_server import LoadedServer, TrialLoad, open_local_server
from tritonforge.tuning.objective import Measurement, Objective
from tritonforge.tuning.optimizers import OPTIMIZERS, Observation, Optimizer
from tritonforge.tuning.search import Budget, Search
from tritonforge.tuning.search_space import COUNT, DELAY, Point, SearchSpace, Setting, Value
from tritonforge.tuning.trial_journal import TrialJournal, describe_space

FOLDER = Path(__file__).parent / "tune_grids"
OBJECTIVE = Objective(goal="throughput")
SEEDS = 20
CONCURRENCY = 8

console = Console(highlight=False, soft_wrap=True, markup=False)

SHORT = StopRule(precision=0.03, min_seconds=0.8, max_seconds=1.5, warm_up=0.2, min_requests=20)
LONG = StopRule(precision=0.02, min_seconds=2.0, max_seconds=5.0, warm_up=0.3)


@dataclass(frozen=True)
class GridSpec:
    """One grid: the definition, the model that is asked, its cases, and the settings; the last one changes fastest."""

    definition: Callable[[Path], Path]
    model: str
    cases: Path | None
    settings: Sequence[tuple[str, str, Sequence[Value], Value]]

    def build_space(self, configs: Mapping[str, Any]) -> SearchSpace:
        """Return the space of the grid."""
        settings = [
            Setting(model, name, tuple(values), list(values).index(current))
            for model, name, values, current in self.settings
        ]
        return SearchSpace(tuple(settings), configs)


def write_onnx_definition(folder: Path) -> Path:
    """Write the definition of a dense ONNX network of 64 rows to 10 numbers, about 1 ms a row on a core."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    sizes = [256, 1024, 1024, 10]
    nodes, weights, tensor = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        matrix = generator.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        last = layer == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [tensor, f"w{layer}"], ["y" if last else f"m{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        tensor = f"r{layer}"
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", sizes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(folder / "dense.onnx"))
    (folder / "definition.py").write_text(
        '"""A dense network."""\n\n'
        "from tritonforge import TYPE_FP32, Input, Onnx, Output\n\n"
        'dense = Onnx("dense", max_batch_size=16, input=[Input("x", TYPE_FP32, [256])],\n'
        '             output=[Output("y", TYPE_FP32, [10])], artifact="dense.onnx")\n'
    )
    return folder


GRIDS: Mapping[str, GridSpec] = {
    "pipeline": GridSpec(
        lambda folder: ROOT / "tests" / "fixtures" / "tuning" / "pipeline",
        "pipeline",
        None,
        [
            ("classify", DELAY, (None, 0, 2000, 10_000), None),
            ("decode", DELAY, (None, 0), None),
            ("classify", COUNT, (1, 2), 1),
            ("decode", COUNT, (1, 2, 4), 1),
            ("rank", COUNT, (1, 2, 4), 1),
        ],
    ),
    "digits": GridSpec(
        lambda folder: ROOT / "repos" / "digits",
        "digits",
        ROOT / "repos" / "digits" / "tests",
        [
            ("classify", "TF_NUM_INTRA_THREADS", (None, 1), None),
            ("classify", DELAY, (None, 0, 2000), 0),
            ("classify", COUNT, (1, 2), 2),
            ("decode", "num_threads", (1, 2), 2),
            ("decode", DELAY, (None, 0, 2000), 0),
            ("decode", COUNT, (1, 2), 1),
        ],
    ),
    "onnx": GridSpec(
        write_onnx_definition,
        "dense",
        None,
        [
            ("dense", "intra_op_thread_count", (None, 1, 2), None),
            ("dense", "max_batch_size", (2, 4, 8, 16), 16),
            ("dense", DELAY, (None, 0, 500, 2000, 10_000), None),
            ("dense", COUNT, (1, 2, 4), 2),
        ],
    ),
}


@contextmanager
def serve(name: str) -> Iterator[tuple[SearchSpace, LoadedServer]]:
    """Build and serve a repository under the load of its grid."""
    spec = GRIDS[name]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        repository = Path(folder) / name
        tritonforge.build(spec.definition(source), repository)
        configs = read_configs(repository)

        def prepare(client: Client) -> tuple[Sequence[Payload], Sequence[Sequence[int]]]:
            metadata = client.metadata(spec.model)
            requests = build_requests(
                client, metadata, configs[spec.model], arguments=InputArguments({}), cases=spec.cases
            )
            return requests.encode(connections=CONCURRENCY)

        load = TrialLoad(spec.model, prepare, ClosedLoop(CONCURRENCY), SHORT, LONG)
        with open_local_server(repository, configs, load) as server:
            server.measure(least_throughput=0.0, is_long=False)  # the first requests are slower
            yield spec.build_space(configs), server


def walk(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield all points, each one differing from the one before in one setting by one value."""
    if not sizes:
        yield ()
        return
    for number, head in enumerate(walk(sizes[:-1])):
        values = range(sizes[-1])
        for value in values if number % 2 == 0 else reversed(values):
            yield (*head, value)


def record(name: str, *, passes: int, repeats: int) -> None:
    """Measure every point of a grid and write it."""
    with serve(name) as (space, server):
        points = list(dict.fromkeys(space.canonicalize(point) for point in walk(space.sizes)))
        console.print(f"{name}: {len(points)} points")
        figures: dict[Point, list[Measurement]] = {point: [] for point in points}
        began = time.monotonic()
        for turn in range(passes):
            for number, point in enumerate(points if turn % 2 == 0 else reversed(points)):
                server.apply(space.apply(point))
                for _ in range(repeats):
                    figures[point].append(server.measure(least_throughput=0.0, is_long=False))
                if number % 20 == 0:
                    console.print(f"  pass {turn + 1}, point {number}, {time.monotonic() - began:.0f} s")
        document = {
            "settings": describe_space(space),
            "seconds": round(time.monotonic() - began),
            "points": [
                {
                    "point": point,
                    "throughput": [round(entry.throughput, 2) for entry in entries],
                    "p99": [round(entry.p99, 2) for entry in entries],
                }
                for point, entries in figures.items()
            ],
        }
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(document, indent=None).replace('{"point"', '\n{"point"') + "\n"
    (FOLDER / f"{name}.json").write_text(text)


@dataclass(frozen=True)
class Grid:
    """A recorded grid: the repeats of every point."""

    space: SearchSpace
    repeats: Mapping[Point, Sequence[float]]

    @classmethod
    def read(cls, name: str) -> Grid:
        """Read a recorded grid; its configurations are as small as its settings need."""
        from google.protobuf import text_format

        from tritonforge.triton.schema import new_model_config

        document = json.loads((FOLDER / f"{name}.json").read_text())
        configs = {}
        for model, *_ in GRIDS[name].settings:
            configs[model] = new_model_config()
            text_format.Parse(f'name: "{model}" backend: "python" max_batch_size: 16', configs[model])
        space = GRIDS[name].build_space(configs)
        if json.loads(json.dumps(describe_space(space))) != document["settings"]:
            raise SystemExit(f"{name}: the grid has other settings than the script; record it again")
        return cls(space, {tuple(entry["point"]): entry["throughput"] for entry in document["points"]})

    def judge(self, point: Point) -> float:
        """Return the mean throughput of a point as a share of the best point's."""
        return fmean(self.repeats[point]) / max(fmean(values) for values in self.repeats.values())

    @property
    def best(self) -> Point:
        """The point with the largest mean throughput."""
        return max(self.repeats, key=lambda point: fmean(self.repeats[point]))

    @property
    def noise(self) -> float:
        """The median difference of two repeats of a point, as a share."""
        return float(
            np.median([abs(math.log(values[0] / values[-1])) for values in self.repeats.values() if min(values) > 0])
        )


def simulate(grid: Grid, optimizer: Optimizer, *, trials: int, seed: int) -> float:
    """Return how good the point is that a search chooses, as a share of the best one."""
    generator = np.random.default_rng(seed)

    def draw(point: Point) -> float:
        values = grid.repeats[point]
        return max(float(values[int(generator.integers(len(values)))]), 0.0)

    history: list[Observation] = []
    while len(history) < trials:
        point = optimizer(grid.space, history, seed)
        if point is None:
            break
        history.append(Observation(point, draw(point)))
    finalists = sorted(history, key=lambda entry: -entry.score)[:3]
    return grid.judge(max(finalists, key=lambda entry: entry.score + draw(entry.point)).point)


def list_optimizers() -> dict[str, Optimizer]:
    """Return tritonforge's optimizers, and optuna's TPE where it is installed."""
    optimizers = dict(OPTIMIZERS)
    try:
        import optuna
    except ImportError:
        console.print("optuna is not installed: its TPE is not compared")
        return optimizers
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def propose_tpe(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
        if not history:
            return space.canonicalize(space.current)
        sampler = optuna.samplers.TPESampler(seed=seed + len(history), multivariate=True, n_startup_trials=5)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        ranges = {
            str(index): optuna.distributions.IntDistribution(0, size - 1) for index, size in enumerate(space.sizes)
        }
        for entry in history:
            values = {str(index): value for index, value in enumerate(entry.point)}
            score = math.log(max(entry.score, 1e-3))
            study.add_trial(optuna.trial.create_trial(params=values, distributions=ranges, value=score))
        measured = {entry.point for entry in history}
        for _ in range(50):
            params = study.ask(ranges).params
            point = space.canonicalize([params[str(index)] for index in range(len(space.sizes))])
            if point not in measured:
                return point
        return OPTIMIZERS["random"](space, history, seed)

    return {**optimizers, "optuna TPE": propose_tpe}


def compare_optimizers(names: Sequence[str]) -> None:
    """Print how close every optimizer comes in a tenth of the trials."""
    for name in names:
        grid = Grid.read(name)
        trials = len(grid.repeats) // 10
        console.print(
            f"{name}: {len(grid.repeats)} points, {trials} trials, repeats differ by {grid.noise:.1%} (median)"
        )
        for label, optimizer in list_optimizers().items():
            began = time.monotonic()
            shares = [simulate(grid, optimizer, trials=trials, seed=seed) for seed in range(SEEDS)]
            reached = sum(share >= 0.95 for share in shares)
            console.print(
                f"  {label:18} mean {fmean(shares):.3f}  worst {min(shares):.3f}  >= 95 %: {reached} of {SEEDS}  "
                f"{time.monotonic() - began:.1f} s",
            )


def search_really(name: str, *, pairs: int = 5) -> None:
    """Run a real search in a tenth of the trials, and measure its point and the grid's best one in turn."""
    grid = Grid.read(name)
    trials = len(grid.repeats) // 10
    with serve(name) as (space, server), tempfile.TemporaryDirectory() as folder:
        search = Search(space, OBJECTIVE, server, TrialJournal(Path(folder) / "trials.jsonl", {"grid": name}))
        began = time.monotonic()
        search.run(Budget(trials))
        chosen = search.choose()
        seconds = time.monotonic() - began
        ratios = []
        for _ in range(pairs):
            figures = []
            for point in (chosen, grid.best):
                server.apply(space.apply(point))
                figures.append(server.measure(least_throughput=0.0, is_long=True).throughput)
            ratios.append(figures[0] / figures[1])
        console.print(
            f"{name}: {trials} trials of {len(grid.repeats)} points in {seconds:.0f} s; its point has "
            f"{fmean(ratios):.3f} of the throughput of the grid's best, in turn: "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}"
        )


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["record", "simulate", "real"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    recorded = [path.stem for path in sorted(FOLDER.glob("*.json"))]
    names = arguments.names or (list(GRIDS) if arguments.part == "record" else recorded)
    if arguments.part == "simulate":
        compare_optimizers(names)
    for name in names if arguments.part != "simulate" else ():
        record(
            name, passes=arguments.passes, repeats=arguments.repeats
        ) if arguments.part == "record" else search_really(name)


if __name__ == "__main__":
    main()
