"""Groups of subcommands, each imported when it runs: `--help` loads click and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["Commands"]


class Commands(click.Group):
    """A group whose subcommands are imported when they are asked for.

    ``rows`` has by name the function that holds a subcommand (``module:name``), and its line in the group's help.
    """

    def __init__(self, *arguments: Any, rows: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rows = rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the rows."""
        return list(self._rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of a name; None where there is none."""
        if cmd_name not in self._rows:
            return None
        module, _, name = self._rows[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._rows.items()])
