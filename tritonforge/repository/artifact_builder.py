"""Build the content of a version directory: the file, or the directory, that Triton's backend opens.

Functions of the definition and what needs a framework run in a child process; files are copied in this one.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tritonforge import temporary
from tritonforge.errors import ArtifactError, MissingExtraError, TritonForgeError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import DALI, GRAPHDEF, KINDS, SAVEDMODEL, Signature
from tritonforge.repository import dali_model, download, tensorflow_model
from tritonforge.repository.child_process import run_in_child
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.repository.definition.models import Dali, Model, Onnx, TensorFlow
from tritonforge.repository.definition.sources import S3, Artifact, Download, File, Function
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress
from tritonforge.repository.fingerprint import fingerprint_artifact
from tritonforge.repository.signature_check import check_signature, complete_model

__all__ = ["ArtifactBuilder", "FetchS3", "build_artifact"]

#: Which kind of model accepts a file that is not a SavedModel, by its suffix.
_MODELS_BY_SUFFIX: Final = {
    ".dali": "Dali",
    ".graphdef": "TensorFlow(platform='tensorflow_graphdef')",
    ".onnx": "Onnx",
    ".pb": "TensorFlow(platform='tensorflow_graphdef')",
    ".pt": "PyTorch",
}

#: Downloads an ``s3://`` address to a path.
FetchS3: TypeAlias = Callable[[str, Path], None]


@dataclass(frozen=True, slots=True)
class ArtifactBuilder:
    """Builds version directories; ``fetch_s3`` downloads objects from S3 and is required for those alone."""

    fetch_s3: FetchS3 | None = None

    def fingerprint(self, model: Model, version: int, *, base: Path) -> str:
        """Return the digest of everything that the version's file depends on, without a framework."""
        return fingerprint_artifact(model, base=base, version=version)

    def build(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        on_progress: ProgressCallback = no_progress,
    ) -> dict[str, Any] | None:
        """Build one version directory, and return the signature of its file as JSON; None where it is not read."""
        source = model.versions[version]
        # TensorFlow reads a GraphDef, and DALI runs a pipeline once.
        if isinstance(source, S3) or (isinstance(source, File) and _file_kind(model) not in (GRAPHDEF, DALI)):
            signature = build_artifact(
                model,
                destination,
                base=definitions.folder,
                version=version,
                fetch_s3=self.fetch_s3,
                on_progress=on_progress,
            )
            return None if signature is None else signature.to_json()
        arguments = {
            "definition": str(definitions.path),
            "model": model.name,
            "version": version,
            "destination": str(destination),
        }
        what = f"{model.name}: the process that builds its file"
        result: dict[str, Any] | None = run_in_child(_TASK, arguments, what=what, on_progress=on_progress)
        return result

    def complete(self, model: Model, signature: dict[str, Any] | None) -> Model:
        """Return the model with what it leaves out; raise ArtifactError with each difference from its file."""
        if signature is None:
            return model
        found = Signature.from_json(signature)
        differences = check_signature(model, found)
        if differences:
            raise ArtifactError("\n".join(differences))
        return complete_model(model, found)


_TASK: Final = "tritonforge.repository.artifact_builder:build_from_arguments"


def build_from_arguments(arguments: Mapping[str, Any], on_progress: ProgressCallback) -> dict[str, Any] | None:
    """Build an artifact in a child process; see `tritonforge.repository.child_process`."""
    definitions = load(arguments["definition"])
    model = definitions.models.get(arguments["model"])
    if not isinstance(model, Model):
        raise ArtifactError(f"{arguments['definition']}: it has no model {arguments['model']!r}")
    destination, version = Path(arguments["destination"]), int(arguments["version"])
    signature = build_artifact(model, destination, base=definitions.folder, version=version, on_progress=on_progress)
    return None if signature is None else signature.to_json()


def build_artifact(
    model: Model,
    destination: Path,
    *,
    base: Path,
    version: int = 1,
    fetch_s3: FetchS3 | None = None,
    on_progress: ProgressCallback = no_progress,
) -> Signature | None:
    """Build one version of a model in the version directory ``destination``, and return the signature of its file.

    A function of the definition runs in this process, seeded; `ArtifactBuilder` keeps its process as it is. The result
    is None for kinds of files that are not read (TorchScript, TensorRT, Python). It is not compared with what the
    definition states: `ArtifactBuilder.complete` does that.

    Args:
        model: the model.
        destination: the version directory.
        base: the directory of the definition.
        version: the version to build.
        fetch_s3: downloads objects from S3.
        on_progress: called with sentences for the user, and the bytes of a download or a copy.

    Raises:
        ArtifactError: the source is missing, unreachable or damaged, its function fails, or a pipeline's outputs are
            not what the definition states; the message names the model.
        MissingExtraError: a required package is not installed.
    """
    source = model.versions[version]
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / model.model_filename
    try:
        if source is None:
            raise ArtifactError("it has no artifact: say where its file comes from")
        _write_source(model, source, path, base=base, fetch_s3=fetch_s3, on_progress=on_progress)
        if isinstance(model, Dali) and model.pipeline is None and model.device == "cpu":
            path.write_bytes(dali_pipeline.move_to_cpu(path.read_bytes()))
    except ArtifactError as error:
        message = str(error)
        raise type(error)(message if message.startswith(f"{model.name}: ") else f"{model.name}: {message}") from error
    signature = _read_signature(model, path)
    if isinstance(model, Dali):
        differences = dali_model.compare_outputs(model, path.read_bytes())
        if differences:
            raise ArtifactError("\n".join(differences))
    return signature


def _read_signature(model: Model, path: Path) -> Signature | None:
    kind = _file_kind(model)
    if kind is None:
        return None
    try:
        return introspect(
            path,
            kind,
            outputs=[output.name for output in model.output],
            tag=str(model.parameters.get("TF_GRAPH_TAG", "serve")),
            signature=str(model.parameters.get("TF_SIGNATURE_DEF", "serving_default")),
        )
    except ArtifactError as error:
        # The path is that of an unfinished build; the file's name is enough.
        raise ArtifactError(f"{model.name}: {str(error).replace(str(path), path.name)}") from error


def _file_kind(model: Model) -> str | None:
    """Return the kind of file that a model has, as `introspect` names it; None for one that is not read."""
    kind = DALI if model.backend == DALI else model.file_platform
    return kind if kind in KINDS else None


def _write_source(
    model: Model, source: Artifact, path: Path, *, base: Path, fetch_s3: FetchS3 | None, on_progress: ProgressCallback
) -> None:
    if isinstance(source, Function):
        if source.random_weights:
            note = f"{model.name}: seeded random weights, never trained: its labels mean nothing"
            on_progress(BuildProgress("note", note))
        _run_function(model, source, path)
    elif isinstance(source, File):
        origin = base / source.path
        _copy(model, origin, source.sha256, path, where=str(origin), on_progress=on_progress)
    elif isinstance(source, S3):
        if fetch_s3 is None:
            raise ArtifactError(f"{source.uri} is needed, and nothing was given to fetch from S3 with")
        with temporary.open_directory("build") as directory:
            fetched = directory / "object"
            fetch_s3(source.uri, fetched)
            _copy(model, fetched, source.sha256, path, where=source.uri, on_progress=on_progress)
    else:
        assert isinstance(source, Download)
        _download(model, source, path, on_progress)


def _download(model: Model, source: Download, path: Path, on_progress: ProgressCallback) -> None:
    try:
        fetched = download.fetch(source.url, source.sha256, on_progress=on_progress, label=f"{model.name}: ")
    except download.UnreachableError as error:
        if source.fallback is None:
            raise
        instead = "what the definition's own function makes is used instead"
        if source.fallback.random_weights:
            instead = "seeded random weights of the same architecture are used instead, so its labels mean nothing"
        on_progress(BuildProgress("note", f"{model.name}: {error}; {instead}"))
        _run_function(model, source.fallback, path)
        return
    if source.member is not None:
        try:
            download.extract_member(fetched, source.member, path)
        except ArtifactError as error:
            raise ArtifactError(f"{source.url}: {error}") from error
    elif _file_kind(model) == SAVEDMODEL:
        raise ArtifactError(f"{source.url}: a SavedModel is a directory: name it in the archive by member")
    else:
        download.copy_file(fetched, path, None)


def _copy(
    model: Model, source: Path, sha256: str | None, path: Path, *, where: str, on_progress: ProgressCallback
) -> None:
    if not source.exists():
        raise ArtifactError(f"its file {where} does not exist")
    is_saved_model = _file_kind(model) == SAVEDMODEL
    if source.is_dir():
        if not is_saved_model:
            raise ArtifactError(f"its file {where} is a directory; {model.model_filename} is a file")
        if sha256 is not None:
            raise ArtifactError(f"{where} is a directory; only a file has a sha256")
        shutil.copytree(source, path, dirs_exist_ok=True)  # a package's version directory exists already
    elif is_saved_model:
        kind = _MODELS_BY_SUFFIX.get(source.suffix)
        advice = "" if kind is None else f"; write {kind} for it"
        raise ArtifactError(
            f"its file {where} is not a directory; a SavedModel is the directory of saved_model.pb{advice}"
        )
    else:
        download.copy_file(source, path, sha256, on_progress=on_progress)


def _run_function(model: Model, source: Function, path: Path) -> None:
    """Call a function of the definition and write its result."""
    if isinstance(model, Dali) and model.pipeline is not None:
        _call(model.pipeline, lambda: dali_model.write_pipeline(model, path))
    elif isinstance(model, TensorFlow):
        tensorflow_model.seed_frameworks(source.seed)
        built = _call(source.build, source.build)
        write = tensorflow_model.write_saved_model if model.platform == SAVEDMODEL else tensorflow_model.write_graphdef
        _call(source.build, lambda: write(built, model, path))
    elif isinstance(model, Onnx):
        import numpy as np

        random.seed(source.seed)
        np.random.seed(source.seed)
        built = _call(source.build, source.build)
        if not hasattr(built, "SerializeToString"):
            raise ArtifactError(f"its function returned a {type(built).__name__} (expected an onnx.ModelProto)")
        path.write_bytes(built.SerializeToString(deterministic=True))
    else:
        raise ArtifactError(f"a function cannot make {model.model_filename}; give a File, a Download or an S3 object")


def _call(function: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """Run code of the definition; an exception becomes one sentence with its place in the function's file."""
    try:
        return call()
    except TritonForgeError:
        raise
    except Exception as error:  # the definition's code may raise anything; the cause is kept
        frameworks = {"tensorflow", "keras", "nvidia", "onnx"}
        if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] in frameworks:
            raise MissingExtraError(error.name, extra="local") from error
        raise ArtifactError(_describe_failure(function, error)) from error


def _describe_failure(function: Callable[..., Any], error: Exception) -> str:
    name = getattr(function, "__qualname__", repr(function))
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f" ({Path(str(file)).name}, line {line})" if line is not None else ""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"its function {name} failed{place}: {type(error).__name__}: {text}".rstrip(": ")
