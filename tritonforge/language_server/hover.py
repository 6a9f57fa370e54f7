"""What is shown at an offset of a config.pbtxt: the field's documentation, the model or tensor, and rules. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tritonforge.escaping import escape_text
from tritonforge.language_server.blocks import Cursor, find_cursor
from tritonforge.language_server.completion import describe_type, find_step_model
from tritonforge.language_server.positions import Span
from tritonforge.pbtxt.document import FieldKind, FieldSpec
from tritonforge.triton.field_documentation import SOURCE, find_documentation
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import load_rules

__all__ = ["Hover", "build_findings_hover", "build_hover", "escape_markdown", "explain_finding"]

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
#: Tensors of a model that are listed.
_MAXIMAL_TENSORS: Final = 20
_SEPARATOR: Final = "\n\n---\n\n"
_MAXIMAL_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Hover:
    """Markdown, and the word that it is about; None for the findings at the position alone."""

    markdown: str
    span: Span | None


def build_hover(
    text: str, offset: int, *, context: Context | None = None, findings: Iterable[Finding] = ()
) -> Hover | None:
    """Return what is shown at an offset; ``findings`` are those at it. None where there is nothing to show."""
    explained = build_findings_hover(findings)
    parts = [explained.markdown] if explained is not None else []
    cursor = find_cursor(text, _find_start(text, offset))
    span = None
    if cursor is not None and cursor.span.end > cursor.span.start:
        described = _describe(text, cursor, context)
        if described:
            parts.append(described)
            span = cursor.span
    return Hover(_SEPARATOR.join(parts), span) if parts else None


def build_findings_hover(findings: Iterable[Finding]) -> Hover | None:
    """Return the rules of findings; None without any."""
    parts = list(dict.fromkeys(explain_finding(finding) for finding in findings))
    return Hover(_SEPARATOR.join(parts), None) if parts else None


def explain_finding(finding: Finding) -> str:
    """Return the rule of a finding, as Markdown; its message is shown by the editor."""
    rule = load_rules().get(finding.code)
    if rule is None:
        return escape_markdown(finding.message)
    examples = "".join(
        f"\n\n{heading}:\n```\n{example.strip()}\n```"
        for heading, example in (("Invalid", rule.bad), ("Valid", rule.good))
    )
    return f"**{rule.code}** {escape_markdown(rule.sentence)}\n\n{escape_markdown(rule.why)}{examples}"


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in one paragraph for each empty line."""
    return _MARKDOWN.sub(r"\\\1", escape_text(text))


def _find_start(text: str, offset: int) -> int:
    """Return the offset in the word; at the end of a word, that of its last character."""
    return (
        offset - 1
        if offset and text[offset - 1 : offset].isalnum() and not text[offset : offset + 1].isalnum()
        else offset
    )


def _describe(text: str, cursor: Cursor, context: Context | None) -> str:
    word = text[cursor.span.start : cursor.span.end]
    spec = cursor.block.spec
    if not cursor.is_value:
        field = spec.fields.get(word) if spec is not None and not cursor.is_string else None
        return _describe_field(field) if field is not None else ""
    field = cursor.field
    if field is None:
        return ""
    if field.kind == FieldKind.ENUM:
        documentation = find_documentation(f"{field.type_name}.{word}")
        return f"`{word}`\n\n{escape_markdown(documentation)}" if word in field.names and documentation else ""
    if cursor.is_string:
        return _describe_name(word[1:].rstrip("\"'"), cursor, field, context)
    return ""


def _describe_field(field: FieldSpec) -> str:
    documentation = find_documentation(field.full_name) or find_documentation(field.type_name)
    return (
        f"```proto\n{describe_type(field)} {field.name}\n```\n\n{escape_markdown(documentation)}\n\n"
        f"[model\\_config.proto]({SOURCE})"
    )


def _describe_name(name: str, cursor: Cursor, field: FieldSpec, context: Context | None) -> str:
    """Return what a string names: a model with its tensors, or a tensor of a step's model."""
    if context is None:
        return ""
    if field.full_name == "inference.ModelEnsembling.Step.model_name":
        view = context.models.get(name)
        return _describe_model(view) if view is not None else ""
    parent = cursor.block.name
    if field.name == "key" and parent in ("input_map", "output_map"):
        view = find_step_model(cursor.block, context)
        tensors = () if view is None else view.inputs if parent == "input_map" else view.outputs
        return "".join(_describe_tensor(tensor) for tensor in tensors if tensor.name == name)
    return ""


def _describe_model(view: ModelView) -> str:
    kind = "ensemble" if view.is_ensemble else view.backend or view.platform
    lines = [f"**{escape_markdown(view.name)}** {escape_markdown(kind)}, max\\_batch\\_size {view.max_batch_size}"]
    for heading, tensors in (("input", view.inputs), ("output", view.outputs)):
        lines += [f"- {heading} {_describe_tensor(tensor)}" for tensor in tensors[:_MAXIMAL_TENSORS]]
    return "\n".join(lines)


def _describe_tensor(tensor: TensorView) -> str:
    return escape_markdown(f"{tensor.name[:_MAXIMAL_TEXT]}: {tensor.data_type} {list(tensor.dims)}")
