"""Delivering: objects that are over get their output, or are counted as failed, or are left for the next run."""

from __future__ import annotations

from pathlib import Path

from tritonforge.errors import TritonForgeError
from tritonforge.transform import tables
from tritonforge.transform.course import Course
from tritonforge.transform.objects import Underway
from tritonforge.transform.places import PlaceError

__all__ = ["Deliverer"]


class Deliverer:
    """What the delivering threads do."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def work(self) -> None:
        """Deliver until a None comes in place of an object."""
        course = self._course
        while (underway := course.finished.get()) is not None:
            self._deliver(underway)

    def _deliver(self, underway: Underway) -> None:
        course = self._course
        try:
            self._over(underway)
        except TritonForgeError as error:  # the work folder, the journal, or an output that no object can have
            course.end(str(error))
        except OSError as error:
            course.end(f"{course.journal.folder}: the answers cannot be kept there: {error.strerror or error}")
        except BaseException as error:  # a defect of ours, told by the thread that waits
            course.end(repr(error), broken=error)

    def _over(self, underway: Underway) -> None:
        course = self._course
        large = False
        if underway.failure is None and not underway.interrupted:
            try:
                content = underway.output()
                large = isinstance(content, Path)
                course.sink.put(self._formed(content), course.target(underway.key))
            except PlaceError as error:
                if error.hopeless:
                    raise
                underway.fail(str(error), None)
        if underway.failure is not None:
            reason, record = underway.failure
            course.journal.failed(underway.key, reason, record)
            course.failed(underway.found.uri, reason, record)
            underway.forget()
        elif underway.interrupted:
            course.unfinished = True
            underway.suspend()
        else:
            # In this order: what the journal tells of is on the disk.
            course.journal.done(underway.key, underway.records, underway.found.size, at_once=large)
            underway.forget()
            course.done(underway.found.size if course.plan.compressed else 0)

    def _formed(self, content: bytes | Path) -> bytes | Path:
        form = self._course.plan.form
        if form == "npy":
            return tables.finished_npy(content)
        return tables.finished_parquet(content) if form == "parquet" else content
