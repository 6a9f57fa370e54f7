"""The journal: what a job has finished, so that the next run goes on from there. One SQLite database in a folder.

A row is written after what it tells of has reached the disk, never before. It outlasts the end of this process at once,
and a crash of the machine from the next second on; what such a crash makes to be done twice has the same output.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import DefinitionError, TritonForgeError

__all__ = ["Entry", "Journal", "JournalError", "forget"]

#: Seconds between two times that rows are brought to the disk.
_PERIOD: Final = 1.0

_VERSION: Final = "1"

_BEGUN, _DONE, _FAILED = range(3)


class JournalError(TritonForgeError):
    """The work folder cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of the object behind an output's key.

    ``records``, ``offset`` and ``length`` say how far a begun one is: records whose answers are in the stage, where in
    its content the next one starts, and how long the stage is.
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
        """Whether the output is where it belongs."""
        return self.state == _DONE


class Journal:
    """The journal of one job in a folder of its own; a context manager, for use by many threads.

    ``folder`` None keeps it in a temporary one. ``job`` describes what the outputs depend on: a folder that was begun
    with another description is refused. Raises JournalError, and DefinitionError for the folder of another job.
    """

    def __init__(self, folder: Path | None, job: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._temporary = tempfile.TemporaryDirectory(prefix=temporary.prefix("transform")) if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary is not None else folder or Path()
        self.stages = self.folder / "stages"
        self._held: int | None = None
        try:
            self.stages.mkdir(parents=True, exist_ok=True)
            self._hold()
            self._rows = sqlite3.connect(
                self.folder / "journal.sqlite", isolation_level=None, check_same_thread=False, timeout=30.0
            )
            self._open(job)
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise JournalError(
                f"{self.folder}: the job's progress cannot be kept there ({error}); name another folder (--work)"
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

    def before(self) -> tuple[int, int, int]:
        """How many objects earlier runs have finished, their records, and the size of their input in bytes."""
        row = self._ask(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(size), 0) FROM objects WHERE state = ?", (_DONE,)
        )
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def entry(self, key: str) -> Entry | None:
        """What is known of the object behind this key."""
        row = self._ask(
            "SELECT uri, etag, state, run, records, size, offset, length FROM objects WHERE key = ?", (_bytes(key),)
        )
        return None if row is None else Entry(os.fsdecode(row[0]), *row[1:])

    def begin(self, key: str, uri: str, etag: str) -> None:
        """An object is begun, from its start."""
        self._write(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, '', NULL)",
            (_bytes(key), _bytes(uri), etag, _BEGUN, self.run),
        )

    def resume(self, key: str) -> None:
        """A begun object is taken up by this run."""
        self._write("UPDATE objects SET run = ?, state = ? WHERE key = ?", (self.run, _BEGUN, _bytes(key)))

    def reached(self, key: str, records: int, offset: int, length: int) -> None:
        """So many records of an object are answered, and their answers are on the disk: ``length`` bytes of stage."""
        self._write(
            "UPDATE objects SET records = ?, offset = ?, length = ? WHERE key = ?",
            (records, offset, length, _bytes(key)),
        )

    def done(self, key: str, records: int, size: int, *, at_once: bool = False) -> None:
        """The output of an object is where it belongs, on the disk; ``at_once`` where it was a long way to it."""
        self._write(
            "UPDATE objects SET state = ?, records = ?, size = ?, offset = 0, length = 0 WHERE key = ?",
            (_DONE, records, size, _bytes(key)),
            at_once=at_once,
        )

    def failed(self, key: str, reason: str, record: int | None) -> None:
        """An object has no output; the next run begins it anew."""
        self._write(
            "UPDATE objects SET state = ?, reason = ?, record = ?, records = 0, offset = 0, length = 0 WHERE key = ?",
            (_FAILED, reason, record, _bytes(key)),
        )

    def close(self) -> None:
        """Bring the last rows to the disk; a temporary journal is removed."""
        if self._held is None:
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
        told = {"version": _VERSION, **{name: json.dumps(value, sort_keys=True) for name, value in job.items()}}
        kept = dict(self._rows.execute("SELECT name, value FROM job"))
        run = int(kept.pop("run", "0"))
        if kept and kept != told:
            changed = sorted(name for name in {*kept, *told} if kept.get(name) != told.get(name))[0]
            raise DefinitionError(
                f"{self.folder} holds the progress of another job: its {changed} was {kept.get(changed, 'not set')}, "
                f"now it is {told.get(changed, 'not set')}; remove that folder (--afresh), or name another (--work)"
            )
        self.run = run + 1
        self._rows.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", [*told.items(), ("run", str(self.run))])
        self._written = time.monotonic()

    def _hold(self) -> None:
        """Keep other runs out of the folder; the kernel lets go when this process ends, however it ends."""
        self._held = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(f"{self.folder}: another run of this job is under way") from error

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def _ask(self, statement: str, values: tuple[Any, ...]) -> Any:
        with self._lock:
            return self._rows.execute(statement, values).fetchone()

    def _write(self, statement: str, values: tuple[Any, ...], *, at_once: bool = False) -> None:
        try:
            with self._lock:
                self._rows.execute(statement, values)
                if at_once or time.monotonic() - self._written > _PERIOD:
                    self._rows.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                    self._written = time.monotonic()
        except sqlite3.Error as error:
            raise JournalError(f"{self.folder}: the job's progress cannot be kept there: {error}") from error


def forget(folder: Path) -> None:
    """Remove what a job kept in its work folder, and the folder where nothing else is in it; it need not be there."""
    for path in folder.glob("journal.sqlite*"):
        path.unlink(missing_ok=True)
    (folder / "lock").unlink(missing_ok=True)
    for path in (folder / "stages").glob("*"):
        if re.fullmatch(r"[0-9a-f]{64}(\.parquet)?", path.name):
            path.unlink(missing_ok=True)
    for each in (folder / "stages", folder / "halves", folder):
        with contextlib.suppress(OSError):  # not there, or somebody has put something in
            each.rmdir()


def _bytes(text: str) -> bytes:
    """A name as the file system has it, which is not always text."""
    return os.fsencode(text)
