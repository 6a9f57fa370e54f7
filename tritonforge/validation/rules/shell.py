"""Strings of a repository that Triton hands to a shell unquoted, and its Python stub as a path. No I/O.

Source: python_backend src/stub_launcher.cc `StubLauncher::Launch` (r24.10), which runs ``bash -c "exec <stub>
<repository>/<model>/<version>/<default_model_filename> ... <instance>"``, and with EXECUTION_ENV_PATH ``source
<environment>/bin/activate && exec ...``. From 25.08 on Triton starts stubs without a shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.triton.backends import is_word, list_odd_characters
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule, advice
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "check"]

#: Backends whose models run in a stub on every server; `tritonforge serve` runs the others in one too.
_STUBS: Final = ("python", "vllm")
_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"

_SOURCE: Final = 'python_backend src/stub_launcher.cc StubLauncher::Launch (r24.10): bash -c "exec ..."'

E118: Final = Rule(
    code="E118",
    severity="error",
    refused_by="tritonforge",
    summary="<what> has characters that Triton's python backend passes to a shell unquoted",
    source=_SOURCE,
    why=(
        "Up to 25.07 the python backend starts each model through bash, without quotes: $(...) in a name is executed, "
        "a blank splits the command, and the model's interpreter opens ASCII paths only. tritonforge refuses to serve, "
        "package or deploy such a model."
    ),
    bad='default_model_filename: "$(reboot).py"',
    good='default_model_filename: "model.py"',
)
W118: Final = advice(
    "W118",
    "<what> has characters with which tritonforge serve, transform and emulate refuse the model",
    source=_SOURCE,
    why=(
        "tritonforge runs the models of this backend through Triton's python backend, which passes these names to a "
        "shell. A server that has the backend as a C++ library takes them."
    ),
    bad="my model/config.pbtxt",
    good="my_model/config.pbtxt",
)

RULES: Final = (E118, W118)


def check(context: Context) -> Iterator[Finding]:
    """The findings of every model but the ensembles, which have no process of their own."""
    for view in context.models.values():
        if view.is_ensemble or not view.parsed:
            continue
        rule = E118 if view.backend in _STUBS else W118
        for what, text, node in _strings(context, view):
            if is_word(text):
                continue
            path = view.config_path if view.has_config else view.name
            yield rule.finding(
                f"{what} '{_escaped(text)}' has characters that Triton's python backend passes to a shell unquoted: "
                f"{list_odd_characters(text)}",
                path=path,
                node=node if node is not None or not view.has_config else view.place(),
                help="use letters, digits and _ . / + @ % : , = - (ASCII) only",
            )


def _strings(context: Context, view: ModelView) -> Iterator[tuple[str, str, Node | None]]:
    """What each string is, the string, and its place."""
    yield "the model directory", view.name, None
    document = view.document
    for group in document.messages("instance_group"):
        yield "the instance group", group.text("name"), group.one("name")
    yield "default_model_filename", document.text("default_model_filename"), document.one("default_model_filename")
    entry = document.entries("parameters").get(_ENVIRONMENT)
    value = entry.message("value") if entry is not None else None
    if value is None:
        return
    given = value.text("string_value")
    yield _ENVIRONMENT, given.replace(_MODEL_DIRECTORY, ""), value.one("string_value")
    if given.startswith(_MODEL_DIRECTORY):  # the server resolves links before it sources <environment>/bin/activate
        path = view.name + given.removeprefix(_MODEL_DIRECTORY)
        resolved = context.tree.real(path)
        if resolved is not None and resolved != path:
            yield f"{_ENVIRONMENT} leads to a path that", resolved, value.one("string_value")


def _escaped(text: str) -> str:
    return ascii(text)[1:-1]
