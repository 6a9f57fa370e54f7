"""An S3 of moto's in this process, behind a way that can be spoilt, and sessions to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.support.faulty_proxy import Proxy, Way, proxy_to
from tritonforge.sagemaker.client import Session, Store


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of an unused account, and none of the machine's own configuration."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def proxy(moto: str) -> Iterator[Proxy]:
    """A proxy to moto, which all tests share one after another."""
    with proxy_to(moto) as found:
        yield found


@pytest.fixture
def way(proxy: Proxy) -> Way:
    """The way to moto; what a test before this one still sends goes that test's own way."""
    proxy.way = Way(proxy.way.target, proxy.url)
    return proxy.way


@pytest.fixture(scope="session")
def opened() -> Iterator[dict[str, Session]]:
    """Sessions that tests share, by address: a client takes longer to make than most tests to run."""
    sessions: dict[str, Session] = {}
    yield sessions
    for session in sessions.values():
        session.close()


@pytest.fixture
def session(way: Way, opened: dict[str, Session], identity: None, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session on that way, which waits for nothing between attempts.

    Its clients would have an allowance of retries, which a test would find used up by those before it.
    """
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: True)
    if way.url not in opened:
        opened[way.url] = Session(endpoint_url=way.url, read_timeout=5)
    return opened[way.url]


@pytest.fixture
def direct(moto: str, opened: dict[str, Session], identity: None) -> Session:
    """A session that goes to moto without the way."""
    if moto not in opened:
        opened[moto] = Session(endpoint_url=moto)
    return opened[moto]


@pytest.fixture
def bucket(direct: Session) -> Iterator[str]:
    """The address of an empty bucket, which goes afterwards with all that is in it, halves too."""
    direct.call("s3", "CreateBucket", Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield "s3://models"
    store = Store(direct)
    store.abort_incomplete_uploads("s3://models/")
    store.delete_all([stored.uri for stored in store.list_objects("s3://models/")])
    direct.call("s3", "DeleteBucket", Bucket="models")
