"""The serving wing's pure rooms: loopback object, log, entry, image damage, agreement, completion, view."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tritonforge.errors import ArtifactError, LaunchError
from tritonforge.schema import ModelConfig, new_model_config
from tritonforge.serving import entry, loopback, ports, serverlog, view
from tritonforge.serving.backends import agreement, completion
from tritonforge.serving.backends.agreement import Provided
from tritonforge.serving.backends.configuration import Configuration, read_config
from tritonforge.serving.backends.dali import diagnosis

FP32, INT8 = "TYPE_FP32", "TYPE_INT8"

BIND = """
import json, os, socket
def bound(family, address):
    with socket.socket(family) as made:
        try:
            made.bind(address)
        except OSError as error:
            return error.errno
        name = made.getsockname()
        return name.decode("latin-1") if isinstance(name, bytes) else name[0]
taken = socket.create_server(("127.0.0.1", 0))
port = taken.getsockname()[1]
print(json.dumps([
    bound(socket.AF_INET, ("0.0.0.0", 0)), bound(socket.AF_INET, ("0.0.0.0", port)),
    bound(socket.AF_INET, ("127.0.0.3", 0)), bound(socket.AF_INET6, ("::1", 0)),
    bound(socket.AF_UNIX, chr(0) + "tritonforge" + str(os.getpid())),
]))
"""


def config(text: str) -> ModelConfig:
    """A ModelConfig of its text."""
    return text_format.Parse(text, new_model_config())


def test_the_loopback_object_moves_any_address_to_loopback(tmp_path: Path) -> None:
    """0.0.0.0 becomes 127.0.0.1 and errors keep their errno; every other address is left as it is."""
    (tmp_path / loopback.NAME).write_bytes(loopback.shared_object())
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "LD_PRELOAD": loopback.NAME}
    done = subprocess.run(
        [sys.executable, "-I", "-c", BIND], env=environment, check=True, capture_output=True, text=True
    )
    address, taken, other, six, unix = json.loads(done.stdout)
    assert done.stderr == ""
    assert (address, other, six) == ("127.0.0.1", "127.0.0.3", "::1")
    assert taken == 98  # EADDRINUSE
    assert unix.startswith("\0tritonforge")


def test_no_part_of_the_loopback_object_is_writable_and_executable() -> None:
    """Two segments are loaded, and the stack stays without execution."""
    content = loopback.shared_object()
    start, count = struct.unpack_from("<Q", content, 32)[0], struct.unpack_from("<H", content, 56)[0]
    segments = [struct.unpack_from("<II", content, start + 56 * number) for number in range(count)]
    assert [flags for kind, flags in segments if kind == 1] == [5, 6]
    assert [flags for kind, flags in segments if kind == 0x6474E551] == [6]


def test_held_ports_are_free_ones_that_nobody_else_gets() -> None:
    """A port of 0 is chosen, None stays None, and a second holder is refused while a listener is not."""
    with ports.held({"http": 0, "grpc": None}) as found:
        port = found["http"]
        assert port
        assert found["grpc"] is None
        with socket.socket() as rude, pytest.raises(OSError, match="in use"):
            rude.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), pytest.raises(LaunchError, match=f"port {port} .*--http-port"):  # noqa: SIM117
            with ports.held({"http": port}):
                pass


def test_a_port_that_cannot_be_is_refused() -> None:
    """Ports are 16 bits wide."""
    with pytest.raises(LaunchError, match="port 70000 on 127.0.0.1 cannot be opened"), ports.held({"http": 70000}):
        pass


LOG = r"""E1121 03:28:58.163476 9430 server.cc:241] "CudaDriverHelper has not been initialized."
I1121 03:28:58.171475 9430 model_lifecycle.cc:472] "loading: my model:3"
[ERROR] [jpeg_parser] Invalid marker
E1121 03:29:00.521239 9430 backend_model.cc:692] "ERROR: Failed to create instance: ValueError: a\n\nAt:\n  /m.py(3): f\n"
E1121 03:29:00.521350 9430 model_lifecycle.cc:642] "failed to load 'b' version 1: Internal: ValueError: a \"b\"; c\n\nAt:\n  /m.py(3): f\n"
E1121 03:29:00.529153 9430 model_lifecycle.cc:642] "failed to load 'a' version 1: Internal: TritonModelException: one\ntwo\n\nAt:\n  /m.py(3): i\n"
E1121 03:29:00.529200 9430 model_repository_manager.cc:1358] "Poll failed for model directory 'c': failed to read text proto from /c/config.pbtxt"
E1121 03:29:00.529300 9430 model_repository_manager.cc:614] "Invalid argument: in ensemble e, ensemble tensor x: inconsistent data type"
I1121 03:29:00.529400 9430 model_lifecycle.cc:839] "successfully loaded 'd'"
| Model    | Version | Status                              |
| d        | 1       | READY                               |
| b        | 1       | UNAVAILABLE: Internal: ValueError: a |
error: creating server: Internal - failed to load all models
"""


def test_reasons_are_tritons_without_its_prefixes() -> None:
    """One line a model: no status code, no Python traceback, nothing about CUDA."""
    assert serverlog.reasons(LOG) == [
        "model 'b' did not load: ValueError: a \"b\"; c",
        "model 'a' did not load: one two",
        "model 'c' did not load: failed to read text proto from /c/config.pbtxt",
        "in ensemble e, ensemble tensor x: inconsistent data type",
    ]
    assert serverlog.reasons("error: creating server: Internal - failed\n") == ["failed"]
    assert serverlog.reasons("") == []


def test_progress_and_models_are_read_from_the_log() -> None:
    """Steps of the start as sentences, and the table of models."""
    found = [step for line in LOG.splitlines() if (step := serverlog.progress(line))]
    assert found == ["loading my model version 3", "d is loaded"]
    assert serverlog.models(LOG) == [("d", "1", "READY", ""), ("b", "1", "UNAVAILABLE", "Internal: ValueError: a")]


def test_a_port_in_use_is_read_from_the_log() -> None:
    """tritonserver's own sentence."""
    assert (
        serverlog.port_in_use("failed to start HTTP service: Unavailable - Socket '0.0.0.0:8080' already in use")
        == 8080
    )
    assert serverlog.port_in_use(LOG) is None


def ensemble(*steps: str) -> ModelConfig:
    """An ensemble of these models."""
    return config(
        'platform: "ensemble" ensemble_scheduling {' + "".join(f'step {{ model_name: "{s}" }}' for s in steps) + "}"
    )


@pytest.mark.parametrize(
    ("configs", "default", "chosen"),
    [
        ({"a": config("")}, None, "a"),
        ({"a": config(""), "b": config("")}, "b", "b"),
        ({"a": config(""), "e": ensemble("a")}, None, "e"),
        ({"a": config(""), "inner": ensemble("a"), "outer": ensemble("inner", "a")}, None, "outer"),
        ({"a": config(""), "b": config("")}, None, "Name one as the default model .*: a, b"),
        ({"a": config(""), "e": ensemble("a"), "f": ensemble("a")}, None, "Name one as the default model .*: e, f"),
        ({"a": config("")}, "c", "no model 'c' in the repository; it has a"),
        ({}, None, "there is no model in the repository"),
    ],
)
def test_the_entry_is_given_or_follows(configs: dict[str, ModelConfig], default: str | None, chosen: str) -> None:
    """The named model, the only one, or the outermost ensemble; else the choices are listed."""
    if " " in chosen:
        with pytest.raises(LaunchError, match=chosen):
            entry.choose(configs, default)
    else:
        assert entry.choose(configs, default) == chosen


def test_steps_come_with_their_ensemble() -> None:
    """Through every level, and no other model."""
    configs = {"a": config(""), "b": config(""), "inner": ensemble("a"), "outer": ensemble("inner", "gone")}
    assert set(entry.with_steps(configs, ["outer"])) == {"outer", "inner", "a"}


def test_the_view_moves_gpu_instances_to_the_cpu(tmp_path: Path) -> None:
    """Groups of a GPU, and groups that list GPUs, keep their count; everything else stays as it is."""
    text = 'backend: "x" instance_group { kind: KIND_GPU gpus: [ 0, 1 ] count: 3 } instance_group { kind: KIND_CPU count: 2 } '
    folder = tmp_path / "repository" / "gpu" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(text + "instance_group { gpus: 0 }")
    (tmp_path / "repository" / "cpu").mkdir()
    configs = view.configs(tmp_path / "repository")
    assert {name for name, each in configs.items() if view.uses_gpu(each)} == {"gpu"}
    made = view.on_cpu(tmp_path / "repository", tmp_path / "view", {"gpu": configs["gpu"]})
    moved = view.configs(made)["gpu"]
    expected = "instance_group { kind: KIND_CPU count: %d }"
    assert moved == config('backend: "x" ' + "".join(expected % count for count in (3, 2, 1)))
    assert (made / "gpu" / "1").samefile(folder)
    assert (made / "cpu").is_dir()
    assert "KIND_GPU" in (folder.parent / "config.pbtxt").read_text()


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_no_gpus(visible: str) -> None:
    """CUDA_VISIBLE_DEVICES hides all of them."""
    assert not view.has_gpu({"CUDA_VISIBLE_DEVICES": visible})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (bytes(3), "holds 3 zero bytes and no image"),
        (
            b"GIF89a" + bytes(9),
            "is no image of a format that DALI decodes: it starts with the bytes 47 49 46 38 39 61 00 00",
        ),
        (
            b"\xff\xd8\xff\xe0" + bytes(90),
            "is a JPEG that was cut off: its 4 bytes do not come to the end of the image",
        ),
        (b"\x89PNG\r\n\x1a\n....IDAT", "is a PNG that was cut off: its 16 bytes do not come to the end of the image"),
        (b"\xff\xd8\xff\xe0....\xff\xd9" + bytes(90), None),
        (b"P5 1 1 255\n\xff", None),
    ],
)
def test_damage_is_described(content: bytes, found: str | None) -> None:
    """By the bytes alone; padding is no damage."""
    assert diagnosis.damage(content) == found


def test_a_reason_of_dalis_is_one_line() -> None:
    """Without the pipeline's source, C++ stack and last words; numbers of nvImageCodec in words."""
    message = (
        "Critical error in pipeline:\nError in CPU operator `nvidia.dali.fn.decoders.image`,\nwhich was used in the "
        'pipeline definition with the following traceback:\n\n  File "/secret/x.py", line 1, in <module>\n\n'
        "encountered:\n\n{}\nCurrent pipeline object is no longer valid."
    )
    assert diagnosis.cleaned(message.format("nvImageCodec failure: '#4'")) == "the image's format is not supported"
    assert diagnosis.cleaned(message.format("Failed to decode sample #2 : ")) == "Failed to decode the sample"
    reason = '[/opt/dali/x.cc:12] Assert on "a" failed: too big\nStacktrace (3 entries):\n[frame 0]: /usr/lib.so'
    assert diagnosis.cleaned(reason) == 'Assert on "a" failed: too big'
    assert diagnosis.cleaned("") == "DALI gave no reason"


def configuration(inputs: list[Any], outputs: list[Any], *, batch: int = 4, **rest: Any) -> Configuration:
    """A configuration named m; tensors are (name, type, dims)."""
    tensors = [[{"name": n, "data_type": t, "dims": d} for n, t, d in each] for each in (inputs, outputs)]
    given = {"name": "m", "max_batch_size": batch, "input": tensors[0], "output": tensors[1], **rest}
    return read_config(given, Path("m", "1"))


X, Y = {"x": Provided(FP32, (-1, 2))}, {"y": Provided(FP32, (-1, -1))}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (configuration([("x", FP32, [2])], [("y", FP32, [-1])]), None),
        (configuration([("x", FP32, [7, 2])], [("y", FP32, [-1, -1])], batch=0), None),
        (
            configuration([], [("y", FP32, [-1])]),
            "unable to load model 'm', configuration expects 0 inputs, model provides 1",
        ),
        (configuration([("z", FP32, [2])], []), "unexpected inference input 'z', allowed inputs are: x"),
        (
            configuration([("x", FP32, [2])], [("z", FP32, [2])]),
            "unexpected inference output 'z', allowed outputs are: y",
        ),
        (
            configuration([("x", INT8, [2])], []),
            "unable to load model 'm', configuration expects datatype TYPE_INT8 for input 'x', model provides TYPE_FP32",
        ),
        (
            configuration([("x", FP32, [3])], []),
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,2]) but the model configuration specifies 2 "
            "dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            "making complete shape [-1,3])",
        ),
        (
            configuration([("x", FP32, [2])], [("y", FP32, [5])]),
            "model 'm', tensor 'y': the model expects 2 dimensions (shape [-1,-1]) but the model configuration specifies 2 "
            "dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            "making complete shape [-1,5])",
        ),
        (
            configuration([("x", FP32, [2])], [("y", FP32, [-1])], batch=0),
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,2]) but the model configuration specifies 1 "
            "dimensions (shape [2])",
        ),
    ],
)
def test_a_configuration_has_to_agree_with_the_file(config: Configuration, message: str | None) -> None:
    """Names, types and shapes, in the words of Triton's own backends."""
    if message is None:
        agreement.check(config, X, Y)
        agreement.check_shapes(config, X, Y)
        return
    with pytest.raises(ArtifactError) as caught:
        agreement.check(config, X, Y)
        agreement.check_shapes(config, X, Y)
    assert str(caught.value) == message


def test_a_model_that_cannot_batch_is_not_batched() -> None:
    """Its first dimension is a number."""
    with pytest.raises(
        ArtifactError, match="for the model to support batching the shape should have at least 1 dimension"
    ):
        agreement.check_shapes(configuration([("x", FP32, [2])], []), {"x": Provided(FP32, (1, 2))}, {})


def test_parameters_are_whole_numbers() -> None:
    """Others are named with the model."""
    parameters = {"good": {"string_value": "3"}, "bad": {"string_value": "many"}, "low": {"string_value": "-1"}}
    config = configuration([], [], parameters=parameters)
    assert config.number("good", 0) == 3
    assert config.number("absent", 7) == 7
    for name in ("bad", "low"):
        with pytest.raises(
            ArtifactError, match=f"parameter '{name}' of model 'm' is .*; write a whole number from 0 on"
        ):
            config.number(name, 0)


class FakeConfig:
    """What Triton's stub hands to auto_complete_config, without its checks."""

    def __init__(self, max_batch_size: int, **tensors: list[Any]) -> None:
        self.parts: dict[str, Any] = {"name": "m", "max_batch_size": max_batch_size, "input": [], "output": []}
        for kind, each in tensors.items():
            self.parts[kind] = [{"name": n, "data_type": t, "dims": d} for n, t, d in each]

    def as_dict(self) -> dict[str, Any]:
        """The configuration."""
        return self.parts

    def set_max_batch_size(self, size: int) -> None:
        """As Triton's."""
        self.parts["max_batch_size"] = size

    def set_dynamic_batching(self) -> None:
        """As Triton's."""
        self.parts["dynamic_batching"] = {}


@pytest.mark.parametrize(
    ("config", "batched"),
    [
        (FakeConfig(0), True),
        (FakeConfig(8), True),
        (FakeConfig(0, input=[("x", FP32, [2])]), True),
        (FakeConfig(0, input=[("x", FP32, [5, 2])]), False),
    ],
)
def test_batching_is_completed_from_what_is_given(config: FakeConfig, batched: bool) -> None:
    """dims that hold the batch dimension say that the model does not batch."""
    before = config.as_dict()["max_batch_size"]
    assert completion.set_batching(config, {**X, **Y}) is batched
    assert config.as_dict()["max_batch_size"] == ((before or 4) if batched else 0)
    assert ("dynamic_batching" in config.as_dict()) is (batched and not before)


def test_batching_that_cannot_be_is_refused() -> None:
    """A batch size for a model of fixed extents, and dims that contradict each other."""
    with pytest.raises(ArtifactError, match="specified max-batch 8 but model signature does not support batching"):
        completion.set_batching(FakeConfig(8), {"x": Provided(FP32, (1, 2))})
    mixed = FakeConfig(0, input=[("x", FP32, [2])], output=[("y", FP32, [5, 2])])
    with pytest.raises(ArtifactError, match="are contradicting each other"):
        completion.set_batching(mixed, {**X, **Y})
