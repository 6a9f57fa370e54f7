"""How the checks of a model say what they found: by code, at a node of its configuration. No I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import ModelView
from tritonforge.validation.rules.model.definitions import RULES

__all__ = ["report", "shape"]

_BY_CODE: Final = {rule.code: rule for rule in RULES}


def report(view: ModelView, code: str, message: str, node: Node | None, help: str = "") -> Finding:  # noqa: A002 - as in Finding
    """The finding of a rule at a node, or at the model's name when the node is absent."""
    return _BY_CODE[code].finding(message, path=view.config_path, node=view.place(node), help=help)


def shape(dims: tuple[int, ...]) -> str:
    """Dims as the server prints them (model_config_utils.cc `DimsListToString`)."""
    return f"[{','.join(map(str, dims))}]"
