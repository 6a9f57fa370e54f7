"""Random repositories near good ones: seeded, so that a case is known by its number."""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import text_format

from tests.support.rule_repositories import DECOUPLED, IO, Files, e, step
from tritonforge.triton.schema import new_model_config
from tritonforge.validation.tree import DIRECTORY

CONTROLS = (
    'control_input [{ name: "S" control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }] },'
    '{ name: "E" control [{ kind: CONTROL_SEQUENCE_END fp32_false_true: [0, 1] }] },'
    '{ name: "R" control [{ kind: CONTROL_SEQUENCE_READY bool_false_true: [false, true] }] },'
    '{ name: "C" control [{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }] }]'
)
BATCHING = (
    "dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 10 priority_levels: 2 "
    "default_priority_level: 1 default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 5 } }"
)
BATCH_IO = (
    'batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "T" data_type: TYPE_FP32 source_input: "A" }] '
    'batch_output [{ target_name: "B" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "A" }]'
)
SAMPLES = (
    'model_warmup [{ name: "w" batch_size: 1 inputs { key: "A" value { data_type: TYPE_FP32 dims: [4] '
    "zero_data: true } } },"
    '{ name: "v" batch_size: 1 inputs { key: "A" value { data_type: TYPE_FP32 dims: [4] input_data_file: "f" } } }]'
)


def config(files: Files, name: str) -> str:
    """The configuration of a model among files."""
    return str(files[f"{name}/config.pbtxt"])


#: Good repositories: the configurations by model, and further files.
GOOD: tuple[tuple[dict[str, str], Files], ...] = (
    (
        {
            "m": f'name: "m" platform: "onnxruntime_onnx" max_batch_size: 8 {IO} {BATCHING} {BATCH_IO} '
            "instance_group [{ count: 2 kind: KIND_CPU }] version_policy { latest { num_versions: 1 } } "
            'parameters { key: "a" value { string_value: "b" } }'
        },
        {},
    ),
    (
        {
            "m": 'name: "m" backend: "identity" max_batch_size: 4 input [{ name: "A" '
            "data_type: TYPE_FP32 dims: [2, -1] "
            'reshape { shape: [2, 1, -1] } }, { name: "C" data_type: TYPE_INT32 dims: [3, 4, 4] format: FORMAT_NCHW '
            'optional: true }] output [{ name: "B" data_type: TYPE_FP32 dims: [4, 1] reshape { shape: [2, 2] } '
            'label_filename: "l.txt" }] model_transaction_policy { decoupled: false } response_cache { enable: true } '
            "optimization { priority: PRIORITY_MAX input_pinned_memory { enable: true } }"
        },
        {"m/l.txt": "a\nb\n"},
    ),
    (
        {
            "m": f'name: "m" platform: "tensorrt_plan" max_batch_size: 8 {IO} sequence_batching {{ oldest {{ '
            f"max_candidate_sequences: 4 preferred_batch_size: [2, 4] }} max_sequence_idle_microseconds: 5 {CONTROLS} "
            'state [{ input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [2] initial_state [{ name: "z" '
            "data_type: TYPE_FP32 dims: [2] zero_data: true }] }] } "
            'instance_group [{ kind: KIND_CPU profile: ["0", "1"] }]'
        },
        {},
    ),
    (
        {
            "m": f'name: "m" platform: "tensorflow_graphdef" max_batch_size: 0 {IO} {SAMPLES} '
            'cc_model_filenames { key: "7.0" value: "x" } metric_tags { key: "a" value: "b" } '
            "version_policy { specific { versions: [1, 2] } }"
        },
        {"m/warmup/f": "x" * 16, "m/2/": DIRECTORY},
    ),
    (
        {
            "x": f'name: "x" platform: "onnxruntime_onnx" max_batch_size: 8 {IO}',
            "y": 'backend: "python" max_batch_size: 8 input [{ name: "A" data_type: TYPE_FP32 dims: [4] }, '
            '{ name: "C" data_type: TYPE_FP32 dims: [-1] optional: true }] output [{ name: "B" data_type: TYPE_FP32 '
            'dims: [4] }, { name: "D" data_type: TYPE_FP32 dims: [4] }]',
            "e": config(
                e(
                    step("x", {"A": "I"}, {"B": "T"}),
                    step("y", {"A": "T", "C": "J"}, {"B": "O", "D": "U"}),
                    step("x", {"A": "U"}, {"B": "P"}),
                    inputs="IJ",
                    outputs="OP",
                    config="max_batch_size: 8",
                ),
                "e",
            ),
        },
        {},
    ),
    (
        {
            "x": f'name: "x" platform: "onnxruntime_onnx" {IO}',
            "z": f'name: "z" backend: "dali" max_batch_size: 4 {IO} {DECOUPLED}',
            "f": config(e(name="f"), "f"),
            "e": config(e(step("f", {"I": "I"}, {"O": "T"}), step("x", {"A": "T"}, {"B": "O"})), "e"),
            "g": config(
                e(
                    step("z", {"A": "I"}, {"B": "T"}),
                    step("f", {"I": "T"}, {"O": "O"}),
                    name="g",
                    config="max_batch_size: 4",
                ),
                "g",
            ),
        },
        {},
    ),
)

#: Fields that are newer than the local server (2.51), and one whose mutations only crash it.
LEFT_OUT = {"model_metrics", "max_inflight_requests", "model_repository_agents"}
TEXTS = (
    "", "m", "x", "y", "e", "f", "z", "A", "B", "C", "D", "I", "J", "O", "P", "T", "U", "S", "l.txt", "ensemble",
    "onnxruntime_onnx", "tensorrt_plan", "tensorflow_savedmodel", "pytorch_libtorch", "python", "dali", "identity",
    "onnxruntime", "tensorflow", "0", "-1", "1x", "nosuch", "model.onnx", "model.plan", "model.graphdef",
    "model.savedmodel", "model.py", "libtriton_identity.so", "../x",
)  # fmt: skip
INTEGERS = (0, 1, 2, 3, 4, 8, 16, -1, -2, 5, 100)
WORDS = (
    "{", "}", "[", "]", ",", ":", '"', "0x1", "08", "1.5", "true", "-", ";", "#", "<", ">", "TYPE_FP16", "é", "\x01",
    "'q'", "name", "dims:[1]", "max_batch_size:1", "input{", "${x}",
)  # fmt: skip
DIRECTORIES = ("v1", "01", "0", "1a", "-3", " 7", "+2", "warmup", "configs", "7", "x", "1e3", "0x1", "2", "10", "a")
_WORD = re.compile(r'"[^"]*"|[A-Za-z_]\w*|-?\d+|\S')


def repository(seed: int) -> tuple[Files, dict[str, Any]]:
    """The files of case ``seed``, and the options of `validate`."""
    chance = random.Random(seed)
    configs, more = chance.choice(GOOD)
    configs, files = dict(configs), dict(more)
    files.update({f"{name}/1/": DIRECTORY for name in configs})
    for _ in range(chance.choice((1, 1, 1, 2))):
        change_model(chance, configs, files, chance.choice(sorted(configs)))
        if not configs:
            break
    files.update({f"{name}/config.pbtxt": text for name, text in configs.items()})
    return files, {"auto_complete": chance.random() > 0.15, "gpus": 0}


def change_model(chance: random.Random, configs: dict[str, str], files: Files, name: str) -> None:
    """Change one thing of one model: a field, a word of its text, or its directory."""
    kind = chance.random()
    if kind < 0.68:
        configs[name] = change_message(chance, configs[name])
    elif kind < 0.88:
        configs[name] = change_text(chance, configs[name])
    else:
        change_layout(chance, configs, files, name)


def change_layout(chance: random.Random, configs: dict[str, str], files: Files, name: str) -> None:
    def lose_version() -> None:
        files.pop(f"{name}/1/", None)
        files[f"{name}/{chance.choice(DIRECTORIES)}/"] = DIRECTORY

    def gain_version() -> None:
        files[f"{name}/{chance.choice(DIRECTORIES)}/"] = DIRECTORY

    def rename() -> None:
        files.pop(f"{name}/1/", None)
        files[f"{name}q/1/"] = DIRECTORY
        configs[f"{name}q"] = configs.pop(name)

    def lose_config() -> None:
        configs.pop(name)

    def gain_directory() -> None:
        files[chance.choice((".git/", "x.identity/1/", "q/1/", "w.onnxruntime/1/"))] = DIRECTORY

    def lose_file() -> None:
        for path in [path for path in files if not path.endswith("/")]:
            files.pop(path)

    def gain_file() -> None:
        files[f"{name}/1/{chance.choice(('model.onnx', 'model.plan', 'model.py', 'model.graphdef'))}"] = ""

    changes: tuple[Callable[[], None], ...] = (
        lose_version, gain_version, rename, lose_config, gain_directory, lose_file, gain_file,
    )  # fmt: skip
    chance.choice(changes)()


def change_text(chance: random.Random, text: str) -> str:
    """The text with a word lost, doubled, replaced or added."""
    words = [match.span() for match in _WORD.finditer(text)]
    start, end = chance.choice(words)
    kind = chance.random()
    if kind < 0.3:
        return text[:start] + text[end:]
    if kind < 0.5:
        return f"{text[:end]} {text[start:end]}{text[end:]}"
    if kind < 0.75:
        other = slice(*chance.choice(words))
        return text[:start] + text[other] + text[end:]
    return f"{text[:start]}{chance.choice(WORDS)} {text[start:]}"


def change_message(chance: random.Random, text: str) -> str:
    """The text with one field set, cleared, added or changed."""
    message: Any = new_model_config()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError:
        return text
    _change(chance, chance.choice(list(_messages(message))))
    return text_format.MessageToString(message, as_utf8=True)


def _messages(message: Any) -> Iterator[Any]:
    """A message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from _messages(value[key])
        elif field.is_repeated:
            for item in value:
                yield from _messages(item)
        else:
            yield from _messages(value)


def _change(chance: random.Random, message: Any) -> None:
    present = [field for field, _ in message.ListFields()]
    known = [field for field in message.DESCRIPTOR.fields if field.name not in LEFT_OUT]
    field = chance.choice(present) if present and chance.random() < 0.65 else chance.choice(known)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(chance, getattr(message, field.name), field.message_type)
    elif field.is_repeated:
        _change_list(chance, getattr(message, field.name), field)
    elif field.message_type is not None:
        if message.HasField(field.name) and chance.random() < 0.5:
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    elif chance.random() < 0.25:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(chance, field))


def _change_map(chance: random.Random, entries: Any, entry: Any) -> None:
    if entries and chance.random() < 0.4:
        del entries[chance.choice(sorted(entries))]
        return
    key, value = _value(chance, entry.fields_by_name["key"]), entry.fields_by_name["value"]
    if value.message_type is not None:
        entries[key].SetInParent()
    else:
        entries[key] = _value(chance, value)


def _change_list(chance: random.Random, values: Any, field: Any) -> None:
    kind = chance.random()
    if len(values) and kind < 0.35:
        del values[chance.randrange(len(values))]
    elif field.message_type is not None:
        added = values.add()
        if len(values) > 1 and kind < 0.8:
            added.CopyFrom(chance.choice(list(values)))
    elif len(values) and kind < 0.7:
        values[chance.randrange(len(values))] = _value(chance, field)
    else:
        values.append(_value(chance, field))


def _value(chance: random.Random, field: Any) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        return chance.choice(TEXTS)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.cpp_type == field.CPPTYPE_ENUM:
        return chance.choice([value.number for value in field.enum_type.values] + [99])
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return chance.choice((0.0, 0.5, 1.0, 1.5, -1.0))
    value = chance.choice(INTEGERS)
    return max(0, value) if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64) else value
