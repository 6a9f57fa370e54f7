"""A repository as one archive of a multi-model endpoint, where Triton itself looks for the model to serve. No I/O.

These are warnings: a single-model endpoint takes the same archive without complaint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "check", "is_detected"]

_SOURCE: Final = "server/src/sagemaker_server.cc, the model of a repository that POST /models registers"

#: How the front end recognises the ensemble of an archive, in the text of each configuration.
_DETECTED: Final = re.compile(rb'platform:(\s)*"ensemble"')

UNDETECTED: Final = Rule(
    code="W409",
    severity="warning",
    refused_by=None,
    summary='a multi-model endpoint finds the ensemble only by the text platform: "ensemble"',
    source=_SOURCE,
    why="The front end searches the text of each config.pbtxt. A blank before the colon or single quotes are the same "
    "to Triton, but then the endpoint serves some other model of the archive.",
    bad="platform : 'ensemble'",
    good='platform: "ensemble"',
)
MISTAKEN: Final = Rule(
    code="W410",
    severity="warning",
    refused_by=None,
    summary='a multi-model endpoint takes the model for an ensemble: its text has platform: "ensemble"',
    source=_SOURCE,
    why="The front end searches the text, comments and strings too, and serves the model that it finds first.",
    bad='# not platform: "ensemble"',
    good="# not an ensemble",
)
AMBIGUOUS: Final = Rule(
    code="W411",
    severity="warning",
    refused_by=None,
    summary="a multi-model endpoint serves one of several ensembles of an archive, which one is not defined",
    source=_SOURCE,
    why="The front end takes the first ensemble in the order of the directory, which differs between file systems.",
    bad="ensemble_a/, ensemble_b/, classifier/",
    good="ensemble_a/, classifier/",
)
DECOUPLED: Final = Rule(
    code="W412",
    severity="warning",
    refused_by=None,
    summary="multi-model endpoints refuse decoupled models",
    source=_SOURCE,
    why="A request of a multi-model endpoint has one response.",
    bad="model_transaction_policy { decoupled: true }",
    good="model_transaction_policy { decoupled: false }",
)

RULES: Final = (UNDETECTED, MISTAKEN, AMBIGUOUS, DECOUPLED)


def check(context: Context) -> Iterator[Finding]:
    """What a multi-model endpoint would make of the repository."""
    if context.tree.is_file("config.pbtxt"):
        return
    found = {name: is_detected(context, model) for name, model in context.models.items() if model.has_config}
    alone = len(context.tree.subdirectories()) == 1
    for name, detected in found.items():
        model = context.models[name]
        platform = model.document.one("platform")
        if model.is_ensemble and not detected and not alone:
            yield UNDETECTED.finding(
                UNDETECTED.summary,
                path=model.config_path,
                node=model.place(platform),
                help='write exactly: platform: "ensemble"',
            )
        if detected and not model.is_ensemble and model.parsed:
            yield MISTAKEN.finding(
                MISTAKEN.summary,
                path=model.config_path,
                node=model.place(platform),
                help="change the comment or the text that holds these words",
            )
        if model.decoupled:
            policy = model.document.one("model_transaction_policy")
            yield DECOUPLED.finding(DECOUPLED.summary, path=model.config_path, node=model.place(policy))
    ensembles = [name for name, detected in found.items() if detected and context.models[name].is_ensemble]
    if len(ensembles) > 1:
        yield AMBIGUOUS.finding(
            f"a multi-model endpoint serves one of the ensembles {', '.join(ensembles[:20])}, which one is not defined",
            path="",
            help="give each ensemble an archive of its own",
        )


def is_detected(context: Context, model: ModelView) -> bool:
    """Whether Triton's front end takes the model for an ensemble: it searches the configuration's text."""
    entry = context.tree.entry(model.config_path)
    return entry is not None and entry.content is not None and _DETECTED.search(entry.content) is not None
