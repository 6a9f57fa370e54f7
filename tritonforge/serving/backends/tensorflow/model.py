"""The ``tensorflow`` backend's entry: Triton makes one `TritonPythonModel` for each instance of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonforge.serving.backends import completion, configuration, requests
from tritonforge.serving.backends.tensorflow import graph

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One SavedModel or GraphDef in a session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the configuration of a SavedModel leaves out; a GraphDef's must be whole."""
        if config.as_dict().get("platform") != graph.GRAPHDEF and not completion.is_complete(config):
            with completion.reported():
                inputs, outputs = graph.signature(completion.configuration(config))
                batched = completion.set_batching(config, {**inputs, **outputs})
                completion.set_tensors(config, inputs, outputs, batched=batched)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graph, and run it once, so that no request waits for its optimisation."""
        with completion.reported():
            self._configuration = configuration.read(args)
            self._configuration.refuse("TF_INIT_OPS_FILE")
            self._graph = graph.load(self._configuration)
            self._graph.warm_up(self._configuration)

    def execute(self, asked: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over as one batch."""
        return requests.respond(asked, self._configuration, self._answer)

    def _answer(self, questions: Sequence[requests.Question]) -> list[requests.Answer]:
        return requests.in_batches(questions, self._graph.run, batched=self._configuration.batched)
