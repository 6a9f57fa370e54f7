"""The tokens of protobuf's text format, with the errors of the C++ tokenizer. No I/O.

Source: google/protobuf/io/tokenizer.cc as `TextFormat::Parse` configures it: comments start with ``#``, a string ends
on its line, a space is required between a number and a letter. Bytes that are not UTF-8 become surrogates.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["END", "IDENTIFIER", "MAXIMAL_CHARACTERS", "MAXIMAL_TOKENS", "NUMBER", "PLACEHOLDER", "STRING", "SYMBOL",
           "TokenProblem", "Tokens", "tokenize", "unquote"]  # fmt: skip


#: Bounds on time and memory: characters and tokens of a text.
MAXIMAL_CHARACTERS: Final = 4 * 1024 * 1024
MAXIMAL_TOKENS: Final = 400_000

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
#: A comment, or the text of a token that is plain, or of one that is not (whose kind is 0).
_PLAIN_TOKEN: Final = re.compile(
    r"""\#[^\n]*
    | ( [A-Za-z_][A-Za-z0-9_]*
      | "[^"\\\n\0]*" | '[^'\\\n\0]*'
      | [0-9.][^ \t\r\n\v\f\]},;>]*
      | \{\{+
      | [^ \t\r\n\v\f]
      )""",
    re.VERBOSE,
)
_PLAIN_NUMBER: Final = re.compile(r"0|[1-9][0-9]*")
_PLAIN_SYMBOLS: Final = frozenset("{}[]<>:,;-")
#: Kinds that are kept: a repository has few distinct tokens.
_KEPT_KINDS: Final = 10_000


class _PlainKinds(dict[str, int]):
    """The kind of each plain token, 0 for one that is not plain."""

    def __missing__(self, word: str) -> int:
        first = word[0]
        kind = 0
        if first == "_" or (first.isalpha() and first.isascii()):
            kind = IDENTIFIER
        elif first in "\"'" and len(word) > 1:
            kind = STRING
        elif word in _PLAIN_SYMBOLS:
            kind = SYMBOL
        elif _PLAIN_NUMBER.fullmatch(word):
            kind = NUMBER
        if len(self) < _KEPT_KINDS:
            self[word] = kind
        return kind


_plain_kinds = _PlainKinds()
_GOOD_NUMBER: Final = re.compile(
    r"0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*|(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?[fF]?"
    r"|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?[fF]?"
)
_ESCAPE: Final = re.compile(
    r"\\(?:[abfnrtv\\?'\"]|[0-7]|x[0-9A-Fa-f]|u[0-9A-Fa-f]{4}|U00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4})"
)
_ANY_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)


class TokenProblem(NamedTuple):
    """An error of the tokenizer: the words of tokenizer.cc, and the offset."""

    message: str
    offset: int


class Tokens:
    """The tokens as two lists of one length, the last token being the end; their offsets, and the errors.

    ``complete`` is False if the text has more tokens than the limit.
    """

    __slots__ = ("_offsets", "_text", "complete", "kinds", "problems", "texts")

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets: list[int] | None = None
        self.kinds: list[int] = []
        self.texts: list[str] = []
        self.problems: list[TokenProblem] = []
        self.complete = True

    @property
    def offsets(self) -> list[int]:
        """The offset of each token in the text; computed on the first access, since few texts have findings."""
        if self._offsets is None:
            self._offsets = [match.start(1) for match in _PLAIN_TOKEN.finditer(self._text) if match.group(1)]
            self._offsets.append(len(self._text))
        return self._offsets

    def set_offsets(self, offsets: list[int]) -> None:
        """Store the offsets of tokens that are not all plain."""
        self._offsets = offsets


def tokenize(text: str, *, limit: int) -> Tokens:
    """Return the tokens of a text, at most ``limit``.

    A text whose tokens are all plain (identifiers, decimal integers, strings without escapes, symbols) is split by one
    call of the regular expression engine; others are split token by token.
    """
    tokens = Tokens(text)
    texts = _PLAIN_TOKEN.findall(text)
    if "#" in text:
        texts = [word for word in texts if word]  # a comment has no group
    if len(texts) < limit:
        kinds = list(map(_plain_kinds.__getitem__, texts))
        if 0 not in kinds:
            kinds.append(END)
            texts.append("")
            tokens.kinds, tokens.texts = kinds, texts
            return tokens
    _tokenize_slowly(tokens, text, limit)
    return tokens


def _tokenize_slowly(tokens: Tokens, text: str, limit: int) -> None:
    kinds, texts, problems = tokens.kinds, tokens.texts, tokens.problems
    offsets: list[int] = []
    position, next_token = 0, _TOKEN.match
    while (match := next_token(text, position)) is not None:
        kind = match.lastindex or END
        start, position = match.span(kind)
        if kind == END:
            break
        word = text[start:position]
        if kind == NUMBER:
            _check_number(word, text, start, problems)
        elif kind == STRING:
            if "\\" in word:
                _check_escapes(word, start, problems)
        elif kind == SYMBOL and not _is_symbol(word):
            position = _skip_invalid(word, text, start, problems)
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
    tokens.complete = match is None or match.lastindex == END
    kinds.append(END)
    texts.append("")
    offsets.append(len(text) if tokens.complete else position)
    tokens.set_offsets(offsets)


def _is_symbol(word: str) -> bool:
    return " " < word <= "\x7f" and word not in "\"'"


def _skip_invalid(word: str, text: str, start: int, problems: list[TokenProblem]) -> int:
    """Record a character that starts no token; return the offset behind it."""
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
    for match in _ANY_ESCAPE.finditer(word):
        if not _ESCAPE.match(word, match.start()):
            wrong = match.group()[1]
            message = (
                "Expected hex digits for escape sequence."
                if wrong in "xuU"
                else "Invalid escape sequence in string literal."
            )
            problems.append(TokenProblem(message, start + match.start()))


_UNESCAPED: Final = {
    "a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v",
    "\\": b"\\", "?": b"?", "'": b"'", '"': b'"',
}  # fmt: skip
_ESCAPE_SEQUENCE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)


def unquote(token: str) -> str:
    """Return the text of a string token.

    Source: google/protobuf/io/tokenizer.cc `ParseStringAppend`.
    """
    return token[1:-1] if "\\" not in token else _unescape(token[1:-1])


def _unescape(text: str) -> str:
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE_SEQUENCE.finditer(text):
        parts.append(text[at : match.start()].encode("utf-8", "surrogateescape"))
        octal, byte, short, long, letter = match.groups()
        if octal or byte:
            parts.append(bytes([(int(octal, 8) if octal else int(byte, 16)) & 255]))
        elif short or long:
            parts.append(chr(min(int(short or long, 16), 0x10FFFF)).encode("utf-8", "surrogatepass"))
        else:
            parts.append(_UNESCAPED.get(letter, letter.encode("utf-8", "surrogateescape")))
        at = match.end()
    parts.append(text[at:].encode("utf-8", "surrogateescape"))
    return b"".join(parts).decode("utf-8", "surrogateescape")
