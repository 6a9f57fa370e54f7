r"""Escape untrusted text for output: one function for each format. This module does no I/O.

Names of files and models, texts of configurations, labels, logs, and answers of servers are untrusted. In the output
they must not control a terminal, change how a line reads, begin a line of their own, or act as a command of the CI
system that reads the output.

Escapes have the form ``\u001b``, which JSON reads as well, so that one JSON document stays one.
"""

from __future__ import annotations

import html
import re
from typing import Final

__all__ = ["escape_dot", "escape_github_data", "escape_github_property", "escape_html", "escape_line",
           "escape_log_line", "escape_mermaid", "escape_text", "escape_uri", "escape_xml"]  # fmt: skip

#: Characters that control a terminal or change how text reads: C0 except tab and newline, DEL and C1; the separators
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

#: What needs no escape in a path of a URI (RFC 3986, 2.3, and the slash).
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")

#: What XML 1.0 cannot hold (section 2.2, Char) besides what `_UNSAFE` has.
_NO_CHARACTER: Final = re.compile("[\ufffe\uffff]")


#: What a quoted label of Mermaid reads as it is.
_MERMAID: Final = re.compile(r"[^\w .,:/+=()\[\]?\u2264\u2192-]")


def escape_text(text: str) -> str:
    r"""Escape text of several lines for a terminal or a CI log; newlines and tabs stay.

    >>> escape_text("a\x1b[2J\n::error::b")
    'a\\u001b[2J\n\\u003a:error::b'
    """
    return _COMMAND.sub(_escape_command, _UNSAFE.sub(_escape_character, text))


def escape_line(text: str) -> str:
    r"""Escape text that must stay within a line, such as a name.

    >>> escape_line("model\n::error::forged")
    'model\\u000a::error::forged'
    """
    return _BREAK.sub(_escape_character, _UNSAFE.sub(_escape_character, text))


def escape_log_line(text: str) -> str:
    """Escape a line of a program's log: without colours, and as a terminal shows it where it overwrites itself."""
    shown = _COLOUR.sub("", text).rstrip("\r").rpartition("\r")[2]
    return escape_text(escape_line(shown.replace("\t", "    ")))


def escape_github_data(text: str) -> str:
    """Escape the message of a GitHub workflow command. Source: @actions/core, command.ts, escapeData."""
    safe = _UNSAFE.sub(_escape_character, text.replace("\r\n", "\n"))
    return safe.replace("##[", "#\\u0023[").replace("%", "%25").replace("\n", "%0A")


def escape_github_property(text: str) -> str:
    """Escape a property of a GitHub workflow command. Source: @actions/core, command.ts, escapeProperty."""
    return escape_github_data(escape_line(text)).replace(":", "%3A").replace(",", "%2C")


def escape_xml(text: str) -> str:
    """Escape text in an XML document that a CI log may show, also what XML cannot contain."""
    return _NO_CHARACTER.sub(_escape_character, escape_text(text))


def escape_html(text: str) -> str:
    """Escape a line for HTML and SVG, as the content of an element or in a quoted attribute.

    >>> escape_html('<b onclick="x">')
    '&lt;b onclick=&quot;x&quot;&gt;'
    """
    return html.escape(_NO_CHARACTER.sub(_escape_character, escape_line(text)))


def escape_dot(text: str) -> str:
    r"""Escape a line for a quoted string of Graphviz's language, in which a label is not read as markup either.

    Source: graphviz.org, "The DOT Language" and the attribute types escString and lblString: a backslash begins an
    escape, and an ampersand an entity of HTML.

    >>> escape_dot('a"b & \\N')
    'a\\"b &amp; \\\\N'
    """
    return escape_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def escape_mermaid(text: str) -> str:
    """Escape a line for a quoted label of a Mermaid flowchart, which may hold HTML and Markdown.

    Whatever is neither a letter, a digit nor harmless becomes an entity in Mermaid's form, ``#35;``.

    >>> escape_mermaid('<img src="x">')
    '#60;img src=#34;x#34;#62;'
    """
    return _MERMAID.sub(lambda match: f"#{ord(match[0])};", escape_line(text))


def escape_uri(path: str) -> str:
    """Return a path as a relative URI reference; bytes that are not UTF-8 are percent-encoded as they are."""
    data = path.encode("utf-8", "backslashreplace" if _has_lone_surrogate(path) else "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)


def _has_lone_surrogate(text: str) -> bool:
    """Return True if half of a surrogate pair does not represent a byte of a file name (PEP 383)."""
    return re.search("[\ud800-\udc7f\udd00-\udfff]", text) is not None


def _escape_character(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _escape_command(match: re.Match[str]) -> str:
    return f"{match[1]}\\u003a" if match[1] is not None else "#\\u0023"
