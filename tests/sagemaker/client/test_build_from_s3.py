"""A definition whose model lies in S3: the command and `tritonforge.build` fetch it with boto3."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import tritonforge
from tests.support.checkout import run_tritonforge
from tritonforge.errors import ArtifactError
from tritonforge.sagemaker.client import Session, Store

MODEL = b"class TritonPythonModel:\n    def execute(self, requests): ...\n"


def define(folder: Path, uri: str, sha256: str) -> Path:
    """A Python model from S3."""
    (folder / "definition.py").write_text(
        "from tritonforge import *\n"
        f"model = Python('m', artifact=S3({uri!r}, sha256={sha256!r}), "
        "input=[Input('x', TYPE_FP32, [1])], output=[Output('y', TYPE_FP32, [1])])\n"
    )
    return folder


@pytest.mark.process
def test_an_object_becomes_the_models_file(
    moto: str, bucket: str, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is compared, and the command does the same."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    uri = f"{bucket}/model.py"
    Store(session).put(MODEL, uri, content_type="text/x-python")
    folder = define(tmp_path, uri, hashlib.sha256(MODEL).hexdigest())
    built = tritonforge.build(folder, tmp_path / "out")
    assert (built.repository / "m/1/model.py").read_bytes() == MODEL
    done = run_tritonforge("build", str(folder), "-o", str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other/m/1/model.py").read_bytes() == MODEL
    with pytest.raises(ArtifactError, match="sha256"):
        tritonforge.build(define(tmp_path, uri, "0" * 64), tmp_path / "out")
