"""A digest that changes whenever making a model's file could give another result, computed in milliseconds.

No framework is imported: their versions come from the installed packages' metadata. A function's result depends on the
code that it reaches (`reached_code`); data files that it reads are not seen.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tritonforge.repository.artifacts import download
from tritonforge.repository.artifacts.reached_code import reached_code
from tritonforge.repository.definition.models import Dali, Model
from tritonforge.repository.definition.sources import S3, Artifact, Download, File, Function

__all__ = ["builder_modules", "fingerprint"]

#: Distributions whose version can change what a function makes; DALI's is one of three, by CUDA version.
_FRAMEWORKS = (
    "keras",
    "numpy",
    "nvidia-dali-cuda110",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "onnx",
    "scikit-learn",
    "tensorflow",
    "tensorflow-cpu",
)


def fingerprint(model: Model, *, base: Path, version: int = 1) -> str:
    """The digest (sha256, hex) for one version of a model whose definition lies in the folder ``base``."""
    source = model.versions[version]
    state = {
        "model": _model(model),
        "source": _source(source, base),
        "maker": _maker(),
    }
    text = json.dumps(state, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": type(model).__name__,
        "platform": model.platform,
        "max_batch_size": model.max_batch_size,
        "filename": model.model_filename,
        "parameters": dict(model.parameters),
        "device": getattr(model, "device", ""),
        "input": [(each.name, each.data_type, each.dims, each.reshape) for each in model.input],
        "output": [(each.name, each.data_type, each.dims, each.reshape) for each in model.output],
        "pipeline": isinstance(model, Dali) and model.pipeline is not None,
    }


def _source(source: Artifact | None, base: Path) -> dict[str, Any]:
    if source is None:
        return {"none": True}
    if isinstance(source, Function):
        return {
            "function": _function_name(source.build),
            "seed": source.seed,
            "code": reached_code(source.build, base),
            "with": _versions(),
        }
    if isinstance(source, File):
        return {"file": _files(base / source.path), "sha256": source.sha256}
    if isinstance(source, Download):
        return {
            "url": source.url,
            "sha256": source.sha256,
            "member": source.member,
            "cached": download.cached(source.sha256).is_file(),
            "otherwise": None if source.otherwise is None else _source(source.otherwise, base),
        }
    assert isinstance(source, S3)
    return {"s3": source.uri, "sha256": source.sha256}


def _function_name(function: Any) -> str:
    if isinstance(function, partial):
        return f"{_function_name(function.func)}{function.args!r}{function.keywords!r}"
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _files(path: Path) -> list[tuple[str, int, int, int]]:
    """(path, size, mtime_ns, inode) of a file, or of each file below a folder; empty when there is none."""
    paths = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    found = []
    for each in paths:
        if each.is_file():
            status = each.stat()
            found.append((each.as_posix(), status.st_size, status.st_mtime_ns, status.st_ino))
    return found


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    installed = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _FRAMEWORKS:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def builder_modules() -> list[Path]:
    """Return the files of the modules that make artifacts and of those that read model files, sorted by package."""
    package = Path(__file__).parent
    return [*sorted(package.glob("*.py")), *sorted((package.parents[1] / "model_files").glob("*.py"))]


@lru_cache(maxsize=1)
def _maker() -> str:
    """The digest of the modules that make artifacts and read them back: when they change, their results may."""
    digest = hashlib.sha256()
    for path in builder_modules():
        digest.update(path.read_bytes())
    return digest.hexdigest()
