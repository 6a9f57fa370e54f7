"""The settings of a model as short lines: backend, versions, scheduler and instances. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.pbtxt import Message
from tritonforge.validation.context import ModelView

__all__ = ["describe_model"]

_MAXIMAL_ITEMS = 8


def describe_model(model: ModelView) -> tuple[str, ...]:
    """Return what a picture of a model states about it, in lines."""
    lines = [", ".join(_describe_kind(model)), ", ".join(_describe_scheduler(model))]
    if not model.is_ensemble:
        lines.append(_describe_instances(model))
    return tuple(line for line in lines if line)


def _describe_kind(model: ModelView) -> Iterator[str]:
    if not model.is_ensemble:
        yield model.platform or model.backend or "unknown backend"
    if not model.parsed:
        yield "configuration not readable"
    if model.versions:
        yield f"{'version' if len(model.versions) == 1 else 'versions'} {_join(model.versions)}"
    elif not model.is_ensemble:
        yield "no version"


def _describe_scheduler(model: ModelView) -> Iterator[str]:
    if model.max_batch_size > 0:
        yield f"max_batch_size {model.max_batch_size}"
    elif model.has_known_batch_dimension:
        yield "no batching"
    dynamic = model.document.message("dynamic_batching")
    if dynamic is not None:
        yield _describe_dynamic(dynamic)
    elif model.adds_dynamic_batching:
        yield "dynamic batching"
    sequence = model.document.message("sequence_batching")
    if sequence is not None:
        yield f"sequence batching ({'oldest' if sequence.has('oldest') else 'direct'})"
    if model.decoupled:
        yield "decoupled"
    cache = model.document.message("response_cache")
    if cache is not None and cache.flag("enable"):
        yield "response cache"
    scheduling = model.document.message("ensemble_scheduling")
    limit = scheduling.integer("max_inflight_requests") if scheduling is not None else 0
    if limit:
        yield f"max_inflight_requests {limit}"


def _describe_dynamic(dynamic: Message) -> str:
    parts = []
    if sizes := dynamic.integers("preferred_batch_size"):
        parts.append(f"preferred {_join(sizes)}")
    if delay := dynamic.integer("max_queue_delay_microseconds"):
        parts.append(f"delay {delay} µs")
    policy = dynamic.message("default_queue_policy")
    if policy is not None and (size := policy.integer("max_queue_size")):
        parts.append(f"queue ≤ {size}")
    return f"dynamic batching ({', '.join(parts)})" if parts else "dynamic batching"


def _describe_instances(model: ModelView) -> str:
    groups = model.document.messages("instance_group")
    if not groups:
        return "default instances"
    texts = []
    for group in groups[:_MAXIMAL_ITEMS]:
        kind = group.text("kind", "KIND_AUTO").removeprefix("KIND_")
        gpus = group.integers("gpus")
        count = group.integer("count")
        texts.append(f"{f'{count} on ' if count else ''}{kind}{f' {_join(gpus)}' if gpus else ''}")
    more = f" and {len(groups) - _MAXIMAL_ITEMS} more" if len(groups) > _MAXIMAL_ITEMS else ""
    return f"instances: {'; '.join(texts)}{more}"


def _join(numbers: tuple[int, ...]) -> str:
    more = ", ..." if len(numbers) > _MAXIMAL_ITEMS else ""
    return ", ".join(str(number) for number in numbers[:_MAXIMAL_ITEMS]) + more
