"""The parser: a config.pbtxt becomes a `Document`, judged as the server's own parser judges it. No I/O.

Source: google/protobuf/text_format.cc `TextFormat::Parser::ParserImpl` with the settings of `TextFormat::Parse`, which
is what core's `ReadTextProto` (filesystem/api.cc) calls. Unlike that one it does not stop at the first problem.
"""

from __future__ import annotations

from typing import Final

from tritonforge.pbtxt import fields
from tritonforge.pbtxt.fields import FieldSpec, MessageSpec
from tritonforge.pbtxt.nodes import Document, Message, Node, Problem, ProblemKind
from tritonforge.pbtxt.strings import unquoted
from tritonforge.pbtxt.tokens import END, IDENTIFIER, NUMBER, PLACEHOLDER, STRING, SYMBOL, tokenize

__all__ = ["MAXIMAL_CHARACTERS", "MAXIMAL_PROBLEMS", "MAXIMAL_TOKENS", "parse"]

#: Bounds on time and memory; text beyond them is a problem of the kind "limit" and is not looked at.
MAXIMAL_CHARACTERS: Final = 4 * 1024 * 1024
MAXIMAL_TOKENS: Final = 400_000
MAXIMAL_PROBLEMS: Final = 50

_CLOSING: Final = {"{": "}", "<": ">", "[": "]"}
_TRUE: Final = ("true", "True", "t")
_FALSE: Final = ("false", "False", "f")
_INFINITE: Final = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}

#: What other frameworks call the element types.
_ALIASES: Final = {
    "FLOAT": "TYPE_FP32", "FLOAT32": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "HALF": "TYPE_FP16", "DOUBLE": "TYPE_FP64",
    "FLOAT64": "TYPE_FP64", "BFLOAT16": "TYPE_BF16", "INT": "TYPE_INT32", "LONG": "TYPE_INT64", "SHORT": "TYPE_INT16",
    "BYTE": "TYPE_UINT8", "BYTES": "TYPE_STRING", "STR": "TYPE_STRING", "BOOLEAN": "TYPE_BOOL",
}  # fmt: skip


def parse(text: str | bytes) -> Document:
    """The document of a text; what is wrong with it is in ``problems``, sorted by place. Never raises on content."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    document = Document(text)
    _Parser(document).run()
    return document


class _Parser:
    """One run over the tokens of one text."""

    __slots__ = ("_at", "_complete", "_document", "_found", "_kinds", "_offsets", "_texts")

    def __init__(self, document: Document) -> None:
        self._document = document
        self._at = 0
        self._found: list[tuple[int, Problem]] = []
        tokens = tokenize(document.source[:MAXIMAL_CHARACTERS], limit=MAXIMAL_TOKENS)
        self._kinds, self._texts, self._offsets = tokens.kinds, tokens.texts, tokens.offsets
        self._complete = tokens.complete and len(document.source) <= MAXIMAL_CHARACTERS
        for message, offset in tokens.problems[:MAXIMAL_PROBLEMS]:
            self._problem("syntax", message, offset)

    def run(self) -> None:
        """Parse everything; the problems land in the document."""
        if PLACEHOLDER in self._kinds:
            for kind, text, offset in zip(self._kinds, self._texts, self._offsets, strict=True):
                if kind == PLACEHOLDER:
                    self._problem("placeholder", f"unfilled placeholder {text}", offset)
        self._message(self._document, fields.root(), "")
        if not self._complete:
            end = self._offsets[-1]
            self._problem("limit", "the text goes on beyond what is judged", end)
        self._found.sort(key=lambda pair: pair[0])
        self._document.problems = tuple(problem for _, problem in self._found[:MAXIMAL_PROBLEMS])

    def _problem(self, kind: ProblemKind, message: str, offset: int, field: str = "", hint: str = "") -> None:
        if not self._complete and offset >= self._offsets[-1] and kind != "limit":
            return  # it is the cut that is wrong there, not the text
        if len(self._found) < MAXIMAL_PROBLEMS or kind == "limit":
            line, column = self._document.position(offset)
            self._found.append((offset, Problem(kind, message, line, column, field, hint)))

    def _message(self, message: Message, spec: MessageSpec, closing: str) -> None:
        """The fields of a message up to its closing bracket ("" for the root, which ends with the text)."""
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
                    self._unknown(message, spec, at)
                else:
                    self._field(message, field, at)
                if texts[self._at] in (",", ";") and kinds[self._at] == SYMBOL:
                    self._at += 1
            elif kind == END:
                if closing:
                    self._problem(
                        "syntax",
                        "Expected identifier, got: ",
                        self._offsets[at],
                        message.path,
                        f'"{closing}" is missing',
                    )
                return
            elif closing and kind == SYMBOL and text in "}>":
                if text != closing:
                    self._expected(closing, message.path)
                self._at = at + 1
                return
            elif kind == SYMBOL and text == "[":
                self._problem("syntax", f'Extensions and Any are not fields of "{spec.name}".', self._offsets[at])
                self._skip_balanced()
                self._skip_value()
            elif kind == SYMBOL and text == "]" and closing:
                self._expected(closing, message.path)
                return
            else:
                if not lost and kind != PLACEHOLDER:
                    self._problem("syntax", f"Expected identifier, got: {text}", self._offsets[at], message.path)
                lost = True
                self._at = at + 1

    def _field(self, message: Message, spec: FieldSpec, at: int) -> None:
        """The value or values of a known field; its name was the token ``at``."""
        values = message.fields.get(spec.name)
        if values is None:
            values = message.fields[spec.name] = []
        elif not spec.repeated and values and (spec.presence or _is_set(values[-1], spec)):
            self._problem(
                "twice",
                f'Non-repeated field "{spec.name}" is specified multiple times.',
                self._offsets[at],
                _path(message, spec.name),
            )
        if spec.oneof:
            self._check_oneof(message, spec, at)
        texts = self._texts
        if texts[self._at] == ":" and self._kinds[self._at] == SYMBOL:
            self._at += 1
        elif spec.kind != fields.MESSAGE:
            self._expected(":", _path(message, spec.name))
        if spec.repeated and texts[self._at] == "[" and self._kinds[self._at] == SYMBOL:
            self._list(message, spec, values)
        else:
            self._value(message, spec, values)

    def _check_oneof(self, message: Message, spec: FieldSpec, at: int) -> None:
        for other, present in message.fields.items():
            if other != spec.name and present and self._oneof(present[-1], other) == spec.oneof:
                self._problem(
                    "oneof",
                    (
                        f'Field "{spec.name}" is specified along with field "{other}", another member of oneof '
                        f'"{spec.oneof}".'
                    ),
                    self._offsets[at],
                    _path(message, spec.name),
                )
                return

    def _oneof(self, node: Node, name: str) -> str:
        """The oneof that a value's field is in."""
        assert node.parent is not None
        return self._spec_of(node.parent).fields[name].oneof

    def _spec_of(self, message: Message) -> MessageSpec:
        if message.parent is None:
            return fields.root()
        return self._spec_of(message.parent).fields[message.name].message

    def _list(self, message: Message, spec: FieldSpec, values: list[Node]) -> None:
        """Values in square brackets."""
        self._at += 1
        if self._symbol("]"):
            return
        while True:
            before = self._at
            self._value(message, spec, values)
            if self._symbol("]"):
                return
            if self._symbol(","):
                continue
            self._expected(",", _path(message, spec.name))
            if self._kinds[self._at] == END or self._at == before or self._texts[self._at] in ("}", ">"):
                return

    def _value(self, message: Message, spec: FieldSpec, values: list[Node]) -> None:
        """One value; a wrong one is noted and passed over."""
        at = self._at
        kind, text, offset = self._kinds[at], self._texts[at], self._offsets[at]
        index = len(values) if spec.repeated else -1
        if spec.kind == fields.MESSAGE:
            if kind == SYMBOL and text in ("{", "<"):
                child = Message(spec.name, offset, message, index)
                values.append(child)
                self._at = at + 1
                self._message(child, spec.message, _CLOSING[text])
                return
            if kind != PLACEHOLDER:
                self._expected("{", _path(message, spec.name))
            self._skip_one()
            return
        value: object
        if kind == STRING and spec.kind == fields.STRING:
            value = unquoted(text)
            self._at = at + 1
            while self._kinds[self._at] == STRING:
                value += unquoted(self._texts[self._at])
                self._at += 1
        elif kind == NUMBER and spec.kind == fields.INTEGER and text.isdigit() and (text[0] != "0" or text == "0"):
            self._at = at + 1
            value = int(text) if len(text) < 25 else spec.most + 1
            if value > spec.most:
                self._problem("value", f"Integer out of range ({text})", offset, _path(message, spec.name))
                return
        else:
            value = self._scalar(message, spec)
            if value is None:
                return
        values.append(Node(spec.name, value, offset, message, index))

    def _scalar(self, message: Message, spec: FieldSpec) -> object:
        """A scalar that is not an ordinary string or decimal; None when it is refused (and noted)."""
        at = self._at
        kind, text, offset = self._kinds[at], self._texts[at], self._offsets[at]
        path = _path(message, spec.name)
        if kind == PLACEHOLDER:
            self._at += 1
            return None
        if spec.kind == fields.BOOL:
            return self._boolean(spec, path)
        if spec.kind == fields.ENUM and kind == IDENTIFIER:
            self._at += 1
            if text not in spec.names:
                message_text = f'Unknown enumeration value of "{text}" for field "{spec.name}".'
                self._problem("enum", message_text, offset, path, _closest(text, spec.names))
                return None
            return text
        if spec.kind == fields.STRING:
            self._problem("value", f"Expected string, got: {text}", offset, path, f'write "{text}" in quotes')
            self._skip_one()
            return None
        negative = kind == SYMBOL and text == "-"
        if negative:
            self._at += 1
            kind, text = self._kinds[self._at], self._texts[self._at]
        if spec.kind == fields.FLOAT:
            return self._float(negative, path)
        if kind != NUMBER or not _is_integer(text):
            wanted = "integer or identifier" if spec.kind == fields.ENUM and not negative else "integer"
            self._problem("value", f"Expected {wanted}, got: {text}", self._offsets[self._at], path)
            self._skip_one()
            return None
        self._at += 1
        number = _integer(text)
        least, most = (-(2**31), 2**31 - 1) if spec.kind == fields.ENUM else (spec.least, spec.most)
        if negative and least == 0:
            self._problem("value", "Expected integer, got: -", offset, path)
            return None
        number = -number if negative else number
        if not least <= number <= most:
            self._problem("value", f"Integer out of range ({text})", offset, path)
            return None
        return spec.numbers.get(number, str(number)) if spec.kind == fields.ENUM else number

    def _boolean(self, spec: FieldSpec, path: str) -> bool | None:
        kind, text, offset = self._kinds[self._at], self._texts[self._at], self._offsets[self._at]
        if kind == IDENTIFIER or (kind == NUMBER and _is_integer(text)):
            self._at += 1
            if kind == NUMBER and _integer(text) <= 1:
                return _integer(text) == 1
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            if kind == NUMBER:
                self._problem("value", f"Integer out of range ({text})", offset, path)
                return None
            words = f'Invalid value for boolean field "{spec.name}". Value: "{text}".'
            self._problem("value", words, offset, path, "write true or false")
            return None
        self._problem("value", f"Expected identifier, got: {text}", offset, path, "write true or false")
        self._skip_one()
        return None

    def _float(self, negative: bool, path: str) -> float | None:
        kind, text, offset = self._kinds[self._at], self._texts[self._at], self._offsets[self._at]
        sign = -1.0 if negative else 1.0
        if kind == NUMBER:
            self._at += 1
            if _is_integer(text) and len(text) > 1 and text[0] == "0":
                self._problem("value", f"Expect a decimal number, got: {text}", offset, path)
                return None
            try:
                return sign * float(text.rstrip("fF"))
            except ValueError:
                return 0.0  # the tokenizer has said what is wrong with it
        if kind == IDENTIFIER and text.lower() in _INFINITE:
            self._at += 1
            return sign * _INFINITE[text.lower()]
        self._problem("value", f"Expected double, got: {text}", offset, path)
        self._skip_one()
        return None

    def _unknown(self, message: Message, spec: MessageSpec, at: int) -> None:
        """A field that the message does not have: noted, and passed over with its value."""
        if len(self._found) >= MAXIMAL_PROBLEMS:
            self._at = len(self._kinds) - 1  # nothing more would be said
            return
        text = self._texts[at]
        words = f'Message type "{spec.name}" has no field named "{text}".'
        self._problem("unknown", words, self._offsets[at], _path(message, text), _closest(text, spec.fields))
        self._skip_value()

    def _skip_value(self) -> None:
        """Pass over what may follow a field's name."""
        colon = self._symbol(":")
        if colon or self._texts[self._at] in _CLOSING:
            self._skip_one()

    def _skip_one(self) -> None:
        """Pass over one value of any kind, unless a closing bracket or the end is there."""
        self._symbol("-")
        kind, text = self._kinds[self._at], self._texts[self._at]
        if kind == SYMBOL and text in _CLOSING:
            self._skip_balanced()
        elif kind == STRING:
            while self._kinds[self._at] == STRING:
                self._at += 1
        elif kind != END and not (kind == SYMBOL and text in "}>]"):
            self._at += 1

    def _skip_balanced(self) -> None:
        """Pass over everything from an opening bracket to its closing one."""
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

    def _symbol(self, text: str) -> bool:
        """Consume a symbol if it is next."""
        if self._texts[self._at] == text and self._kinds[self._at] == SYMBOL:
            self._at += 1
            return True
        return False

    def _expected(self, text: str, path: str) -> None:
        if self._kinds[self._at] != PLACEHOLDER:
            words = f'Expected "{text}", found "{self._texts[self._at]}".'
            self._problem("syntax", words, self._offsets[self._at], path)


def _path(message: Message, name: str) -> str:
    return f"{message.path}.{name}" if message.parent is not None else name


def _is_set(node: Node, spec: FieldSpec) -> bool:
    """Whether proto3's `HasField` is true: a scalar with its default value does not count."""
    return bool(node.value) and node.value != spec.numbers.get(0)


def _is_integer(text: str) -> bool:
    return text.isdigit() or text[:2] in ("0x", "0X")


def _integer(text: str) -> int:
    """The value of an integer token; one that the tokenizer refused, or of absurd length, counts as out of range."""
    if len(text) > 64:
        return 1 << 64
    try:
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)
    except ValueError:
        return 0


def _closest(text: str, names: dict[str, int] | dict[str, FieldSpec]) -> str:
    """The hint of the name that was probably meant."""
    from difflib import get_close_matches  # costs milliseconds, and is needed for wrong texts only

    lowered = {name.lower(): name for name in names}
    alias = _ALIASES.get(text.upper().removeprefix("TYPE_"), "")
    if alias in names:
        return f"did you mean {alias}?"
    found = get_close_matches(text.lower()[:100], list(lowered), n=1)
    return f"did you mean {lowered[found[0]]}?" if found else ""
