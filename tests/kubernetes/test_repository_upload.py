"""The upload of a repository to the storageUri by `deploy --to kserve --apply`: moto's S3, and API servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.support.cluster_services import SETTINGS
from tests.support.command import tritonforge
from tritonforge.errors import DefinitionError, DeploymentError
from tritonforge.kubernetes import render_plan, to_document
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.kubernetes.repository_upload import RepositoryUpload
from tritonforge.sagemaker.client import Session, Store

pytestmark = pytest.mark.slow

URI = "s3://models/digits"
CHANGED = "class TritonPythonModel:\n    def execute(self, requests):\n        return None\n"
OBJECTS = [f"{URI}/m/1/model.py", f"{URI}/m/config.pbtxt"]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a server with S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with the empty bucket ``models``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with Session(endpoint_url=moto, region_name="us-east-1") as session:
        session.call("s3", "CreateBucket", Bucket="models")
        store = Store(session)
        yield store
        store.delete_all(list_objects(store))
        session.call("s3", "DeleteBucket", Bucket="models")


def list_objects(store: Store) -> list[str]:
    return [stored.uri for stored in store.list_objects("s3://models/")]


@pytest.fixture
def ship(deploy: Callable[..., ClusterDeployment], store: Store) -> Callable[[], ClusterDeployment]:
    """Return the deployment of the repository through S3."""
    settings = SETTINGS.with_settings(storage_uri=URI)
    return lambda: deploy(settings=settings, upload=RepositoryUpload(store, URI))


def test_a_plan_uploads_nothing_and_a_second_deployment_has_nothing_to_upload(
    ship: Callable[[], ClusterDeployment], store: Store
) -> None:
    with ship() as first:
        shown = "\n".join(render_plan(first.plan()))
        assert f"+ repository {URI}/: " in shown
        assert "+ m/config.pbtxt, " in shown
        assert "2 to create, 0 to change, 0 to delete; 2 files to upload, 0 to remove" in shown
        assert not list_objects(store)
        first.submit()
    assert list_objects(store) == OBJECTS
    with ship() as second:
        assert not second.plan().has_changes
        assert to_document(second.plan())["upload"]["unchanged"] == 2


def test_a_change_sends_one_file_and_removes_what_was_uploaded_only(
    ship: Callable[[], ClusterDeployment], store: Store, repository: Path
) -> None:
    (repository / "m/labels.txt").write_text("cat")
    with ship() as first:
        first.submit()
    store.put(b"theirs", f"{URI}/notes.txt", content_type="text/plain")
    (repository / "m/labels.txt").unlink()
    (repository / "m/1/model.py").write_text(CHANGED)
    with ship() as second:
        upload = second.plan().upload
        assert upload is not None
        assert (list(upload.sent), upload.removed, upload.foreign) == (
            ["m/1/model.py"],
            ["m/labels.txt"],
            ["notes.txt"],
        )
        assert second.plan().steps[1].action == "update"  # its pods are replaced
        assert "notes.txt, which tritonforge did not upload, stays" in "\n".join(render_plan(second.plan()))
        second.submit()
    assert list_objects(store) == [*OBJECTS, f"{URI}/notes.txt"]


def test_a_repository_that_changed_since_the_plan_is_not_uploaded(
    ship: Callable[[], ClusterDeployment], store: Store, repository: Path
) -> None:
    with ship() as deployment:
        deployment.plan()
        (repository / "m/1/model.py").write_text(CHANGED)
        with pytest.raises(DeploymentError, match="it has changed since the plan was made"):
            deployment.submit()
    assert not list_objects(store)


def test_an_address_that_names_other_objects_too_is_refused(store: Store, repository: Path) -> None:
    """KServe's storage initializer lists keys by their first characters, not by directories."""
    store.put(b"x", "s3://models/digits-2/m/config.pbtxt", content_type="text/plain")
    with pytest.raises(
        DefinitionError, match=r"also s3://models/digits-2/m/config\.pbtxt\. End the storageUri with '/'"
    ):
        RepositoryUpload(store, URI).plan(repository)
    assert list(RepositoryUpload(store, f"{URI}/").plan(repository).sent) == ["m/1/model.py", "m/config.pbtxt"]


def test_the_command_shows_the_upload_and_can_leave_it_out(
    deploy: Callable[..., ClusterDeployment], store: Store, repository: Path, moto: str
) -> None:
    name = deploy().deployment.name
    command = ("deploy", str(repository), "--to", "kserve", "--image", "24.09", "--name", name, "--storage-uri", URI,
               "--apply", "--plan")  # fmt: skip
    done = tritonforge(*command, "--endpoint-url", moto, "--region", "us-east-1")
    assert done.returncode == 0, done.stderr
    assert f"+ repository {URI}/: " in done.stdout
    assert "+ repository" not in tritonforge(*command, "--no-upload").stdout
    done = tritonforge(*command, "--no-upload", "--endpoint-url", moto)
    assert "--endpoint-url applies to --to sagemaker, and to the upload of --to kserve --apply" in done.stderr
    assert not list_objects(store)
