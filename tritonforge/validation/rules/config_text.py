"""The text of a config.pbtxt: what the server's parser refuses. No I/O.

Source: filesystem/api.cc ReadTextProto, google/protobuf/text_format.cc. The server reports only that it failed to read
the file; its protobuf prints the details to its log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge.pbtxt import MAXIMAL_PROBLEMS, Document, Message, Node, ProblemKind
from tritonforge.triton import CATALOGUE, changes
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check

_PROTO: Final = "history of triton-inference-server/common protobuf/model_config.proto"
_SOURCE: Final = "google/protobuf/text_format.cc TextFormat::Parser::ParserImpl"

# fmt: off
E200 = define_error("E200", "failed to read text proto from <path>",
    source="filesystem/api.cc ReadTextProto",
    why="The server's protobuf does not take the text; its log and the findings beside this one say where.",
    bad='input { name "A" }', good='input { name: "A" }')
E201 = define_error("E201", 'Expected "<a>", found "<b>".',
    source=_SOURCE,
    why="The text is not protobuf's text format: a bracket, a colon or a comma is missing or too many.",
    bad="dims: [ 1, 2, ]", good="dims: [ 1, 2 ]")
E202 = define_error("E202", 'Message type "<type>" has no field named "<name>".',
    source=_SOURCE,
    why="A field that the schema does not have, at this place.",
    bad="max_batchsize: 8", good="max_batch_size: 8")
E203 = define_error("E203", 'Non-repeated field "<name>" is specified multiple times.',
    source=_SOURCE,
    why="A field that takes one value is given two.",
    bad="max_batch_size: 8 max_batch_size: 16", good="max_batch_size: 16")
E204 = define_error("E204", 'Field "<a>" is specified along with field "<b>", another member of oneof "<name>".',
    source=_SOURCE,
    why="Of these fields only one can be set: a model has one scheduler, one version policy, one kind of warmup data.",
    bad="dynamic_batching {} sequence_batching {}", good="dynamic_batching {}")
E205 = define_error("E205", "Expected integer, got: <text>",
    source=_SOURCE,
    why="A value of another type than the field's, or out of its range.",
    bad='max_batch_size: "8"', good="max_batch_size: 8")
E206 = define_error("E206", 'Unknown enumeration value of "<value>" for field "<name>".',
    source=_SOURCE,
    why="The name is none of the enum's.",
    bad="data_type: TYPE_FLOAT32", good="data_type: TYPE_FP32")
E207 = define_error("E207", "unfilled placeholder <text>",
    source=f"{_SOURCE}: neither $ nor {{{{ can be there",
    why="The file is a template whose values were not filled in.",
    bad="max_batch_size: ${triton_max_batch_size}", good="max_batch_size: 8")
E208 = define_error("E208", "the text is longer than what is checked",
    refused_by=None, source="tritonforge: bounds on time and memory",
    why="A configuration of this size is most likely not one.",
    bad="a config.pbtxt of a hundred megabytes", good="a config.pbtxt of a few kilobytes")
E603 = define_error("E603", "failed to read text proto from <repo>/<model>/config.pbtxt",
    source=f"{_PROTO}; core model_config_utils.cc, ReadTextProto",
    why="A server refuses the whole file for one field, or one name of an enum, that its schema does not have yet.",
    bad="model_metrics { ... }   --image 24.09", good="model_metrics { ... }   --image 25.04")
W209 = define_advice("W209", "unfilled placeholder <text> in a string",
    source="tensorrtllm_backend/tools/fill_template.py: templates carry ${name} in strings too",
    why="The server takes the placeholder for the value itself.",
    bad='parameters { key: "max_beam_width" value { string_value: "${max_beam_width}" } }',
    good='parameters { key: "max_beam_width" value { string_value: "1" } }')
W310 = define_advice("W310", "a number that is none of the enum's values",
    source="text_format.cc: proto3 enums are open",
    why="The parser takes any number; what the server does with it is not defined.",
    bad="data_type: 99", good="data_type: TYPE_FP32")
# fmt: on

_BY_KIND: Final[Mapping[ProblemKind, Rule]] = {
    "syntax": E201,
    "unknown": E202,
    "twice": E203,
    "oneof": E204,
    "value": E205,
    "enum": E206,
    "placeholder": E207,
    "limit": E208,
}


@register_check(Stage.TEXT, E200, E201, E202, E203, E204, E205, E206, E207, E208, W209)
def check_text(_context: Context, model: ModelView) -> Iterator[Finding]:
    """Report what the server's parser refuses."""
    path, problems = model.config_path, model.document.problems
    refusing = [problem for problem in problems if problem.kind != "limit"]
    if refusing:
        first = refusing[0]
        more = f" (of {len(refusing)} findings)" if len(refusing) > 1 else ""
        at_least = "; there may be more" if len(problems) >= MAXIMAL_PROBLEMS else ""
        yield E200.report(
            f"failed to read text proto from <repo>/{path}",
            path=path,
            line=first.line,
            column=first.column,
            help=f"correct line {first.line}{more}{at_least}",
        )
    for problem in problems:
        yield _BY_KIND[problem.kind].report(
            problem.message,
            path=path,
            line=problem.line,
            column=problem.column,
            field=problem.field,
            help=problem.hint,
        )
    if "${" in model.document.source and not refusing:
        yield from _check_placeholders(model)


def _check_placeholders(model: ModelView) -> Iterator[Finding]:
    """Find strings that still hold a template's placeholder."""
    pending = [model.document.fields]
    while pending:
        for values in pending.pop().values():
            for node in values:
                fields = getattr(node, "fields", None)
                if fields is not None:
                    pending.append(fields)
                elif isinstance(node.value, str) and "${" in node.value:
                    at = node.value.index("${")
                    end = node.value.find("}", at)
                    if end > at:
                        message = f"unfilled placeholder {node.value[at : end + 1]} in a string"
                        yield W209.report(message, path=model.config_path, node=node)


@register_check(Stage.LOADED, E603)
def check_fields(context: Context) -> Iterator[Finding]:
    """Check that the server has every field and every name of a value."""
    lacking = [path.rpartition(".")[2] for path, change in changes.FIELDS.items() if not context.has(change)]
    lacking += [name for name, change in changes.VALUES.items() if not context.has(change)]
    if not lacking:
        return
    # Few texts have any of them, and a search is faster than a walk.
    pattern = re.compile("|".join(lacking))
    for model in context.models.values():
        if model.has_config and pattern.search(model.document.source):
            yield from _check_fields_of(context, model)


def _check_fields_of(context: Context, model: ModelView) -> Iterator[Finding]:
    for node, path in _walk_nodes(model.document, ""):
        what, change = f'the field "{node.name}"', changes.FIELDS.get(path)
        if (
            change is None
            and isinstance(node.value, str)
            and node.value in changes.VALUES
            and _is_written_by_name(node)
        ):
            what, change = node.value, changes.VALUES[node.value]
        if change is not None and not context.has(change):
            server = f"Triton {CATALOGUE[context.release].triton} ({context.release})"
            advice = "leave it out, or choose a later image"
            if context.image is None:
                server, advice = f"{server}, the local server,", "leave it out, or name the image: --image RELEASE"
            yield E603.report(
                f"failed to read text proto from <repo>/{model.config_path}",
                path=model.config_path,
                node=node,
                help=f"{server} does not know {what}, which came with {change.first}: {advice}",
            )


def _walk_nodes(message: Message, prefix: str) -> Iterator[tuple[Node, str]]:
    """Yield every node below a message with its path without indices; the schema bounds the depth."""
    for name, values in message.fields.items():
        path = f"{prefix}{name}"
        for node in values:
            yield node, path
            if isinstance(node, Message):
                yield from _walk_nodes(node, f"{path}.")


def _is_written_by_name(node: Node) -> bool:
    """Return True if an enum's value is a bare word. Every server accepts a number."""
    document: Document = node.root
    return document.source[node.offset : node.offset + 1].isalpha()


@register_check(Stage.LOADED, W310)
def check_enum_numbers(context: Context) -> Iterator[Finding]:
    """Check that numbers of types and formats are values of the enum."""
    for model in context.models.values():
        for tensor in (*model.inputs, *model.outputs) if model.parsed else ():
            for name in ("data_type", "format"):
                node = tensor.node.one(name)
                if node is not None and isinstance(node.value, str) and node.value.lstrip("-").isdigit():
                    message = f"{node.value} is none of the values of {name}"
                    yield W310.report(message, path=model.config_path, node=node)
