"""A bad and a good repository for every rule of the layout, the text, the model, the ensemble and the blind spots.

A repository is a mapping of paths to texts. ``m(...)`` is one model "m"; ``e(...)`` is an ensemble "e" over the model
"x". The bad one breaks its rule and nothing else, the good one is its neighbour that does not.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tritonforge.validation.tree import DIRECTORY, Entry, link

Files = dict[str, Any]

A = 'input [{ name: "A" data_type: TYPE_FP32 dims: [4] }]\n'
B = 'output [{ name: "B" data_type: TYPE_FP32 dims: [4] }]\n'
IO = A + B


class Fixture(NamedTuple):
    """The two repositories of a rule, and the options of validation."""

    bad: Mapping[str, Any]
    good: Mapping[str, Any]
    options: Mapping[str, Any] = {}


def m(config: str = "", *, io: str = IO, head: str = 'backend: "identity"', **files: Any) -> Files:
    """One model; ``files`` are further paths in its directory, ``__`` standing for ``/`` and ``_dot_`` for a dot."""
    more = {f"m/{path.replace('__', '/').replace('_dot_', '.')}": content for path, content in files.items()}
    return {"m/config.pbtxt": f"{head}\n{io}{config}\n", "m/1/": DIRECTORY, **more}


def both(template: str, bad: str, good: str, **options: Any) -> Fixture:
    """Two models that differ where the template has ``%s``."""
    return Fixture(m(template % bad, **options), m(template % good, **options))


def x(name: str = "x", *, inputs: str = "A", outputs: str = "B", dims: str = "[4]", config: str = "") -> Files:
    """A model for a step, with one FP32 tensor for each letter."""
    tensors = {
        kind: ", ".join(f'{{ name: "{letter}" data_type: TYPE_FP32 dims: {dims} }}' for letter in letters)
        for kind, letters in (("input", inputs), ("output", outputs))
    }
    text = f'backend: "identity" input [{tensors["input"]}] output [{tensors["output"]}] {config}'
    return {f"{name}/config.pbtxt": text, f"{name}/1/": DIRECTORY}


def step(model: str, reads: Mapping[str, str], writes: Mapping[str, str], version: str = "model_version: -1") -> str:
    """One step."""
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in reads.items()]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in writes.items()]
    return f'{{ model_name: "{model}" {version} {" ".join(maps)} }}'


ONE = step("x", {"A": "I"}, {"B": "O"})
#: Two models, of which "y" has a queue of one request.
LIMITED = {
    **x(config="max_batch_size: 4"),
    **x("y", config="max_batch_size: 4 dynamic_batching { default_queue_policy { max_queue_size: 1 } }"),
}


def e(
    *steps: str,
    name: str = "e",
    inputs: str = "I",
    outputs: str = "O",
    config: str = "",
    dims: str = "[4]",
    platform: str = 'platform: "ensemble"',
) -> Files:
    """An ensemble with one FP32 tensor for each letter."""
    tensors = {
        kind: ", ".join(f'{{ name: "{letter}" data_type: TYPE_FP32 dims: {dims} }}' for letter in letters)
        for kind, letters in (("input", inputs), ("output", outputs))
    }
    text = (
        f"{platform} input [{tensors['input']}] output [{tensors['output']}] "
        f"ensemble_scheduling {{ step [{', '.join(steps or (ONE,))}] }} {config}"
    )
    return {f"{name}/config.pbtxt": text, f"{name}/1/.gitkeep": ""}


def sequence(controls: str) -> str:
    """Sequence batching with these controls of one tensor."""
    return f'sequence_batching {{ control_input [{{ name: "S" control [{{ {controls} }}] }}] }}'


def state(initial: str) -> str:
    """Sequence batching with one state."""
    return (
        'sequence_batching { state [{ input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [2] '
        f"initial_state [{initial}] }}] }}"
    )


GOOD_STATE = '{ name: "i" data_type: TYPE_FP32 dims: [2] zero_data: true }'
START = "kind: CONTROL_SEQUENCE_START"
SAMPLE = 'model_warmup [{ name: "w" batch_size: 1 inputs { key: "A" value { %s } } }]'
GOOD_SAMPLE = SAMPLE % "data_type: TYPE_FP32 dims: [4] zero_data: true"
DYNAMIC = "max_batch_size: 4 dynamic_batching { %s }"
DECOUPLED = "model_transaction_policy { decoupled: true }"
CACHE = "response_cache { enable: true }"
ONNX = 'platform: "onnxruntime_onnx"'
PLAN = 'platform: "tensorrt_plan"'
BATCH_INPUT = 'batch_input [{ target_name: "T" %s }]'
STRATEGY = 'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "%s" } }'
ACCELERATOR = 'optimization { execution_accelerators { cpu_execution_accelerator [{ name: "%s" }] } }'
PYTHON = 'backend: "python"'
SOURCE = "class TritonPythonModel:\n    def execute(self, requests): return []\n"
BROKEN = SOURCE.replace("requests):", "requests:")
ENVIRONMENT = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "%s" } }'
OTHER = x("y")
TWICE = step("x", {"C": "I", "A": "J"}, {"B": "O"}).replace(
    "output_map", 'input_map { key: "A" value: "I" } output_map'
)
CHAIN = (step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "O"}))

GROUP = 'instance_group { name: "%s" kind: KIND_CPU }'
SHELL_MODEL = {"head": PYTHON, "1/model.py": SOURCE}

SHELL: dict[str, Fixture] = {
    "E118": both(f'{GROUP} default_model_filename: "model.py"', "a;b", "a-b", **SHELL_MODEL),
    "W118": both(GROUP, "a b", "a_b"),
}

LAYOUT: dict[str, Fixture] = {
    "E101": Fixture({**m(), "old": link("/nowhere")}, {**m(), "old": ""}),
    "E102": Fixture(m(dead=link("/nowhere")), m(dead=link("1"))),
    "E103": Fixture({"m.identity/config.pbtxt/": DIRECTORY, "m.identity/1/": DIRECTORY}, m()),
    "E104": both('name: "%s"', "other", "m"),
    "E105": Fixture({"m/config.pbtxt": 'backend: "identity"'}, m()),
    "E106": Fixture(m(**{"99999999999999999999/": DIRECTORY}), m(**{"9223372036854775807/": DIRECTORY})),
    "E107": Fixture({"m/1/model.py": ""}, m(), {"auto_complete": False}),
    "E108": Fixture({"m/config.pbtxt": IO, "m/1/": DIRECTORY}, {"m/config.pbtxt": IO, "m/1/model.onnx": ""}),
    "E109": Fixture(m(config_dot_pbtxt=Entry("file", 4, problem="Permission denied")), m()),
    "E110": Fixture(
        m(
            io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l.txt" }]',
            **{"1/l.txt": "a\nb"},
        ),
        m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l.txt" }]', l_dot_txt="a\nb"),
    ),
    "E111": Fixture(
        m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l" }]', **{"l/": DIRECTORY}),
        m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l" }]', l="a\nb"),
    ),
    "E112": Fixture({**x(), "broken/": DIRECTORY}, m(), {"load_models": ["m"]}),
    "E113": Fixture(m(head='backend: "nosuch"'), m(head='backend: "nosuch"', libtriton_nosuch_dot_so="")),
    "E114": both('runtime: "%s"', "other.so", "libtriton_identity.so"),
    "E115": both('runtime: "%s"', "../onnxruntime/libtriton_onnxruntime.so", "libtriton_identity.so"),
    "E116": Fixture({"m.identity/1/": DIRECTORY}, {"m.identity/config.pbtxt": IO, "m.identity/1/": DIRECTORY}),
    "E122": Fixture(m(head=PYTHON), m(head=PYTHON, **{"1/model.py": SOURCE})),
    "E123": Fixture(m(head=PYTHON, **{"1/model.py": BROKEN}), m(head=PYTHON, **{"1/model.py": SOURCE})),
    "E125": Fixture(m(head=PLAN, **{"1/model.plan/": DIRECTORY}), m(head=PLAN, **{"1/model.plan": ""})),
    "W110": Fixture(
        m(head=PYTHON, **{"1/model.py": BROKEN, "triton_python_backend_stub": ""}),
        m(head=PYTHON, **{"1/model.py": SOURCE, "triton_python_backend_stub": ""}),
    ),
    "W101": Fixture({"m/config.pbtxt": m()["m/config.pbtxt"], "m/1": link("../../v", leads_to="directory")}, m()),
    "W102": Fixture({"m/config.pbtxt": m()["m/config.pbtxt"], "m/1abc/": DIRECTORY}, m()),
    "W103": Fixture(m(**{"v1/": DIRECTORY}), m(**{"configs/": DIRECTORY})),
    "W104": both("version_policy { specific { versions: [%s] } }", "1, 2", "1"),
    "W105": Fixture(m(head=ONNX), m(head=ONNX, **{"1/model.onnx": ""})),
    "W107": Fixture(
        {"m/config.pbtxt": IO, "m/.assets/": DIRECTORY, "m/1/model.onnx": ""},
        {"m/config.pbtxt": IO, "m/1/model.onnx": ""},
    ),
    "E127": Fixture(m(config_dot_pbtxt=Entry("file", 10**9)), m()),
    "W109": Fixture({"m/1/model.py": "", "m/1/config.pbtxt": ""}, m()),
}

TEXT: dict[str, Fixture] = {
    "E200": both("max_batch_size%s 8", "", ":"),
    "E201": Fixture(m('metric_tags { key "a" }'), m('metric_tags { key: "a" }')),
    "E202": both("%s: 4", "max_batchsize", "max_batch_size"),
    "E203": both("max_batch_size: 4 %s", "max_batch_size: 8", "dynamic_batching {}"),
    "E204": both("max_batch_size: 4 dynamic_batching {} %s", "sequence_batching {}", ""),
    "E205": both("max_batch_size: %s", '"4"', "4"),
    "E206": both('input [{ name: "C" data_type: %s dims: [1] }]', "TYPE_FLOAT32", "TYPE_FP32"),
    "E207": both("max_batch_size: %s", "${size}", "4"),
    "E208": Fixture(m("metric_tags { } " * 200_000), m()),
    "W209": both('parameters { key: "a" value { string_value: "%s" } }', "${a}", "$a"),
}

MODEL: dict[str, Fixture] = {
    "E210": Fixture(m(head='platform: "libtorch"'), m(head='platform: "pytorch_libtorch"')),
    "E211": Fixture(
        {**x(), **e(config='backend: "identity"')},
        {**x(), **e()},
    ),
    "E212": Fixture(m(head='platform: "foo" backend: "onnxruntime"'), m(head='platform: "foo" backend: "identity"')),
    "E213": both("max_batch_size: %s", "-1", "0"),
    "E214": both(DYNAMIC % "preferred_batch_size: [%s]", "0", "1"),
    "E215": both(DYNAMIC % "preferred_batch_size: [%s]", "8", "4"),
    "E216": both(DYNAMIC % "priority_levels: 2 default_priority_level: %s", "3", "2"),
    "E217": both(
        DYNAMIC % "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: %s value {} }", "3", "2"
    ),
    "E218": both(DYNAMIC % "preserve_ordering: true priority_levels: %s default_priority_level: 1", "2", "1"),
    "E219": both(
        DYNAMIC % "preserve_ordering: true default_queue_policy { timeout_action: %s default_timeout_microseconds: 5 }",
        "DELAY",
        "REJECT",
    ),
    "E220": both(f"sequence_batching {{}} {CACHE.replace('true', '%s')}", "true", "false"),
    "E221": both(f"{DECOUPLED} {CACHE.replace('true', '%s')}", "true", "false"),
    "E222": both("sequence_batching { control_input [{ %s }] }", "", 'name: "S"'),
    "E223": both('sequence_batching { control_input [{ name: "S" }, { name: "%s" }] }', "S", "T"),
    "E224": both(
        sequence(f"{START} int32_false_true: [0, 1] }}, {{ kind: CONTROL_SEQUENCE_%s int32_false_true: [0, 1]"),
        "START",
        "END",
    ),
    "E225": both(sequence(f"{START} %s"), "", "int32_false_true: [0, 1]"),
    "E226": both(sequence(f"{START} int32_false_true: [0, 1] %s"), "fp32_false_true: [0, 1]", ""),
    "E227": both(sequence(f"{START} bool_false_true: [%s]"), "true", "false, true"),
    "E228": both(sequence("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 %s"), "int32_false_true: [0, 1]", ""),
    "E229": both(sequence("kind: CONTROL_SEQUENCE_CORRID data_type: %s"), "TYPE_FP32", "TYPE_STRING"),
    "E230": both("max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: [%s] } }", "8", "4"),
    "E231": both("sequence_batching { direct { minimum_slot_utilization: %s } }", "50", "0.5"),
    "E232": Fixture({"e/config.pbtxt": 'platform: "ensemble"', "e/1/.gitkeep": ""}, {**x(), **e()}),
    "E233": both(
        'model_metrics { metric_control [{ metric_identifier { family: "%s" } histogram_options { buckets: [1] } }] }',
        "",
        "f",
    ),
    "E240": both("input [{ %s data_type: TYPE_FP32 dims: [4] }]", "", 'name: "C"'),
    "E241": both('input [{ name: "C" %s dims: [4] }]', "", "data_type: TYPE_FP32"),
    "E242": both('input [{ name: "C" data_type: TYPE_FP32 %s }]', "", "dims: [1]"),
    "E243": both(
        'max_batch_size: %s input [{ name: "C" data_type: TYPE_FP32 dims: [1] reshape { shape: [] } }]', "0", "4"
    ),
    "E244": both('input [{ name: "C" data_type: TYPE_FP32 dims: [%s] }]', "0", "-1"),
    "E245": both('input [{ name: "C" data_type: TYPE_FP32 dims: [4] reshape { shape: [%s] } }]', "0", "4"),
    "E246": both('input [{ name: "C" data_type: TYPE_FP32 dims: [4] reshape { shape: [%s] } }]', "2, 3", "2, 2"),
    "E247": both(
        'input [{ name: "C" data_type: TYPE_FP32 dims: [-1, -1] reshape { shape: [%s] } }]', "-1", "-1, 1, -1"
    ),
    "E248": both('input [{ name: "C" data_type: TYPE_FP32 dims: [%s] format: FORMAT_NHWC }]', "1, 8, 8, 3", "8, 8, 3"),
    "E249": Fixture(
        m('input [{ name: "C" data_type: TYPE_INT32 dims: [4] is_shape_tensor: true }]'),
        m('input [{ name: "C" data_type: TYPE_INT32 dims: [4] is_shape_tensor: true }]', head=PLAN),
    ),
    "E250": both(
        'input [{ name: "C" data_type: TYPE_INT8 dims: [%s] is_non_linear_format_io: true }]',
        "4, 4",
        "3, 4, 4",
        head=PLAN,
    ),
    "E255": both(BATCH_INPUT % "data_type: TYPE_FP32 %s", "", 'source_input: "A"'),
    "E256": both(BATCH_INPUT % 'kind: %s data_type: TYPE_FP32 source_input: "A"', "99", "BATCH_ITEM_SHAPE"),
    "E257": both(BATCH_INPUT % 'data_type: TYPE_%s source_input: "A"', "INT64", "INT32"),
    "E258": both(BATCH_INPUT % 'data_type: TYPE_FP32 source_input: "%s"', "Z", "A"),
    "E259": both('batch_output [{ target_name: "%s" source_input: "A" }]', "Z", "B"),
    "E260": both("instance_group [{ kind: KIND_%s gpus: [0] }]", "CPU", "GPU"),
    "E261": Fixture(m("instance_group [{ kind: KIND_GPU }]"), m("instance_group [{ kind: KIND_AUTO }]"), {"gpus": 0}),
    "E262": Fixture(
        m("instance_group [{ kind: KIND_GPU gpus: [8] }]"),
        m("instance_group [{ kind: KIND_GPU gpus: [0] }]"),
        {"gpus": 1},
    ),
    "E263": Fixture(
        m('instance_group [{ kind: KIND_CPU profile: ["0"] }]'),
        m('instance_group [{ kind: KIND_CPU profile: ["0"] }]', head=PLAN),
    ),
    "E264": both('instance_group [{ kind: KIND_CPU profile: ["%s"] }]', "fast", "1x", head=PLAN),
    "E265": both('instance_group [{ kind: KIND_CPU profile: ["%s"] }]', "99999999999", "2147483647", head=PLAN),
    "E266": both("instance_group [{ kind: %s }]", "9", "2"),
    "E270": both(SAMPLE % "data_type: TYPE_FP32 dims: [%s] zero_data: true", "-1", "4"),
    "E271": both(SAMPLE % "data_type: TYPE_FP32 dims: [4] %s", "", "random_data: true"),
    "E272": Fixture(
        m(SAMPLE % 'data_type: TYPE_FP32 dims: [4] input_data_file: "f"'),
        m(SAMPLE % 'data_type: TYPE_FP32 dims: [4] input_data_file: "f"', warmup__f="x" * 16),
    ),
    "E273": Fixture(
        m(SAMPLE % 'data_type: TYPE_FP32 dims: [4] input_data_file: "f"', warmup__f="x" * 15),
        m(SAMPLE % 'data_type: TYPE_FP32 dims: [4] input_data_file: "f"', warmup__f="x" * 16),
    ),
    "E274": both(SAMPLE % "data_type: TYPE_FP32 dims: [%s] zero_data: true", "5", "4"),
    "E280": both(state(GOOD_STATE.replace("FP32", "%s")), "INT32", "FP32"),
    "E281": both(state(GOOD_STATE.replace('name: "i"', "%s")), "", 'name: "i"'),
    "E282": both(state(GOOD_STATE.replace("[2]", "[%s]")), "2, 1", "2"),
    "E283": both(state(GOOD_STATE.replace("[2]", "[%s]")), "-1", "2"),
    "E284": both(state(GOOD_STATE.replace("[2]", "[%s]")), "3", "2"),
    "E285": both(state(GOOD_STATE.replace("zero_data: true", "%s")), "", "zero_data: false"),
    "E286": Fixture(
        m(state(GOOD_STATE.replace("zero_data: true", 'data_file: "f"'))),
        m(state(GOOD_STATE.replace("zero_data: true", 'data_file: "f"')), initial_state__f="x" * 8),
    ),
    "E287": both(state(f"{GOOD_STATE} %s"), f", {GOOD_STATE}", ""),
    "E288": both(
        f'{state(GOOD_STATE)[:-4]} }}, {{ input_name: "%s" data_type: TYPE_FP32 dims: [2] '
        f"initial_state [{GOOD_STATE}] }}] }}",
        "s",
        "u",
    ),
    "E290": both('model_repository_agents { agents [{ name: "%s" }] }', "nosuch", "checksum"),
    "E291": both("%s", "model_repository_agents {}", ""),
    "E292": Fixture(m("sequence_batching {}" + STRATEGY % "b.so"), m("sequence_batching {}")),
    "E295": Fixture(
        m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/../env.tar.gz", head=PYTHON, **{"1/model.py": SOURCE}),
        m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/env", head=PYTHON, **{"1/model.py": SOURCE, "env/": DIRECTORY}),
    ),
    "E296": Fixture(
        m(ACCELERATOR % "tensorrt", head=ONNX, **{"1/model.onnx": ""}),
        m(ACCELERATOR % "openvino", head=ONNX, **{"1/model.onnx": ""}),
    ),
    "E294": both('metric_tags { key: "%s" value: "v" }', "a-b", "a_b"),
    "E293": both(STRATEGY, "/nowhere.so", "/opt/tritonserver/batch.so"),
    "W295": Fixture(m(STRATEGY % "/opt/batch.so"), m()),
}

ENSEMBLE: dict[str, Fixture] = {
    "E301": Fixture({**x(), **e(platform='backend: "identity"')}, {**x(), **e()}),
    "E302": Fixture({**x(), **e(config="instance_group [{}]")}, {**x(), **e(config="instance_group []")}),
    "E303": Fixture(
        {"e/config.pbtxt": 'platform: "ensemble" ensemble_scheduling {}', "e/1/.gitkeep": ""}, {**x(), **e()}
    ),
    "E304": Fixture({**x(), **e(step("x", {}, {"B": "O"}), inputs="")}, {**x(), **e()}),
    "E305": Fixture(
        {**x(), **e(ONE, ONE)},
        {**x(), **e(ONE, step("x", {"A": "I"}, {"B": "P"}), outputs="OP")},
    ),
    "E306": Fixture(
        {**x(inputs="AC"), **OTHER, **e(TWICE, step("y", {"A": "J"}, {"B": "P"}), inputs="IJ", outputs="OP")},
        {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "I"}, {"B": "O"}))},
    ),
    "E307": Fixture(
        {**x(), **e(inputs="IJ")}, {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "J"}, {"B": "O"}), inputs="IJ")}
    ),
    "E308": Fixture(
        {**x(), **e(outputs="OP")}, {**x(outputs="BD"), **e(step("x", {"A": "I"}, {"B": "O", "D": "P"}), outputs="OP")}
    ),
    "E309": Fixture(
        {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "typo"}, {"B": "O"}))},
        {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "I"}, {"B": "O"}))},
    ),
    "E310": Fixture(
        {**x(outputs="BD"), **e(step("x", {"A": "I"}, {"B": "O", "D": "T"}))},
        {**x(outputs="BD"), **e(step("x", {"A": "I"}, {"B": "O", "D": "T"}), outputs="OT")},
    ),
    "E320": Fixture({**OTHER, **e()}, {**x(), **e()}),
    "E321": Fixture(
        {**e(step("e", {"I": "I"}, {"O": "O"}))},
        {**x(), **e(), **e(step("e", {"I": "I"}, {"O": "O"}), name="f")},
    ),
    "E322": Fixture(
        {**e(), **e(step("e", {"I": "I"}, {"O": "O"}), name="f")},
        {**x(), **e(), **e(step("e", {"I": "I"}, {"O": "O"}), name="f")},
    ),
    "E323": Fixture({**x(config="instance_group [{ kind: 9 }]"), **e()}, {**x(), **e()}),
    "E324": Fixture(
        {**x(), **e(step("x", {"A": "I"}, {"B": "O"}, version=""))},
        {**x(), **e(step("x", {"A": "I"}, {"B": "O"}, version="model_version: 1"))},
    ),
    "E330": Fixture(
        {**x(config="max_batch_size: 4"), **e(config="max_batch_size: 8")},
        {**x(config="max_batch_size: 8"), **e(config="max_batch_size: 4")},
    ),
    "E331": Fixture({**x(), **e(step("x", {"A": "I", "Z": "I"}, {"B": "O"}))}, {**x(), **e()}),
    "E332": Fixture({**x(inputs="AC"), **e()}, {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "I"}, {"B": "O"}))}),
    "E334": Fixture({**x(), **e(step("x", {"A": "I"}, {"B": "O", "Z": "P"}), outputs="OP")}, {**x(), **e()}),
    "E335": Fixture({**x(outputs="BB"), **e()}, {**x(), **e()}),
    "E336": Fixture({**x(), **e(), "x/config.pbtxt": x()["x/config.pbtxt"].replace("FP32", "FP16", 1)}, {**x(), **e()}),
    "E337": Fixture(
        {**x(), **x("y", dims="[5]"), **e(*CHAIN), "y/config.pbtxt": x("y")["y/config.pbtxt"].replace("[4]", "[5]", 1)},
        {**x(), **OTHER, **e(*CHAIN)},
    ),
    "E338": Fixture(
        {**x(config=DECOUPLED), **x("y", inputs="AC"), **e(CHAIN[0], step("y", {"A": "T", "C": "I"}, {"B": "O"}))},
        {**x(), **x("y", inputs="AC"), **e(CHAIN[0], step("y", {"A": "T", "C": "I"}, {"B": "O"}))},
    ),
    "E339": Fixture({**x(config=DECOUPLED), **e(config=CACHE)}, {**x(config=DECOUPLED), **e()}),
}

BLIND_SPOTS: dict[str, Fixture] = {
    "W301": Fixture(
        {**x(), **e(config="max_batch_size: 4")}, {**x(config="max_batch_size: 4"), **e(config="max_batch_size: 4")}
    ),
    "W302": Fixture(
        {**x(dims="[3, 4]"), **e(config="max_batch_size: 4")}, {**x(dims="[-1, 4]"), **e(config="max_batch_size: 4")}
    ),
    "W303": Fixture(
        {
            **x("x", dims="[7]"),
            **x("y", dims="[9]"),
            **e(ONE, step("y", {"A": "I"}, {"B": "P"}), outputs="OP", dims="[-1]"),
        },
        {
            **x("x", dims="[7]"),
            **x("y", dims="[7]"),
            **e(ONE, step("y", {"A": "I"}, {"B": "P"}), outputs="OP", dims="[-1]"),
        },
    ),
    "W304": Fixture({**x(outputs="BD"), **e()}, {**x(), **e()}),
    "W305": both(
        "max_batch_size: 8 sequence_batching { oldest { max_candidate_sequences: %s preferred_batch_size: [8] } }",
        "4",
        "8",
    ),
    "W306": Fixture(
        m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [3] label_filename: "l" }]', l="a\nb\n"),
        m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [3] label_filename: "l" }]', l="a\nb\nc"),
    ),
    "W307": both('input [{ name: "%s" data_type: TYPE_FP32 dims: [4] }]', "A", "C"),
    "W308": Fixture(
        {**x(), **e(), "e/config.pbtxt": e()["e/config.pbtxt"].replace("dims: [4]", "dims: [4] optional: true", 1)},
        {**x(), **e()},
    ),
    "W309": both("max_batch_size: %s dynamic_batching {}", "0", "4"),
    "W348": both("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: %s }", "5000000", "5000"),
    "W349": Fixture(
        {**LIMITED, **e(ONE, step("y", {"A": "I"}, {"B": "P"}), outputs="OP", config="max_batch_size: 4")},
        {
            **LIMITED,
            **e(step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "O"}), config="max_batch_size: 4"),
        },
    ),
    "W310": both('input [{ name: "C" data_type: %s dims: [4] }]', "99", "11"),
    "W311": both("instance_group [{ %s gpus: [0] }]", "", "kind: KIND_GPU"),
    "W312": both(
        'max_batch_size: %s input [{ name: "C" data_type: TYPE_FP32 dims: [-1] allow_ragged_batch: true }]', "0", "4"
    ),
}

#: E117: two outputs of one name are advice W307 too.
LAYOUT["E117"] = Fixture(
    m(
        io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l" }, '
        '{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l" }]',
        l="a\nb",
    ),
    m(io=A + 'output [{ name: "B" data_type: TYPE_FP32 dims: [2] label_filename: "l" }]', l="a\nb"),
)
LAYOUT["W106"] = Fixture(
    {**x(), "e/config.pbtxt": e()["e/config.pbtxt"], "e/1/": DIRECTORY},
    {**x(), **e()},
)

LAYOUT["W136"] = Fixture({**x(), **e(name="e f")}, {**x(), **e(name="e-f")})

FIXTURES = {**LAYOUT, **SHELL, **TEXT, **MODEL, **ENSEMBLE, **BLIND_SPOTS}

#: A backend that completes configurations, and the file that makes it do so.
COMPLETING: dict[str, tuple[str, str]] = {
    "tensorflow": ('platform: "tensorflow_savedmodel"', "1/model.savedmodel/saved_model.pb"),
    "tensorrt": (PLAN, "1/model.plan"),
    "openvino": ('backend: "openvino"', "1/model.xml"),
    "dali": ('backend: "dali"', "1/model.dali"),
    "python": (PYTHON, "1/model.py"),
}


def build_unsized_ensemble(backend: str, output: str, *, config: str = "") -> Files:
    """An ensemble of two steps, of which the first leaves max_batch_size to its backend and has this output."""
    head, file = COMPLETING[backend]
    content = "class TritonPythonModel:\n    auto_complete_config = print\n" if backend == "python" else ""
    text = f'{head} {A} output [{{ name: "B" {output} }}] {config}'
    return {**e(*CHAIN), **x("y"), "x/config.pbtxt": text, f"x/{file}": content}


def build_warmed_model(
    config: str = "", *, sample: str = SAMPLE, more: str = 'name: "C" data_type: TYPE_INT32 dims: [1]'
) -> Files:
    """A model with a second input and a warmup sample."""
    two = A.replace("]\n", f"]\ninput [{{ {more} }}]\n")
    return m(config + " " + sample % "data_type: TYPE_FP32 dims: [4] zero_data: true", io=two + B)


ONE_MISSING = (
    "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['A'], but missing "
    "required input(s) ['C']. Please provide all required input(s)."
)
TENSOR = "in ensemble e, ensemble tensor T: inconsistent"
CONTROL = (
    'sequence_batching { oldest { max_candidate_sequences: 4 } control_input [{ name: "S" control [{ kind: %s }] }] }'
)
UNTYPED = GOOD_SAMPLE.replace("} } }]", '} } inputs { key: "C" value { dims: [1] zero_data: true } } }]')

#: What mutations found where the server and we differed once: the files, and the server's sentence ("" where it dies).
DIFFERENCES: dict[str, tuple[Files, str]] = {
    "a circle behind an output": (
        {
            **x(outputs="BD"),
            **x("y", inputs="AC"),
            **x("z"),
            **e(
                step("y", {"A": "I", "C": "T"}, {"B": "O"}),
                step("x", {"A": "U"}, {"B": "T"}),
                step("z", {"A": "T"}, {"B": "U"}),
            ),
        },
        "output 'O' for ensemble 'e' is not written: at least one of its depending tensors, 'U', is not connected",
    ),
    "a tensor without a name behind an output": (
        {
            **x("y", inputs="AC"),
            **e(step("y", {"A": "I", "C": ""}, {"B": "O"})),
        },
        "output 'O' for ensemble 'e' is not written: at least one of its depending tensors, '', is not connected",
    ),
    "an ensemble's output without a name": (
        {**x(), **e(outputs="OP"), "e/config.pbtxt": e(outputs="OP")["e/config.pbtxt"].replace('name: "P"', "")},
        "ensemble output '' for ensemble e' is not used",
    ),
    "an ensemble's input without a name": (
        {**x(), **e(inputs="IJ"), "e/config.pbtxt": e(inputs="IJ")["e/config.pbtxt"].replace('name: "J"', "")},
        "ensemble input '' for ensemble e' is not used",
    ),
    "a step with one input that is there and one that is not": (
        {**x(inputs="AC"), **e(step("x", {"A": "I", "C": "-1"}, {"B": "O"}))},
        "output 'O' for ensemble 'e' is not written: at least one of its depending tensors, '-1', is not connected",
    ),
    "a step that waits for its own output": (
        {
            **x(inputs="AC"),
            **OTHER,
            **e(step("x", {"A": "I", "C": "T"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "O"})),
        },
        "output 'O' for ensemble 'e' is not written: at least one of its depending tensors, 'T', is not connected",
    ),
    "a warmup file for negative dims": (
        m(SAMPLE % 'data_type: TYPE_FP32 dims: [-2] input_data_file: "f"', warmup__f="x" * 16),
        (
            "[request id: <id_unknown>] warmup setting expects 18446744073709551608 bytes, but the data provided from "
            "fonly has 16 bytes"
        ),
    ),
    "a warmup sample for an input whose type is a number": (
        m(GOOD_SAMPLE, io=A.replace("TYPE_FP32", "99") + B),
        "[request id: <id_unknown>] inference input 'A' data-type is 'FP32', but model 'm' expects '<invalid>'",
    ),
    "a metric tag that begins with an underscore": (m('metric_tags { key: "_a" value: "b" }'), ""),
    "an ensemble that leads into a circle": (
        {
            **e(step("f", {"I": "I"}, {"O": "O"}), name="d"),
            **e(step("g", {"I": "I"}, {"O": "O"}), name="f"),
            **e(step("f", {"I": "I"}, {"O": "O"}), name="g"),
        },
        "",
    ),
    "a key of a map that is empty twice": (
        m('model_warmup { inputs { key: "" key: "A" } }'),
        "failed to read text proto from <repo>/m/config.pbtxt",
    ),
    **{
        f"a step of {backend} without max_batch_size writes another type": (
            build_unsized_ensemble(backend, "data_type: TYPE_FP64 dims: [4]"),
            f"{TENSOR} data type: TYPE_FP64 is inferred from model x while TYPE_FP32 is inferred from model y",
        )
        for backend in COMPLETING
    },
    **{
        f"a step of {backend} without max_batch_size writes other dims": (
            build_unsized_ensemble(backend, "data_type: TYPE_FP32 dims: [5]"),
            f"{TENSOR} shape: [5] is inferred from model x while [4] is inferred from model y",
        )
        for backend in COMPLETING
    },
    "a step that may still batch writes other dims with max_batch_size 0": (
        build_unsized_ensemble("tensorflow", "data_type: TYPE_FP32 dims: [5]", config="max_batch_size: 0"),
        f"{TENSOR} shape: [5] is inferred from model x while [4] is inferred from model y",
    ),
    "warmup of a sequence model lacks an input": (build_warmed_model("sequence_batching {}"), ONE_MISSING),
    "warmup of a sequence model with candidates lacks an input": (
        build_warmed_model("max_batch_size: 8 " + CONTROL % "CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64"),
        ONE_MISSING,
    ),
    "warmup of a sequence model has no type": (
        build_warmed_model(
            "sequence_batching {}", sample=UNTYPED.replace("data_type: TYPE_FP32 dims: [4] zero_data: true", "%s")
        ),
        "[request id: <id_unknown>] inference input 'C' data-type is '<invalid>', but model 'm' expects 'INT32'",
    ),
    "warmup of an input that is declared twice": (
        m(GOOD_SAMPLE, io=A + A + B),
        (
            "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['A'], but "
            "missing required input(s) ]. Please provide all required input(s)."
        ),
    ),
    "warmup with negative dims": (
        m(SAMPLE % "data_type: TYPE_FP32 dims: [-2] zero_data: true", io=A.replace("[4]", "[-1]") + B),
        (
            "[request id: <id_unknown>] input byte size mismatch for input 'A' for model 'm'. Expected -8, got "
            "18446744073709551608"
        ),
    ),
    "warmup of a shape tensor of a model that batches": (
        m(
            "max_batch_size: 4 " + GOOD_SAMPLE,
            io=A.replace("dims: [4]", "dims: [4] is_shape_tensor: true") + B,
            head=PLAN,
        ),
        (
            "[request id: <id_unknown>] unexpected shape for input 'A' for model 'm'. Expected [-1,4], got [1,4]. "
            "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to "
            "each input shape. If you want to specify the full shape including the batch dim in your input dims "
            "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
            "max_batch_size."
        ),
    ),
    "a runtime that leaves the version's directory": (
        m('runtime: "../own/libtriton_identity.so"', own__libtriton_identity_dot_so=""),
        (
            "backend library name '../own/libtriton_identity.so' escapes backend directory '<repo>/m/1', for model "
            "'m', check model config runtime field"
        ),
    ),
    "a Python file as the runtime of a compiled backend": (
        m('runtime: "model.py"', **{"1/model.py": SOURCE}),
        (
            "unable to find Python backend based backend library 'model.py' for model 'm', searched: "
            "'<backends>/identity/model.py'"
        ),
    ),
    "an ensemble without scheduling whose name is not the directory's": (
        {"d/config.pbtxt": 'name: "f" platform: "ensemble"', "d/1/.gitkeep": ""},
        "ensemble scheduling must be set for ensemble f whose platform is ensemble",
    ),
    "a negative batch size of a model whose name is not the directory's": (
        m('name: "f" max_batch_size: -1'),
        "'max_batch_size' must be non-negative value for f",
    ),
    "a runtime that leads to no library": (
        m('runtime: "../other/libtriton_other.so"'),
        (
            "unable to find backend library '../other/libtriton_other.so' for model 'm', "
            "searched: '<repo>/m/1' '<repo>/m' "
            "'<backends>/identity'"
        ),
    ),
}

#: Repositories that the server takes, and that we once refused.
ACCEPTED: dict[str, Files] = {
    "an ONNX model that is a directory": m(head=ONNX, **{"1/model.onnx/model.onnx": "", "1/model.onnx/weights": ""}),
    "warmup lacks an input, but an optional one makes up the number": m(
        GOOD_SAMPLE, io=A.replace("dims: [4]", "dims: [4] optional: true") + A.replace('"A"', '"C"') + B
    ),
}

#: Models that the python backend itself refuses, which its stand-in would take.
PYTHON_MODELS: Files = {
    path.replace("m/", f"{name}/", 1): content
    for name, files in {
        "syntax": m(head=PYTHON, **{"1/model.py": BROKEN}),
        "indented": m(head=PYTHON, **{"1/model.py": f"{SOURCE}  x = 1\n"}),
        "compiled": m(head=PYTHON, **{"1/model.py": f"{SOURCE}return 1\n"}),
        "directory": m(head=PYTHON, **{"1/model.py/": DIRECTORY}),
        "archive": m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/../env.tar.gz", head=PYTHON, **{"1/model.py": SOURCE}),
        "absolute": m(ENVIRONMENT % "/nowhere/env.tar.gz", head=PYTHON, **{"1/model.py": SOURCE}),
    }.items()
    for path, content in files.items()
}

#: A model without a configuration of its own, which a base class in another file completes.
INHERITED: Files = {
    "m/config.pbtxt": PYTHON,
    "m/1/model.py": "from base import Base\n\n\nclass TritonPythonModel(Base):\n    pass\n",
    "m/base.py": """
class Base:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "B", "data_type": "TYPE_FP32", "dims": [4]})
        return config

    def execute(self, requests):
        return []
""",
}
