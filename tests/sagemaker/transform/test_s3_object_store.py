"""S3 as a place of jobs that run here, against the emulated S3; and the emulator's own place."""

from __future__ import annotations

import base64
import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonforge.emulator.emulated_s3 import JobStore
from tritonforge.sagemaker.client import Location, Session, Store
from tritonforge.sagemaker.client.transfers import Download
from tritonforge.sagemaker.jobs.job_data import S3ObjectStore
from tritonforge.transform import StoreError

pytestmark = pytest.mark.process


@pytest.fixture(params=["client", "emulator"])
def place(request: pytest.FixtureRequest, account: Any, tmp_path: Path) -> Iterator[Any]:
    """Both places over the same objects: they are to behave alike."""
    if request.param == "emulator":
        yield JobStore(account.emulator._s3, tmp_path)
        return
    with Session(region_name="us-east-1", endpoint_url=account.emulator.url) as session:
        yield S3ObjectStore(Store(session, part_size=5 << 20))


def test_objects_are_listed_in_the_order_of_their_bytes(place: Any, account: Any) -> None:
    """As S3 lists them, whole addresses with size and etag."""
    account.put({"order/b": b"1", "order/B": b"22", "order/é": b"", "order/a/z": b"333", "other/x": b""})
    found = list(place.list(f"s3://{account.bucket}/order/"))
    assert [item.uri.rpartition("order/")[2] for item in found] == ["B", "a/z", "b", "é"]
    assert [item.size for item in found] == [2, 3, 1, 0]
    assert len({item.etag for item in found}) == 4
    assert place.find(found[0].uri) == found[0]
    assert place.find(f"s3://{account.bucket}/order/none") is None


def test_an_object_is_read_from_any_byte(place: Any, account: Any) -> None:
    """From its start, from the middle, and at its end, where nothing is left."""
    body = bytes(range(256)) * 20_000
    account.put({"read/a": body})
    uri = f"s3://{account.bucket}/read/a"
    for offset in (0, 1, 4_000_000, len(body) - 1, len(body)):
        assert b"".join(place.open(uri, offset)) == body[offset:]
    chunks = place.open(uri)
    assert len(next(chunks)) < len(body)
    chunks.close()
    with pytest.raises(StoreError, match="read/none"):
        list(place.open(f"s3://{account.bucket}/read/none"))


def test_the_sum_of_an_object_is_not_held_against_a_part_of_it() -> None:

    class Cut:
        """A session in which each answer holds one byte of ``abcd``, with the sum of all four."""

        def call(self, *_: Any, **request: Any) -> dict[str, Any]:
            start = int(request["Range"].removeprefix("bytes=").rstrip("-"))
            whole = base64.b64encode(zlib.crc32(b"abcd").to_bytes(4, "big")).decode()
            body = io.BytesIO(b"abcd"[start : start + 1])
            return {"ContentLength": 4 - start, "ETag": "e", "ChecksumCRC32": whole, "Body": body}

        def map_errors(self, *_: Any) -> Any:
            return contextlib.nullcontext()

    session: Any = Cut()
    download = Download(session, Location("bucket", "key"), extra={}, offset=1)
    assert (list(download), download.size) == ([b"b", b"c", b"d"], 4)


def test_outputs_are_put_over_what_is_there(place: Any, account: Any, tmp_path: Path) -> None:
    """Bytes and files of any size; a file is gone afterwards."""
    uri = f"s3://{account.bucket}/put/a.out"
    place.check(f"s3://{account.bucket}/put")
    place.put(b"first", uri)
    file = tmp_path / "stage"
    file.write_bytes(b"x" * (12 << 20))
    place.put(file, uri)
    assert account.get("put/a.out") == b"x" * (12 << 20)
    assert not file.exists()


def test_a_bucket_that_is_not_there(place: Any) -> None:
    """No other object can be put there either."""
    for call in (lambda: place.check("s3://no-such-bucket/out"), lambda: place.put(b"", "s3://no-such-bucket/out/a")):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.permanent


def test_the_emulator_has_what_a_job_has_put(account: Any, tmp_path: Path) -> None:
    """Whatever a killed process left of the list's last line; and takes all of it back."""
    place = JobStore(account.emulator._s3, tmp_path)
    uris = [f"s3://{account.bucket}/known/{name}" for name in ("a", "b", "c")]
    place.put(b"", uris[0])
    with (tmp_path / "outputs.jsonl").open("a") as file:
        file.write('\n"s3://half')
    again = JobStore(account.emulator._s3, tmp_path)
    for uri in reversed(uris):
        again.put(b"", uri)
    assert again.list_outputs() == (uris[0], uris[2], uris[1])
    again.withdraw()
    assert account.keys("known/") == []
