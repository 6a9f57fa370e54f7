"""`tritonforge package`, as a user and as a script run it."""

import gzip
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tests.support import checkout
from tests.support.command import tritonforge
from tests.support.graphdefs import dense_layers
from tests.support.model_archives import ENSEMBLE, FILES, LEAF, lay, member, pack_members
from tritonforge.sagemaker.client import Session, Store
from tritonforge.sagemaker.package import inspect, read_contents


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of an ensemble and its only step, written by hand."""
    return lay(tmp_path / "repository", FILES)


def test_a_package_is_written_and_reported(repository: Path, tmp_path: Path) -> None:
    """The model that answers, the variable that says so, sizes, the digest; what was left out on standard error."""
    lay(repository, {".git/HEAD": "x"})
    target = tmp_path / "model.tar.gz"
    done = tritonforge("package", str(repository), "-o", str(target), "--image", "24.09")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "  default model: all  SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=all"
    assert lines[1].startswith(f"packed {target}  ")
    assert lines[1].endswith(read_contents(repository).digest)
    assert "note: left out: .git/" in done.stderr
    assert inspect(target).digest == read_contents(repository).digest


@pytest.mark.process
def test_two_runs_have_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    """From a copy of the repository, too."""
    shutil.copytree(repository, tmp_path / "copy")
    for name, run in (("repository", tritonforge), ("copy", checkout.run_tritonforge)):
        assert run("package", str(tmp_path / name), "-o", str(tmp_path / f"{name}.tar.gz")).returncode == 0
    assert (tmp_path / "repository.tar.gz").read_bytes() == (tmp_path / "copy.tar.gz").read_bytes()


def test_for_scripts_there_is_json(repository: Path, tmp_path: Path) -> None:
    """One document on standard output."""
    done = tritonforge("package", str(repository), "-o", str(tmp_path / "m.tar.gz"), "--format", "json")
    report = json.loads(done.stdout)
    assert report["package"] == str(tmp_path / "m.tar.gz")
    assert report["files"] == {path: len(content) for path, content in FILES.items()}
    assert report["digest"] == read_contents(repository).digest
    assert report["size"] == (tmp_path / "m.tar.gz").stat().st_size
    assert report["environment"] == {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "all"}
    assert (report["default_model"], report["findings"], report["left_out"]) == ("all", [], [])


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_refused_is_shown_as_validate_does_and_not_written(repository: Path, tmp_path: Path, form: str) -> None:
    """The same report, exit code 1, no archive."""
    lay(repository, {"all/config.pbtxt": ENSEMBLE.replace("TYPE_FP32", "TYPE_FP16", 1)})
    target = tmp_path / "model.tar.gz"
    target.write_bytes(b"old")
    done = tritonforge("package", str(repository), "-o", str(target), "--image", "24.09", "--format", form)
    options = ("--image", "24.09", "--target", "sagemaker", "--env", "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=all")
    assert done.returncode == 1
    assert done.stdout == tritonforge("validate", str(repository), *options, "--format", form).stdout
    assert "inconsistent data type" in done.stdout
    assert target.read_bytes() == b"old"


def test_a_definition_is_to_be_built_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and the command."""
    monkeypatch.chdir(checkout.ROOT)
    done = tritonforge("package", "repos/digits", "-o", str(tmp_path / "model.tar.gz"))
    assert done.returncode == 2
    assert "build it first: tritonforge build repos/digits, then package build/digits" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--inspect", "-o", "x.tar.gz"),
        ("--uncompressed", "s3://b/p/", "--multi-model"),
        ("--prune",),
        ("--endpoint-url", "http://127.0.0.1:1"),
        ("--multi-model", "--model", "all"),
        ("--tensorflow", "onnx"),
        ("--env", "NAME"),
    ],
)
def test_options_that_contradict_each_other_are_refused(repository: Path, options: tuple[str, ...]) -> None:
    """Exit code 2, one sentence, nothing written."""
    done = tritonforge("package", str(repository), *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.process
def test_inspect_shows_members_digest_and_default_model(repository: Path, tmp_path: Path) -> None:
    """Of a file, and of standard input."""
    target = tmp_path / "model.tar.gz"
    tritonforge("package", str(repository), "-o", str(target))
    done = tritonforge("package", "--inspect", str(target))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == ["  all/", "  all/1/", "  all/1/.gitkeep  0 B", "  all/config.pbtxt  309 B"]
    assert done.stdout.splitlines()[-2].endswith(read_contents(repository).digest)
    assert done.stdout.splitlines()[-1] == "default model: all"
    program = [str(Path(sys.executable).with_name("tritonforge")), "package", "--inspect", "-", "--format", "json"]
    with target.open("rb") as file:
        piped = subprocess.run(program, stdin=file, capture_output=True, text=True, check=True)
    report = json.loads(piped.stdout)
    assert (report["digest"], report["size"]) == (read_contents(repository).digest, target.stat().st_size)
    assert report["members"][2] == {
        "path": "all/1/.gitkeep",
        "kind": "file",
        "size": 0,
        "target": "",
        "executable": False,
    }


def test_inspect_judges_for_an_image(tmp_path: Path) -> None:
    """An archive that is packed one directory too deep is refused as on SageMaker."""
    archive = pack_members(member("config.pbtxt", LEAF.encode()), member("1/model.py"), member("code/x.py"))
    (tmp_path / "model.tar.gz").write_bytes(archive.getvalue())
    done = tritonforge("package", "--inspect", str(tmp_path / "model.tar.gz"), "--image", "24.09")
    assert done.returncode == 1
    assert "E401: Incorrect directory structure" in done.stdout
    assert tritonforge("package", "--inspect", str(tmp_path / "model.tar.gz")).returncode == 0


def test_inspect_refuses_what_is_hostile_in_one_sentence(tmp_path: Path) -> None:
    """Exit code 2; names with escapes do not reach the terminal."""
    (tmp_path / "a.tar.gz").write_bytes(pack_members(member("../../evil", b"x")).getvalue())
    done = tritonforge("package", "--inspect", str(tmp_path / "a.tar.gz"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/a.tar.gz: ../../evil: it has '..' in its name")
    name, link = member("m/\x1b]0;owned\x07", b"x"), member("m/[red]l", linkname="\x1b[2J", type=tarfile.SYMTYPE)
    (tmp_path / "b.tar.gz").write_bytes(pack_members(name, link).getvalue())
    shown = tritonforge("package", "--inspect", str(tmp_path / "b.tar.gz")).stdout
    assert "\x1b" not in shown
    assert "m/[red]l -> \\u001b[2J" in shown


def test_a_multi_model_archive_is_judged_as_one(repository: Path, tmp_path: Path) -> None:
    """No variable is named, and what only the front end refuses is refused."""
    target = tmp_path / "model.tar.gz"
    done = tritonforge("package", str(repository), "-o", str(target), "--multi-model")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "  default model: all"
    lay(repository, {"all/config.pbtxt": ENSEMBLE.replace("platform:", "platform :")})
    refused = tritonforge("package", str(repository), "-o", str(target), "--multi-model")
    assert refused.returncode == 1
    assert 'W409: a multi-model endpoint finds the ensemble only by the text platform: "ensemble"' in refused.stdout


def test_tensorflow_stays_with_an_image_of_the_users_own(repository: Path, tmp_path: Path) -> None:
    """`--tensorflow python-backend` judges for the image with the backend added; without it both ways are named."""
    lay(repository, {"leaf/config.pbtxt": LEAF.replace('backend: "python"', 'platform: "tensorflow_graphdef"')})
    (repository / "leaf/1/model.py").unlink()
    (repository / "leaf/1/model.graphdef").write_bytes(dense_layers([np.eye(3)]))
    arguments = ("package", str(repository), "-o", str(tmp_path / "m.tar.gz"), "--image", "26.05")
    refused = tritonforge(*arguments)
    assert refused.returncode == 1
    assert "--tensorflow onnx" in refused.stdout
    assert "--tensorflow python-backend" in refused.stdout
    done = tritonforge(*arguments, "--tensorflow", "python-backend")
    assert done.returncode == 0, done.stdout
    assert "26.05+tensorflow" in done.stderr


@pytest.mark.framework
def test_tensorflow_models_are_converted_when_asked(tmp_path: Path) -> None:
    """`--tensorflow onnx` packs the converted repository, and prints how it compares."""
    config = (
        'platform: "tensorflow_graphdef" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }'
    )
    folder = lay(tmp_path / "layers", {"classify/config.pbtxt": config, "classify/1/model.graphdef": ""})
    (folder / "classify/1/model.graphdef").write_bytes(dense_layers([np.eye(3)]))
    target = tmp_path / "model.tar.gz"
    done = tritonforge("package", str(folder), "-o", str(target), "--image", "26.05", "--tensorflow", "onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "classify/1: ONNX opset" in done.stderr
    assert "classify/1/model.onnx" in inspect(target).files
    assert inspect(target).digest == read_contents(tmp_path / "layers-onnx").digest


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """The address of an S3 of moto's with the empty bucket ``models``."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with Session(endpoint_url=url) as session:
        session.call("s3", "CreateBucket", Bucket="models")
        yield url
        store = Store(session)
        store.delete_all([item.uri for item in store.list_objects("s3://models/")])
        session.call("s3", "DeleteBucket", Bucket="models")
    server.stop()


@pytest.mark.slow
def test_uncompressed_puts_the_files_below_a_prefix(repository: Path, s3: str) -> None:
    """Each at its key, with the ModelDataSource that CreateModel takes; a second run sends nothing."""
    arguments = (
        "package",
        str(repository),
        "--uncompressed",
        "s3://models/r1",
        "--endpoint-url",
        s3,
        "--format",
        "json",
    )
    done = tritonforge(*arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["model_data_source"] == {
        "S3DataSource": {"S3Uri": "s3://models/r1/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    }
    assert (report["digest"], report["sent"]) == (read_contents(repository).digest, read_contents(repository).size)
    with Session(endpoint_url=s3) as session:
        stored = {
            item.uri.removeprefix("s3://models/r1/"): item.size for item in Store(session).list_objects("s3://models/")
        }
    assert stored == read_contents(repository).files
    assert json.loads(tritonforge(*arguments).stdout)["sent"] == 0


@pytest.mark.slow
def test_what_else_lies_below_the_prefix_is_not_mixed_in(repository: Path, s3: str) -> None:
    """SageMaker would put it into the model folder: refused before anything is sent, or removed when asked."""
    arguments = ("package", str(repository), "--uncompressed", "s3://models/r1/", "--endpoint-url", s3)
    with Session(endpoint_url=s3) as session:
        Store(session).put(b"old", "s3://models/r1/old/config.pbtxt", content_type="text/plain")
        refused = tritonforge(*arguments)
        assert refused.returncode == 1
        assert "model directory: old/config.pbtxt; choose another prefix, or delete them with --prune" in refused.stderr
        assert [item.uri for item in Store(session).list_objects("s3://models/")] == ["s3://models/r1/old/config.pbtxt"]
        done = tritonforge(*arguments, "--prune")
        assert done.returncode == 0, done.stderr
        assert "note: removed: old/config.pbtxt" in done.stderr
        assert len(list(Store(session).list_objects("s3://models/"))) == len(FILES)


def test_a_refused_repository_is_not_put_anywhere(repository: Path, s3: str) -> None:
    """Judged first, as for an archive."""
    lay(repository, {"all/config.pbtxt": ENSEMBLE.replace("TYPE_FP32", "TYPE_FP16", 1)})
    done = tritonforge("package", str(repository), "--uncompressed", "s3://models/r1/", "--endpoint-url", s3)
    assert done.returncode == 1
    with Session(endpoint_url=s3) as session:
        assert list(Store(session).list_objects("s3://models/")) == []


@pytest.mark.process
def test_the_archive_of_a_pipe_is_read_once(repository: Path, tmp_path: Path) -> None:
    """A plain gzip of something else on standard input is one sentence."""
    program = [str(Path(sys.executable).with_name("tritonforge")), "package", "--inspect", "-"]
    done = subprocess.run(program, input=gzip.compress(b"text" * 500), capture_output=True, check=False)
    assert done.returncode == 2
    assert b"the archive: a header is invalid" in done.stderr
    assert io.BytesIO(done.stdout).read() == b""


def test_a_package_for_tensorflow_serving_is_one_of_its_own_kind(repository: Path, tmp_path: Path) -> None:
    """`--tfs` packs numbered SavedModels with their code; each kind is refused where the other is asked for."""
    code = "def handler(data, context):\n    return data.read(), context.accept_header\n"
    package = lay(tmp_path / "served", {"net/7/saved_model.pb": "graph", "code/inference.py": code})
    target = tmp_path / "model.tar.gz"
    done = tritonforge("package", "--tfs", str(package), "-o", str(target))
    assert done.returncode == 0, done.stderr
    assert "SAGEMAKER_TRITON" not in done.stdout
    assert sorted(inspect(target).files) == ["code/inference.py", "net/7/saved_model.pb"]
    done = tritonforge("package", str(package), "--image", "24.09", "-o", str(target))
    assert (done.returncode, "use --tfs instead of --image" in done.stderr) == (2, True)
    done = tritonforge("package", "--tfs", str(repository), "-o", str(target))
    assert (done.returncode, "got a Triton model repository" in done.stderr) == (2, True)
