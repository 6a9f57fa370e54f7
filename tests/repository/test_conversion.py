"""Tests of `onnx_converter`: TensorFlow repositories become ONNX ones, whole or not at all."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.framework_children import FrameworkProcess
from tests.support.tensorflow_models import write_convertible, write_refused
from tritonforge.errors import ArtifactError, DefinitionError, ValidationError
from tritonforge.inference.client import Client
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import GRAPHDEF, ONNX, SAVEDMODEL, TensorSpec
from tritonforge.repository import model_config as text
from tritonforge.repository import onnx_translation, tensorflow_model
from tritonforge.repository.download import BuildProgress
from tritonforge.repository.onnx_conversion import Conversion, ConversionJob
from tritonforge.repository.onnx_converter import convert_repository
from tritonforge.serving.server import Server
from tritonforge.validation.report import validate

pytestmark = pytest.mark.framework

SOFTMAX = "InceptionV3/Predictions/Softmax"


class Recorder:
    """A progress callback that stores steps and notes."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def __call__(self, event: BuildProgress) -> None:
        """Store an event."""
        if event.kind != "bytes":
            (self.steps if event.kind == "step" else self.notes).append(event.message)


@pytest.fixture(scope="module", autouse=True)
def forked(framework_processes: tuple[FrameworkProcess, FrameworkProcess]) -> Iterator[None]:
    """Conversions run in forks of one process; end_to_end/test_digits.py runs one in a process of its own."""
    with framework_processes[0].forks():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the repositories of TensorFlow models."""
    folder = tmp_path_factory.mktemp("tensorflow")
    write_convertible(folder / "zoo")
    write_refused(folder / "refused")
    return folder


@pytest.fixture(scope="module")
def zoo(made: Path) -> Path:
    """The repository of models that ONNX can hold."""
    return made / "zoo"


@pytest.fixture(scope="module")
def conversion(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The zoo, converted once."""
    return convert_repository(zoo, tmp_path_factory.mktemp("onnx") / "zoo", image="26.05")


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the record of the build."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder
    }


def test_every_version_of_every_tensorflow_model_is_an_onnx_file_now(zoo: Path, conversion: Conversion) -> None:
    """`model.onnx` replaces each GraphDef and SavedModel; all other files stay."""
    gone = {"named/1/net.pb", "named/3/net.pb", "texts/1/model.graphdef"}
    kept = {path for path in files(zoo) if path not in gone and "model.savedmodel" not in path}
    new = {f"{version}/model.onnx" for version in ("named/1", "named/3", "saved/1", "texts/1", "unconfigured/1")}
    assert files(conversion.repository).keys() == kept | new
    assert [f"{model.model}/{model.version}" for model in conversion.models] == sorted(path[:-11] for path in new)
    assert set(conversion.rebuilt) == {path[:-11] for path in new}


def test_ensembles_and_other_models_stay_as_they_were_byte_by_byte(zoo: Path, conversion: Conversion) -> None:
    """Configurations with their comments, code, tables, labels, warm-up, and folders without files."""
    before, after = files(zoo), files(conversion.repository)
    same = ["whole/config.pbtxt", "prepare/config.pbtxt", "prepare/1/model.py", "prepare/1/tables/one.txt"]
    for path in [*same, "named/names.txt", "named/warmup/pixels"]:
        assert after[path] == before[path]
    assert (conversion.repository / "prepare/1/empty").is_dir()
    assert (conversion.repository / "whole/1").is_dir()


def test_the_repository_loads_on_the_image_without_tensorflow(zoo: Path, conversion: Conversion) -> None:
    """26.05 refuses the original for its four TensorFlow models, and finds nothing in the converted one."""
    assert [finding.code for finding in validate(zoo, image="26.05") if finding.refused_by].count("E601") == 4
    assert not [finding for finding in validate(conversion.repository, image="26.05") if finding.refused_by]


def test_names_types_and_shapes_are_those_of_the_configuration(conversion: Conversion) -> None:
    """Slashes in a node's name stay, NHWC stays NHWC, an input that nothing reads is there."""
    found = introspect(conversion.repository / "named/3/model.onnx", ONNX)
    assert found.inputs == (TensorSpec("input", "TYPE_FP32", (-1, 15, 17, 3)),)
    assert found.outputs == (
        TensorSpec(SOFTMAX, "TYPE_FP32", (-1, 10)),
        TensorSpec("average", "TYPE_FP32", (-1, 1)),
    )
    found = introspect(conversion.repository / "saved/1/model.onnx", ONNX)
    assert found.inputs == (
        TensorSpec("pixels", "TYPE_FP32", (-1, 16, 16, 3)),
        TensorSpec("unused", "TYPE_INT32", (-1, 1)),
    )
    assert {tensor.name: (tensor.data_type, tensor.shape) for tensor in found.outputs} == {
        "classes": ("TYPE_INT64", (-1,)),
        "scores": ("TYPE_FP32", (-1, 5)),
    }


def test_the_onnx_file_runs_and_answers_as_the_graph_does(zoo: Path, conversion: Conversion) -> None:
    """Independently of the comparison inside: both versions, each as its own graph, at batch 1 and 8."""
    import onnxruntime
    import tensorflow as tf

    for version in (1, 3):
        session = onnxruntime.InferenceSession(str(conversion.repository / f"named/{version}/model.onnx"))
        graph = tf.Graph()
        with graph.as_default():
            definition = tf.compat.v1.GraphDef()
            definition.ParseFromString((zoo / f"named/{version}/net.pb").read_bytes())
            tf.import_graph_def(definition, name="")
        for size in (1, 8):
            pixels = np.random.default_rng(size).normal(size=(size, 15, 17, 3)).astype("f4")
            with tf.compat.v1.Session(graph=graph) as running:
                expected = running.run([f"{SOFTMAX}:0", "average:0"], {"input:0": pixels})
            found = session.run([SOFTMAX, "average"], {"input": pixels})
            for ours, theirs in zip(expected, found, strict=True):
                np.testing.assert_allclose(theirs, ours, atol=1e-6)


@pytest.mark.server
def test_the_real_server_loads_and_answers_every_converted_model(conversion: Conversion) -> None:
    """Two versions with their warm-up, an input that nothing reads, texts, and a model without a configuration."""
    names = ("named", "saved", "texts", "unconfigured")
    options = {"sagemaker_port": None, "grpc_port": None, "metrics_port": None}
    with Server(conversion.repository, models=names, http_port=0, **options) as server:
        ready = {(model.name, model.version) for model in server.models() if model.state == "READY"}
        assert ready == {("named", "1"), ("named", "3"), ("saved", "1"), ("texts", "1"), ("unconfigured", "1")}
        numbers = np.arange(8, dtype="f4").reshape(2, 4)
        with Client(str(server.http_url), model="unconfigured") as client:
            assert (client.infer({"numbers": numbers})["double"] == 2 * numbers).all()
        with Client(str(server.http_url), model="texts") as client:
            answer = client.infer({"text": np.array([b"a", "é".encode()], object)})["same"]
            assert list(answer) == [b"a", "é".encode()]
        pixels = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("f4")
        with Client(str(server.http_url), model="saved") as client:
            found = client.infer({"pixels": pixels, "unused": np.zeros((2, 1), "i4")})
        assert found["classes"].ravel().tolist() == found["scores"].argmax(axis=1).tolist()
        pixels = np.random.default_rng(0).normal(size=(2, 15, 17, 3)).astype("f4")
        with Client(str(server.http_url), model="named") as client:
            best = client.infer({"input": pixels}, outputs=[SOFTMAX], classification=1).classes(SOFTMAX)
        assert all(row[0].label == f"name {row[0].index}" for row in best)


def test_the_settings_stay_and_tensorflows_own_are_left_out_with_a_sentence(conversion: Conversion) -> None:
    """The user's own parameter, pinned memory, instances, batching, labels, policy and warm-up stay."""
    written = (conversion.repository / "named/config.pbtxt").read_text()
    found = text.parse_config(written)
    expected = text.parse_config(
        f"""
        name: "named" platform: "onnxruntime_onnx" max_batch_size: 8
        input {{ name: "input" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 15, 17, 3 ] }}
        output {{ name: "{SOFTMAX}" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "names.txt" }}
        output {{ name: "average" data_type: TYPE_FP32 dims: [ 1 ] }}
        instance_group {{ count: 1 kind: KIND_CPU }}
        dynamic_batching {{ max_queue_delay_microseconds: 100 }}
        version_policy {{ all {{}} }}
        parameters {{ key: "owner" value {{ string_value: "us" }} }}
        optimization {{ input_pinned_memory {{ enable: false }} }}
        model_warmup {{
          name: "one" batch_size: 1
          inputs {{ key: "input" value {{ data_type: TYPE_FP32 dims: [ 15, 17, 3 ] input_data_file: "pixels" }} }}
        }}
        """
    )
    assert found == expected
    threads = "ONNX Runtime's threads are set by intra_op_thread_count and inter_op_thread_count"
    assert conversion.notes == (
        f"named: left out TensorFlow's parameters TF_NUM_INTRA_THREADS; {threads}",
        "named: left out optimization { graph }: its values are TensorFlow's; ONNX Runtime has accelerators of its own",
    )


def test_each_model_is_compared_on_photographs_and_random_inputs(conversion: Conversion) -> None:
    """Batches of one and of several; the facts say how many inputs, how far apart, and how far is allowed."""
    facts = {f"{model.model}/{model.version}": model for model in conversion.models}
    named = facts["named/3"]
    assert (named.photographs, named.random, named.opset) == (5, 5, 18)
    assert 0 < named.relative_difference <= named.tolerance == 1e-4
    assert named.classes == 10
    assert "on 5 photographs and 5 random inputs the largest difference from TensorFlow is" in named.sentence
    assert "(0.0001 is allowed), all 10 classes agree" in named.sentence
    # At most three in a batch; no image; whole texts, which are equal or not.
    assert (facts["saved/1"].photographs, facts["saved/1"].random) == (4, 4)
    assert facts["unconfigured/1"].photographs == 0
    assert (facts["texts/1"].tolerance, facts["texts/1"].largest_difference) == (0, 0)


def test_equal_constants_are_merged_the_same_way_each_time(digits: Path) -> None:
    """The trained network has them, and the converter's sets would keep now one, now the other of two."""
    import onnx

    given = (TensorSpec("pixels", "TYPE_FP32", (-1, 32, 32, 3)),)
    wanted = (TensorSpec("probabilities", "TYPE_FP32", (-1, 10)),)
    path = str(digits / "classify/1/model.graphdef")
    job = ConversionJob("classify", 1, GRAPHDEF, path, "", 18, 64, inputs=given, outputs=wanted)
    model = tensorflow_model.load_original(job)
    made = {
        # In one process the converter counts its own names on.
        re.sub(r"__\d+", "__n", str(onnx.load_from_string(onnx_translation.translate(job, model))))
        for _ in range(6)
    }
    assert len(made) == 1


def test_the_weights_that_copies_share_come_out_as_they_would(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tf2onnx as it is gives the same file; with one copy of the weights its graphs have the tensors in common."""
    import onnx
    from tf2onnx.graph import Graph, Node

    given, wanted = (TensorSpec("pixels", "TYPE_FP32", (-1, 32, 32, 3)),), (TensorSpec("probabilities", "TYPE_FP32"),)
    path = str(digits / "classify/1/model.graphdef")
    job = ConversionJob("classify", 1, GRAPHDEF, path, "", 18, 64, inputs=given, outputs=wanted)
    model = tensorflow_model.load_original(job)

    def made() -> str:
        return re.sub(r"__\d+", "__n", str(onnx.load_from_string(onnx_translation.translate(job, model))))

    sharing = made()
    tensor = onnx.numpy_helper.from_array(np.arange(100, dtype="f4"), "w")
    graph = Graph([], opset=18)
    constant = graph.make_node("Const", [], attr={"value": tensor}, outputs=["w"], shapes=[[100]], dtypes=[1])
    graph.update_proto()
    (other,) = copy.deepcopy(graph).get_nodes()
    assert other is not constant
    assert other.attr["value"] is constant.attr["value"]
    assert not constant.op.attribute
    monkeypatch.setattr(onnx_translation, "_share_constants", lambda: None)
    monkeypatch.delattr(Graph, "__deepcopy__")
    monkeypatch.setattr(Node, "update_proto", Node.update_proto.__wrapped__)
    assert made() == sharing


def test_only_what_changed_is_converted_again(zoo: Path, conversion: Conversion, tmp_path: Path) -> None:
    """Nothing the second time; after a change of one version that one: another folder and run, yet the same bytes."""
    ours = tmp_path / "zoo"
    shutil.copytree(zoo, ours)
    target = tmp_path / "onnx"
    shutil.copytree(conversion.repository, target)
    recorder = Recorder()
    same = convert_repository(ours, target, image="26.05", on_progress=recorder)
    assert (same.rebuilt, same.changed, same.digest, same.models) == ((), False, conversion.digest, conversion.models)
    assert (recorder.steps, recorder.notes) == ([], list(conversion.notes))

    shutil.copyfile(ours / "named/3/net.pb", ours / "named/1/net.pb")
    recorder = Recorder()
    other = convert_repository(ours, target, image="26.05", on_progress=recorder)
    assert (other.rebuilt, other.changed) == (("named/1",), True)
    assert other.digest != conversion.digest
    assert recorder.notes == list(conversion.notes)
    assert recorder.steps == ["converting named/1/net.pb to ONNX"]
    after = files(target)
    assert after["named/1/model.onnx"] == after["named/3/model.onnx"]
    unchanged = files(conversion.repository)
    assert {path for path in after if after[path] != unchanged[path]} == {"named/1/model.onnx"}

    (target / "prepare/1/model.py").write_text("touched\n")
    repaired = convert_repository(ours, target, image="26.05")
    assert (repaired.rebuilt, repaired.changed, repaired.digest) == ((), True, other.digest)
    assert files(target) == after


def test_what_onnx_cannot_hold_is_refused_in_a_sentence_each_and_nothing_is_left(
    made: Path, conversion: Conversion, tmp_path: Path
) -> None:
    """The op is named, or the difference; both name the other way out. The tree that is served stays as it was."""
    both = tmp_path / "both"
    for name in ("dice", "letters"):
        shutil.copytree(made / "refused" / name, both / name)
    target = tmp_path / "deep" / "served"
    shutil.copytree(conversion.repository, target)
    before = files(target)
    with pytest.raises(ArtifactError) as refused:
        convert_repository(both, target, image="26.05")
    dice, letters = str(refused.value).splitlines()
    assert dice.startswith("dice/1: on a batch of 1 (random) the ONNX model's output 'y' differs from TensorFlow's by ")
    assert "where 0.0001 is allowed; nothing was written; keep TensorFlow in an image of your own: " in dice
    assert letters == (
        "letters/1: ONNX has no equal of the TensorFlow op StaticRegexReplace; keep TensorFlow in an image of your "
        "own: --tensorflow python-backend"
    )
    assert files(target) == before
    assert list((tmp_path / "deep").iterdir()) == [target]


def test_a_decoder_is_found_before_the_long_work(made: Path) -> None:
    """Inside the function that a signature calls, and inside the loop in it; a graph without one has none."""
    folder = made / "refused"
    images = ConversionJob("images", 1, SAVEDMODEL, str(folder / "images/1/model.savedmodel"), "", 18)
    model = tensorflow_model.load_original(images)
    assert model.unsupported_ops == ("DecodeJpeg",)
    with pytest.raises(ArtifactError, match="images/1: ONNX has no equal of the TensorFlow op DecodeJpeg; keep Tens"):
        onnx_translation.translate(images, model)
    dice = ConversionJob("dice", 1, GRAPHDEF, str(folder / "dice/1/model.graphdef"), "", 18, outputs=(TensorSpec("y"),))
    assert tensorflow_model.load_original(dice).unsupported_ops == ()


def test_the_folders_must_be_two_and_the_target_ours(zoo: Path, tmp_path: Path) -> None:
    """The original is never written into, and neither is a folder of something else."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("do not lose me")
    for target in (zoo, zoo / "named", zoo.parent):
        with pytest.raises(DefinitionError, match="must be a directory apart"):
            convert_repository(zoo, target, image="26.05")
    with pytest.raises(DefinitionError, match="something that no tritonforge build wrote"):
        convert_repository(zoo, tmp_path / "other", image="26.05")
    with pytest.raises(DefinitionError, match="no such directory"):
        convert_repository(tmp_path / "none", tmp_path / "new", image="26.05")
    with pytest.raises(DefinitionError, match="no Triton image"):
        convert_repository(zoo, tmp_path / "new", image="26.5")


def test_a_repository_that_triton_refuses_anyway_is_not_converted(zoo: Path, tmp_path: Path) -> None:
    """What is wrong with the original is reported at once, and so is what the image lacks besides TensorFlow."""
    broken = tmp_path / "broken"
    shutil.copytree(zoo / "texts", broken / "texts")
    (broken / "texts/config.pbtxt").write_text('platform: "tensorflow_graphdef" max_batch_size: -1')
    with pytest.raises(ValidationError, match="so it was not converted"):
        convert_repository(broken, tmp_path / "new", image="26.05")
    lacking = tmp_path / "lacking"
    (lacking / "words/1").mkdir(parents=True)
    (lacking / "words/config.pbtxt").write_text('name: "words"\nbackend: "vllm"\n')
    (lacking / "words/1/model.json").write_text("{}")
    with pytest.raises(ValidationError, match=r"the image 26\.05 would refuse it as ONNX too") as refused:
        convert_repository(lacking, tmp_path / "deep" / "new", image="26.05")
    assert "E602" in str(refused.value)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "deep").iterdir()) == []
