"""Exhaustive grids of three repositories, and how close to their best points a search comes in a tenth of the trials.

``python -m tests.benchmarks.tune_grids record [NAME ...]`` measures every point of a grid on a real tritonserver, in
two passes, then the ten best points in six more rounds, and writes ``tests/benchmarks/tune_grids/NAME.json``. Record
on a quiet machine: about 20 minutes for each grid. ``--passes`` and ``--rounds`` set their numbers, ``--add`` keeps
what the file has.

``... simulate`` runs searches on the recorded grids with 20 seeds: a measurement is one of the recorded repeats of its
point, and the point that is chosen is judged by the mean of its repeats, as a share of the largest mean. The largest of
many noisy means is larger than what its point has: "every point once" shows how close an exhaustive search comes to it,
which measures all points and chooses by the same rule. "unseen passes" has no such error: searches get the even passes
alone, and their point is compared with the best one of these passes, by the odd passes; for half of the seeds the other
way round. With optuna installed, its TPE runs as well.

``... real [NAME ...]`` runs real searches in a tenth of the trials (``--seeds`` of them), and then measures the point
of each and the best point of the recorded grid in turn.

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
from functools import cached_property
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
from tritonforge.profiling.load import ClosedLoop
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.tuning.loaded_server import LoadedServer, TrialLoad, open_local_server
from tritonforge.tuning.objective import Measurement, Objective
from tritonforge.tuning.optimizer import Observation, Optimizer, list_neighbours, propose_point
from tritonforge.tuning.search import Budget, Search
from tritonforge.tuning.search_space import COUNT, DELAY, Point, SearchSpace, Setting, Value
from tritonforge.tuning.trial_journal import TrialJournal, describe_space

FOLDER = Path(__file__).parent / "tune_grids"
OBJECTIVE = Objective(goal="throughput")
SEEDS = 20
CONCURRENCY = 8
#: Points that a round of `record` measures again.
_BEST = 10

console = Console(highlight=False, soft_wrap=True, markup=False)

#: The most seconds of a measurement of a grid's point; and of a search's trial, what `tritonforge tune` has as default.
RECORD_SECONDS = 1.5
TRIAL_SECONDS = 4.0


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
def serve(name: str, measure_seconds: float) -> Iterator[tuple[SearchSpace, LoadedServer]]:
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

        load = TrialLoad.create(spec.model, prepare, ClosedLoop(CONCURRENCY), measure_seconds=measure_seconds)
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


def record(name: str, *, passes: int, rounds: int, adds: bool) -> None:
    """Measure every point of a grid and write it; with ``adds`` what was recorded before stays.

    The largest of many noisy means is larger than what its point has, so every round measures the points again that are
    the best ones until then.
    """
    path = FOLDER / f"{name}.json"
    before = json.loads(path.read_text()) if adds else {"seconds": 0, "points": []}
    earlier = {tuple(entry["point"]): entry for entry in before["points"]}
    with serve(name, RECORD_SECONDS) as (space, server):
        points = list(dict.fromkeys(space.canonicalize(point) for point in walk(space.sizes)))
        console.print(f"{name}: {len(points)} points")
        figures: dict[Point, list[tuple[float, float]]] = {
            point: list(zip(earlier[point]["throughput"], earlier[point]["p99"], strict=True)) if earlier else []
            for point in points
        }
        began = time.monotonic()

        def measure(point: Point) -> None:
            server.apply(space.apply(point))
            measurement = server.measure(least_throughput=0.0, is_long=False)
            figures[point].append((round(measurement.throughput, 2), round(measurement.p99, 2)))

        for turn in range(passes):
            for number, point in enumerate(points if turn % 2 == 0 else reversed(points)):
                measure(point)
                if number % 20 == 0:
                    console.print(f"  pass {turn + 1}, point {number}, {time.monotonic() - began:.0f} s")
        for turn in range(rounds):
            console.print(f"  round {turn + 1}, {time.monotonic() - began:.0f} s")
            means = {point: fmean(throughput for throughput, _ in figures[point]) for point in points}
            for point in sorted(points, key=lambda point: -means[point])[:_BEST]:
                measure(point)
        document = {
            "settings": describe_space(space),
            "seconds": before["seconds"] + round(time.monotonic() - began),
            "points": [
                {
                    "point": point,
                    "throughput": [throughput for throughput, _ in entries],
                    "p99": [p99 for _, p99 in entries],
                }
                for point, entries in figures.items()
            ],
        }
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(document, indent=None).replace('{"point"', '\n{"point"') + "\n"
    path.write_text(text)


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
        dynamic = {
            model for model, setting, _, current in GRIDS[name].settings if setting == DELAY and current is not None
        }
        configs = {}
        for model, *_ in GRIDS[name].settings:
            configs[model] = new_model_config()
            batching = "dynamic_batching {}" if model in dynamic else ""
            text_format.Parse(f'name: "{model}" backend: "python" max_batch_size: 16 {batching}', configs[model])
        space = GRIDS[name].build_space(configs)
        if json.loads(json.dumps(describe_space(space))) != document["settings"]:
            raise SystemExit(f"{name}: the grid has other settings than the script; record it again")
        return cls(space, {tuple(entry["point"]): entry["throughput"] for entry in document["points"]})

    @cached_property
    def points(self) -> Mapping[tuple[bytes, ...], Point]:
        """The points by their configurations."""
        return {write_key(self.space.apply(point)): point for point in self.repeats}

    @cached_property
    def best(self) -> Point:
        """The point with the largest mean throughput."""
        return max(self.repeats, key=lambda point: fmean(self.repeats[point]))

    @property
    def noise(self) -> float:
        """The median difference of two repeats of a point, as a share."""
        return float(
            np.median([abs(math.log(values[0] / values[-1])) for values in self.repeats.values() if min(values) > 0])
        )

    def judge(self, point: Point, best: Point) -> float:
        """Return the mean throughput of a point as a share of another one's."""
        return fmean(self.repeats[point]) / fmean(self.repeats[best])

    def split(self, parity: int) -> tuple[Grid, Grid]:
        """Return the grids of the even and of the odd passes; the other way round with parity 1."""
        parts = [
            Grid(self.space, {point: values[first::2] for point, values in self.repeats.items()}) for first in (0, 1)
        ]
        return parts[parity], parts[1 - parity]


def write_key(configs: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return configurations as a key."""
    return tuple(configs[name].SerializeToString(deterministic=True) for name in sorted(configs))


class RecordedServer:
    """A server whose measurements are repeats of a recorded grid, drawn at random."""

    def __init__(self, grid: Grid, seed: int) -> None:
        self.grid = grid
        self.measured = 0
        self._generator = np.random.default_rng(seed)
        self._point = grid.best

    def apply(self, configs: Mapping[str, Any]) -> None:
        """Take the point of these configurations."""
        self._point = self.grid.points[write_key(configs)]

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Return a repeat; a long measurement is the mean of two."""
        self.measured += 1
        values = self._generator.choice(self.grid.repeats[self._point], 2 if is_long else 1)
        return Measurement(throughput=max(float(values.mean()), 1e-3), p50=1.0, p99=1.0)


def simulate(grid: Grid, optimizer: Optimizer, *, trials: int, seed: int) -> tuple[Point, int]:
    """Run a search on a recorded grid; return the point that it chooses, and the number of its measurements."""
    server = RecordedServer(grid, seed)
    with tempfile.TemporaryDirectory() as folder:
        journal = TrialJournal(Path(folder) / "trials.jsonl", {})
        search = Search(grid.space, OBJECTIVE, server, journal, seed=seed, propose=optimizer)
        search.run(Budget(trials))
        return search.choose(), server.measured


def propose_random(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return a random point."""
    measured = {entry.point for entry in history}
    candidates = [point for point in space.all_points if point not in measured]
    generator = np.random.default_rng([seed, len(history)])
    return candidates[int(generator.integers(len(candidates)))] if candidates else None


def propose_neighbour(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return a point that differs from the best one in one setting, in turn; a random one when all were measured."""
    if not history:
        return space.canonicalize(space.current)
    measured = {entry.point for entry in history}
    best = max(history, key=lambda entry: entry.score).point
    neighbours = [point for point in list_neighbours(space, best) if point not in measured]
    generator = np.random.default_rng([seed, len(history)])
    return neighbours[int(generator.integers(len(neighbours)))] if neighbours else propose_random(space, history, seed)


def propose_next(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return the points in their order: with as many trials as points, an exhaustive search."""
    return space.all_points[len(history)] if len(history) < len(space.all_points) else None


OPTIMIZERS: Mapping[str, Optimizer] = {
    "gaussian process": propose_point,
    "coordinate search": propose_neighbour,
    "random": propose_random,
}


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
        return propose_random(space, history, seed)

    return {**optimizers, "optuna TPE": propose_tpe}


def compare_optimizers(names: Sequence[str]) -> None:
    """Print how close every optimizer comes in a tenth of the trials, and how close all of them come."""
    others = list_optimizers()
    for name in names:
        grid = Grid.read(name)
        trials = len(grid.repeats) // 10
        console.print(f"{name}: {len(grid.repeats)} points, repeats differ by {grid.noise:.1%} (median)")
        for label, optimizer, budget in [
            *((label, optimizer, trials) for label, optimizer in others.items()),
            ("every point once", propose_next, len(grid.repeats)),
        ]:
            began = time.monotonic()
            shares, unseen, measured = [], [], 0
            for seed in range(SEEDS):
                chosen, count = simulate(grid, optimizer, trials=budget, seed=seed)
                shares.append(grid.judge(chosen, grid.best))
                measured = max(measured, count)
                part, other = grid.split(seed % 2)
                chosen, _ = simulate(part, optimizer, trials=budget, seed=seed)
                unseen.append(other.judge(chosen, part.best))
            reached = sum(share >= 0.95 for share in shares)
            console.print(
                f"  {label:18} {budget:3} trials, {measured:3} measurements: mean {fmean(shares):.3f}  "
                f"worst {min(shares):.3f}  >= 95 %: {reached} of {SEEDS}  unseen passes {fmean(unseen):.3f}  "
                f"{time.monotonic() - began:.1f} s",
            )


def search_really(name: str, *, seeds: Sequence[int], pairs: int) -> None:
    """Run real searches in a tenth of the trials, and measure their points and the grid's best one in turn."""
    grid = Grid.read(name)
    trials = len(grid.repeats) // 10
    with serve(name, TRIAL_SECONDS) as (space, server), tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            journal = TrialJournal(Path(folder) / f"{seed}.jsonl", {"grid": name})
            search = Search(space, OBJECTIVE, server, journal, seed=seed)
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
                f"{name}, seed {seed}: {trials} trials of {len(grid.repeats)} points in {seconds:.0f} s; the chosen "
                f"point has {fmean(ratios):.3f} of the throughput of the grid's best, in turn: "
                f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}"
            )


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["record", "simulate", "real"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--add", action="store_true", help="record: keep what the file has")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    recorded = [path.stem for path in sorted(FOLDER.glob("*.json"))]
    names = arguments.names or (list(GRIDS) if arguments.part == "record" else recorded)
    if arguments.part == "simulate":
        compare_optimizers(names)
        return
    for name in names:
        if arguments.part == "record":
            record(name, passes=arguments.passes, rounds=arguments.rounds, adds=arguments.add)
        else:
            search_really(name, seeds=range(arguments.seeds), pairs=arguments.pairs)


if __name__ == "__main__":
    main()
