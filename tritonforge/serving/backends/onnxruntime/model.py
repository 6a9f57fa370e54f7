"""The ``onnxruntime`` backend's entry: Triton makes one `TritonPythonModel` for each instance of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tritonforge.serving.backends import completion, configuration, requests, sequences
from tritonforge.serving.backends.onnxruntime import session

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One ONNX file in a session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the configuration leaves out."""
        if not completion.is_complete(config):
            with completion.reported():
                signature = session.load(completion.configuration(config)).signature
                batched = completion.set_batching(config, signature)
                completion.set_tensors(config, signature, batched=batched)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the file."""
        with completion.reported():
            self._configuration = configuration.read(args)
            self._session = session.load(self._configuration)
            session.check(self._configuration, self._session)
            sequence = self._configuration.sequence
            self._states = sequences.SequenceStates(self._configuration, time.monotonic) if sequence else None

    def execute(self, asked: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over as one batch."""
        return requests.respond(asked, self._configuration, self._answer, states=self._states)

    def _answer(self, questions: Sequence[requests.Question]) -> list[requests.Answer]:
        config = self._configuration
        return requests.in_batches(questions, self._session.run, batched=config.batched, retry=not config.sequence)
