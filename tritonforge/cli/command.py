"""Commands and groups of the command line: options in groups, an example, suggestions for typing errors.

A group imports a subcommand when it runs, so that `--help` loads click and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click

from tritonforge.cli import printing

__all__ = ["Command", "Group", "Option", "Row"]

#: The last group of options in the help of each command.
_GLOBAL: Final = "Global options"

#: What a subcommand is loaded from (``module:name``) or the subcommand itself, and its line in the help of its group.
Row = tuple[str | click.Command, str]


class Option(click.Option):
    """An option with the heading under which the help lists it."""

    def __init__(self, *arguments: Any, group: str = "Options", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group


class Command(click.Command):
    """A command with its options in groups and an example. It has the options -q, -v and -h."""

    def __init__(self, *arguments: Any, example: str = "", **attributes: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
        attributes["context_settings"] = {**settings, **(attributes.get("context_settings") or {})}
        super().__init__(*arguments, **attributes)
        self.example = example
        self.params += [_create_verbosity_option("quiet"), _create_verbosity_option("verbose")]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", _GLOBAL), []).append(record)
        for heading in sorted(groups, key=lambda name: (name == _GLOBAL, name != "Options")):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and what else follows the options."""
        if self.example:
            lines = self.example.strip().splitlines()
            with formatter.section("Example" if len(lines) == 1 else "Examples"):
                for line in lines:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


def _create_verbosity_option(level: printing.Verbosity) -> Option:
    def set_level(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
        if is_given and not ctx.resilient_parsing:
            printing.set_verbosity(level)

    text = {
        "quiet": "Print results and errors only.",
        "verbose": "Print the log of HTTP requests, and the traceback of an error.",
        "normal": "",
    }
    return Option(
        [f"-{level[0]}", f"--{level}"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=set_level,
        group=_GLOBAL,
        help=text[level],
    )


class Group(click.Group):
    """A group whose subcommands are imported when they run; ``rows`` lists them by name, in the order of the help."""

    def __init__(self, *arguments: Any, rows: Mapping[str, Row], **attributes: Any) -> None:
        attributes["context_settings"] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
        super().__init__(*arguments, **attributes)
        self.rows = rows

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without any, print the help on standard error and exit with 2."""
        if not args and not ctx.resilient_parsing:
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the rows."""
        return list(self.rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the subcommand of a name; None if it does not exist."""
        if cmd_name not in self.rows:
            return None
        target = self.rows[cmd_name][0]
        if isinstance(target, click.Command):
            return target
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand. Raises click.UsageError with a suggestion if it does not exist."""
        name = args[0]
        if name not in self.rows and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            matches = get_close_matches(name, self.rows)
            hint = f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.rows.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Return the subcommands and options that begin with a text, without importing the subcommands."""
        from click.shell_completion import CompletionItem

        items = click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in self.rows if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=self.rows[name][1]) for name in names), *items]
