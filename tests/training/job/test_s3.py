"""Jobs of this machine from S3 to S3, through the client that the command line has."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.support.training_jobs import program, run_command
from tritonforge.sagemaker.client import Session

pytestmark = pytest.mark.process


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Session]:
    """An empty bucket called data, and invalid credentials for it."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_CONFIG_FILE", str(tmp_path / "no-config")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials")),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("TRITONFORGE_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        with Session() as session:
            session.call("s3", "CreateBucket", Bucket="data")
            yield session
    finally:
        server.stop()


def test_from_s3_to_s3(tmp_path: Path, s3: Session) -> None:
    """A manifest whose pictures are in S3 is streamed, files are copied, the model and the checkpoints go there."""
    lines = [{"source-ref": f"s3://data/images/{number}.jpg", "label": number} for number in range(30)]
    for number in range(30):
        s3.call("s3", "PutObject", Bucket="data", Key=f"images/{number}.jpg", Body=f"<{number}>".encode())
    manifest = "".join(json.dumps(line) + "\n" for line in lines).encode()
    s3.call("s3", "PutObject", Bucket="data", Key="a.manifest", Body=manifest)
    script = """
    cat input/data/train_0 > model/pipe
    cat input/data/files/7.jpg
    cat checkpoints/count 2>/dev/null
    echo again > checkpoints/count
    """
    given = [
        program(tmp_path, script), "--channel", "train=s3://data/a.manifest:source-ref,label",
        "--channel", "files=s3://data/images/", "--record-wrapper", "None",
        "--checkpoints", "s3://data/checkpoints", "-o", "s3://data/models", "--format", "json",
    ]  # fmt: skip
    code, report, log = run_command(*given)
    assert code == 0, log
    report = json.loads(report)
    assert report["model"] == f"s3://data/models/{report['job']}/output/model.tar.gz"
    found = s3.call("s3", "ListObjectsV2", Bucket="data", Prefix="models/")["Contents"]
    assert [entry["Key"] for entry in found] == [report["model"].removeprefix("s3://data/")]
    assert "<7>" in log
    assert "again" not in log
    assert "again" in run_command(*given)[2]
    assert not list((tmp_path / "cache" / "train").iterdir())


def test_a_picture_that_is_not_in_s3(tmp_path: Path, s3: Session) -> None:
    """The sentence has the line and the address; so has that of a bucket that is not there."""
    s3.call("s3", "PutObject", Bucket="data", Key="a.manifest", Body=b'{"source-ref":"s3://data/none.jpg"}\n')
    folder = program(tmp_path, "cat input/data/train_0")
    given = ["--channel", "train=s3://data/a.manifest:source-ref", "-o", tmp_path / "out"]
    code, _, log = run_command(folder, *given)
    assert code == 1
    expected = "channel train: s3://data/a.manifest: line 1: s3://data/none.jpg: no such object"
    assert f"error: ClientError: {expected}" in log
    code, _, log = run_command(folder, "-o", "s3://nowhere/models")
    assert code == 1
    assert "error: ClientError: s3://nowhere/models: cannot write: " in log
