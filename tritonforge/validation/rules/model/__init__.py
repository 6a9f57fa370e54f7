"""One model's configuration: everything that the server checks of it apart from other models. No I/O.

``poll`` and ``load`` give the findings in the server's order: what fails the model when its configuration is read
(model_config_utils.cc ValidateModelConfig), and what fails it when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.model import instances, parameters, scheduling, tensors, warmup
from tritonforge.validation.rules.model.definitions import RULES

__all__ = ["RULES", "load", "poll"]


def poll(context: Context, view: ModelView) -> Iterator[Finding]:
    """What fails a model when its configuration is read."""
    yield from scheduling.check(context, view)
    if not context.auto_complete:
        yield from tensors.check(context, view)


def load(context: Context, view: ModelView) -> Iterator[Finding]:
    """What fails a model when it is loaded; labels are looked at in the room of the layout."""
    yield from instances.check(context, view)
    yield from instances.metric_tags(context, view)
    if context.auto_complete:
        yield from tensors.check(context, view)
    if not view.is_ensemble:
        yield from warmup.samples(context, view)
        yield from warmup.states(context, view)
        yield from parameters.batching_library(context, view)
        yield from parameters.execution_environment(context, view)
