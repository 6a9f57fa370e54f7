"""The digest of a model repository, by which a journal of trials is of it or not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error, hash_file

__all__ = ["hash_repository"]


def hash_repository(repository: Path) -> str:
    """Return ``sha256:`` and the digest of the paths and contents of all files that are not hidden.

    Raises:
        TritonForgeError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for folder, folders, files in os.walk(repository, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                path = Path(folder) / name
                digest.update(f"{path.relative_to(repository)}\0{hash_file(path)}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise TritonForgeError(f"{repository}: cannot read: {describe_error(error)}") from error
    return f"sha256:{digest.hexdigest()}"
