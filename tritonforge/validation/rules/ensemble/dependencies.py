"""An ensemble and the models of its steps: whether they are there, loaded, and free of circles. No I/O.

Source: model_repository_manager.cc ConnectDependencyGraph, CircularDependencyCheck, ValidateEnsembleConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.ensemble.steps import LATEST, Failure, Failures, Step, report

__all__ = ["circles", "entries", "failed", "missing"]


#: Characters of a reason that is passed on; the server passes on all, level by level.
_MAXIMAL_REASON: Final = 4000
#: Models among which a similar name is looked for, which takes about 10 microseconds each.
_COMPARED: Final = 200


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
    if len(models) > _COMPARED:
        return "the repository has no such directory"
    from difflib import get_close_matches  # costs milliseconds, and is needed for wrong names only

    found = get_close_matches(name, list(models), n=1)
    return f"did you mean {found[0]}?" if found else "the repository has no such directory"


def circles(
    view: ModelView, found: tuple[Step, ...], graph: Mapping[str, tuple[str, ...]], circular: Mapping[str, str]
) -> Iterator[Finding]:
    """The circle that the ensemble is in, or leads into; ``circular`` is `entries` of the graph."""
    entry = circular.get(view.name)
    if entry is None:
        return
    last = _before(entry, graph)
    words = f"circular dependency between ensembles: {entry} -> ... -> {last} -> {entry}"
    step = next((step for step in found if step.model in circular), None)
    help_ = "" if entry == view.name else "The server's process dies: it follows a circle that it did not start in."
    yield report(view, "E321", words, step.node.one("model_name") if step is not None else None, help_)


def entries(graph: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """For each ensemble that is in a circle itself, and for each that leads into one the member it enters by."""
    needs = {name: {each for each in following if each in graph} for name, following in graph.items()}
    users: dict[str, list[str]] = {}
    for name, following in needs.items():
        for each in following:
            users.setdefault(each, []).append(name)
    leading = _peeled(needs, users)
    inside = _peeled({name: {each for each in users.get(name, ()) if each in leading} for name in leading}, needs)
    found = {name: name for name in sorted(inside) if name in _reachable_from(needs[name], needs, inside)}
    pending = list(found)
    for name in pending:
        for user in users.get(name, ()):
            if user not in found:
                found[user] = found[name]
                pending.append(user)
    return found


def _peeled(waiting: Mapping[str, set[str]], users: Mapping[str, Iterable[str]]) -> set[str]:
    """The names that stay when those that wait for nothing are taken away again and again."""
    left = {name: set(needs) for name, needs in waiting.items()}
    ready = [name for name, needs in left.items() if not needs]
    while ready:
        name = ready.pop()
        del left[name]
        for user in users.get(name, ()):
            if user in left and name in left[user]:
                left[user].discard(name)
                if not left[user]:
                    ready.append(user)
    return set(left)


def _reachable_from(names: Iterable[str], needs: Mapping[str, set[str]], inside: set[str]) -> set[str]:
    pending = [name for name in names if name in inside]
    seen = set(pending)
    while pending:
        for following in needs[pending.pop()]:
            if following in inside and following not in seen:
                seen.add(following)
                pending.append(following)
    return seen


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
        elif step.version != LATEST and model.parsed and step.version not in model.versions and failure is None:
            words = (
                f"ensemble '{view.name}' depends on '{step.model}' whose required version {step.version} is not loaded."
            )
            given = step.node.one("model_version")
            help_ = "write model_version: -1 (left out it means 0)" if given is None else "write model_version: -1"
            yield report(view, "E324", words, given or step.node, help_)


def _consequence(view: ModelView, model: ModelView, failure: Failure, node: Node | None) -> Finding:
    name = model.name
    message = failure.message if len(failure.message) <= _MAXIMAL_REASON else f"{failure.message[:_MAXIMAL_REASON]} ..."
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
