"""A repository of data only runs no command where it is served: its names reach no shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge.errors import LaunchError
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

IO = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
ENVIRONMENT = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "%s" } }'
OCTAL = "".join(f"\\{ord(character):03o}" for character in "$(cd;touch ran)")

ATTACKS = {
    "file name": ("m", 'default_model_filename: "$(cd;touch ran).onnx"'),
    "instance group": ("m", 'instance_group { name: "`cd;touch ran`" kind: KIND_CPU }'),
    "escaped": ("m", f'instance_group {{ name: "{OCTAL}" kind: KIND_CPU }}'),
    "directory": ("$(cd;touch ran)", ""),
    "environment": ("m", ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/$(cd;touch ran)"),
    "linked environment": ("m", ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/env"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_name_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    """The server is not started; the sentence says which name, and what is wrong with it."""
    name, config = ATTACKS[attack]
    model = tmp_path / "repository" / name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(f'backend: "onnxruntime" {IO} {config}')
    for path in ("$(cd;touch ran)", "real $(cd;touch ran)"):
        (model / path / "bin").mkdir(parents=True)
        (model / path / "bin" / "activate").write_text("")
    (model / "env").symlink_to("real $(cd;touch ran)")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path / "repository", sagemaker_port=None, http_port=0, grpc_port=None, metrics_port=None,
               startup_timeout=8)  # fmt: skip
    assert not list(home.iterdir())
    assert "passes to a shell unquoted" in str(caught.value)
