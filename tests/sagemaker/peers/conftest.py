"""One emulator, with the ensemble of the seed and the digits in its S3, for clients that somebody else wrote."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import sklearn

from tests.conftest import ROOT, tritonforge
from tritonforge.sagemaker.emulator import Emulator

PEERS = ROOT / ".venv" / "peers" / "bin"
PHOTOGRAPH = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"


@dataclass(frozen=True)
class Place:
    """The running emulator, and where the packages lie in its S3."""

    emulator: Emulator
    inception: str
    digits: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client: nothing but the emulator's variables tells it where AWS is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {**kept, **self.emulator.environment}

    def run(self, program: Path | str, *arguments: str, timeout: float = 300) -> str:
        """Run a client's program; gives what it printed."""
        done = subprocess.run(
            [program, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


@pytest.fixture(scope="module")
def place(inception: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with both packages uploaded by boto3."""
    folder = tmp_path_factory.mktemp("packages")
    with Emulator(speed=1000) as emulator:
        session = boto3.Session(
            aws_access_key_id=emulator.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=emulator.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=emulator.environment["AWS_DEFAULT_REGION"],
        )
        s3 = session.client("s3", endpoint_url=emulator.url)
        s3.create_bucket(Bucket="models")
        for repository in (inception, digits):
            archive = folder / f"{repository.name}.tar.gz"
            done = tritonforge("package", str(repository), "-o", str(archive), "--image", "24.09")
            assert done.returncode == 0, done.stderr
            s3.upload_file(str(archive), "models", archive.name)
        yield Place(emulator, "s3://models/inception_v3.tar.gz", "s3://models/digits.tar.gz")
