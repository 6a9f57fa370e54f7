"""Validation: every rule on every model of a tree, all findings in one pass. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from tritonforge import triton
from tritonforge.validation.findings import Finding, ordered
from tritonforge.validation.rules import (
    addresses,
    advisories,
    checksums,
    dali,
    ensemble,
    image_rules,
    layout,
    model,
    releases,
    requests,
    sagemaker,
    shell,
    text,
    tfs,
    views,
)
from tritonforge.validation.rules.catalogue import OF_BACKENDS
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.ensemble import Failure, Judge
from tritonforge.validation.tree import Tree

__all__ = ["validate"]


def validate(
    tree: Tree,
    *,
    image: str | None = None,
    target: Literal["triton", "sagemaker"] = "triton",
    auto_complete: bool = True,
    gpus: int | None = None,
    load: Sequence[str] | None = None,
    config_name: str = "",
) -> list[Finding]:
    """Every finding of a tree, sorted by place; it never raises on what the tree holds.

    A tree that is a package for TensorFlow Serving is judged by the rules of room `tfs` alone.

    ``image`` is a release of Triton's images ("24.09") or an image URI; ``auto_complete`` False is the server's
    ``--disable-auto-complete-config``; ``gpus`` is the number of GPUs of the host (None: not known, and nothing is said
    of them); ``load`` names the models of explicit model control mode (None: all, as in mode NONE); ``config_name`` is
    ``--model-config-name``.

    Raises:
        DefinitionError: the image is not known.
    """
    if tfs.is_for(tree):
        return ordered(tfs.check(Context(tree)))
    context = views.build(
        tree,
        auto_complete=auto_complete,
        target=target,
        image=triton.find_image(image) if image is not None else None,
        gpus=gpus,
        load=tuple(load) if load is not None else None,
        config_name=config_name,
    )
    return ordered(_findings(context))


def _findings(context: Context) -> Iterator[Finding]:
    yield from layout.repository(context)
    names = _names(context)
    yield from layout.absent(context, names)
    context = replace(context, models={name: context.models[name] for name in names if name in context.models})
    judged = []
    for view in context.models.values():
        if context.tree.leaves(view.name):
            yield layout.unread(context.tree, view.name)
        else:
            judged.append(view)
    failures: dict[str, Failure] = {}
    loaded: dict[str, list[Finding]] = {}
    for view in judged:
        read = list(layout.poll(context, view))
        read += text.poll(context, view)
        if view.parsed:
            read += checksums.poll(context, view)
            read += model.poll(context, view)
            read += ensemble.poll(context, view)
        yield from read
        _fail(failures, view, "poll", read)
        loaded[view.name] = _loading(context, view)
        if not view.is_ensemble:
            yield from loaded[view.name]
            _fail(failures, view, "load", loaded[view.name])
    judge = Judge(context, failures)
    for name in judge.order():
        view = context.models[name]
        found = judge.judge(view)
        yield from found
        _fail(failures, view, "ensemble", found)
        late = judge.cached(view) + loaded[name]
        yield from late
        _fail(failures, view, "load", late)
    for view in judged:
        if view.is_ensemble and failures.get(view.name, Failure("", "")).stage == "poll":
            yield from loaded[view.name]
    for room in (addresses, advisories, requests, image_rules, releases, dali, shell, sagemaker):
        yield from room.check(context)


def _loading(context: Context, view: ModelView) -> list[Finding]:
    """What is found when a model is loaded; of a text that is not taken, only what does not depend on it."""
    if not view.parsed:
        return []
    findings = list(layout.load(context, view))
    findings += model.load(context, view)
    findings += layout.labels(context, view)
    findings += releases.load(context, view)
    return findings


def _fail(failures: dict[str, Failure], view: ModelView, stage: str, findings: Iterable[Finding]) -> None:
    """Remember the first finding that fails a model.

    What a backend refuses does not count: an ensemble of the model is then judged in all other respects.
    """
    if view.name not in failures:
        failing = (each for each in findings if each.refused_by == "triton" and each.code not in OF_BACKENDS)
        first = next(failing, None)
        if first is not None:
            failures[view.name] = Failure(stage, first.message)


def _names(context: Context) -> list[str]:
    """The models that the server asks for: all, or in explicit mode those that are named and what they depend on."""
    if context.load is None or "*" in context.load:
        return list(context.models)
    names = list(dict.fromkeys(context.load))
    seen = set(names)
    for name in names:
        for needed in ensemble.wanted(context.models[name]) if name in context.models else ():
            if needed not in seen:
                seen.add(needed)
                names.append(needed)
    return names
