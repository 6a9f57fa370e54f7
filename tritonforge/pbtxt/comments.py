"""The comments of a config.pbtxt, with the fields that they describe. No I/O.

The tokenizer skips comments. This module finds them in the text of a parsed document, so that the parser stays as fast
as it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from tritonforge.pbtxt.document import Document, Message

__all__ = ["Comment", "list_comments"]

#: A string, or a comment (group 1). A string ends on its line.
_SCANNED: Final = re.compile(r""""(?:[^"\\\n]|\\[^\n])*"?|'(?:[^'\\\n]|\\[^\n])*'?|#([^\n]*)""")
#: What may follow a comment before the next value: the closing bracket of the message that it is in.
_BLANK: Final = re.compile(r"(?:[ \t\r\n\v\f,;]+|#[^\n]*)*")


@dataclass(frozen=True, slots=True)
class Comment:
    """One line of comment: its text without ``#``, and the place of the field that it describes (`Node.path`).

    ``is_trailing`` is True behind the field on its line. ``is_heading`` is True at the start of the text, with an empty
    line behind: the comment is about the whole file, and ``path`` is "".
    """

    text: str
    path: str
    is_trailing: bool = False
    is_heading: bool = False


def list_comments(document: Document) -> list[Comment]:
    """Return the comments of a text without problems, in their order."""
    text = document.source
    if "#" not in text:
        return []
    offsets, paths = _list_values(document)
    comments = []
    heading = _find_heading_end(text)
    for match in _SCANNED.finditer(text):
        if match[1] is None:
            continue
        start, words = match.start(), match[1].removeprefix(" ").rstrip()
        if match.end() <= heading:
            comments.append(Comment(words, "", is_heading=True))
            continue
        line = text.rfind("\n", 0, start) + 1
        first = bisect_left(offsets, line)
        before = bisect_right(offsets, start)
        if first < before:
            comments.append(Comment(words, paths[first], is_trailing=True))
            continue
        following = _BLANK.match(text, match.end())
        closes = following is None or text[following.end() : following.end() + 1] in ("}", "]", ">", "")
        at = before - 1 if closes or text[line:start].strip() in ("}", "]", ">") else before
        comments.append(Comment(words, paths[at] if 0 <= at < len(paths) else ""))
    return comments


def _find_heading_end(text: str) -> int:
    """Return the end of the comments at the start of a text that an empty line separates from its first field; 0."""
    end = at = 0
    for line in text.splitlines(keepends=True):
        if not line.strip():
            end = at
        elif not line.lstrip().startswith("#"):
            break
        at += len(line)
    return end


def _list_values(document: Document) -> tuple[list[int], list[str]]:
    """Return the offsets of all values, ascending, and their places."""
    values: list[tuple[int, str]] = []
    pending: list[Message] = [document]
    while pending:
        message = pending.pop()
        for nodes in message.fields.values():
            for node in nodes:
                values.append((node.offset, node.path))
                if isinstance(node, Message):
                    pending.append(node)
    values.sort()
    return [offset for offset, _ in values], [path for _, path in values]
