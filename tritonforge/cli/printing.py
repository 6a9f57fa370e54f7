"""Text on standard output and standard error that is no table and has no colours; nothing else is imported here."""

from __future__ import annotations

import click

from tritonforge.escaping import terminal_text

__all__ = ["echo"]


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text, or a JSON document, which may have names of strangers in it."""
    click.echo(terminal_text(text), err=err, nl=nl)
