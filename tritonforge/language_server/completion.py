"""What may be written at an offset of a config.pbtxt: fields, values, and names of the repository. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tritonforge.escaping import escape_line
from tritonforge.language_server.blocks import Block, Cursor, find_block, find_cursor, read_blocks
from tritonforge.language_server.positions import Span
from tritonforge.pbtxt.document import FieldKind, FieldSpec, MessageSpec
from tritonforge.triton.backends import BACKENDS
from tritonforge.triton.field_documentation import find_documentation
from tritonforge.validation.context import Context, ModelView

__all__ = ["Completion", "CompletionKind", "complete", "find_step_model", "list_ensemble_tensors"]

CompletionKind: TypeAlias = Literal["field", "message", "value", "model", "tensor", "file", "text"]

_ENSEMBLING: Final = "inference.ModelEnsembling"
_STEP: Final = f"{_ENSEMBLING}.Step"
#: The maps of a step, by the names that protobuf gives to their entries.
_INPUT_MAP: Final = f"{_STEP}.InputMapEntry"
_OUTPUT_MAP: Final = f"{_STEP}.OutputMapEntry"
_CONFIG: Final = "inference.ModelConfig"
#: Names that are offered at most.
_MAXIMAL_NAMES: Final = 1000
_PLAIN: Final = re.compile(r"[^\"\\]*")


@dataclass(frozen=True, slots=True)
class Completion:
    """One proposal: its label, the text that replaces ``span``, and what describes it.

    ``text`` has ``$0`` where the cursor goes if ``is_snippet`` is True.
    """

    label: str
    kind: CompletionKind
    text: str
    span: Span
    detail: str = ""
    documentation: str = ""
    is_snippet: bool = False


def complete(text: str, offset: int, *, model: str = "", context: Context | None = None) -> list[Completion]:
    """Return what may be written at an offset; ``model`` is the directory of the configuration in the repository."""
    cursor = find_cursor(text, offset)
    if cursor is None:
        return []
    if not cursor.is_value:
        return [] if cursor.is_string else list(_complete_fields(text, cursor))
    if cursor.field is None:
        return []
    if cursor.field.kind == FieldKind.ENUM and not cursor.is_string:
        enum = cursor.field.type_name
        return [
            Completion(name, "value", name, cursor.span, enum.removeprefix("inference."), _document(f"{enum}.{name}"))
            for name in cursor.field.names
        ]
    if cursor.field.kind == FieldKind.BOOL and not cursor.is_string:
        return [Completion(word, "value", word, cursor.span, "bool") for word in ("true", "false")]
    if cursor.field.kind == FieldKind.STRING:
        # Without the value at the cursor, which does not propose itself.
        others = f'{text[: cursor.span.start]}""{text[cursor.span.end :]}'
        names = dict.fromkeys(_list_names(others, cursor, model, context))
        return [
            Completion(name, kind, f'"{name}"', cursor.span, detail)
            for name, kind, detail in list(names)[:_MAXIMAL_NAMES]
            if name and _PLAIN.fullmatch(name) and escape_line(name) == name
        ]
    return []


def find_step_model(block: Block, context: Context | None) -> ModelView | None:
    """Return the model of the step that a block is in; None where it is unknown."""
    step: Block | None = block
    while step is not None and (step.spec is None or step.spec.name != _STEP):
        step = step.parent
    if step is None or context is None:
        return None
    return context.models.get(step.values.get("model_name", ""))


def list_ensemble_tensors(root: Block) -> Iterator[str]:
    """Yield the names of an ensemble's tensors that the text has: its inputs and outputs, and those of its steps."""
    for block in root.blocks:
        if block.name in ("input", "output") and "name" in block.values:
            yield block.values["name"]
        for step in block.blocks if block.name == "ensemble_scheduling" else ():
            for entry in step.blocks:
                if entry.name in ("input_map", "output_map") and "value" in entry.values:
                    yield entry.values["value"]


def _complete_fields(text: str, cursor: Cursor) -> Iterator[Completion]:
    spec = cursor.block.spec
    if spec is None:
        return
    # The fields behind the cursor too, but not the word at the cursor itself.
    whole = find_block(read_blocks(text), cursor.block.start)
    present = cursor.block.names
    if whole is not None:
        present |= {name for name, span in whole.fields if span.start != cursor.span.start}
    taken = {spec.fields[name].oneof for name in present if name in spec.fields} - {""}
    following = text[cursor.span.end :].lstrip(" \t")[:1]
    for field in spec.fields.values():
        if (field.name in present and not field.repeated) or (field.oneof in taken and field.name not in present):
            continue
        kind: CompletionKind = "message" if field.kind == FieldKind.MESSAGE else "field"
        is_bare = bool(following) and following in ":{[<"
        yield Completion(
            field.name,
            kind,
            field.name if is_bare else _write_field(field),
            cursor.span,
            describe_type(field),
            _document(field.full_name),
            is_snippet=not is_bare,
        )


def describe_type(field: FieldSpec) -> str:
    """Return the type of a field, such as ``repeated int64``."""
    return f"{'repeated ' if field.repeated else ''}{field.type_name.removeprefix('inference.')}"


def _write_field(field: FieldSpec) -> str:
    if field.kind == FieldKind.MESSAGE:
        return f"{field.name} [\n  {{\n    $0\n  }}\n]" if field.repeated else f"{field.name} {{\n  $0\n}}"
    if field.repeated:
        return f"{field.name}: [ $0 ]"
    return f'{field.name}: "$0"' if field.kind == FieldKind.STRING else f"{field.name}: $0"


def _document(name: str) -> str:
    return find_documentation(name)


def _list_names(
    text: str, cursor: Cursor, model: str, context: Context | None
) -> Iterator[tuple[str, CompletionKind, str]]:
    """Yield the strings that the field at a cursor may have: text, kind, and what describes it."""
    assert cursor.field is not None
    block, name = cursor.block, cursor.field.full_name
    if name == f"{_CONFIG}.backend":
        yield from ((backend, "text", "backend") for backend in BACKENDS)
    elif name == f"{_CONFIG}.platform":
        yield "ensemble", "text", "platform"
        yield from ((platform.name, "text", "platform") for row in BACKENDS.values() for platform in row.platforms)
    elif name == f"{_CONFIG}.name" and model:
        yield model, "model", "the directory's name"
    elif name == f"{_STEP}.model_name" and context is not None:
        yield from ((other, "model", _describe_model(view)) for other, view in context.models.items() if other != model)
    elif block.spec is not None and block.spec.name in (_INPUT_MAP, _OUTPUT_MAP):
        yield from _list_mapped(text, block, block.spec, cursor.field.name, context)
    elif context is not None and model:
        yield from _list_files(name, model, context)


def _list_mapped(
    text: str, block: Block, spec: MessageSpec, field: str, context: Context | None
) -> Iterator[tuple[str, CompletionKind, str]]:
    if field == "value":
        tensors = list_ensemble_tensors(read_blocks(text))
        yield from ((tensor, "tensor", "tensor of the ensemble") for tensor in tensors)
        return
    view = find_step_model(block, context)
    if view is not None:
        for tensor in view.inputs if spec.name == _INPUT_MAP else view.outputs:
            yield tensor.name, "tensor", f"{tensor.data_type} {list(tensor.dims)}"


def _describe_model(view: ModelView) -> str:
    return "ensemble" if view.is_ensemble else view.backend or view.platform


def _list_files(field: str, model: str, context: Context) -> Iterator[tuple[str, CompletionKind, str]]:
    tree = context.tree
    if field == "inference.ModelOutput.label_filename":
        yield from _select_files(model, (name for name in tree.children(model) if name.endswith(".txt")), context)
    elif field == f"{_CONFIG}.default_model_filename":
        view = context.models.get(model)
        for directory in view.version_directories.values() if view is not None else ():
            yield from ((name, "file", directory) for name in tree.children(directory))
    elif field == "inference.ModelWarmup.Input.input_data_file":
        yield from _select_files(f"{model}/warmup", tree.children(f"{model}/warmup"), context)


def _select_files(directory: str, names: Iterable[str], context: Context) -> Iterator[tuple[str, CompletionKind, str]]:
    for name in names:
        if context.tree.is_file(f"{directory}/{name}"):
            yield name, "file", directory
