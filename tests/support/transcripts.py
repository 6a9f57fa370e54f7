"""The code blocks of a document, and the comparison of what they show with what was printed. No I/O.

A comment above a block states how it is run; it is invisible where the document is read::

    <!-- long: REASON -->        run by `make test-docs` only
    <!-- not run: REASON -->     not run
    <!-- figures: REASON -->     all numbers that it shows differ from run to run
    <!-- setup: COMMAND -->      a command that is run before the block
    <!-- file: PATH -->          the block is written to this file
    <!-- in: PATH -->            the block is a part of this file
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["NOTE", "Block", "Entry", "describe_difference", "mask_figures", "read_blocks", "read_entries"]

#: A comment above a block, with the line's end.
NOTE: Final = re.compile(r"^<!-- (long|not run|figures|setup|file|in): (.+?) -->\n+(?=<!-- |```)", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENTRY: Final = re.compile(r"^\$ ", re.MULTILINE)

#: What differs between two runs, two machines or two installations, and what it is compared as.
_FIGURES: Final = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"sha256:[0-9a-f]+|\b[0-9a-f]{64}\b|\b[0-9a-f]{8}\.\.\.", "DIGEST"),
        (r"(?<=-)[0-9a-f]{12}\b", "DIGEST"),  # the end of a resource's name
        (r"/tmp/\S+", "/tmp/PATH"),
        (r":\d+/#token=\S+", ":PORT/#token=TOKEN"),
        (r"\b\d[\d,.]* (ms|µs|ns|s|images/s|records/s|requests/s)(?![\w/])", r"# \1"),
        (r"\b\d[\d,.]* (B|bytes|kB|MB|GB)\b", r"# bytes"),
        (r"(?<=\d\.\d{2})\d{3,}", ""),  # the last digits of scores differ between processors
        (r"(?<==)-?\d+\.\d+\b", "#"),  # metrics: loss=0.417
        (r"^backends .*\n", ""),  # the extras that are installed
        (r"^ +not installed: .*\n", ""),
    )
)
#: The line of a step of slow work, which a document may leave out.
_PROGRESS: Final = re.compile(r"^  \S.* \.\.\.\n", re.MULTILINE)
#: What else differs in a block of figures: bars, the step that limits, how many sizes a list has, what was not stable.
_MEASURED: Final = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"^note: .* not stable within .*\n", ""),
        (r"^(bottleneck: )?\w+ takes .*$", "BOTTLENECK"),
        (r"^> ", "  "),
        (r"[█░]+(?: *[█░]+)*", "BAR"),
        (r"#|-?\b\d[\d,.]*(?: (?:ms|µs|s)\b|%)?", "#"),
        (r"#(?: (?:ms|µs|s)\b)?", "#"),
        (r"#:#(?: #:#)+", "#:#"),
    )
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, its language and text, and the comments above it.

    ``output`` is the text block that directly follows a Python block: what it prints.
    """

    page: str
    line: int
    language: str
    text: str
    notes: Mapping[str, str]
    setup: tuple[str, ...] = ()
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Entry:
    """A command of a console block, and what the block shows below it."""

    command: str
    shown: str


def read_blocks(page: str, text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page that are at the beginning of a line."""
    matches = list(_BLOCK.finditer(text))
    for number, match in enumerate(matches):
        above = re.search(r"(?:^<!-- [^\n]* -->\n+)*\Z", text[: match.start()], re.MULTILINE)
        notes = NOTE.findall(f"{above[0]}```") if above else []
        after = matches[number + 1] if number + 1 < len(matches) else None
        is_output = (
            match[1] == "python"
            and after is not None
            and after[1] == "text"
            and not text[match.end() : after.start()].strip()
        )
        yield Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match[1],
            match[2],
            {name: value for name, value in notes if name != "setup"},
            tuple(value for name, value in notes if name == "setup"),
            after[2] if is_output and after is not None else None,
        )


def read_entries(block: Block) -> Iterator[Entry]:
    """Yield the commands of a console block; a backslash continues a command on the next line."""
    for part in _ENTRY.split(block.text.replace("\\\n", "\\\0"))[1:]:
        command, _, shown = part.partition("\n")
        yield Entry(command.replace("\\\0", "\\\n"), shown.replace("\\\0", "\\\n"))


def mask_figures(text: str, *, has_figures: bool = False) -> str:
    r"""Return a text without what differs from run to run; with ``has_figures`` without any number.

    >>> mask_figures('a.jpg  21.6 ms   0.498357  1  green')
    'a.jpg  # ms  0.49  1  green\n'
    """
    for pattern, replacement in _FIGURES:
        text = pattern.sub(replacement, text)
    if has_figures:
        for pattern, replacement in _MEASURED:
            text = pattern.sub(replacement, text)
    # Columns are as wide as their figures.
    lines = (re.sub(r"(?<=\S) {2,}", "  ", line).rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines)


def describe_difference(shown: str, printed: str, *, has_figures: bool = False) -> str:
    r"""Return the difference between what a document shows and what was printed, empty if they are equal.

    A line ``...`` matches any number of lines, ``...`` in a line any text. Where a document shows no progress, lines of
    progress are not compared.

    >>> describe_difference("a ... 12.5 ms\n...\nend\n", "a and b 3 ms\n1\n2\nend\n")
    ''
    """
    expected = mask_figures(shown, has_figures=has_figures)
    actual = mask_figures(printed, has_figures=has_figures)
    if not _PROGRESS.search(expected):
        actual = _PROGRESS.sub("", actual)
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + "\n"
        for line in expected.splitlines()
    )
    if re.fullmatch(pattern, actual):
        return ""
    return "".join(
        difflib.unified_diff(
            expected.splitlines(keepends=True), actual.splitlines(keepends=True), "document", "printed", n=9
        )
    )
