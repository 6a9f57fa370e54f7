"""Follows the requests of one connection to a published port, so that each is checked. This module does no I/O.

The program behind the port may be any: what does not begin as an HTTP/1 request is passed on as it is, for no browser
can begin a connection so. Where it does, every request's head is read, to refuse those of web pages
(`tritonforge.request_origin`), and its body is followed to its end, where the next head begins. What two readers could
frame in different ways is refused (RFC 9112, sections 6.3 and 11.2).
"""

from __future__ import annotations

import re
from typing import Final

from tritonforge import request_origin

__all__ = ["Refused", "RequestGate"]

#: Bytes that a head may have, and the line of a chunk's size.
_HEAD: Final = 64 * 1024
_LINE: Final = 8 * 1024

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} ")
_METHOD_BEGUN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,32}")
_REQUEST: Final = re.compile(rb"[^ ]+ (?P<target>[^ ]+) HTTP/1\.[01]")
_HEADER: Final = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\r\0]*)")
_CHUNK: Final = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

#: HTTP/2 without TLS, as gRPC has it; browsers have it with TLS only.
_HTTP2: Final = b"PRI * HTTP/2.0"


class Refused(Exception):  # noqa: N818  # it carries an answer; nothing failed
    """A request that may not pass: ``status`` and the sentence of the answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class RequestGate:
    """One connection's requests; ``port`` is the published one, which the header Host must name."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._state = "start"  # head, body, size, data, data end, trailers, or other
        self._pending = bytearray()
        self._left = 0

    def pass_on(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Take bytes as they come, and give those that may be sent on now; raises Refused."""
        if self._state == "other":
            return [data]
        sent: list[bytes | memoryview] = []
        rest = memoryview(data)
        while len(rest):
            if self._state == "other":
                sent.append(rest)
                break
            if self._state in ("body", "data"):
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                sent.append(piece)
                if self._left == 0:
                    self._state = "head" if self._state == "body" else "data end"
                continue
            taken = self._line_ends(rest)
            self._pending += rest[:taken]
            rest = rest[taken:]
            if (passed := self._judged()) is not None:
                sent.append(passed)
        return sent

    def end(self) -> bytes:
        """What is left at the connection's end; a head that was not completed is not passed on."""
        left = bytes(self._pending) if self._state in ("start", "other") and b"\n" not in self._pending else b""
        self._pending.clear()
        return left

    def _line_ends(self, rest: memoryview) -> int:
        """The bytes of ``rest`` that belong to the line that is being read."""
        for window in (256, _HEAD):  # most lines are short, and the window is copied for each
            if (found := bytes(rest[:window]).find(b"\n")) >= 0:
                return found + 1
        return min(len(rest), _HEAD)

    def _judged(self) -> bytes | None:
        """What may be sent of the pending bytes, which end where a line ends or where the data did."""
        if self._state == "start":
            return self._begun()
        if self._state == "head":
            return self._head()
        limit = _HEAD if self._state == "trailers" else _LINE
        if not self._pending.endswith(b"\n"):
            if len(self._pending) > limit:
                raise Refused(400, "the body is not framed as HTTP/1.1 requires")
            return None
        line = bytes(self._pending)
        self._pending.clear()
        text = line.rstrip(b"\r\n")
        if self._state == "size":
            size = _CHUNK.fullmatch(text)
            if size is None:
                raise Refused(400, "the body is not framed as HTTP/1.1 requires")
            self._left = int(size["size"], 16)
            self._state = "data" if self._left else "trailers"
        elif self._state == "data end":
            if text:
                raise Refused(400, "the body is not framed as HTTP/1.1 requires")
            self._state = "size"
        elif not text:  # the line that ends the trailers
            self._state = "head"
        return line

    def _begun(self) -> bytes | None:
        pending = bytes(self._pending)
        if pending.startswith(_HTTP2) or not (_METHOD.match(pending) or _METHOD_BEGUN.fullmatch(pending)):
            self._state = "other"
            self._pending.clear()
            return pending
        if not _METHOD.match(pending) or (len(pending) < len(_HTTP2) and _HTTP2.startswith(pending)):
            return None  # more is needed to know
        self._state = "head"
        return self._head()

    def _head(self) -> bytes | None:
        if not self._pending.endswith((b"\n\r\n", b"\n\n")):
            if len(self._pending) > _HEAD:
                raise Refused(431, f"the head of the request has more than {_HEAD} bytes")
            if self._pending.endswith(b"\n") and not self._pending.strip():  # an empty line between requests
                self._pending.clear()
                return b"\r\n"
            return None
        pending = bytes(self._pending)
        self._pending.clear()
        first, *lines = (line.removesuffix(b"\r") for line in pending.rstrip(b"\r\n").split(b"\n"))
        request = _REQUEST.fullmatch(first)
        headers = [_HEADER.fullmatch(line) for line in lines]
        if request is None or None in headers:
            raise Refused(400, "this is not a request of HTTP/1.1")
        named = [(each["name"].decode(), each["value"].decode("latin-1").strip()) for each in headers if each]
        if sentence := request_origin.refusal(named, port=self._port, target=request["target"].decode("latin-1")):
            raise Refused(403, sentence)
        self._follow(named)
        return pending

    def _follow(self, headers: list[tuple[str, str]]) -> None:
        """What comes after a head."""
        lengths = {value for name, value in headers if name.lower() == "content-length"}
        encodings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
        if "upgrade" in ",".join(value.lower() for name, value in headers if name.lower() == "connection"):
            self._state = "other"
        elif encodings:
            if lengths or encodings != ["chunked"]:
                raise Refused(400, "the body is not framed as HTTP/1.1 requires")
            self._state = "size"
        elif lengths:
            length = lengths.pop()
            if lengths or not re.fullmatch(r"[0-9]{1,15}", length):
                raise Refused(400, "the body is not framed as HTTP/1.1 requires")
            self._left = int(length)
            self._state = "body" if self._left else "head"
        else:
            self._state = "head"
