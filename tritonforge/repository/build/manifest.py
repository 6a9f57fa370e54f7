"""What a build remembers of the tree that it wrote, in a file beside the models.

The record is a plain file at the top of the repository: Triton reads only directories there, and so does SageMaker's
`serve` script. It is no part of the digest and of no package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tritonforge.errors import DefinitionError

__all__ = ["RECORD", "Entry", "MadeEntry", "Record", "digest", "intact", "previous", "sha256_of"]

RECORD = ".tritonforge.json"

#: Raised when the meaning of a record changes; another number makes a build forget the old tree.
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its size in bytes, its modification time in nanoseconds, and the SHA-256 of its content."""

    size: int
    mtime_ns: int
    sha256: str

    def unchanged(self, path: Path) -> bool:
        """Whether the file still has this size and modification time."""
        try:
            found = path.lstat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class MadeEntry:
    """One version directory that was made: what went in (``fingerprint``), what came out, and what was said.

    ``signature`` is what introspection read from the artifact, as plain JSON; ``said`` the sentences for the user.
    """

    fingerprint: str
    signature: Any
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """The files and the made version directories of a tree, by path; ``digest`` is of its paths and contents."""

    digest: str = ""
    files: Mapping[str, Entry] = field(default_factory=dict)
    made: Mapping[str, MadeEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, repository: Path) -> Record | None:
        """The record of a repository; None where there is none, or one of another format."""
        try:
            found = json.loads((repository / RECORD).read_bytes())
            if found["format"] != _FORMAT:
                return None
            return cls(
                found["digest"],
                {path: Entry(**each) for path, each in found["files"].items()},
                {path: MadeEntry(**{**each, "said": tuple(each["said"])}) for path, each in found["made"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, repository: Path) -> None:
        """Write the record into a repository."""
        content = {
            "format": _FORMAT,
            "digest": self.digest,
            "files": {path: asdict(each) for path, each in self.files.items()},
            "made": {path: asdict(each) for path, each in self.made.items()},
        }
        (repository / RECORD).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

    def under(self, directory: str) -> dict[str, Entry]:
        """The files below a directory of the repository."""
        return {path: each for path, each in self.files.items() if path.startswith(f"{directory}/")}


def digest(files: Mapping[str, Entry]) -> str:
    """The digest of a tree: SHA-256 over its sorted paths and the SHA-256 of each content. Times do not count."""
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{path}\0{files[path].sha256}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def previous(destination: Path) -> Record:
    """The record of the tree that is to be replaced; an empty one where there is nothing yet.

    Raises:
        DefinitionError: the destination holds something that no build wrote.
    """
    if not destination.exists():
        return Record()
    record = Record.read(destination) if destination.is_dir() else None
    if record is None:
        if destination.is_dir() and not any(destination.iterdir()):
            return Record()
        raise DefinitionError(
            f"{destination}: it holds something that no tritonforge build wrote; give an empty or a new folder"
        )
    return record


def intact(repository: Path, record: Record) -> bool:
    """Whether a tree still holds exactly the files of its record."""
    found = {
        path.relative_to(repository).as_posix()
        for path in repository.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.parent != repository
    }
    return found == set(record.files) and all(each.unchanged(repository / path) for path, each in record.files.items())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _in_blocks(file)


def _in_blocks(file: Any) -> str:
    # Python 3.10 has no hashlib.file_digest.
    whole = hashlib.sha256()
    while block := file.read(1 << 20):
        whole.update(block)
    return whole.hexdigest()
