"""The documentation site: ``python -m tests.support.site`` writes its sources and builds it; warnings are errors.

``build/site-source`` has docs/, a page for every rule and every command as they are now; ``build/site`` is the result.
Links to files of the repository outside docs/ become their paths in code, since the site does not have these files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.command_lines import list_commands, locate_command_page, render_command_index, render_command_page
from tests.support.transcripts import NOTE
from tritonforge.cli.validation import render_rule_table
from tritonforge.validation.registry import load_rules
from tritonforge.validation.rule_page import build_page

__all__ = ["ROOT", "SITE", "list_broken_links", "list_remote_addresses", "render_configuration", "write_sources"]

ROOT = Path(__file__).parents[2]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"

#: Links to what the site does not have: the rest of the repository, and the editors' extensions in docs/.
_OUTSIDE = re.compile(r"\[[^\]]*\]\(((?:\.\./|editors/)[^)]*)\)")
#: Links to a command on the one page that the repository has of them.
_COMMAND = re.compile(r"\(commands\.md#tritonforge-([\w-]+)\)")


def write_sources(directory: Path) -> None:
    """Write the Markdown that the site is built from."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(ROOT / "docs", directory, ignore=shutil.ignore_patterns("editors", "mkdocs.yml"))
    for page in directory.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        if text.startswith("---\nname:"):  # the header that agents read
            text = f"# A skill for coding agents\n\n```markdown\n{text}```\n"
        text = _COMMAND.sub(r"(commands/\1.md)", _OUTSIDE.sub(_name_file, NOTE.sub("", text)))
        page.write_text(text, encoding="utf-8")
    (directory / "commands.md").write_text(render_command_index(), encoding="utf-8")
    (directory / "commands").mkdir()
    for name, _, command in list_commands():
        page = f"{render_command_page(name, command)}\n[All commands](../commands.md)\n"
        (directory / locate_command_page(name)).write_text(page, encoding="utf-8")
    (directory / "rules.md").write_text(render_rule_table(has_pages=True), encoding="utf-8")
    (directory / "rules").mkdir()
    for rule in load_rules().values():
        (directory / "rules" / f"{rule.code}.md").write_text(
            f"{build_page(rule)}\n[All rules](../rules.md)\n", encoding="utf-8"
        )


def render_configuration() -> str:
    """Return docs/mkdocs.yml with the pages of the commands below their index."""
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    line = "      - Commands: commands.md\n"
    assert line in text
    pages = [(name.removeprefix("tritonforge "), locate_command_page(name)) for name, _, _ in list_commands()]
    entries = "".join(f"          - {name}: {path}\n" for name, path in pages)
    entries = "".join(f"          - {name}: {path}\n" for name, path in pages)
    return text.replace(line, f"      - Commands:\n          - commands.md\n{entries}")


def _name_file(link: re.Match[str]) -> str:
    path = link[1].removeprefix("../")
    return f"`{path if path != link[1] else f'docs/{path}'}`"


class _Page(HTMLParser):
    """The addresses that a page refers to and loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes of an element."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif value and (name in ("src", "srcset") or (name == "href" and tag == "link")):
                self.loaded.append(value)
            elif value and name == "href":
                self.links.append(value)


def _read_pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def list_broken_links(site: Path) -> Iterator[str]:
    """Yield a line for each link, picture and style of a page whose file or anchor does not exist in the site."""
    pages = _read_pages(site)
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            name = path.relative_to(site)
            if not target.is_file():
                yield f"{name}: {link}: file not found"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors | {"__comments"}:
                yield f"{name}: {link}: anchor not found"


def list_remote_addresses(site: Path) -> set[str]:
    """Return the addresses of other hosts that a page loads when it is read."""
    return {
        address
        for page in _read_pages(site).values()
        for address in page.loaded
        if urlsplit(address).netloc and not address.startswith("data:")
    }


def main() -> int:
    """Build the site; return 1 if the generator warns, a link is broken or a page loads something from elsewhere."""
    write_sources(SOURCE)
    shutil.rmtree(SITE, ignore_errors=True)
    (SOURCE.parent / "mkdocs.yml").write_text(render_configuration(), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=SOURCE.parent, check=False)
    if built.returncode:
        return built.returncode
    problems = [
        *list_broken_links(SITE),
        *(f"{address}: loaded from elsewhere" for address in list_remote_addresses(SITE)),
    ]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    pages = sum(1 for _ in SITE.rglob("*.html"))
    sys.stdout.write(f"{SITE.relative_to(ROOT)}: {pages} pages, {len(problems)} problems\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
