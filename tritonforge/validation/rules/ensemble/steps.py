"""The steps of an ensemble and the tensors between them, as values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from tritonforge.pbtxt import Message, Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.ensemble.definitions import BY_CODE

__all__ = ["LATEST", "Failure", "Failures", "Mapped", "Step", "dependencies", "report", "steps", "wanted"]

#: The step's version that means the latest one that is loaded.
LATEST: Final = -1


@dataclass(frozen=True, slots=True)
class Mapped:
    """One entry of a map: the ensemble's tensor, and its place in the text."""

    tensor: str
    node: Node


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its model and version, what it reads and writes by the model's names, and its place."""

    index: int
    model: str
    version: int
    inputs: Mapping[str, Mapped]
    outputs: Mapping[str, Mapped]
    node: Message

    @property
    def complete(self) -> bool:
        """Whether the step has all its parts."""
        return bool(self.model and self.inputs and self.outputs)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model is not there for an ensemble: refused when it was read, when it was loaded, or as an ensemble."""

    stage: str
    message: str


#: By model; a model that is not in it is there.
Failures: TypeAlias = Mapping[str, Failure]


def steps(view: ModelView) -> tuple[Step, ...]:
    """The steps of an ensemble, in the order of the text."""
    scheduling = view.document.message("ensemble_scheduling")
    if scheduling is None:
        return ()
    return tuple(
        Step(
            index=index,
            model=node.text("model_name"),
            version=node.integer("model_version"),
            inputs=_mapped(node, "input_map"),
            outputs=_mapped(node, "output_map"),
            node=node,
        )
        for index, node in enumerate(scheduling.messages("step"))
    )


def _mapped(step: Message, field: str) -> dict[str, Mapped]:
    found = {}
    for key, entry in step.entries(field).items():
        value = entry.one("value")
        found[key] = Mapped(str(value.value) if value is not None else "", value or entry)
    return found


def dependencies(context: Context, view: ModelView) -> tuple[str, ...]:
    """The models of the steps that are in the repository, each once."""
    return tuple(name for name in wanted(view) if name in context.models)


def wanted(view: ModelView) -> tuple[str, ...]:
    """The models of the steps, each once."""
    return tuple(dict.fromkeys(step.model for step in steps(view) if step.model))


def report(view: ModelView, code: str, message: str, node: Node | None, help: str = "") -> Finding:  # noqa: A002 - as in Finding
    """The finding of a rule at a node, or at the ensemble's name when the node is absent."""
    return BY_CODE[code].finding(message, path=view.config_path, node=view.place(node), help=help)
