"""The journal: what a job has finished, so that the next run continues from there. One SQLite database in a directory.

A row is written after what it records has reached the disk, never before. It survives the end of this process at once,
and a crash of the machine from the next second on. Work that is repeated after such a crash has the same output.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from tritonforge import temporary
from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.files import describe_error

__all__ = ["Admission", "FinishedObject", "Journal", "JournalEntry", "JournalError", "remove_progress"]

#: Seconds between two times that rows are flushed to the disk.
_PERIOD: Final = 1.0

_VERSION: Final = "1"

_IN_PROGRESS, _DONE, _FAILED = range(3)


class JournalError(TritonForgeError):
    """The work directory cannot be used."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The state of the object behind an output's key.

    For an object in progress, ``records`` counts those whose answers are in the spool, the next record starts at byte
    ``offset`` of the content, and the spool is ``length`` bytes long.
    """

    uri: str
    etag: str
    state: int
    run: int
    records: int
    size: int
    offset: int
    length: int

    @property
    def is_done(self) -> bool:
        """True if the output is written."""
        return self.state == _DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedObject:
    """An object whose output is written; with a ``reason`` an object that failed, at record number ``record`` if known.

    ``size`` is its input in bytes, ``records`` the number of its answered records.
    """

    key: str
    uri: str
    etag: str
    size: int = 0
    records: int = 0
    reason: str | None = None
    record: int | None = None


#: What a run does with an object. "begin": transform it. "resume": continue after what an earlier run answered.
#: "finished": skip it, an earlier run wrote its output. "repeated": skip it, this run has it already. "conflict": fail
#: it, another object has the same output.
AdmissionKind: TypeAlias = Literal["begin", "resume", "finished", "repeated", "conflict"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What a run does with an object, and what the journal has under its key."""

    kind: AdmissionKind
    entry: JournalEntry | None

    @property
    def conflict(self) -> str:
        """Why an object fails whose output would replace that of another one."""
        assert self.entry is not None
        return f"its output would have the same name as that of {self.entry.uri}"


class Journal:
    """The journal of one job in a directory of its own; a context manager, safe for use by several threads.

    If ``directory`` is None it is temporary. ``job`` describes everything that the outputs depend on. Raises
    JournalError, and DefinitionError for a directory that was used with another description.
    """

    def __init__(self, directory: Path | None, job: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._temporary = (
            tempfile.TemporaryDirectory(prefix=temporary.build_prefix("transform")) if directory is None else None
        )
        self.directory = Path(self._temporary.name) if self._temporary is not None else directory or Path()
        self.spools = self.directory / "spools"
        self._lock_file: int | None = None
        try:
            self.spools.mkdir(parents=True, exist_ok=True)
            self._lock_directory()
            self._rows = sqlite3.connect(
                self.directory / "journal.sqlite", isolation_level=None, check_same_thread=False, timeout=30.0
            )
            self._open(job)
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise JournalError(
                f"{self.directory}: cannot write: {describe_error(error)}. Name another directory (--work)"
            ) from error
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def count_finished(self) -> tuple[int, int, int]:
        """Return the number of objects that earlier runs finished, of their records, and of their input bytes."""
        row = self._query(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(size), 0) FROM objects WHERE state = ?", (_DONE,)
        )
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def find(self, key: str) -> JournalEntry | None:
        """Return the state of the object behind a key, None if it is not recorded."""
        row = self._query(
            "SELECT uri, etag, state, run, records, size, offset, length FROM objects WHERE key = ?",
            (os.fsencode(key),),
        )
        return None if row is None else JournalEntry(os.fsdecode(row[0]), *row[1:])

    def admit(self, key: str, uri: str, etag: str) -> Admission:
        """Return what a run does with an object: the one rule for runs on this machine and on a cluster."""
        entry = self.find(key)
        if entry is None:
            return Admission("begin", None)
        is_same = entry.uri == uri and entry.etag == etag
        is_this_run = entry.run == self.run
        if is_this_run or entry.is_done:
            if is_same:
                return Admission("repeated" if is_this_run else "finished", entry)
            if entry.uri != uri:
                return Admission("conflict", entry)
        return Admission("resume" if is_same and entry.records else "begin", entry)

    def begin(self, key: str, uri: str, etag: str) -> None:
        """Record that an object is started from its beginning."""
        self._write(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, '', NULL)",
            (os.fsencode(key), os.fsencode(uri), etag, _IN_PROGRESS, self.run),
        )

    def resume(self, key: str) -> None:
        """Record that this run continues an object."""
        self._write("UPDATE objects SET run = ?, state = ? WHERE key = ?", (self.run, _IN_PROGRESS, os.fsencode(key)))

    def record_progress(self, key: str, records: int, offset: int, length: int) -> None:
        """Record how many records of an object are answered; their answers are the first ``length`` bytes on disk."""
        self._write(
            "UPDATE objects SET records = ?, offset = ?, length = ? WHERE key = ?",
            (records, offset, length, os.fsencode(key)),
        )

    def record_output(self, key: str, records: int, size: int, *, at_once: bool = False) -> None:
        """Record that the output of an object is on the disk; ``at_once`` flushes the row, for an expensive output."""
        self._write(
            "UPDATE objects SET state = ?, records = ?, size = ?, offset = 0, length = 0 WHERE key = ?",
            (_DONE, records, size, os.fsencode(key)),
            at_once=at_once,
        )

    def record_failure(self, key: str, reason: str, record: int | None) -> None:
        """Record that an object has no output; the next run starts it again."""
        self._write(
            "UPDATE objects SET state = ?, reason = ?, record = ?, records = 0, offset = 0, length = 0 WHERE key = ?",
            (_FAILED, reason, record, os.fsencode(key)),
        )

    def record_finished(self, objects: Sequence[FinishedObject]) -> None:
        """Record in one transaction what other processes have finished: the outputs are on the disk already."""
        rows = [
            (os.fsencode(finished.key), os.fsencode(finished.uri), finished.etag,
             _DONE if finished.reason is None else _FAILED, self.run,
             finished.records if finished.reason is None else 0, finished.size, finished.reason or "", finished.record)
            for finished in objects
        ]  # fmt: skip
        try:
            with self._lock:
                self._rows.execute("BEGIN")
                self._rows.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)", rows)
                self._rows.execute("COMMIT")
                self._flush_in_time()
        except sqlite3.Error as error:
            raise JournalError(f"{self.directory}: cannot write: {describe_error(error)}") from error

    def close(self) -> None:
        """Flush the last rows to the disk; remove a temporary journal."""
        if self._lock_file is None:
            return
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._rows.close()
        self._release()

    def _open(self, job: Mapping[str, Any]) -> None:
        self._rows.execute("PRAGMA cache_size = -256")  # in KiB: the rows of millions of objects stay on the disk
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = NORMAL")  # rows reach the disk with a checkpoint
        self._rows.execute("CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._rows.execute(
            "CREATE TABLE IF NOT EXISTS objects (key BLOB PRIMARY KEY, uri BLOB, etag TEXT, state INTEGER, run INTEGER,"
            " records INTEGER, size INTEGER, offset INTEGER, length INTEGER, reason TEXT, record INTEGER) WITHOUT ROWID"
        )
        values = {"version": _VERSION, **{name: json.dumps(value, sort_keys=True) for name, value in job.items()}}
        stored = dict(self._rows.execute("SELECT name, value FROM job"))
        run = int(stored.pop("run", "0"))
        if stored and stored != values:
            changed = sorted(name for name in {*stored, *values} if stored.get(name) != values.get(name))[0]
            raise DefinitionError(
                f"{self.directory}: holds the progress of another job (expected {changed} "
                f"{stored.get(changed, 'not set')}, got {values.get(changed, 'not set')}). Start again (--afresh), or "
                "name another directory (--work)"
            )
        self.run = run + 1
        self._rows.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", [*values.items(), ("run", str(self.run))])
        self._written = time.monotonic()

    def _lock_directory(self) -> None:
        """Keep other runs out of the directory; the kernel releases the lock when this process ends."""
        self._lock_file = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(f"{self.directory}: another run of this job is in progress") from error

    def _release(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def _query(self, statement: str, values: tuple[Any, ...]) -> Any:
        with self._lock:
            return self._rows.execute(statement, values).fetchone()

    def _write(self, statement: str, values: tuple[Any, ...], *, at_once: bool = False) -> None:
        try:
            with self._lock:
                self._rows.execute(statement, values)
                self._flush_in_time(at_once=at_once)
        except sqlite3.Error as error:
            raise JournalError(f"{self.directory}: cannot write: {describe_error(error)}") from error

    def _flush_in_time(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._written > _PERIOD:
            self._rows.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._written = time.monotonic()


def remove_progress(directory: Path) -> None:
    """Remove what a job kept in its work directory, and the directory if nothing else is in it."""
    for path in directory.glob("journal.sqlite*"):
        path.unlink(missing_ok=True)
    (directory / "lock").unlink(missing_ok=True)
    for path in (directory / "spools").glob("*"):
        if re.fullmatch(r"[0-9a-f]{64}(\.parquet)?", path.name):
            path.unlink(missing_ok=True)
    for path in (directory / "partial").glob("*"):
        if re.fullmatch(r"worker-[0-9]+", path.name):  # of a run on a cluster
            shutil.rmtree(path, ignore_errors=True)
    for path in (directory / "spools", directory / "partial", directory):
        with contextlib.suppress(OSError):  # it does not exist, or holds files of the user
            path.rmdir()
