r"""Strings of strangers in our output: one function for each format. This module does no I/O.

Names of files and models, texts of configurations, labels, logs, and answers of servers are chosen by somebody else. In
our output they cannot steer a terminal, change how a line reads, begin a line of their own, or be taken for a command
by the CI system that reads the output.

Escapes have the form ``\u001b``, which JSON reads as well, so that one JSON document stays one.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["github_data", "github_property", "log_line", "terminal_line", "terminal_text", "uri", "xml_text"]

#: Characters that steer a terminal or change how text reads: C0 but for tab and newline, DEL and C1; the separators
#: that some programs break lines at; the marks that change the direction of text (Unicode Standard Annex 9) or show
#: nothing; and halves of surrogate pairs, which are bytes that are not UTF-8.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_BREAK: Final = re.compile("[\t\n]")

#: What GitHub's runner takes for a workflow command: ``::`` at the start of a line, and the older ``##[`` anywhere.
#: Source: actions/runner, src/Runner.Common/ActionCommand.cs, TryParseV2 and TryParse.
_COMMAND: Final = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)

#: The sequences that only colour text (ECMA-48, SGR).
_COLOUR: Final = re.compile("\x1b\\[[0-9;:]*m")

#: What stands for itself in a path of a URI (RFC 3986, 2.3, and the slash).
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")

#: What XML 1.0 cannot hold (section 2.2, Char) besides what `_UNSAFE` has.
_NO_CHARACTER: Final = re.compile("[\ufffe\uffff]")


def terminal_text(text: str) -> str:
    r"""Text of several lines for a terminal or a CI log; newlines and tabs stay.

    >>> terminal_text("a\x1b[2J\n::error::b")
    'a\\u001b[2J\n\\u003a:error::b'
    """
    return _COMMAND.sub(_command, _UNSAFE.sub(_escape, text))


def terminal_line(text: str) -> str:
    r"""Text that stays within a line, such as a name.

    >>> terminal_line("model\n::error::forged")
    'model\\u000a::error::forged'
    """
    return _BREAK.sub(_escape, _UNSAFE.sub(_escape, text))


def log_line(text: str) -> str:
    """A line that a program has logged: without colours, and as a terminal would show it where it overwrites itself."""
    shown = _COLOUR.sub("", text).rstrip("\r").rpartition("\r")[2]
    return terminal_text(terminal_line(shown.replace("\t", "    ")))


def github_data(text: str) -> str:
    """The message of a GitHub workflow command; newlines are kept. Source: @actions/core, command.ts, escapeData."""
    safe = _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))
    return safe.replace("##[", "#\\u0023[").replace("%", "%25").replace("\n", "%0A")


def github_property(text: str) -> str:
    """A property of a GitHub workflow command. Source: @actions/core, command.ts, escapeProperty."""
    return github_data(terminal_line(text)).replace(":", "%3A").replace(",", "%2C")


def xml_text(text: str) -> str:
    """Text in an XML document that a CI log may show: what XML cannot hold is an escape as well."""
    return _NO_CHARACTER.sub(_escape, terminal_text(text))


def uri(path: str) -> str:
    """A path as a relative URI reference; bytes that are not UTF-8 are percent-encoded as they are."""
    data = path.encode("utf-8", "backslashreplace" if _has_lone_surrogate(path) else "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)


def _has_lone_surrogate(text: str) -> bool:
    """Whether a half of a surrogate pair stands for no byte of a file name (PEP 383)."""
    return re.search("[\ud800-\udc7f\udd00-\udfff]", text) is not None


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _command(found: re.Match[str]) -> str:
    return f"{found[1]}\\u003a" if found[1] is not None else "#\\u0023"
