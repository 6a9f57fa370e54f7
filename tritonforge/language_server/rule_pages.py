"""The page of a rule, to which the code of a diagnostic links: a file in the user's cache, read without a network."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from tritonforge import __version__
from tritonforge.errors import ArtifactError
from tritonforge.files import cache_directory, write_file
from tritonforge.validation.registry import Rule, load_rules

__all__ = ["build_page", "write_page"]


def build_page(rule: Rule) -> str:
    """Return what `tritonforge explain` prints, as Markdown."""
    examples = "".join(
        f"\n## {heading}\n\n```\n{example.strip()}\n```\n"
        for heading, example in (("Invalid", rule.bad), ("Valid", rule.good))
    )
    return f"# {rule.code}\n\n{rule.sentence}\n\n{rule.why}\n{examples}\nSource: {rule.source}\n"


@cache
def write_page(code: str) -> Path | None:
    """Write the page of a rule where it is missing; return its path, None where it cannot be written."""
    rule = load_rules().get(code)
    if rule is None:
        return None
    with suppress(ArtifactError, OSError):
        directory = cache_directory() / "rules" / __version__
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        page, content = directory / f"{code}.md", build_page(rule).encode()
        if not page.is_file() or page.read_bytes() != content:
            write_file(page, content, sync=False)
        return page
    return None
