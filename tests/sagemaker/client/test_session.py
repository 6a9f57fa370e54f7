"""The session, and what botocore's errors become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.stub import Stubber

from tests.support.faulty_proxy import Way, way_to
from tritonforge.errors import (
    ConnectError,
    DeploymentError,
    EncodeError,
    MissingExtraError,
    RequestError,
    TritonForgeError,
)
from tritonforge.sagemaker.client import AwsError, Session
from tritonforge.sagemaker.client.errors import map_errors, translate_error


@pytest.fixture
def offline() -> Iterator[Session]:
    """A session whose clients are stubbed, or reach nothing."""
    with Session(endpoint_url="http://127.0.0.1:9", attempts=1) as session:
        yield session


def test_clients_are_made_once_for_each_way_of_asking(offline: Session) -> None:
    """The same service and patience give the same client, another patience another one."""
    assert offline.client("s3") is offline.client("s3")
    once = offline.client("sagemaker-runtime", attempts=1, read_timeout=70.0)
    assert once is not offline.client("sagemaker-runtime", attempts=3)
    assert once.meta.config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert once.meta.config.read_timeout == 70.0
    assert Session(attempts=7).client("sagemaker").meta.config.retries["total_max_attempts"] == 7


def test_region_and_account_are_returned(offline: Session) -> None:
    """The region's partition, and the account that STS is asked for once."""
    assert (offline.region, offline.partition) == ("eu-west-1", "aws")
    assert Session(region_name="cn-north-1").partition == "aws-cn"
    assert Session(region_name="us-gov-west-1").partition == "aws-us-gov"
    with Stubber(offline.client("sts")) as stub:
        stub.add_response("get_caller_identity", {"Account": "123456789012"})
        assert (offline.get_account(), offline.get_account()) == ("123456789012", "123456789012")


def test_calls_and_pages_go_by_awss_names(offline: Session) -> None:
    """Operations and members are those of AWS's documentation."""
    with Stubber(offline.client("sagemaker")) as stub:
        stub.add_response("list_models", {"Models": [], "NextToken": "2"}, {"NameContains": "d"})
        stub.add_response("list_models", {"Models": []}, {"NameContains": "d", "NextToken": "2"})
        stub.add_response("create_model", {"ModelArn": "arn:aws:sagemaker:eu-west-1:123456789012:model/d"})
        assert len(list(offline.paginate("sagemaker", "ListModels", NameContains="d"))) == 2
        assert offline.call("sagemaker", "CreateModel", ModelName="d")["ModelArn"].endswith("model/d")


def test_a_bucket_is_in_the_path_of_a_local_host() -> None:
    """No name resolves to models.localhost; of AWS's own hosts the bucket is part."""
    local = Session(endpoint_url="http://localhost:4566").client("s3")
    assert local.generate_presigned_url("get_object", {"Bucket": "models", "Key": "k"}).startswith(
        "http://localhost:4566/models/k"
    )
    aws = Session().client("s3")
    assert "://models.s3." in aws.generate_presigned_url("get_object", {"Bucket": "models", "Key": "k"})


ANSWERS = [
    (
        "ValidationException",
        400,
        'Could not find model "arn:aws:sagemaker:eu-west-1:123456789012:model/d".',
        r'sagemaker DescribeModel of d: ValidationException: Could not find model ".*/d" \(request R1\)$',
    ),
    (
        "AccessDeniedException",
        400,
        "User: u is not authorized",
        r"the caller needs the permission sagemaker:DescribeMo",
    ),
    ("ThrottlingException", 400, "Rate exceeded", r"Rate exceeded \(request R1\); run it again later"),
    ("InternalFailure", 500, "", r"sagemaker DescribeModel of d: InternalFailure \(request R1\); run it again later"),
    ("ResourceLimitExceeded", 400, "The account-level limit", r"ask for a higher quota"),
    ("ExpiredTokenException", 403, "The token expired", r"expired; sign in again \(aws sso login\)"),
    ("RequestExpired", 400, "Too old", r"the clock of this machine is wrong"),
]


@pytest.mark.parametrize(("code", "status", "message", "sentence"), ANSWERS, ids=[answer[0] for answer in ANSWERS])
def test_an_answer_of_aws_is_one_sentence(
    offline: Session, code: str, status: int, message: str, sentence: str
) -> None:
    """Service, operation, resource, AWS's code and words, the request's id, and what to do."""
    with Stubber(offline.client("sagemaker")) as stub:
        stub.add_client_error(
            "describe_model", code, message, http_status_code=status, response_meta={"RequestId": "R1"}
        )
        with pytest.raises(AwsError, match=sentence) as caught:
            offline.call("sagemaker", "DescribeModel", ModelName="d")
    error = caught.value
    assert isinstance(error, DeploymentError)
    assert (error.service, error.operation, error.resource) == ("sagemaker", "DescribeModel", "d")
    assert (error.code, error.message, error.status, error.request_id) == (code, message, status, "R1")
    assert (error.denied, error.throttled) == (code.startswith("Access"), code.startswith("Throttling"))
    assert "\n" not in str(error)
    assert error.__cause__ is not None


SIGNED = "The Canonical String for this request should have been 'POST\\nx-amz-security-token:hidden'"


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidSignatureException", "UnrecognizedClientException"])
def test_no_sentence_quotes_a_signed_request(offline: Session, code: str) -> None:
    """AWS's words on a signature may hold the session's token: they stand nowhere, not even in the traceback."""
    with Stubber(offline.client("sagemaker")) as stub:
        stub.add_client_error("describe_model", code, SIGNED, http_status_code=403)
        with pytest.raises(AwsError, match=r"AWS does not accept the credentials.*check AWS_ACCESS_KEY_ID") as caught:
            offline.call("sagemaker", "DescribeModel", ModelName="d")
    assert "hidden" not in f"{caught.value} {caught.value!r} {caught.value.message}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


SOURCES: list[tuple[Any, str]] = [
    (botocore.exceptions.NoCredentialsError(), "there are no AWS credentials; set AWS_PROFILE"),
    (botocore.exceptions.PartialCredentialsError(provider="env", cred_var="K"), "are not complete"),
    (botocore.exceptions.CredentialRetrievalError(provider="p", error_msg="hidden"), "could not be fetched"),
    (botocore.exceptions.UnauthorizedSSOTokenError(), r"\(SSO\) has expired"),
    (botocore.exceptions.SSOTokenLoadError(error_msg="hidden"), r"\(SSO\) has expired"),
    (botocore.exceptions.LoginRefreshRequired(), "sign-in has expired"),
    (botocore.exceptions.TokenRetrievalError(provider="sso", error_msg="hidden"), "sign-in has expired"),
]


@pytest.mark.parametrize(("error", "sentence"), SOURCES, ids=[type(source[0]).__name__ for source in SOURCES])
def test_missing_credentials_say_how_to_sign_in(error: Any, sentence: str) -> None:
    """One sentence, which says what to do and nothing that a credential's source printed."""
    with pytest.raises(DeploymentError, match=sentence) as caught, map_errors("s3", "GetObject", "s3://b/k"):
        raise error
    assert str(caught.value).startswith("s3 GetObject of s3://b/k: ")
    assert "aws sso login" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_every_error_of_botocore_becomes_one_of_ours() -> None:
    """Whatever botocore raises, also what it will raise one day, is a TritonForgeError of one line."""
    found = 0
    for kind in vars(botocore.exceptions).values():
        if not isinstance(kind, type) or not issubclass(kind, botocore.exceptions.BotoCoreError):
            continue
        try:
            error = kind(**dict.fromkeys(("endpoint_url", "error", "msg", "error_msg", "report", "proxy_url"), "x"))
        except (KeyError, TypeError):
            continue
        received, _ = translate_error(error, service="s3", operation="PutObject", resource="s3://b/k")
        assert isinstance(received, TritonForgeError), kind
        assert "\n" not in str(received), kind
        found += 1
    assert found > 20


WAYS: list[tuple[Any, type[TritonForgeError], str]] = [
    (
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://u"),
        ConnectError,
        "no connection to https://u;",
    ),
    (botocore.exceptions.ConnectTimeoutError(endpoint_url="https://u"), ConnectError, "did not respond in time"),
    (botocore.exceptions.ReadTimeoutError(endpoint_url="https://u?X=S"), ConnectError, r"https://u did not respond"),
    (botocore.exceptions.ConnectionClosedError(endpoint_url="u"), ConnectError, "connection was cut"),
    (botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), ConnectError, "connection was cut"),
    (botocore.exceptions.SSLError(endpoint_url="https://u", error="e"), ConnectError, "certificate of https://u"),
    (botocore.exceptions.ParamValidationError(report="A is wrong\nB too"), RequestError, "A is wrong; B too"),
    (botocore.exceptions.NoRegionError(), EncodeError, "You must specify a region; name a region"),
]


@pytest.mark.parametrize(("error", "kind", "sentence"), WAYS, ids=[type(way[0]).__name__ for way in WAYS])
def test_errors_of_the_connection_are_distinguished(error: Any, kind: type[TritonForgeError], sentence: str) -> None:
    """No answer, no such request and no such place are three kinds of error."""
    with pytest.raises(kind, match=sentence), map_errors("s3", "GetObject", "s3://b/k"):
        raise error


def test_errors_of_others_pass() -> None:
    """Only botocore's errors are mapped."""
    with pytest.raises(ValueError, match="mine"), map_errors("s3", "GetObject"):
        raise ValueError("mine")


def test_a_profile_that_does_not_exist_is_named() -> None:
    """The sentence says how to see those that do."""
    with pytest.raises(EncodeError, match="no AWS profile 'missing'; see: aws configure list-profiles"):
        Session(profile_name="missing")


def test_no_region_is_an_encode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to set one."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(EncodeError, match="no AWS region is configured; name one"):
        Session().client("s3")


def test_an_endpoint_url_that_is_none_is_an_encode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given or of the environment, it is named before any call."""
    sentence = "Invalid endpoint: nonsense; write the endpoint URL as http://host:port"
    with pytest.raises(EncodeError, match=sentence):
        Session(endpoint_url="nonsense").client("sagemaker-runtime")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(EncodeError, match=sentence):
        Session().client("sagemaker-runtime")


def test_without_credentials_the_first_call_says_so(monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    """Nothing is sent."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with (
        Session(endpoint_url=way.url) as session,
        pytest.raises(DeploymentError, match="sts GetCallerIdentity: there are no AWS credentials"),
    ):
        session.get_account()
    assert not way.seen


def test_throttling_is_repeated_as_often_as_is_set(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempts are botocore's, and the message has their number."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    text = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode()
    with way_to(moto) as way, Session(endpoint_url=way.url, attempts=4) as session:
        way.fault = lambda _: (400, {"Content-Type": "application/x-amz-json-1.1"}, text)
        with pytest.raises(AwsError, match="Rate exceeded; 4 attempts were made; run it again later"):
            session.call("sagemaker", "DescribeEndpoint", EndpointName="d")
        assert len(way.seen) == 4


def test_a_session_shows_region_and_endpoint_only(offline: Session) -> None:
    """Its text holds no credential."""
    assert repr(offline) == "Session(region_name='eu-west-1', endpoint_url='http://127.0.0.1:9')"


def test_without_boto3_the_error_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS needs an extra, and says how to get it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[aws\]'"):
        Session()


@pytest.mark.process
def test_the_package_loads_boto3_when_it_is_used() -> None:
    """Importing it loads neither boto3 nor botocore nor s3transfer."""
    code = (
        "import sys, tritonforge.sagemaker.client\n"
        "sys.exit(', '.join(sorted({'boto3', 'botocore', 's3transfer'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_session_names_boto3() -> None:
    """No other module of the package imports it, also not by another name."""
    folder = Path(sys.modules["tritonforge.sagemaker.client"].__file__ or "").parent
    assert [item.name for item in folder.glob("*.py") if "import boto3" in item.read_text()] == ["session.py"]
