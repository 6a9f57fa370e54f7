"""Make the content of a version directory: the file, or the folder, that Triton's backend opens.

Whatever it comes from, the result is read back, and held against the inputs and outputs that the definition states.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonforge import temporary
from tritonforge.errors import ArtifactError, MissingExtraError, TritonForgeError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import DALI, KINDS, SAVEDMODEL, Signature
from tritonforge.repository.artifacts import dali_model, dali_trial, download, tensorflow_model
from tritonforge.repository.artifacts.download import Moved, unwatched
from tritonforge.repository.artifacts.signature_check import check
from tritonforge.repository.definition.models import Dali, Model, Onnx, TensorFlow
from tritonforge.repository.definition.sources import S3, Artifact, Download, File, Function

__all__ = ["FetchS3", "kind", "make", "read_back"]

#: What takes a file that is no SavedModel, by its suffix.
_TAKERS = {
    ".dali": "Dali",
    ".graphdef": "TensorFlow(platform='tensorflow_graphdef')",
    ".onnx": "Onnx",
    ".pb": "TensorFlow(platform='tensorflow_graphdef')",
    ".pt": "PyTorch",
}

#: Gets an ``s3://`` address and the path to write it to.
FetchS3 = Callable[[str, Path], None]


def make(
    model: Model,
    destination: Path,
    *,
    base: Path,
    report: Callable[[str], None],
    version: int = 1,
    fetch_s3: FetchS3 | None = None,
    moved: Moved = unwatched,
) -> Signature | None:
    """Make one version of a model in the version directory ``destination``, and give what its file takes and gives.

    ``base`` is the folder of the definition, ``report`` is given sentences for the user, ``fetch_s3`` gets objects from
    S3, ``moved`` is told of the bytes of a download or a copy. A function of the definition is run in this process,
    seeded: use `make_in_child` to keep this one as it is. None is given back for kinds of files that are not read
    (TorchScript, TensorRT, Python).

    Raises:
        ArtifactError: the source is missing, unreachable or damaged, its function fails, or the result is not what the
            definition states; the message names the model, and in the last case every difference.
        MissingExtraError: a package that is needed is not installed.
    """
    source = model.versions[version]
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / model.model_filename
    try:
        if source is None:
            raise ArtifactError("it has no artifact: say where its file comes from")
        _put(model, source, path, base=base, report=report, fetch_s3=fetch_s3, moved=moved)
        if isinstance(model, Dali) and model.pipeline is None and model.device == "cpu":
            path.write_bytes(dali_pipeline.on_cpu(path.read_bytes()))
    except ArtifactError as error:
        raise type(error)(_once(model.name, str(error))) from error
    found = read_back(model, path)
    if isinstance(model, Dali):
        differences = dali_trial.compare_outputs(model, path.read_bytes())
        if differences:
            raise ArtifactError("\n".join(differences))
    return found


def read_back(model: Model, path: Path) -> Signature | None:
    """The inputs and outputs of a model's file, held against the definition; None for kinds that are not read.

    Raises:
        ArtifactError: with one sentence for each difference.
    """
    which = kind(model)
    if which is None:
        return None
    try:
        found = introspect(
            path,
            which,
            outputs=[each.name for each in model.output],
            tag=str(model.parameters.get("TF_GRAPH_TAG", "serve")),
            signature=str(model.parameters.get("TF_SIGNATURE_DEF", "serving_default")),
        )
    except ArtifactError as error:
        # The path is that of a build under way; the file's name says enough.
        raise ArtifactError(f"{model.name}: {str(error).replace(str(path), path.name)}") from error
    differences = check(model, found)
    if differences:
        raise ArtifactError("\n".join(differences))
    return found


def kind(model: Model) -> str | None:
    """Which kind of file a model has, as `introspect` names it; None when it is one that is not read."""
    which = DALI if model.backend == DALI else model.platform
    return which if which in KINDS else None


def _put(
    model: Model,
    source: Artifact,
    path: Path,
    *,
    base: Path,
    report: Callable[[str], None],
    fetch_s3: FetchS3 | None,
    moved: Moved,
) -> None:
    if isinstance(source, Function):
        if source.random_weights:
            report(f"{model.name}: seeded random weights, never trained: its labels mean nothing")
        _run(model, source, path)
    elif isinstance(source, File):
        _copy(model, base / source.path, source.sha256, path, moved=moved)
    elif isinstance(source, S3):
        if fetch_s3 is None:
            raise ArtifactError(f"{source.uri} is needed, and nothing was given to fetch from S3 with")
        with temporary.folder("build") as folder:
            fetched = Path(folder) / "object"
            fetch_s3(source.uri, fetched)
            _copy(model, fetched, source.sha256, path, moved=moved, said=source.uri)
    else:
        assert isinstance(source, Download)
        _download(model, source, path, report, moved)


def _download(model: Model, source: Download, path: Path, report: Callable[[str], None], moved: Moved) -> None:
    try:
        fetched = download.fetch(
            source.url, source.sha256, report=lambda text: report(f"{model.name}: {text}"), moved=moved
        )
    except download.UnreachableError as error:
        if source.otherwise is None:
            raise
        instead = "what the definition's own function makes is used instead"
        if source.otherwise.random_weights:
            instead = "seeded random weights of the same architecture are used instead, so its labels mean nothing"
        report(f"{model.name}: {error}; {instead}")
        _run(model, source.otherwise, path)
        return
    if source.member is not None:
        try:
            download.unpack(fetched, source.member, path)
        except ArtifactError as error:
            raise ArtifactError(f"{source.url}: {error}") from error
    elif kind(model) == SAVEDMODEL:
        raise ArtifactError(f"{source.url}: a SavedModel is a folder: name it in the archive by member")
    else:
        download.copy_checked(fetched, path, None)


def _copy(model: Model, source: Path, sha256: str | None, path: Path, *, moved: Moved, said: str | None = None) -> None:
    where = said or str(source)
    if not source.exists():
        raise ArtifactError(f"its file {where} does not exist")
    if source.is_dir():
        if kind(model) != SAVEDMODEL:
            raise ArtifactError(f"its file {where} is a folder; {model.model_filename} is a file")
        if sha256 is not None:
            raise ArtifactError(f"{where} is a folder; a sha256 can be held against a file only")
        shutil.copytree(source, path, dirs_exist_ok=True)  # a package's version folder is there already
    elif kind(model) == SAVEDMODEL:
        other = f"; {_TAKERS[source.suffix]} takes it" if source.suffix in _TAKERS else ""
        raise ArtifactError(
            f"its file {where} is no folder; a SavedModel is the folder that holds saved_model.pb{other}"
        )
    else:
        download.copy_checked(source, path, sha256, moved=moved)


def _run(model: Model, source: Function, path: Path) -> None:
    """Call a function of the definition and write what it gives."""
    if isinstance(model, Dali) and model.pipeline is not None:
        _guarded(model, model.pipeline, lambda: dali_model.write_pipeline(model, path))
    elif isinstance(model, TensorFlow):
        tensorflow_model.seeded(source.seed)
        built = _guarded(model, source.build, source.build)
        write = tensorflow_model.write_saved_model if model.platform == SAVEDMODEL else tensorflow_model.write_graphdef
        _guarded(model, source.build, lambda: write(built, model, path))
    elif isinstance(model, Onnx):
        _seed_without_tensorflow(source.seed)
        built = _guarded(model, source.build, source.build)
        if not hasattr(built, "SerializeToString"):
            raise ArtifactError(f"its function gave a {type(built).__name__}, not an onnx.ModelProto")
        path.write_bytes(built.SerializeToString(deterministic=True))
    else:
        raise ArtifactError(f"a function cannot make {model.model_filename}; give a File, a Download or an S3 object")


def _guarded(model: Model, function: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """Run code of the definition; what it raises becomes one sentence that says where."""
    try:
        return call()
    except TritonForgeError:
        raise
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in {"tensorflow", "keras", "nvidia", "onnx"}:
            raise MissingExtraError(error.name, extra="local") from error
        raise ArtifactError(_failure(function, error)) from error
    except Exception as error:  # the definition's code may raise anything; the cause is kept
        raise ArtifactError(_failure(function, error)) from error


def _failure(function: Callable[..., Any], error: Exception) -> str:
    name = getattr(function, "__qualname__", repr(function))
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f" ({Path(str(file)).name}, line {line})" if line is not None else ""
    said = (str(error).strip().splitlines() or [""])[0]
    return f"its function {name} failed{place}: {type(error).__name__}: {said}".rstrip(": ")


def _seed_without_tensorflow(seed: int) -> None:
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)


def _once(name: str, message: str) -> str:
    return message if message.startswith(f"{name}: ") else f"{name}: {message}"
