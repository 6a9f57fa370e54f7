"""An ensemble and the models of its steps: whether they are there, loaded, and free of circles. No I/O.

Source: model_repository_manager.cc ConnectDependencyGraph, CircularDependencyCheck, ValidateEnsembleConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from tritonforge.pbtxt import Node
from tritonforge.validation.context import Context, ModelView, StepView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_error, register_check
from tritonforge.validation.rules.ensemble_steps import LATEST
from tritonforge.validation.rules.ensemble_tensors import TENSOR_RULES, check_step_tensors, trace_decoupled_flow

_DEPENDENCY: Final = "model_repository_manager.cc ConnectDependencyGraph"
_VALIDATE: Final = "model_repository_manager.cc ValidateEnsembleConfig"

# fmt: off
E320 = define_error("E320", "ensemble <e> contains models that are not available or ambiguous: <names>",
    source=_DEPENDENCY,
    why="Each step's model is in the repository and its configuration is taken.",
    bad='step [{ model_name: "resnet" ... }] without resnet/', good="resnet/config.pbtxt")
E321 = define_error("E321", "circular dependency between ensembles: <a> -> ... -> <b> -> <a>",
    source="model_repository_manager.cc CircularDependencyCheck",
    why="An ensemble cannot contain itself. An ensemble that leads into a circle which it is not part of kills the "
        "server: the check never ends (seen on 2.51).",
    bad="e has a step f, f has a step e", good="e has a step f")
E322 = define_error("E322", "ensemble '<e>' depends on '<x>' which is not valid. Model '<x>' failed with error: <why>",
    source=_VALIDATE,
    why="A step's ensemble is refused, so this one is too.",
    bad="a step whose model is an ensemble that is refused", good="correct that ensemble")
E323 = define_error("E323", "ensemble '<e>' depends on '<x>' which has no loaded version. Model '<x>' loading "
                            "failed with error: <why>",
    source=_VALIDATE,
    why="A step's model does not load, so the ensemble does not either.",
    bad="a step whose model does not load", good="correct that model")
E324 = define_error("E324", "ensemble '<e>' depends on '<x>' whose required version <v> is not loaded.",
    source=_VALIDATE,
    why="model_version left out means 0, not the latest; -1 is the latest. A number has to be one that the model's "
        "version policy loads.",
    bad='step [{ model_name: "x" input_map {...} output_map {...} }]',
    good='step [{ model_name: "x" model_version: -1 input_map {...} output_map {...} }]')
E338 = define_error("E338", "in ensemble <e>, step of model '<x>' receives inputs originated from different "
                            "decoupled models",
    source="ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig",
    why="A decoupled model gives any number of responses, so its tensors pair with no others.",
    bad="a step that reads a decoupled model's output and the ensemble's input",
    good="a step that reads outputs of the decoupled model only")
E339 = define_error("E339", "Response Cache does not currently support model <e> with 'decoupled' transaction "
                            "policy. Please disable the response cache.",
    source="model.cc Model::Init after ensemble_utils.cc has set decoupled",
    why="An ensemble with a decoupled step is decoupled itself.",
    bad="response_cache { enable: true } in an ensemble with a decoupled step", good="no response_cache")
# fmt: on

#: Characters of a reason that is passed on; the server passes on all, level by level.
_MAXIMAL_REASON: Final = 4000
#: Models among which a similar name is looked for, which takes about 10 microseconds each.
_COMPARED: Final = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model is not available to an ensemble; ``stage`` is "poll", "load" or "ensemble"."""

    stage: str
    message: str


#: By model; a model that is not in it is available.
Failures: TypeAlias = Mapping[str, Failure]


class EnsembleChecker:
    """Checks ensembles one after the other, and remembers which of them are decoupled."""

    def __init__(self, context: Context, failures: MutableMapping[str, Failure]) -> None:
        """``failures`` has the failure of each model on its own; the caller adds those of the ensembles."""
        self._context = context
        self._failures = failures
        self._decoupled = {name: model.decoupled for name, model in context.models.items() if not model.is_ensemble}
        self._graph = {
            name: tuple(step for step in model.step_models if step in context.models)
            for name, model in context.models.items()
            if model.is_ensemble and not (name in failures and failures[name].stage == "poll")
        }
        self._circular = find_circles(self._graph)

    def sort_ensembles(self) -> list[str]:
        """Return the ensembles, each after those it depends on; those in circles last."""
        waiting = {name: {step for step in steps if step in self._graph} for name, steps in self._graph.items()}
        order: list[str] = []
        dependents: dict[str, list[str]] = {}
        for name, steps in waiting.items():
            for step in steps:
                dependents.setdefault(step, []).append(name)
        ready = [name for name, steps in waiting.items() if not steps]
        while ready:
            name = ready.pop()
            order.append(name)
            for dependent in dependents.get(name, ()):
                waiting[dependent].discard(name)
                if not waiting[dependent]:
                    ready.append(dependent)
        ordered = set(order)
        return order + [name for name in self._graph if name not in ordered]

    @register_check(Stage.ENSEMBLE, E320, E321, E322, E323, E324, *TENSOR_RULES, E338)
    def check_ensemble(self, ensemble: ModelView) -> list[Finding]:
        """Check one ensemble against the models of its steps."""
        context, steps = self._context, ensemble.steps
        findings = list(_check_available(context, ensemble, steps, self._failures))
        findings += _check_circles(ensemble, steps, self._graph, self._circular)
        if not findings:
            findings += _check_loaded(context, ensemble, steps, self._failures)
        if all(finding.code in ("E320", "E324") for finding in findings):
            findings += check_step_tensors(context, ensemble, steps)
        flow = trace_decoupled_flow(ensemble, steps, self._decoupled)
        self._decoupled[ensemble.name] = flow.decoupled
        if flow.clash and not findings:
            message = (
                f"in ensemble {ensemble.name}, step of model '{flow.clash}' receives inputs originated from different "
                "decoupled models"
            )
            findings.append(E338.report_in(ensemble, message, flow.step.node if flow.step is not None else None))
        return findings

    @register_check(Stage.CACHE, E339)
    def check_cache(self, ensemble: ModelView) -> list[Finding]:
        """Check the response cache of an ensemble that its steps make decoupled."""
        cache = ensemble.document.message("response_cache")
        is_cached = cache is not None and cache.flag("enable")
        if not is_cached or ensemble.decoupled or not self._decoupled.get(ensemble.name):
            return []
        message = (
            f"Response Cache does not currently support model {ensemble.name} with 'decoupled' transaction policy. "
            "Please disable the response cache."
        )
        return [E339.report_in(ensemble, message, cache)]


def select_models(context: Context) -> list[str]:
    """Return the models that the server loads: all, or in explicit mode the named ones and what they depend on."""
    requested = context.options.load_models
    if requested is None or "*" in requested:
        return list(context.models)
    names = list(dict.fromkeys(requested))
    seen = set(names)
    for name in names:
        for step in context.models[name].step_models if name in context.models else ():
            if step not in seen:
                seen.add(step)
                names.append(step)
    return names


def _check_available(
    context: Context, ensemble: ModelView, steps: tuple[StepView, ...], failures: Failures
) -> Iterator[Finding]:
    """Check that the models are in the repository, and not refused when they were read."""
    seen: set[str] = set()
    for step in steps:
        if not step.model or step.model in seen:
            continue
        seen.add(step.model)
        failure = failures.get(step.model)
        if step.model not in context.models or (failure is not None and failure.stage == "poll"):
            message = f"ensemble {ensemble.name} contains models that are not available or ambiguous: {step.model}"
            advice = _suggest_name(step.model, context.models) if failure is None else f"correct {step.model} first"
            yield E320.report_in(ensemble, message, step.node.one("model_name"), advice)


def _suggest_name(name: str, models: Mapping[str, ModelView]) -> str:
    lowered = {model.lower(): model for model in models}
    if name.lower() in lowered:
        return f"did you mean {lowered[name.lower()]}?"
    if len(models) > _COMPARED:
        return "the repository has no such directory"
    from difflib import get_close_matches  # costs milliseconds, and is needed for wrong names only

    close = get_close_matches(name, list(models), n=1)
    return f"did you mean {close[0]}?" if close else "the repository has no such directory"


def _check_circles(
    ensemble: ModelView, steps: tuple[StepView, ...], graph: Mapping[str, tuple[str, ...]], circular: Mapping[str, str]
) -> Iterator[Finding]:
    """Check that the ensemble is not in a circle, nor leads into one; ``circular`` is `find_circles` of the graph."""
    entry = circular.get(ensemble.name)
    if entry is None:
        return
    last = _find_predecessor(entry, graph)
    message = f"circular dependency between ensembles: {entry} -> ... -> {last} -> {entry}"
    step = next((step for step in steps if step.model in circular), None)
    advice = (
        "" if entry == ensemble.name else "The server's process dies: it follows a circle that it did not start in."
    )
    yield E321.report_in(ensemble, message, step.node.one("model_name") if step is not None else None, advice)


def find_circles(graph: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Map each ensemble in a circle to itself, and each that leads into a circle to the member that it enters by."""
    needs = {name: {step for step in steps if step in graph} for name, steps in graph.items()}
    users: dict[str, list[str]] = {}
    for name, steps in needs.items():
        for step in steps:
            users.setdefault(step, []).append(name)
    leading = _peel(needs, users)
    inside = _peel({name: {user for user in users.get(name, ()) if user in leading} for name in leading}, needs)
    entries = {name: name for name in sorted(inside) if name in _find_reachable(needs[name], needs, inside)}
    pending = list(entries)
    for name in pending:
        for user in users.get(name, ()):
            if user not in entries:
                entries[user] = entries[name]
                pending.append(user)
    return entries


def _peel(waiting: Mapping[str, set[str]], users: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the names that remain when those that wait for nothing are removed again and again."""
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


def _find_reachable(names: Iterable[str], needs: Mapping[str, set[str]], inside: set[str]) -> set[str]:
    pending = [name for name in names if name in inside]
    seen = set(pending)
    while pending:
        for following in needs[pending.pop()]:
            if following in inside and following not in seen:
                seen.add(following)
                pending.append(following)
    return seen


def _find_predecessor(name: str, graph: Mapping[str, tuple[str, ...]]) -> str:
    """Return the first ensemble, reached from ``name``, that depends on it; "" where none does."""
    order, seen = [name], {name}
    for ensemble in order:
        if name in graph.get(ensemble, ()):
            return ensemble
        for step in graph.get(ensemble, ()):
            if step in graph and step not in seen:
                seen.add(step)
                order.append(step)
    return ""


def _check_loaded(
    context: Context, ensemble: ModelView, steps: tuple[StepView, ...], failures: Failures
) -> Iterator[Finding]:
    """Check that the models load, in the version that a step requires."""
    seen: set[str] = set()
    for step in steps:
        model = context.models.get(step.model)
        if model is None:
            continue
        failure = failures.get(step.model)
        if failure is not None and failure.stage in ("ensemble", "load"):
            if step.model not in seen:
                yield _report_consequence(ensemble, model, failure, step.node.one("model_name"))
            seen.add(step.model)
        elif step.version != LATEST and model.parsed and step.version not in model.versions and failure is None:
            message = (
                f"ensemble '{ensemble.name}' depends on '{step.model}' whose required version {step.version} is not "
                "loaded."
            )
            given = step.node.one("model_version")
            advice = "write model_version: -1 (left out it means 0)" if given is None else "write model_version: -1"
            yield E324.report_in(ensemble, message, given or step.node, advice)


def _report_consequence(ensemble: ModelView, model: ModelView, failure: Failure, node: Node | None) -> Finding:
    name = model.name
    message = failure.message if len(failure.message) <= _MAXIMAL_REASON else f"{failure.message[:_MAXIMAL_REASON]} ..."
    if failure.stage == "ensemble":
        message = (
            f"ensemble '{ensemble.name}' depends on '{name}' which is not valid. Model '{name}' failed with "
            f"error: {message}"
        )
        return E322.report_in(ensemble, message, node, f"correct {name} first")
    why = message
    if model.versions:
        code = _guess_status(message)
        why = "".join(f"version {version} is at UNAVAILABLE state: {code}: {message};" for version in model.versions)
    message = (
        f"ensemble '{ensemble.name}' depends on '{name}' which has no loaded version. "
        f"Model '{name}' loading failed with error: {why}"
    )
    return E323.report_in(ensemble, message, node, f"correct {name} first")


def _guess_status(message: str) -> str:
    """Return the status that the server puts before a message."""
    if message.startswith(("failed to open text file", "multiple label files")) or "unexpected kind" in message:
        return "Internal"
    if message.startswith(("Batching library path not found", "model configuration is not provided")):
        return "Not found"
    return "Invalid argument"
