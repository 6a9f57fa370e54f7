"""`tritonforge new`: every template builds, serves on a real Triton, and answers."""

import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tritonforge.repository.definition.loading import load
from tritonforge.repository.project_templates import TEMPLATES
from tritonforge.serving.server import Server


def write_projects(folder: Path) -> dict[str, Path]:
    """Write a project of every template; return their directories by template."""
    projects = {template: folder / f"my-{template}" for template in TEMPLATES}
    for template, directory in projects.items():
        done = tritonforge("new", f"my-{template}", "--template", template, "-o", str(directory))
        assert done.returncode == 0, done.stderr
    return projects


def draw(colour: tuple[int, int, int], *, background: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """A picture of 112 x 112 pixels whose right lower quarter has a colour, as PNG."""
    from PIL import Image

    pixels = np.full((112, 112, 3), background, np.uint8)
    pixels[56:, 56:] = colour
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real tritonserver with the models of all templates; their names do not collide."""
    folder = tmp_path_factory.mktemp("templates")
    repository = folder / "repository"
    for template, directory in write_projects(folder).items():
        done = tritonforge("build", str(directory), "-o", str(folder / template))
        assert done.returncode == 0, done.stderr
        shutil.copytree(folder / template, repository, dirs_exist_ok=True)
    with Server(repository, sagemaker_port=None, http_port=0, grpc_port=None, metrics_port=None) as running:
        yield running


def send_printed_request(server: Server, template: str, picture: Path) -> Any:
    """Run the command that `new` prints, on this server and with this picture; return its JSON document."""
    command = TEMPLATES[template].replace("NAME", f"my-{template}").replace("photo.jpg", str(picture))
    _, *arguments = shlex.split(command.replace("http://localhost:8000", str(server.http_url)))
    done = tritonforge(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.server
@pytest.mark.framework
@pytest.mark.process
def test_every_template_builds_serves_and_answers(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "blue.png"
    picture.write_bytes(draw((0, 0, 255)))
    outputs = {
        template: send_printed_request(server, template, picture)["answers"][0]["outputs"] for template in TEMPLATES
    }
    assert outputs["classify"]["PROBABILITIES"][0]["label"] == "blue"
    assert outputs["onnx"]["probabilities"][0]["label"] == "versicolor"
    exponents = np.exp([1, 2, 3])
    assert np.allclose(outputs["python"]["probabilities"]["data"], exponents / exponents.sum())
    assert outputs["detect"]["COUNT"]["data"] == [1]
    assert outputs["detect"]["CLASSES"]["data"][:2] == [2, -1]
    assert outputs["detect"]["BOXES"]["data"][:4] == [0.5, 0.5, 1.0, 1.0]


@pytest.mark.process
def test_templates_are_formatted_and_pass_ruff(tmp_path: Path) -> None:
    write_projects(tmp_path)
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["format", "--diff"], ["check", "--ignore", "D,INP,T,N"]):
        settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
        done = subprocess.run([ruff, *arguments, *settings], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_that_follow_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = tritonforge("new", "import", "--template", "python")
    assert done.stdout.splitlines() == [
        "wrote import/definition.py",
        "wrote import/model.py",
        "next:",
        "  tritonforge build import -o build/import",
        "  tritonforge serve build/import",
        "  tritonforge infer http://localhost:8000 --model import --input scores='[1, 2, 3]'",
    ]
    assert list(load(tmp_path / "import").models) == ["import"]
    document = json.loads(tritonforge("new", "other", "--template", "onnx", "--json").stdout)
    assert document["files"] == ["other/definition.py"]


def test_names_that_no_model_has_and_existing_directories_are_refused(tmp_path: Path) -> None:
    assert tritonforge("new", "a b", "-o", str(tmp_path / "x")).stderr.startswith("error: new: name is 'a b'")
    (tmp_path / "file").write_text("mine")
    done = tritonforge("new", "a", "-o", str(tmp_path))
    assert done.returncode == 2
    assert "it already exists; give another name, or remove it" in done.stderr
