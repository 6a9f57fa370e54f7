"""The sources of model files, as values. This module does no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, set_field

__all__ = ["S3", "Artifact", "Download", "File", "Function"]


@dataclass(frozen=True, slots=True)
class Function:
    """A model that a function of the definition builds with its framework, in a process of its own.

    For TensorFlow, ``build()`` returns a ``keras.Model``, a ``tf.Module`` or any callable: it is called with tensors in
    the order of the model's ``input``, then those of its control inputs, and gives one tensor, a sequence in the order
    of its ``output``, or a mapping by output name. For ONNX it returns an ``onnx.ModelProto``. ``seed`` seeds Python,
    numpy and the framework first, so that the same function gives the same weights. ``random_weights``: the weights
    were never trained; every command that uses them prints a note.
    """

    build: Callable[[], Any]
    _: KW_ONLY
    seed: int = 0
    random_weights: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class File:
    """A file, or the directory of a SavedModel, beside the definition.

    ``path`` is relative to the definition's directory, or absolute; it may be given as a `Path`. ``sha256`` (hex) is
    compared when it is given.
    """

    path: str
    _: KW_ONLY
    sha256: str | None = None

    def __post_init__(self) -> None:
        set_field(self, "path", _path_to_text(self.path))
        check_fields(self)
        if not self.path or "\0" in self.path:
            raise DefinitionError(f"File: path is {self.path!r} (expected the path of a file)")
        _check_sha256(self.sha256, self.path)


@dataclass(frozen=True, slots=True)
class Download:
    """A file from an ``https://`` address, checked by its ``sha256`` (hex) and kept in tritonforge's cache.

    ``member`` names the file inside a tar archive. ``fallback`` is used, with a note, if the address cannot be reached;
    without it, that is an ArtifactError.
    """

    url: str
    _: KW_ONLY
    sha256: str
    member: str | None = None
    fallback: Function | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.url.startswith("https://"):
            raise DefinitionError(f"Download: url is {self.url!r}; only https:// is fetched")
        _check_sha256(self.sha256, self.url)


@dataclass(frozen=True, slots=True)
class S3:
    """An object in S3, checked by its ``sha256`` (hex) if given. Requires the ``aws`` extra."""

    uri: str
    _: KW_ONLY
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not re.fullmatch(r"s3://[^/]+/.+", self.uri):
            raise DefinitionError(f"S3: uri is {self.uri!r}; write s3://bucket/key")
        _check_sha256(self.sha256, self.uri)


Artifact: TypeAlias = Function | File | Download | S3


def as_file(content: Any) -> Any:
    """Return a `File` for a `Path`, and everything else as it is."""
    text = _path_to_text(content)
    return content if text is content else File(text)


def _path_to_text(path: Any) -> Any:
    """Return the text of a `Path`; this module does not import pathlib."""
    return path.__fspath__() if hasattr(path, "__fspath__") and not isinstance(path, type) else path


def as_source(source: Any, model: str) -> Any:
    """Return a `File` for a text or a `Path`, and everything else as it is.

    Raises:
        DefinitionError: the text is an address, which needs a source of its own.
    """
    if not isinstance(source, str):
        return as_file(source)
    if "://" in source:
        kind = "S3(...)" if source.startswith("s3://") else "Download(..., sha256=...)"
        raise DefinitionError(f"{model}: artifact is the address {source!r} (expected a path). Write artifact={kind}.")
    return File(source)


def _check_sha256(sha256: str | None, where: str) -> None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise DefinitionError(f"{where}: sha256 is {sha256!r}; write the 64 hexadecimal digits of sha256sum")
