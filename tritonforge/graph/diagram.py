"""The graph of a repository as data: diagrams of models and tensors, and the findings at their places. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tritonforge.validation.findings import Finding

__all__ = ["Diagram", "Edge", "EdgeKind", "Graph", "ModelNode", "TensorNode", "describe_tensor", "list_diagrams"]

#: "input" leads from a tensor to a model, "output" from a model to a tensor, "call" from a model to one that its code
#: sends requests to (business logic scripting, BLS).
EdgeKind: TypeAlias = Literal["input", "output", "call"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNode:
    """A tensor of a diagram.

    ``data_type`` is Triton's name without ``TYPE_``, "" where it is unknown; ``dims`` has no batch dimension, None
    where it is unknown. ``max_batch_size`` is that of the model that writes the tensor, or of the ensemble; 0 where
    that does not batch, None where it is unknown. ``findings`` are indexes into `Graph.findings`.
    """

    key: str
    name: str
    data_type: str = ""
    dims: tuple[int, ...] | None = None
    max_batch_size: int | None = None
    is_input: bool = False
    is_output: bool = False
    is_optional: bool = False
    findings: tuple[int, ...] = ()

    @property
    def role(self) -> str:
        """The tensor's part in its diagram: "input", "output", "input and output", or ""."""
        return " and ".join(["input"] * self.is_input + ["output"] * self.is_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNode:
    """A model of a diagram.

    ``step`` is its index in the ensemble, None outside of one and for a model that is called. ``details`` are short
    lines: the backend and the versions, the scheduler, the instances. ``inputs`` and ``outputs`` are the names of those
    that are connected. ``inner`` is the diagram of a nested ensemble, drawn once: at its first use.
    """

    key: str
    name: str
    step: int | None = None
    details: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_ensemble: bool = False
    is_missing: bool = False
    is_called: bool = False
    inner: Diagram | None = None
    findings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A connection of two nodes by their keys.

    ``port`` is the model's name of the input or output, for a call the names of the tensors of the request; ``path``
    and ``line`` are then the place of the request in the code.
    """

    kind: EdgeKind
    source: str
    target: str
    port: str = ""
    path: str = ""
    line: int = 0
    findings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """An ensemble with its steps, or one model alone; nodes and edges are in the order of the configuration."""

    name: str
    details: tuple[str, ...] = ()
    is_ensemble: bool = False
    models: tuple[ModelNode, ...] = ()
    tensors: tuple[TensorNode, ...] = ()
    edges: tuple[Edge, ...] = ()
    findings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The diagrams of a repository; a finding that belongs to none of their parts is listed with the others."""

    diagrams: tuple[Diagram, ...]
    findings: tuple[Finding, ...] = ()


def list_diagrams(diagrams: Sequence[Diagram]) -> Iterator[Diagram]:
    """Yield the diagrams and the nested ones in them, an outer one before its inner ones."""
    for diagram in diagrams:
        yield diagram
        yield from list_diagrams([model.inner for model in diagram.models if model.inner is not None])


def describe_tensor(tensor: TensorNode) -> str:
    """Return type, dims and batch of a tensor as a line.

    >>> describe_tensor(TensorNode(key="t", name="T", data_type="FP32", dims=(3, -1), max_batch_size=8))
    'FP32 [3, -1], batch ≤ 8'
    """
    dims = "[?]" if tensor.dims is None else str(list(tensor.dims))
    batch = {None: "", 0: ", no batch"}.get(tensor.max_batch_size, f", batch ≤ {tensor.max_batch_size}")
    optional = ", optional" if tensor.is_optional else ""
    return f"{tensor.data_type or '?'} {dims}{batch}{optional}"
