"""What the tests of containers and runtime share: an S3 in process, small archives, containers that are made up."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.hosted_models import (
    ACCOUNT,
    REGION,
    Bucket,
    Client,
)
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.interfaces import LiveEndpoint
from tritonforge.emulator.runtime import Runtime


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A bucket of its own in an account of the tests' own."""
    objects = EmulatedS3(ACCOUNT)
    name = f"bucket-{uuid.uuid4()}"
    objects._backend.create_bucket(name, REGION)
    yield Bucket(objects, f"s3://{name}")
    objects._backend.reset()


@pytest.fixture
def ask(bucket: Bucket) -> Iterator[Callable[..., Client]]:
    """Makes a client of a runtime whose endpoints are the given ones, all with the name ``e``."""
    opened: list[Runtime] = []

    def make(endpoint: LiveEndpoint | Callable[[], LiveEndpoint | None] | None, **settings: Any) -> Client:
        def find(name: str) -> LiveEndpoint | None:
            found = endpoint() if callable(endpoint) else endpoint
            return found if name == "e" else None

        runtime = Runtime(find, objects=bucket.objects, account=ACCOUNT, region=REGION, **settings)
        opened.append(runtime)
        return Client(runtime)

    yield make
    for resource in opened:
        resource.close()
