"""One run of `tritonforge tune`: open the server, search, confirm in turn, compare answers.

What the command line adds is the definition: building it before, and editing it afterwards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from tritonforge.errors import LaunchError, TritonForgeError
from tritonforge.inference.client import Client
from tritonforge.inference.transports import ModelMetadata
from tritonforge.inference.wire import Payload
from tritonforge.profiling.load import ClosedLoop, Load, OpenLoop
from tritonforge.serving.repository_overlay import list_default_candidates
from tritonforge.triton.schema import ModelConfig
from tritonforge.tuning.answers import Inputs, compare_answers, read_answers
from tritonforge.tuning.loaded_server import LoadedServer, TrialLoad
from tritonforge.tuning.objective import Comparison, Measurement, Objective
from tritonforge.tuning.search import Budget, Confirmation, Search
from tritonforge.tuning.search_space import Point, SearchSpace
from tritonforge.tuning.space_builder import SpaceLimits, build_space
from tritonforge.tuning.trial_journal import JournaledTrial, TrialJournal, describe_space

__all__ = ["TrialRequests", "TuningOptions", "TuningOutcome", "TuningProgress", "tune_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions:
    """What is searched, for what, and how long.

    Attributes:
        objective: what is optimized.
        model: the model that requests go to; None for the only outermost one.
        concurrency: clients of a closed loop, where the objective has no rate.
        trials: the most trials.
        seconds: the most seconds for trials; None without a limit.
        measure_seconds: the most seconds of a trial's measurement.
        pairs: measurements before and after, in turn, at the end.
        largest_request: rows of the largest request of clients; None keeps ``max_batch_size`` as large as it is.
        instances: the most instances of a model; None for the number of processors, at least 2.
        seed: of the search.
        restart: drop the trials of an interrupted search.
    """

    objective: Objective
    model: str | None = None
    concurrency: int = 8
    trials: int = 40
    seconds: float | None = None
    measure_seconds: float = 4.0
    pairs: int = 5
    largest_request: int | None = None
    instances: int | None = None
    seed: int = 0
    restart: bool = False

    @property
    def load(self) -> Load:
        """The load of every trial."""
        return ClosedLoop(self.concurrency) if self.objective.rate is None else OpenLoop(self.objective.rate)


@dataclass(frozen=True, slots=True)
class TuningProgress:
    """Callbacks of a run: steps that begin, details of one, trials, and notes."""

    begin: Callable[[str], None] = lambda sentence: None
    detail: Callable[[str], None] = lambda sentence: None
    on_trial: Callable[[SearchSpace, JournaledTrial, int], None] = lambda space, trial, count: None
    note: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True, slots=True)
class TuningOutcome:
    """What a run found: the recommended point, how sure that is, and whether answers stay.

    ``is_interrupted`` is True if it was stopped; the journal then has the trials.
    """

    model: str
    space: SearchSpace
    trials: tuple[JournaledTrial, ...]
    chosen: Point
    confirmation: Confirmation | None = None
    answers: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_interrupted: bool = False

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of the confirmation."""
        return None if self.confirmation is None else self.confirmation.comparison

    @property
    def before(self) -> Measurement | None:
        """The mean of the measurements with the present settings."""
        return None if self.confirmation is None else _average(self.confirmation.before)

    @property
    def after(self) -> Measurement | None:
        """The mean of the measurements with the recommended settings."""
        return None if self.confirmation is None else _average(self.confirmation.after)


@dataclass(frozen=True, slots=True)
class TrialRequests:
    """What is sent in every trial: arrays by input, the same encoded, and the scripts of sequences (`measure`)."""

    inputs: Sequence[Inputs]
    payloads: Sequence[Payload]
    scripts: Sequence[Sequence[int]] = ()


#: Returns the requests of a run.
PrepareRequests = Callable[[Client, ModelMetadata], TrialRequests]
#: Opens the server of a run under a load.
OpenServer = Callable[[TrialLoad], AbstractContextManager[LoadedServer]]


def tune_models(
    configs: Mapping[str, ModelConfig],
    options: TuningOptions,
    *,
    open_server: OpenServer,
    prepare_requests: PrepareRequests,
    journal: Path,
    digest: str,
    cancelled: threading.Event,
    progress: TuningProgress = TuningProgress(),
) -> TuningOutcome:
    """Search the settings of a repository's models on a server, and return what is recommended.

    Args:
        configs: the configurations of the repository.
        options: what is searched.
        open_server: opens the server.
        prepare_requests: returns what is sent to the model, once the server answers.
        journal: the file of trials.
        digest: of the repository: a journal of another one is started anew.
        cancelled: once set, stops the run after what it does now.
        progress: its callbacks.

    Raises:
        LaunchError: the present settings do not serve a single request.
        ConnectError, ServerError, DecodeError, EncodeError, CaseError: from the server, or the inputs do not fit.
    """
    model = _choose_model(configs, options.model)
    prepared: list[TrialRequests] = []

    def build_requests(client: Client) -> tuple[Sequence[Payload], Sequence[Sequence[int]]]:
        if not prepared:
            prepared.append(prepare_requests(client, client.metadata(model)))
        return prepared[0].payloads, prepared[0].scripts

    load = TrialLoad.create(model, build_requests, options.load, measure_seconds=options.measure_seconds)
    with open_server(load) as server:
        server.cancelled = cancelled
        progress.begin("measuring the present settings")
        baseline = server.measure(least_throughput=0.0, is_long=True)
        if cancelled.is_set():
            return TuningOutcome(model, SearchSpace((), configs), (), (), is_interrupted=True)
        if baseline.errors:
            sentence = server.result.errors[0].sentence if server.result is not None else ""
            raise LaunchError(f"{model}: requests fail with the present settings: {sentence}")
        space = _build_space(configs, model, server.list_executed_models(), options, prepared[0].inputs)
        if not space.settings:
            raise TritonForgeError(f"{model}: none of its models has a setting to search. {' '.join(space.notes)}")
        search = Search(
            space,
            options.objective,
            server,
            TrialJournal(journal, _describe_subject(space, options, model, digest), restart=options.restart),
            seed=options.seed,
            on_trial=lambda trial, count: progress.on_trial(space, trial, count),
            is_stopped=cancelled.is_set,
        )
        return _run(search, server, options, prepared[0].inputs, baseline=baseline, model=model, progress=progress)


def _run(
    search: Search,
    server: LoadedServer,
    options: TuningOptions,
    inputs: Sequence[Inputs],
    *,
    baseline: Measurement,
    model: str,
    progress: TuningProgress,
) -> TuningOutcome:
    space, journal, notes = search.space, search.journal, list(search.space.notes)
    first = space.canonicalize(space.current)
    if journal.dropped and not options.restart:
        progress.note(
            f"{journal.path}: starting anew, since its {journal.dropped} trials are of another repository or had other "
            "options"
        )
    if journal.trials:
        progress.note(f"{journal.path}: continuing after {len(journal.trials)} trials")
    elif not search.is_stopped():
        trial = JournaledTrial(first, baseline)
        journal.append(trial)
        search.on_trial(trial, 1)
    progress.begin(f"searching {space.count_points():,} points, at most {options.trials} trials")
    search.run(Budget(options.trials, options.seconds))

    def end(chosen: Point, **values: Any) -> TuningOutcome:
        return TuningOutcome(model, space, tuple(journal.trials), chosen, notes=tuple(notes), **values)

    if search.is_stopped():
        return end(first, is_interrupted=True)
    progress.begin("measuring the best ones, longer")
    chosen = search.choose(on_measure=lambda count: progress.detail(f"measurement {count}"))
    if not space.list_changes(chosen) or search.is_stopped():
        return end(first if search.is_stopped() else chosen, is_interrupted=search.is_stopped())
    progress.begin("comparing answers")
    answers, left_out = _compare_answers(search, server, model, inputs, chosen)
    notes += left_out
    progress.begin(f"measuring before and after in turn, {options.pairs} times")
    confirmation = search.confirm(
        chosen, pairs=options.pairs, on_pair=lambda pair: progress.detail(f"pair {pair + 1} of {options.pairs}")
    )
    if search.is_stopped():
        return end(first, is_interrupted=True)
    return end(chosen, confirmation=confirmation, answers=answers)


def _choose_model(configs: Mapping[str, ModelConfig], given: str | None) -> str:
    candidates = list_default_candidates(configs)
    if given is not None and given not in configs:
        raise LaunchError(f"model {given!r} not found in the repository; it has {', '.join(sorted(configs))}")
    if given is None and len(candidates) != 1:
        raise LaunchError(f"several models can take requests; choose one with --model: {', '.join(candidates)}")
    return given or candidates[0]


def _build_space(
    configs: Mapping[str, ModelConfig],
    model: str,
    executed: frozenset[str],
    options: TuningOptions,
    inputs: Sequence[Inputs],
) -> SearchSpace:
    """Return the space of the models that ran: also those that a Python model calls, which no configuration names."""
    config: Any = configs[model]
    has_rows = config.max_batch_size > 0
    rows = max((len(array) for arrays in inputs for array in arrays.values() if has_rows and array.ndim), default=1)
    cores = len(os.sched_getaffinity(0))
    limits = SpaceLimits(
        cores=cores,
        instances=options.instances or max(cores, 2),
        largest_request=options.largest_request,
        rows_in_flight=options.concurrency * rows if isinstance(options.load, ClosedLoop) else None,
    )
    return build_space(configs, executed & configs.keys() or {model}, limits=limits)


def _describe_subject(space: SearchSpace, options: TuningOptions, model: str, digest: str) -> dict[str, Any]:
    return {
        "digest": digest,
        "model": model,
        "space": describe_space(space),
        "objective": asdict(options.objective),
        "load": str(options.load),
        "seed": options.seed,
    }


def _compare_answers(
    search: Search, server: LoadedServer, model: str, inputs: Sequence[Inputs], chosen: Point
) -> tuple[dict[str, str], list[str]]:
    """Return how answers differ at a point, by output, and notes on what was not compared."""
    configs: Mapping[str, Any] = search.space.configs
    if any(
        config.model_transaction_policy.decoupled or config.HasField("sequence_batching") for config in configs.values()
    ):
        return {}, ["answers were not compared: a model is decoupled or batches sequences"]
    server.apply(search.space.apply(search.space.current))
    before = read_answers(server.client, model, inputs)
    random = compare_answers(before, server.client, model, inputs)
    server.apply(search.space.apply(chosen))
    notes = [f"output {name} was not compared: two answers to the same inputs differ" for name in random]
    return compare_answers(before, server.client, model, inputs, ignored=tuple(random)), notes


def _average(measurements: Sequence[Measurement]) -> Measurement:
    return Measurement(
        throughput=fmean(entry.throughput for entry in measurements),
        p50=fmean(entry.p50 for entry in measurements),
        p99=fmean(entry.p99 for entry in measurements),
        errors=max(entry.errors for entry in measurements),
    )
