"""tf2onnx with one copy of a model's weights.

tf2onnx copies its graph in front of each of its 24 optimizations, to have it back where one fails, and writes every
node's protobuf anew after each. Both copy all constants, and the copies are in reference cycles: a model of 96 MB took
7 GB, and half of the time. The tensors of constants are never changed in place, so that copies of a graph can share
them, and no file is made of the protobufs of constants: the initializers of the ONNX file are the tensors themselves
(`tf2onnx.graph.Graph.make_graph`).
"""

from __future__ import annotations

import copy
import functools
from typing import Any

__all__ = ["share"]


def share() -> None:
    """Make tf2onnx share the tensors of constants between copies of a graph, in this process from now on."""
    from tf2onnx.graph import Graph, Node

    if "__deepcopy__" in vars(Graph):
        return

    def copied(graph: Any, memo: dict[int, Any]) -> Any:
        for node in graph.get_nodes():
            if node.is_const() and "value" in node.attr:
                memo[id(node.attr["value"])] = node.attr["value"]
        made = memo[id(graph)] = Graph.__new__(Graph)
        vars(made).update(copy.deepcopy(vars(graph), memo))
        return made

    whole = Node.update_proto

    @functools.wraps(whole)
    def updated(node: Any, *arguments: Any, **options: Any) -> None:
        value = node.attr.pop("value", None) if node.is_const() else None
        whole(node, *arguments, **options)
        if value is not None:
            node.attr["value"] = value

    Graph.__deepcopy__ = copied
    Node.update_proto = updated
