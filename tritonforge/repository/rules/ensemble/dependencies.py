"""An ensemble and the models of its steps: whether they are there, loaded, and free of circles. No I/O.

Source: model_repository_manager.cc ConnectDependencyGraph, CircularDependencyCheck, ValidateEnsembleConfig.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tritonforge.repository.findings import Finding
from tritonforge.repository.pbtxt import Node
from tritonforge.repository.rules.context import Context, ModelView
from tritonforge.repository.rules.ensemble.steps import LATEST, Failure, Failures, Step, report

__all__ = ["circles", "failed", "missing"]


def missing(context: Context, view: ModelView, found: tuple[Step, ...], failures: Failures) -> Iterator[Finding]:
    """Models that are not in the repository, or refused when they were read."""
    seen: set[str] = set()
    for step in found:
        if not step.model or step.model in seen:
            continue
        seen.add(step.model)
        failure = failures.get(step.model)
        if step.model not in context.models or (failure is not None and failure.stage == "poll"):
            words = f"ensemble {view.name} contains models that are not available or ambiguous: {step.model}"
            help_ = _nearest(step.model, context.models) if failure is None else f"mend {step.model} first"
            yield report(view, "E320", words, step.node.one("model_name"), help_)


def _nearest(name: str, models: Mapping[str, ModelView]) -> str:
    lowered = {each.lower(): each for each in models}
    if name.lower() in lowered:
        return f"did you mean {lowered[name.lower()]}?"
    from difflib import get_close_matches  # costs milliseconds, and is needed for wrong names only

    found = get_close_matches(name, list(models), n=1)
    return f"did you mean {found[0]}?" if found else "the repository has no such directory"


def circles(view: ModelView, found: tuple[Step, ...], graph: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """The circle that the ensemble is in, or leads into."""
    last = _before(view.name, graph)
    if last:
        words = f"circular dependency between ensembles: {view.name} -> ... -> {last} -> {view.name}"
        node = next((step.node.one("model_name") for step in found if _reaches(step.model, view.name, graph)), None)
        yield report(view, "E321", words, node)
        return
    for step in found:
        for inner in _reachable(step.model, graph):
            closing = _before(inner, graph)
            if closing:
                words = f"circular dependency between ensembles: {inner} -> ... -> {closing} -> {inner}"
                help_ = "The server's process dies: it follows a circle that it did not start in for ever."
                yield report(view, "E321", words, step.node.one("model_name"), help_)
                return


def _reachable(name: str, graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The ensembles that are reached from one, itself first."""
    if name not in graph:
        return []
    order, seen = [name], {name}
    for here in order:
        for following in graph.get(here, ()):
            if following in graph and following not in seen:
                seen.add(following)
                order.append(following)
    return order


def _reaches(name: str, goal: str, graph: Mapping[str, tuple[str, ...]]) -> bool:
    return name == goal or goal in _reachable(name, graph)


def _before(name: str, graph: Mapping[str, tuple[str, ...]]) -> str:
    """The member of a circle through ``name`` that leads back to it; "" when there is no circle."""
    for here in _reachable(name, graph):
        if name in graph.get(here, ()):
            return here
    return ""


def failed(context: Context, view: ModelView, found: tuple[Step, ...], failures: Failures) -> Iterator[Finding]:
    """Models that are there and do not load, or not in the version that a step wants."""
    seen: set[str] = set()
    for step in found:
        model = context.models.get(step.model)
        if model is None:
            continue
        failure = failures.get(step.model)
        if failure is not None and failure.stage in ("ensemble", "load"):
            if step.model not in seen:
                yield _consequence(view, model, failure, step.node.one("model_name"))
            seen.add(step.model)
        elif step.version != LATEST and step.version not in model.versions and failure is None:
            words = (
                f"ensemble '{view.name}' depends on '{step.model}' whose required version {step.version} is not loaded."
            )
            given = step.node.one("model_version")
            help_ = "write model_version: -1 (left out it means 0)" if given is None else "write model_version: -1"
            yield report(view, "E324", words, given or step.node, help_)


def _consequence(view: ModelView, model: ModelView, failure: Failure, node: Node | None) -> Finding:
    name, message = model.name, failure.message
    if failure.stage == "ensemble":
        words = (
            f"ensemble '{view.name}' depends on '{name}' which is not valid. Model '{name}' failed with "
            f"error: {message}"
        )
        return report(view, "E322", words, node, f"mend {name} first")
    why = message
    if model.versions:
        code = _status(message)
        why = "".join(f"version {version} is at UNAVAILABLE state: {code}: {message};" for version in model.versions)
    words = (
        f"ensemble '{view.name}' depends on '{name}' which has no loaded version. "
        f"Model '{name}' loading failed with error: {why}"
    )
    return report(view, "E323", words, node, f"mend {name} first")


def _status(message: str) -> str:
    """The status that the server puts before a message."""
    if message.startswith(("failed to open text file", "multiple label files")) or "unexpected kind" in message:
        return "Internal"
    if message.startswith(("Batching library path not found", "model configuration is not provided")):
        return "Not found"
    return "Invalid argument"
