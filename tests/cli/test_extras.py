"""An installation without extras: which commands work, and the one line of those that need an extra."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.forked_scripts import Forks

#: What is imported from the packages of the extras. A distribution that is missing here fails a test below.
MODULES = {
    "boto3": ("boto3", "botocore"),
    "regex": ("regex",),
    "isal": ("isal",),
    "tritonclient": ("grpc", "tritonclient"),
    "ml-dtypes": ("ml_dtypes",),
    "kubernetes": ("kubernetes",),
    "resvg-py": ("resvg_py",),
    "pygls": ("pygls", "lsprotocol"),
    "opentelemetry-api": (),  # below a name that the tests' own packages have too
    "ray": ("ray",),
    "google-crc32c": ("google_crc32c",),
    "pyarrow": ("pyarrow",),
    "nvidia-pytriton": ("pytriton", "tritonserver"),
    "numpy": ("numpy",),
    "tensorflow-cpu": ("tensorflow", "keras"),
    "tensorflow": ("tensorflow", "keras"),
    "nvidia-dali-cuda120": ("nvidia",),
    "onnxruntime": ("onnxruntime",),
    "onnx": ("onnx",),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "treelite": ("treelite",),
    "pillow": ("PIL",),
    "falcon": ("falcon",),
    "requests": ("requests",),
    "tf2onnx": ("tf2onnx",),
    "moto": ("moto",),
    "flask": ("flask",),
    "flask-cors": ("flask_cors",),
    "cryptography": ("cryptography",),
    "certifi": ("certifi",),
}

#: The packages of the extra `client`, which most other extras include.
CLIENT = ("numpy", "ml-dtypes")

#: Makes the packages of the extras look as if they were not installed, in every Python process.
SITE = """
import sys
from importlib.machinery import PathFinder

BLOCKED = {blocked!r}

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""

MODEL = """backend: "python" max_batch_size: 2
input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]"""

#: Command line -> exit code, and the text that ends the last line of standard output or standard error.
WORKING = {
    "--version": (0, ""),
    "build repos/digits --check": (0, "config.pbtxt files match the definition"),
    "validate {tmp}/repository": (0, "Triton loads it; 1 model, no findings"),
    "graph repos/digits --format mermaid": (0, "stroke-width:4px"),
    "explain E213": (0, "ValidateModelConfig"),
    "infer http://127.0.0.1:1 README.md": (1, "is it running?"),
    "manifest check {tmp}/m.manifest": (0, "no problems"),
    "manifest split {tmp}/m.manifest --train {tmp}/a --validation {tmp}/b -q": (0, "(requested: 20.0%)"),
    "manifest convert {tmp}/m.manifest --to augmented -o {tmp}/c -q": (0, "1 image, 0 boxes"),
    "algorithm show repos/detector": (0, ""),
    "completion bash": (0, ""),
    "deploy {tmp}/repository --to kserve --image 24.09 --storage-uri pvc://b/r -o -": (0, "storageUri: pvc://b/r"),
    "emulate --env --port 1": (1, "or pass its --port"),
}
LACKING = {
    "build repos/digits -o {tmp}/built": ("tensorflow", "local"),
    "validate {tmp}/repository --with-server": ("nvidia-pytriton", "local"),
    "serve {tmp}/repository": ("nvidia-pytriton", "local"),
    "infer grpc://127.0.0.1:1 README.md": ("tritonclient[grpc]", "grpc"),
    "infer sagemaker://x README.md": ("boto3", "aws"),
    "graph {tmp}/repository -o {tmp}/x.png": ("resvg-py", "graph"),
    "lsp": ("pygls", "lsp"),
    "manifest show {tmp}/m.manifest -o {tmp}/x.png": ("pillow", "local"),
    "manifest check s3://bucket/m.manifest": ("boto3", "aws"),
    "package {tmp}/repository -o {tmp}/m.tar.gz": ("isal", "aws"),
    "package {tmp}/repository --uncompressed s3://bucket/x": ("boto3", "aws"),
    "deploy {tmp}/repository --plan": ("boto3", "aws"),
    "deploy {tmp}/repository --to kserve --image 24.09 --storage-uri s3://b/r --apply": ("kubernetes", "kubernetes"),
    "transform README.md {tmp}/out --repository {tmp}/repository --on ray": ("ray", "ray"),
    "destroy x --plan": ("boto3", "aws"),
    "algorithm requests repos/detector --training-image i:1": ("boto3", "aws"),
    "algorithm publish repos/detector --training-image i:1 --plan": ("boto3", "aws"),
    "emulate --port 0": ("moto", "emulator"),
}

#: What works without the extra `client`, and what the others name.
WORKING_WITHOUT_CLIENT = (
    "build repos/digits --check",
    "validate {tmp}/repository",
    "graph repos/digits --format mermaid",
    "explain E213",
    "algorithm show repos/detector",
)
LACKING_CLIENT = {
    "infer http://127.0.0.1:1 README.md": ("numpy", "client"),
    "manifest check {tmp}/m.manifest": ("numpy", "client"),
    "deploy {tmp}/repository --plan": ("numpy", "aws"),
    "emulate --port 0": ("numpy", "emulator"),
    "serve {tmp}/repository": ("nvidia-pytriton", "local"),
}

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    for site, present in (("site", CLIENT), ("bare", ())):
        blocked = sorted({module for name in MODULES if name not in present for module in MODULES[name]})
        (folder / site).mkdir()
        (folder / site / "sitecustomize.py").write_text(SITE.format(blocked=blocked))
    (folder / "repository/m/1").mkdir(parents=True)
    (folder / "repository/m/config.pbtxt").write_text(MODEL)
    (folder / "repository/m/1/model.py").touch()
    (folder / "m.manifest").write_text('{"source-ref":"s3://b/x.png"}\n')
    return folder


@pytest.fixture(scope="module")
def forks(folder: Path) -> Iterator[dict[str, Forks]]:
    """Processes without the packages of the extras that have imported the command line, by their site."""
    with ExitStack() as stack:
        yield {
            site: stack.enter_context(
                Forks(
                    [sys.executable],
                    "tritonforge.cli.main",
                    "tritonforge.triton.schema",
                    *present,
                    environment={**os.environ, "PYTHONPATH": str(folder / site)},
                )
            )
            for site, present in (("site", ("numpy", "ml_dtypes")), ("bare", ()))
        }


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(folder: Path, forks: dict[str, Forks]) -> Run:
    """Runs a command without the packages of the extras."""
    program = Path(sys.executable).with_name("tritonforge")

    def run_line(line: str, *, site: str = "site") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(folder / site)}
        return forks[site].run(program, *line.format(tmp=folder).split(), environment=environment, folder=ROOT)

    return run_line


def test_every_package_of_the_extras_is_blocked() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = text[text.index("[project.optional-dependencies]") : text.index("\ntest-core = [")]
    names = set(re.findall(r'^ *"([A-Za-z0-9-]+)(?:\[[\w,]+\])?[><=~; ]', extras, re.MULTILINE)) - {"tritonforge"}
    assert names <= set(MODULES)


@pytest.mark.parametrize("line", WORKING)
def test_a_command_that_needs_no_extra_works(run: Run, line: str) -> None:
    code, text = WORKING[line]
    done = run(line)
    assert done.returncode == code, done.stderr
    assert text in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", WORKING_WITHOUT_CLIENT)
def test_a_command_without_tensors_works_without_numpy(run: Run, line: str) -> None:
    code, text = WORKING[line]
    done = run(line, site="bare")
    assert done.returncode == code, done.stderr
    assert text in done.stdout


@pytest.mark.parametrize("line", LACKING_CLIENT)
def test_a_command_with_tensors_names_the_extra_that_it_needs(run: Run, line: str) -> None:
    package, extra = LACKING_CLIENT[line]
    done = run(line, site="bare")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {package} is not installed; run: pip install ")
    assert f"[{extra}]" in last


@pytest.mark.parametrize("line", LACKING)
def test_a_command_that_needs_an_extra_names_it_in_one_line(run: Run, line: str) -> None:
    package, extra = LACKING[line]
    done = run(line)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {package} is not installed; run: pip install ")
    assert f"[{extra}]" in last
    assert "Traceback" not in done.stderr
