"""The image with TensorFlow added: the folder that the Dockerfile's stage makes, on the real server.

There is no Docker here. The stage's own lines are followed instead: its COPYs as they stand, and its one RUN, a pip
install of pinned wheels into a folder, as links to the same packages of this environment. The server's Python then sees
that folder and its standard library, and nothing else.
"""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from tests.support.graphdefs import dense_layers
from tests.support.instances import instances
from tests.support.photographs import photographs_and_crops
from tritonforge.inference.client import Client
from tritonforge.serving import installation
from tritonforge.serving.server import Server
from tritonforge.validation.report import validate

ROOT = Path(__file__).parents[2]
STAGE = "sagemaker-tensorflow"
BACKEND = PurePosixPath("/opt/tritonserver/backends/tensorflow")
REQUIREMENTS = ROOT / "tritonforge/serving/backends/tensorflow/requirements.txt"

#: What pip itself needs to build, and no wheel at run time.
BUILD_ONLY = {"setuptools", "wheel"}


def stage() -> list[tuple[str, str]]:
    """The instructions of the stage, each with its arguments in one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    begin = next(n for n, line in enumerate(lines) if re.fullmatch(rf"FROM \S+ AS {STAGE}", line))
    end = next((n for n in range(begin + 1, len(lines)) if lines[n].startswith("FROM ")), len(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines[begin:end])]


def pins() -> dict[str, str]:
    """The version of each package that the image installs."""
    found = re.findall(
        r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", REQUIREMENTS.read_text(), re.MULTILINE
    )
    assert len(found) == len(re.findall(r"^[^#\s]", REQUIREMENTS.read_text(), re.MULTILINE))
    return dict(found)


def packages() -> dict[str, Path]:
    """Every top-level file and folder of the pinned packages, as they are installed here."""
    found: dict[str, Path] = {}
    for name in pins():
        try:
            files = metadata.distribution(name).files
        except metadata.PackageNotFoundError:
            assert name in BUILD_ONLY, f"{name} is pinned for the image and is not installed here"
            continue
        assert files is not None
        for file in files:
            if file.parts[0] != "..":
                found[file.parts[0]] = Path(str(metadata.distribution(name).locate_file(file.parts[0])))
    return found


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backend's folder as the stage makes it."""
    root = tmp_path_factory.mktemp("image")
    for word, rest in stage():
        if word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                inside = root / target.lstrip("/")
                copied = inside / Path(source).name if target.endswith("/") else inside
                copied.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    # As .dockerignore has it, __pycache__ stays behind.
                    for path in (ROOT / source).rglob("*"):
                        if path.is_file() and "__pycache__" not in path.parts:
                            there = copied / path.relative_to(ROOT / source)
                            there.parent.mkdir(parents=True, exist_ok=True)
                            there.write_bytes(path.read_bytes())
                else:
                    copied.write_bytes((ROOT / source).read_bytes())
        elif word == "RUN":
            command = json.loads(rest)
            assert command[:4] == ["python3", "-m", "pip", "install"]
            options = dict(option.partition("=")[::2] for option in command[4:])
            assert (root / options["--requirement"].lstrip("/")).read_bytes() == REQUIREMENTS.read_bytes()
            folder = root / options["--target"].lstrip("/")
            folder.mkdir(parents=True)
            for name, path in packages().items():
                (folder / name).symlink_to(path)
        else:
            assert word == "FROM"
    return root / str(BACKEND).lstrip("/")


@contextmanager
def serving(assembled: Path, repository: Path) -> Iterator[Server]:
    """A tritonserver whose TensorFlow backend is the assembled folder, alone."""
    prepare = installation.prepare_folder

    def prepared(found: installation.Installation, folder: Path, **options: Any) -> Path:
        backends = prepare(found, folder, **options)
        (backends / "tensorflow").unlink()
        (backends / "tensorflow").symlink_to(assembled)
        # The packages of this environment are for the DALI backend only: the stub of TensorFlow must find its own.
        (added,) = folder.rglob("tritonforge-serving.pth")
        lines = added.read_text().replace("import site; ", "import site, sys; ").splitlines()
        added.write_text("".join(f"{_unless_tensorflow(line)}\n" for line in lines))
        return backends

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "prepare_folder", prepared)
        with Server(repository, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as running:
            yield running


def _unless_tensorflow(line: str) -> str:
    """A line of a .pth file that does nothing in a stub of TensorFlow's model: it is started with its name."""
    if line.startswith("import ") and "addsitedir" not in line:
        return line
    here = f"site.addsitedir({line!r})" if not line.startswith("import ") else line.partition("; ")[2]
    started = "b'/classify/' in open('/proc/self/cmdline', 'rb').read()"
    return f"import site; {started} or {here}"


@pytest.fixture(scope="module")
def weights() -> np.ndarray[Any, Any]:
    """The weights of 200 layers, 52 MB in pieces."""
    random = np.random.default_rng(0).standard_normal((200, 256, 256), dtype=np.float32)
    return random * np.float32((2 / 256) ** 0.5)  # the numbers between the layers stay of one size


@pytest.fixture(scope="module")
def repository(weights: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one GraphDef with these weights, and one instance."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "classify/1").mkdir(parents=True)
    (folder / "classify/1/model.graphdef").write_bytes(dense_layers(weights))
    (folder / "classify/config.pbtxt").write_text(
        """
        name: "classify" platform: "tensorflow_graphdef" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 256 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ 256 ] }
        instance_group { count: 1 kind: KIND_CPU }
        """
    )
    return folder


@pytest.fixture(scope="module")
def server(assembled: Path, repository: Path) -> Iterator[Server]:
    """A tritonserver with the assembled backend that runs this repository."""
    with serving(assembled, repository) as running:
        yield running


@pytest.mark.server
@pytest.mark.framework
def test_a_tensorflow_model_is_served_by_the_assembled_backend(server: Server, weights: np.ndarray[Any, Any]) -> None:
    """The answers are those of the same layers in numpy."""
    given = np.random.default_rng(1).standard_normal((3, 256), dtype=np.float32)
    expected = given.astype(np.float64)
    for matrix in weights:
        expected = np.maximum(expected @ matrix, 0)
    with Client(str(server.http_url), model="classify") as client:
        found = client.infer({"x": given})["y"]
    assert expected.max() > 0
    assert np.abs(found - expected).max() <= 1e-3 * expected.max()


@pytest.mark.server
@pytest.mark.framework
def test_the_backend_imports_nothing_from_outside_its_folder(server: Server, assembled: Path) -> None:
    """What the process of the TensorFlow model has mapped: libraries of the assembled folder's packages."""
    (instance,) = instances(server, "classify")
    allowed = {path.resolve() for path in (assembled / "packages").iterdir()}
    installed = {path for path in instance.mapped if "site-packages" in path.parts and "pytriton" not in str(path)}
    assert instance.has_loaded("tensorflow")
    assert not {path for path in installed if allowed.isdisjoint((path, *path.parents))}


@pytest.mark.server
@pytest.mark.framework
def test_an_instance_keeps_less_than_ten_times_its_weights(server: Server, weights: np.ndarray[Any, Any]) -> None:
    """TensorFlow and what it needs of the graph; not the freed copies of loading, which are half as much again."""
    (instance,) = instances(server, "classify")
    assert instance.memory < 10 * weights.nbytes


# The tests above show this with a smaller repository.
@pytest.mark.long
@pytest.mark.server
@pytest.mark.framework
def test_an_unchanged_ensemble_is_served_by_the_assembled_backend(
    assembled: Path, digits: Path, digits_answers: np.ndarray[Any, Any]
) -> None:
    """The answers of `repos/digits` are those of the same models without a server."""
    with serving(assembled, digits) as server, Client(str(server.sagemaker_url)) as client:
        found = client.infer_images(photographs_and_crops())["PROBABILITIES"]
        assert len(instances(server, "classify")) == 2
    assert np.abs(found - digits_answers).max() <= 1e-5


def test_the_stage_takes_awss_image_as_it_is() -> None:
    """From the image that a build argument names; the command, the labels and the user stay AWS's."""
    text = (ROOT / "Dockerfile").read_text()
    (default,) = re.findall(r"^ARG TRITON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"763104351884\.dkr\.ecr\.us-east-1\.amazonaws\.com/sagemaker-tritonserver:26\.05-py3", default)
    assert stage()[0] == ("FROM", f"${{TRITON_IMAGE}} AS {STAGE}")
    assert {word for word, _ in stage()} == {"FROM", "COPY", "RUN"}
    assert text.index(f"AS {STAGE}") < text.index("FROM python:"), "the last stage is what docker build makes unasked"


def test_everything_that_the_image_installs_is_pinned() -> None:
    """One version and one digest a package, no other; numpy is of the line that Triton's python backend takes."""
    pinned = pins()
    assert pinned["numpy"].startswith("1.")
    assert {"tensorflow-cpu", "ml-dtypes", "protobuf"} <= pinned.keys()
    (run,) = [json.loads(rest) for word, rest in stage() if word == "RUN"]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:", "--no-cache-dir"} <= set(run)
    assert run[-2:] == [f"--target={BACKEND}/packages", f"--requirement={BACKEND}/requirements.txt"]


def test_nothing_that_tensorflow_needs_is_left_out() -> None:
    """Every requirement of every pinned package is pinned too, at a version that it takes."""
    from packaging.requirements import Requirement

    pinned = pins()
    for name, version in pinned.items():
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.version != version:
            continue  # another version's requirements may be others
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": "", "python_version": "3.12"}):
                wanted = re.sub(r"[-_.]+", "-", needed.name).lower()
                assert wanted in pinned, f"{name} needs {needed}"
                assert needed.specifier.contains(pinned[wanted]), f"{name} needs {needed}, not {pinned[wanted]}"


def test_the_repository_is_judged_for_that_image(repository: Path) -> None:
    """`26.05+tensorflow` takes TensorFlow models and is else judged as 26.05."""
    found = validate(repository, image="26.05+tensorflow", target="sagemaker")
    assert not [finding for finding in found if finding.refused_by]
    assert [finding.code for finding in validate(repository, image="26.05") if finding.refused_by] == ["E601"]
