"""Model data from the emulated S3: archives, uncompressed prefixes and objects, and everything that can be wrong."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path

import pytest

from tests.support.hosted_models import Bucket, archive
from tritonforge.emulator.emulated_s3 import ObjectMissingError, split_uri
from tritonforge.emulator.hosting import ContainerError, ModelData
from tritonforge.emulator.hosting.container_definitions import download_model
from tritonforge.emulator.hosting.container_images import resolve_image
from tritonforge.errors import RequestError
from tritonforge.validation.findings import Finding


def get(
    bucket: Bucket, folder: Path, data: ModelData, *, timeout: float = 30.0, **settings: threading.Event
) -> list[str]:
    """Download into a folder; gives the files."""
    folder.mkdir()
    download_model(data, folder, objects=bucket.objects, timeout=timeout, **settings)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_archive_is_unpacked(bucket: Bucket, tmp_path: Path) -> None:
    """ModelDataUrl, and ModelDataSource with Gzip."""
    uri = bucket.put("m.tar.gz", archive({"m/config.pbtxt": "a", "m/1/model.py": "b"}))
    assert get(bucket, tmp_path / "x", ModelData(uri=uri)) == ["m/1/model.py", "m/config.pbtxt"]
    assert (tmp_path / "x" / "m" / "1" / "model.py").read_text() == "b"


def test_a_prefix_is_copied_as_it_is(bucket: Bucket, tmp_path: Path) -> None:
    """The key less the prefix is the path; the console's marks of folders are not files."""
    for key in ("p/m/config.pbtxt", "p/m/1/model.py", "p/m/", "other/x"):
        bucket.put(key, b"" if key.endswith("/") else key.encode())
    found = get(bucket, tmp_path / "x", ModelData(uri=f"{bucket.uri}/p/", kind="S3Prefix", compression="None"))
    assert found == ["m/1/model.py", "m/config.pbtxt"]
    assert (tmp_path / "x" / "m" / "config.pbtxt").read_text() == "p/m/config.pbtxt"


def test_one_object_is_one_file(bucket: Bucket, tmp_path: Path) -> None:
    """S3Object without compression."""
    uri = bucket.put("a/model.bin", b"x")
    assert get(bucket, tmp_path / "x", ModelData(uri=uri, compression="None")) == ["model.bin"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ModelData(uri="/none.tar.gz"), "Failed to download model data"),
        (ModelData(uri="/none/", kind="S3Prefix", compression="None"), "Failed to download model data"),
        (ModelData(uri="/junk.tar.gz"), "Failed to extract model data archive"),
        (ModelData(uri="/out.tar.gz"), "Failed to extract model data archive"),
        (ModelData(uri="/escape/", kind="S3Prefix", compression="None"), "Failed to extract model data archive"),
        (ModelData(uri="/good.tar.gz", etag="abc"), "ETag"),
    ],
)
def test_errors_have_aws_s_words(bucket: Bucket, tmp_path: Path, data: ModelData, words: str) -> None:
    """Missing, damaged and unsafe data, and data that changed; nothing is written outside the folder."""
    bucket.put("junk.tar.gz", b"junk")
    bucket.put("good.tar.gz", archive({"m/config.pbtxt": ""}))
    bucket.put("escape/../out", b"x")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../out"))
    bucket.put("out.tar.gz", packed.getvalue())
    whole = ModelData(uri=bucket.uri + data.uri, kind=data.kind, compression=data.compression, etag=data.etag)
    with pytest.raises(ContainerError, match=words) as caught:
        get(bucket, tmp_path / "x", whole)
    assert whole.uri in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_download_has_its_time(bucket: Bucket, tmp_path: Path) -> None:
    """ModelDataDownloadTimeoutInSeconds; a start that is called off ends its download too."""
    uri = bucket.put("m.tar.gz", archive({"m/config.pbtxt": ""}))
    with pytest.raises(ContainerError, match="ModelDataDownloadTimeoutInSeconds"):
        get(bucket, tmp_path / "x", ModelData(uri=uri), timeout=-1)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ContainerError):
        get(bucket, tmp_path / "y", ModelData(uri=uri), cancelled=cancelled)


def test_objects_are_read_piece_by_piece(bucket: Bucket) -> None:
    """A stream of an object that is overwritten meanwhile fails, and does not mix two contents."""
    uri = bucket.put("x", b"1" * 3_000_000)
    with bucket.objects.get(uri) as stream:
        assert stream.read(10) == b"1" * 10
        bucket.put("x", b"2")
        with pytest.raises(OSError, match="changed while it was read"):
            stream.read()
    assert bucket.objects.read(uri) == b"2"


def test_addresses_are_read_in_every_form_that_sagemaker_takes(bucket: Bucket) -> None:
    """s3://, and https:// with the bucket in the host or in the path; other text is refused."""
    assert split_uri("s3://b/k/x") == split_uri("https://s3.eu-west-1.amazonaws.com/b/k/x") == ("b", "k/x")
    assert split_uri("https://b.s3.eu-west-1.amazonaws.com/k/x") == ("b", "k/x")
    with pytest.raises(RequestError, match="expected s3://bucket/key"):
        split_uri("model.tar.gz")
    with pytest.raises(ObjectMissingError, match="the bucket does not exist"):
        bucket.objects.put("s3://no-such-bucket/x", b"")
    assert bucket.objects.has_bucket(bucket.uri)
    assert list(bucket.objects.list("s3://no-such-bucket/")) == []


def test_an_image_has_a_release() -> None:
    """A known image by its tag, another as it was declared, with the backends that it adds."""
    ecr = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3-cpu"
    assert (resolve_image(ecr, {}).tag, resolve_image(ecr, {}).release) == ("24.09-py3-cpu", "24.09")
    mine = "1.dkr.ecr.us-east-1.amazonaws.com/mine:7"
    served = resolve_image(mine, {mine: "26.05+tensorflow"})
    assert (served.tag, served.added) == ("26.05-py3", {"tensorflow"})

    def missing(backend: str) -> Finding:
        message = f"unable to find backend library for backend '{backend}', try specifying runtime"
        return Finding(code="E601", severity="error", refused_by="triton", message=message)

    assert not served.refuses(missing("tensorflow"))
    assert served.refuses(missing("vllm"))
    with pytest.raises(ContainerError, match=r"Declare the release .*--image"):
        resolve_image(mine, {})
    with pytest.raises(ContainerError, match=r"99\.99"):
        resolve_image(ecr.replace("24.09", "99.99"), {})
