"""Random models with warmup and sequences, and random chains of steps that their backends complete; seeded.

The stand-ins of the server complete nothing. So its verdict is compared with ours where we assume the same, and with
what we say otherwise only in so far that nothing is refused then that was not refused before.
"""

from __future__ import annotations

import random
from typing import Any, Final

from tests.support.repository_mutations import CONTROLS, SAMPLES, change_layout, change_message, change_text
from tests.support.rule_repositories import COMPLETING, IO, PLAN, PYTHON, SOURCE, Files, step
from tritonforge.validation.tree import DIRECTORY

__all__ = ["repository"]

_TENSORS: Final = (
    'input [{ name: "A" data_type: TYPE_FP32 dims: [4] }, '
    '{ name: "C" data_type: TYPE_INT32 dims: [-1, 2] optional: true }, '
    '{ name: "S" data_type: TYPE_STRING dims: [2] %s }] output [{ name: "B" data_type: TYPE_FP32 dims: [4] }]'
)
_WARMUP: Final = (
    'model_warmup [{ name: "w" batch_size: 1 inputs { key: "A" value { data_type: TYPE_FP32 dims: [4] %s } } '
    'inputs { key: "C" value { data_type: TYPE_INT32 dims: [3, 2] random_data: true } } '
    'inputs { key: "S" value { data_type: TYPE_STRING dims: [2] zero_data: true } } }, '
    '{ name: "v" batch_size: 2 count: 2 inputs { key: "A" value { data_type: TYPE_FP32 dims: [4] input_data_file: "f" '
    '} } inputs { key: "S" value { data_type: TYPE_STRING dims: [2] zero_data: true } } '
    'inputs { key: "X" value { data_type: TYPE_FP32 dims: [1] zero_data: true } } }]'
)
_STATES: Final = (
    'state [{ input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [2] initial_state [{ name: "z" data_type: '
    'TYPE_FP32 dims: [2] zero_data: true }] }, { input_name: "j" output_name: "p" data_type: TYPE_INT64 dims: [-1] '
    'initial_state [{ name: "y" data_type: TYPE_INT64 dims: [1] data_file: "h" }] }]'
)
_FILE: Final[Files] = {"m/warmup/f": "x" * 16}

#: Good models "m": the configuration, and further files.
_MODELS: Final[tuple[tuple[str, Files], ...]] = (
    (
        (
            f'platform: "onnxruntime_onnx" max_batch_size: 8 {_TENSORS % ""} {_WARMUP % "zero_data: true"} '
            f"sequence_batching {{ direct {{ minimum_slot_utilization: 0.5 }} {CONTROLS} {_STATES} }}"
        ),
        {**_FILE, "m/initial_state/h": "x" * 8},
    ),
    (
        (
            f"{PYTHON} max_batch_size: 4 {_TENSORS % ''} {_WARMUP % 'random_data: true'} sequence_batching {{ oldest "
            f"{{ max_candidate_sequences: 4 preferred_batch_size: [2] }} {CONTROLS} iterative_sequence: true }}"
        ),
        {**_FILE, "m/1/model.py": SOURCE},
    ),
    (
        f"{PLAN} {_TENSORS % 'is_shape_tensor: false'} {_WARMUP % 'zero_data: true'} sequence_batching {{}}",
        {**_FILE, "m/1/model.plan": ""},
    ),
    (
        (
            f'platform: "tensorflow_savedmodel" max_batch_size: 8 {_TENSORS % "allow_ragged_batch: true"} '
            f"{_WARMUP % 'zero_data: true'} dynamic_batching {{}}"
        ),
        {**_FILE, "m/1/model.savedmodel/saved_model.pb": ""},
    ),
    (
        (
            f'backend: "identity" runtime: "libtriton_identity.so" max_batch_size: 4 {IO} {SAMPLES} instance_group [{{ '
            'name: "g" kind: KIND_CPU count: 2 }, { kind: KIND_AUTO gpus: [0] }] model_transaction_policy { decoupled: '
            "true }"
        ),
        {**_FILE, "m/2/": DIRECTORY},
    ),
    (
        (
            'backend: "identity" max_batch_size: 4 input [{ name: "A" data_type: TYPE_FP32 dims: [2, -1] '
            'reshape { shape: [2, 1, -1] } }] output [{ name: "B" data_type: TYPE_FP32 dims: [4] '
            'reshape { shape: [2, 2] } }] model_warmup [{ batch_size: 1 inputs { key: "A" value { '
            "data_type: TYPE_FP32 dims: [2, 3] zero_data: true } } }]"
        ),
        {},
    ),
)
_RUNTIMES: Final = (
    "../own/lib.so", "own/../../own/lib.so", "model.py", "../python/libtriton_python.so", "libtriton_python.so",
    "../10/x",
)  # fmt: skip
_COMPLETING_MODEL: Final = "class TritonPythonModel:\n    auto_complete_config = print\n"


def repository(seed: int) -> tuple[Files, dict[str, Any]]:
    """The files of case ``seed``, and the options of `validate`."""
    chance = random.Random(seed)
    if chance.random() < 0.45:
        configs, files = _chain(chance)
    else:
        text, more = chance.choice(_MODELS)
        configs, files = {"m": text}, dict(more)
    files.update({f"{name}/1/": DIRECTORY for name in configs})
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        if configs:
            _change(chance, configs, files, chance.choice(sorted(configs)))
    files.update({f"{name}/config.pbtxt": text for name, text in configs.items()})
    return files, {"auto_complete": chance.random() > 0.15, "gpus": 0}


def _chain(chance: random.Random) -> tuple[dict[str, str], Files]:
    """An ensemble "e" of two or three steps, most of which leave max_batch_size to their backend."""
    dims = chance.choice(("[4]", "[4]", "[-1]", "[2, 3, 4]", "[-1, 3, 4]"))
    data_type = chance.choice(("TYPE_FP32", "TYPE_UINT8", "TYPE_STRING"))
    batching = chance.choice(("", "max_batch_size: 8", "max_batch_size: 4"))
    names = "xyz"[: chance.choice((2, 3))]
    configs, files, steps = {}, dict[str, Any](), []
    for index, name in enumerate(names):
        head, file = COMPLETING[chance.choice(sorted(COMPLETING))]
        size = chance.choice(("", "", batching or "max_batch_size: 0", batching))
        more = chance.choice(("", ', { name: "C" data_type: TYPE_INT32 dims: [1] optional: true }'))
        configs[name] = (
            f'{head} {size} input [{{ name: "A" data_type: {data_type} dims: {dims} }}{more}] '
            f'output [{{ name: "B" data_type: {data_type} dims: {dims} }}]'
        )
        files[f"{name}/{file}"] = _COMPLETING_MODEL if head == PYTHON else ""
        steps.append(step(name, {"A": "ITU"[index]}, {"B": "TU"[index] if index < len(names) - 1 else "O"}))
    configs["e"] = (
        f'platform: "ensemble" {batching} input [{{ name: "I" data_type: {data_type} dims: {dims} }}] '
        f'output [{{ name: "O" data_type: {data_type} dims: {dims} }}] '
        f"ensemble_scheduling {{ step [{', '.join(steps)}] }}"
    )
    return configs, files


def _change(chance: random.Random, configs: dict[str, str], files: Files, name: str) -> None:
    kind = chance.random()
    if kind < 0.75:
        configs[name] = change_message(chance, configs[name])
    elif kind < 0.83:
        configs[name] = change_text(chance, configs[name])
    elif kind < 0.88:
        configs[name] += f' name: "{chance.choice("femx")}"'
    elif kind < 0.93:
        configs[name] += f' runtime: "{chance.choice(_RUNTIMES)}"'
        files[f"{name}/own/lib.so"] = files[f"{name}/10/x"] = ""
    else:
        change_layout(chance, configs, files, name)
