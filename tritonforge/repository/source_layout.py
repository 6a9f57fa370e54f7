"""Python source of literals and calls, laid out as ruff formats it. This module does no I/O.

An expression that fits is written on one line; another one is split, an element on each line, with a trailing comma,
which keeps ruff from joining the lines. `quote` is the only way from a text of a repository into the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tritonforge.escaping import escape_line

__all__ = ["LINE_LENGTH", "Atom", "Group", "Item", "Node", "format_comment", "join_blocks", "layout",
           "list_items", "quote", "quote_block", "quote_docstring"]  # fmt: skip

#: The line length of this project's own definitions.
LINE_LENGTH: Final = 120

_INDENT: Final = "    "
#: What Python's `repr` leaves as it is and that editors and terminals may not show as it is.
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Atom:
    """Source that is not split, such as a literal or a name."""

    text: str


@dataclass(slots=True)
class Item:
    """An element of a group: ``prefix`` is before its value (``name=``, ``"key": ``).

    ``place`` is the field of the configuration that it shows. ``above`` are lines of comment before it, ``behind`` is a
    comment on its line.
    """

    value: Node
    prefix: str = ""
    place: str = ""
    above: list[str] = field(default_factory=list)
    behind: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A call, list or dictionary: an opening text that ends in a bracket, its elements, and the closing bracket."""

    opening: str
    items: Sequence[Item]
    closing: str


Node: TypeAlias = Atom | Group


def layout(node: Node, *, prefix: str = "", depth: int = 0, suffix: str = "", is_split: bool = False) -> list[str]:
    """Return the lines of an expression behind ``prefix``, at a depth of indentation; ``suffix`` follows it.

    With ``is_split`` its elements are on lines of their own also where they fit on one.
    """
    indent = _INDENT * depth
    flat = None if is_split else _flatten(node)
    if isinstance(node, Atom) or (flat is not None and _fits(f"{indent}{prefix}{flat}{suffix}")) or not node.items:
        whole = node.text if isinstance(node, Atom) else f"{node.opening}{node.closing}"
        return f"{indent}{prefix}{flat if flat is not None else whole}{suffix}".split("\n")
    lines = [f"{indent}{prefix}{node.opening}"]
    for item in node.items:
        inner = layout(item.value, prefix=item.prefix, depth=depth + 1, suffix=",")
        above = list(item.above)
        if item.behind and len(inner) == 1 and _fits(f"{inner[0]}  {format_comment(item.behind)}"):
            inner = [f"{inner[0]}  {format_comment(item.behind)}"]
        elif item.behind:
            above.append(item.behind)
        lines += [f"{indent}{_INDENT}{format_comment(text)}".rstrip() for text in above]
        lines += inner
    return [*lines, f"{indent}{node.closing}{suffix}"]


def _flatten(node: Node) -> str | None:
    """Return an expression on one line; None where a comment or a text of several lines prevents it."""
    if isinstance(node, Atom):
        return None if "\n" in node.text else node.text
    parts = []
    for item in node.items:
        flat = _flatten(item.value)
        if flat is None or item.above or item.behind:
            return None
        parts.append(f"{item.prefix}{flat}")
    return f"{node.opening}{', '.join(parts)}{node.closing}"


def _fits(line: str) -> bool:
    return len(line) <= LINE_LENGTH and line.isascii()


def list_items(node: Node) -> Iterator[Item]:
    """Yield every element of an expression, outer ones first."""
    pending: list[Node] = [node]
    while pending:
        group = pending.pop()
        if isinstance(group, Group):
            yield from group.items
            pending += [item.value for item in group.items]


def format_comment(text: str) -> str:
    r"""Return a comment line; what could end the line is escaped.

    >>> print(format_comment("a\rimport os"))
    # a\u000dimport os
    """
    words = escape_line(text.expandtabs(4)).rstrip()
    return f"# {words}" if words else "#"


def quote(text: str) -> str:
    r"""Return a string literal in the quotes that ruff chooses; whatever is not printable ASCII is escaped.

    >>> print(quote('a"b'), quote("c'd\n"))
    'a"b' "c'd\n"
    """
    mark = "'" if text.count('"') > text.count("'") else '"'
    return f"{mark}{_escape(text, mark)}{mark}"


def _escape(text: str, mark: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    escaped = escaped.replace(mark, f"\\{mark}")
    return _UNPRINTABLE.sub(_escape_character, escaped)


def _escape_character(match: re.Match[str]) -> str:
    """Return printable letters as they are, and an escape of everything else."""
    character = match[0]
    if character.isalnum() or (character.isprintable() and escape_line(character) == character):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote_docstring(text: str) -> str:
    """Return a docstring of one line."""
    return f'"""{_escape(text, chr(34))}"""'


def quote_block(text: str) -> str:
    """Return a string literal of several lines for a text of printable ASCII lines, each ended by a newline."""
    lines = (_escape(line, "\0") for line in text.removesuffix("\n").split("\n"))
    body = "\n".join(lines).replace('"""', '\\"\\"\\"')
    return f'"""\n{body}\n"""'


def join_blocks(blocks: Iterable[Sequence[str]]) -> str:
    """Return the text of blocks of lines, with an empty line between them."""
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"
