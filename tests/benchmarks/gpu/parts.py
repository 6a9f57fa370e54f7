"""Files of any size as parts below a limit, with digests, and back. The standard library alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

__all__ = ["MANIFEST", "join_parts", "split_files"]

MANIFEST: Final = "parts.json"

_CHUNK: Final = 1 << 20


def split_files(source: Path, target: Path, *, limit: int) -> list[str]:
    """Write every file of ``source`` to ``target`` in parts of at most ``limit`` bytes; return the parts' names."""
    target.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {}
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        names = []
        with path.open("rb") as file:
            while chunk := file.read(limit):
                names.append(f"{path.name}.{len(names):03}")
                (target / names[-1]).write_bytes(chunk)
        manifest[path.name] = {"sha256": compute_digest(path), "parts": names}
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return [name for row in manifest.values() for name in row["parts"]]


def join_parts(folder: Path, target: Path) -> list[str]:
    """Write the files whose parts are all in ``folder`` to ``target``; return the names of those that are not whole.

    A file that is there with the right digest is left as it is. Without a manifest, ``folder`` holds whole files.

    Raises:
        ValueError: parts do not give the file that was split.
    """
    target.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).is_file():
        for path in folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, target / path.name)
        return []
    missing = []
    for name, row in json.loads((folder / MANIFEST).read_text()).items():
        path = target / name
        if path.is_file() and compute_digest(path) == row["sha256"]:
            continue
        if not all((folder / part).is_file() for part in row["parts"]):
            missing.append(name)
            continue
        with path.open("wb") as file:
            for part in row["parts"]:
                file.write((folder / part).read_bytes())
        if compute_digest(path) != row["sha256"]:
            raise ValueError(f"{path}: its parts do not give the file that was split; copy them again")
    return missing


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
