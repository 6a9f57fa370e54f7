"""The outline of a config.pbtxt, and its indentation. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.language_server.blocks import Block, read_blocks
from tritonforge.language_server.positions import Span
from tritonforge.pbtxt.tokens import MAXIMAL_CHARACTERS, MAXIMAL_TOKENS, SYMBOL, tokenize

__all__ = ["Symbol", "indent_lines", "list_symbols"]

#: Levels of messages that an outline has; model_config.proto has fewer.
_MAXIMAL_DEPTH: Final = 8
_MAXIMAL_SYMBOLS: Final = 5000
#: The fields whose value names a message, in the order in which they are looked for.
_NAMES: Final = ("name", "model_name", "key", "target_name", "input_name", "kind")
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class Symbol:
    """One entry of the outline: a message or a map's entry, with the place of its name, and the messages in it."""

    name: str
    detail: str
    span: Span
    name_span: Span
    symbols: Sequence[Symbol]


def list_symbols(text: str) -> list[Symbol]:
    """Return the outline of a text, valid or not; of a very long one, the first part."""
    left = [_MAXIMAL_SYMBOLS]
    return _list_symbols(read_blocks(text), _MAXIMAL_DEPTH, left)


def _list_symbols(block: Block, depth: int, left: list[int]) -> list[Symbol]:
    symbols: list[Symbol] = []
    for inner in block.blocks if depth else ():
        if left[0] <= 0:
            break
        left[0] -= 1
        named = next((field for field in _NAMES if inner.values.get(field)), None)
        detail = inner.values.get("value", "") if inner.name in ("input_map", "output_map") else ""
        name_span = inner.places[named] if named is not None else Span(inner.start, inner.name_end)
        symbols.append(
            Symbol(
                name=f"{inner.name} {inner.values[named]}" if named is not None else inner.name,
                detail=detail,
                span=inner.span,
                name_span=name_span,
                symbols=_list_symbols(inner, depth - 1, left),
            )
        )
    return symbols


def indent_lines(text: str) -> list[tuple[Span, str]]:
    """Return the indentation that each line should have, with the span of the one that it has, where they differ.

    Only white space at the start of lines changes. A text with brackets that do not match is left as it is.
    """
    tokens = tokenize(text[:MAXIMAL_CHARACTERS], limit=MAXIMAL_TOKENS)
    if not tokens.complete or tokens.problems or len(text) > MAXIMAL_CHARACTERS:
        return []
    brackets = [
        (offset, word)
        for kind, word, offset in zip(tokens.kinds, tokens.texts, tokens.offsets, strict=True)
        if kind == SYMBOL and word in "{[<}]>"
    ]
    if "\r" in text.replace("\r\n", ""):
        return []
    edits: list[tuple[Span, str]] = []
    depth = at = start = 0
    for line in text.split("\n"):
        content = line.lstrip()
        position = start + len(line) - len(content)
        indent = depth
        leads = True  # only brackets so far
        while at < len(brackets) and brackets[at][0] <= start + len(line):
            offset, word = brackets[at]
            leads = leads and not text[position:offset].strip(" \t,;")
            position = offset + 1
            depth += 1 if word in "{[<" else -1
            if leads and word in "}]>":
                indent = min(indent, depth)
            leads = leads and word in "}]>"
            at += 1
        if depth < 0:
            return []
        white = Span(start, start + len(line) - len(line.lstrip(" \t")))
        if content and text[white.start : white.end] != _INDENT * indent:
            edits.append((white, _INDENT * indent))
        start += len(line) + 1
    return edits if depth == 0 else []
