"""Parse a config.pbtxt into a `Document`, with the errors of the server's own parser. No I/O.

Source: google/protobuf/text_format.cc `TextFormat::Parser::ParserImpl` with the settings of `TextFormat::Parse`, which
is what core's `ReadTextProto` (filesystem/api.cc) calls. Unlike that one it does not stop at the first problem.
"""

from __future__ import annotations

from typing import Final

from tritonforge.datatypes import find_config_name
from tritonforge.pbtxt.document import (
    Document,
    FieldKind,
    FieldSpec,
    Message,
    MessageSpec,
    Node,
    Problem,
    ProblemKind,
    root_spec,
)
from tritonforge.pbtxt.tokens import (
    END,
    IDENTIFIER,
    MAXIMAL_CHARACTERS,
    MAXIMAL_TOKENS,
    NUMBER,
    PLACEHOLDER,
    STRING,
    SYMBOL,
    tokenize,
    unquote,
)

__all__ = ["MAXIMAL_PROBLEMS", "parse"]

#: A bound on time and memory. Text beyond those of `tokens` is a problem of the kind "limit" and is not parsed.
MAXIMAL_PROBLEMS: Final = 50

_CLOSING: Final = {"{": "}", "<": ">", "[": "]"}
_TRUE: Final = ("true", "True", "t")
_FALSE: Final = ("false", "False", "f")
_INFINITE: Final = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}


def parse(text: str | bytes) -> Document:
    """Return the document of a text, with its errors in ``problems``, sorted by position. Never raises on content."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    document = Document(text)
    _Parser(document).run()
    return document


class _Parser:
    """Parses the tokens of one text into its document."""

    __slots__ = ("_at", "_complete", "_document", "_kinds", "_problems", "_texts", "_tokens")

    def __init__(self, document: Document) -> None:
        self._document = document
        self._at = 0
        self._problems: list[tuple[int, Problem]] = []
        tokens = tokenize(document.source[:MAXIMAL_CHARACTERS], limit=MAXIMAL_TOKENS)
        self._tokens, self._kinds, self._texts = tokens, tokens.kinds, tokens.texts
        self._complete = tokens.complete and len(document.source) <= MAXIMAL_CHARACTERS
        for message, offset in tokens.problems[:MAXIMAL_PROBLEMS]:
            self._report_at(offset, "syntax", message)

    def run(self) -> None:
        """Parse the text, and store the problems in the document."""
        if PLACEHOLDER in self._kinds:
            for token, kind in enumerate(self._kinds):
                if kind == PLACEHOLDER:
                    self._report("placeholder", f"unfilled placeholder {self._texts[token]}", token)
        # The text of a string token begins with its quote, so that no other token has the text of a symbol.
        self._parse_message(self._document, root_spec(), "")
        if not self._complete:
            self._report("limit", "the text is longer than what is checked", len(self._kinds) - 1)
        self._problems.sort(key=lambda pair: pair[0])
        self._document.problems = tuple(problem for _, problem in self._problems[:MAXIMAL_PROBLEMS])

    def _report(self, kind: ProblemKind, message: str, token: int, field: str = "", hint: str = "") -> None:
        """Add a problem at a token."""
        self._report_at(self._tokens.offsets[token], kind, message, field, hint)

    def _report_value(self, message: Message, spec: FieldSpec, token: int, words: str, hint: str = "") -> None:
        """Add a problem with the value of a scalar field."""
        self._report("value", words, token, _join_path(message, spec.name), hint)

    def _report_at(self, offset: int, kind: ProblemKind, message: str, field: str = "", hint: str = "") -> None:
        if not self._complete and offset >= self._tokens.offsets[-1] and kind != "limit":
            return  # the text was cut there
        if len(self._problems) < MAXIMAL_PROBLEMS or kind == "limit":
            line, column = self._document.position(offset)
            self._problems.append((offset, Problem(kind, message, line, column, field, hint)))

    def _parse_message(self, message: Message, spec: MessageSpec, closing: str) -> None:
        """Parse the fields of a message up to its closing bracket ("" for the root, which ends with the text)."""
        kinds, texts, specs = self._kinds, self._texts, spec.fields
        lost = False
        while True:
            at = self._at
            kind, text = kinds[at], texts[at]
            if kind == IDENTIFIER:
                lost = False
                self._at = at + 1
                field = specs.get(text)
                if field is None:
                    self._skip_unknown(message, spec, at)
                else:
                    self._parse_field(message, field, specs)
                if texts[self._at] in (",", ";"):
                    self._at += 1
            elif kind == END:
                if closing:
                    hint = f'"{closing}" is missing'
                    self._report("syntax", "Expected identifier, got: ", at, message.path, hint)
                return
            elif closing and kind == SYMBOL and text in "}>":
                if text != closing:
                    self._report_expected(closing, message.path)
                self._at = at + 1
                return
            elif kind == SYMBOL and text == "[":
                self._report("syntax", f'Extensions and Any are not fields of "{spec.name}".', at)
                self._skip_balanced()
                self._skip_value()
            elif kind == SYMBOL and text == "]" and closing:
                self._report_expected(closing, message.path)
                return
            else:
                if not lost and kind != PLACEHOLDER:
                    self._report("syntax", f"Expected identifier, got: {text}", at, message.path)
                lost = True
                self._at = at + 1

    def _parse_field(self, message: Message, spec: FieldSpec, specs: dict[str, FieldSpec]) -> None:
        """Parse the value or values of a field of a message, behind its name; ``specs`` are the message's fields."""
        values = message.fields.get(spec.name)
        if values is None:
            values = message.fields[spec.name] = []
        elif not spec.repeated and values and (spec.presence or _is_set(values[-1], spec)):
            words = f'Non-repeated field "{spec.name}" is specified multiple times.'
            self._report("twice", words, self._at - 1, _join_path(message, spec.name))
        if spec.oneof:
            self._check_oneof(message, spec, specs)
        texts = self._texts
        if texts[self._at] == ":":
            self._at += 1
        elif spec.kind != FieldKind.MESSAGE:
            self._report_expected(":", _join_path(message, spec.name))
        if spec.repeated and texts[self._at] == "[":
            self._parse_list(message, spec, values)
        else:
            self._parse_value(message, spec, values)

    def _check_oneof(self, message: Message, spec: FieldSpec, specs: dict[str, FieldSpec]) -> None:
        for other, present in message.fields.items():
            if other != spec.name and present and specs[other].oneof == spec.oneof:
                self._report(
                    "oneof",
                    (
                        f'Field "{spec.name}" is specified along with field "{other}", another member of oneof '
                        f'"{spec.oneof}".'
                    ),
                    self._at - 1,
                    _join_path(message, spec.name),
                )
                return

    def _parse_list(self, message: Message, spec: FieldSpec, values: list[Node]) -> None:
        """Parse values in square brackets."""
        self._at += 1
        if self._consume_symbol("]"):
            return
        while True:
            before = self._at
            self._parse_value(message, spec, values)
            if self._consume_symbol("]"):
                return
            if self._consume_symbol(","):
                continue
            self._report_expected(",", _join_path(message, spec.name))
            if self._kinds[self._at] == END or self._at == before or self._texts[self._at] in ("}", ">"):
                return

    def _parse_value(self, message: Message, spec: FieldSpec, values: list[Node]) -> None:
        """Parse one value; report an invalid one and skip it."""
        at = self._at
        kind, text = self._kinds[at], self._texts[at]
        index = len(values) if spec.repeated else -1
        if spec.kind == FieldKind.MESSAGE:
            if kind == SYMBOL and text in ("{", "<"):
                child = Message(spec.name, at, message, index)
                values.append(child)
                self._at = at + 1
                self._parse_message(child, spec.message, _CLOSING[text])
                return
            if kind != PLACEHOLDER:
                self._report_expected("{", _join_path(message, spec.name))
            self._skip_one()
            return
        value: object
        if kind == STRING and spec.kind == FieldKind.STRING:
            value = unquote(text)
            self._at = at + 1
            while self._kinds[self._at] == STRING:
                value += unquote(self._texts[self._at])
                self._at += 1
        elif kind == NUMBER and spec.kind == FieldKind.INTEGER and text.isdigit() and (text[0] != "0" or text == "0"):
            self._at = at + 1
            value = int(text) if len(text) < 25 else spec.most + 1
            if value > spec.most:
                self._report_value(message, spec, at, f"Integer out of range ({text})")
                return
        else:
            value = self._parse_scalar(message, spec)
            if value is None:
                return
        values.append(Node(spec.name, value, at, message, index))

    def _parse_scalar(self, message: Message, spec: FieldSpec) -> object:
        """Parse a scalar that is not an ordinary string or decimal; return None if it is invalid."""
        at = self._at
        kind, text = self._kinds[at], self._texts[at]
        if kind == PLACEHOLDER:
            self._at += 1
            return None
        if spec.kind == FieldKind.BOOL:
            return self._parse_boolean(message, spec)
        if spec.kind == FieldKind.ENUM and kind == IDENTIFIER:
            self._at += 1
            if text not in spec.names:
                message_text = f'Unknown enumeration value of "{text}" for field "{spec.name}".'
                self._report("enum", message_text, at, _join_path(message, spec.name), _suggest(text, spec.names))
                return None
            return text
        if spec.kind == FieldKind.STRING:
            self._report_value(message, spec, at, f"Expected string, got: {text}", f'write "{text}" in quotes')
            self._skip_one()
            return None
        negative = kind == SYMBOL and text == "-"
        if negative:
            self._at += 1
            kind, text = self._kinds[self._at], self._texts[self._at]
        if spec.kind == FieldKind.FLOAT:
            return self._parse_float(message, spec, negative)
        if kind != NUMBER or not _is_integer(text):
            wanted = "integer or identifier" if spec.kind == FieldKind.ENUM and not negative else "integer"
            self._report_value(message, spec, self._at, f"Expected {wanted}, got: {text}")
            self._skip_one()
            return None
        self._at += 1
        number = _parse_integer(text)
        least, most = (-(2**31), 2**31 - 1) if spec.kind == FieldKind.ENUM else (spec.least, spec.most)
        if negative and least == 0:
            self._report_value(message, spec, at, "Expected integer, got: -")
            return None
        number = -number if negative else number
        if not least <= number <= most:
            self._report_value(message, spec, at, f"Integer out of range ({text})")
            return None
        return spec.numbers.get(number, str(number)) if spec.kind == FieldKind.ENUM else number

    def _parse_boolean(self, message: Message, spec: FieldSpec) -> bool | None:
        at = self._at
        kind, text = self._kinds[at], self._texts[at]
        if kind == IDENTIFIER or (kind == NUMBER and _is_integer(text)):
            self._at += 1
            if kind == NUMBER and _parse_integer(text) <= 1:
                return _parse_integer(text) == 1
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            if kind == NUMBER:
                self._report_value(message, spec, at, f"Integer out of range ({text})")
                return None
            words = f'Invalid value for boolean field "{spec.name}". Value: "{text}".'
            self._report_value(message, spec, at, words, "write true or false")
            return None
        self._report_value(message, spec, at, f"Expected identifier, got: {text}", "write true or false")
        self._skip_one()
        return None

    def _parse_float(self, message: Message, spec: FieldSpec, negative: bool) -> float | None:
        at = self._at
        kind, text = self._kinds[at], self._texts[at]
        sign = -1.0 if negative else 1.0
        if kind == NUMBER:
            self._at += 1
            if _is_integer(text) and len(text) > 1 and text[0] == "0":
                self._report_value(message, spec, at, f"Expect a decimal number, got: {text}")
                return None
            try:
                return sign * float(text.rstrip("fF"))
            except ValueError:
                return 0.0  # the tokenizer has reported it
        if kind == IDENTIFIER and text.lower() in _INFINITE:
            self._at += 1
            return sign * _INFINITE[text.lower()]
        self._report_value(message, spec, at, f"Expected double, got: {text}")
        self._skip_one()
        return None

    def _skip_unknown(self, message: Message, spec: MessageSpec, at: int) -> None:
        """Report a field that the message does not have, and skip its value."""
        if len(self._problems) >= MAXIMAL_PROBLEMS:
            self._at = len(self._kinds) - 1  # no more problems are reported
            return
        text = self._texts[at]
        words = f'Message type "{spec.name}" has no field named "{text}".'
        self._report("unknown", words, at, _join_path(message, text), _suggest(text, spec.fields))
        self._skip_value()

    def _skip_value(self) -> None:
        """Skip what may follow a field's name."""
        colon = self._consume_symbol(":")
        if colon or self._texts[self._at] in _CLOSING:
            self._skip_one()

    def _skip_one(self) -> None:
        """Skip one value of any kind, unless a closing bracket or the end is next."""
        self._consume_symbol("-")
        kind, text = self._kinds[self._at], self._texts[self._at]
        if kind == SYMBOL and text in _CLOSING:
            self._skip_balanced()
        elif kind == STRING:
            while self._kinds[self._at] == STRING:
                self._at += 1
        elif kind != END and not (kind == SYMBOL and text in "}>]"):
            self._at += 1

    def _skip_balanced(self) -> None:
        """Skip everything from an opening bracket to its closing one."""
        depth = 0
        while self._kinds[self._at] != END:
            if self._kinds[self._at] == SYMBOL:
                text = self._texts[self._at]
                if text in _CLOSING:
                    depth += 1
                elif text in "}>]":
                    depth -= 1
            self._at += 1
            if depth <= 0:
                return

    def _consume_symbol(self, text: str) -> bool:
        """Consume a symbol if it is next."""
        if self._texts[self._at] == text:
            self._at += 1
            return True
        return False

    def _report_expected(self, text: str, path: str) -> None:
        if self._kinds[self._at] != PLACEHOLDER:
            words = f'Expected "{text}", found "{self._texts[self._at]}".'
            self._report("syntax", words, self._at, path)


def _join_path(message: Message, name: str) -> str:
    return f"{message.path}.{name}" if message.parent is not None else name


def _is_set(node: Node, spec: FieldSpec) -> bool:
    """Return True if proto3's `HasField` is true: a scalar with its default value does not count."""
    return bool(node.value) and node.value != spec.numbers.get(0)


def _is_integer(text: str) -> bool:
    return text.isdigit() or text[:2] in ("0x", "0X")


def _parse_integer(text: str) -> int:
    """Return the value of an integer token; an invalid or very long one counts as out of range."""
    if len(text) > 64:
        return 1 << 64
    try:
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)
    except ValueError:
        return 0


def _suggest(text: str, names: dict[str, int] | dict[str, FieldSpec]) -> str:
    """Return a hint at the closest name."""
    from difflib import get_close_matches  # takes milliseconds, and is used for invalid texts only

    lowered = {name.lower(): name for name in names}
    alias = find_config_name(text)
    if alias in names:
        return f"did you mean {alias}?"
    closest = get_close_matches(text.lower()[:100], list(lowered), n=1)
    return f"did you mean {lowered[closest[0]]}?" if closest else ""
