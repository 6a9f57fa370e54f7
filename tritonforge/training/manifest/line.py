"""A line of an augmented manifest: read from a stream, and written again. No I/O.

An augmented manifest is JSON Lines: one JSON object a line, UTF-8. Source: SageMaker developer guide, "Augmented
Manifest Files for Training Jobs".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tritonforge.errors import ManifestError
from tritonforge.records import Buffer, RecordError, split
from tritonforge.training.manifest.values import Json, json_text, read_json

__all__ = ["LONGEST", "Line", "parse", "raw_lines", "read"]

#: Bytes of the longest line that is read; what Ground Truth writes for a picture has some thousand.
LONGEST: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, counted from 1, its attributes in their order, and its bytes as they stood."""

    number: int
    attributes: Mapping[str, Json]
    text: bytes = field(default=b"", repr=False, compare=False)

    def written(self) -> bytes:
        """The line in canonical form, with its line feed: no blanks, the attributes in their order, UTF-8."""
        return json_text(self.attributes) + b"\n"

    def error(self, attribute: str, what: str) -> ManifestError:
        """What is wrong with an attribute of this line."""
        return ManifestError(what, line=self.number, attribute=attribute)


def read(chunks: Iterable[Buffer], *, longest: int = LONGEST) -> Iterator[Line]:
    """The lines of an augmented manifest, one after another, as its bytes arrive; at most one chunk and line are held.

    The chunks may be cut anywhere; an open binary file is one, too. Raises ManifestError, after every line before the
    damage was given out, and whatever ``chunks`` raises.
    """
    for number, text in raw_lines(chunks, longest=longest):
        yield parse(text, number)


def raw_lines(chunks: Iterable[Buffer], *, longest: int = LONGEST) -> Iterator[tuple[int, bytes]]:
    """The number and the bytes of each line, without its line feed; for who parses some of them, or later.

    Raises ManifestError for a line of more than ``longest`` bytes.
    """
    number = 0
    try:
        for record in split(chunks, "Line", max_record=longest):
            number = record.number + 1
            yield number, bytes(record.payload)
    except RecordError as error:
        what = f"the line is longer than {longest} bytes; nothing after it was read"
        raise ManifestError(what, line=number + 1) from error


def parse(text: bytes | str, number: int = 1) -> Line:
    """One line. Raises ManifestError where it is no JSON object in UTF-8, or can be read in two ways."""
    value = read_json(text, number=number)
    if isinstance(value, dict):
        return Line(number, value, text.encode() if isinstance(text, str) else bytes(text))
    found = "an array; is this a classic manifest?" if isinstance(value, list) else f"{json_text(value).decode():.40}"
    raise ManifestError(f"the line must be a JSON object, found {found}", line=number)
