"""Text, JSON documents and errors on standard output and standard error, without tables; imports only click."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import click

from tritonforge.escaping import escape_line, escape_text

__all__ = ["Verbosity", "align_columns", "echo", "echo_json", "get_verbosity", "print_error", "set_verbosity"]

Verbosity = Literal["quiet", "normal", "verbose"]

_verbosity: Verbosity = "normal"


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text in which strangers may have chosen names."""
    click.echo(escape_text(text), err=err, nl=nl)


def echo_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a JSON document."""
    echo(json.dumps(document, indent=indent))


def align_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as escaped lines with aligned columns: the first one to the left, the others to the right.

    >>> list(align_columns([["step", "mean"], ["a", "1.5 ms"]]))
    ['step    mean', 'a     1.5 ms']
    """
    cells = [[escape_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        first, *others = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others]).rstrip()


def print_error(sentence: str) -> None:
    """Print an error on standard error; --quiet does not hide it."""
    click.secho("error: ", err=True, nl=False, fg="red")
    echo(sentence, err=True)


def get_verbosity() -> Verbosity:
    """Return how much is printed on standard error."""
    return _verbosity


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much is printed on standard error; "verbose" also prints the HTTP requests of Python's clients."""
    global _verbosity
    _verbosity = verbosity
    if verbosity == "verbose":
        import logging

        # botocore logs its requests' signatures at level DEBUG; urllib3, which carries them, logs method, path, status.
        logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO)
        logging.getLogger("urllib3").setLevel(logging.DEBUG)
