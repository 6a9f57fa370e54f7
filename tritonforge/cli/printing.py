"""Text, JSON documents and errors on standard output and standard error, without tables; imports only click."""

from __future__ import annotations

import json
from typing import Any, Literal

import click

from tritonforge.escaping import escape_text

__all__ = ["Verbosity", "echo", "echo_json", "get_verbosity", "print_error", "set_verbosity"]

Verbosity = Literal["quiet", "normal", "verbose"]

_verbosity: Verbosity = "normal"


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text in which strangers may have chosen names."""
    click.echo(escape_text(text), err=err, nl=nl)


def echo_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a JSON document."""
    echo(json.dumps(document, indent=indent))


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
