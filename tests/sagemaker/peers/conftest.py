"""One emulator, with the digits in its S3, for clients that somebody else wrote."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import sklearn

from tests.conftest import ROOT, tritonforge
from tritonforge.sagemaker.emulator import Emulator, environment

PEERS = ROOT / ".venv" / "peers" / "bin"
#: A folder with AWS's SageMaker SDK 2; without it on PYTHONPATH the environment has version 3.
SDK_2 = ROOT / ".venv" / "peers" / "sagemaker-2"
#: A folder with what shortens the SDKs' waits.
QUICK = Path(__file__).with_name("quick")
PHOTOGRAPH = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"


def run_sdk(
    emulator: Emulator, *scripts: tuple[str, ...], sdk: Path | None = None, folder: Path | None = None
) -> tuple[int, str]:
    """Run scripts of this folder, each with its arguments, in one process with AWS's SDK, through the emulator's proxy.

    ``sdk`` is `SDK_2`, or None for SDK 3; ``folder`` is the working directory. Gives the exit code, and what was
    printed on either stream: the SDK shows errors on both.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    variables = environment.merge(own, emulator.proxy_environment)
    variables["PYTHONPATH"] = os.pathsep.join(str(path) for path in (QUICK, sdk) if path is not None)
    here = Path(__file__).parent
    listed = [[str(here / name), *arguments] for name, *arguments in scripts]
    done = subprocess.run(
        [PEERS / "python", "-W", "ignore", here / "several.py", json.dumps(listed)],
        env=variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    return done.returncode, done.stdout


@dataclass(frozen=True)
class Place:
    """The running emulator, and where the package lies in its S3."""

    emulator: Emulator
    package: str

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


def upload_package(emulator: Emulator, repository: Path, folder: Path) -> str:
    """Package a repository and upload it by boto3; gives its S3 URI."""
    s3 = boto3.client(
        "s3",
        endpoint_url=emulator.url,
        aws_access_key_id=emulator.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=emulator.environment["AWS_SECRET_ACCESS_KEY"],
        region_name=emulator.environment["AWS_DEFAULT_REGION"],
    )
    s3.create_bucket(Bucket="models")  # in us-east-1 the owner may create it again
    archive = folder / f"{repository.name}.tar.gz"
    done = tritonforge("package", str(repository), "-o", str(archive), "--image", "24.09")
    assert done.returncode == 0, done.stderr
    s3.upload_file(str(archive), "models", archive.name)
    return f"s3://models/{archive.name}"


@pytest.fixture(scope="module")
def place(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with the package of the digits."""
    with Emulator(speed=1000) as emulator:
        yield Place(emulator, upload_package(emulator, digits, tmp_path_factory.mktemp("packages")))
