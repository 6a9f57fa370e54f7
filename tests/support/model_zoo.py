"""Makes the model repositories of these tests: run as a program, so that pytest's process loads no framework.

``python make_repository.py <folder>`` fills ``<folder>/zoo`` with small models for all three backends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tritonforge import tf_memory

SIZE = 32
CLASSES = 10
CPU = "instance_group { count: 1 kind: KIND_CPU }"
#: A text that `types_tensorflow` refuses.
REFUSED = "no text"
#: Triton's types by the names of ONNX's and TensorFlow's.
TYPES = {
    "BOOL": "BOOL",
    "UINT8": "UINT8",
    "UINT16": "UINT16",
    "UINT32": "UINT32",
    "UINT64": "UINT64",
    "INT8": "INT8",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "FLOAT16": "FP16",
    "FLOAT": "FP32",
    "DOUBLE": "FP64",
    "STRING": "STRING",
    "BFLOAT16": "BF16",
}


def tensor(kind: str, name: str, data_type: str, dims: str, rest: str = "") -> str:
    """One input or output of a config.pbtxt."""
    return f'{kind} {{ name: "{name}" data_type: TYPE_{data_type} dims: {dims} {rest} }}\n'


def add(repository: Path, name: str, config: str, version: str = "1") -> Path:
    """Write a model's configuration; gives its version's folder."""
    folder = repository / name / version
    folder.mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}\n')
    return folder


def dali_pipeline(device: str, *, batch_size: int = 16) -> bytes:
    """Decode, resize and normalise; declares its input, and its output's type."""
    from nvidia.dali import Pipeline, fn, types

    declared = {"output_dtype": types.FLOAT, "output_ndim": 3}
    pipeline = Pipeline(batch_size=batch_size, num_threads=1, device_id=None, **declared)
    with pipeline:
        encoded = fn.external_source(name="IMAGE", device="cpu", dtype=types.UINT8, ndim=1)
        images = fn.decoders.image(encoded, device=device, output_type=types.RGB)
        images = fn.resize(images, resize_x=SIZE, resize_y=SIZE)
        pixels = fn.crop_mirror_normalize(
            images, dtype=types.FLOAT, output_layout="HWC", mean=[127.5] * 3, std=[127.5] * 3
        )
        pipeline.set_outputs(pixels)
    return pipeline.serialize()


def make_pictures(repository: Path) -> None:
    """DALI and TensorFlow in an ensemble; the pipeline is a GPU's, and so are the instances."""
    image = tensor("input", "IMAGE", "UINT8", "[ -1 ]")
    pixels = f"[ {SIZE}, {SIZE}, 3 ]"
    gpu = "instance_group { kind: KIND_GPU }"
    threads = 'parameters { key: "num_threads" value { string_value: "2" } }'
    delay = "dynamic_batching { max_queue_delay_microseconds: 20000 }"
    io = image + tensor("output", "PIXELS", "FP32", pixels)
    dali = f'backend: "dali" max_batch_size: 16 {io} {threads} {gpu} {delay}'
    (add(repository, "pixels", dali) / "model.dali").write_bytes(dali_pipeline("mixed"))
    (add(repository, "pixels_completed", 'backend: "dali"') / "model.dali").write_bytes(dali_pipeline("cpu"))

    import tensorflow as tf

    weights = np.random.default_rng(0).normal(size=(SIZE * SIZE * 3, CLASSES)).astype("f4") / 50
    graph = tf.Graph()
    with graph.as_default():
        given = tf.compat.v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="input")
        tf.compat.v1.placeholder(tf.float32, [None], name="unused")  # a configuration may leave inputs of a graph out
        tf.nn.softmax(tf.reshape(given, [-1, weights.shape[0]]) @ tf.constant(weights), name="scores")
    parameters = "".join(
        f'parameters {{ key: "TF_NUM_{kind}_THREADS" value {{ string_value: "1" }} }}' for kind in ("INTRA", "INTER")
    )
    io = tensor("input", "input", "FP32", pixels) + tensor("output", "scores", "FP32", f"[ {CLASSES} ]")
    config = f'platform: "tensorflow_graphdef" max_batch_size: 16 {io} {parameters} {gpu} {delay}'
    (add(repository, "scores", config) / "model.graphdef").write_bytes(graph.as_graph_def().SerializeToString())

    def step(model: str, source: str, given: str, result: str, target: str) -> str:
        maps = f'input_map {{ key: "{source}" value: "{given}" }} output_map {{ key: "{result}" value: "{target}" }}'
        return f'step {{ model_name: "{model}" model_version: -1 {maps} }}'

    steps = step("pixels", "IMAGE", "INPUT", "PIXELS", "pixels") + step("scores", "input", "pixels", "scores", "OUTPUT")
    io = tensor("input", "INPUT", "UINT8", "[ -1 ]") + tensor("output", "OUTPUT", "FP32", f"[ {CLASSES} ]")
    add(repository, "pictures", f'platform: "ensemble" max_batch_size: 16 {io} ensemble_scheduling {{ {steps} }}')


def make_savedmodels(repository: Path) -> None:
    """Text with a configuration that is left out, and every type, in a signature that is not the default one."""
    import tensorflow as tf

    class Texts(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.string, name="text")])
        def lengths(self, text):
            flat = tf.reshape(text, [-1])
            return {"upper": tf.strings.upper(text), "length": tf.reshape(tf.strings.length(flat), [-1, 1])}

    texts = Texts()
    saved = add(repository, "texts_completed", CPU) / "model.savedmodel"
    tf.saved_model.save(texts, str(saved), signatures=texts.lengths)

    class Types(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.as_dtype(name.lower().replace("double", "float64")), name=f"in_{name}")
                for name in TYPES
            ]
        )
        def identity(self, *tensors):
            text = tensors[list(TYPES).index("STRING")]
            with tf.control_dependencies(
                [tf.debugging.assert_none_equal(text, REFUSED, message=f"{REFUSED} is not taken")]
            ):
                return {f"out_{name}": tf.identity(tensor) for name, tensor in zip(TYPES, tensors, strict=True)}

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def default(self, x):
            return {"y": -x}

    types = Types()
    signature = 'parameters { key: "TF_SIGNATURE_DEF" value { string_value: "types" } }'
    delay = "dynamic_batching { max_queue_delay_microseconds: 200000 }"
    config = f'platform: "tensorflow_savedmodel" max_batch_size: 4 {types_io(TYPES)} {signature} {CPU} {delay}'
    saved = add(repository, "types_tensorflow", config) / "model.savedmodel"
    tf.saved_model.save(types, str(saved), signatures={"serving_default": types.default, "types": types.identity})


def types_io(types: dict[str, str]) -> str:
    """An input and an output of each type."""
    inputs = "".join(tensor("input", f"in_{name}", data_type, "[ 2 ]") for name, data_type in types.items())
    return inputs + "".join(tensor("output", f"out_{name}", data_type, "[ 2 ]") for name, data_type in types.items())


def onnx_model(inputs: dict, outputs: dict, nodes: list) -> bytes:
    """An ONNX file; inputs and outputs are (element type, shape) by name."""
    from onnx import TensorProto, helper

    infos = [
        [
            helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
            for name, (kind, shape) in tensors.items()
        ]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph([helper.make_node(*node[:3], **dict(node[3:])) for node in nodes], "graph", *infos)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def make_onnx(repository: Path) -> None:
    """Every type, versions, another file name, reshape, no batching, and one whose configuration is left out."""
    pair = [None, 2]
    onnx = 'backend: "onnxruntime" platform: "onnxruntime_onnx"'
    # ONNX Runtime's Python package does not carry text and BF16 in one request, so these are two models.
    texts = {"STRING": "STRING"}
    for model, types in (("types_onnx", {k: TYPES[k] for k in TYPES if k not in texts}), ("texts_onnx", texts)):
        identity = onnx_model(
            {f"in_{name}": (name, pair) for name in types},
            {f"out_{name}": (name, pair) for name in types},
            [("Identity", [f"in_{name}"], [f"out_{name}"]) for name in types],
        )
        config = f"{onnx} max_batch_size: 4 {types_io(types)} {CPU}"
        (add(repository, model, config) / "model.onnx").write_bytes(identity)

    io = tensor("input", "x", "FP32", "[ 2 ]") + tensor("output", "y", "FP32", "[ 2 ]")
    numbers = ({"x": ("FLOAT", pair)}, {"y": ("FLOAT", pair)})
    threads = "".join(
        f'parameters {{ key: "{kind}_op_thread_count" value {{ string_value: "1" }} }}' for kind in ("intra", "inter")
    )
    other = 'default_model_filename: "net.onnx" version_policy { all {} }'
    config = f"{onnx} max_batch_size: 4 {other} {io} {CPU} {threads}"
    for version, operator in (("1", "Neg"), ("3", "Abs")):
        (add(repository, "versions", config, version) / "net.onnx").write_bytes(
            onnx_model(*numbers, [(operator, ["x"], ["y"])])
        )
    negative = onnx_model(*numbers, [("Neg", ["x"], ["y"])])
    (add(repository, "negative_completed", f'backend: "onnxruntime" {CPU}') / "model.onnx").write_bytes(negative)

    shaped = onnx_model({"x": ("FLOAT", [None, 2, 2])}, {"y": ("FLOAT", [None, 2, 2])}, [("Neg", ["x"], ["y"])])
    reshape = "reshape { shape: [ 2, 2 ] }"
    io = tensor("input", "x", "FP32", "[ 4 ]", reshape) + tensor("output", "y", "FP32", "[ 4 ]", reshape)
    (add(repository, "reshaped", f"{onnx} max_batch_size: 4 {io} {CPU}") / "model.onnx").write_bytes(shaped)
    io = tensor("input", "x", "FP32", "[ -1, 2 ]") + tensor("output", "y", "FP32", "[ -1, 2 ]")
    (add(repository, "unbatched", f"{onnx} max_batch_size: 0 {io} {CPU}") / "model.onnx").write_bytes(negative)


def make_sequences(repository: Path) -> None:
    """Sequence models: every kind and type of control, implicit states with and without an initial value."""
    onnx = f'backend: "onnxruntime" platform: "onnxruntime_onnx" max_batch_size: 4 {CPU}'
    io = tensor("input", "x", "INT32", "[ 1 ]") + tensor("output", "y", "INT64", "[ 5 ]")

    def control(name: str, kind: str, values: str) -> str:
        return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {values} }} }}\n'

    controls = {"start": "FLOAT", "ready": "INT32", "end": "BOOL", "id": "UINT64"}
    sequence = "".join(
        (
            control("start", "START", "fp32_false_true: [ 0, 3 ]"),
            control("ready", "READY", "int32_false_true: [ 0, 1 ]"),
            control("end", "END", "bool_false_true: [ false, true ]"),
            control("id", "CORRID", "data_type: TYPE_UINT64"),
        )
    )
    initial = 'initial_state { name: "hundred" data_type: TYPE_INT32 dims: [ 1 ] data_file: "hundred" }'
    state = f'state {{ input_name: "sum" output_name: "next" data_type: TYPE_INT32 dims: [ 1 ] {initial} }}'
    one = [None, 1]
    inputs = {"x": ("INT32", one), "sum": ("INT32", one), **{name: (kind, one) for name, kind in controls.items()}}
    casts = [("Cast", [name], [f"{name}64"], ("to", 7)) for name in ("next", *controls)]  # 7: INT64
    whole = ("Concat", [f"{name}64" for name in ("next", *controls)], ["y"], ("axis", 1))
    content = onnx_model(
        inputs,
        {"y": ("INT64", [None, 5]), "next": ("INT32", one)},
        [("Add", ["x", "sum"], ["next"]), *casts, whole],
    )
    config = f"{onnx} {io} sequence_batching {{ direct {{ max_queue_delay_microseconds: 5000 }} {sequence} {state} }}"
    (add(repository, "sums", config) / "model.onnx").write_bytes(content)
    (repository / "sums" / "initial_state").mkdir()
    (repository / "sums" / "initial_state" / "hundred").write_bytes((100).to_bytes(4, "little"))

    # The state grows by one element a request, and leaves as an output as well.
    io = tensor("input", "x", "STRING", "[ 1 ]") + tensor("output", "history", "STRING", "[ -1 ]")
    state = 'state { input_name: "before" output_name: "history" data_type: TYPE_STRING dims: [ -1 ] }'
    content = onnx_model(
        {"x": ("STRING", one), "before": ("STRING", [None, None])},
        {"history": ("STRING", [None, None])},
        [("Concat", ["before", "x"], ["history"], ("axis", 1))],
    )
    config = f"{onnx} {io} sequence_batching {{ oldest {{ max_candidate_sequences: 8 }} {state} }}"
    (add(repository, "histories", config) / "model.onnx").write_bytes(content)


def main() -> None:
    """Make the zoo."""
    tf_memory.import_tensorflow()
    repository = Path(sys.argv[1]) / "zoo"
    make_pictures(repository)
    make_savedmodels(repository)
    make_onnx(repository)
    make_sequences(repository)


if __name__ == "__main__":
    main()
