"""YAML of manifests and values: block style, members in the order of the mapping. No I/O.

Only what JSON has: mappings with text as keys, sequences, text, numbers, booleans, null. Text is plain where no reader
of YAML 1.1 or 1.2 takes it for something else, and quoted with YAML's escapes otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["format_documents", "format_yaml"]

#: Words with a letter or a slash first, or a flag; no ': ', no ' #', nothing that is a number or a date.
_PLAIN: Final = re.compile(r"(--)?[A-Za-z/][A-Za-z0-9_./@+=-]*(:[A-Za-z0-9_./@+=-]+)*|[0-9]+[KMGT]i")
#: What YAML 1.1 takes for booleans and null.
_RESERVED: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "nan"})
_SURROGATES: Final = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
_INDENT: Final = "  "


def format_documents(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return several documents as one stream, with ``---`` between them."""
    return "---\n".join(format_yaml(document) for document in documents)


def format_yaml(document: Mapping[str, Any]) -> str:
    """Return one document; it ends with a line break.

    >>> print(format_yaml({"spec": {"args": ["--http-port=8080"], "port": "8002"}}), end="")
    spec:
      args:
      - --http-port=8080
      port: "8002"
    """
    return "".join(f"{line}\n" for line in _format_lines(document))


def _format_lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _format_member(f"{_format_text(name)}:", item, _INDENT if isinstance(item, Mapping) else "")
    elif isinstance(value, list | tuple) and value:
        for item in value:
            first, *rest = _format_lines(item)
            yield f"- {first}"
            yield from (f"{_INDENT}{line}" for line in rest)
    else:
        yield _format_scalar(value)


def _format_member(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield name
        yield from (f"{indent}{line}" for line in _format_lines(value))
    else:
        yield f"{name} {_format_scalar(value)}"


def _format_scalar(value: Any) -> str:
    return _format_text(value) if isinstance(value, str) else json.dumps(value)


def _format_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return _SURROGATES.sub(_join_surrogates, json.dumps(text).replace("\x7f", "\\x7f"))


def _join_surrogates(match: re.Match[str]) -> str:
    r"""Return YAML's escape of a character that JSON writes as two: ``\U`` and 8 digits."""
    character = json.loads('"' + match[0] + '"')
    return f"\\U{ord(character):08x}"
