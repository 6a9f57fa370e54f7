"""Backend, batching and schedulers of a model: what the server checks when it reads the configuration. No I/O.

Source: model_config_utils.cc ValidateModelConfig; the findings come in the order of its checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Message, Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.inference import FAMILIES, backend_of_platform, platforms
from tritonforge.validation.rules.model.report import report

__all__ = ["caching", "check", "decoupled_cache"]

_FLAGS: Final = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY")
_CORRID: Final = "CONTROL_SEQUENCE_CORRID"
_PAIRS: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_EITHER: Final = "'int32_false_true', 'fp32_false_true'"
_CORRID_TYPES: Final = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def check(context: Context, view: ModelView) -> Iterator[Finding]:
    """The findings that do not depend on files, apart from those of ensembles."""
    yield from _agents(context, view)
    yield from _backend(context, view)
    size = view.document.one("max_batch_size")
    if view.max_batch_size < 0:
        words = f"'max_batch_size' must be non-negative value for {view.configured_name}"
        yield report(view, "E213", words, size, "write 0 for a model that does not batch")
    dynamic = view.document.message("dynamic_batching")
    if dynamic is not None:
        yield from _dynamic(view, dynamic)
    sequence = view.document.message("sequence_batching")
    if sequence is not None:
        yield from _sequence(view, sequence)
    if view.is_ensemble and not view.document.has("ensemble_scheduling"):
        words = f"ensemble scheduling must be set for ensemble {view.configured_name} whose platform is ensemble"
        yield report(view, "E232", words, view.document.one("platform"), "write ensemble_scheduling { step [...] }")
    yield from _metrics(view)
    yield from caching(view)


def _agents(context: Context, view: ModelView) -> Iterator[Finding]:
    message = view.document.message("model_repository_agents")
    if message is None:
        return
    if not message.messages("agents"):
        words = "model_repository_agents names no agents"
        yield report(view, "E291", words, message, "The server's process dies; leave the field out.")
    for agent in message.messages("agents"):
        name = agent.text("name")
        if name == "checksum":
            continue  # comes with NVIDIA's images (server/build.py --repoagent=checksum)
        words = (
            f"unable to find 'libtritonrepoagent_{name}.so' for repo agent '{name}', "
            "searched: /opt/tritonserver/repoagents"
        )
        yield report(view, "E290", words, agent.one("name") or agent)


def _backend(context: Context, view: ModelView) -> Iterator[Finding]:
    platform, backend = view.platform, view.backend
    node = view.document.one("platform") or view.document.one("backend")
    if not backend:
        given = view.document.text("platform") or view.document.text("default_model_filename")
        if not view.is_ensemble and given:
            help_ = "the platforms are " + ", ".join(
                [name for family in FAMILIES for name in platforms(family, context.release)]
                + ["ensemble; for any other write backend"]
            )
            yield report(view, "E210", f"unexpected platform type '{platform}' for {view.configured_name}", node, help_)
    elif view.is_ensemble:
        words = f"Ensemble model '{view.configured_name}' must have platform type 'ensemble' and empty backend type"
        yield report(view, "E211", words, view.document.one("backend"), "leave backend out")
    elif backend in FAMILIES and backend_of_platform(platform, context.release) != backend:
        words = f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}"
        help_ = "with this backend, platform is " + " or ".join(
            f'"{each}"' for each in platforms(backend, context.release)
        )
        yield report(view, "E212", words, node, help_)


def _dynamic(view: ModelView, dynamic: Message) -> Iterator[Finding]:
    name = view.configured_name
    yield from _preferred(view, dynamic, ("E214", "E215"), "dynamic batching preferred size", "max batch size")
    levels, policies = dynamic.integer("priority_levels"), dynamic.messages("priority_queue_policy")
    if levels:
        default = dynamic.integer("default_priority_level")
        if not 1 <= default <= levels:
            words = f"default priority level must be in range [1, {levels}] for {name}"
            node = dynamic.one("default_priority_level") or dynamic.one("priority_levels")
            yield report(view, "E216", words, node, f"write default_priority_level: {levels}")
        for policy in policies:
            if not 1 <= policy.integer("key") <= levels:
                words = f"priority queue policy must have priority level in range [1, {levels}] for {name}"
                yield report(view, "E217", words, policy.one("key") or policy)
    if dynamic.flag("preserve_ordering"):
        if levels > 1:
            words = f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
            yield report(view, "E218", words, dynamic.one("priority_levels"))
        default_policy = dynamic.message("default_queue_policy")
        for message in [default_policy, *(entry.message("value") for entry in policies)]:
            delays = message is not None and message.text("timeout_action") == "DELAY"
            if message is not None and delays and message.integer("default_timeout_microseconds"):
                words = f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {name}"
                yield report(view, "E219", words, message.one("timeout_action"), "write timeout_action: REJECT")


def _preferred(view: ModelView, batching: Message, codes: tuple[str, str], what: str, bound: str) -> Iterator[Finding]:
    """Preferred batch sizes: positive, and at most max_batch_size, as the file has it (no backend has run yet)."""
    for node in batching.get("preferred_batch_size"):
        size = node.value
        assert isinstance(size, int)
        if size <= 0:
            yield report(view, codes[0], f"{what} must be positive for {view.configured_name}", node)
        elif size > view.max_batch_size:
            help_ = f"max_batch_size is {view.max_batch_size}"
            if not view.document.has("max_batch_size"):
                help_ = "max_batch_size is not given, which means 0"
            yield report(view, codes[1], f"{what} must be <= {bound} for {view.configured_name}", node, help_)


def _sequence(view: ModelView, sequence: Message) -> Iterator[Finding]:
    name = view.configured_name
    names: set[str] = set()
    for control_input in sequence.messages("control_input"):
        tensor = control_input.text("name")
        if not tensor:
            words = f"sequence batching control tensor must have a name for {name}"
            yield report(view, "E222", words, control_input)
        elif tensor in names:
            words = f"sequence batching control tensor '{tensor}' is specified for multiple control kinds for {name}"
            yield report(view, "E223", words, control_input.one("name"), "put all its controls into one control_input")
        names.add(tensor)
    seen: set[str] = set()
    for control_input in sequence.messages("control_input"):
        for control in control_input.messages("control"):
            kind = control.text("kind", _FLAGS[0])
            if kind in seen:
                words = f"sequence batching specifies multiple {kind} tensors for {name}"
                yield report(view, "E224", words, control.one("kind") or control)
                continue
            if kind in _FLAGS or kind == _CORRID:
                seen.add(kind)
                yield from _flag(view, control, kind) if kind in _FLAGS else _corrid(view, control)
    oldest, direct = sequence.message("oldest"), sequence.message("direct")
    if oldest is not None:
        for node in oldest.get("preferred_batch_size"):
            assert isinstance(node.value, int)
            if node.value <= 0 or node.value > view.max_batch_size:
                must = "positive" if node.value <= 0 else "<= max batch size"
                words = f"sequence batching preferred batch size must be {must} for {name}"
                yield report(view, "E230", words, node, f"max_batch_size is {view.max_batch_size}")
    utilization = direct.number("minimum_slot_utilization") if direct is not None else 0.0
    if direct is not None and (utilization < 0.0 or utilization > 1.0):  # nan passes, as on the server
        words = f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}"
        yield report(view, "E231", words, direct.one("minimum_slot_utilization"))


def _flag(view: ModelView, control: Message, kind: str) -> Iterator[Finding]:
    given = [pair for pair in _PAIRS if control.get(pair)]
    if not given:
        words = (
            f"sequence batching must specify either {_EITHER} or 'bool_false_true' for {kind} for "
            f"{view.configured_name}"
        )
        yield report(view, "E225", words, control, "write int32_false_true: [0, 1] (or the type that the model takes)")
    elif len(given) > 1:
        words = (
            f"sequence batching specifies more than one from {_EITHER} and 'bool_false_true' for {kind} for "
            f"{view.configured_name}"
        )
        yield report(view, "E226", words, control.one(given[1]))
    elif len(control.get(given[0])) != 2:
        words = (
            f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} for {view.configured_name}"
        )
        yield report(view, "E227", words, control.get(given[0])[0], "the value for no, then the value for yes")


def _corrid(view: ModelView, control: Message) -> Iterator[Finding]:
    given: list[Node] = [node for pair in _PAIRS for node in control.get(pair)]
    if given:
        words = (
            f"sequence batching must not specify either {_EITHER} or 'bool_false_true' for {_CORRID} for "
            f"{view.configured_name}"
        )
        yield report(view, "E228", words, given[0])
    elif control.text("data_type") not in _CORRID_TYPES:
        words = (
            f"unexpected data type for control {_CORRID} for {view.configured_name}. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )
        yield report(view, "E229", words, control.one("data_type") or control, "write data_type: TYPE_UINT64")


def _metrics(view: ModelView) -> Iterator[Finding]:
    metrics = view.document.message("model_metrics")
    for control in metrics.messages("metric_control") if metrics is not None else ():
        identifier, histogram = control.message("metric_identifier"), control.message("histogram_options")
        if identifier is None:
            yield report(view, "E233", "metric control must specify 'metric_identifier'", control)
        elif not identifier.text("family"):
            yield report(view, "E233", "metric identifier must specify non-empty 'family'", identifier)
        if histogram is None:
            yield report(view, "E233", "metric control must specify 'histogram_options'", control)
        elif not histogram.get("buckets"):
            yield report(view, "E233", "histogram options must specify non-empty 'buckets'", histogram)


def caching(view: ModelView) -> Iterator[Finding]:
    """The response cache beside what it does not work with."""
    cache = view.document.message("response_cache")
    if cache is None or not cache.flag("enable"):
        return
    if view.document.has("sequence_batching"):
        words = (
            f"Response Cache does not currently support model {view.configured_name} with sequence batching scheduler. "
            "Please disable the response cache."
        )
        yield report(view, "E220", words, cache)
    if view.decoupled:
        yield decoupled_cache(view)


def decoupled_cache(view: ModelView) -> Finding:
    """The finding that a decoupled model has a response cache."""
    words = (
        f"Response Cache does not currently support model {view.configured_name} with 'decoupled' transaction policy. "
        "Please disable the response cache."
    )
    return report(view, "E221", words, view.document.one("response_cache"))
