"""The bottleneck of a model: the step that limits it, why, and what to try, from the times of its steps. No I/O.

The step is the one of the critical path that takes the most of a request's time: under load, requests queue in front of
the step that limits the throughput, so that it is the same step for latency and throughput. The kind follows from the
parts of its time and from the configuration. A sentence states figures that were measured; advice is what to try.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge.profiling.step_times import CalledModel, RequestTime, StepTime

__all__ = ["Bottleneck", "Kind", "find_bottleneck", "find_callers"]

#: What limits a step.
#:
#: - ``queue``: its instances are busy, and requests wait for them.
#: - ``delay``: instances are idle while requests wait for a batch to fill (``max_queue_delay_microseconds``).
#: - ``rate_limiter``: instances are idle while requests wait for resources of the rate limiter.
#: - ``sequence``: instances are idle while requests wait for their sequence's slot.
#: - ``contention``: instances wait for one another: an execution takes longer the more requests there are.
#: - ``calls``: a Python model waits for the models that it requests (BLS).
#: - ``compute``: the backend's own time.
#: - ``input``, ``output``: copying tensors to and from the backend.
#: - ``overhead``: the ensemble's own time, between its steps.
#: - ``transfer``: outside Triton's core: HTTP, network, and the client.
Kind: TypeAlias = Literal[
    "queue", "delay", "rate_limiter", "sequence", "contention", "calls", "compute", "input", "output", "overhead",
    "transfer",
]  # fmt: skip

#: Above this share of its time, the instances of a step are the reason why requests wait.
_BUSY: Final = 0.7
#: A part that is this share of a step's time decides its kind.
_MAJOR: Final = 0.5
#: A part below this share of a step's time explains nothing.
_SOME: Final = 0.1
#: An execution that takes this many times its time without load, for the same batch size, has contention.
_SLOWER: Final = 1.6
#: Executions that a mean needs to be compared.
_ENOUGH: Final = 5


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits a model.

    Attributes:
        step: the name of the step; the model's own name for ``overhead`` and ``transfer``.
        model: the model of the step.
        kind: why.
        milliseconds: what it takes of a request, of ``total`` milliseconds.
        total: milliseconds of a request.
        sentence: step, share and evidence.
        advice: what to try, the most promising first.
    """

    step: str
    model: str
    kind: Kind
    milliseconds: float
    total: float
    sentence: str
    advice: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of a request's time, from 0 to 1."""
        return self.milliseconds / self.total if self.total else 0.0


def find_bottleneck(
    times: RequestTime,
    configs: Mapping[str, Any],
    *,
    latency: float | None = None,
    baseline: RequestTime | None = None,
) -> Bottleneck | None:
    """Return what limits a model; None if no request succeeded.

    Args:
        times: the times under load.
        configs: the ModelConfig messages of the server's models.
        latency: the mean latency in milliseconds that the client measured; what Triton's core does not explain is
            ``transfer``.
        baseline: the times of one request at a time: with it, contention is distinguished from computation.
    """
    if not times.requests or not times.steps:
        return None
    total = max(times.total, latency or 0.0)
    transfer = total - times.total
    step = max(times.critical_path, key=lambda step: step.total)
    if transfer > max(step.total, times.overhead):
        return _describe_transfer(times, transfer, total)
    if times.overhead > step.total:
        return _describe_overhead(times, total)
    held = None
    if _is_idle(step) and (limited := _find_limited_step(times, configs)) is not None:
        step, held = limited, step
    alone = baseline.find_step(step.name) if baseline is not None else None
    callers = find_callers(times, configs)
    diagnosis = _Diagnosis(step, configs[step.model], total, alone=alone, called=callers.get(step.name, ()), held=held)
    return diagnosis.describe()


def find_callers(times: RequestTime, configs: Mapping[str, Any]) -> Mapping[str, Sequence[CalledModel]]:
    """Return the called models by the step that requests them, as far as one step only can have done so.

    A caller is a Python model that computes at least as long as the called model takes; where the repository is known,
    one whose code names the called model. A model that several steps may have called, or that another client may have,
    is left out.
    """
    callers: dict[str, list[CalledModel]] = {}
    for called in times.called:
        if called.model not in configs:
            continue
        pool = [
            step
            for step in times.steps
            if step.model != called.model
            and (step.model in called.callers if called.callers else configs[step.model].backend == "python")
        ]
        # Calls one after another take as long as their sum, calls in parallel as long as one of them.
        for needed in (0.9 * called.total, called.total / max(1.0, called.calls)):
            candidates = [step for step in pool if step.compute_infer >= needed]
            if len({step.model for step in candidates}) == 1:
                callers.setdefault(candidates[0].name, []).append(called)
            if candidates:
                break
    return callers


def _is_idle(step: StepTime) -> bool:
    """Return whether most of a step's time is in the queue while its instances are idle."""
    return step.queue >= _MAJOR * step.total and step.utilization < _BUSY


def _find_limited_step(times: RequestTime, configs: Mapping[str, Any]) -> StepTime | None:
    """Return the step with resources of the rate limiter; None if no step or several have them.

    Triton gives resources in the order of its queue: an instance that waits for its own holds back those of all other
    models behind it, which need none (core/src/rate_limiter.cc, AttemptAllocation).
    """
    limited = [
        step
        for step in times.critical_path
        if _list_resources(configs[step.model]) and step.queue >= _SOME * step.total
    ]
    return limited[0] if len(limited) == 1 else None


def _list_resources(config: Any) -> list[str]:
    return sorted({item.name for group in config.instance_group for item in group.rate_limiter.resources})


class _Diagnosis:
    """Finds the kind of a step's bottleneck and words it; the rate limiter holds ``held`` back for the step."""

    def __init__(
        self,
        step: StepTime,
        config: Any,
        total: float,
        *,
        alone: StepTime | None,
        called: Sequence[CalledModel],
        held: StepTime | None,
    ) -> None:
        self._step = step
        self._config = config
        self._total = total
        self._alone = alone
        self._called = called
        self._held = held if held is not step else None

    def describe(self) -> Bottleneck:
        """Return the bottleneck."""
        step = self._step
        is_waiting = step.queue >= _MAJOR * step.total
        slowdown = self._compute_slowdown()
        is_limited = bool(_list_resources(self._config)) and step.queue >= _SOME * step.total
        if (is_waiting or is_limited) and step.utilization < _BUSY and (idle := self._describe_idle()) is not None:
            return idle
        if self._is_waiting_for_calls():
            return self._describe_calls(is_waiting=is_waiting)
        if slowdown >= _SLOWER and (is_waiting or step.compute_infer >= _MAJOR * step.total):
            return self._describe_contention(slowdown)
        parts = {"input": step.compute_input, "compute": step.compute_infer, "output": step.compute_output}
        largest = max(parts, key=lambda name: parts[name])
        if largest != "compute":
            return self._describe_copies(largest == "input", parts[largest], is_waiting=is_waiting)
        if is_waiting:
            return self._describe_queue()
        return self._build(
            "compute",
            f"{_ms(step.compute_infer)} of it in its own computation",
            [*self._advise_computation(), *(self._advise_batching() if step.queue > _SOME * step.total else ())],
        )

    def _describe_idle(self) -> Bottleneck | None:
        """Return why requests wait while instances are idle; None if the configuration gives no reason."""
        step, config = self._step, self._config
        waits = f"{_ms(step.queue)} of it in the queue, while its {_instances(step)} busy {step.utilization:.0%} of the"
        if resources := _list_resources(config):
            names = ", ".join(resources)
            behind = f"; {self._held.name} waits {_ms(self._held.queue)} behind them" if self._held else ""
            return self._build(
                "rate_limiter",
                f"{waits} time: the rate limiter holds instances back until they get {names}{behind}",
                ["request fewer resources (rate_limiter), or give the server more (--rate-limit-resource)"],
            )
        if config.HasField("sequence_batching"):
            return self._build(
                "sequence",
                f"{waits} time: requests wait for the slot of their sequence",
                [
                    "more slots (max_candidate_sequences of the oldest strategy, or instances)",
                    "end sequences early, so that their slots are free; lower max_sequence_idle_microseconds",
                    "a shorter max_queue_delay_microseconds",
                ],
            )
        delay = _get_delay(config) / 1000
        if delay and step.queue >= min(delay, step.total) / 4:
            return self._build(
                "delay",
                f"{waits} time: requests wait up to {_ms(delay)} for others to form a batch "
                f"(max_queue_delay_microseconds: {delay * 1000:.0f}; mean batch {step.mean_batch_size:.1f})",
                ["a shorter max_queue_delay_microseconds, or more concurrent requests"],
            )
        return None

    def _describe_calls(self, *, is_waiting: bool) -> Bottleneck:
        step = self._step
        spent = sum(called.total for called in self._called)
        in_all = f"{_ms(spent)} in all"
        if step.calls > spent:
            in_all = f"{_ms(step.calls)} for all requests of a batch (mean batch {step.mean_batch_size:.1f})"
        calls = " and ".join(f"{called.calls:.3g} x {called.model} ({_ms(called.total)})" for called in self._called)
        queue = f" and requests wait {_ms(step.queue)} in its queue" if is_waiting else ""
        return self._build(
            "calls",
            f"its {_ms(step.compute_infer)} of computation wait for the models that it requests, one after another: "
            f"{calls}, {in_all}{queue}",
            [
                "send requests that do not need one another at once: async_exec() and asyncio.gather",
                "an ensemble instead of Python code, so that steps of several requests overlap",
                "more instances: each one waits for its own calls",
            ],
        )

    def _describe_contention(self, slowdown: float) -> Bottleneck:
        step = self._step
        assert self._alone is not None  # without it the slowdown is 1
        return self._build(
            "contention",
            f"an execution takes {_ms(step.execution)} with its {step.instances} instances at work, "
            f"{slowdown:.1f} times as long as without load ({_ms(self._alone.execution)}): its instances wait for one "
            "another, or for the processor",
            [
                "remove a lock or a file that its instances share, or threads that are more than the processor has",
                "fewer instances with larger batches; more instances do not help",
            ],
        )

    def _describe_copies(self, is_input: bool, milliseconds: float, *, is_waiting: bool) -> Bottleneck:
        step = self._step
        side, direction = ("inputs", "to") if is_input else ("outputs", "from")
        queue = f", and requests wait {_ms(step.queue)} for its {_instances(step, verb='')}" if is_waiting else ""
        return self._build(
            "input" if is_input else "output",
            f"{_ms(milliseconds)} of it copying {side} {direction} the backend{queue}",
            [
                f"smaller {side}: fewer elements, or a smaller data type (FP16, UINT8)",
                "the same work in the step before or after, so that the tensor is not passed on",
            ],
        )

    def _describe_queue(self) -> Bottleneck:
        step = self._step
        if step.utilization < _BUSY:
            return self._build(
                "queue",
                f"{_ms(step.queue)} of it in the queue, although its {_instances(step)} busy {step.utilization:.0%} of "
                "the time only: requests arrive at once, or something else holds them back",
                self._advise_batching(),
            )
        return self._build(
            "queue",
            f"{_ms(step.queue)} of it in the queue, since its {_instances(step)} busy {step.utilization:.0%} of the "
            f"time ({_ms(step.execution)} for an execution, mean batch {step.mean_batch_size:.1f})",
            [*self._advise_batching(), f"more instances (instance_group count, {step.instances} now)"],
        )

    def _advise_batching(self) -> list[str]:
        config, step = self._config, self._step
        largest = config.max_batch_size
        if largest > 1 and not config.HasField("dynamic_batching") and not config.HasField("sequence_batching"):
            if step.mean_batch_size <= largest / 2:
                return [f"dynamic_batching: without it requests never form a batch (max_batch_size is {largest})"]
        elif largest > 1 and step.mean_batch_size > 0.8 * largest:
            return [f"a larger max_batch_size ({largest} now): batches are full"]
        elif largest <= 1 and not config.HasField("sequence_batching"):
            return [f"batching: max_batch_size is {largest}, so that every request is executed alone"]
        return []

    def _advise_computation(self) -> list[str]:
        advice = ["a faster model: a smaller one, a smaller data type, or another backend"]
        hits = self._step.cache_hits
        if hits is not None:
            advice.insert(0, f"requests that repeat: the response cache answered {hits:.0%} of them")
        return advice

    def _compute_slowdown(self) -> float:
        """Return how many times longer an execution takes than without load, for equal batch sizes; 1 if unknown."""
        if self._alone is None or self._step.instances < 2:
            return 1.0
        alone = {batch.batch_size: batch for batch in self._alone.batches if batch.executions >= _ENOUGH}
        ratios = [
            (batch.executions, (batch.busy / batch.executions) / (before.busy / before.executions))
            for batch in self._step.batches
            if (before := alone.get(batch.batch_size)) is not None and batch.executions >= _ENOUGH and before.busy
        ]
        return max(ratios)[1] if ratios else 1.0

    def _is_waiting_for_calls(self) -> bool:
        spent = max(self._step.calls, sum(called.total for called in self._called))
        return bool(self._called) and spent >= _MAJOR * self._step.compute_infer > 0

    def _build(self, kind: Kind, evidence: str, advice: Sequence[str]) -> Bottleneck:
        step, total = self._step, self._total
        share = f"{_ms(step.total)} of {_ms(total)} ({step.total / total:.0%})" if total else _ms(step.total)
        sentence = f"{step.name} takes {share} of a request, {evidence}."
        return Bottleneck(step.name, step.model, kind, step.total, total, sentence, tuple(advice))


def _describe_transfer(times: RequestTime, transfer: float, total: float) -> Bottleneck:
    return Bottleneck(
        times.model,
        times.model,
        "transfer",
        transfer,
        total,
        f"{_ms(transfer)} of {_ms(total)} ({transfer / total:.0%}) of a request pass outside of Triton's core "
        f"(HTTP or gRPC, network, client), more than in any step of {times.model}.",
        (
            "smaller requests and responses: encoded images, a smaller data type, fewer outputs, no JSON",
            "a client closer to the server, or shared memory",
        ),
    )


def _describe_overhead(times: RequestTime, total: float) -> Bottleneck:
    return Bottleneck(
        times.model,
        times.model,
        "overhead",
        times.overhead,
        total,
        f"{times.model} takes {_ms(times.overhead)} of {_ms(total)} ({times.overhead / total:.0%}) of a request "
        "itself, between its steps: starting them and moving their tensors, more than in any step.",
        ("fewer or smaller tensors between steps", "fewer steps: merge those that do little work"),
    )


def _get_delay(config: Any) -> int:
    """Return the queue delay of a model in microseconds."""
    return int(config.dynamic_batching.max_queue_delay_microseconds)


def _instances(step: StepTime, *, verb: str | None = None) -> str:
    noun, default = ("instance", " is") if step.instances == 1 else ("instances", " are")
    return f"{step.instances} {noun}{default if verb is None else verb}"


def _ms(milliseconds: float) -> str:
    """Return milliseconds with three digits."""
    if milliseconds >= 100:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"
