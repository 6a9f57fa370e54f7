"""One emulator, with the package of a small ensemble in its S3, for clients of other projects."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.command import tritonforge
from tests.support.picture_models import DIGITS, write_repository
from tritonforge.emulator import Emulator

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"


@dataclass(frozen=True)
class Place:
    """The running emulator, and where the package lies in its S3."""

    emulator: Emulator
    package: str

    def client(self, service: str) -> Any:
        """A boto3 client of the emulator."""
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        region = self.emulator.environment["AWS_DEFAULT_REGION"]
        return boto3.client(service, endpoint_url=self.emulator.url, region_name=region, **keys)


def packaged(emulator: Emulator, repository: Path, folder: Path) -> Place:
    """Package a repository and upload it by boto3."""
    place = Place(emulator, f"s3://models/{repository.name}.tar.gz")
    s3 = place.client("s3")
    s3.create_bucket(Bucket="models")  # in us-east-1 the owner may create it again
    archive = folder / f"{repository.name}.tar.gz"
    done = tritonforge("package", str(repository), "-o", str(archive), "--image", "24.09")
    assert done.returncode == 0, done.stderr
    s3.upload_file(str(archive), "models", archive.name)
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with a package whose models have the names of `repos/digits`."""
    repository = write_repository(tmp_path_factory.mktemp("repositories") / "digits", DIGITS)
    with Emulator(speed=1000) as emulator:
        yield packaged(emulator, repository, tmp_path_factory.mktemp("packages"))
