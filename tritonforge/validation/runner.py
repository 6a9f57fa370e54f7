"""Run every check on every model of a tree, in the server's order. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding, sort_findings
from tritonforge.validation.registry import Stage, list_checks
from tritonforge.validation.rules.backend_files import CODES_OF_BACKENDS
from tritonforge.validation.rules.ensemble_models import EnsembleChecker, Failure, select_models

__all__ = ["ModelCheck", "check_model", "run_checks"]

#: Checks a model in some stages, as `check_model` does.
ModelCheck: TypeAlias = Callable[[Context, ModelView, "tuple[Stage, ...]"], "list[Finding]"]

#: The stages of a model that the server reads. The text must be valid for those of the second row, and for loading.
_READ = (Stage.DIRECTORY, Stage.TEXT)
_READ_CONFIG = (Stage.AGENTS, Stage.CONFIG, Stage.STEPS)
_LOAD = (
    Stage.VERSIONS, Stage.FILES, Stage.INSTANCES, Stage.TENSORS, Stage.WARMUP, Stage.PARAMETERS, Stage.LABELS,
)  # fmt: skip


def check_model(context: Context, model: ModelView, stages: tuple[Stage, ...]) -> list[Finding]:
    """Return the findings of the stages about one model, in the order of the checks."""
    return [finding for stage in stages for check in list_checks(stage) for finding in check(context, model)]


def run_checks(context: Context, *, is_tfs_package: bool, check_model: ModelCheck = check_model) -> list[Finding]:
    """Return every finding, sorted by place. Nothing that the tree holds makes it raise."""
    if is_tfs_package:
        return sort_findings(finding for check in list_checks(Stage.PACKAGE) for finding in check(context))
    return sort_findings(_check_repository(context, check_model))


def _check_repository(context: Context, check_model: ModelCheck) -> Iterator[Finding]:
    names = select_models(context)
    context = replace(context, models={name: context.models[name] for name in names if name in context.models})
    for check in list_checks(Stage.REPOSITORY):
        yield from check(context)
    models = [model for model in context.models.values() if not context.tree.leaves(model.name)]
    failures: dict[str, Failure] = {}
    loading: dict[str, list[Finding]] = {}
    for model in models:
        findings = check_model(context, model, _READ)
        if model.parsed:
            findings += check_model(context, model, _READ_CONFIG)
        yield from findings
        _note_failure(failures, model, "poll", findings)
        loading[model.name] = check_model(context, model, _LOAD) if model.parsed else []
        if not model.is_ensemble:
            yield from loading[model.name]
            _note_failure(failures, model, "load", loading[model.name])
    checker = EnsembleChecker(context, failures)
    for name in checker.sort_ensembles():
        ensemble = context.models[name]
        findings = [finding for check in list_checks(Stage.ENSEMBLE) for finding in check(checker, ensemble)]
        yield from findings
        _note_failure(failures, ensemble, "ensemble", findings)
        findings = [finding for check in list_checks(Stage.CACHE) for finding in check(checker, ensemble)]
        findings += loading[name]
        yield from findings
        _note_failure(failures, ensemble, "load", findings)
    for model in models:
        if model.is_ensemble and failures.get(model.name, Failure("", "")).stage == "poll":
            yield from loading[model.name]
    for check in list_checks(Stage.LOADED):
        yield from check(context)


def _note_failure(failures: dict[str, Failure], model: ModelView, stage: str, findings: Iterable[Finding]) -> None:
    """Note the first finding that fails a model.

    What a backend refuses does not count: an ensemble of the model is then checked in all other respects.
    """
    if model.name not in failures:
        failing = (f for f in findings if f.refused_by == "triton" and not f.code.startswith(CODES_OF_BACKENDS))
        first = next(failing, None)
        if first is not None:
            failures[model.name] = Failure(stage, first.message)
