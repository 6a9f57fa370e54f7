"""A repository for the console whose every string is markup that would run in a page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from tests.support.graph_repositories import HOSTILE, WRONG
from tritonforge.graph.graph_reader import read_graph
from tritonforge.inference.wire import encode_request
from tritonforge.validation.tree import Tree
from tritonforge.web_console.graph_view import build_graph_view
from tritonforge.web_console.request_bytes import explain_request
from tritonforge.web_console.tensor_view import build_tensor_view

__all__ = ["ATTACK", "HostileRepository"]

ATTACK = (
    "<img src=x onerror='window.attacked=1'><b class=attack>\"'`${window.attacked=1}</b>"
    "<script>window.attacked=1</script>"
)


class HostileRepository:
    """Stand-in of `ServedRepository`; its graph is of a repository with hostile names and one with findings."""

    def __init__(self) -> None:
        self._graph = read_graph(Tree.of({**HOSTILE, **WRONG}))

    def describe(self) -> dict[str, Any]:
        """Return one model with one sample."""
        sample = {"number": 0, "name": ATTACK, "origin": ATTACK, "description": ATTACK, "has_picture": True}
        model = {
            "name": ATTACK,
            "inputs": [{"name": ATTACK, "datatype": ATTACK, "shape": [-1]}],
            "takes_image": True,
            "samples": [sample],
        }
        return {"repository": ATTACK, "server": {"name": ATTACK, "version": ATTACK}, "models": [model]}

    def describe_graph(self, model: str) -> dict[str, Any]:
        """Return the picture of a model with findings."""
        view = build_graph_view(self._graph, self._graph.diagrams[0].name)
        finding = {"number": 1, "code": ATTACK, "severity": "error", "place": ATTACK, "message": ATTACK, "help": ATTACK}
        return {**asdict(view), "findings": [finding]}

    def describe_load(self, model: str) -> dict[str, Any]:
        """Return a bottleneck."""
        return {
            "seconds": 1.0, "history": [], "requests_per_second": 1.0, "milliseconds": 1.0, "steps": [],
            "called": [], "bottleneck": {"step": ATTACK, "sentence": ATTACK},
        }  # fmt: skip

    def send_sample(self, model: str, number: int) -> dict[str, Any]:
        """Return a request that failed after tensors of text and scores."""
        tensors = {
            ATTACK: build_tensor_view(np.array([[ATTACK.encode()]], object), has_batch=True),
            "scores": build_tensor_view(np.array([[0.4, 0.6]], np.float32), labels=[ATTACK, ATTACK], has_batch=True),
        }
        called = {"name": ATTACK, "model": ATTACK, "server": {
            "requests": 2, "queue": 1.0, "compute_input": 1.0, "compute_infer": 1.0, "compute_output": 1.0,
            "total": 4.0,
        }}  # fmt: skip
        step = {
            "name": ATTACK, "model": ATTACK + "2", "inputs": {ATTACK: "a"}, "outputs": {ATTACK: ATTACK, "b": "scores"},
            "status": "failed", "milliseconds": 1.0, "server": None, "error": ATTACK,
            "calls": 0.0, "called": [called],
        }  # fmt: skip
        answer = {
            "milliseconds": 1.0,
            "server": None,
            "error": ATTACK,
            "step": ATTACK,
            "agreement": ATTACK,
            "note": ATTACK,
            "responses": None,
        }
        request = explain_request(encode_request({ATTACK: np.array([ATTACK.encode()], object)}))
        return {"model": model, "answer": answer, "steps": [step], "tensors": tensors, "detections": [],
                "request": request}  # fmt: skip

    def read_picture(self, model: str, number: int) -> bytes:
        """Return what is not an image."""
        return ATTACK.encode()

    def close(self) -> None:
        """Do nothing."""
