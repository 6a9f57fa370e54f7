"""The text of a config.pbtxt: what the server's parser refuses. No I/O.

Source: filesystem/api.cc ReadTextProto, google/protobuf/text_format.cc. The server says only that it failed to read the
file; the details are what its protobuf prints to its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge.pbtxt import MAXIMAL_PROBLEMS, ProblemKind
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule, advice, refused
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "poll"]

_SOURCE: Final = "google/protobuf/text_format.cc TextFormat::Parser::ParserImpl"

E200 = refused(
    "E200",
    "failed to read text proto from <path>",
    source="filesystem/api.cc ReadTextProto",
    why="The server's protobuf does not take the text; its log and the findings beside this one say where.",
    bad='input { name "A" }',
    good='input { name: "A" }',
)
E201 = refused(
    "E201",
    'Expected "<a>", found "<b>".',
    source=_SOURCE,
    why="The text is not protobuf's text format: a bracket, a colon or a comma is missing or too many.",
    bad="dims: [ 1, 2, ]",
    good="dims: [ 1, 2 ]",
)
E202 = refused(
    "E202",
    'Message type "<type>" has no field named "<name>".',
    source=_SOURCE,
    why="A field that the schema does not have, at this place.",
    bad="max_batchsize: 8",
    good="max_batch_size: 8",
)
E203 = refused(
    "E203",
    'Non-repeated field "<name>" is specified multiple times.',
    source=_SOURCE,
    why="A field that takes one value is given two.",
    bad="max_batch_size: 8 max_batch_size: 16",
    good="max_batch_size: 16",
)
E204 = refused(
    "E204",
    'Field "<a>" is specified along with field "<b>", another member of oneof "<name>".',
    source=_SOURCE,
    why="Of these fields only one can be set: a model has one scheduler, one version policy, one kind of warmup data.",
    bad="dynamic_batching {} sequence_batching {}",
    good="dynamic_batching {}",
)
E205 = refused(
    "E205",
    "Expected integer, got: <text>",
    source=_SOURCE,
    why="A value of another type than the field's, or out of its range.",
    bad='max_batch_size: "8"',
    good="max_batch_size: 8",
)
E206 = refused(
    "E206",
    'Unknown enumeration value of "<value>" for field "<name>".',
    source=_SOURCE,
    why="The name is none of the enum's.",
    bad="data_type: TYPE_FLOAT32",
    good="data_type: TYPE_FP32",
)
E207 = refused(
    "E207",
    "unfilled placeholder <text>",
    source=f"{_SOURCE}: neither $ nor {{{{ can be there",
    why="The file is a template whose values were not filled in.",
    bad="max_batch_size: ${triton_max_batch_size}",
    good="max_batch_size: 8",
)
E208 = Rule(
    code="E208",
    severity="error",
    refused_by=None,
    summary="the text goes on beyond what is judged",
    source="tritonforge: bounds on time and memory",
    why="A configuration of this size is most likely not one.",
    bad="a config.pbtxt of a hundred megabytes",
    good="a config.pbtxt of a few kilobytes",
)
W209 = advice(
    "W209",
    "unfilled placeholder <text> in a string",
    source="tensorrtllm_backend/tools/fill_template.py: templates carry ${name} in strings too",
    why="The server takes the placeholder for the value itself.",
    bad='parameters { key: "max_beam_width" value { string_value: "${max_beam_width}" } }',
    good='parameters { key: "max_beam_width" value { string_value: "1" } }',
)

RULES: Final[tuple[Rule, ...]] = (E200, E201, E202, E203, E204, E205, E206, E207, E208, W209)

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


def poll(context: Context, view: ModelView) -> Iterator[Finding]:
    """What the server's parser says to the configuration."""
    path, problems = view.config_path, view.document.problems
    refusing = [problem for problem in problems if problem.kind != "limit"]
    if refusing:
        first = refusing[0]
        more = f" (of {len(refusing)} findings)" if len(refusing) > 1 else ""
        at_least = "; there may be more" if len(problems) >= MAXIMAL_PROBLEMS else ""
        yield Finding(
            code=E200.code,
            severity="error",
            refused_by="triton",
            path=path,
            line=first.line,
            column=first.column,
            message=f"failed to read text proto from <repo>/{path}",
            help=f"correct line {first.line}{more}{at_least}",
        )
    for problem in problems:
        rule = _BY_KIND[problem.kind]
        found = rule.finding(problem.message, path=path, field=problem.field, help=problem.hint)
        yield Finding(
            code=found.code,
            severity=found.severity,
            refused_by=found.refused_by,
            path=found.path,
            line=problem.line,
            column=problem.column,
            field=found.field,
            message=found.message,
            help=found.help,
        )
    if "${" in view.document.source and not refusing:
        yield from _placeholders(view)


def _placeholders(view: ModelView) -> Iterator[Finding]:
    """Strings that still hold a template's placeholder."""
    pending = [view.document.fields]
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
                        words = f"unfilled placeholder {node.value[at : end + 1]} in a string"
                        yield W209.finding(words, path=view.config_path, node=node)
