"""Buckets and keys that S3 refuses, and what is written of those that it takes."""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator
from tritonforge.emulator.front.s3_front import check_path, escape_control_characters, parse_bucket_host

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"


@pytest.mark.parametrize(
    "path",
    [
        *("/..", "/../k", "/./k", "/%2e%2e/k", "/ab", "/" + "a" * 64, "/a..b", "/A-Bucket", "/a_b", "/-ab", "/ab-/k"),
        *("/10.0.0.1/k", "/a%00b", "/a%0ab/k", "/a%2fb%2f/k", "//k"),
    ],
)
def test_a_name_that_no_bucket_has_is_refused(path: str) -> None:
    """Names that lead out of a folder among them; encoded ones too."""
    found = check_path(path)
    assert found is not None
    assert found.code == "InvalidBucketName"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("..", "InvalidURI"),
        ("../k", "InvalidURI"),
        ("a/../../k", "InvalidURI"),
        ("%2e%2e/k", "InvalidURI"),
        ("%ff", "InvalidURI"),
        ("%C0%AF", "InvalidURI"),
        ("x" * 1025, "KeyTooLongError"),
        ("%C3%A9" * 513, "KeyTooLongError"),
    ],
)
def test_a_key_that_leads_out_of_its_bucket_or_is_no_text_is_refused(key: str, code: str) -> None:
    """As S3 answers."""
    found = check_path(f"/bucket/{key}")
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    "key", ["k", "a/../b", "..k", "a/./b", "%01", "%0a", "%00", "%e2%80%ae", "a//b", "/", "x" * 1024]
)
def test_every_other_key_is_taken(key: str) -> None:
    """Control characters too."""
    assert check_path(f"/bucket/{key}") is None


def test_the_bucket_is_read_from_the_host() -> None:
    """Below localhost, and below a name that is allowed for containers."""
    assert parse_bucket_host("models.localhost:4566", ()) == "models"
    assert parse_bucket_host("a.b.Emulator.internal:4566", ["emulator.internal:4566"]) == "a.b"
    assert [parse_bucket_host(host, ["emulator"]) for host in ("127.0.0.1:1", "localhost:1", "emulator:1", "")] == [
        ""
    ] * 4


def test_a_listing_of_control_characters_is_an_xml_document() -> None:
    """References of XML 1.1, as S3 writes them; line feeds between the elements stay."""
    document = escape_control_characters(b"<a>\n<Key>\x00\x01\x1b\r</Key></a>")
    assert document == b"<a>\n<Key>&#x0;&#x1;&#x1B;&#xD;</Key></a>"
    assert escape_control_characters("<Key>é\t\n</Key>".encode()) == "<Key>é\t\n</Key>".encode()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with a state folder, under a umask that lets everybody read."""
    before = os.umask(0o022)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        state = tmp_path_factory.mktemp("emulator") / "deep" / "state"
        with Emulator(
            containers=FakeContainers(), speed=1000, state=state, allowed_hosts=["emulator.internal"]
        ) as made:
            made.state = state  # type: ignore[attr-defined]  # for the tests below
            yield made
    os.umask(before)


def client(emulator: Emulator, service: str) -> Any:
    """A client whose requests are sent as they are."""
    settings = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=emulator.url, config=settings, **keys)


def test_keys_with_control_characters_are_listed_as_they_are(emulator: Emulator) -> None:
    """By boto3, which asks for encoded keys; one with a line feed is an object like any other."""
    s3 = client(emulator, "s3")
    keys = ["c/\x01", "c/a\nb", "c/\x1b[2J", "c/é", "c/%"]
    for key in keys:
        s3.put_object(Bucket=emulator.bucket, Key=key, Body=key.encode())
        assert s3.get_object(Bucket=emulator.bucket, Key=key)["Body"].read() == key.encode()
    listed = s3.list_objects_v2(Bucket=emulator.bucket, Prefix="c/")["Contents"]
    assert sorted(entry["Key"] for entry in listed) == sorted(keys)
    s3.put_object(Bucket=emulator.bucket, Key="own.xml", Body=b"<a>\x01</a>", ContentType="application/xml")
    assert s3.get_object(Bucket=emulator.bucket, Key="own.xml")["Body"].read() == b"<a>\x01</a>"


def test_s3_refuses_with_its_own_codes(emulator: Emulator) -> None:
    """And nothing is made."""
    s3 = client(emulator, "s3")
    for bucket, key, code in (
        (emulator.bucket, "../k", "InvalidURI"),
        (emulator.bucket, "k" * 1025, "KeyTooLongError"),
    ):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        assert caught.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(Bucket="a_b")
    assert caught.value.response["Error"]["Code"] == "InvalidBucketName"
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [emulator.bucket]


def test_a_container_may_have_the_bucket_in_the_host_name(emulator: Emulator) -> None:
    """Below a name that is allowed, and with a key that no bucket could be named."""
    import urllib3

    url = f"{emulator.url}/Folder_of/Key"
    port = emulator.url.rpartition(":")[2]
    named = {"Host": f"{emulator.bucket}.emulator.internal:{port}"}
    assert urllib3.request("PUT", url, body=b"x", headers=named).status == 200
    assert client(emulator, "s3").get_object(Bucket=emulator.bucket, Key="Folder_of/Key")["Body"].read() == b"x"
    root = ET.fromstring(urllib3.request("GET", f"{emulator.url}/?prefix=Folder", headers=named).data)
    assert root.tag.endswith("ListBucketResult")


def test_no_other_user_may_read_the_state(emulator: Emulator) -> None:
    """Folders 0700 and files 0600, whatever the umask: what users sent, resources, files of containers."""
    s3, sagemaker = client(emulator, "s3"), client(emulator, "sagemaker")
    s3.put_object(Bucket=emulator.bucket, Key="large", Body=bytes(100_000))
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{emulator.bucket}/large"}
    sagemaker.create_model(ModelName="kept", ExecutionRoleArn=emulator.role_arn, PrimaryContainer=container)
    state: Path = emulator.state  # type: ignore[attr-defined]  # see the fixture
    found = [state.parent, state, *state.rglob("*")]
    assert {path.name for path in found} >= {"neighbours", "requests.jsonl", "bodies", "kept.json", "containers"}
    modes = {str(path.relative_to(state.parent)): stat.S_IMODE(path.stat().st_mode) for path in found}
    wrong = {
        name: oct(mode) for name, mode in modes.items() if mode != (0o700 if (state.parent / name).is_dir() else 0o600)
    }
    assert wrong == {}


def test_a_folder_of_the_users_keeps_its_mode(tmp_path: Path) -> None:
    """Only what the emulator makes in it is closed."""
    from tritonforge.emulator import emulated_s3

    tmp_path.chmod(0o755)
    (tmp_path / "sagemaker").mkdir(mode=0o755)
    emulated_s3.make_state_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "sagemaker").stat().st_mode) == 0o700
