"""The contract of an algorithm's containers: declared once, and implemented by the programs `train` and `serve`.

    algorithm = Algorithm("detector", hyperparameters=[...], channels=[...])          algorithm.py

    def train(container: Container, values: HyperParameterValues, stopping: Stopping) -> None: ...
    run(algorithm, train)                                                             train

    serve(answer)                                                                     serve

`declaration` and `hyperparameters` do no I/O; the other modules are edges.
"""

from __future__ import annotations

from tritonforge.errors import HyperparameterError, InputError, RefusalError, StoppedError
from tritonforge.training.algorithm.container import ChannelInput, Container, Epoch, Resources
from tritonforge.training.algorithm.declaration import Algorithm, Channel, Metric, Objective, render_markdown
from tritonforge.training.algorithm.hyperparameters import HyperParameter, HyperParameterValues
from tritonforge.training.algorithm.program import Reply, Request, run, serve
from tritonforge.training.algorithm.termination import Checkpoint, Checkpoints, Stopping

__all__ = [
    "Algorithm",
    "Channel",
    "ChannelInput",
    "Checkpoint",
    "Checkpoints",
    "Container",
    "Epoch",
    "HyperParameter",
    "HyperParameterValues",
    "HyperparameterError",
    "InputError",
    "Metric",
    "Objective",
    "RefusalError",
    "Reply",
    "Request",
    "Resources",
    "StoppedError",
    "Stopping",
    "render_markdown",
    "run",
    "serve",
]  # fmt: skip
