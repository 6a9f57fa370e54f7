"""Random ensembles near good ones: seeded, so that a case is known by its number.

A good repository is a chain of one to four steps over models of all backends: with and without ``max_batch_size``,
batched and not, with sequences, warmup samples, decoupled responses, reshapes, optional inputs, and nested ensembles.
One or two things are then changed, anywhere.
"""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

from tests.support.repository_mutations import change_model
from tests.support.rule_repositories import DECOUPLED, Files
from tritonforge.validation.tree import DIRECTORY

__all__ = ["prefix", "repository", "weightless"]

TYPES: Final = ("TYPE_FP32", "TYPE_FP32", "TYPE_INT64", "TYPE_UINT8", "TYPE_STRING", "TYPE_FP16", "TYPE_BOOL")
DIMS: Final = ((4,), (4,), (-1,), (2, 3), (-1, 3), (1,), (3, 224, 224), (-1, -1), (8, -1))
#: The heads of models, and the file that the backend completes a configuration from ("" where it has none).
HEADS: Final = (
    ('platform: "onnxruntime_onnx"', "model.onnx"),
    ('backend: "onnxruntime"', "model.onnx"),
    ('platform: "tensorrt_plan"', "model.plan"),
    ('platform: "tensorflow_graphdef"', "model.graphdef"),
    ('platform: "tensorflow_savedmodel"', "model.savedmodel/"),
    ('platform: "pytorch_libtorch"', "model.pt"),
    ('backend: "python"', "model.py"),
    ('backend: "dali"', "model.dali"),
    ('backend: "openvino"', "model.xml"),
    ('backend: "identity"', ""),
)
CONTROLS: Final = (
    'control_input [{ name: "START" control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }] }, '
    '{ name: "ID" control [{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }] }]'
)


def weightless(files: Files) -> Files:
    """The repository without the models' files, from which no stand-in completes a configuration.

    Python models keep theirs, in every directory, as the real backend opens it and the stand-in does not.
    """
    own = {f"/1/{file}" for _, file in HEADS if file}
    kept = {path: text for path, text in files.items() if path[path.find("/") :] not in own}
    for path in [path for path in kept if path.count("/") == 2 and path.endswith("/")]:
        if '"python"' in str(files.get(f"{path.partition('/')[0]}/config.pbtxt", "")):
            kept[f"{path}model.py"] = "class TritonPythonModel: ..."
    return kept


class Tensor(NamedTuple):
    """A tensor between two steps: its name in the ensemble, its type, and its dims without a batch."""

    name: str
    data_type: str
    dims: tuple[int, ...]


def prefix(seed: int) -> str:
    """What the names of the models of a case begin with, so that many cases can be in one repository."""
    return f"c{seed}_"


def repository(seed: int) -> tuple[Files, dict[str, Any]]:
    """The files of case ``seed``, and the options of `validate`."""
    chance = random.Random(seed)
    configs, files = _good(chance, prefix(seed))
    files |= {f"{name}/1/": DIRECTORY for name in configs}
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2))):
        if chance.random() < 0.35:
            _change_meeting(chance, configs)
        else:
            change_model(chance, configs, files, chance.choice(sorted(configs)))
        if not configs:
            break
    files |= {f"{name}/config.pbtxt": text for name, text in configs.items()}
    begin = prefix(seed)
    files = {path if path.startswith(begin) else begin + path: text for path, text in files.items()}
    return files, {"auto_complete": chance.random() > 0.15, "gpus": 0}


def _good(chance: random.Random, begin: str) -> tuple[dict[str, str], Files]:
    """The configurations by model of a repository that loads, and its further files."""
    size = chance.choice((0, 0, 4, 8))
    configs: dict[str, str] = {}
    files: Files = {}
    first = flowing = [_tensor(chance, f"I{number}") for number in range(chance.choice((1, 1, 2)))]
    steps, made = [], 0
    for index in range(chance.randint(1, 4)):
        outputs = [_tensor(chance, f"T{index}{number}") for number in range(chance.choice((1, 1, 2)))]
        name = f"{begin}m{index}"
        configs[name] = _model(chance, name, size, flowing, outputs, files)
        steps.append(_step(name, [tensor.name for tensor in flowing], [tensor.name for tensor in outputs]))
        if chance.random() < 0.15 and index:  # the rest of the chain is an ensemble of its own
            made += 1
            inner = f"{begin}n{made}"
            configs[inner] = _ensemble(inner, size, flowing, outputs, [steps.pop()])
            steps.append(_write_inner_ensemble(inner, flowing, outputs))
        flowing = outputs
    configs[f"{begin}e"] = _ensemble(f"{begin}e", size, first, flowing, steps)
    return configs, files


def _tensor(chance: random.Random, name: str) -> Tensor:
    return Tensor(name, chance.choice(TYPES), chance.choice(DIMS))


def _dims(dims: tuple[int, ...]) -> str:
    return f"dims: [{', '.join(map(str, dims))}]"


def _write_tensors(kind: str, tensors: list[Tensor], letters: str, more: str = "") -> str:
    listed = ", ".join(
        f'{{ name: "{letter}" data_type: {tensor.data_type} {_dims(tensor.dims)} {more} }}'
        for letter, tensor in zip(letters, tensors, strict=False)
    )
    return f"{kind} [{listed}]"


def _model(
    chance: random.Random, name: str, size: int, inputs: list[Tensor], outputs: list[Tensor], files: Files
) -> str:
    head, file = chance.choice(HEADS)
    if file and chance.random() < 0.3:
        files[f"{name}/1/{file}"] = DIRECTORY if file.endswith("/") else ""
    batch = f"max_batch_size: {size * chance.choice((1, 1, 2))}" if size or chance.random() < 0.4 else ""
    more = ""
    if chance.random() < 0.15:
        scheduler = chance.choice(("oldest { max_candidate_sequences: 4 }", "direct {}", ""))
        more += f"sequence_batching {{ {CONTROLS} {scheduler} }} "
    elif size and chance.random() < 0.2:
        more += f"dynamic_batching {{ preferred_batch_size: [{size}] max_queue_delay_microseconds: 100 }} "
    if chance.random() < 0.15:
        samples = " ".join(
            f'inputs {{ key: "{letter}" value {{ data_type: {tensor.data_type} '
            f"{_dims(tuple(abs(dim) for dim in tensor.dims))} {chance.choice(('zero_data', 'random_data'))}: true }} }}"
            for letter, tensor in zip("AB", inputs, strict=False)
        )
        more += f'model_warmup [{{ name: "w" batch_size: 1 {samples} }}] '
    if chance.random() < 0.07:
        more += DECOUPLED
    if chance.random() < 0.1:
        more += ' instance_group [{ count: 2 kind: KIND_CPU name: "g" }]'
    declared = f"{_write_tensors('input', inputs, 'AB')} {_write_tensors('output', outputs, 'XY')}"
    if chance.random() < 0.08:  # one more input, which no step has to map
        declared += f' input [{{ name: "Z" data_type: TYPE_INT32 {_dims((1,))} optional: true }}]'
    return f'name: "{name}" {head} {batch} {declared} {more}'


def _step(model: str, inputs: list[str], outputs: list[str]) -> str:
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in zip("AB", inputs, strict=False)]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in zip("XY", outputs, strict=False)]
    return f'{{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'


def _write_inner_ensemble(model: str, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    maps = [f'input_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in inputs]
    maps += [f'output_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in outputs]
    return f'{{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'


def _ensemble(name: str, size: int, inputs: list[Tensor], outputs: list[Tensor], steps: list[str]) -> str:
    tensors = [
        f"{kind} [{', '.join(_one(tensor) for tensor in listed)}]"
        for kind, listed in (("input", inputs), ("output", outputs))
    ]
    batch = f"max_batch_size: {size}" if size else ""
    scheduling = f"ensemble_scheduling {{ step [{', '.join(steps)}] }}"
    return f'name: "{name}" platform: "ensemble" {batch} {" ".join(tensors)} {scheduling}'


def _one(tensor: Tensor) -> str:
    return f'{{ name: "{tensor.name}" data_type: {tensor.data_type} {_dims(tensor.dims)} }}'


def _change_meeting(chance: random.Random, configs: dict[str, str]) -> None:
    """Change what two models have to agree on: a type, dims, a batch size, a name in a map."""
    name = chance.choice(sorted(configs))
    text = configs[name]
    places = {
        "type": [word for word in text.split() if word.startswith("TYPE_")],
        "dims": [f"dims: [{part.split(']')[0]}]" for part in text.split("dims: [")[1:]],
        "size": [f"max_batch_size: {part.split()[0]}" for part in text.split("max_batch_size: ")[1:]],
        "key": [f'key: "{part.split(chr(34))[0]}"' for part in text.split('key: "')[1:]],
        "value": [f'value: "{part.split(chr(34))[0]}"' for part in text.split('value: "')[1:]],
    }
    news = {
        "type": chance.choice(TYPES),
        "dims": _dims(chance.choice(DIMS) + chance.choice(((), (), (-1,)))),
        "size": f"max_batch_size: {chance.choice((0, 1, 2, 4, 16))}",
        "key": f'key: "{chance.choice("ABXYZ")}"',
        "value": f'value: "{chance.choice(("I0", "I1", "T00", "T10", "T20", "T01", "N"))}"',
    }
    kind = chance.choice(sorted(kind for kind, place in places.items() if place) or ["type"])
    if kind == "size" and not places[kind]:
        return
    if not places[kind]:
        configs[name] = f"{text} max_batch_size: {chance.choice((1, 4))}"
        return
    old = chance.choice(places[kind])
    at = chance.choice([at for at in range(len(text)) if text.startswith(old, at)])
    new = "" if kind == "size" and chance.random() < 0.4 else news[kind]
    configs[name] = text[:at] + new + text[at + len(old) :]
