"""The graph of a repository with its findings: validate, then build the graph, from one reading of the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tritonforge.errors import DefinitionError
from tritonforge.graph.diagram import Graph
from tritonforge.graph.graph_builder import MAXIMAL_NODES, build_graph, list_calls
from tritonforge.validation.context import Options
from tritonforge.validation.model_views import build_context
from tritonforge.validation.rules.tfs_package import is_tfs_package
from tritonforge.validation.runner import run_checks
from tritonforge.validation.tree import Tree

__all__ = ["read_calls", "read_graph"]


def read_graph(
    tree: Tree,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    models: Sequence[str] = (),
    max_nodes: int = MAXIMAL_NODES,
) -> Graph:
    """Return the graph of a repository with all findings on it; only of ``models`` if there are any.

    More than ``max_nodes`` models and tensors are refused.

    Raises:
        DefinitionError: the tree is a package for TensorFlow Serving, which has no ensembles, or as `build_graph`.
    """
    if is_tfs_package(tree):
        raise DefinitionError("a package for TensorFlow Serving has no graph (expected a model repository of Triton)")
    context = build_context(tree, options)
    findings = [finding for finding in run_checks(context, is_tfs_package=False) if finding.code not in options.exempt]
    return build_graph(context, findings, models, max_nodes=max_nodes)


def read_calls(tree: Tree) -> Mapping[str, tuple[str, ...]]:
    """Return the models of a repository that each Python model's code requests by constant names (BLS)."""
    return list_calls(build_context(tree, Options()))
