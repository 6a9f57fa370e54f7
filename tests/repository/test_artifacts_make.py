"""Tests of `artifact_builder`: each kind of source, for each kind of model file."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tritonforge
from tests.support.framework_children import FrameworkProcess
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import dali_pipeline, introspection, signature
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.repository import child_process, download
from tritonforge.repository.artifact_builder import ArtifactBuilder, build_artifact
from tritonforge.repository.child_process import error_from_json, error_to_json, run_in_child
from tritonforge.repository.definition import (
    S3,
    Dali,
    Download,
    File,
    Function,
    Input,
    Onnx,
    Output,
    Python,
    PyTorch,
    TensorFlow,
)
from tritonforge.repository.definition.loading import load
from tritonforge.repository.definition.models import Model
from tritonforge.repository.download import BuildProgress
from tritonforge.repository.fingerprint import list_builder_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFINITION = '''
"""Models that are made in a moment, and models that cannot be made."""
import os

from tritonforge.repository.definition import Dali, Download, Function, Input, Onnx, Output, TensorFlow


def network():
    import keras

    print("this line is not for the parent")
    image = keras.Input((8, 8, 3))
    tensor = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
    tensor = keras.layers.GlobalAveragePooling2D()(tensor)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax", name="probabilities")(tensor))


def two_outputs():
    import tensorflow as tf

    class Pair(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(["one", "two"], tf.constant([1, 2], tf.int64)), -1
            )
            self.scale = tf.Variable(tf.random.normal([]))

        def __call__(self, word, number):
            return {"scaled": number * self.scale, "looked_up": self.table.lookup(word)}

    return Pair()


def preprocess(image):
    from nvidia.dali import fn, types

    image = fn.decoders.image(image, device="mixed", output_type=types.RGB)
    return fn.cast(fn.resize(image, resize_x=8, resize_y=8), dtype=types.FLOAT)


def doubled():
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def broken():
    raise ValueError("the weights are gone\\nand more lines")


def sleeps():
    import pathlib
    import time

    pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
    time.sleep(600)


def dies():
    os.write(2, b"last words")
    os._exit(3)


IMAGE = [Input("image", "TYPE_FP32", [8, 8, 3])]
frozen = TensorFlow(
    "frozen",
    platform="tensorflow_graphdef",
    max_batch_size=4,
    input=IMAGE,
    output=[Output("a/b/Softmax", "TYPE_FP32", [5])],
    artifact=Function(build=network, random_weights=True),
)
saved = TensorFlow("saved", max_batch_size=4, input=IMAGE, output=[Output("p")], artifact=Function(build=network))
pair = TensorFlow(
    "pair",
    max_batch_size=4,
    input=[Input("word", "TYPE_STRING", [1], reshape=[]), Input("number", "TYPE_FP32", [2])],
    output=[Output("looked_up", "TYPE_INT64", [1], reshape=[]), Output("scaled")],
    artifact=Function(build=two_outputs),
)
BYTES = [Input("encoded", "TYPE_UINT8", [-1])]
PIXELS = [Output("o", "TYPE_FP32", [8, 8, 3])]
THREADS = {"num_threads": 3}
for_gpu = Dali("for_gpu", max_batch_size=4, input=BYTES, output=PIXELS, pipeline=preprocess)
for_cpu = Dali("for_cpu", max_batch_size=4, input=BYTES, parameters=THREADS, pipeline=preprocess, device="cpu")
onnx_model = Onnx("onnx_model", max_batch_size=4, artifact={7: Function(build=doubled)})
failing = Onnx("failing", artifact=Function(build=broken))
sleeping = Onnx("sleeping", artifact=Function(build=sleeps))
dying = Onnx("dying", artifact=Function(build=dies))
offline = Onnx(
    "offline",
    artifact=Download(
        url="https://127.0.0.1:9/m.onnx", sha256="0" * 64, fallback=Function(build=doubled, random_weights=True)
    ),
)
'''


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An empty cache folder, and no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONFORGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("https_proxy", "HTTPS_PROXY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same definition in two folders, one deeper than the other."""
    found = []
    for folder in ("one", "two/and/deeper"):
        home = tmp_path_factory.mktemp("definitions") / folder
        home.mkdir(parents=True)
        (home / "definition.py").write_text(DEFINITION)
        found.append(home / "definition.py")
    return found[0], found[1]


@pytest.fixture
def forked(framework_processes: tuple[FrameworkProcess, FrameworkProcess]) -> Iterator[None]:
    """Models are made in forks of one process."""
    with framework_processes[0].forks():
        yield


def silent(event: BuildProgress) -> None:
    """A callback that expects no note."""
    assert event.kind != "note", event.message


def collect_notes(notes: list[str]) -> Callable[[BuildProgress], None]:
    """A callback that appends each note to a list."""
    return lambda event: notes.append(event.message) if event.kind == "note" else None


def build_in_child(
    definition: Path,
    name: str,
    destination: Path,
    on_progress: Callable[[BuildProgress], None] = silent,
    version: int = 1,
) -> Signature | None:
    """Build a version of a model in a child process."""
    definitions = load(definition)
    model = definitions.models[name]
    assert isinstance(model, Model)
    signature = ArtifactBuilder().build(definitions, model, version, destination=destination, on_progress=on_progress)
    return None if signature is None else Signature.from_json(signature)


def tree(folder: Path) -> dict[str, str]:
    """Each file below a folder with its digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made_twice(
    framework_processes: tuple[FrameworkProcess, FrameworkProcess],
    definitions: tuple[Path, Path],
    name: str,
    tmp_path: Path,
    notes: list[str] | None = None,
) -> tuple[Path, Signature]:
    """A model made from both folders, by forks of two processes, into two folders: equal. Gives the second one."""
    on_progress = silent if notes is None else collect_notes(notes)
    trees, signatures = [], []
    for process, definition, folder in zip(
        framework_processes, definitions, ("first", "second/one/below"), strict=True
    ):
        destination = tmp_path / folder / "1"
        with process.forks():
            signatures.append(build_in_child(definition, name, destination, on_progress))
        trees.append(tree(destination))
    assert trees[0] == trees[1]
    assert signatures[0] == signatures[1]
    assert signatures[1] is not None
    return destination, signatures[1]


@pytest.mark.framework
def test_a_graphdef_is_the_same_twice_and_has_the_stated_names(
    framework_processes: tuple[FrameworkProcess, FrameworkProcess], definitions: tuple[Path, Path], tmp_path: Path
) -> None:
    """Input and output nodes are called as stated; two builds are byte-equal; random weights are reported."""
    import tensorflow as tf

    notes: list[str] = []
    folder, signature = made_twice(framework_processes, definitions, "frozen", tmp_path, notes)
    assert signature.inputs == (TensorSpec("image", "TYPE_FP32", (-1, 8, 8, 3)),)
    assert signature.outputs == (TensorSpec("a/b/Softmax", "TYPE_FP32", (-1, 5)),)
    assert notes == ["frozen: seeded random weights, never trained: its labels mean nothing"] * 2
    data = (folder / "model.graphdef").read_bytes()
    assert str(tmp_path).encode() not in data
    graph = tf.compat.v1.GraphDef.FromString(data)
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    answer = function.prune("image:0", "a/b/Softmax:0")(tf.ones([3, 8, 8, 3])).numpy()
    assert answer.shape == (3, 5)
    np.testing.assert_allclose(answer.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.framework
def test_a_saved_model_is_the_same_twice_and_loads(
    framework_processes: tuple[FrameworkProcess, FrameworkProcess], definitions: tuple[Path, Path], tmp_path: Path
) -> None:
    """All files are byte-equal, fingerprint.pb too, and TensorFlow loads them and answers."""
    import tensorflow as tf

    folder, signature = made_twice(framework_processes, definitions, "saved", tmp_path)
    assert signature.outputs == (TensorSpec("p", "TYPE_FP32", (-1, 5)),)
    assert {"saved_model.pb", "fingerprint.pb", "variables/variables.index"} <= set(tree(folder / "model.savedmodel"))
    assert str(definitions[1].parent).encode() not in (folder / "model.savedmodel" / "saved_model.pb").read_bytes()
    serve = tf.saved_model.load(str(folder / "model.savedmodel")).signatures["serving_default"]
    answer = serve(image=tf.ones([3, 8, 8, 3]))["p"].numpy()
    np.testing.assert_allclose(answer.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.framework
@pytest.mark.usefixtures("forked")
def test_a_module_with_a_table_keeps_it(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """Several inputs and outputs, strings, scalars by reshape, and a lookup table survive saving."""
    import tensorflow as tf

    folder = tmp_path / "1"
    signature = build_in_child(definitions[0], "pair", folder)
    assert signature is not None
    assert signature.inputs == (TensorSpec("number", "TYPE_FP32", (-1, 2)), TensorSpec("word", "TYPE_STRING", (-1,)))
    serve = tf.saved_model.load(str(folder / "model.savedmodel")).signatures["serving_default"]
    answer = serve(word=tf.constant(["two", "ten"]), number=tf.ones([2, 2]))
    assert answer["looked_up"].numpy().tolist() == [2, -1]


@pytest.mark.framework
def test_a_pipeline_is_the_same_twice_and_holds_no_path(
    framework_processes: tuple[FrameworkProcess, FrameworkProcess], definitions: tuple[Path, Path], tmp_path: Path
) -> None:
    """For the GPU as it is written; declared types and ranks of outputs are in the file."""
    folder, signature = made_twice(framework_processes, definitions, "for_gpu", tmp_path)
    data = (folder / "model.dali").read_bytes()
    assert dali_pipeline.needs_gpu(data)
    assert b"definition.py" not in data
    assert dali_pipeline.parse(data).batch_size == 4
    assert signature.inputs == (TensorSpec("encoded", "TYPE_UINT8", (-1, -1)),)
    assert [(tensor.data_type, tensor.shape) for tensor in signature.outputs] == [("TYPE_FP32", (-1, -1, -1, -1))]


@pytest.mark.framework
def test_a_pipeline_for_the_cpu_runs_here(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """The same function with device "cpu" gives a file that DALI runs; num_threads is the parameter's."""
    from nvidia.dali.pipeline import Pipeline
    from PIL import Image

    folder = tmp_path / "1"
    build_in_child(definitions[0], "for_cpu", folder)
    data = (folder / "model.dali").read_bytes()
    assert not dali_pipeline.needs_gpu(data)
    assert dali_pipeline.parse(data).num_threads == 3
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (10, 20, 30)).save(buffer, "PNG")
    pipe = Pipeline.deserialize(data)
    pipe.build()
    pipe.feed_input("encoded", [np.frombuffer(buffer.getvalue(), np.uint8)])
    image = np.asarray(pipe.run()[0].at(0))
    assert image.shape == (8, 8, 3)
    assert image[3, 3].tolist() == [10, 20, 30]


@pytest.mark.framework
def test_an_onnx_model_from_a_function(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """A version other than 1 is named; its tensors are those of the ModelProto."""
    signature = build_in_child(definitions[0], "onnx_model", tmp_path / "7", version=7)
    assert signature == Signature([TensorSpec("x", "TYPE_FP32", (-1, 2))], [TensorSpec("y", "TYPE_FP32", (-1, 2))])
    assert (tmp_path / "7" / "model.onnx").is_file()


@pytest.mark.framework
def test_offline_the_other_function_is_used_and_reported(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """No network: the model, the address, the reason, and that its labels mean nothing."""
    notes: list[str] = []
    build_in_child(definitions[0], "offline", tmp_path / "1", collect_notes(notes))
    (sentence,) = notes
    assert sentence == (
        "offline: https://127.0.0.1:9/m.onnx: no network: Connection refused; seeded random weights of the same "
        "architecture are used instead, so its labels mean nothing"
    )
    assert (tmp_path / "1" / "model.onnx").is_file()


@pytest.mark.process
def test_a_function_that_fails_is_reported_in_one_line(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """The model, the function, file and line, and the first line of what it raised."""
    with pytest.raises(ArtifactError) as caught:
        build_in_child(definitions[0], "failing", tmp_path / "1")
    line = DEFINITION.splitlines().index('    raise ValueError("the weights are gone\\nand more lines")') + 1
    assert str(caught.value) == (
        f"failing: its function broken failed (definition.py, line {line}): ValueError: the weights are gone"
    )


@pytest.mark.process
def test_a_child_that_dies_leaves_its_last_words(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """The exit status and the end of what it wrote to standard error."""
    with pytest.raises(
        ArtifactError, match=r"^dying: the process that builds its file ended with 3; its last output:\n"
    ):
        build_in_child(definitions[0], "dying", tmp_path / "1")


@pytest.mark.process
def test_a_child_ends_with_its_parent(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """When the parent is killed without a chance to clean up, the child does not work on."""
    program = (
        "import sys; from pathlib import Path; from tritonforge.repository.definition.loading import load;"
        "from tritonforge.repository.artifact_builder import ArtifactBuilder; definitions = load(sys.argv[1]);"
        "ArtifactBuilder().build(definitions, definitions.models['sleeping'], 1, destination=Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tritonforge.__file__).parents[1])}
    note = definitions[0].with_name("pid")
    parent = subprocess.Popen([sys.executable, "-c", program, definitions[0], tmp_path], env=environment)
    try:
        wait_for(lambda: note.is_file() and note.read_text() != "")
    finally:
        parent.kill()
        parent.wait()
    pid = int(note.read_text())
    wait_for(lambda: not Path(f"/proc/{pid}/status").is_file() or "zombie" in Path(f"/proc/{pid}/status").read_text())


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; far longer than it should take, and then fail."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.process
def test_a_model_that_is_not_there_is_reported(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """The child's error comes to the parent as it is."""
    arguments = {"definition": str(definitions[0]), "model": "none", "version": 1, "destination": str(tmp_path / "1")}
    with pytest.raises(ArtifactError, match="it has no model 'none'"):
        run_in_child("tritonforge.repository.artifact_builder:build_from_arguments", arguments, what="the process")


def test_errors_keep_their_kind_between_processes() -> None:
    """A missing extra still is one on the other side."""
    error = error_from_json(error_to_json(MissingExtraError("tensorflow", extra="local")))
    assert isinstance(error, MissingExtraError)
    assert str(error) == str(MissingExtraError("tensorflow", extra="local"))


def test_a_file_is_copied_under_the_name_that_triton_opens(tmp_path: Path) -> None:
    """Kinds that are not read are copied and held to their digest; default_model_filename is the name."""
    (tmp_path / "weights.pt").write_bytes(b"script")
    digest = hashlib.sha256(b"script").hexdigest()
    for model, name in (
        (PyTorch("net", artifact=File(path="weights.pt", sha256=digest)), "model.pt"),
        (PyTorch("net", artifact=File(path="weights.pt"), default_model_filename="net.pt"), "net.pt"),
        (Python("net", artifact=File(path=str(tmp_path / "weights.pt"))), "model.py"),
    ):
        assert build_artifact(model, tmp_path / "1", base=tmp_path, on_progress=silent) is None
        assert (tmp_path / "1" / name).read_bytes() == b"script"


@pytest.mark.framework
def test_a_pipeline_file_is_moved_to_the_cpu_when_asked(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """A serialised pipeline beside the definition is taken as it is, or moved to the device that the model says."""
    build_in_child(definitions[0], "for_gpu", tmp_path / "made")
    data = (tmp_path / "made" / "model.dali").read_bytes()
    for device in ("gpu", "cpu"):
        model = Dali("pre", max_batch_size=4, artifact=File(path="made/model.dali"), device=device)
        build_artifact(model, tmp_path / device, base=tmp_path, on_progress=silent)
        found = (tmp_path / device / "model.dali").read_bytes()
        assert found == (data if device == "gpu" else dali_pipeline.move_to_cpu(data))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Onnx("net", artifact=File(path="none.onnx")), r"^net: its file .*none\.onnx does not exist$"),
        (Onnx("net", artifact=File(path="folder")), r"^net: its file .*folder is a directory; model\.onnx is a file$"),
        (Onnx("net", artifact=File(path="junk", sha256="0" * 64)), r"^net: .*junk: sha256 is .* states 0{64}$"),
        (Onnx("net", artifact=File(path="junk")), r"^net: .*model\.onnx: this is not an ONNX model"),
        (TensorFlow("net", artifact=File(path="junk")), r"^net: its file .*junk is not a directory; a SavedModel is"),
        (TensorFlow("net", artifact=File(path="folder")), r"^net: .*saved_model\.pb: cannot read"),
        (
            TensorFlow("net", artifact=File(path="folder", sha256="0" * 64)),
            r"^net: .* only a file has a sha256",
        ),
        (Onnx("net", artifact=S3(uri="s3://bucket/key")), r"^net: s3://bucket/key is needed, and nothing was given"),
        (PyTorch("net", artifact=Function(build=dict)), r"^net: a function cannot make model\.pt; give a File"),
        (Onnx("net"), r"^net: it has no artifact"),
        (
            Onnx("net", artifact=Download(url="https://127.0.0.1:9/m.onnx", sha256="0" * 64)),
            r"^net: https://127\.0\.0\.1:9/m\.onnx: no network: Connection refused$",
        ),
    ],
)
def test_what_cannot_be_made_is_one_sentence(model: Any, message: str, tmp_path: Path) -> None:
    """The model comes first, then the file or the address, then what is wrong."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk").write_bytes(b"\xff\xff")
    with pytest.raises(ArtifactError, match=message) as caught:
        build_artifact(model, tmp_path / "1", base=tmp_path, on_progress=silent)
    assert "\n" not in str(caught.value)


@pytest.mark.framework
def test_a_file_that_is_not_what_is_stated_names_every_difference(
    definitions: tuple[Path, Path], tmp_path: Path
) -> None:
    """Both the wrong type and the wrong output come in one error."""
    build_in_child(definitions[0], "onnx_model", tmp_path / "made", version=7)
    model = Onnx(
        "net", input=[Input("x", "TYPE_FP16", [-1, 2])], output=[Output("z")], artifact=File(path="made/model.onnx")
    )
    signature = build_artifact(model, tmp_path / "1", base=tmp_path)
    assert signature is not None
    with pytest.raises(ArtifactError) as caught:
        ArtifactBuilder().complete(model, signature.to_json())
    assert str(caught.value).splitlines() == [
        "net: input 'x' is stated as TYPE_FP16, but its file has TYPE_FP32",
        "net: the definition states output 'z', but its file has y",
    ]


def cached(content: bytes) -> str:
    """Put a file into the cache as if it had been downloaded; gives its digest."""
    digest = hashlib.sha256(content).hexdigest()
    path = download.cache_path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def test_a_download_that_is_there_needs_no_network(tmp_path: Path) -> None:
    """The file, or the member of the archive that it is, comes from the cache."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("net/model.pt")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"script"))
    for number, source in enumerate(
        (
            Download(url="https://127.0.0.1:9/a", sha256=cached(b"script")),
            Download(url="https://127.0.0.1:9/b", sha256=cached(buffer.getvalue()), member="net/model.pt"),
        )
    ):
        build_artifact(PyTorch("net", artifact=source), tmp_path / str(number), base=tmp_path, on_progress=silent)
        assert (tmp_path / str(number) / "model.pt").read_bytes() == b"script"


def test_s3_is_fetched_with_what_the_caller_gives(tmp_path: Path) -> None:
    """The address and a path are handed over; the digest is checked."""
    asked: list[str] = []

    def fetch(uri: str, path: Path) -> None:
        asked.append(uri)
        path.write_bytes(b"script")

    good = PyTorch("net", artifact=S3(uri="s3://bucket/key", sha256=hashlib.sha256(b"script").hexdigest()))
    build_artifact(good, tmp_path / "1", base=tmp_path, on_progress=silent, fetch_s3=fetch)
    assert (tmp_path / "1" / "model.pt").read_bytes() == b"script"
    with pytest.raises(ArtifactError, match="sha256"):
        build_artifact(
            PyTorch("net", artifact=S3(uri="s3://bucket/key", sha256="0" * 64)),
            tmp_path / "2",
            base=tmp_path,
            on_progress=silent,
            fetch_s3=fetch,
        )
    assert asked == ["s3://bucket/key"] * 2


@pytest.mark.framework
def test_the_builder_returns_json_and_completes_from_it(definitions: tuple[Path, Path], tmp_path: Path) -> None:
    """What a build remembers of a model is enough to fill in what its definition leaves out."""
    found = load(definitions[0])
    builder = ArtifactBuilder()
    model = found.models["onnx_model"]
    assert isinstance(model, Onnx)
    assert len(builder.fingerprint(model, 7, base=found.folder)) == 64
    remembered = builder.build(found, model, 7, destination=tmp_path / "7", on_progress=silent)
    assert builder.complete(model, remembered).input == (Input("x", "TYPE_FP32", (2,)),)
    with pytest.raises(ArtifactError, match="stated as TYPE_INT8"):
        builder.complete(Onnx("net", max_batch_size=4, input=[Input("x", "TYPE_INT8")]), remembered)
    assert builder.complete(model, None) is model


@pytest.mark.framework
@pytest.mark.parametrize(
    ("function", "fields", "message"),
    [
        (lambda image: (image, image), {"output": [Output("o")]}, "gives 2 outputs, but the definition states 1 .o.$"),
        (lambda image: 5, {}, "gives a int, not a DALI data node$"),
        (lambda image: image, {"input": []}, "state the inputs of its pipeline function$"),
        (
            lambda image: image.absent,
            {},
            r"its function <lambda> failed \(test_artifacts_make.py, line \d+\): Attribute",
        ),
        (lambda image: image, {"parameters": {"num_threads": "many"}}, "num_threads is 'many'; write a whole number"),
        (
            lambda image: image,
            {"input": [Input("i", "TYPE_STRING", [1])]},
            "input 'i' is TYPE_STRING, which DALI does not have",
        ),
    ],
)
def test_a_pipeline_function_that_is_wrong_is_reported(
    function: Any, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Each mistake is one sentence that begins with the model."""
    fields = {"max_batch_size": 2, "input": [Input("i", "TYPE_UINT8", [-1])], **fields}
    with pytest.raises(ArtifactError, match=f"^pre: .*{message}"):
        build_artifact(Dali("pre", pipeline=function, **fields), tmp_path / "1", base=tmp_path, on_progress=silent)


@pytest.mark.framework
def test_a_pipeline_that_the_cpu_cannot_run_is_reported_when_it_is_made(tmp_path: Path) -> None:
    """An operator without a CPU version is found at build when the device is "cpu"."""

    def flow(frames: Any) -> Any:
        from nvidia.dali import fn

        return fn.optical_flow(frames.gpu())

    model = Dali(
        "flow", max_batch_size=2, input=[Input("i", "TYPE_UINT8", [-1, -1, -1, 3])], pipeline=flow, device="cpu"
    )
    with pytest.raises(ArtifactError, match=r"^flow: its pipeline cannot run on the CPU: .*OpticalFlow"):
        build_artifact(model, tmp_path / "1", base=tmp_path, on_progress=silent)


def test_a_change_of_any_module_that_makes_or_reads_a_model_file_remakes_artifacts() -> None:
    """What a build remembers of a file was read by these modules, also by those outside the package of artifacts."""
    modules = (child_process, dali_pipeline, introspection, introspection, signature)
    assert {Path(str(module.__file__)) for module in modules} <= set(list_builder_modules())
