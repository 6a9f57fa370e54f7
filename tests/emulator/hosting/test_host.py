"""Containers that are real: archives in the emulated S3, started on tritonserver, asked, killed, ended."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosted_models import BROKEN, CONFIG, IO, Bucket, archive, below, live, model, until
from tests.support.hosted_models import Client as RuntimeClient
from tritonforge.emulator.hosting import (
    ContainerDefinition,
    ContainerError,
    ContainerGoneError,
    HostedContainer,
    ModelData,
    Variant,
    start,
)
from tritonforge.emulator.hosting.multi_model import Limits

pytestmark = pytest.mark.server

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
PING = (
    "The primary container for production variant v1 did not pass the ping health check. Please check CloudWatch logs "
    "for this endpoint. "
)
BODY = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2.5]}]}'
#: Answers with what is in its environment, after a while where the environment names one.
ECHO = """
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for each in requests:
            x = each.inputs()[0].as_numpy()
            time.sleep(max(0.0, float(x[0])))
            text = os.environ.get("GREETING", "none")
            answer = np.array([text.encode()], dtype=object)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", answer)]))
        return responses
"""
ECHO_CONFIG = CONFIG.replace('"y" data_type: TYPE_FP32', '"y" data_type: TYPE_STRING')


@pytest.fixture
def run(bucket: Bucket, tmp_path: Path) -> Iterator[Callable[..., HostedContainer]]:
    """Starts a container on files that it puts into S3; its lines are in the attribute ``log``."""
    started: list[HostedContainer] = []
    lines: list[str] = []

    def begin(
        files: Mapping[str, str] | bytes | None,
        *,
        image: str = IMAGE,
        environment: Mapping[str, str] | None = None,
        instance_type: str = "ml.g5.xlarge",
        serverless: bool = False,
        startup_timeout: float = 60.0,
        **settings: Any,
    ) -> HostedContainer:
        data = None
        if files is not None:
            content = files if isinstance(files, bytes) else archive(files)
            data = ModelData(uri=bucket.put("model.tar.gz", content))
        multi_model = files is None
        definition = ContainerDefinition(
            image=image,
            model_data=data or ModelData(uri=f"{bucket.uri}/models/"),
            environment=environment or {},
            multi_model=multi_model,
        )
        variant = Variant(
            name="v1",
            endpoint="e",
            container=definition,
            instance_type="" if serverless else instance_type,
            serverless=serverless,
            startup_timeout=startup_timeout,
        )
        folder = tmp_path / f"container-{len(started)}"
        running = start(variant, objects=bucket.objects, folder=folder, log=lines.append, **settings)
        started.append(running)
        return running

    begin.log = lines  # type: ignore[attr-defined]  # what the containers logged, for the tests to read
    yield begin
    for container in started:
        container.stop(drain=0)
    assert list(tmp_path.iterdir()) == []


def refused(run: Callable[..., HostedContainer], *arguments: Any, **settings: Any) -> str:
    """The FailureReason of a container that does not start."""
    with pytest.raises(ContainerError) as caught:
        run(*arguments, **settings)
    return str(caught.value)


def output(running: HostedContainer, body: bytes = BODY) -> Any:
    """The first element of the answer's output."""
    answer = running.invoke(body, {"Content-Type": "application/json"}, timeout=30)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["outputs"][0]["data"][0]


def test_a_container_serves_its_archive_with_its_environment(
    run: Callable[..., HostedContainer], bucket: Bucket
) -> None:
    """Download, serve script, tritonserver with the container's variables and flags; the model asks for a GPU."""
    gpu = f"{ECHO_CONFIG} instance_group {{ kind: KIND_GPU }}"
    running = run(
        below("echo", model(ECHO, gpu)),
        environment={"GREETING": "hello", "SAGEMAKER_TRITON_THREAD_COUNT": "3", "SAGEMAKER_TRITON_LOG_VERBOSE": "1"},
    )
    assert output(running, BODY.replace(b"2.5", b"0")) == "hello"
    command = Path(f"/proc/{running.pid}/cmdline").read_text().split("\0")
    assert {"--sagemaker-thread-count=3", "--log-verbose=1", "--model-namespacing=true"} <= set(command)
    assert "--backend-config=python,shm-default-byte-size=16777216" in command
    log: list[str] = run.log  # type: ignore[attr-defined]  # see the fixture
    assert log[:2] == [
        "WARNING: No SAGEMAKER_TRITON_DEFAULT_MODEL_NAME provided.",
        "         Starting with the only existing model directory echo",
    ]
    assert until(lambda: any("Started Sagemaker HTTPService" in line for line in log))
    assert not any(str(Path.home()) in line or "container-0/model" in line for line in log)


def test_only_the_default_model_is_loaded(run: Callable[..., HostedContainer]) -> None:
    """A broken neighbour does no harm, unless it is asked for as well."""
    files = {**below("good", model()), **below("bad", model(BROKEN))}
    environment = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "good"}
    assert output(run(files, environment=environment)) == 5.0
    more = {**environment, "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--load-model=bad"}
    assert "the weights are missing" in refused(run, files, environment=more)


def test_a_failed_start_names_the_ping_and_the_reason(run: Callable[..., HostedContainer]) -> None:
    """AWS's sentence, then the serve script's or Triton's own; nothing is left of the container."""
    assert refused(run, below("a", model(BROKEN))) == (
        f"{PING}model 'a' did not load: RuntimeError: the weights are missing"
    )
    two = {**below("a", model()), **below("b", model())}
    assert refused(run, two).startswith(f"{PING}More than 1 model directory found in model repository.")
    assert refused(run, model()).startswith(f"{PING}Incorrect directory structure.")
    assert refused(run, b"junk").startswith('Failed to extract model data archive for container "container_1"')
    log: list[str] = run.log  # type: ignore[attr-defined]  # see the fixture
    assert any("the weights are missing" in line for line in log)


def test_the_repository_is_held_to_the_image_s_release(run: Callable[..., HostedContainer]) -> None:
    """What the local tritonserver would load but the declared image would not does not start."""
    tensorflow = below("m", {"config.pbtxt": 'platform: "tensorflow_savedmodel"', "1/model.savedmodel/x": ""})
    newer = IMAGE.replace("24.09", "25.04")
    assert "Triton 25.04 refuses the repository: m/config.pbtxt: unable to find backend library" in refused(
        run, tensorflow, image=newer
    )
    gpu = below("m", model(config=f"{CONFIG} instance_group {{ kind: KIND_GPU }}"))
    assert "has kind KIND_GPU but no GPUs are available" in refused(run, gpu, instance_type="ml.m5.xlarge")
    assert "has kind KIND_GPU but no GPUs are available" in refused(run, gpu, serverless=True)
    generate = {"SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}
    assert "SAGEMAKER_TRITON_INFERENCE_TYPE=generate" in refused(
        run, below("m", model()), image=newer, environment=generate
    )


def test_a_start_has_its_time_and_can_be_called_off(run: Callable[..., HostedContainer]) -> None:
    """ContainerStartupHealthCheckTimeoutInSeconds; an endpoint that is deleted while it starts."""
    slow = below("slow", model(f"import time\ntime.sleep(60)\n{ECHO}"))
    assert refused(run, slow, startup_timeout=1.5) == f"{PING}It was not ready within 1.5 seconds."
    cancelled = threading.Event()
    threading.Timer(1.0, cancelled.set).start()
    began = time.monotonic()
    assert "deleted while its container started" in refused(run, slow, cancelled=cancelled)
    assert time.monotonic() - began < 45


def test_a_dead_container_is_started_again(run: Callable[..., HostedContainer]) -> None:
    """Its requests fail, later ones find it away, and then it is there again."""
    running = run(below("echo", model(ECHO, ECHO_CONFIG)))
    errors: list[Exception] = []

    def wait_for_it() -> None:
        try:
            output(running, BODY.replace(b"2.5", b"20"))
        except ContainerGoneError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    time.sleep(0.5)
    first = running.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    waiting.join(30)
    assert [getattr(error, "in_flight", None) for error in errors] == [True]

    def answers() -> bool:
        try:
            return output(running, BODY.replace(b"2.5", b"0")) == "none"
        except ContainerGoneError:
            return False

    assert until(answers)
    second = running.pid
    assert second not in (None, first)
    log: list[str] = run.log  # type: ignore[attr-defined]  # see the fixture
    assert any(line.startswith("The container ended:") for line in log)
    # A model whose process dies is a dead container, too: Triton itself would answer 500 for it from then on.
    tasks = Path(f"/proc/{second}/task").iterdir()
    (model_process,) = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    os.kill(model_process, signal.SIGKILL)
    with pytest.raises(ContainerGoneError, match="model 'echo': its Python process ended by signal SIGKILL"):
        output(running, BODY)
    assert until(lambda: running.pid not in (None, second) and answers())
    assert "The container ended: model 'echo': its Python process ended by signal SIGKILL" in log


def test_a_stop_lets_requests_in_flight_end(run: Callable[..., HostedContainer]) -> None:
    """The answer of a request that is under way comes before the container goes, also after Triton's own patience."""
    running = run(below("echo", model(ECHO, ECHO_CONFIG)))
    outputs: list[str] = []
    waiting = threading.Thread(target=lambda: outputs.append(output(running, BODY.replace(b"2.5", b"5"))))
    waiting.start()
    time.sleep(0.5)
    running.stop()
    waiting.join(30)
    assert outputs == ["none"]
    with pytest.raises(ContainerGoneError):
        output(running)
    running.stop()


def test_a_multi_model_container_loads_and_unloads_on_triton(
    run: Callable[..., HostedContainer], bucket: Bucket, ask: Callable[..., RuntimeClient]
) -> None:
    """Both layouts of archives, an ensemble, a limit of two, a model that does not load: over boto3's own client."""
    ensemble = f"""
        platform: "ensemble" {IO}
        ensemble_scheduling {{ step {{ model_name: "double" model_version: -1
            input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "y" }} }} }}
    """
    gpu = f"{CONFIG} instance_group {{ kind: KIND_GPU }}"
    bucket.put("models/flat.tar.gz", archive(model(config=f'name: "other" {gpu}')))
    both = {**below("double", model()), **below("whole", {"config.pbtxt": ensemble, "1/.keep": ""})}
    bucket.put("models/deep/whole.tar.gz", archive(both))
    bucket.put("models/broken.tar.gz", archive(below("m", model(BROKEN))))
    newer = 'model_metrics { metric_control { metric_identifier { family: "x" } } }'
    bucket.put("models/newer.tar.gz", archive(below("m", model(config=f"{CONFIG} {newer}"))))
    running = run(None, limits=Limits(models=2))
    client = ask(live(running)).boto3

    def infer(target: str) -> dict[str, Any]:
        found = client.invoke_endpoint(EndpointName="e", Body=BODY, TargetModel=target, ContentType="application/json")
        document: dict[str, Any] = json.loads(found["Body"].read())
        assert document["outputs"][0]["data"] == [5.0]
        return document

    assert infer("flat.tar.gz")["model_name"] == "flat.tar.gz"
    assert infer("deep/whole.tar.gz")["model_name"] == "deep/whole.tar.gz"
    assert running.loaded_models == ("flat.tar.gz", "deep/whole.tar.gz")
    with pytest.raises(client.exceptions.ModelError, match="the weights are missing") as caught:
        infer("broken.tar.gz")
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "/opt/ml/models/" in caught.value.response["OriginalMessage"]
    with pytest.raises(client.exceptions.ModelError, match="failed to read text proto"):
        infer("newer.tar.gz")
    assert running.loaded_models == ("deep/whole.tar.gz",)
    infer("flat.tar.gz")
    log: list[str] = run.log  # type: ignore[attr-defined]  # see the fixture
    assert until(lambda: sum("Loading SageMaker TargetModel: flat.tar.gz" in line for line in log) == 2)
    assert 'Triton is running in SageMaker MME mode. Using Triton ping mode: "live"' in log
    pid = running.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: running.pid not in (None, pid) and running.url is not None)
    assert until(lambda: running.loaded_models == ())
    infer("flat.tar.gz")
