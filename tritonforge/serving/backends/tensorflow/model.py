"""The ``tensorflow`` backend's entry: Triton makes one `TritonPythonModel` for each instance of a model.

In an image that this backend was added to (the Dockerfile's stage ``sagemaker-tensorflow``), what it imports lies in
the folder ``packages`` beside this file, and goes before the image's own packages, for this backend alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PACKAGES = Path(__file__).parent / "packages"
if _PACKAGES.is_dir():
    sys.path.insert(0, str(_PACKAGES))

from tritonforge import tf_memory  # noqa: E402 - found by the lines above
from tritonforge.serving.backends import completion, configuration, requests, sequences  # noqa: E402 - found by the lines above
from tritonforge.serving.backends.tensorflow import graph  # noqa: E402 - as above

__all__ = ["TritonPythonModel"]

tf_memory.without_keras()


class TritonPythonModel:
    """One SavedModel or GraphDef in a session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the configuration of a SavedModel leaves out; a GraphDef's must be whole."""
        if config.as_dict().get("platform") != graph.GRAPHDEF and not completion.is_complete(config):
            with completion.reported():
                signature = graph.signature(completion.configuration(config))
                batched = completion.set_batching(config, signature)
                completion.set_tensors(config, signature, batched=batched)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graph, and run it once, so that no request waits for its optimisation; keep what it needs alone."""
        with completion.reported():
            self._configuration = configuration.read(args)
            self._configuration.refuse("TF_INIT_OPS_FILE")
            self._graph = graph.load(self._configuration)
            self._graph.warm_up(self._configuration)
            sequence = self._configuration.sequence
            self._states = sequences.SequenceStates(self._configuration, time.monotonic) if sequence else None
        tf_memory.give_back()

    def execute(self, asked: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over as one batch."""
        return requests.respond(asked, self._configuration, self._answer, states=self._states)

    def _answer(self, questions: Sequence[requests.Question]) -> list[requests.Answer]:
        config = self._configuration
        return requests.in_batches(questions, self._graph.run, batched=config.batched, retry=not config.sequence)
