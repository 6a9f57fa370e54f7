"""Backend, batching and schedulers of a model: what the server checks when it reads the configuration. No I/O.

Source: model_config_utils.cc ValidateModelConfig; the findings come in the order of its checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Message
from tritonforge.triton.backends import BACKENDS, list_platforms
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.sequences import SEQUENCE_RULES, check_sequences

#: Microseconds beyond which a delay is taken for a mistake: NVIDIA's examples delay by 100 to 50,000.
_LONG_DELAY: Final = 1_000_000
_MODEL: Final = "model_config_utils.cc ValidateModelConfig"

# fmt: off
E210 = define_error("E210", "unexpected platform type '<p>' for <m>",
    source=_MODEL,
    why="Without a backend the platform has to be one of Triton's.",
    bad='platform: "libtorch"', good='platform: "pytorch_libtorch"')
E211 = define_error("E211", "Ensemble model '<m>' must have platform type 'ensemble' and empty backend type",
    source=_MODEL,
    why="An ensemble is run by Triton itself.",
    bad='platform: "ensemble" backend: "python"', good='platform: "ensemble"')
E212 = define_error("E212", "unexpected 'platform' and 'backend' pair, got:<p>, <b>",
    source=_MODEL,
    why="A platform belongs to one backend; backend tensorflow needs one of its two platforms.",
    bad='backend: "tensorflow"', good='backend: "tensorflow" platform: "tensorflow_savedmodel"')
E213 = define_error("E213", "'max_batch_size' must be non-negative value for <m>",
    source=_MODEL,
    why="0 means that the model does not batch; there is no automatic value.",
    bad="max_batch_size: -1", good="max_batch_size: 8")
E214 = define_error("E214", "dynamic batching preferred size must be positive for <m>",
    source=_MODEL,
    why="A batch has at least one request.",
    bad="dynamic_batching { preferred_batch_size: [0] }", good="dynamic_batching { preferred_batch_size: [4] }")
E215 = define_error("E215", "dynamic batching preferred size must be <= max batch size for <m>",
    source=_MODEL,
    why="The batcher never makes a batch larger than max_batch_size (0 when it is left out).",
    bad="max_batch_size: 4 dynamic_batching { preferred_batch_size: [8] }",
    good="max_batch_size: 8 dynamic_batching { preferred_batch_size: [8] }")
E216 = define_error("E216", "default priority level must be in range [1, <n>] for <m>",
    source=_MODEL,
    why="With priority levels, requests without one get the default.",
    bad="dynamic_batching { priority_levels: 2 }",
    good="dynamic_batching { priority_levels: 2 default_priority_level: 1 }")
E217 = define_error("E217", "priority queue policy must have priority level in range [1, <n>] for <m>",
    source=_MODEL,
    why="A policy belongs to one of the levels.",
    bad="priority_levels: 2 priority_queue_policy { key: 3 value {} }",
    good="priority_levels: 2 priority_queue_policy { key: 2 value {} }")
E218 = define_error("E218", "Only one priority level is allowed when 'preserve_ordering' is true for <m>",
    source=_MODEL,
    why="Priorities reorder requests.",
    bad="preserve_ordering: true priority_levels: 2", good="preserve_ordering: true")
E219 = define_error("E219", "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for "
                            "<m>",
    source=_MODEL,
    why="A delayed request would be answered out of order.",
    bad="preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 }",
    good="preserve_ordering: true default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 5 }")
E220 = define_error("E220", "Response Cache does not currently support model <m> with sequence batching scheduler. "
                            "Please disable the response cache.",
    source=_MODEL,
    why="A response to a sequence depends on what came before.",
    bad="sequence_batching {} response_cache { enable: true }", good="sequence_batching {}")
E221 = define_error("E221", "Response Cache does not currently support model <m> with 'decoupled' transaction "
                            "policy. Please disable the response cache.",
    source=_MODEL,
    why="A decoupled model gives any number of responses.",
    bad="model_transaction_policy { decoupled: true } response_cache { enable: true }",
    good="model_transaction_policy { decoupled: true }")
E232 = define_error("E232", "ensemble scheduling must be set for ensemble <m> whose platform is ensemble",
    source=_MODEL,
    why="An ensemble is its steps.",
    bad='platform: "ensemble"', good='platform: "ensemble" ensemble_scheduling { step [...] }')
E233 = define_error("E233", "metric control must specify 'metric_identifier'",
    source=f"{_MODEL} (24.11 and later)",
    why="A metric that is configured has a family and buckets.",
    bad="model_metrics { metric_control [{}] }",
    good='model_metrics { metric_control [{ metric_identifier { family: "f" } histogram_options { buckets: [1] } }] }')
E290 = define_error("E290", "unable to find 'libtritonrepoagent_<a>.so' for repo agent '<a>', searched: "
                            "/opt/tritonserver/repoagents",
    source="repo_agent.cc TritonRepoAgentManager::CreateAgent",
    why="The agents of the images are few; checksum is one.",
    bad='model_repository_agents { agents [{ name: "nosuch" }] }',
    good='model_repository_agents { agents [{ name: "checksum" }] }')
E291 = define_error("E291", "model_repository_agents without agents: the server's process dies",
    source="model_repository_manager.cc CreateAgentModelListWithLoadAction (Back() of an empty list)",
    why="Triton asks for the last agent of an empty list.",
    bad="model_repository_agents {}", good="")
W309 = define_advice("W309", "dynamic batching of a model that does not batch",
    source="backend_model.cc: no batches are made with max_batch_size 0",
    why="With max_batch_size 0 (also when it is left out) or 1 nothing is batched.",
    bad="dynamic_batching {} without max_batch_size", good="max_batch_size: 8 dynamic_batching {}")
W305 = define_advice("W305", "a preferred batch size that is never reached",
    source="sequence_batch_scheduler.cc OldestSequenceBatch, scheduler_utils.cc PriorityQueue",
    why="The batcher never holds that many requests at once, so it always waits for the whole delay.",
    bad="oldest { max_candidate_sequences: 4 preferred_batch_size: [8] }",
    good="oldest { max_candidate_sequences: 8 preferred_batch_size: [8] }")
W348 = define_advice("W348", "the batcher waits more than a second for a batch: the delay is in microseconds",
    source="model_config.proto ModelDynamicBatching.max_queue_delay_microseconds",
    why="A request that is not joined by others waits for the whole delay: 5000000 is five seconds.",
    bad="max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 5000000 }",
    good="max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 5000 }")
W345 = define_advice("W345", "requests that are not joined by others are rejected: they time out before the batcher "
                             "stops waiting",
    source="dynamic_batch_scheduler.cc GetDynamicBatch, scheduler_utils.cc PriorityQueue (REJECT)",
    why="The batcher holds a request up to max_queue_delay_microseconds for a preferred batch, and the queue "
        "rejects it after default_timeout_microseconds: the answer is 503, Request timeout expired.",
    bad="max_queue_delay_microseconds: 1000 default_queue_policy { default_timeout_microseconds: 100 }",
    good="max_queue_delay_microseconds: 100 default_queue_policy { default_timeout_microseconds: 1000 }")
# fmt: on


@register_check(
    Stage.CONFIG, E210, E211, E212, E213, E214, E215, E216, E217, E218, E219, E220, E221, E232, E233, E290, E291,
    *SEQUENCE_RULES,
)  # fmt: skip
def check_scheduling(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check backend, batching and schedulers."""
    yield from _check_agents(context, model)
    yield from _check_backend(context, model)
    size = model.document.one("max_batch_size")
    if model.max_batch_size < 0:
        message = f"'max_batch_size' must be non-negative value for {model.configured_name}"
        yield E213.report_in(model, message, size, "write 0 for a model that does not batch")
    dynamic = model.document.message("dynamic_batching")
    if dynamic is not None:
        yield from _check_dynamic_batching(model, dynamic)
    sequence = model.document.message("sequence_batching")
    if sequence is not None:
        yield from check_sequences(model, sequence)
    if model.is_ensemble and not model.document.has("ensemble_scheduling"):
        message = f"ensemble scheduling must be set for ensemble {model.configured_name} whose platform is ensemble"
        yield E232.report_in(model, message, model.document.one("platform"), "write ensemble_scheduling { step [...] }")
    yield from _check_metrics(model)
    yield from _check_response_cache(model)


def _check_agents(context: Context, model: ModelView) -> Iterator[Finding]:
    agents = model.document.message("model_repository_agents")
    if agents is None:
        return
    if not agents.messages("agents"):
        message = "model_repository_agents names no agents"
        yield E291.report_in(model, message, agents, "The server's process dies; leave the field out.")
    for agent in agents.messages("agents"):
        name = agent.text("name")
        if name == "checksum":
            continue  # comes with NVIDIA's images (server/build.py --repoagent=checksum)
        message = (
            f"unable to find 'libtritonrepoagent_{name}.so' for repo agent '{name}', "
            "searched: /opt/tritonserver/repoagents"
        )
        yield E290.report_in(model, message, agent.one("name") or agent)


def _check_backend(context: Context, model: ModelView) -> Iterator[Finding]:
    platform, backend = model.platform, model.backend
    node = model.document.one("platform") or model.document.one("backend")
    if not backend:
        given = model.document.text("platform") or model.document.text("default_model_filename")
        if not model.is_ensemble and given:
            known = [name for row in BACKENDS for name in list_platforms(row, context.release)]
            advice = f"the platforms are {', '.join(known)}, ensemble; for any other write backend"
            yield E210.report_in(
                model, f"unexpected platform type '{platform}' for {model.configured_name}", node, advice
            )
    elif model.is_ensemble:
        message = f"Ensemble model '{model.configured_name}' must have platform type 'ensemble' and empty backend type"
        yield E211.report_in(model, message, model.document.one("backend"), "leave backend out")
    elif (names := list_platforms(backend, context.release)) and platform not in names:
        message = f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}"
        advice = "with this backend, platform is " + " or ".join(f'"{name}"' for name in names)
        yield E212.report_in(model, message, node, advice)


def _check_dynamic_batching(model: ModelView, dynamic: Message) -> Iterator[Finding]:
    name = model.configured_name
    yield from _check_preferred_sizes(model, dynamic, (E214, E215), "dynamic batching preferred size", "max batch size")
    levels, policies = dynamic.integer("priority_levels"), dynamic.messages("priority_queue_policy")
    if levels:
        default = dynamic.integer("default_priority_level")
        if not 1 <= default <= levels:
            message = f"default priority level must be in range [1, {levels}] for {name}"
            node = dynamic.one("default_priority_level") or dynamic.one("priority_levels")
            yield E216.report_in(model, message, node, f"write default_priority_level: {levels}")
        for entry in policies:
            if not 1 <= entry.integer("key") <= levels:
                message = f"priority queue policy must have priority level in range [1, {levels}] for {name}"
                yield E217.report_in(model, message, entry.one("key") or entry)
    if dynamic.flag("preserve_ordering"):
        if levels > 1:
            message = f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
            yield E218.report_in(model, message, dynamic.one("priority_levels"))
        default_policy = dynamic.message("default_queue_policy")
        for policy in [default_policy, *(entry.message("value") for entry in policies)]:
            delays = policy is not None and policy.text("timeout_action") == "DELAY"
            if policy is not None and delays and policy.integer("default_timeout_microseconds"):
                message = (
                    f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {name}"
                )
                yield E219.report_in(model, message, policy.one("timeout_action"), "write timeout_action: REJECT")


def _check_preferred_sizes(
    model: ModelView, batching: Message, rules: tuple[Rule, Rule], what: str, bound: str
) -> Iterator[Finding]:
    """Check preferred batch sizes: positive, and at most max_batch_size as the file has it (no backend has run yet)."""
    for node in batching.get("preferred_batch_size"):
        size = node.value
        assert isinstance(size, int)
        if size <= 0:
            yield rules[0].report_in(model, f"{what} must be positive for {model.configured_name}", node)
        elif size > model.max_batch_size:
            advice = f"max_batch_size is {model.max_batch_size}"
            if not model.document.has("max_batch_size"):
                advice = "max_batch_size is not given, which means 0"
            yield rules[1].report_in(model, f"{what} must be <= {bound} for {model.configured_name}", node, advice)


def _check_metrics(model: ModelView) -> Iterator[Finding]:
    metrics = model.document.message("model_metrics")
    for control in metrics.messages("metric_control") if metrics is not None else ():
        identifier, histogram = control.message("metric_identifier"), control.message("histogram_options")
        if identifier is None:
            yield E233.report_in(model, "metric control must specify 'metric_identifier'", control)
        elif not identifier.text("family"):
            yield E233.report_in(model, "metric identifier must specify non-empty 'family'", identifier)
        if histogram is None:
            yield E233.report_in(model, "metric control must specify 'histogram_options'", control)
        elif not histogram.get("buckets"):
            yield E233.report_in(model, "histogram options must specify non-empty 'buckets'", histogram)


def _check_response_cache(model: ModelView) -> Iterator[Finding]:
    """Check the response cache, which sequences and decoupled models exclude."""
    cache = model.document.message("response_cache")
    if cache is None or not cache.flag("enable"):
        return
    if model.document.has("sequence_batching"):
        message = (
            f"Response Cache does not currently support model {model.configured_name} with sequence batching "
            "scheduler. Please disable the response cache."
        )
        yield E220.report_in(model, message, cache)
    if model.decoupled:
        message = (
            f"Response Cache does not currently support model {model.configured_name} with 'decoupled' transaction "
            "policy. Please disable the response cache."
        )
        yield E221.report_in(model, message, model.document.one("response_cache"))


@register_check(Stage.LOADED, W305, W309, W345, W348)
def check_batching(context: Context) -> Iterator[Finding]:
    """Find batching that never happens, and requests that time out before it does."""
    for model in context.models.values():
        if model.parsed:
            yield from _check_batching(model)
            yield from _check_timeouts(model)


def _check_batching(model: ModelView) -> Iterator[Finding]:
    path, document = model.config_path, model.document
    dynamic, sequence = document.message("dynamic_batching"), document.message("sequence_batching")
    sized = document.has("max_batch_size") or not model.completes
    if dynamic is not None and sized and 0 <= model.max_batch_size <= 1:
        message = f"dynamic_batching does nothing: max_batch_size is {model.max_batch_size}"
        yield W309.report(message, path=path, node=dynamic, help="write for example max_batch_size: 8, or leave it out")
    policy = dynamic.message("default_queue_policy") if dynamic is not None else None
    queue = policy.integer("max_queue_size") if policy is not None else 0
    for node in dynamic.get("preferred_batch_size") if dynamic is not None and queue else ():
        if isinstance(node.value, int) and queue < node.value <= model.max_batch_size and dynamic is not None:
            message = (
                f"a batch of {node.value} is reached only by requests of several: the queue holds {queue} requests"
            )
            yield W305.report(message, path=path, node=node, help=f"raise max_queue_size to {node.value}")
    oldest = sequence.message("oldest") if sequence is not None else None
    candidates = oldest.integer("max_candidate_sequences") if oldest is not None else 0
    for node in oldest.get("preferred_batch_size") if oldest is not None and candidates else ():
        if isinstance(node.value, int) and candidates < node.value <= model.max_batch_size:
            message = f"a batch of {node.value} is never reached: there are at most {candidates} candidate sequences"
            yield W305.report(message, path=path, node=node, help=f"raise max_candidate_sequences to {node.value}")


def _check_timeouts(model: ModelView) -> Iterator[Finding]:
    """Find delays that are too long, and queue policies that reject before the batcher stops waiting for a batch."""
    dynamic = model.document.message("dynamic_batching")
    delay = dynamic.integer("max_queue_delay_microseconds") if dynamic is not None else 0
    if dynamic is None or not delay or model.max_batch_size <= 1:
        return
    if any(isinstance(node.value, int) and node.value <= 1 for node in dynamic.get("preferred_batch_size")):
        return
    if delay > _LONG_DELAY:
        message = f"the batcher holds a request that is not joined by others for {delay / 1e6:g} seconds"
        node = dynamic.one("max_queue_delay_microseconds")
        yield W348.report(message, path=model.config_path, node=node, help="the unit is microseconds")
    policies = [dynamic.message("default_queue_policy")]
    policies += [entry.message("value") for entry in dynamic.messages("priority_queue_policy")]
    for policy in policies:
        timeout = policy.integer("default_timeout_microseconds") if policy is not None else 0
        if policy is None or not 0 < timeout <= delay or policy.text("timeout_action", "REJECT") not in ("REJECT", "0"):
            continue
        message = (
            f"a request that is not joined by others is rejected after {timeout} microseconds: the batcher would hold "
            f"it for {delay}"
        )
        advice = "raise default_timeout_microseconds above max_queue_delay_microseconds, or lower the delay"
        node = policy.one("default_timeout_microseconds")
        yield W345.report(message, path=model.config_path, node=node, help=advice)
