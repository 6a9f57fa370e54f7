"""Statistics and configurations of models for tests: written in milliseconds and as a data flow."""

from typing import Any

from google.protobuf import text_format

from tritonforge.profiling.statistics import BatchStatistics, Duration, ModelStatistics, ServerStatistics
from tritonforge.triton.schema import new_model_config


def parse_config(text: str) -> Any:
    """Return a ModelConfig from its text."""
    return text_format.Parse(text, new_model_config())


def build_ensemble(*steps: str) -> Any:
    """Return an ensemble whose steps are written as ``model: input -> output``; ``+`` joins tensors of inputs."""
    parts = []
    for step in steps:
        model, flow = step.split(": ")
        sources, target = flow.split(" -> ")
        first, *others = sources.split("+")
        inputs = f'input_map {{ key: "IN" value: "{first}" }}' + "".join(
            f'input_map {{ key: "IN_{tensor}" value: "{tensor}" }}' for tensor in others
        )
        parts.append(f'step {{ model_name: "{model}" {inputs} output_map {{ key: "OUT" value: "{target}" }} }}')
    outputs = 'output { name: "OUT" data_type: TYPE_FP32 dims: 1 }'
    return parse_config(f'platform: "ensemble" {outputs} ensemble_scheduling {{ {" ".join(parts)} }}')


def build_times(
    requests: int = 100,
    *,
    queue: float = 0.0,
    infer: float = 1.0,
    copy_in: float = 0.0,
    copy_out: float = 0.0,
    batch: int = 1,
    total: float | None = None,
) -> dict[str, Any]:
    """Return the statistics of a model whose requests took these milliseconds."""

    def times(value: float, count: int = requests) -> Duration:
        return Duration(count, round(value * count * 1e6))

    runs = requests // batch
    return {
        "success": times(queue + infer + copy_in + copy_out if total is None else total),
        "queue": times(queue),
        "compute_input": times(copy_in),
        "compute_infer": times(infer),
        "compute_output": times(copy_out),
        "batches": (BatchStatistics(batch, times(copy_in, runs), times(infer, runs), times(copy_out, runs)),),
    }


def build_statistics(**models: dict[str, Any]) -> ServerStatistics:
    """Return the statistics of models, with what `build_times` returns for them."""
    return {(name, "1"): ModelStatistics(name, "1", **values) for name, values in models.items()}


PLAIN = parse_config('backend: "python" instance_group { count: 1 }')
