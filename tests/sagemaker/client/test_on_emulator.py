"""The client against SageMaker on localhost, with real tritonservers: synchronous, by S3, by variant and model."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command import tritonforge
from tests.support.picture_models import with_one_process
from tritonforge.emulator import Emulator
from tritonforge.errors import EncodeError, ServerError
from tritonforge.inference.client import Client, ModelError, RelayError
from tritonforge.sagemaker.client import AsyncTransport, Session, Store
from tritonforge.sagemaker.package import write_package

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/sagemaker-tritonserver:24.09-py3"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: A model that gives its input times a number, and refuses what is negative.
TIMES = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for item in requests:
            x = item.inputs()[0].as_numpy()
            error = pb_utils.TritonError("negative numbers have no price") if (x < 0).any() else None
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x * {factor})], error))
        return answers
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""


def archive(factor: int, *, folder: str = "times/") -> bytes:
    """The model.tar.gz of a model that multiplies."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in {"config.pbtxt": CONFIG, "1/model.py": TIMES.replace("{factor}", str(factor))}.items():
            member = tarfile.TarInfo(folder + path)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """SageMaker on localhost."""
    with Emulator(speed=1000) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def there(emulator: Emulator) -> Iterator[Session]:
    """A session with it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        with Session(region_name=REGION, endpoint_url=emulator.url) as session:
            session.get_account()
            session.client("s3")
            session.client("sagemaker")
            yield session


def model(emulator: Emulator, session: Session, name: str, data: str, **container: Any) -> None:
    """Create a model."""
    session.call(
        "sagemaker",
        "CreateModel",
        ModelName=name,
        ExecutionRoleArn=emulator.role_arn,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": data, **container},
    )


def endpoint(session: Session, name: str, variants: Mapping[str, str], **config: Any) -> str:
    """Create an endpoint of variants and wait until it serves."""
    session.call(
        "sagemaker",
        "CreateEndpointConfig",
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": variant,
                "ModelName": model_name,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.g5.xlarge",
                "InitialVariantWeight": 1.0,
            }
            for variant, model_name in variants.items()
        ],
        **config,
    )
    session.call("sagemaker", "CreateEndpoint", EndpointName=name, EndpointConfigName=name)
    ends = time.monotonic() + 120
    while (received := session.call("sagemaker", "DescribeEndpoint", EndpointName=name))[
        "EndpointStatus"
    ] == "Creating":
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert received["EndpointStatus"] == "InService", received.get("FailureReason")
    return f"sagemaker://{name}?endpoint_url={session.endpoint_url}&region={REGION}"


@pytest.fixture(scope="module")
def times(emulator: Emulator, there: Session) -> str:
    """An endpoint of two variants: "two" doubles, "three" triples."""
    store = Store(there)
    for name, factor in (("two", 2), ("three", 3)):
        store.put(archive(factor), f"s3://{emulator.bucket}/{name}/model.tar.gz", content_type="application/gzip")
        model(emulator, there, name, f"s3://{emulator.bucket}/{name}/model.tar.gz")
    return endpoint(there, "times", {"two": "two", "three": "three"})


def test_variants_answer_and_are_reported(times: str) -> None:
    """A variant that is named answers; without a name each has its share; the answer says which one it was."""
    x = np.array([[1, 2]], dtype=np.float32)
    with Client(times) as client:
        assert client.ready()
        for variant, factor in (("two", 2), ("three", 3)):
            for binary in (True, False):
                response = client.infer({"x": x}, options={"target_variant": variant}, binary=binary)
                assert response["y"].tolist() == (x * factor).tolist()
                assert response.provenance["invoked_production_variant"] == variant
        seen = {
            (response.provenance["invoked_production_variant"], response["y"][0, 0])
            for response in (client.infer({"x": x}) for _ in range(40))
        }
        assert seen == {("two", 2.0), ("three", 3.0)}
    with Client(times, target_variant="four") as client, pytest.raises(RelayError, match="ValidationError"):
        client.infer({"x": x})


def test_metadata_come_through_the_refusals_of_a_real_server(times: str) -> None:
    """Triton's sentences arrive word for word in SageMaker's ModelError."""
    with Client(times) as client:
        received = client.metadata()
        assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in received.inputs] == [("x", "FP32", (-1, -1))]


def test_a_models_own_error_arrives(times: str) -> None:
    """Its sentence, its status, and the log that SageMaker names."""
    with Client(times) as client, pytest.raises(ModelError, match="negative numbers have no price") as caught:
        client.infer({"x": np.array([[-1]], dtype=np.float32)})
    assert caught.value.status >= 400
    assert ":log-group:/aws/sagemaker/Endpoints/times" in caught.value.log


def test_an_endpoint_that_is_not_there_is_one_sentence(times: str) -> None:
    """The name, the region and what to look at stand in it; metadata end with the same error."""
    with Client(times.replace("//times", "//missing")) as client:
        for ask in (lambda: client.infer({"x": [[1.0]]}), client.metadata):
            with pytest.raises(
                RelayError, match=r"not found.*check the name, the region \(us-east-1\) and the account"
            ):
                ask()


def test_bodies_near_the_limit(times: str) -> None:
    """The largest body that AWS takes goes; one byte more is refused before it is sent."""
    header = 256
    capacity = (25 << 20) - header
    x = np.zeros((1, capacity // 4), dtype=np.float32)
    with Client(times, target_variant="two") as client:
        assert client.infer({"x": x}, header_size=header)["y"].shape == x.shape
        with pytest.raises(EncodeError, match="26,214,404 bytes and a real-time endpoint takes 25 MB"):
            client.infer({"x": np.zeros((1, capacity // 4 + 1), dtype=np.float32)}, header_size=header)


def test_a_multi_model_endpoint_is_asked_by_model(emulator: Emulator, there: Session) -> None:
    """``target_model`` and ``model`` name the archive; one that is not there is SageMaker's refusal."""
    store = Store(there)
    for name, factor in (("five", 5), ("seven", 7)):
        store.put(archive(factor), f"s3://{emulator.bucket}/many/{name}.tar.gz", content_type="application/gzip")
    model(emulator, there, "many", f"s3://{emulator.bucket}/many/", Mode="MultiModel")
    url = endpoint(there, "many", {"all": "many"})
    x = np.array([[1]], dtype=np.float32)
    with Client(url, target_model="five.tar.gz") as client:
        assert client.infer({"x": x})["y"].tolist() == [[5]]
        assert client.infer({"x": x}, model="seven.tar.gz")["y"].tolist() == [[7]]
        with pytest.raises(ServerError):
            client.infer({"x": x}, model="nine.tar.gz")
        assert client.metadata(model="seven.tar.gz").inputs[0].name == "x"


@pytest.fixture(scope="module")
def later(emulator: Emulator, there: Session, times: str) -> str:
    """An asynchronous endpoint of the model that doubles."""
    place = f"s3://{emulator.bucket}/later"
    return endpoint(
        there,
        "later",
        {"two": "two"},
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"{place}/out", "S3FailurePath": f"{place}/failed"}},
    )


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("binary", [True, False])
def test_an_asynchronous_endpoint_answers_through_s3(
    later: str, emulator: Emulator, there: Session, inline: bool, binary: bool
) -> None:
    """Inline and by S3, in both forms: the answer, its id and place; a refusal keeps Triton's sentence."""
    transport = AsyncTransport(
        "later", prefix=f"s3://{emulator.bucket}/later/in", session=there, inline=inline, clean=True, patience=60
    )
    client = Client("sagemaker://later", transport=transport)
    response = client.infer({"x": np.array([[4]], dtype=np.float32)}, binary=binary, options={"inference_id": "i-4"})
    assert response["y"].tolist() == [[8]]
    assert response.provenance["inference_id"] == "i-4"
    assert response.provenance["output_location"].startswith(f"s3://{emulator.bucket}/later/out/")
    with pytest.raises(ModelError, match="negative numbers have no price"):
        client.infer({"x": np.array([[-4]], dtype=np.float32)}, binary=binary)
    assert client.metadata().inputs[0].name == "x"
    assert list(Store(there).list_objects(f"s3://{emulator.bucket}/later/in/")) == []


def test_the_kinds_of_endpoint_are_distinguished(later: str, times: str, emulator: Emulator) -> None:
    """Each kind refuses the other's way of asking, and the sentence names the right one."""
    x = np.array([[1]], dtype=np.float32)
    with Client(later) as client, pytest.raises(RelayError, match="--async s3://bucket/prefix"):
        client.infer({"x": x})
    with (
        Client(times, asynchronous=f"s3://{emulator.bucket}/in") as client,
        pytest.raises(RelayError, match="a real-time one does not"),
    ):
        client.infer({"x": x})


def test_forty_megabytes_go_by_s3(later: str, emulator: Emulator) -> None:
    """What a real-time endpoint refuses, an asynchronous one answers; request and answer go in parts."""
    x = np.ones((1, 10 << 20), dtype=np.float32)
    with Client(later, asynchronous=f"s3://{emulator.bucket}/later/in", patience=60) as client:
        assert client.infer({"x": x})["y"].sum() == 2 * x.size


@pytest.fixture(scope="module")
def digits_endpoint(emulator: Emulator, there: Session, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """`repos/digits`, packaged, uploaded and served."""
    repository = with_one_process(digits, tmp_path_factory.mktemp("repositories") / "digits", "classify")
    package = write_package(repository, tmp_path_factory.mktemp("package") / "model.tar.gz")
    uri = f"s3://{emulator.bucket}/digits/{package.digest.removeprefix('sha256:')}/model.tar.gz"
    done = Store(there).upload(package.path, uri, digest=package.digest)
    assert done.verified
    model(emulator, there, "digits", uri, Environment={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"})
    return endpoint(there, "digits", {"AllTraffic": "digits"})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images that the network never saw, by the word for their digit."""
    spec = importlib.util.spec_from_file_location("digits_network", ROOT / "repos/digits/network.py")
    assert spec is not None
    assert spec.loader is not None
    network: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    folder, found = tmp_path_factory.mktemp("images"), {}
    images, labels = network.heldout()
    for image, label in list(zip(images, labels, strict=True))[:6]:
        path = folder / f"{NAMES[label]}.png"
        path.write_bytes(image)
        found[NAMES[label]] = path
    return found


@pytest.mark.framework
def test_digits_are_read_through_the_endpoint(digits_endpoint: str, photographs: dict[str, Path]) -> None:
    """Images in a batch, as JSON and as raw bodies, are read by the real ensemble behind the endpoint."""
    images = [path.read_bytes() for path in photographs.values()]
    with Client(digits_endpoint) as client:
        for binary in (True, False):
            rows = client.infer_images(images, classification=1, binary=binary).classes()
            assert [row[0].label for row in rows] == list(photographs)
        for word, image in zip(photographs, images, strict=True):
            assert NAMES[int(client.infer_raw(image)["PROBABILITIES"].argmax())] == word
        with pytest.raises(ModelError):
            client.infer_images([b"no image"])


@pytest.mark.framework
def test_the_command_line_asks_an_endpoint(
    digits_endpoint: str, photographs: dict[str, Path], emulator: Emulator
) -> None:
    """`tritonforge infer sagemaker://digits` prints the classes and which variant gave them; an error its sentence."""
    word, path = next(iter(photographs.items()))
    place = ("--endpoint-url", emulator.url, "--region", REGION)
    done = tritonforge("infer", "sagemaker://digits", str(path), "--top", "1", *place)
    assert (done.returncode, done.stderr) == (0, "")
    assert "AllTraffic" in done.stdout
    assert word in done.stdout
    done = tritonforge("infer", "sagemaker://digits", str(path), "--json", "--inference-id", "i1", *place)
    received = json.loads(done.stdout)["answers"][0]
    assert received["invoked_production_variant"] == "AllTraffic"
    assert received["outputs"]["PROBABILITIES"][0]["label"] == word
    broken = path.with_name("broken.png")
    broken.write_bytes(b"no image")
    done = tritonforge("infer", "sagemaker://digits", str(broken), "--json", *place)
    assert done.returncode == 1
    assert ":log-group:/aws/sagemaker/Endpoints/digits" in json.loads(done.stdout)["answers"][0]["error"]["log"]
    done = tritonforge("infer", "sagemaker://digits", str(path), "--target-variant", "blue", *place)
    assert done.returncode == 1
    assert "ValidationError" in done.stderr
    done = tritonforge("infer", "http://127.0.0.1:1", str(path), "--target-variant", "blue")
    assert done.returncode == 2
    assert "--target-variant applies to SageMaker endpoints (sagemaker://NAME), not to http://" in done.stderr


def test_the_command_line_asks_an_asynchronous_endpoint(later: str, emulator: Emulator, tmp_path: Path) -> None:
    """`--async s3://...` goes through S3; the model's refusal of an image for numbers is the client's own sentence."""
    image = tmp_path / "cat.jpg"
    image.write_bytes(b"an image")
    done = tritonforge(
        "infer",
        "sagemaker://later",
        str(image),
        "--async",
        f"s3://{emulator.bucket}/later/in",
        "--endpoint-url",
        emulator.url,
        "--region",
        REGION,
    )
    assert done.returncode == 2
    assert "input 'x': expected FP32, got an encoded image" in " ".join(done.stderr.split())
