"""Where a name of a config.pbtxt is defined, and where it is used. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tritonforge.language_server.positions import Span
from tritonforge.pbtxt import Document, Message, Node
from tritonforge.validation.context import Context, ModelView, TensorView

__all__ = ["Place", "find_definition", "find_node", "find_references", "measure_token"]


class Place(NamedTuple):
    """A part of a file of the repository; ``path`` is relative to the repository."""

    path: str
    span: Span


def find_node(document: Document, offset: int) -> Node | None:
    """Return the string that is at an offset of a document; None where no string is."""
    pending: list[Message] = [document]
    while pending:
        message = pending.pop()
        for nodes in message.fields.values():
            for node in nodes:
                if isinstance(node, Message):
                    pending.append(node)
                elif isinstance(node.value, str) and node.offset <= offset <= measure_token(document, node).end:
                    return node
    return None


def measure_token(document: Document, node: Node) -> Span:
    """Return the place of the first token of a value in the text."""
    start = node.offset
    text = document.source
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        end = start
        while end < len(text) and (text[end].isalnum() or text[end] in "_.+-"):
            end += 1
        return Span(start, max(end, start + 1))
    end = start + 1
    while end < len(text) and text[end] not in (quote, "\n"):
        end += 2 if text[end] == "\\" else 1
    return Span(start, min(end + 1, len(text)))


def find_definition(context: Context, model: str, offset: int) -> list[Place]:
    """Return where the name at an offset of a model's configuration is defined: a model, a tensor or a file."""
    view = context.models.get(model)
    node = find_node(view.document, offset) if view is not None else None
    if view is None or node is None or node.parent is None:
        return []
    name, parent = str(node.value), node.parent
    if node.name == "model_name":
        return list(_place_model(context.models.get(name)))
    if parent.name in ("input_map", "output_map") and parent.parent is not None:
        if node.name == "key":
            used = context.models.get(parent.parent.text("model_name"))
            tensors = () if used is None else used.inputs if parent.name == "input_map" else used.outputs
            return [_place_tensor(used, tensor) for tensor in tensors if used is not None and tensor.name == name]
        return list(_place_ensemble_tensor(view, name))
    if node.name == "label_filename" and context.tree.is_file(f"{model}/{name}"):
        return [Place(f"{model}/{name}", Span(0, 0))]
    return []


def find_references(context: Context, model: str, offset: int) -> list[Place]:
    """Return the steps that run the model whose name is at an offset, or the uses of an ensemble's tensor."""
    view = context.models.get(model)
    node = find_node(view.document, offset) if view is not None else None
    if view is None or node is None or node.parent is None:
        return []
    if node.name == "model_name" or (node.name == "name" and isinstance(node.parent, Document)):
        return [
            Place(other.config_path, measure_token(other.document, place))
            for other in context.models.values()
            for step in other.steps
            if step.model == node.value and (place := step.node.one("model_name")) is not None
        ]
    is_mapped = node.parent.name in ("input_map", "output_map") and node.name == "value"
    is_tensor = node.parent.name in ("input", "output") and node.name == "name" and view.is_ensemble
    if not is_mapped and not is_tensor:
        return []
    return [
        Place(view.config_path, measure_token(view.document, mapped.node))
        for step in view.steps
        for mapped in (*step.inputs.values(), *step.outputs.values())
        if mapped.tensor == node.value
    ]


def _place_model(view: ModelView | None) -> Iterator[Place]:
    if view is None or not view.has_config:
        return
    node = view.document.one("name")
    yield Place(view.config_path, measure_token(view.document, node) if node is not None else Span(0, 0))


def _place_tensor(view: ModelView, tensor: TensorView) -> Place:
    """Return the place of a tensor's name; the file's start where the backend fills the tensor in."""
    node = tensor.node.one("name")
    if node is None or tensor.node.root is not view.document:
        return Place(view.config_path, Span(0, 0))
    return Place(view.config_path, measure_token(view.document, node))


def _place_ensemble_tensor(view: ModelView, name: str) -> Iterator[Place]:
    """Yield where an ensemble's tensor comes from: its input, or the steps that write it."""
    yield from (_place_tensor(view, tensor) for tensor in view.inputs if tensor.name == name)
    for step in view.steps:
        for mapped in step.outputs.values():
            if mapped.tensor == name:
                yield Place(view.config_path, measure_token(view.document, mapped.node))
