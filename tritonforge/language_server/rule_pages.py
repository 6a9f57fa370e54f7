"""The page of a rule, to which the code of a diagnostic links: on the site, or a file in the user's cache."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from tritonforge import __version__
from tritonforge.errors import ArtifactError
from tritonforge.files import cache_directory, documentation_address, write_file
from tritonforge.validation.registry import load_rules
from tritonforge.validation.rule_page import build_page, locate_page

__all__ = ["find_page", "write_page"]


def find_page(code: str) -> str | None:
    """Return the address of a rule's page: on the documentation site that is set, else of a file in the cache."""
    if code not in load_rules():
        return None
    site = documentation_address()
    if site:
        return locate_page(code, site)
    page = write_page(code)
    return page.as_uri() if page is not None else None


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
