"""The openvino backend inside a real tritonserver, against OpenVINO in this process."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.model_zoo import CPU, add, onnx_model, tensor
from tests.support.tensor_client import FREE, Asker, samples
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.errors import ArtifactError, LaunchError
from tritonforge.serving.backends.openvino.model import read_properties
from tritonforge.serving.server import Server

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed; run: pip install '.[openvino]'", allow_module_level=True)

pytestmark = [pytest.mark.server, pytest.mark.framework]

#: OpenVINO's names of element types by Triton's.
TYPES = {
    "BOOL": "boolean",
    **{f"UINT{size}": f"u{size}" for size in (8, 16, 32, 64)},
    **{f"INT{size}": f"i{size}" for size in (8, 16, 32, 64)},
    "FP16": "f16",
    "FP32": "f32",
}
IO = tensor("input", "x", "FP32", "[ 4 ]") + tensor("output", "y", "FP32", "[ 3 ]")
PADDING = 'parameters { key: "ENABLE_BATCH_PADDING" value { string_value: "YES" } }'
ROWS = np.random.default_rng(0).normal(size=(4, 4)).astype("f4")


def make_network(shape: list[int], *, layout: str = "") -> Any:
    """A layer with a hyperbolic tangent, of inputs ``x`` and outputs ``y``."""
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter(shape, np.float32, name="x")
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype("f4")
    result = ops.result(ops.tanh(ops.matmul(given, ops.constant(weights), False, False)))
    model = openvino.Model([result], [given], "network")
    model.inputs[0].get_tensor().set_names({"x"})
    model.outputs[0].get_tensor().set_names({"y"})
    if layout:
        for node in (given, result):
            node.set_layout(openvino.Layout(layout))
    return model


def make_identity(types: dict[str, str]) -> Any:
    """An input and an output of every type."""
    import openvino
    from openvino import opset13 as ops

    inputs = [ops.parameter([2, 2], getattr(openvino.Type, name), name=f"in_{name}") for name in types.values()]
    results = [ops.result(ops.reshape(given, ops.constant([2, 2]), False)) for given in inputs]
    model = openvino.Model(results, inputs, "types")
    for direction, ports in (("in", model.inputs), ("out", model.outputs)):
        for port, name in zip(ports, types, strict=True):
            port.get_tensor().set_names({f"{direction}_{name}"})
    return model


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A server with models of OpenVINO."""
    import openvino

    repository = tmp_path_factory.mktemp("openvino")
    delay = "dynamic_batching { max_queue_delay_microseconds: 200000 }"
    threads = 'parameters { key: "INFERENCE_NUM_THREADS" value { string_value: "1" } }'
    config = f'backend: "openvino" max_batch_size: 4 {IO} {CPU}'
    for name, rest in (("exact", threads), ("padded", f"{PADDING} {delay}")):
        openvino.save_model(make_network([-1, 4]), add(repository, name, f"{config} {rest}") / "model.xml", False)
    openvino.save_model(make_network([1, 4], layout="NC"), add(repository, "completed", CPU) / "model.xml", False)
    reshape = 'parameters { key: "RESHAPE_IO_LAYERS" value { string_value: "yes" } }'
    io = IO.replace("[ 4 ]", "[ -1, 4 ]").replace("[ 3 ]", "[ -1, 3 ]")
    reshaped = add(repository, "reshaped", f'backend: "openvino" {io} {reshape} {CPU}')
    openvino.save_model(make_network([2, 4]), reshaped / "model.xml", False)
    io = "".join(
        tensor(kind, f"{kind.removesuffix('put')}_{name}", name, "[ 2, 2 ]")
        for kind in ("input", "output")
        for name in TYPES
    )
    types = add(repository, "types", f'backend: "openvino" {io} {CPU}')
    openvino.save_model(make_identity(TYPES), types / "model.xml", False)
    io = tensor("input", "x", "FP32", "[ 2 ]") + tensor("output", "y", "FP32", "[ 2 ]")
    onnx = add(repository, "onnx", f'backend: "openvino" default_model_filename: "model.onnx" {io} {CPU}')
    content = onnx_model({"x": ("FLOAT", [2])}, {"y": ("FLOAT", [2])}, [("Neg", ["x"], ["y"])])
    (onnx / "model.onnx").write_bytes(content)
    with ThrowawayServer(repository, **{**FREE, "sagemaker_port": None}) as server, urllib3.PoolManager() as pool:
        assert server.http_url is not None
        yield Asker(server.http_url, pool)


@pytest.fixture(scope="module")
def expected() -> Any:
    """What OpenVINO computes in this process for `ROWS`."""
    import openvino

    return openvino.compile_model(make_network([4, 4]), "CPU")([ROWS])[0]


def test_outputs_are_those_of_openvino_in_process(ask: Asker, expected: Any) -> None:
    np.testing.assert_array_equal(ask.infer("exact", {"x": ROWS}).outputs["y"], expected)
    assert ask.infer("onnx", {"x": np.array([1, -2], "f4")}).outputs["y"].tolist() == [-1, 2]
    rows = ROWS[:3]
    np.testing.assert_allclose(ask.infer("reshaped", {"x": rows}).outputs["y"], expected[:3], rtol=1e-6)


def test_a_batch_must_be_full_unless_it_is_padded(ask: Asker, expected: Any) -> None:
    reply = ask.infer("exact", {"x": ROWS[:1]})
    assert reply.status == 500
    assert "expected requests with batch size '4', got '1'... this error can be avoided by setting" in reply.error
    for size in (1, 3, 4):
        np.testing.assert_array_equal(ask.infer("padded", {"x": ROWS[:size]}).outputs["y"], expected[:size])


def test_every_type_goes_in_and_comes_out(ask: Asker) -> None:
    """As OpenVINO returns it: its CPU device computes with 32 bits where a type has 64."""
    import openvino

    given = {f"in_{name}": samples(name) for name in TYPES}
    reply = ask.infer("types", given)
    assert reply.error == ""
    expected = openvino.compile_model(make_identity(TYPES), "CPU")(given)
    for name in TYPES:
        result = reply.outputs[f"out_{name}"]
        assert result.dtype == given[f"in_{name}"].dtype
        np.testing.assert_array_equal(result, expected[f"out_{name}"])
        if not name.endswith("64"):
            np.testing.assert_array_equal(result, given[f"in_{name}"])


def test_what_a_configuration_leaves_out_is_read_from_the_file(ask: Asker) -> None:
    """The layouts have a batch, so the model batches."""
    config = json.loads(ask.pool.request("GET", f"{ask.url}/v2/models/completed/config").data)
    assert (config["backend"], config["max_batch_size"], "dynamic_batching" in config) == ("openvino", 4, True)
    found = [(row["name"], row["data_type"], row["dims"]) for key in ("input", "output") for row in config[key]]
    assert found == [("x", "TYPE_FP32", [4]), ("y", "TYPE_FP32", [3])]


def test_files_that_do_not_fit_their_configuration_are_refused(tmp_path: Path) -> None:
    import openvino

    def hint(name: str, value: str) -> str:
        return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'

    def change(old: str, new: str) -> str:
        return f"max_batch_size: 4 {IO}".replace(old, new)

    same = change("", "")
    reasons = {
        "count": (same + tensor("input", "z", "FP32", "[ 4 ]"), "configuration expects 2 inputs, model provides 1"),
        "name": (change('"y"', '"z"'), "unexpected inference output 'z', allowed outputs are: y"),
        "type": (change("TYPE_FP32", "TYPE_FP64"), "unsupported datatype TYPE_FP64 for input 'x' for model 'type'"),
        "shape": (
            change("[ 4 ]", "[ 5 ]"),
            "model 'shape', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model configuration",
        ),
        "threads": (
            same + hint("INFERENCE_NUM_THREADS", "all"),
            "expected the parameter 'INFERENCE_NUM_THREADS' to be a non-negative number, got all",
        ),
        "extension": (same + hint("CPU_EXTENSION_PATH", "/missing.so"), "openvino error in loading custom CPU extens"),
        "garbage": (same, "openvino error in reading model : Unable to read the model:"),
        "missing": (same, "missing/1/model.xml' for model 'missing'"),
    }
    for name, (config, _) in reasons.items():
        folder = add(tmp_path, name, f'backend: "openvino" {config} {CPU}')
        if name == "garbage":
            (folder / "model.xml").write_text("garbage")
        elif name != "missing":
            openvino.save_model(make_network([-1, 4]), folder / "model.xml", False)
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path, **{**FREE, "sagemaker_port": None})
    found = dict(line.removeprefix("model '").split("' did not load: ", 1) for line in str(caught.value).splitlines())
    for name, (_, reason) in reasons.items():
        assert reason in found.pop(name)
    assert not found


def test_parameters_become_properties_of_the_device() -> None:
    parameters = {
        "NUM_STREAMS": "auto",
        "PERFORMANCE_HINT": "latency",
        "HINT_BF16": "Yes",
        "INFERENCE_NUM_THREADS": "2",
    }
    assert read_properties(parameters) == {
        "NUM_STREAMS": "AUTO",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": "2",
    }
    for name, value in (("NUM_STREAMS", "many"), ("HINT_BF16", "no"), ("PERFORMANCE_HINT", "2"), ("NUM_STREAMS", "-1")):
        with pytest.raises(ArtifactError, match=f"expected the parameter '{name}' to be"):
            read_properties({name: value})
