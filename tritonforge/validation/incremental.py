"""Validate a repository again and again while it is edited: only what depends on a change is checked again. No I/O.

The findings are those of `tritonforge.validation.report.run`. Kept are the view of each model, and the findings of the
stages about one model, with the names of the directories that they were derived from. Checks of ensembles and of the
whole repository run each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tritonforge.validation.context import Context, ModelView, Options
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_views import build_context, build_view
from tritonforge.validation.registry import Stage
from tritonforge.validation.rules.tfs_package import is_tfs_package
from tritonforge.validation.runner import check_model, run_checks
from tritonforge.validation.traced_context import EVERYTHING, REPOSITORY, trace_context
from tritonforge.validation.tree import Tree

__all__ = ["IncrementalValidator", "Validation"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Validation:
    """A validated tree: its context, without models where it is a package for TensorFlow Serving, and its findings."""

    context: Context
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class _Stored(Generic[_T]):
    """A result, with the names of the directories that it was derived from."""

    result: _T
    read: frozenset[str]

    def holds(self, changed: set[str]) -> bool:
        return not changed or (EVERYTHING not in self.read and self.read.isdisjoint(changed))


class IncrementalValidator:
    """Validates trees that differ little from each other; ``checked`` is the number of models that the last one cost.

    A tree with links is checked whole, because a link leads from one directory into another.
    """

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self._options = options
        # Which models are validated then depends on the others.
        self._selects_models = bool(options.load_models or options.environment)
        self._tree = Tree({})
        self._views: dict[str, _Stored[ModelView]] = {}
        self._findings: dict[tuple[str, tuple[Stage, ...]], _Stored[list[Finding]]] = {}
        self._changed: set[str] = set()
        self.checked = 0

    def validate(self, tree: Tree) -> Validation:
        """Return the findings on a tree.

        Raises:
            DefinitionError: the image, the instance type, or the target or its version is unknown.
        """
        self.checked = 0
        is_package = is_tfs_package(tree)
        is_whole = is_package or tree.has_links or self._selects_models
        changed = None if is_whole else _find_changes(self._tree, tree)
        if changed is None:
            self._clear()
            context = Context(tree, options=self._options) if is_package else build_context(tree, self._options)
            return Validation(context, self._select(run_checks(context, is_tfs_package=is_package)))
        self._changed = changed
        try:
            context = build_context(tree, self._options, view_builder=self._build_view)
            findings = run_checks(context, is_tfs_package=False, check_model=self._check_model)
        except BaseException:
            self._clear()
            raise
        self._tree = tree
        self._views = {name: stored for name, stored in self._views.items() if name in context.models}
        self._findings = {key: stored for key, stored in self._findings.items() if key[0] in context.models}
        return Validation(context, self._select(findings))

    def _select(self, findings: Sequence[Finding]) -> Sequence[Finding]:
        return tuple(finding for finding in findings if finding.code not in self._options.exempt)

    def _clear(self) -> None:
        self._tree = Tree({})
        self._views.clear()
        self._findings.clear()

    def _build_view(self, context: Context, name: str) -> ModelView:
        stored = self._views.get(name)
        if stored is not None and stored.holds(self._changed):
            return stored.result
        self.checked += 1
        read: set[str] = {name}
        view = build_view(trace_context(context, read), name)
        self._views[name] = _Stored(view, frozenset(read))
        self._changed.add(name)  # what was derived from the old view is derived again
        return view

    def _check_model(self, context: Context, model: ModelView, stages: tuple[Stage, ...]) -> list[Finding]:
        stored = self._findings.get((model.name, stages))
        if stored is None or not stored.holds(self._changed):
            read: set[str] = {model.name}
            findings = check_model(trace_context(context, read), model, stages)
            stored = self._findings[model.name, stages] = _Stored(findings, frozenset(read))
        return list(stored.result)


def _find_changes(old: Tree, new: Tree) -> set[str] | None:
    """Return the directories of the repository that differ; None where everything may."""
    if old.truncated != new.truncated or dict(old.external) != dict(new.external):
        return None
    before, after = old.entries, new.entries
    changed = {path.partition("/")[0] for path, entry in after.items() if before.get(path) is not entry}
    changed |= {path.partition("/")[0] for path in before.keys() - after.keys()}
    if old.children() != new.children():
        changed.add(REPOSITORY)
    return changed
