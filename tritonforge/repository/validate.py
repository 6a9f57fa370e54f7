"""Validation: every rule on every model of a tree, all findings in one pass. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from tritonforge import images
from tritonforge.repository.findings import Finding, ordered
from tritonforge.repository.rules import (
    addresses,
    blind_spots,
    checksums,
    dali,
    ensemble,
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
from tritonforge.repository.rules import image as images_room
from tritonforge.repository.rules.catalogue import OF_BACKENDS
from tritonforge.repository.rules.context import Context, ModelView
from tritonforge.repository.rules.ensemble import Failure, Judge
from tritonforge.repository.rules.inference import file_sought
from tritonforge.repository.tree import DIRECTORY, UNKNOWN, Entry, Tree

if TYPE_CHECKING:
    from tritonforge.repository.resolve import Repository

__all__ = ["tree_of", "validate"]


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
        image=images.find(image) if image is not None else None,
        gpus=gpus,
        load=tuple(load) if load is not None else None,
        config_name=config_name,
    )
    return ordered(_findings(context))


def tree_of(repository: Repository) -> Tree:
    """The tree that a repository of definitions will be on disk; of files not made yet only the name is known."""
    # Its own imports cost more than a small repository's rules.
    from tritonforge.repository.resolve import Content, Folder, Made

    entries: dict[str, Entry] = {}
    for path, source in repository.others.items():
        entries[path] = DIRECTORY if isinstance(source, Folder) else Entry("file", UNKNOWN)
    for resolved in repository.models:
        if resolved.config is None:
            entries |= {f"{path}/saved_model.pb": Entry("file", UNKNOWN) for path in resolved.files}
            continue
        config: Any = resolved.config  # protobuf makes the class of ModelConfig at run time
        sought = file_sought(config.backend, config.platform, config.default_model_filename)
        for path, source in resolved.files.items():
            if isinstance(source, Content):
                entries[path] = Entry("file", len(source.data), content=source.data)
            elif isinstance(source, Made):
                entries[path] = DIRECTORY
                file = "model.savedmodel/saved_model.pb" if sought == "model.savedmodel" else sought or "model"
                entries[f"{path}/{file}"] = Entry("file", UNKNOWN)
            else:
                entries[path] = Entry("file", UNKNOWN)
    return Tree(entries)


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
    for room in (addresses, blind_spots, requests, images_room, releases, dali, shell, sagemaker):
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
