"""The page of a rule, as Markdown, and its address in the documentation. No I/O.

The same page is on the documentation site and in the user's cache, where editors open it without a network. Its
relative address is ``rules/CODE`` in both. `tritonforge explain`, SARIF and the language server link to `locate_page`.
"""

from __future__ import annotations

import re
from typing import Final

from tritonforge.triton.changes import list_changes
from tritonforge.validation.registry import Rule

__all__ = ["REFUSERS", "build_page", "escape_prose", "list_rule_changes", "locate_page"]

#: Who refuses it, in words, by `Rule.refused_by`.
REFUSERS: Final = {
    "triton": "Triton refuses it",
    "sagemaker": "SageMaker refuses it",
    "kserve": "KServe refuses it",
    "tfs": "SageMaker's TensorFlow Serving container refuses it",
    "tritonforge": "tritonforge refuses it",
    None: "nothing refuses it",
}
_CODE: Final = re.compile(r"(`[^`]+`)")
_SPECIAL: Final = re.compile(r"[\\`*\[\]]|_(?=_)|(?<=_)_")


def locate_page(code: str, site: str = "") -> str:
    """Return the address of a rule's page on a site: ``rules/E306.html`` below ``site``, relative without one."""
    return f"{site.rstrip('/')}/rules/{code}.html" if site else f"rules/{code}.html"


def list_rule_changes(code: str) -> list[str]:
    """Return a line for each change between releases of Triton that the rule depends on: releases, and what they do."""
    return [
        f"{_name_releases(change.first, change.last)}: {change.text}"
        for change in list_changes()
        if code in change.rules
    ]


def _name_releases(first: str | None, last: str | None) -> str:
    if first is None:
        return f"up to {last}" if last else "all releases"
    if last is None:
        return f"from {first} on"
    return f"only {first}" if first == last else f"{first} to {last}"


def build_page(rule: Rule) -> str:
    """Return what `tritonforge explain` prints, as Markdown."""
    examples = "".join(
        f"\n## {heading}\n\n```text\n{example.strip()}\n```\n"
        for heading, example in (("Invalid", rule.bad), ("Valid", rule.good))
    )
    changes = "".join(f"- {escape_prose(sentence)}\n" for sentence in list_rule_changes(rule.code))
    sentence = escape_prose(rule.sentence).replace("\n", "  \n> ")  # two spaces: the line ends there
    releases = f"\n## Releases\n\n{changes}" if changes else ""
    return (
        f"# {rule.code}\n\n{rule.severity.capitalize()}; {REFUSERS[rule.refused_by]}.\n\n"
        f"> {sentence}\n\n{escape_prose(rule.why)}\n{examples}{releases}\n"
        f"## Source\n\n{escape_prose(rule.source)}\n"
    )


def escape_prose(text: str) -> str:
    """Escape text for Markdown, except for code in backticks."""
    return "".join(
        part if index % 2 else _SPECIAL.sub(r"\\\g<0>", part).replace("&", "&amp;").replace("<", "&lt;")
        for index, part in enumerate(_CODE.split(text))
    )
