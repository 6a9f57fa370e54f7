"""Faults on the way to AWS, at every call in turn: they are got over, or end in one clear error, and nothing is left.

A fault is put in by botocore's own hook before a request is sent: an answer of AWS's, or an error of the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions
from botocore.awsrequest import AWSResponse

from tests.support.aws_faults import FAULTS, Faults, Raw, fresh, shorten_retries
from tests.support.deployments import deploy, destroy, everything, make_repository
from tests.support.small_parts import PART
from tests.support.stopped_runs import small_parts
from tritonforge.errors import ConnectError, DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Autoscaling, Deployment, TargetTracking

pytestmark = pytest.mark.process

SCALED = Autoscaling(
    min_capacity=1,
    max_capacity=2,
    policies=[TargetTracking(target_value=70, predefined_metric_type="SageMakerVariantInvocationsPerInstance")],
)


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with shorten_retries():
        yield


@pytest.fixture(scope="module", autouse=True)
def _parts() -> Iterator[None]:
    """Uploads go in small parts."""
    with small_parts():
        yield


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A repository whose archive goes up in parts."""
    return make_repository(tmp_path / "large", size=PART + 1000)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_one_fault_at_each_call_is_got_over(session: Session, wanted: Deployment, large: Path, kind: str) -> None:
    """Every third request fails once: the run is the same as without."""
    with fresh(session) as faulty:
        faults = Faults(faulty, kind, every=3)
        made = deploy(faulty, wanted.with_settings(autoscaling=SCALED), large)
        assert faults.sent > 15
    left = everything(session, wanted.name)
    assert (len(left["objects"]), len(left["half uploads"]), len(left["endpoints"])) == (1, 0, 1)
    assert deploy(session, wanted.with_settings(autoscaling=SCALED), large).steps == ()
    assert made.config == left["configs"][0]


WRITING = [
    ("CreateMultipartUpload", "timed out"),
    ("UploadPart", "internal error"),
    ("CompleteMultipartUpload", "reset"),
    ("CreateModel", "throttled"),
    ("CreateEndpointConfig", "timed out"),
    ("CreateEndpoint", "internal error"),
    ("RegisterScalableTarget", "no connection"),
    ("PutScalingPolicy", "throttled"),
]


@pytest.mark.parametrize(("operation", "kind"), WRITING)
def test_a_call_that_always_fails_is_one_error_and_the_next_run_goes_on(
    session: Session, wanted: Deployment, large: Path, operation: str, kind: str
) -> None:
    """The error names the call; no half upload is left; another run ends well."""
    wanted = wanted.with_settings(autoscaling=SCALED)
    with fresh(session) as faulty:
        Faults(faulty, kind, always=operation)
        with pytest.raises((DeploymentError, ConnectError)) as caught:
            deploy(faulty, wanted, large)
    message = str(caught.value)
    assert re.search(r"PutObject|UploadPart|Multipart", message) if "art" in operation[-18:] else operation in message
    assert "Traceback" not in message
    assert everything(session, wanted.name)["half uploads"] == []
    deploy(session, wanted, large)
    assert deploy(session, wanted, large).steps == ()
    destroy(session, wanted)
    assert not any(everything(session, wanted.name).values())


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint"])
def test_an_answer_that_is_lost_is_not_taken_for_a_refusal(
    session: Session, wanted: Deployment, tmp_path: Path, operation: str
) -> None:
    """AWS did it, the answer got lost, botocore asks again, AWS says that it exists: that is what was wanted."""
    repositories = [make_repository(tmp_path / f"{seed}", seed=seed) for seed in (1, 2)]
    if operation == "UpdateEndpoint":
        deploy(session, wanted, repositories[0])
    lost = []

    def lose(**context: Any) -> None:
        if not lost:
            lost.append(context)
            raise exceptions.ConnectionClosedError(endpoint_url="http://lost")

    with fresh(session) as faulty:
        client = faulty.client("sagemaker")
        # Once a request was answered, the answer is thrown away as if the connection had been cut.
        send = client._endpoint.http_session.send

        def cut(request: Any) -> Any:
            found = send(request)
            target = request.headers.get("X-Amz-Target", b"")
            if (target.decode() if isinstance(target, bytes) else target).endswith(f".{operation}"):
                lose(operation=operation)
            return found

        client._endpoint.http_session.send = cut
        deploy(faulty, wanted, repositories[1])
    assert lost
    assert deploy(session, wanted, repositories[1]).steps == ()


def test_a_configuration_that_aws_does_not_see_yet_is_asked_for_again(
    session: Session, wanted: Deployment, repository: Path
) -> None:
    """CreateEndpoint reads what CreateEndpointConfig wrote from a table that is late (API CreateEndpoint)."""
    refused = []
    with fresh(session) as late:

        def unseen(request: Any, **_: Any) -> AWSResponse | None:
            if len(refused) == 2:
                return None
            refused.append(request)
            found = re.search(rb'"EndpointConfigName": ?"([^"]+)"', request.body)
            assert found is not None
            message = f'Could not find endpoint configuration \\"arn:aws:x/{found[1].decode()}\\".'
            body = f'{{"__type": "ValidationException", "message": "{message}"}}'
            return AWSResponse(request.url, 400, {}, Raw(body.encode()))

        late.client("sagemaker").meta.events.register("before-send.sagemaker.CreateEndpoint", unseen)
        deploy(late, wanted, repository)
    assert len(refused) == 2


def test_what_was_never_there_is_not_asked_for_again(
    session: Session, wanted: Deployment, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that does not exist is one error at once."""
    monkeypatch.setattr(session, "sleep", lambda seconds: pytest.fail("it waited"))
    absent = wanted.with_settings(execution_role_arn="arn:aws:iam::123456789012:role/absent")
    with pytest.raises(DeploymentError, match=r"CreateModel of .*absent"):
        deploy(session, absent, repository)


def test_bytes_that_are_damaged_on_the_way_are_refused(session: Session, wanted: Deployment, repository: Path) -> None:
    """The checksum does not fit what arrives: one error, and nothing is left; of parts the store's own tests say so."""
    with fresh(session) as faulty:

        def damaged(request: Any, **_: Any) -> None:
            assert "x-amz-checksum-crc32" in request.headers
            request.headers["x-amz-checksum-crc32"] = "AAAAAA=="

        faulty.client("s3").meta.events.register("before-send.s3.PutObject", damaged)
        with pytest.raises(DeploymentError, match=r"S3 has other bytes than were sent"):
            deploy(faulty, wanted, repository)
    left = everything(session, wanted.name)
    assert left["objects"] == left["half uploads"] == left["models"] == []


def test_a_wait_survives_that_aws_cannot_be_asked_for_a_while(
    session: Session, wanted: Deployment, repository: Path
) -> None:
    """Looks at the endpoint that fail beyond botocore's own retries do not end the wait."""
    with fresh(session) as faulty:
        faults = Faults(faulty)
        created: list[int] = []
        failed: list[int] = []

        def chosen(number: int, operation: str) -> bool:
            if operation == "CreateEndpoint":
                created.append(number)
            if operation == "DescribeEndpoint" and created and len(failed) < 7:
                failed.append(number)
                return True
            return False

        faults.chosen = chosen
        deploy(faulty, wanted, repository)
        assert len(failed) == 7
    assert deploy(session, wanted, repository).steps == ()
