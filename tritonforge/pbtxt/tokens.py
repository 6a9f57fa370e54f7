"""The tokens of protobuf's text format, with the verdicts of the C++ tokenizer. No I/O.

Source: google/protobuf/io/tokenizer.cc as `TextFormat::Parse` sets it up: comments start with ``#``, a string ends on
its line, a space is required between a number and a letter.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["END", "IDENTIFIER", "NUMBER", "PLACEHOLDER", "STRING", "SYMBOL", "TokenProblem", "Tokens", "tokenize"]

IDENTIFIER: Final = 1
STRING: Final = 2
NUMBER: Final = 3
PLACEHOLDER: Final = 4
SYMBOL: Final = 5
END: Final = 6

_TOKEN: Final = re.compile(
    r"""(?:[ \t\r\n\v\f]+|\#[^\n]*)*
    (?: ([A-Za-z_][A-Za-z0-9_]*)
      | ("[^"\\\n\0]*(?:\\[^\n\0][^"\\\n\0]*)*" | '[^'\\\n\0]*(?:\\[^\n\0][^'\\\n\0]*)*')
      | (0[xX][0-9A-Fa-f]* | [0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?[fF]? | \.[0-9]+(?:[eE][+-]?[0-9]*)?[fF]?)
      | (\$\{[^{}\n]*\} | \{\{[^{}\n]*\}\} | \{%[^\n]*?%\})
      | ([^ \t\r\n\v\f])
      | (\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_GOOD_NUMBER: Final = re.compile(
    r"0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*|(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?[fF]?"
    r"|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?[fF]?"
)
_ESCAPE: Final = re.compile(
    r"\\(?:[abfnrtv\\?'\"]|[0-7]|x[0-9A-Fa-f]|u[0-9A-Fa-f]{4}|U00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4})"
)
_ANY_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)


class TokenProblem(NamedTuple):
    """What the tokenizer refuses: the words of tokenizer.cc, and where."""

    message: str
    offset: int


class Tokens(NamedTuple):
    """The tokens as three lists of one length, the last word being the end; and what is wrong with them."""

    kinds: list[int]
    texts: list[str]
    offsets: list[int]
    problems: list[TokenProblem]
    complete: bool


def tokenize(text: str, *, limit: int) -> Tokens:
    """The tokens of a text, at most ``limit`` of them (``complete`` tells)."""
    kinds: list[int] = []
    texts: list[str] = []
    offsets: list[int] = []
    problems: list[TokenProblem] = []
    position, match = 0, _TOKEN.match
    while (found := match(text, position)) is not None:
        kind = found.lastindex or END
        start, position = found.span(kind)
        if kind == END:
            break
        word = text[start:position]
        if kind == NUMBER:
            _check_number(word, text, start, problems)
        elif kind == STRING:
            if "\\" in word:
                _check_escapes(word, start, problems)
        elif kind == SYMBOL and not _is_symbol(word):
            position = _refused(word, text, start, problems)
            if word in "\"'":
                kinds.append(STRING)
                texts.append(text[start:position] + word)
                offsets.append(start)
            continue
        kinds.append(kind)
        texts.append(word)
        offsets.append(start)
        if len(kinds) >= limit:
            break
    complete = found is None or found.lastindex == END
    kinds.append(END)
    texts.append("")
    offsets.append(len(text) if complete else position)
    return Tokens(kinds, texts, offsets, problems, complete)


def _is_symbol(word: str) -> bool:
    return " " < word <= "\x7f" and word not in "\"'"


def _refused(word: str, text: str, start: int, problems: list[TokenProblem]) -> int:
    """Note a character that starts no word; gives where to go on."""
    if word in "\"'":
        end = text.find("\n", start)
        whole = "Unexpected end of string." if end < 0 else "String literals cannot cross line boundaries."
        problems.append(TokenProblem(whole, start))
        return end if end >= 0 else len(text)
    if word < " ":
        problems.append(TokenProblem("Invalid control characters encountered in text.", start))
    elif word == "\ufeff":
        problems.append(TokenProblem("Interpreting non ascii codepoint 239.", start))
    else:
        first = word.encode("utf-8", "surrogateescape")[0]
        problems.append(TokenProblem(f"Interpreting non ascii codepoint {first}.", start))
    return start + 1


def _check_number(word: str, text: str, start: int, problems: list[TokenProblem]) -> None:
    end = start + len(word)
    following = text[end : end + 1]
    if word[0] == "." and start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        problems.append(TokenProblem("Need space between identifier and decimal point.", start))
    elif not _GOOD_NUMBER.fullmatch(word):
        problems.append(TokenProblem(_number_problem(word), start))
    elif following == ".":
        problems.append(TokenProblem("Already saw decimal point or exponent; can't have another one.", start))
    elif following and (following.isalpha() or following == "_") and following.isascii():
        problems.append(TokenProblem("Need space between number and identifier.", end))


def _number_problem(word: str) -> str:
    if word[:2] in ("0x", "0X"):
        return '"0x" must be followed by hex digits.'
    if word[-1] in "eE+-":
        return '"e" must be followed by exponent.'
    if word.isdigit():
        return "Numbers starting with leading zero must be in octal."
    return "Hex and octal numbers must be integers."


def _check_escapes(word: str, start: int, problems: list[TokenProblem]) -> None:
    for found in _ANY_ESCAPE.finditer(word):
        if not _ESCAPE.match(word, found.start()):
            wrong = found.group()[1]
            message = (
                "Expected hex digits for escape sequence."
                if wrong in "xuU"
                else "Invalid escape sequence in string literal."
            )
            problems.append(TokenProblem(message, start + found.start()))
