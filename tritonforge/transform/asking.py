"""Asking: a body becomes an answer, with the retries that the job allows, whatever happens to the model's server.

A failing request is sent again as often as `InvocationsMaxRetries` says. One whose server ended under it goes alone
from then on, so that a record that ends the server takes no other record with it; one that never reached the server
costs no retry.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tritonforge.errors import ConnectError, DecodeError, TritonForgeError
from tritonforge.inference.wire import decode_error
from tritonforge.records import Buffer
from tritonforge.transform.asker import Asker, Reply, ServerLostError
from tritonforge.transform.gathering import Gathering

__all__ = ["Asking", "RefusedError", "ServerUnavailableError", "StoppedError"]

_OK: Final = 200

#: Seconds before the first retry; doubled for each further one.
_PAUSE: Final = 0.05

#: Seconds between two looks at whether the job was stopped, while the server is away.
_LOOK: Final = 0.1

#: How often a request may find no server although it is said to be back.
_UNREACHED: Final = 20


class RefusedError(TritonForgeError):
    """A record got no answer: what the model said, after so many attempts."""


class StoppedError(TritonForgeError):
    """The job was stopped before the record had its answer."""


class ServerUnavailableError(TritonForgeError):
    """The model's server ended, and does not come back."""


class Asking:
    """How one job asks; for use by many threads. ``stop`` ends the waiting, not a request that is under way."""

    def __init__(
        self,
        asker: Asker,
        *,
        content_type: str | None,
        accept: str | None,
        timeout: float,
        retries: int,
        stop: threading.Event,
        gathering: Gathering | None = None,
        trusted: bool = False,
        note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._asker = asker
        self._headers = {
            **({} if content_type is None else {"Content-Type": content_type}),
            **({} if accept is None else {"Accept": accept}),
        }
        self._timeout = timeout
        self._retries = retries
        self._stop = stop
        self._alone = threading.Lock()
        self._up = threading.Event()
        self._up.set()
        self._compared = threading.Lock()
        self._trusted = trusted
        self._note = note
        self.gathering = gathering

    def one(self, body: Callable[[], Buffer | Iterator[Buffer]]) -> Reply:
        """The answer of status 200 to one body, which is made anew for each attempt.

        Raises RefusedError, StoppedError, ServerUnavailableError, and what ``body`` raises.
        """
        failed, unreached = 0, 0
        suspect = False
        while True:
            try:
                reply = self._sent(body(), self._headers, alone=suspect)
            except ServerLostError as error:
                if error.received:
                    suspect = True
                    failed += 1
                else:
                    unreached += 1
                if unreached > _UNREACHED:
                    raise ServerUnavailableError(str(error)) from error
                reason = str(error)
            except ConnectError as error:
                failed += 1
                reason = str(error)
            else:
                if reply.status == _OK:
                    return reply
                failed += 1
                said = decode_error(reply.body)
                reason = f"the model answered {reply.status}{f': {said}' if said else ''}"
            if failed > self._retries:
                raise RefusedError(f"{reason}{f' (asked {failed} times)' if failed > 1 else ''}")
            if self._stop.wait(_PAUSE * 2 ** max(0, failed - 1)):
                raise StoppedError(reason)

    def several(self, bodies: Sequence[Buffer]) -> list[Reply] | None:
        """Return the answers to records that go as one request; None where they must go one by one.

        Raises ServerUnavailableError.
        """
        gathering = self.gathering
        if gathering is None or len(bodies) < 2:
            return None
        body, content_type = gathering.request(bodies)
        try:
            reply = self._sent(body, {**self._headers, "Content-Type": content_type}, alone=False)
            if reply.status != _OK:
                return None
            answers = [
                Reply(_OK, told, each) for each, told in gathering.answers(reply.body, reply.headers, len(bodies))
            ]
            if self._trusted or self._equal(answers[0], bodies[0]):
                return answers
        except (ConnectError, DecodeError, RefusedError, StoppedError):
            pass  # each record finds out for itself
        return None

    def _equal(self, answer: Reply, body: Buffer) -> bool:
        """Whether gathering changes nothing: once in a job, one record is asked for alone as well."""
        with self._compared:
            if self._trusted or self.gathering is None:
                return self._trusted
            alone = self.one(lambda: body)
            if alone.body == answer.body:
                self._trusted = True
            else:
                self.gathering = None
                self._note(
                    "records are sent one by one: this model's numbers for a record depend on what else is in the batch"
                )
            return self._trusted

    def _sent(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, alone: bool) -> Reply:
        with self._alone if alone else contextlib.nullcontext():
            while not (self._up.wait(_LOOK) or self._stop.is_set()):
                pass
            try:
                return self._asker.ask(body, headers, timeout=self._timeout)
            except ServerLostError:
                # Whoever comes next would run into what is left of the server, and count that as a failure.
                self._up.clear()
                try:
                    self._asker.recover(self._stop)
                except TritonForgeError as lost:
                    raise ServerUnavailableError(str(lost)) from lost
                finally:
                    self._up.set()
                raise
