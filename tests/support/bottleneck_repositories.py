"""Repositories with a planted bottleneck: which step limits them, and why, is known. They are cheap: models sleep.

One ``model.py`` serves all models; the parameters of its configuration say how long it sleeps, what it locks, how large
its output is, and which models it asks. Names of models begin with the name of their case, so that several cases may
share a repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge.inference.wire import Payload, encode_request
from tritonforge.inference.wire.requests import sequence_parameters
from tritonforge.profiling.bottleneck import Kind

__all__ = ["PLANTED", "Planted", "lengthen_sleeps", "write_python_model"]

_MODEL = """\
import fcntl
import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.settings = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.outputs = [output["name"] for output in config["output"]]
        self.is_decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
        self.lock = open(self.settings["lock"], "w") if "lock" in self.settings else None

    def execute(self, requests):
        rows = sum(len(pb_utils.get_input_tensor_by_name(request, "x").as_numpy()) for request in requests)
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        time.sleep(float(self.settings.get("seconds", 0)) + rows * float(self.settings.get("row_seconds", 0)))
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_UN)
        if self.is_decoupled:
            for request in requests:
                sender = request.get_response_sender()
                for _ in range(3):
                    time.sleep(float(self.settings["response_seconds"]))
                    sender.send(self.answer(request))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return None
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "x")
        for _ in range(int(self.settings.get("calls", 0))):
            pb_utils.InferenceRequest(
                model_name=self.settings["called"], requested_output_names=["y"], inputs=[tensor]
            ).exec()
        size = int(self.settings.get("size", 0))
        array = tensor.as_numpy()
        array = np.zeros((len(array), size), np.float32) if size else array[:, :8]
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name in self.outputs])
"""


def write_python_model(
    folder: Path,
    name: str,
    *,
    seconds: float = 0.0,
    instances: int = 1,
    max_batch_size: int = 8,
    inputs: int = 1,
    more: str = "",
    group: str = "",
    **settings: object,
) -> None:
    """Write a model with the inputs x, x2, ... and the output y, of FP32 [-1].

    Args:
        folder: the repository.
        name: the model.
        seconds: what an execution sleeps.
        instances: how many.
        max_batch_size: of the configuration.
        inputs: how many.
        more: text of the configuration, such as dynamic_batching.
        group: text of the instance group, such as a rate limiter.
        settings: further parameters of the model: row_seconds, lock, size, calls, called, response_seconds.
    """
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model.py").write_text(_MODEL)
    names = ["x", *(f"x{number}" for number in range(2, inputs + 1))]
    lines = [f'input {{ name: "{tensor}" data_type: TYPE_FP32 dims: [-1] }}' for tensor in names]
    lines += [
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in {"seconds": seconds, **settings}.items()
    ]
    (folder / name / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: {max_batch_size}\n'
        + "\n".join(lines)
        + '\noutput { name: "y" data_type: TYPE_FP32 dims: [-1] }\n'
        + f"instance_group {{ count: {instances} kind: KIND_CPU {group} }}\n{more}\n"
    )


def write_ensemble(folder: Path, name: str, *steps: str, max_batch_size: int = 8) -> None:
    """Write an ensemble from x to y; a step is written as ``model: tensor, ... -> tensor``."""
    (folder / name / "1").mkdir(parents=True)
    parts = []
    for step in steps:
        model, flow = step.split(": ")
        sources, target = flow.split(" -> ")
        keys = ["x", *(f"x{number}" for number in range(2, 10))]
        maps = " ".join(
            f'input_map {{ key: "{key}" value: "{tensor}" }}'
            for key, tensor in zip(keys, sources.split(", "), strict=False)
        )
        parts.append(
            f'  step {{ model_name: "{model}" model_version: -1 {maps} output_map {{ key: "y" value: "{target}" }} }}'
        )
    (folder / name / "config.pbtxt").write_text(
        f'platform: "ensemble"\nmax_batch_size: {max_batch_size}\n'
        'input { name: "x" data_type: TYPE_FP32 dims: [-1] }\noutput { name: "y" data_type: TYPE_FP32 dims: [-1] }\n'
        "ensemble_scheduling {\n" + "\n".join(parts) + "\n}\n"
    )


def lengthen_sleeps(folder: Path, factor: int) -> None:
    """Multiply all sleeps and delays of a repository, for tests on a busy machine."""
    for path in folder.glob("*/config.pbtxt"):
        text = re.sub(
            r'(key: "(?:row_|response_)?seconds" value \{ string_value: ")([^"]+)',
            lambda match: f"{match[1]}{float(match[2]) * factor:g}",
            path.read_text(),
        )
        path.write_text(
            re.sub(r"(max_queue_delay_microseconds: )(\d+)", lambda match: f"{match[1]}{int(match[2]) * factor}", text)
        )


@dataclass(frozen=True)
class Planted:
    """A planted bottleneck.

    Attributes:
        name: the case, and the model that is requested.
        step: the step that limits it.
        kinds: the kinds that are right.
        write: writes its models into a repository; their names begin with ``name``.
        concurrency: requests at a time under which it shows.
        advice: a text that the advice or the sentence contains.
        size: elements of a request.
        distinct: how many requests differ.
        sequence_length: requests of a sequence; 0 without sequences.
        is_decoupled: whether only gRPC can ask it.
        arguments: of tritonserver.
    """

    name: str
    step: str
    kinds: tuple[Kind, ...]
    write: Callable[[Path], None]
    concurrency: int = 1
    advice: str = ""
    size: int = 8
    distinct: int = 1
    sequence_length: int = 0
    is_decoupled: bool = False
    arguments: Sequence[str] = field(default=())

    def encode(self) -> tuple[list[Payload], list[list[int]]]:
        """Return the requests, and the numbers of those that a connection sends; empty for all of them in turn."""

        def build(number: int, **options: Any) -> Payload:
            return encode_request({"x": np.full((1, self.size), number, np.float32)}, **options)

        if not self.sequence_length:
            return [build(number) for number in range(self.distinct)], []
        payloads: list[Payload] = []
        scripts = []
        for number in range(self.concurrency):
            first = len(payloads)
            for place in range(self.sequence_length):
                is_last = place == self.sequence_length - 1
                parameters = sequence_parameters(number + 1, start=place == 0, end=is_last)
                payloads.append(build(number, parameters=parameters))
            scripts.append(list(range(first, len(payloads))))
        return payloads, scripts


def _chain(name: str, **models: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return what writes an ensemble of models one after another, by their short names."""

    def write(folder: Path) -> None:
        steps = []
        tensors = ["x", *(f"t{number}" for number in range(1, len(models))), "y"]
        for number, (short, settings) in enumerate(models.items()):
            write_python_model(folder, f"{name}_{short}", **settings)
            inputs = ", ".join([tensors[number]] * settings.get("inputs", 1))
            steps.append(f"{name}_{short}: {inputs} -> {tensors[number + 1]}")
        smallest = min(settings.get("max_batch_size", 8) for settings in models.values())
        write_ensemble(folder, name, *steps, max_batch_size=smallest)

    return write


def _write_nested(folder: Path) -> None:
    for short, seconds in (("pre", 0.002), ("a", 0.003), ("b", 0.02)):
        write_python_model(folder, f"nested_{short}", seconds=seconds)
    write_ensemble(folder, "nested_inner", "nested_a: x -> t", "nested_b: t -> y")
    write_ensemble(folder, "nested", "nested_pre: x -> t", "nested_inner: t -> y")


def _write_branches(folder: Path) -> None:
    for short, seconds in (("pre", 0.002), ("a", 0.006), ("b", 0.022)):
        write_python_model(folder, f"branches_{short}", seconds=seconds)
    write_python_model(folder, "branches_join", seconds=0.002, inputs=2)
    write_ensemble(
        folder, "branches", "branches_pre: x -> t", "branches_a: t -> u", "branches_b: t -> v",
        "branches_join: u, v -> y",
    )  # fmt: skip


def _write_twice(folder: Path) -> None:
    write_python_model(folder, "twice_resize", seconds=0.012)
    write_python_model(folder, "twice_net", seconds=0.004)
    write_ensemble(folder, "twice", "twice_resize: x -> t", "twice_net: t -> u", "twice_resize: u -> y")


def _write_serial_calls(folder: Path) -> None:
    write_python_model(folder, "serial_calls_helper", seconds=0.004, instances=4)
    _chain(
        "serial_calls",
        pre={"seconds": 0.002},
        caller={"calls": 5, "called": "serial_calls_helper", "instances": 2},
    )(folder)


def _write_locked(folder: Path) -> None:
    lock = folder / ".lock"
    _chain("locked", pre={"seconds": 0.002}, net={"seconds": 0.01, "instances": 4, "lock": lock})(folder)


_SEQUENCE = """sequence_batching { max_sequence_idle_microseconds: 60000000
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } } }"""
_DELAY = "dynamic_batching { max_queue_delay_microseconds: 40000 }"
_LIMITER = 'rate_limiter { resources { name: "licence" count: 1 } }'

_LIMITED = ("--rate-limit=execution_count", "--rate-limit-resource=licence:1")

#: The cases. Sleeps are long against what a busy machine adds.
PLANTED = (
    Planted("slow_decode", "slow_decode_decode", ("compute",),
            _chain("slow_decode", decode={"seconds": 0.02}, net={"seconds": 0.004})),
    Planted("slow_last", "slow_last_post", ("compute",),
            _chain("slow_last", decode={"seconds": 0.003}, net={"seconds": 0.004}, post={"seconds": 0.02})),
    Planted("one_instance", "one_instance_net", ("queue",),
            _chain("one_instance", pre={"seconds": 0.002, "instances": 4}, net={"seconds": 0.012}),
            concurrency=6, advice="more instances (instance_group count, 1 now)"),
    Planted("imbalance", "imbalance_b", ("queue",),
            _chain("imbalance", a={"seconds": 0.012, "instances": 4}, b={"seconds": 0.008}),
            concurrency=6, advice="more instances"),
    Planted("long_delay", "long_delay_net", ("delay",),
            _chain("long_delay", pre={"seconds": 0.002}, net={"seconds": 0.003, "more": _DELAY}),
            concurrency=2, advice="max_queue_delay_microseconds"),
    Planted("no_batching", "no_batching_net", ("queue",),
            _chain("no_batching", pre={"seconds": 0.001, "instances": 2}, net={"seconds": 0.012}),
            concurrency=8, advice="dynamic_batching: without it"),
    Planted("batch_of_one", "batch_of_one", ("queue",),
            lambda folder: write_python_model(folder, "batch_of_one", seconds=0.012, max_batch_size=1),
            concurrency=8, advice="max_batch_size is 1"),
    Planted("full_batches", "full_batches_net", ("queue",),
            _chain("full_batches", pre={"seconds": 0.001, "instances": 4},
                   net={"seconds": 0.012, "max_batch_size": 8, "more": "dynamic_batching {}"}),
            concurrency=32, advice="a larger max_batch_size (8 now)"),
    Planted("slow_rows", "slow_rows_net", ("compute", "queue"),
            _chain("slow_rows", pre={"seconds": 0.001},
                   net={"seconds": 0.001, "row_seconds": 0.006, "more": "dynamic_batching {}"}), concurrency=6),
    Planted("nested", "nested_inner/nested_b", ("compute",), _write_nested),
    Planted("branches", "branches_b", ("compute",), _write_branches),
    Planted("twice", "twice_resize", ("compute",), _write_twice),
    Planted("serial_calls", "serial_calls_caller", ("calls",), _write_serial_calls, advice="async_exec"),
    Planted("serial_calls_queue", "serial_calls_queue_caller", ("calls",),
            lambda folder: (write_python_model(folder, "serial_calls_queue_helper", seconds=0.004, instances=4),
                            _chain("serial_calls_queue", pre={"seconds": 0.002, "instances": 2},
                                   caller={"calls": 3, "called": "serial_calls_queue_helper"})(folder))[1],
            concurrency=4, advice="async_exec"),
    Planted("locked", "locked_net", ("contention",), _write_locked, concurrency=4, advice="lock"),
    Planted("rate_limited", "rate_limited_net", ("rate_limiter",),
            _chain("rate_limited", pre={"seconds": 0.002, "instances": 2},
                   net={"seconds": 0.01, "instances": 4, "group": _LIMITER}),
            concurrency=4, advice="licence", arguments=_LIMITED),
    Planted("sequences", "sequences_net", ("sequence",),
            _chain("sequences", pre={"seconds": 0.02, "instances": 4},
                   net={"seconds": 0.004, "max_batch_size": 1, "more": _SEQUENCE}),
            concurrency=4, sequence_length=6, advice="slot"),
    Planted("stream", "stream_net", ("compute",),
            _chain("stream", pre={"seconds": 0.002},
                   net={"response_seconds": 0.008, "more": "model_transaction_policy { decoupled: true }"}),
            is_decoupled=True),
    Planted("cold_cache", "cold_cache_net", ("compute",),
            lambda folder: _chain("cold_cache", pre={"seconds": 0.002},
                                  net={"seconds": 0.015, "more": "response_cache { enable: true }"})(folder),
            distinct=2000, advice="the response cache answered"),
    # The python backend counts a part of its copies as computation: the step is certain, the kind is not.
    Planted("large_input", "large_input_join", ("input", "compute"),
            _chain("large_input", make={"size": 700_000}, join={"inputs": 4})),
    Planted("large_output", "large_output_expand", ("output", "compute"),
            _chain("large_output", pre={"seconds": 0.001}, expand={"size": 2_000_000, "seconds": 0.02}, cut={})),
    Planted("large_answer", "large_answer", ("transfer",),
            _chain("large_answer", pre={"seconds": 0.001}, make={"size": 2_000_000}),
            advice="smaller requests and responses"),
)  # fmt: skip
