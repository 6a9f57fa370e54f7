"""Models of several containers, asked by boto3: inference pipelines and direct invocation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tritonforge.emulator.control.fleet import InferencePipeline
from tritonforge.emulator.hosting import ContainerGoneError, ContainerTimeoutError
from tritonforge.emulator.interfaces import ContainerResponse

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
INVALID = "ValidationException"


class Step:
    """A container that appends its name to the body, and notes the headers and the time that it was given."""

    def __init__(
        self, name: str, *, status: int = 200, error: Exception | None = None, multi_model: bool = False
    ) -> None:
        self.name = name
        self.status = status
        self.error = error
        self.multi_model = multi_model
        self.headers: Mapping[str, str] = {}
        self.target = ""
        self.stopped = False

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Answer with the body and the name, as text/<name>."""
        self.headers = headers
        if self.error is not None:
            raise self.error
        return ContainerResponse(self.status, {"content-type": f"text/{self.name}"}, body + self.name.encode())

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """As `invoke`."""
        self.target = target_model
        return self.invoke(body, headers, timeout=timeout)

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """Answer a ping with the status."""
        return ContainerResponse(self.status, {}, self.name.encode())

    def stop(self, *, drain: float = 30.0) -> None:
        """Note it."""
        self.stopped = True


def pipeline(*steps: Step, direct: bool = False) -> InferencePipeline:
    """The containers as one."""
    return InferencePipeline({step.name: step for step in steps}, direct=direct)


def test_each_container_is_given_the_answer_of_the_one_before() -> None:
    """With its content type; only the last one receives what the client accepts."""
    first, second, third = Step("a"), Step("b"), Step("c")
    headers = {"Content-Type": "image/jpeg", "Accept": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "x"}
    answer = pipeline(first, second, third).invoke(b">", headers, timeout=5)
    assert (answer.body, answer.headers["content-type"]) == (b">abc", "text/c")
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "x"}
    assert first.headers == {"Content-Type": "image/jpeg", **attributes}
    assert second.headers == {"Content-Type": "text/a", **attributes}
    assert third.headers == {"Content-Type": "text/b", "Accept": "text/csv", **attributes}


def test_the_first_error_ends_a_request_and_names_its_container() -> None:
    """The containers behind it see nothing."""
    last = Step("c")
    answer = pipeline(Step("a"), Step("b", status=415), last).invoke(b">", {}, timeout=5)
    assert (answer.status, answer.body, answer.container, last.headers) == (415, b">ab", "b", {})


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TimeoutError("no answer"), ContainerTimeoutError),
        (ContainerGoneError("gone", in_flight=True), ContainerGoneError),
    ],
)
def test_a_container_without_an_answer_is_named(error: Exception, raised: type[Exception]) -> None:
    """A timeout and a crash say which container it was."""
    with pytest.raises(raised) as caught:
        pipeline(Step("a"), Step("b", error=error)).invoke(b">", {}, timeout=5)
    assert caught.value.container == "b"  # type: ignore[attr-defined]  # both classes have it


def test_a_ping_is_that_of_every_container() -> None:
    """One that is not healthy is the pipeline's answer."""
    assert pipeline(Step("a"), Step("b")).get("/ping", timeout=2).status == 200
    assert pipeline(Step("a"), Step("b", status=503)).get("/ping", timeout=2).body == b"b"


def test_a_target_model_is_for_the_container_with_many_models() -> None:
    """The other containers know nothing of it."""
    many = Step("many", multi_model=True)
    whole = pipeline(Step("one"), many)
    assert whole.multi_model
    assert whole.invoke_model("x.tar.gz", b">", {}, timeout=5).body == b">onemany"
    assert many.target == "x.tar.gz"


@pytest.fixture(scope="module")
def model(account: Any) -> Callable[..., Any]:
    """Creates a model of containers."""

    def create(*, name: str, containers: Sequence[Mapping[str, Any]], mode: str | None = None) -> Any:
        execution = {} if mode is None else {"InferenceExecutionConfig": {"Mode": mode}}
        return account.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=account.emulator.role_arn,
            Containers=[{"Image": IMAGE, "ModelDataUrl": account.data, **container} for container in containers],
            **execution,
        )

    return create


def test_an_endpoint_of_a_pipeline_answers_with_its_last_container(account: Any, model: Any) -> None:
    """One log stream and one set of environment variables for each container."""
    model(name="serial", containers=[{"Environment": {"A": "1"}}, {}])
    account.create_config("serial", "serial")
    assert account.create_endpoint("serial", "serial")["EndpointStatus"] == "InService"
    first, second = account.containers.running[-2:]
    assert first.variant.container.environment == {"A": "1"}
    assert second.variant.container_name == "container-2"
    response = account.runtime.invoke_endpoint(EndpointName="serial", Body=b"x" * 7, ContentType="text/plain")
    answer = json.loads(response["Body"].read())
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["bytes"] > 7
    account.remove_endpoint("serial")
    assert first not in account.containers.running
    account.emulator.flush()
    streams = account.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/serial")
    names = sorted(stream["logStreamName"].rpartition("/")[2] for stream in streams["logStreams"])
    assert names == ["container-1", "container-2"]


def test_direct_invocation_asks_the_container_that_is_named(account: Any, model: Any, refused: Any) -> None:
    """The three errors of the developer guide are refused."""
    model(name="direct", containers=[{"ContainerHostname": "one"}, {"ContainerHostname": "two"}], mode="Direct")
    account.create_config("direct", "direct")
    account.create_endpoint("direct", "direct")
    ask = account.runtime.invoke_endpoint
    response = ask(EndpointName="direct", Body=b"x", TargetContainerHostname="two")
    assert json.loads(response["Body"].read())["bytes"] == 1
    code, sentence = refused(ask, EndpointName="direct", Body=b"x")
    assert code == "ValidationError"
    assert "missing a target container hostname header. Its containers are one, two." in sentence
    assert "no container three" in refused(ask, EndpointName="direct", Body=b"x", TargetContainerHostname="three")[1]
    account.remove_endpoint("direct")


def test_a_container_of_a_pipeline_that_fails_is_named(account: Any, model: Any) -> None:
    """Nothing is left running."""
    model(name="halved", containers=[{}, {"Environment": {"FAILS": "no"}}])
    account.create_config("halved", "halved")
    before = list(account.containers.running)
    assert account.create_endpoint("halved", "halved")["EndpointStatus"] == "Failed"
    assert account.containers.running == before
    account.remove_endpoint("halved")


@pytest.mark.parametrize(
    ("containers", "mode", "sentence"),
    [
        ([{"ContainerHostname": "a"}, {}], None, "give it for every container, or for none"),
        ([{"ContainerHostname": "a"}, {"ContainerHostname": "a"}], "Serial", "the hostnames must differ"),
        ([{}, {}], "Direct", "containers for direct invocation need ContainerHostname"),
    ],
)
def test_hostnames_are_checked(model: Any, refused: Any, containers: Any, mode: str | None, sentence: str) -> None:
    """Before a model is created."""
    code, message = refused(model, name="named", containers=containers, mode=mode)
    assert (code, sentence in message) == (INVALID, True)


def test_a_serverless_variant_takes_no_pipeline(account: Any, model: Any, refused: Any) -> None:
    """The developer guide excludes it."""
    model(name="two", containers=[{}, {}])
    variant = {
        "VariantName": "v",
        "ModelName": "two",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2},
    }
    create = account.sagemaker.create_endpoint_config
    assert "no inference pipeline" in refused(create, EndpointConfigName="two", ProductionVariants=[variant])[1]
