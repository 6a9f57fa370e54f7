"""The proxy for AWS host names: what code with built-in addresses of AWS is answered, and what is refused."""

import contextlib
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator, client_environment
from tritonforge.emulator.front import https_proxy
from tritonforge.emulator.front.http_request import AwsHost, is_aws_host, parse_host
from tritonforge.emulator.front.https_proxy import CertificateAuthority

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with a proxy, and its state in a folder."""
    state = tmp_path_factory.mktemp("state")
    with Emulator(proxy_port=0, state=state, containers=FakeContainers(), speed=1000) as running:
        yield running


def client(emulator: Emulator, service: str, address: str, **settings: Any) -> Any:
    """A client whose address of AWS is built in, as AWS's SDK gives STS one; only the proxy leads to the emulator."""
    return boto3.client(
        service,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        verify=emulator.proxy_environment["AWS_CA_BUNDLE"],
        config=Config(proxies={"https": emulator.proxy_url, "http": emulator.proxy_url}, **settings),
    )


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("sts.us-west-2.amazonaws.com", AwsHost("sts", "us-west-2")),
        ("STS.us-west-2.amazonaws.com.", AwsHost("sts", "us-west-2")),
        ("iam.amazonaws.com", AwsHost("iam", "us-east-1")),
        ("sts-fips.us-east-2.amazonaws.com", AwsHost("sts", "us-east-2")),
        ("sts.cn-north-1.amazonaws.com.cn", AwsHost("sts", "cn-north-1")),
        ("api.sagemaker.eu-west-1.amazonaws.com", AwsHost("sagemaker", "eu-west-1")),
        ("s3.amazonaws.com", AwsHost("s3", "us-east-1")),
        ("s3-us-west-2.amazonaws.com", AwsHost("s3", "us-west-2")),
        ("models.s3.amazonaws.com", AwsHost("s3", "us-east-1", "models")),
        ("a.b.s3.eu-west-1.amazonaws.com", AwsHost("s3", "eu-west-1", "a.b")),
        ("s3.models.s3.eu-west-1.amazonaws.com", AwsHost("s3", "eu-west-1", "s3.models")),
        ("models.s3.dualstack.eu-west-1.amazonaws.com", AwsHost("s3", "eu-west-1", "models")),
        ("models.s3-accelerate.amazonaws.com", AwsHost("s3", "us-east-1", "models")),
        ("lambda.us-east-1.api.aws", AwsHost("lambda", "us-east-1")),
        ("amazonaws.com", None),
        ("amazonaws.com.evil.org", None),
        ("evilamazonaws.com", None),
        ("sts..amazonaws.com", None),
        ("a/b.amazonaws.com", None),
        ("169.254.169.254", None),
        ("", None),
    ],
)
def test_a_host_name_says_service_region_and_bucket(name: str, meaning: AwsHost | None) -> None:
    """Names below AWS's DNS suffixes are read; every other name is none of AWS's."""
    assert parse_host(name) == meaning
    assert is_aws_host(name) is (meaning is not None)


def test_a_built_in_address_is_answered_by_the_emulator(emulator: Emulator) -> None:
    """STS under AWS's own address says that the caller is a session of the execution role, as in a notebook."""
    found = client(emulator, "sts", "https://sts.us-east-1.amazonaws.com").get_caller_identity()
    assert found["Account"] == emulator.account
    assert found["Arn"].endswith(":assumed-role/TritonForgeExecutionRole/tritonforge")
    plain = client(emulator, "sts", "http://sts.us-east-1.amazonaws.com").get_caller_identity()
    assert plain["Arn"] == found["Arn"]


def test_public_buckets_are_read_by_their_host_names_without_a_signature(emulator: Emulator) -> None:
    """JumpStart's way to its bucket: unsigned requests to <bucket>.s3.<region>.amazonaws.com."""
    address = "https://s3.us-east-1.amazonaws.com"
    s3 = client(emulator, "s3", address)
    s3.create_bucket(Bucket="jumpstart-cache", ACL="public-read")
    body = bytes(range(256)) * 8192
    s3.put_object(Bucket="jumpstart-cache", Key="a b/ü.bin", Body=body, ACL="public-read", Metadata={"Origin": "x"})
    public = client(emulator, "s3", address, signature_version=UNSIGNED, s3={"addressing_style": "virtual"})
    found = public.get_object(Bucket="jumpstart-cache", Key="a b/ü.bin")
    assert found["Body"].read() == body
    assert [entry["Key"] for entry in public.list_objects_v2(Bucket="jumpstart-cache")["Contents"]] == ["a b/ü.bin"]
    direct = boto3.client("s3", endpoint_url=emulator.url, aws_access_key_id="testing", aws_secret_access_key="testing")
    assert direct.head_object(Bucket="jumpstart-cache", Key="a b/ü.bin")["Metadata"] == {"origin": "x"}


def ask(emulator: Emulator, head: str) -> bytes:
    """What the proxy answers to the head of a request, until it closes."""
    assert emulator.proxy_url is not None
    with socket.create_connection(("127.0.0.1", int(emulator.proxy_url.rpartition(":")[2])), timeout=10) as peer:
        peer.sendall(head.encode() + b"\r\n\r\n")
        pieces = []
        while piece := peer.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443",
        "CONNECT amazonaws.com.evil.org:443 HTTP/1.1",
        "CONNECT sts.us-east-1.amazonaws.com:8443 HTTP/1.1",
        "CONNECT sts.us-east-1.amazonaws.com:22 HTTP/1.1",
        "CONNECT 127.0.0.1:443 HTTP/1.1",
        "CONNECT sts.us-east-1.amazonaws.com HTTP/1.1",
        "GET http://example.com/ HTTP/1.1\r\nHost: example.com",
        "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1",
        "GET http://sts.us-east-1.amazonaws.com:99999/ HTTP/1.1",
        "POST / HTTP/1.1\r\nHost: sts.us-east-1.amazonaws.com\r\nContent-Length: 0",  # a page, after DNS rebinding
    ],
)
def test_everything_but_aws_is_refused(emulator: Emulator, head: str) -> None:
    """Nothing is forwarded: another name or port, and a request that does not come as to a proxy, gets 403."""
    answer = ask(emulator, head)
    assert answer.startswith(b"HTTP/1.1 403 tritonforge's proxy accepts AWS host names only\r\n")
    assert b"access-control" not in answer.lower()


@pytest.mark.parametrize(
    "headers", ["Host: iam.amazonaws.com", "Host: sts.us-east-1.amazonaws.com\r\nOrigin: https://evil.example"]
)
def test_a_tunnel_carries_programs_requests_to_its_own_host_only(emulator: Emulator, headers: str) -> None:
    """A request in a tunnel that names another host, or is a web page's, is refused."""
    assert emulator.proxy_url is not None
    trusted = ssl.create_default_context(cafile=emulator.proxy_environment["AWS_CA_BUNDLE"])
    with socket.create_connection(("127.0.0.1", int(emulator.proxy_url.rpartition(":")[2])), timeout=10) as peer:
        peer.sendall(b"CONNECT sts.us-east-1.amazonaws.com:443 HTTP/1.1\r\n\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 ")
        with trusted.wrap_socket(peer, server_hostname="sts.us-east-1.amazonaws.com") as tunnel:
            tunnel.sendall(f"GET / HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            assert tunnel.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_the_certificate_authority_can_speak_for_aws_only(tmp_path: Path) -> None:
    """A certificate for another name, signed with the authority's own key, is refused by clients that trust it."""
    authority = CertificateAuthority(tmp_path)
    with pytest.raises(ValueError, match="not a host name of AWS"):
        authority.get_context("example.com")
    key = https_proxy._make_key()
    forged = https_proxy._sign(
        "example.com", key.public_key(), issuer=authority._root, issuer_key=authority._root_key, authority=False
    )
    file = tmp_path / "forged.pem"
    file.write_bytes(forged.public_bytes(serialization.Encoding.PEM) + https_proxy._encode_key(key))
    forging = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    forging.load_cert_chain(file)
    assert handshake(authority, authority.get_context("iam.amazonaws.com"), "iam.amazonaws.com") == ""
    assert "permitted subtree violation" in handshake(authority, forging, "example.com")


def handshake(authority: CertificateAuthority, server: ssl.SSLContext, name: str) -> str:
    """What a client that trusts the authority says of a server's certificate; empty where it accepts it."""
    trusting = ssl.create_default_context(cafile=authority.certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(3):
            for side in (client_side, server_side):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def test_private_keys_are_their_owners_and_a_kept_authority_stays(emulator: Emulator, tmp_path: Path) -> None:
    """Folder 0700, key 0600, no other key left; the same certificate after a restart, a new one when it is damaged."""
    folder = Path(emulator.proxy_environment["AWS_CA_BUNDLE"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["ca-bundle.pem", "ca-key.pem", "ca.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    first = CertificateAuthority(tmp_path).certificate.read_bytes()
    assert CertificateAuthority(tmp_path).certificate.read_bytes() == first
    (tmp_path / "ca.pem").write_bytes(first[:300])
    second = CertificateAuthority(tmp_path).certificate.read_bytes()
    assert x509.load_pem_x509_certificate(second) != x509.load_pem_x509_certificate(first)


def test_the_environment_takes_out_what_leads_elsewhere() -> None:
    """A profile, foreign credentials and addresses of single services go; hosts reached directly stay so."""
    ours = client_environment.build_proxy_environment(
        proxy_url="http://127.0.0.1:1", certificate=Path("/ca.pem"), bundle=Path("/ca-bundle.pem")
    )
    before = {"PATH": "/bin", "AWS_PROFILE": "prod", "AWS_ENDPOINT_URL_S3": "http://x", "NO_PROXY": "a.org, 127.0.0.1"}
    merged = client_environment.merge_environment(before, ours)
    assert merged["PATH"] == "/bin"
    assert not client_environment.list_conflicting(merged)
    assert merged["NO_PROXY"] == merged["no_proxy"] == "a.org,127.0.0.1,localhost,::1"
    assert merged["HTTPS_PROXY"] == merged["https_proxy"] == "http://127.0.0.1:1"


def test_a_command_runs_against_an_emulator_of_its_own() -> None:
    """`emulate -- COMMAND` sets the command's environment and exits with its code; so does `eval "$(... --env)"`."""
    program = (
        "import boto3, os\n"
        "print(boto3.client('sts', endpoint_url='https://sts.us-east-1.amazonaws.com').get_caller_identity()['Arn'])\n"
        "print(sorted(set(os.environ) & {'AWS_PROFILE'}))\n"
    )
    (tritonforge, python) = (str(Path(sys.executable).with_name("tritonforge")), sys.executable)
    script = (
        f'"{python}" -c "$PROGRAM"; port=${{AWS_ENDPOINT_URL##*:}}; unset AWS_ENDPOINT_URL HTTPS_PROXY https_proxy; '
        f'AWS_PROFILE=prod; export AWS_PROFILE; eval "$("{tritonforge}" emulate --port $port --env)"; '
        f'"{python}" -c "$PROGRAM"; exit 7'
    )
    done = subprocess.run(
        [tritonforge, "emulate", "--", "sh", "-c", script],
        env={**os.environ, "PROGRAM": program, "AWS_PROFILE": "prod"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    arn, unset = "arn:aws:sts::123456789012:assumed-role/TritonForgeExecutionRole/tritonforge", "[]"
    assert done.stdout.splitlines() == [arn, unset, arn, unset]
    assert done.stderr == ""
