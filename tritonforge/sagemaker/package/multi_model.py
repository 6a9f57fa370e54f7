"""An archive of a multi-model endpoint: which of its models is served, and what the front end refuses.

There `serve` does not look at archives. Triton's SageMaker front end does, when a model is asked for: a config.pbtxt at
the top makes the archive that model; else it serves the directory whose config.pbtxt has the text
``platform: "ensemble"``, and without one the directory that the file system lists last. So an archive must have one of
the former, or one directory. Source: server/src/sagemaker_server.cc; recorded with the real front end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from tritonforge.pbtxt import parse
from tritonforge.validation.findings import Finding, ordered
from tritonforge.validation.report import Validated, validated
from tritonforge.validation.rules import views
from tritonforge.validation.rules.sagemaker import multi_model
from tritonforge.validation.tree import Tree

__all__ = ["judge_multi_model"]

#: What `serve` says of an archive; for a multi-model endpoint it reads none. E402 stays: Triton needs a model, too.
_OF_SERVE: Final = ("E401", "E403", "E404", "E405", "W401", "W402", "W403")

#: What the front end makes of an archive: advice for one model alone, another model or a refusal here.
_OF_FRONT_END: Final = tuple(rule.code for rule in multi_model.RULES)

#: The directory that a model at the top of an archive is judged in, where its configuration names none.
_TOP: Final = "model"


def judge_multi_model(
    tree: Tree,
    *,
    image: str | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[str | None, Validated]:
    """The model that is served, None where that is not defined, and what is found.

    The front end's rules, which are advice elsewhere, are refusals here.
    """
    is_model = tree.is_file("config.pbtxt")
    top = ""
    if is_model:
        top = _name(tree)
        tree = Tree({f"{top}/{path}": entry for path, entry in tree.entries.items()}, truncated=tree.truncated)
    served, candidates = _served(tree)
    found = validated(
        tree,
        image=image,
        target="sagemaker",
        load_models=[served] if served is not None else None,
        instance_type=instance_type,
        environment=environment,
        exempt=_OF_SERVE,
    )
    findings = [
        replace(each, severity="error", refused_by="sagemaker") if each.code in _OF_FRONT_END else each
        for each in (*found.findings, *_undefined(served, candidates))
    ]
    if is_model:
        return "", replace(
            found,
            findings=tuple(replace(each, path=each.path.removeprefix(top).lstrip("/")) for each in findings),
            texts={path.removeprefix(f"{top}/"): text for path, text in found.texts.items()},
        )
    return served, replace(found, findings=tuple(ordered(findings)))


def _name(tree: Tree) -> str:
    """The name of a model at the top: the front end takes its own for it, so that whatever stands there is right."""
    entry = tree.entry("config.pbtxt")
    name = parse(entry.content).text("name") if entry is not None and entry.content is not None else ""
    return name if name and "/" not in name else _TOP


def _served(tree: Tree) -> tuple[str | None, list[str]]:
    """The model that the front end chooses, None where that is not defined, and all that it chooses from."""
    context = views.build(tree, target="sagemaker")
    names = list(context.models)
    # What the rules take for an ensemble must be the same here, so it is asked of them.
    detected = [name for name in names if multi_model.is_detected(context, context.models[name])]
    chosen = detected or names
    return (chosen[0] if len(chosen) == 1 else None), chosen


def _undefined(served: str | None, candidates: list[str]) -> Iterator[Finding]:
    if served is None and candidates:
        yield multi_model.AMBIGUOUS.finding(
            f"a multi-model endpoint serves one of {', '.join(candidates[:20])}, which one is not defined",
            path="",
            help="give each model an archive of its own, or make one of them an ensemble that uses the others",
        )
