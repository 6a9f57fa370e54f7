"""What the child process is asked: one version of one model to convert. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tritonforge.model_files.signature import TensorSpec

__all__ = ["Job", "Pipeline"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The DALI pipeline that makes an input from an encoded image: its file, and which of its outputs it is."""

    path: str
    output: int


@dataclass(frozen=True, slots=True)
class Job:
    """One version of a model.

    ``kind`` is the platform (`signature.GRAPHDEF`, `signature.SAVEDMODEL`), ``path`` its file or folder, ``target`` the
    ONNX file to write. ``signature`` is "" where the configuration names none. ``inputs`` and ``outputs`` are what the
    configuration states, whole shapes with the batch; none where it leaves them to the file. ``max_batch_size`` is 0
    for a model that does not batch, or does not say. ``pipelines`` are by the name of the input that they make.
    """

    model: str
    version: int
    kind: str
    path: str
    target: str
    opset: int
    max_batch_size: int = 0
    tag: str = "serve"
    signature: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How errors name it."""
        return f"{self.model}/{self.version}"

    def to_text(self) -> str:
        """The job as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Job:
        """The job that `to_text` gave."""
        value = json.loads(text)
        for key in ("inputs", "outputs"):
            value[key] = tuple(TensorSpec(**each) for each in value[key])
        value["pipelines"] = {name: Pipeline(**each) for name, each in value["pipelines"].items()}
        return cls(**value)
