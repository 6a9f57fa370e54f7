"""The store against moto's S3, on a good way and on ways with every fault that S3's clients meet."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.faulty_proxy import CutError, Incoming, Outgoing, Reply, Way, build_refusal, forgetful
from tests.support.small_parts import PART, accept_small_parts
from tritonforge.errors import ConnectError, DeploymentError, EncodeError
from tritonforge.sagemaker.client import AwsError, Location, Session, Store
from tritonforge.sagemaker.client.transfers import compute_crc32, compute_digest

MB = 1 << 20
DIGEST = "sha256:" + "1" * 64


@pytest.fixture(scope="module", autouse=True)
def _parts() -> Iterator[None]:
    """Files go in small parts."""
    with accept_small_parts():
        yield


@pytest.fixture
def store(session: Session) -> Store:
    """A store with the smallest parts that this S3 takes."""
    return Store(session, part_size=PART, threads=4)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts, the last one short."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(os.urandom(2 * PART + 7))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of one part."""
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"name: 'digits'")
    return path


def test_a_large_file_goes_in_parts_and_is_whole(store: Store, bucket: str, large: Path, way: Way) -> None:
    """Three parts in parallel, bytes as they are sent, and S3 has the file with its checksum and digest."""
    received: list[int] = []
    uri = f"{bucket}/digits/model.tar.gz"
    done = store.upload(large, uri, digest=DIGEST, content_type="application/gzip", on_progress=received.append)
    assert (done.skipped, done.verified, done.size) == (False, True, large.stat().st_size)
    assert sum(received) == done.size
    assert len(received) > 2
    assert way.calls("PUT", "partNumber=") == 3
    found = store.find(uri)
    assert found is not None
    assert (found.digest, found.crc32, found.content_type) == (
        DIGEST,
        compute_crc32([large.read_bytes()]),
        "application/gzip",
    )
    assert b"".join(store.get(uri)) == large.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["large", "small"])
def test_what_is_there_is_not_sent_again(
    store: Store, bucket: str, way: Way, name: str, request: pytest.FixtureRequest
) -> None:
    """The same digest and size are skipped, and the bar still fills; another digest or another size is sent."""
    path: Path = request.getfixturevalue(name)
    uri, received = f"{bucket}/model", []
    store.upload(path, uri, digest=DIGEST)
    sent = way.calls("PUT")
    assert store.upload(path, uri, digest=DIGEST, on_progress=received.append).skipped
    assert way.calls("PUT") == sent
    assert sum(received) == path.stat().st_size
    assert not store.upload(path, uri, digest="sha256:2").skipped
    path.write_bytes(path.read_bytes() + b"+")
    assert not store.upload(path, uri, digest="sha256:2").skipped
    assert b"".join(store.get(uri)) == path.read_bytes()


def test_existence_is_digest_and_size(store: Store, bucket: str, small: Path) -> None:
    """An object with another digest, or with none, is not this one."""
    uri = f"{bucket}/model"
    assert store.find(uri) is None
    store.upload(small, uri, digest=DIGEST)
    assert store.exists(uri, DIGEST)
    assert store.exists(uri, DIGEST, size=small.stat().st_size)
    assert not store.exists(uri, DIGEST, size=1)
    assert not store.exists(uri, "sha256:2")
    store.put(b"other", uri, content_type="text/plain")
    assert not store.exists(uri, DIGEST)


def test_key_owner_tags_and_metadata_go_with_the_upload(session: Session, bucket: str, large: Path, way: Way) -> None:
    """The KMS key, the tags and the metadata stand at the object; the bucket's owner at every request."""
    store = Store(
        session,
        kms_key="alias/models",
        bucket_owner="123456789012",
        tags={"tritonforge:deployment": "digits"},
        part_size=PART,
    )
    way.seen.clear()
    store.upload(large, f"{bucket}/m", digest=DIGEST, metadata={"image": "24.09"})
    assert {request.headers.get("x-amz-expected-bucket-owner") for request in way.seen} == {"123456789012"}
    client = session.client("s3")
    head = client.head_object(Bucket="models", Key="m")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/models")
    assert head["Metadata"] == {"image": "24.09", "tritonforge-digest": DIGEST}
    assert client.get_object_tagging(Bucket="models", Key="m")["TagSet"] == [
        {"Key": "tritonforge:deployment", "Value": "digits"}
    ]


def once(reply: Reply | None, method: str, part: str = "") -> Callable[[Incoming], Reply | None]:
    """A fault on the first request of a method with a part in its path; None cuts the connection."""
    left = [1]
    lock = threading.Lock()

    def fault(request: Incoming) -> Reply | None:
        with lock:
            if request.method != method or not re.search(part, request.path) or not left[0]:
                return None
            left[0] -= 1
        if reply is None:
            raise CutError
        return reply

    return fault


STEPS = [
    ("HEAD", ""),
    ("POST", "uploads"),
    ("PUT", "partNumber=2"),
    ("POST", "uploadId="),
]


@pytest.mark.parametrize(("method", "part"), STEPS)
@pytest.mark.parametrize(
    "reply",
    [build_refusal(503, "SlowDown"), build_refusal(500, "InternalError"), build_refusal(400, "RequestTimeout"), None],
    ids=["throttled", "failed", "timeout", "reset"],
)
def test_a_fault_that_passes_is_repeated(
    store: Store, bucket: str, large: Path, way: Way, method: str, part: str, reply: Reply | None
) -> None:
    """Throttling, a server error, a time-out or a reset at each step of an upload costs a repetition, nothing else."""
    way.fault = once(reply, method, part)
    received: list[int] = []
    done = store.upload(large, f"{bucket}/m", digest=DIGEST, on_progress=received.append)
    assert done.verified
    assert sum(received) == done.size
    assert b"".join(store.get(f"{bucket}/m")) == large.read_bytes()
    assert store.list_incomplete_uploads(bucket + "/") == ()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "part"), STEPS[1:])
@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (
            build_refusal(503, "SlowDown", "Reduce your request rate."),
            "SlowDown: Reduce your request rate.*run it again later",
        ),
        (build_refusal(500, "InternalError"), "InternalError: no.*attempts were made; run it again later"),
        (build_refusal(403, "AccessDenied", "Access Denied"), "AccessDenied: Access Denied.*permission s3:PutObject"),
        (None, "the connection was cut before the response arrived"),
    ],
    ids=["throttled", "failed", "denied", "reset"],
)
def test_a_fault_that_stays_is_one_error_and_leaves_nothing(
    store: Store,
    bucket: str,
    large: Path,
    way: Way,
    method: str,
    part: str,
    reply: Reply | None,
    sentence: str,
) -> None:
    """The attempts are used up, the error says what and where, and neither object nor half upload remains."""

    def fault(request: Incoming) -> Reply | None:
        if request.method != method or not re.search(part, request.path):
            return None
        if reply is None:
            raise CutError
        return reply

    way.fault = fault
    with pytest.raises((AwsError, ConnectError), match=f"s3 PutObject of s3://models/m: .*{sentence}") as caught:
        store.upload(large, f"{bucket}/m", digest=DIGEST)
    assert "testing" not in str(caught.value)
    way.fault = lambda _: None
    assert store.list_incomplete_uploads(bucket + "/") == ()
    assert store.find(f"{bucket}/m") is None


@pytest.mark.slow
def test_a_server_that_is_silent_is_a_connect_error(way: Way, bucket: str, small: Path) -> None:
    """The time limit ends each attempt, and the last one's is the error."""
    waiting = threading.Event()

    def fault(request: Incoming) -> None:
        if request.method == "PUT":
            waiting.wait(5)

    way.fault = fault
    silent = pytest.raises(ConnectError, match=r"s3 PutObject of s3://models/m: http://.* did not respond in time")
    with Session(endpoint_url=way.url, read_timeout=0.2, attempts=2) as hasty, silent:
        Store(hasty).upload(small, f"{bucket}/m", digest=DIGEST)
    waiting.set()
    assert way.calls("PUT", "/models/m") == 2


@pytest.mark.parametrize("name", ["large", "small"])
def test_bytes_that_change_on_the_way_are_noticed(
    store: Store, bucket: str, way: Way, name: str, request: pytest.FixtureRequest
) -> None:
    """S3 returns another checksum than the file's: one error, and the object is removed."""
    path: Path = request.getfixturevalue(name)

    def spoil(incoming: Incoming) -> None:
        if incoming.method == "PUT" and ("partNumber=3" in incoming.path or name == "small"):
            incoming.body = incoming.body[:-1] + bytes([incoming.body[-1] ^ 1])
            # moto believes the checksum of a request; without one it computes its own.
            for item in [header for header in incoming.headers if header.lower() == "x-amz-checksum-crc32"]:
                del incoming.headers[item]

    way.fault = spoil
    with pytest.raises(DeploymentError, match=r"s3://models/m: S3 has other bytes .* removed, run it again"):
        store.upload(path, f"{bucket}/m", digest=DIGEST)
    way.fault = lambda _: None
    assert store.find(f"{bucket}/m") is None
    assert store.list_incomplete_uploads(bucket + "/") == ()


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
@pytest.mark.parametrize(("method", "part"), STEPS[2:])
def test_bytes_that_s3_refuses_are_one_error(
    store: Store, bucket: str, large: Path, way: Way, code: str, method: str, part: str
) -> None:
    """S3 finds a wrong checksum itself, at a part or at the end: the sentence says so, and nothing is left."""
    way.fault = once(build_refusal(400, code, "The checksum did not match."), method, part)
    with pytest.raises(DeploymentError, match=rf"s3://models/m: S3 got other bytes than were sent \({code}: .*again"):
        store.upload(large, f"{bucket}/m", digest=DIGEST)
    assert store.list_incomplete_uploads(bucket + "/") == ()
    assert store.find(f"{bucket}/m") is None


def test_a_file_that_changes_while_it_is_sent_is_noticed(store: Store, bucket: str, large: Path, way: Way) -> None:
    """The checksum is taken before; a part that is written over in between makes another object, which goes."""

    def fault(request: Incoming) -> None:
        if request.method == "POST" and "uploads" in request.path:
            with large.open("r+b") as file:
                file.seek(2 * PART)
                file.write(b"changed")

    way.fault = fault
    with pytest.raises(DeploymentError, match="S3 has other bytes"):
        store.upload(large, f"{bucket}/m", digest=DIGEST)
    assert store.find(f"{bucket}/m") is None


def test_an_upload_whose_last_answer_is_lost_is_found_there(store: Store, bucket: str, large: Path, way: Way) -> None:
    """The end is repeated and S3 no longer has the upload: the object is there, and that is a success."""
    ends = itertools.count()

    def spoil(request: Incoming, answer: Outgoing) -> None:
        if request.method == "POST" and "uploadId=" in request.path and next(ends) == 0:
            raise CutError

    way.spoil = spoil
    assert store.upload(large, f"{bucket}/m", digest=DIGEST).verified
    assert way.calls("POST", "uploadId=") > 1
    assert store.exists(f"{bucket}/m", DIGEST)


@pytest.mark.slow
def test_half_uploads_of_a_killed_process_are_removed(store: Store, session: Session, bucket: str, large: Path) -> None:
    """Those of the address itself go once the object is there; those of others stay until they are named."""
    client = session.client("s3")
    for key in ("digits/m", "digits/m2", "other"):
        upload = client.create_multipart_upload(Bucket="models", Key=key)["UploadId"]
        client.upload_part(Bucket="models", Key=key, UploadId=upload, PartNumber=1, Body=b"half")
    assert [uri for uri, _ in store.list_incomplete_uploads(f"{bucket}/digits/")] == [
        f"{bucket}/digits/m",
        f"{bucket}/digits/m2",
    ]
    store.upload(large, f"{bucket}/digits/m", digest=DIGEST)
    assert [uri for uri, _ in store.list_incomplete_uploads(f"{bucket}/digits/")] == [f"{bucket}/digits/m2"]
    client.create_multipart_upload(Bucket="models", Key="digits/m")
    assert store.upload(large, f"{bucket}/digits/m", digest=DIGEST).skipped
    assert store.abort_incomplete_uploads(f"{bucket}/digits/") == 1
    assert [uri for uri, _ in store.list_incomplete_uploads(bucket + "/")] == [f"{bucket}/other"]


@pytest.mark.slow
def test_two_processes_may_upload_the_same(store: Store, bucket: str, large: Path, way: Way) -> None:
    """The one that is slower finds its parts removed and the object there, and has nothing to complain of."""
    ends = itertools.count()

    def fault(request: Incoming) -> None:
        if request.method == "POST" and "uploadId=" in request.path and next(ends) == 0:
            assert not store.upload(large, f"{bucket}/m", digest=DIGEST).skipped

    way.fault = fault
    assert store.upload(large, f"{bucket}/m", digest=DIGEST).verified
    assert store.list_incomplete_uploads(bucket + "/") == ()


def test_an_upload_needs_no_permission_to_look_for_half_uploads(
    store: Store, bucket: str, large: Path, way: Way
) -> None:
    """Cleaning up after others is a courtesy; being refused it does not spoil the upload."""
    way.fault = lambda request: (
        build_refusal(403, "AccessDenied") if request.method == "GET" and "uploads" in request.path else None
    )
    assert store.upload(large, f"{bucket}/m", digest=DIGEST).verified
    with pytest.raises(AwsError, match="permission s3:ListBucketMultipartUploads"):
        store.list_incomplete_uploads(bucket + "/")


def test_a_checksum_that_may_not_be_seen_is_not_asked_for(store: Store, bucket: str, small: Path, way: Way) -> None:
    """Without kms:Decrypt S3 does not return the checksum; size and digest are received all the same."""

    def fault(request: Incoming) -> Reply | None:
        asks = any(name.lower() == "x-amz-checksum-mode" for name in request.headers)
        return (403, {}, b"") if request.method == "HEAD" and asks else None

    way.fault = fault
    done = store.upload(small, f"{bucket}/m", digest=DIGEST)
    assert not done.verified
    assert store.upload(small, f"{bucket}/m", digest=DIGEST).skipped


def test_a_missing_bucket_is_named(store: Store, small: Path) -> None:
    """The sentence names the address and says what to do."""
    with pytest.raises(AwsError, match=r"of s3://missing/m: NoSuchBucket: .* create the bucket") as caught:
        store.upload(small, "s3://missing/m", digest=DIGEST)
    assert (caught.value.service, caught.value.code, caught.value.status) == ("s3", "NoSuchBucket", 404)


def test_a_missing_file_is_named(store: Store, bucket: str, tmp_path: Path) -> None:
    """A file that cannot be read is the caller's."""
    with pytest.raises(EncodeError, match="gone: cannot read: No such file or directory"):
        store.upload(tmp_path / "gone", f"{bucket}/m", digest=DIGEST)
    with pytest.raises(EncodeError, match="gone: cannot read: No such file or directory"):
        store.put(tmp_path / "gone", f"{bucket}/m", content_type="text/plain")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file is read as it is sent: its parts are never held together, whatever its size."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * MB)
    with forgetful() as url, Session(endpoint_url=url) as session:
        tracemalloc.start()
        with pytest.raises(DeploymentError, match="the upload succeeded, but S3 has no such object"):
            Store(session, part_size=8 * MB, threads=2).upload(path, "s3://models/m", digest=DIGEST)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 24 * MB


def test_a_stream_is_put_from_its_start(store: Store, bucket: str, way: Way) -> None:
    """Bytes, a stream of several parts and a file arrive whole with their type."""
    content = os.urandom(2 * PART + PART // 5)
    stream = io.BytesIO(content)
    stream.seek(5)
    assert store.put(stream, f"{bucket}/m", content_type="application/json") == len(content)
    found = store.find(f"{bucket}/m")
    assert found is not None
    assert (found.content_type, found.crc32, found.digest) == ("application/json", compute_crc32([content]), None)
    assert b"".join(store.get(f"{bucket}/m")) == content
    store.put(b"", f"{bucket}/empty", content_type="text/plain")
    assert b"".join(store.get(f"{bucket}/empty")) == b""


def test_a_download_that_is_cut_goes_on_where_it_was(
    store: Store, bucket: str, large: Path, way: Way, tmp_path: Path
) -> None:
    """The rest is asked for by its range; the file appears whole, and its bytes are received."""
    store.upload(large, f"{bucket}/m", digest=DIGEST)
    cuts = [PART // 2, 100]

    def spoil(request: Incoming, answer: Outgoing) -> None:
        if request.method == "GET" and cuts:
            answer.cut_after = cuts.pop(0)

    way.spoil = spoil
    received: list[int] = []
    assert store.download(f"{bucket}/m", tmp_path / "new" / "copy", on_progress=received.append) == large.stat().st_size
    assert (tmp_path / "new" / "copy").read_bytes() == large.read_bytes()
    assert sum(received) == large.stat().st_size
    assert [request.headers.get("Range") for request in way.seen if request.method == "GET"][-3:] == [
        None,
        f"bytes={PART // 2}-",
        f"bytes={PART // 2 + 100}-",
    ]


def test_a_download_that_is_cut_for_good_leaves_no_file(
    store: Store, bucket: str, small: Path, way: Way, tmp_path: Path
) -> None:
    """Nothing comes any more: one error, and no file that looks whole."""
    store.upload(small, f"{bucket}/m", digest=DIGEST)

    def spoil(request: Incoming, answer: Outgoing) -> None:
        if request.method == "GET":
            answer.cut_after = 0

    way.spoil = spoil
    with pytest.raises(ConnectError, match="s3 GetObject of s3://models/m: the connection was cut"):
        store.download(f"{bucket}/m", tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.pbtxt"]


def test_a_download_that_is_spoilt_is_noticed(store: Store, bucket: str, small: Path, way: Way, tmp_path: Path) -> None:
    """The sum is held against the one that S3 keeps, also when the pieces came by several answers."""
    store.upload(small, f"{bucket}/m", digest=DIGEST)
    answers = [0]

    def spoil(request: Incoming, answer: Outgoing) -> None:
        if request.method == "GET":
            answers[0] += 1
            if answers[0] == 1:
                answer.cut_after = 4
            else:
                answer.body = answer.body[:-1] + b"X"

    way.spoil = spoil
    with pytest.raises(ConnectError, match=r"bytes with CRC-32 .*, expected"):
        store.download(f"{bucket}/m", tmp_path / "copy")
    way.spoil = lambda _, __: None
    with pytest.raises(AwsError, match="NoSuchKey"):
        store.get(f"{bucket}/none")


def test_a_download_goes_on_with_the_same_object_only(
    store: Store, bucket: str, small: Path, way: Way, tmp_path: Path
) -> None:
    """What was written over between two answers is not put together from both."""
    store.upload(small, f"{bucket}/m", digest=DIGEST)
    client = store.session.client("s3")

    def spoil(request: Incoming, answer: Outgoing) -> None:
        if request.method == "GET" and "Range" not in request.headers:
            answer.cut_after = 4
            client.put_object(Bucket="models", Key="m", Body=bytes(len(answer.body)))

    way.spoil = spoil
    with pytest.raises(AwsError, match=r"s3 GetObject of s3://models/m: PreconditionFailed: .* replaced meanwhile"):
        store.download(f"{bucket}/m", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_object_reads_as_a_stream(store: Store, bucket: str, large: Path) -> None:
    """A stream over an object gives what a file gives, in pieces of any size."""
    store.upload(large, f"{bucket}/m", digest=DIGEST)
    with store.open(f"{bucket}/m") as stream:
        assert stream.read(5) == large.read_bytes()[:5]
        assert stream.read() == large.read_bytes()[5:]
        assert stream.read() == b""


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Path]:
    """A repository's files by their keys."""
    files = {}
    for key in ("digits/config.pbtxt", "digits/1/model.onnx", "other/config.pbtxt"):
        files[key] = tmp_path / "tree" / key
        files[key].parent.mkdir(parents=True, exist_ok=True)
        files[key].write_bytes(key.encode())
    return files


@pytest.mark.slow
def test_only_what_changed_of_a_tree_is_sent(store: Store, bucket: str, tree: dict[str, Path], way: Way) -> None:
    """A second run sends nothing; a changed file, even of the same size, goes; stale objects go when asked only."""
    uri = f"{bucket}/tree"
    received: list[int] = []
    first = store.upload_tree(tree, uri, on_progress=received.append)
    assert first.sent == sum(received) == sum(item.stat().st_size for item in tree.values())
    assert first.difference.missing == tuple(sorted(tree))
    store.put(b"stale", f"{uri}/gone/1/model.onnx", content_type="x/y")
    store.put(b"beside", f"{bucket}/treehouse", content_type="x/y")
    tree["digits/config.pbtxt"].write_bytes(b"X" * len("digits/config.pbtxt"))
    found = store.compare_tree(tree, uri)
    assert found.missing == ("digits/config.pbtxt",)
    assert found.stale == ("gone/1/model.onnx",)
    received.clear()
    second = store.upload_tree(tree, uri, on_progress=received.append)
    assert (second.sent, second.removed) == (len("digits/config.pbtxt"), ())
    assert sum(received) == first.sent
    puts = way.calls("PUT")
    third = store.upload_tree(tree, uri, prune=True)
    assert (third.sent, third.removed) == (0, ("gone/1/model.onnx",))
    assert way.calls("PUT") == puts
    assert sorted(stored.uri for stored in store.list_objects(f"{bucket}/")) == sorted(
        [*(f"{uri}/{key}" for key in tree), f"{bucket}/treehouse"]
    )


def test_known_digests_of_a_tree_are_believed(store: Store, bucket: str, tree: dict[str, Path]) -> None:
    """Digests that the build recorded save reading the files."""
    digests = {key: compute_digest(path) for key, path in tree.items()}
    store.upload_tree(tree, bucket, digests=digests)
    assert store.compare_tree(tree, bucket).unchanged == tuple(sorted(tree))
    assert store.compare_tree(tree, bucket, digests={**digests, "other/config.pbtxt": "x"}).missing == (
        "other/config.pbtxt",
    )


@pytest.mark.slow
def test_an_error_in_a_tree_is_one_error_and_the_next_run_completes(
    store: Store, bucket: str, tree: dict[str, Path], way: Way
) -> None:
    """One file is refused: its address is in the error; the next run sends what is missing and prunes then only."""
    store.put(b"stale", f"{bucket}/stale", content_type="x/y")
    way.fault = lambda request: (
        build_refusal(403, "AccessDenied") if request.method == "PUT" and request.path.endswith("model.onnx") else None
    )
    with pytest.raises(AwsError, match=r"s3 PutObject of s3://models/digits/1/model\.onnx: AccessDenied"):
        store.upload_tree(tree, bucket, prune=True)
    way.fault = lambda _: None
    assert store.find(f"{bucket}/stale") is not None
    assert store.upload_tree(tree, bucket, prune=True).removed == ("stale",)
    assert store.compare_tree(tree, bucket).missing == ()


def test_an_error_in_a_tree_ends_what_goes_up_beside_it(
    store: Store, bucket: str, tree: dict[str, Path], large: Path, way: Way
) -> None:
    """A large file is half up when a small one is refused: the refusal is the error, and no parts are left."""
    refusing, parting = threading.Event(), threading.Event()

    def fault(request: Incoming) -> Any:
        if "partNumber" in request.path:
            parting.set()
            refusing.wait(10)
            time.sleep(0.2)  # until the refusal has arrived
        elif request.method == "PUT" and request.path.endswith("other/config.pbtxt"):
            parting.wait(10)
            refusing.set()
            return build_refusal(403, "AccessDenied")
        return None

    way.fault = fault
    with pytest.raises(AwsError, match=r"config\.pbtxt: AccessDenied"):
        store.upload_tree({"other/config.pbtxt": tree["other/config.pbtxt"], "z-large-one": large}, bucket)
    assert parting.is_set()
    way.fault = lambda _: None
    assert store.list_incomplete_uploads(bucket + "/") == ()


def test_objects_are_removed_by_the_thousand(store: Store, bucket: str, way: Way) -> None:
    """Many objects go in few requests; one that S3 keeps is an error that names it; a missing one is not an error."""
    uris = [f"{bucket}/{number}" for number in range(1001)]
    assert store.delete_all(uris) == 1001
    assert way.calls("POST", "delete") == 2
    store.delete(uris[0])
    kept = b"<DeleteResult><Error><Key>7</Key><Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>"
    way.fault = lambda request: (200, {"Content-Type": "application/xml"}, kept) if request.method == "POST" else None
    with pytest.raises(DeploymentError, match="s3://models/7: AccessDenied: locked; the object still exists"):
        store.delete_all(uris)


@pytest.mark.parametrize(
    "uri", ["", "s3://", "s3://A/b", "https://bucket/key", "s3:/bucket/key", "s3://a/b", "s3://bucket/" + "é" * 513]
)
def test_what_is_no_place_in_s3_is_an_encode_error(uri: str) -> None:
    """The sentence says what a place looks like, or what is too long."""
    with pytest.raises(EncodeError, match=r"is not an S3 address; write s3://bucket/key|more than 1024 bytes"):
        Location.parse(uri)


@pytest.mark.parametrize(
    ("uri", "below", "joined"),
    [
        ("s3://bucket", "a/b", "s3://bucket/a/b"),
        ("s3://bucket/", "a", "s3://bucket/a"),
        ("s3://bucket/p", "a", "s3://bucket/p/a"),
        ("s3://bucket/p/", "a b", "s3://bucket/p/a b"),
    ],
)
def test_locations_join(uri: str, below: str, joined: str) -> None:
    """A folder needs no slash at its end, and gets no second one."""
    assert str(Location.parse(uri) / below) == joined
    assert Location.parse(uri).relative(Location.parse(joined).key) == below


def test_the_checksum_is_s3s_own() -> None:
    """CRC-32 of the published check value, in S3's form, however it is cut."""
    assert compute_crc32([b"123456789"]) == compute_crc32([b"1234", memoryview(b"56789")]) == "y/Q5Jg=="
    value: Any = compute_crc32([])
    assert value == "AAAAAA=="


@pytest.mark.process
def test_a_tree_that_is_stopped_takes_its_parts_back(store: Store, bucket: str, tmp_path: Path, way: Way) -> None:
    """Ctrl-C ends what continues in all threads, at once; the next run sends what is missing."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(os.urandom(PART + 1000))
    stopped, held = threading.Event(), threading.Semaphore(0)

    def fault(request: Incoming) -> None:
        if "partNumber=2" in request.path:
            held.release()
            stopped.wait(10)

    way.fault = fault
    program = [sys.executable, "-m", "tests.support.upload_program", way.url, str(folder), f"{bucket}/tree"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert held.acquire(timeout=30)
        assert held.acquire(timeout=30)
        process.send_signal(signal.SIGINT)
        stopped.set()
        _, received = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in received
    way.fault = lambda _: None
    assert store.list_incomplete_uploads(bucket + "/") == ()
    store.upload_tree({path.name: path for path in folder.iterdir()}, f"{bucket}/tree")
    assert store.list_incomplete_uploads(bucket + "/") == ()


def test_a_file_that_goes_while_it_is_sent_is_named(store: Store, bucket: str, large: Path, way: Way) -> None:
    """What cannot be read any more is the caller's, and leaves nothing."""

    def fault(request: Incoming) -> None:
        if request.method == "POST" and "uploads" in request.path:
            large.unlink()

    way.fault = fault
    with pytest.raises(
        EncodeError,
        match=r"model\.tar\.gz: cannot read: No such file or directory; it was not sent to s3://models/m",
    ):
        store.upload(large, f"{bucket}/m", digest=DIGEST)
    assert store.list_incomplete_uploads(bucket + "/") == ()


@pytest.mark.parametrize(("number", "halves"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)], ids=["Ctrl-C", "killed"])
@pytest.mark.process
def test_a_stopped_process_is_repaired_by_the_next_run(
    store: Store, bucket: str, large: Path, way: Way, number: int, halves: int
) -> None:
    """Ctrl-C takes its parts back; a kill cannot, and the next upload removes them once the object is there."""
    stopped, held = threading.Event(), threading.Event()

    def fault(request: Incoming) -> None:
        if "partNumber=2" in request.path:
            held.set()
            stopped.wait(10)

    way.fault = fault
    program = [sys.executable, "-m", "tests.support.upload_program", way.url, str(large), f"{bucket}/m"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert held.wait(30)
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(10)
        stopped.set()
        _, received = process.communicate(timeout=30)
    assert process.returncode != 0
    assert number == signal.SIGKILL or b"KeyboardInterrupt" in received
    way.fault = lambda _: None
    assert store.find(f"{bucket}/m") is None
    assert len(store.list_incomplete_uploads(bucket + "/")) == halves
    assert store.upload(large, f"{bucket}/m", digest=DIGEST).verified
    assert store.list_incomplete_uploads(bucket + "/") == ()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_download_has_the_mode_of_a_new_file(
    store: Store, bucket: str, tmp_path: Path, umask: int, mode: int
) -> None:
    """Models are read by other users than the one that downloads them, unless the umask forbids it."""
    store.put(b"weights", f"{bucket}/m", content_type="application/octet-stream")
    before = os.umask(umask)
    try:
        store.download(f"{bucket}/m", tmp_path / "copy")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == mode
