"""Names of models, groups and files that reach a shell, a Python stub or an HTTP address. No I/O.

Source: python_backend src/stub_launcher.cc `StubLauncher::Launch` (r24.10), which runs ``bash -c "exec <stub>
<repository>/<model>/<version>/<default_model_filename> ... <instance>"``, and with EXECUTION_ENV_PATH ``source
<environment>/bin/activate && exec ...``. From 25.08 on Triton starts stubs without a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.triton import changes
from tritonforge.triton.backends import BACKENDS, is_word, list_odd_characters
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.named_files import ENVIRONMENT_PARAMETER, MODEL_DIRECTORY_VARIABLE

_SOURCE: Final = 'python_backend src/stub_launcher.cc StubLauncher::Launch (r24.10): bash -c "exec ..."'

_SHELL: Final = ";|&$`<>()[]{}\\\"'*?~#!"

# fmt: off
E118 = define_error("E118", "<what> has characters that Triton's python backend passes to a shell unquoted",
    refused_by="tritonforge", source=_SOURCE,
    why="Up to 25.07 the python backend starts each model through bash, without quotes: $(...) in a name is "
        "executed, a blank splits the command, and the model's interpreter opens ASCII paths only. tritonforge "
        "refuses to serve, package or deploy such a model.",
    bad='default_model_filename: "$(reboot).py"', good='default_model_filename: "model.py"')
E606 = define_error("E606", "Invalid stub name: contains invalid characters",
    source=changes.STUB_NAMES.source,
    why="From 25.08 on the python backend starts no process for a model or an instance group whose name has one of "
        f"the characters {_SHELL}",
    bad='instance_group [{ name: "a&b" }]   --image 25.08', good='instance_group [{ name: "a_b" }]   --image 25.08')
W118 = define_advice("W118", "<what> has characters with which tritonforge serve, transform and emulate refuse the "
                             "model",
    source=_SOURCE,
    why="tritonforge runs the models of this backend through Triton's python backend, which passes these names to a "
        "shell. A server that has the backend as a C++ library takes them.",
    bad="my model/config.pbtxt", good="my_model/config.pbtxt")
W136 = define_advice("W136", "the model's name has characters that HTTP clients percent-encode, which Triton does "
                             "not decode",
    source="http_server.cc HTTPAPIServer::Handle matches the path as it comes (run with 2.51: Request for unknown "
           "model: 'a%2Bb' is not found)",
    why="tritonclient.http and most HTTP clients cannot ask this model; gRPC and SageMaker's /invocations can.",
    bad="a+b/config.pbtxt", good="a_b/config.pbtxt")
# fmt: on

#: RFC 3986, "unreserved": what no client percent-encodes.
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")


@register_check(Stage.LOADED, E118, W118)
def check_shell_words(context: Context) -> Iterator[Finding]:
    """Check the strings that reach a shell; ensembles have no process of their own."""
    for model in context.models.values():
        if model.is_ensemble or not model.parsed:
            continue
        # Stubs of other backends are tritonforge's: it runs their models through Triton's python backend.
        rule = E118 if model.backend in BACKENDS and BACKENDS[model.backend].runs_in_stub else W118
        for name, text, node in _list_strings(context, model):
            if not is_word(text):
                yield rule.report(
                    f"{name} '{ascii(text)[1:-1]}' has characters that Triton's python backend passes to a shell "
                    f"unquoted: {list_odd_characters(text)}",
                    path=model.config_or_directory,
                    node=node if node is not None or not model.has_config else model.place(),
                    help="use letters, digits and _ . / + @ % : , = - (ASCII) only",
                )


def _list_strings(context: Context, model: ModelView) -> Iterator[tuple[str, str, Node | None]]:
    """Yield what a string is, the string, and its place."""
    yield "the model directory", model.name, None
    document = model.document
    for group in document.messages("instance_group"):
        yield "the instance group", group.text("name"), group.one("name")
    yield "default_model_filename", document.text("default_model_filename"), document.one("default_model_filename")
    entry = document.entries("parameters").get(ENVIRONMENT_PARAMETER)
    value = entry.message("value") if entry is not None else None
    if value is None:
        return
    given = value.text("string_value")
    yield ENVIRONMENT_PARAMETER, given.replace(MODEL_DIRECTORY_VARIABLE, ""), value.one("string_value")
    if given.startswith(
        MODEL_DIRECTORY_VARIABLE
    ):  # the server resolves links before it sources <environment>/bin/activate
        path = model.name + given.removeprefix(MODEL_DIRECTORY_VARIABLE)
        resolved = context.tree.real(path)
        if resolved is not None and resolved != path:
            yield f"{ENVIRONMENT_PARAMETER} leads to a path that", resolved, value.one("string_value")


@register_check(Stage.LOADED, W136)
def check_addresses(context: Context) -> Iterator[Finding]:
    """Check names that HTTP clients percent-encode, where `check_shell_words` does not report the name already."""
    for model in context.models.values():
        if not model.parsed or _UNRESERVED.fullmatch(model.name) or not (model.is_ensemble or is_word(model.name)):
            continue
        yield W136.report(
            f"the model's name '{ascii(model.name)[1:-1]}' has characters that HTTP clients percent-encode, which "
            "Triton does not decode",
            path=model.config_or_directory,
            help="use letters, digits and _ . - (ASCII)",
        )


@register_check(Stage.INSTANCES, E606)
def check_stub_names(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the names of models and groups that the python backend runs, where the release refuses some characters."""
    if model.is_ensemble or not model.versions or not context.has(changes.STUB_NAMES):
        return
    added = context.image.added if context.image is not None else frozenset()
    in_stub = model.backend in BACKENDS and BACKENDS[model.backend].runs_in_stub
    # A backend that the user adds is one of tritonforge's, which are written in Python.
    if not in_stub and model.document.text("runtime") != "model.py" and model.backend not in added & {"tensorflow"}:
        return
    message = "Invalid stub name: contains invalid characters"
    if any(character in _SHELL for character in model.name):
        yield E606.report(
            message,
            path=model.config_or_directory,
            node=model.place() if model.has_config else None,
            help=f"rename the model: {_SHELL} are not allowed",
        )
        return
    for group in model.document.messages("instance_group"):
        if any(character in _SHELL for character in group.text("name")):
            advice = f"{_SHELL} are not allowed in the name"
            yield E606.report(message, path=model.config_path, node=group.one("name"), help=advice)
