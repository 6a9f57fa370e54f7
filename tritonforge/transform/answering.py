"""Answering: requests are asked, several as one where that is allowed, and answers become what is written of them."""

from __future__ import annotations

import queue
from typing import Any

from tritonforge.errors import TritonForgeError
from tritonforge.records import assemble
from tritonforge.transform.asker import Reply
from tritonforge.transform.asking import Asking, ServerUnavailableError, StoppedError
from tritonforge.transform.course import Course, Task
from tritonforge.transform.forms import json_lines, rows
from tritonforge.transform.objects import Answered

__all__ = ["Answerer"]


class Answerer:
    """What the asking threads do; each has one request under way."""

    def __init__(self, course: Course, asking: Asking) -> None:
        self._course = course
        self._asking = asking

    def work(self) -> None:
        """Ask until a None comes in place of a request."""
        following: Task | None = None  # taken out of the queue, and not fit to go with those before it
        while True:
            task, following = following or self._course.tasks.get(), None
            if task is None:
                return
            tasks = [task]
            if self._asking.gathering is not None and self._has_room(task, []):
                following = self._gather(tasks)
            try:
                self._answer(tasks)
            except BaseException as error:  # a defect of ours, told by the thread that waits
                self._course.end(repr(error), broken=error)

    def _gather(self, tasks: list[Task]) -> Task | None:
        """Take what waits, as far as it fits; gives the one that does not."""
        while True:
            try:
                task = self._course.tasks.get_nowait()
            except queue.Empty:
                return None
            if task is None:
                self._course.tasks.put(None)  # each thread needs one of its own
                return None
            if not self._has_room(task, tasks):
                return task
            tasks.append(task)

    def _has_room(self, task: Task, tasks: list[Task]) -> bool:
        gathering = self._asking.gathering
        return (
            gathering is not None and task.stream is None and gathering.fits(task.body, [each.body for each in tasks])
        )

    def _answer(self, tasks: list[Task]) -> None:
        replies: list[Reply] | None = None
        live = [task for task in tasks if task.underway.failure is None]
        if len(live) > 1 and not self._course.ended.is_set():
            try:
                replies = self._asking.several([task.body for task in live])
            except ServerUnavailableError as error:
                self._course.end(str(error))
        told = dict(zip(map(id, live), replies or (), strict=False))
        for task in tasks:
            self._settle(task, told.get(id(task)))

    def _settle(self, task: Task, reply: Reply | None) -> None:
        underway = task.underway
        answered = None
        try:
            if underway.failure is None:
                answered = self._answered(task, reply)
        except StoppedError:
            underway.interrupt()
        except ServerUnavailableError as error:
            underway.interrupt()
            self._course.end(str(error))
        except TritonForgeError as error:
            underway.fail(str(error), task.record)
        except BaseException:
            underway.interrupt()
            raise
        finally:
            if answered is not None:
                # How far a compressed object is, its records do not tell.
                self._course.answered(task.count, 0 if self._course.plan.compressed else task.span)
            if underway.settle(task.number, answered, task.size):
                self._course.finished.put(underway)

    def _answered(self, task: Task, reply: Reply | None) -> Answered:
        """What is written for a request; ``reply`` is its answer where it has one already."""
        plan = self._course.plan
        if reply is None:
            if self._course.ended.is_set():
                raise StoppedError("the run ends")
            if plan.processing is not None:
                body = plan.processing.request(task.body)
                reply = self._asking.one((lambda: iter((body,))) if plan.effective.chunked else (lambda: body))
            else:
                reply = self._asking.one(task.stream or (lambda: task.body))
        dtype: Any = None
        if plan.form == "jsonl":
            pieces: tuple[bytes, ...] = (json_lines(reply.body, reply.headers), b"\n")
        elif plan.form == "container":
            kept = reply.body if plan.processing is None else plan.processing.output(task.body, reply.body)
            pieces = tuple(map(bytes, assemble([kept], plan.assemble_with)))
        else:
            table = rows(reply.body, reply.headers)
            pieces, dtype = (table.tobytes(),), table.dtype
        return Answered(pieces, task.count, task.end, task.size, dtype)
