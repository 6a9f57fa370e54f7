"""A cache of results: a directory that has not changed since its last validation is not validated again.

A result holds for what `tritonforge.validation.tree_reader.Stamps` state of every path of the directory, for the
options, and for the code of the rules. It is not stored if a path changed shortly before it was read, since a change
right after may leave the same times (git calls such files racy), and one that is damaged is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ArtifactError
from tritonforge.files import cache_directory, get_user_id, write_file
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding, ValidationReport
from tritonforge.validation.tree_reader import Stamps, read_stamps

__all__ = ["ResultCache"]

#: The packages whose code decides a result.
_CODE: Final = ("validation", "pbtxt", "triton", "model_files")
#: Seconds in which a change may leave a file's times as they are: two, on FAT.
_RACY: Final = 2.0
#: Bytes of a result that is stored, and how many are kept; the one that was stored first goes first.
_MAXIMAL_SIZE: Final = 4 * 1024 * 1024
_MAXIMAL_RESULTS: Final = 256
#: Bytes of a text that a finding points into.
_MAXIMAL_TEXT: Final = 4 * 1024 * 1024


class ResultCache:
    """Results in a directory, by default the user's cache; it is made for its owner alone.

    A cache that cannot be read or written is a cache without results.
    """

    def __init__(self, directory: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._directory = directory
        if directory is None:
            with suppress(ArtifactError):  # the user has no home directory
                self._directory = cache_directory() / "validation"

    def find(self, folder: Path | str, options: Options) -> ValidationReport | None:
        """Return the result for a folder as it is now, None if it was not validated so."""
        if self._directory is None:
            return None
        try:
            return self._read(self._directory / _build_name(folder, options), folder)
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or written by another release
            return None

    def _read(self, file: Path, folder: Path | str) -> ValidationReport | None:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_uid != get_user_id():
                return None
            digest, _, content = stream.read(_MAXIMAL_SIZE + 200).partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        stored: Mapping[str, Any] = json.loads(content)
        if read_stamps(folder, stored["external"]).digest() != stored["stamps"]:
            return None
        findings = tuple(Finding(**finding) for finding in stored["findings"])
        texts = {path: _read_text(Path(folder, path)) for path in stored["texts"]}
        return ValidationReport(
            findings,
            tuple(stored["models"]),
            texts,
            is_tfs_package=stored["is_tfs_package"],
            is_model=stored["is_model"],
        )

    def store(
        self, folder: Path | str, options: Options, report: ValidationReport, stamps: Stamps, external: Sequence[str]
    ) -> None:
        """Store the result for a folder that was read with these stamps; ``external`` are its absolute paths."""
        if self._directory is None or stamps.newest / 1e9 > self._clock() - _RACY:
            return
        content = json.dumps(
            {
                "stamps": stamps.digest(),
                "external": external,
                "models": report.models,
                "texts": sorted(report.texts),
                "is_tfs_package": report.is_tfs_package,
                "is_model": report.is_model,
                "findings": [asdict(finding) for finding in report.findings],
            }
        ).encode()
        if len(content) > _MAXIMAL_SIZE:
            return
        digest = hashlib.sha256(content).hexdigest().encode()
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._directory / _build_name(folder, options), digest + b"\n" + content, mode=0o600, sync=False)
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        assert self._directory is not None
        with os.scandir(self._directory) as listing:
            files = [item.path for item in sorted(listing, key=lambda item: item.stat().st_mtime_ns)]
        for path in files[:-_MAXIMAL_RESULTS]:
            with suppress(OSError):
                Path(path).unlink()


def _build_name(folder: Path | str, options: Options) -> str:
    """Return the file name of a result: a digest of the folder, the options and the code."""
    parts = [os.path.realpath(folder), json.dumps(asdict(options), sort_keys=True), sys.version, str(get_user_id())]
    package = Path(__file__).parents[1]
    for name in _CODE:
        for directory, _, files in sorted(os.walk(package / name)):
            for file in sorted(files):
                if file.endswith(".py"):
                    status = os.stat(f"{directory}/{file}")  # noqa: PTH116 - a hundred files
                    parts.append(f"{file} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAXIMAL_TEXT).decode("utf-8", "replace")
