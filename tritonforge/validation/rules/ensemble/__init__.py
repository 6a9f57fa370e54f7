"""Ensembles: their steps, the models of the steps, and the tensors between them. No I/O.

``poll`` gives what fails an ensemble when it is read; ``judge`` what fails it beside the other models, in the order in
which ensembles depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.ensemble import configuration, consistency
from tritonforge.validation.rules.ensemble import dependencies as between
from tritonforge.validation.rules.ensemble.definitions import RULES
from tritonforge.validation.rules.ensemble.steps import Failure, Step, dependencies, report, steps, wanted

__all__ = ["RULES", "Failure", "Judge", "poll", "wanted"]


def poll(context: Context, view: ModelView) -> Iterator[Finding]:
    """What fails an ensemble when its configuration is read."""
    yield from configuration.check(view)


class Judge:
    """Judges ensembles one after the other, and remembers which of them turned out decoupled."""

    def __init__(self, context: Context, failures: MutableMapping[str, Failure]) -> None:
        """``failures`` has what failed of each model on its own; what fails of the ensembles is added to it."""
        self._context = context
        self._failures = failures
        self._decoupled = {name: view.decoupled for name, view in context.models.items() if not view.is_ensemble}
        self._graph = {
            name: dependencies(context, view)
            for name, view in context.models.items()
            if view.is_ensemble and not (name in failures and failures[name].stage == "poll")
        }
        self._circular = between.entries(self._graph)

    def order(self) -> list[str]:
        """The ensembles, each after those it depends on; those in circles last."""
        waiting = {name: {each for each in needs if each in self._graph} for name, needs in self._graph.items()}
        order: list[str] = []
        dependents: dict[str, list[str]] = {}
        for name, needs in waiting.items():
            for need in needs:
                dependents.setdefault(need, []).append(name)
        ready = [name for name, needs in waiting.items() if not needs]
        while ready:
            name = ready.pop()
            order.append(name)
            for dependent in dependents.get(name, ()):
                waiting[dependent].discard(name)
                if not waiting[dependent]:
                    ready.append(dependent)
        ordered = set(order)
        return order + [name for name in self._graph if name not in ordered]

    def judge(self, view: ModelView) -> list[Finding]:
        """The findings of one ensemble beside its models."""
        context, found = self._context, steps(view)
        findings = list(between.missing(context, view, found, self._failures))
        findings += between.circles(view, found, self._graph, self._circular)
        if not findings:
            findings += between.failed(context, view, found, self._failures)
        whole = all(each.code in ("E320", "E324") for each in findings)
        if whole:
            findings += consistency.check(context, view, found)
        findings += self._flow(view, found, whole=not findings)
        return findings

    def _flow(self, view: ModelView, found: tuple[Step, ...], *, whole: bool) -> list[Finding]:
        flow = consistency.decoupled_flow(view, found, self._decoupled)
        self._decoupled[view.name] = flow.decoupled
        if not whole or not flow.clash:
            return []
        words = (
            f"in ensemble {view.name}, step of model '{flow.clash}' receives inputs originated from different "
            "decoupled models"
        )
        return [report(view, "E338", words, flow.step.node if flow.step is not None else None)]

    def cached(self, view: ModelView) -> list[Finding]:
        """The response cache of an ensemble that its steps make decoupled."""
        cache = view.document.message("response_cache")
        if cache is None or not cache.flag("enable") or view.decoupled or not self._decoupled.get(view.name):
            return []
        words = (
            f"Response Cache does not currently support model {view.name} with 'decoupled' transaction policy. "
            "Please disable the response cache."
        )
        return [report(view, "E339", words, cache)]
