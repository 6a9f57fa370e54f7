"""The pytorch backend inside a real tritonserver, against PyTorch in this process: `make test-torch`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.model_zoo import CPU, add, tensor
from tests.support.tensor_client import FREE, Asker, samples
from tritonforge.errors import LaunchError
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

torch = pytest.importorskip("torch", reason="PyTorch is not installed here; run: make test-torch")

TYPES = ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
TORCHSCRIPT = 'platform: "pytorch_libtorch"'


#: The bodies of modules in TorchScript.
PAIR = "def forward(self, a, b):\n  return a + b, a - b\n"
DICTIONARY = "def forward(self, tensors: Dict[str, Tensor]):\n  return tensors['left'] - tensors['right']\n"
TEXTS = "def forward(self, texts: List[str]) -> List[str]:\n  return [text + '!' for text in texts]\n"
IDENTITY = "def forward(self, x):\n  return x\n"
SCALAR = "def forward(self, x):\n  return x.sum()\n"
ALL_TYPES = f"def forward(self, {', '.join(name.lower() for name in TYPES)}):\n  return ({', '.join(TYPES).lower()})\n"
TOTAL = """
def forward(self, x, start, total):
    total = torch.where(start > 0, torch.zeros_like(total), total) + x
    return total * 10, total
"""


_numbers = itertools.count()


def make_network() -> Any:
    """Two layers of fixed weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()


def save(module: Any, folder: Path) -> None:
    """Write a module, or the text of its ``forward``, as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        if isinstance(module, str):
            # TorchScript keeps one method for the name of a class.
            script = type(f"Module{next(_numbers)}", (torch.jit.ScriptModule,), {})()
            script.define(module)
        else:
            script = torch.jit.trace(module, torch.ones(1, 4))
        script.save(str(folder / "model.pt"))


def hint(name: str, value: str) -> str:
    """A parameter of a model."""
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }} '


def make_io(inputs: list[str], outputs: list[str], data_type: str = "FP32", dims: str = "[ 4 ]") -> str:
    """Inputs and outputs of one kind."""
    return "".join(
        tensor(kind, name, data_type, dims)
        for kind, names in (("input", inputs), ("output", outputs))
        for name in names
    )


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A server with models of PyTorch."""
    repository = tmp_path_factory.mktemp("pytorch")
    tuned = "".join(
        (
            hint("INFERENCE_MODE", "false"),
            hint("DISABLE_OPTIMIZED_EXECUTION", "true"),
            hint("INTRA_OP_THREAD_COUNT", "1"),
            hint("ENABLE_JIT_PROFILING", "off"),
        )
    )
    delay = "dynamic_batching { max_queue_delay_microseconds: 200000 }"
    io = tensor("input", "x", "FP32", "[ 4 ]") + tensor("output", "y", "FP32", "[ 3 ]")
    for name, rest in (("network", delay), ("tuned", tuned)):
        save(make_network(), add(repository, name, f"{TORCHSCRIPT} max_batch_size: 8 {io} {rest} {CPU}"))
    for name, io in (
        ("arguments", make_io(["b", "a"], ["sum", "difference"])),
        ("indices", make_io(["IN__1", "IN__0"], ["OUT__1", "OUT__0"])),
        ("order", make_io(["first", "second"], ["sum", "difference"])),
    ):
        save(PAIR, add(repository, name, f'backend: "pytorch" max_batch_size: 8 {io} {CPU}'))
    io = make_io(["right", "left"], ["OUTPUT__0"])
    save(DICTIONARY, add(repository, "dictionary", f"{TORCHSCRIPT} max_batch_size: 8 {io} {CPU}"))
    io = make_io(["TEXT__0"], ["TEXT_OUT__0"], "STRING", "[ -1 ]")
    save(TEXTS, add(repository, "texts", f"{TORCHSCRIPT} {io} {CPU}"))
    io = "".join(
        tensor(kind, f"{kind}__{place}", name, "[ 2, 2 ]")
        for kind in ("input", "output")
        for place, name in enumerate(TYPES)
    )
    save(ALL_TYPES, add(repository, "types", f"{TORCHSCRIPT} {io} {CPU}"))
    io = make_io(["INPUT__0"], ["OUTPUT__0"], dims="[ 1 ]")
    control = 'control_input { name: "START__1" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }'
    state = 'state { input_name: "TOTAL__2" output_name: "NEXT__1" data_type: TYPE_FP32 dims: [ 1 ] }'
    config = f"{TORCHSCRIPT} max_batch_size: 4 {io} sequence_batching {{ {control} {state} }} {CPU}"
    save(TOTAL, add(repository, "total", config))
    save(SCALAR, add(repository, "scalar", f"{TORCHSCRIPT} {make_io(['x'], ['y'])} {CPU}"))
    mismatch = make_io(["x"], []) + tensor("output", "y", "INT64", "[ 4 ]")
    save(IDENTITY, add(repository, "mismatch", f"{TORCHSCRIPT} {mismatch} {CPU}"))
    with Server(repository, **{**FREE, "sagemaker_port": None}) as server, urllib3.PoolManager(maxsize=8) as pool:
        assert server.http_url is not None
        yield Asker(server.http_url, pool)


def test_outputs_are_those_of_pytorch_in_process(ask: Asker) -> None:
    with torch.inference_mode():
        expected = make_network()(torch.from_numpy(ROWS)).numpy()
    for name in ("network", "tuned"):
        np.testing.assert_allclose(ask.infer(name, {"x": ROWS}).outputs["y"], expected, rtol=1e-6)
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda at: ask.infer("network", {"x": ROWS[at : at + 1]}), range(6)))
    results = np.concatenate([reply.outputs["y"] for reply in replies])
    np.testing.assert_allclose(results, expected, rtol=1e-6)
    assert max(row["batch_size"] for row in ask.statistics("network")["batch_stats"]) > 1


def test_tensors_are_named_after_arguments_or_indices_or_counted(ask: Asker) -> None:
    a, b = ROWS[:2], ROWS[2:4]
    for name, inputs, (total, difference) in (
        ("arguments", {"a": a, "b": b}, ("sum", "difference")),
        ("indices", {"IN__0": a, "IN__1": b}, ("OUT__0", "OUT__1")),
        ("order", {"first": a, "second": b}, ("sum", "difference")),
    ):
        outputs = ask.infer(name, inputs).outputs
        np.testing.assert_array_equal(outputs[total], a + b)
        np.testing.assert_array_equal(outputs[difference], a - b)
    outputs = ask.infer("dictionary", {"left": a, "right": b}).outputs
    np.testing.assert_array_equal(outputs["OUTPUT__0"], a - b)


def test_texts_are_lists_of_one_dimension(ask: Asker) -> None:
    given = np.array(["é€".encode(), b"", b"x"], dtype=object)
    assert ask.infer("texts", {"TEXT__0": given}).outputs["TEXT_OUT__0"].tolist() == [text + b"!" for text in given]
    reply = ask.infer("texts", {"TEXT__0": np.array([b"\xff"], dtype=object)})
    assert "input 'TEXT__0' is not UTF-8 text" in reply.error


def test_every_type_goes_in_and_comes_out(ask: Asker) -> None:
    given = {f"input__{place}": samples(name) for place, name in enumerate(TYPES)}
    reply = ask.infer("types", given)
    assert reply.error == ""
    for place in range(len(TYPES)):
        result, array = reply.outputs[f"output__{place}"], given[f"input__{place}"]
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, array)


def test_a_state_is_kept_for_its_sequence(ask: Asker) -> None:
    for sequence in (1, 2):
        results = []
        for place in range(3):
            flags = {"sequence_id": sequence, "sequence_start": place == 0, "sequence_end": place == 2}
            reply = ask.infer("total", {"INPUT__0": np.array([[place + 1]], "f4")}, parameters=flags)
            results.append(float(reply.outputs["OUTPUT__0"][0, 0]))
        assert results == [10, 30, 60]


def test_results_that_the_configuration_does_not_describe_are_errors(ask: Asker) -> None:
    row = {"x": ROWS[0]}
    assert "output 'y' is a scalar which is not supported." in ask.infer("scalar", row).error
    reason = "configuration expects datatype TYPE_INT64 for output 'y', model provides TYPE_FP32"
    assert reason in ask.infer("mismatch", row).error
    reply = ask.infer("arguments", {"a": ROWS[:2], "b": ROWS[:2]}, outputs=["sum"])
    assert list(reply.outputs) == ["sum"]


def test_files_that_do_not_fit_their_configuration_are_refused(tmp_path: Path) -> None:
    good = make_io(["x"], ["y"])
    reasons = {
        "count": (make_io(["a", "b"], ["y"]), "configuration expects 2 inputs, model provides 1"),
        "type": (make_io(["x"], ["y"], "UINT16"), "unsupported datatype TYPE_UINT16 for input 'x' for model 'type'"),
        "strings": (
            make_io(["x"], ["y"], "STRING", "[ 2, 2 ]"),
            "Triton only supports 1 dimensional List of String as",
        ),
        "flag": (good + hint("INFERENCE_MODE", "maybe"), "failed to convert 'maybe' to boolean"),
        "number": (good + hint("INTRA_OP_THREAD_COUNT", "all"), "failed to convert 'all' to integral number"),
        "garbage": (good, "failed to load model 'garbage': PytorchStreamReader failed reading zip archive"),
        "weights": (good, "failed to load model 'weights': "),
        "missing": (good, "missing/1/model.pt' for model instance 'missing'"),
        "module": (
            good,
            "model 'module': PyTorch 2.0 models (runtime \"model.py\") are not supported by tritonforge's",
        ),
    }
    for name, (io, _) in reasons.items():
        folder = add(tmp_path, name, f"{TORCHSCRIPT} {io} {CPU}")
        if name == "garbage":
            (folder / "model.pt").write_text("garbage")
        elif name == "weights":
            torch.save(make_network().state_dict(), folder / "model.pt")
        elif name == "module":
            (folder / "model.py").touch()
        elif name != "missing":
            save(IDENTITY, folder)
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path, **{**FREE, "sagemaker_port": None})
    found = dict(line.removeprefix("model '").split("' did not load: ", 1) for line in str(caught.value).splitlines())
    for name, (_, reason) in reasons.items():
        assert reason in found.pop(name)
    assert not found
