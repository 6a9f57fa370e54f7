"""A repository that KServe serves: its storageUri, what the download keeps of it, and the default runtime. No I/O.

Source: kserve/kserve v0.16.0 to v0.20.0, the versions of the target's rows in `tritonforge.triton.targets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.triton.targets import find_storage
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.tree import Tree

_STORAGE: Final = "kserve v0.20.0 python/storage/kserve_storage/kserve_storage.py"
_RUNTIME: Final = "kserve v0.20.0 config/runtimes/kserve-tritonserver.yaml"

# fmt: off
E451 = define_error("E451", "the download of the storageUri drops a version directory of <m>",
    refused_by="kserve", source=f"{_STORAGE} _download_s3 (obj.size == 0), _download_azure_blob (blob.size > 0)",
    why="From s3:// and Azure's blob storage KServe does not download empty files from 0.17 on, and no object storage "
        "has empty directories. A version that holds nothing else, such as an ensemble's with a .gitkeep, is then "
        "missing: at least one version must be available under the version policy of model '<m>'.",
    bad="ensemble/1/.gitkeep (0 bytes)   --storage-uri s3://bucket/repository",
    good="ensemble/1/.gitkeep (with a line in it)   --storage-uri s3://bucket/repository")
W451 = define_advice("W451", "Cannot recognize storage type for <uri>",
    source=f"{_STORAGE} Storage.download; pkg/constants/constants.go",
    why="KServe's storage initializer ends with this sentence, unless a ClusterStorageContainer of the cluster takes "
        "the scheme.",
    bad="--storage-uri minio://bucket/repository", good="--storage-uri s3://bucket/repository")
W452 = define_advice("W452", "the download of an s3:// or Azure storageUri drops a version directory of <m>",
    source=E451.source,
    why=f"{E451.why} From a volume, OCI images and Google Cloud Storage the file comes along.",
    bad="ensemble/1/.gitkeep (0 bytes)", good="ensemble/1/.gitkeep (with a line in it)")
W453 = define_advice("W453", "the storageUri must name the directory above the model",
    source=f"{_RUNTIME}: --model-store=/mnt/models, where the storageUri is mounted",
    why="What the storageUri names is the model repository: a directory for each model. A config.pbtxt in it is not "
        "read, and a version directory is taken for a model.",
    bad="config.pbtxt, 1/model.onnx", good="classifier/config.pbtxt, classifier/1/model.onnx")
W454 = define_advice("W454", "a decoupled model answers over gRPC only, and the default runtime's service has HTTP",
    source=f"{_RUNTIME}: --http-port=8080 --grpc-port=9000; docs/samples/v1beta1/triton/torchscript/"
           "torchscript_grpc.yaml; server http_server.cc",
    why="Triton's HTTP endpoint refuses decoupled models: HTTP end point doesn't support models with decoupled "
        "transaction policy. KServe routes to one port, HTTP unless another is named.",
    bad="model_transaction_policy { decoupled: true }",
    good="predictor.model.ports: [{ name: h2c, protocol: TCP, containerPort: 9000 }]")
W455 = define_advice("W455", "Failed to give execute permission to triton_python_backend_stub in <path>",
    source="python_backend stub_launcher.cc StubLauncher::Launch; kserve v0.20.0 pkg/webhook/admission/pod/"
           "storage_initializer_injector.go GetStorageInitializerReadOnlyFlag",
    why="Object storage keeps no execute permission, so Triton sets it on a model's own stub. KServe mounts what it "
        "downloaded read-only, where that fails.",
    bad="model/triton_python_backend_stub",
    good='metadata.annotations: { "storage.kserve.io/readonly": "false" }')
# fmt: on

#: Storages from which KServe leaves empty files behind.
_WITHOUT_EMPTY_FILES: Final = ("s3", "azure blob")
#: Storages that have no empty directories.
_WITHOUT_EMPTY_DIRECTORIES: Final = ("gcs", "s3", "azure blob", "git", "hugging face")
#: Storages that keep the permissions of files.
_WITH_PERMISSIONS: Final = ("volume", "oci", "local", "git")


@register_check(Stage.LOADED, W451, W453)
def check_storage_uri(context: Context) -> Iterator[Finding]:
    """Check that KServe recognises the storage, and that the repository is what the storageUri names."""
    if context.options.target != "kserve":
        return
    uri = context.options.storage_uri
    if uri is not None and find_storage(uri) is None:
        yield W451.report(
            f"Cannot recognize storage type for {uri}",
            path="",
            help="use s3://, gs://, https://, pvc://, oci://, hf://, hdfs://, webhdfs:// or file://",
        )
    if context.tree.is_file("config.pbtxt"):
        yield W453.report(
            "config.pbtxt is not in a model's directory: the storageUri is the model repository",
            path="config.pbtxt",
            help="let the storageUri name the directory above the model",
        )


@register_check(Stage.LOADED, E451, W452)
def check_download(context: Context) -> Iterator[Finding]:
    """Check that KServe's download keeps every version directory that the server loads."""
    if context.options.target != "kserve":
        return
    uri = context.options.storage_uri
    storage = find_storage(uri) if uri is not None else None
    rule = W452 if uri is None else E451
    if uri is not None and storage not in _WITHOUT_EMPTY_DIRECTORIES:
        return
    keeps_empty_files = not context.serving.drops_empty_files or (
        storage is not None and storage not in _WITHOUT_EMPTY_FILES
    )
    for model in context.models.values():
        for directory in (model.version_directories[version] for version in model.versions):
            if not _is_downloaded(context.tree, directory, keeps_empty_files=keeps_empty_files):
                source = "an s3:// or Azure storageUri" if uri is None else uri
                yield rule.report(
                    f"the download of {source} drops {directory}: no file in it has content",
                    path=directory,
                    help=f"put a file with content into it, such as {directory}/.gitkeep with a line of text",
                )


def _is_downloaded(tree: Tree, directory: str, *, keeps_empty_files: bool) -> bool:
    """Return True if a file below a directory is downloaded, or if the tree does not show it."""
    if tree.leaves(directory) or tree.truncated:
        return True
    waiting = [tree.real(directory) or directory]
    while waiting:
        path = waiting.pop()
        for child in (f"{path}/{name}" for name in tree.children(path)):
            entry = tree.entries[child]
            if entry.kind == "directory":
                waiting.append(child)
            elif keeps_empty_files or entry.kind != "file" or entry.size != 0:
                return True
    return False


@register_check(Stage.LOADED, W454, W455)
def check_runtime(context: Context) -> Iterator[Finding]:
    """Check what KServe's default runtime and its mount mean to each model."""
    if context.options.target != "kserve":
        return
    for model in context.models.values():
        if model.decoupled and model.parsed:
            yield W454.report_in(
                model,
                f"{model.name} is decoupled, which Triton serves over gRPC only: KServe's service has HTTP by default",
                model.document.one("model_transaction_policy"),
                "name the port of gRPC in the InferenceService: ports: [{ name: h2c, containerPort: 9000 }]",
            )
        yield from _check_stub(context, model)


def _check_stub(context: Context, model: ModelView) -> Iterator[Finding]:
    uri, path = context.options.storage_uri, f"{model.name}/triton_python_backend_stub"
    if model.backend != "python" or not context.tree.is_file(path):
        return
    if uri is None or find_storage(uri) not in _WITH_PERMISSIONS:
        yield W455.report(
            f"Failed to give execute permission to triton_python_backend_stub in /mnt/models/{path}: KServe mounts its "
            "download read-only",
            path=path,
            help='annotate the InferenceService with storage.kserve.io/readonly: "false", or serve it from a volume',
        )
