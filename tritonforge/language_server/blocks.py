"""The blocks of a config.pbtxt that is being written, valid or not. No I/O.

The parser of `tritonforge.pbtxt` finds what the server refuses. This module finds where an offset is, and what spans a
message has, also in a text with missing brackets and values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tritonforge.language_server.positions import Span
from tritonforge.pbtxt.document import FieldKind, FieldSpec, MessageSpec, root_spec
from tritonforge.pbtxt.tokens import (
    END,
    IDENTIFIER,
    MAXIMAL_CHARACTERS,
    MAXIMAL_TOKENS,
    NUMBER,
    STRING,
    SYMBOL,
    tokenize,
    unquote,
)

__all__ = ["Block", "Cursor", "find_block", "find_cursor", "read_blocks"]

#: What decides where a line is in a string or a comment: a string, complete or not, or a comment.
_SCANNED: Final = re.compile(r""""(?:[^"\\\n]|\\[^\n])*("?)|'(?:[^'\\\n]|\\[^\n])*('?)|#[^\n]*""")
_WORD: Final = re.compile(r"\w*\Z", re.ASCII)
_WORD_REST: Final = re.compile(r"\w*", re.ASCII)
_STRING_REST: Final = re.compile(r"(?:[^\"'\\\n]|\\[^\n])*")


@dataclass(slots=True)
class Block:
    """A message in the text; the root block is the whole text.

    ``spec`` is None in a field that its message does not have. ``span`` is from the field's name to the closing
    bracket. ``fields`` are the fields in it with the place of the name, ``values`` the strings and words that are their
    values, by field, and ``places`` where these are.
    """

    name: str
    spec: MessageSpec | None
    start: int
    parent: Block | None = None
    end: int = -1
    name_end: int = -1
    fields: list[tuple[str, Span]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    is_list: bool = False
    listed: FieldSpec | None = None

    @property
    def span(self) -> Span:
        """The part of the text that it covers."""
        return Span(self.start, max(self.start, self.end))

    @property
    def names(self) -> set[str]:
        """The names of the fields in it."""
        return {name for name, _ in self.fields}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where an offset is: the block, and the field whose value is there, None where a field's name is.

    ``is_value`` is True at a value, also of a field that does not exist. ``typed`` is what is before the offset of the
    word or string, without its quote; ``span`` is all of the word or string, quotes included.
    """

    block: Block
    field: FieldSpec | None
    is_value: bool
    is_string: bool
    typed: str
    span: Span


def read_blocks(text: str) -> Block:
    """Return the root block of a text; of more text than is checked, the first part."""
    walker = _Walker(text[:MAXIMAL_CHARACTERS])
    walker.run()
    return walker.root


def find_block(root: Block, start: int) -> Block | None:
    """Return the block that begins at an offset; None where none does."""
    pending = [root]
    while pending:
        block = pending.pop()
        if block.start == start:
            return block
        pending += [inner for inner in block.blocks if inner.start <= start]
    return None


def find_cursor(text: str, offset: int) -> Cursor | None:
    """Return where an offset is; None in a comment, or behind what is checked."""
    if offset > MAXIMAL_CHARACTERS:
        return None
    line = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    start, is_string = offset - len(_find_word(text[line:offset])), False
    for match in _SCANNED.finditer(text, line):
        if match.start() >= offset:
            break
        if match.group().startswith("#"):
            return None
        closed = bool(match[1] or match[2])
        if offset < match.end() or (offset == match.end() and not closed):
            start, is_string = match.start(), True
    walker = _Walker(text[:start])
    walker.run()
    if is_string:
        rest = _STRING_REST.match(text, offset)
        end = rest.end() if rest is not None else offset
        end += text[end : end + 1] == text[start]
        typed = text[start + 1 : offset]
    else:
        rest = _WORD_REST.match(text, offset)
        end = rest.end() if rest is not None else offset
        typed = text[start:offset]
    block = walker.block
    spec = block.listed if block.is_list else walker.pending
    # A value may be on the next line; where none is written yet, a field is what follows.
    is_value = block.is_list or (walker.has_pending and walker.has_colon and "\n" not in text[walker.colon : start])
    while block.is_list and block.parent is not None:
        block = block.parent
    return Cursor(block, spec if is_value else None, is_value, is_string, typed, Span(start, end))


def _find_word(text: str) -> str:
    match = _WORD.search(text)
    return match.group() if match is not None else ""


class _Walker:
    """Walks over the tokens of a text; ``block`` and ``pending`` are those at its end."""

    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text, limit=MAXIMAL_TOKENS)
        self.root = self.block = Block("", root_spec(), 0, end=len(text))
        self.pending: FieldSpec | None = None
        self.has_pending = self.has_colon = False
        self.colon = 0
        self._name = ""
        self._name_start = self._name_end = 0

    def run(self) -> None:
        """Walk to the end of the text."""
        tokens = self._tokens
        offsets = tokens.offsets
        for kind, word, offset in zip(tokens.kinds, tokens.texts, offsets, strict=True):
            if kind == END:
                break
            if kind == IDENTIFIER and self._is_field(word):
                self._begin_field(word, offset)
            elif kind in (IDENTIFIER, STRING, NUMBER):
                self._add_value(unquote(word) if kind == STRING else word, offset, len(word))
            elif kind == SYMBOL and word == ":":
                self.has_colon, self.colon = True, offset
            elif kind == SYMBOL and word in "{<":
                self._open(offset)
            elif kind == SYMBOL and word == "[" and self.has_pending:
                self._push(Block(self._name, None, offset, self.block, is_list=True, listed=self.pending))
                self.has_pending = False
            elif kind == SYMBOL and word in "}>":
                self._close(offset + 1)
            elif kind == SYMBOL and word == "]" and self.block.is_list:
                self._pop(offset + 1)
            elif kind == SYMBOL and word in ",;" and not self.block.is_list:
                self.has_pending = False
        block: Block | None = self.block
        while block is not None:
            block.end = max(block.end, self.root.end)
            block = block.parent

    def _is_field(self, word: str) -> bool:
        """Return True if a word is a field's name; where a value is missing, the word may be the next field."""
        if self.block.is_list:
            return False
        if not self.has_pending or not self.has_colon:
            return True
        spec, pending = self.block.spec, self.pending
        if spec is None or pending is None or word not in spec.fields:
            return False
        return pending.kind not in (FieldKind.ENUM, FieldKind.BOOL) or word not in (*pending.names, "t", "f")

    def _begin_field(self, word: str, offset: int) -> None:
        self.block.fields.append((word, Span(offset, offset + len(word))))
        self.pending = self.block.spec.fields.get(word) if self.block.spec is not None else None
        self.has_pending, self.has_colon = True, False
        self._name, self._name_start, self._name_end = word, offset, offset + len(word)

    def _add_value(self, value: str, offset: int, length: int) -> None:
        if not self.block.is_list:
            self.block.values[self._name] = value
            self.block.places[self._name] = Span(offset, offset + length)
            self.has_pending = False

    def _open(self, offset: int) -> None:
        listed = self.block.is_list
        field_spec = self.block.listed if listed else self.pending if self.has_pending else None
        spec = field_spec.message if field_spec is not None and field_spec.kind == FieldKind.MESSAGE else None
        start = offset if listed else self._name_start
        name = self.block.name if listed else self._name
        self._push(Block(name, spec, start, self.block, name_end=offset + 1 if listed else self._name_end))
        self.has_pending = False

    def _push(self, block: Block) -> None:
        if not block.is_list:
            parent = self.block
            while parent.is_list and parent.parent is not None:
                parent = parent.parent
            parent.blocks.append(block)
        self.block = block

    def _close(self, end: int) -> None:
        """Close the innermost message, and the lists in it that are still open."""
        block = self.block
        while block.is_list and block.parent is not None:
            block = block.parent
        if block.parent is not None:
            block.end = end
            self.block = block.parent
        self.has_pending = False

    def _pop(self, end: int) -> None:
        self.block.end = end
        if self.block.parent is not None:
            self.block = self.block.parent
        self.has_pending = False
