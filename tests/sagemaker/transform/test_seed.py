"""The seed's two jobs on the emulator: JPEG objects by AWS's SDK, TFRecords of tf.Example by boto3.

The handlers are those of `repos/resnet50_tfs`; the models are lighter than the seed's. Its defects are fixed as the
documentation has it: TFRecords go with SingleRecord, SplitType is the input's and AssembleWith the output's, Accept is
stated, a wrong content type is 415.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.accounts import TRITON_IMAGE, TransformAccount, open_account
from tests.support.peers import run_sdk_2
from tests.support.picture_models import DIGITS, write_repository
from tritonforge.emulator import hosting
from tritonforge.records import encode_example, frame_tfrecord
from tritonforge.sagemaker import package
from tritonforge.sagemaker.client import Session, Store
from tritonforge.sagemaker.jobs.job_data import S3ObjectStore
from tritonforge.serving.tfs.server import TfsServer
from tritonforge.transform import RAW, HttpModelClient, LocalStore, TransformInput, TransformJob, TransformOutput, run
from tritonforge.transform.local_server import LocalServer

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]
TFS = "763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.20-gpu-py312"
COUNT = 24

#: Answers with the bytes of the request in reverse order, slowly enough to be killed while it works.
REVERSE = """
import time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.04)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy()[::-1].copy())])
            for request in requests
        ]
"""
REVERSE_CONFIG = """
name: "reverse"
backend: "python"
input { name: "IN" data_type: TYPE_UINT8 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_UINT8 dims: [ -1 ] }
"""

#: What the seed's jobs have in common.
RESOURCES = {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2}
LIMITS = {"MaxPayloadInMB": 1, "MaxConcurrentTransforms": 64}


# With TensorFlow, which takes five seconds to start for each job, in `make test-all` only: that these handlers answer
# with it is shown by end_to_end/test_resnet50_tfs.py, also in batches.
@pytest.fixture(
    scope="module", params=["light", pytest.param("tensorflow", marks=[pytest.mark.framework, pytest.mark.long])]
)
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What predicts behind the handlers: `model_server`, or TensorFlow."""
    if request.param == "light":
        program = tmp_path_factory.mktemp("program") / "tensorflow_model_server"
        program.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('model_server.py').read_text()}")
        program.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(program.parent), prepend=os.pathsep)
            yield request.param
    else:
        yield request.param


@pytest.fixture(scope="module")
def account(predictor: str) -> Iterator[TransformAccount]:
    """An emulator with real containers, and a proxy for AWS's SDK."""
    with open_account(TransformAccount, containers=hosting, proxy_port=0) as account:
        yield account


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Pictures of random colours in 8 by 8 fields, as JPEG."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(COUNT):
        made = io.BytesIO()
        fields = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        fields.resize((64, 64)).save(made, "JPEG", quality=95)
        encoded.append(made.getvalue())
    return encoded


@pytest.fixture(scope="module")
def handlers(account: TransformAccount, predictor: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with the handlers of `repos/resnet50_tfs`, in the emulator's S3 as the seed packs it."""
    folder = tmp_path_factory.mktemp("package")
    if predictor == "light":
        (folder / "1538687370").mkdir()
        (folder / "1538687370" / "saved_model.pb").write_bytes(b"not read by the light predictor")
    else:
        script = Path(__file__).with_name("make_classifier.py")
        subprocess.run([sys.executable, script, folder / "1538687370"], check=True, capture_output=True)
    (folder / "code" / "lib").mkdir(parents=True)
    source = ROOT / "repos" / "resnet50_tfs" / "code"
    for path in source.rglob("*.py"):
        (folder / "code" / path.relative_to(source)).write_bytes(path.read_bytes())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder / "code", "code")
        tar.add(folder / "1538687370", "1538687370")
    account.put({"tfs/model.tar.gz": packed.getvalue()})
    (folder / "model.tar.gz").write_bytes(packed.getvalue())
    return folder


def made(account: TransformAccount, name: str, image: str, data: str) -> None:
    """The seed's first call, create-model."""
    account.sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": image, "ModelDataUrl": f"s3://{account.bucket}/{data}"},
        ExecutionRoleArn=account.emulator.role_arn,
    )


def waited(account: TransformAccount, name: str) -> dict[str, Any]:
    """The job's end, as boto3's waiter finds it."""
    waiter = account.sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 200})
    return dict(account.sagemaker.describe_transform_job(TransformJobName=name))


def test_jpeg_objects_through_the_handlers(account: TransformAccount, handlers: Path, pictures: list[bytes]) -> None:
    """The post's code for SDK 2, as it was written: one object a request, a prediction in each output."""
    account.put({f"jpeg-images/{number:04}.jpg": body for number, body in enumerate(pictures)})
    code, printed = run_sdk_2(account.emulator, ("seed_batch.py", account.bucket), folder=handlers)
    assert code == 0, printed[-4000:]
    (job,) = account.sagemaker.list_transform_jobs(NameContains="tensorflow-inference")["TransformJobSummaries"]
    found = waited(account, job["TransformJobName"])
    assert (found["TransformJobStatus"], found["MaxConcurrentTransforms"]) == ("Completed", 64)
    assert account.keys("output/") == [f"{number:04}.jpg.out" for number in range(COUNT)]
    predictions = [json.loads(account.get(f"output/{number:04}.jpg.out"))["predictions"] for number in range(COUNT)]
    for (prediction,) in predictions:
        assert prediction.keys() == {"probabilities", "classes"}
        assert prediction["classes"] == prediction["probabilities"].index(max(prediction["probabilities"]))
    assert len({prediction["classes"] for (prediction,) in predictions}) > 1


def test_tfrecords_through_the_handlers(
    account: TransformAccount, handlers: Path, pictures: list[bytes], tmp_path: Path
) -> None:
    """The seed's second job: with request batching, a line for each record in the records' order.

    The lines are those of the JPEG objects, and those of the same job run here. TensorFlow rounds batches of different
    sizes differently, and which requests share a batch depends on when they arrive.
    """
    parts = {
        f"train-{part:05}-of-00004": b"".join(
            frame_tfrecord(encode_example({"image/encoded": [body], "image/class/label": [part]}))
            for body in pictures[part::4]
        )
        for part in range(4)
    }
    account.put({f"tfrecord-images/{key}": body for key, body in parts.items()})
    made(account, "tfrecord-tfs", TFS, "tfs/model.tar.gz")
    batching = {
        "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
        "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "50000",
        "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16",
    }
    request = {
        "ModelName": "tfrecord-tfs",
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{account.bucket}/tfrecord-images/"}
            },
            "ContentType": "application/x-tfexample",
            "SplitType": "TFRecord",
        },
        "TransformOutput": {
            "S3OutputPath": f"s3://{account.bucket}/tfrecord-output/",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines",
        },
        "TransformResources": RESOURCES,
        "TransformJobName": "tfs-image-classification-tfrecords",
        "BatchStrategy": "SingleRecord",
        "Environment": batching,
        **LIMITS,
    }
    account.sagemaker.create_transform_job(**request)
    found = waited(account, "tfs-image-classification-tfrecords")
    assert (found["TransformJobStatus"], found["Environment"]) == ("Completed", batching)
    outputs = {key: account.get(f"tfrecord-output/{key}.out") for key in parts}
    for part, output in enumerate(outputs.values()):
        lines = output.splitlines()
        assert len(lines) == len(pictures[part::4])
        for number, line in zip(range(part, COUNT, 4), lines, strict=True):
            assert_same_prediction(line, account.get(f"output/{number:04}.jpg.out"))
    (tmp_path / "in").mkdir()
    for key, body in parts.items():
        (tmp_path / "in" / key).write_bytes(body)
    job = TransformJob(
        input=TransformInput(uri=str(tmp_path / "in"), content_type="application/x-tfexample", split_type="TFRecord"),
        output=TransformOutput(uri=str(tmp_path / "out"), assemble_with="Line", accept="application/jsonlines"),
        max_concurrent_transforms=3,
        batch_strategy="SingleRecord",
    )
    with TfsServer(handlers) as server:
        outcome = run(job, source=LocalStore(), sink=LocalStore(), client=HttpModelClient(server.url))
    assert outcome.state == "Completed"
    for key, output in outputs.items():
        lines = (tmp_path / "out" / f"{key}.out").read_bytes().splitlines()
        for line, other in zip(lines, output.splitlines(), strict=True):
            assert_same_prediction(line, other)


def assert_same_prediction(line: bytes, other: bytes) -> None:
    """The same class, and probabilities that differ by rounding only."""
    (found,), (expected,) = (json.loads(text)["predictions"] for text in (line, other))
    assert found["classes"] == expected["classes"]
    assert found["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5, abs=1e-7)


def test_a_content_type_that_the_handlers_refuse(
    account: TransformAccount, handlers: Path, pictures: list[bytes]
) -> None:
    """It is the client's error, 415, and the log has the handler's words."""
    account.put({"wrong/in/a.jpg": pictures[0]})
    made(account, "wrong", TFS, "tfs/model.tar.gz")
    request = account.build_request("wrong", ModelClientConfig={"InvocationsMaxRetries": 0})
    account.sagemaker.create_transform_job(**request)
    found = account.wait_for_end("wrong")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: See job logs for more information")
    assert any("415" in line and "Unsupported content type" in line for line in account.read_data_log("wrong"))


def test_the_image_that_the_seed_names(account: TransformAccount, handlers: Path) -> None:
    """Its repository never held 1.13: on AWS it cannot be pulled, and the job says which one holds it."""
    image = "520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-serving:1.13.1-gpu"
    account.put({"old/in/a.jpg": b"x"})
    made(account, "old", image, "tfs/model.tar.gz")
    account.sagemaker.create_transform_job(**account.build_request("old"))
    found = account.wait_for_end("old")
    assert found["FailureReason"].startswith("ClientError: The image ")
    assert "tensorflow-inference" in found["FailureReason"]


def test_jpeg_objects_through_a_triton_ensemble(
    account: TransformAccount, pictures: list[bytes], tmp_path: Path
) -> None:
    digits = write_repository(tmp_path / "digits", DIGITS)
    archive = package.write_package(digits, tmp_path / "digits.tar.gz").path
    account.put({"digits/model.tar.gz": archive.read_bytes()})
    objects = {f"{number:04}.jpg": body for number, body in enumerate(pictures)}
    objects |= {"corrupt.jpg": pictures[0][:200], "large.jpg": b"\xff" * (2**20 + 1)}
    account.put({f"triton/in/{key}": body for key, body in objects.items()})
    container = {
        "Image": TRITON_IMAGE,
        "ModelDataUrl": f"s3://{account.bucket}/digits/model.tar.gz",
        "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"},
    }
    account.sagemaker.create_model(
        ModelName="triton", ExecutionRoleArn=account.emulator.role_arn, PrimaryContainer=container
    )
    request = account.build_request("triton", MaxPayloadInMB=1, MaxConcurrentTransforms=8)
    request["TransformInput"]["ContentType"] = RAW
    request["TransformResources"] = {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 2}
    account.sagemaker.create_transform_job(**request)
    found = account.wait_for_end("triton")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: See job logs for more information (2 of 26 objects")
    log = account.read_data_log("triton")
    for key in ("corrupt.jpg", "large.jpg"):
        assert any(f"{account.bucket}/triton/in/{key}: " in line for line in log)
    good = [key for key in objects if key[0] == "0"]
    assert account.keys("triton/out/") == [f"{key}.out" for key in good]
    outputs = {key: account.get(f"triton/out/{key}.out") for key in good}
    assert len(set(outputs.values())) > COUNT // 2

    (tmp_path / "in").mkdir()
    for key, body in objects.items():
        (tmp_path / "in" / key).write_bytes(body)
    here = TransformJob(
        input=TransformInput(uri=str(tmp_path / "in"), content_type=RAW),
        output=TransformOutput(uri=str(tmp_path / "out")),
        max_payload_in_mb=1,
    )
    over_s3 = TransformJob(
        input=TransformInput(uri=f"s3://{account.bucket}/triton/in/", content_type=RAW),
        output=TransformOutput(uri=f"s3://{account.bucket}/triton/here"),
        max_payload_in_mb=1,
        max_concurrent_transforms=4,
    )
    with (
        LocalServer(digits) as server,
        Session(region_name="us-east-1", endpoint_url=account.emulator.url) as session,
    ):
        first = run(here, source=LocalStore(), sink=LocalStore(), client=server)
        place = S3ObjectStore(Store(session))
        second = run(over_s3, source=place, sink=place, client=server)
    assert (first.state, first.failed, second.state, second.failed) == ("Failed", 2, "Failed", 2)
    assert {key: (tmp_path / "out" / f"{key}.out").read_bytes() for key in good} == outputs
    assert {key: account.get(f"triton/here/{key}.out") for key in good} == outputs


def test_an_endpoint_runs_the_same_package(account: TransformAccount, handlers: Path, pictures: list[bytes]) -> None:
    """The image is known to endpoints too, and gives what the job gave."""
    made(account, "endpoint-tfs", TFS, "tfs/model.tar.gz")
    variant = {
        "VariantName": "v",
        "ModelName": "endpoint-tfs",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.xlarge",
    }
    account.sagemaker.create_endpoint_config(EndpointConfigName="tfs", ProductionVariants=[variant])
    account.sagemaker.create_endpoint(EndpointName="tfs", EndpointConfigName="tfs")
    account.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="tfs", WaiterConfig={"Delay": 1})
    answer = account.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="tfs", ContentType="application/x-image", Accept="application/json", Body=pictures[3]
    )
    assert answer["Body"].read() == account.get("output/0003.jpg.out")
    account.sagemaker.delete_endpoint(EndpointName="tfs")


def test_a_container_that_is_killed_costs_no_output(
    account: TransformAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[hosting.HostedContainer] = []

    def started(*arguments: Any, **settings: Any) -> hosting.HostedContainer:
        running.append(start(*arguments, **settings))
        return running[-1]

    start = hosting.start
    monkeypatch.setattr(hosting, "start", started)
    version = tmp_path / "models" / "reverse" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(REVERSE)
    (version.parent / "config.pbtxt").write_text(REVERSE_CONFIG)
    archive = package.write_package(tmp_path / "models", tmp_path / "reverse.tar.gz").path
    account.put({"reverse/model.tar.gz": archive.read_bytes()})
    objects = {f"{number:04}": f"object {number}".encode() for number in range(100)}
    account.put({f"killed/in/{key}": body for key, body in objects.items()})
    account.sagemaker.create_model(
        ModelName="killed",
        ExecutionRoleArn=account.emulator.role_arn,
        PrimaryContainer={
            "Image": TRITON_IMAGE,
            "ModelDataUrl": f"s3://{account.bucket}/reverse/model.tar.gz",
            "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "reverse"},
        },
    )
    request = account.build_request("killed", MaxConcurrentTransforms=4)
    request["TransformInput"]["ContentType"] = RAW
    request["TransformResources"]["InstanceType"] = "ml.g4dn.xlarge"
    account.sagemaker.create_transform_job(**request)
    for _ in range(3000):
        if account.keys("killed/out/"):
            break
        time.sleep(0.02)
    assert running[-1].pid is not None
    os.kill(running[-1].pid, signal.SIGKILL)
    assert len(account.keys("killed/out/")) < len(objects)
    found = account.wait_for_end("killed")
    assert found["TransformJobStatus"] == "Completed", found
    outputs = {key: account.get(f"killed/out/{key}.out") for key in objects}
    assert {key: output[-len(objects[key]) :] for key, output in outputs.items()} == {
        key: body[::-1] for key, body in objects.items()
    }
