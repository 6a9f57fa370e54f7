"""The commands as documents.

``python -m tests.support.command_lines`` writes docs/commands.md; the site has a page for each command.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from tritonforge.cli.command import Group
from tritonforge.cli.main import cli
from tritonforge.validation.rule_page import escape_prose

__all__ = [
    "DOCUMENT",
    "list_commands",
    "locate_command_page",
    "parse_example",
    "render_command_index",
    "render_command_page",
    "render_reference",
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"

#: The group of the options that every command has.
_GLOBAL = "Global options"

_INTRODUCTION = """\
# Commands

Written from the commands by `make docs`; `tritonforge COMMAND --help` prints the same.

Every command has `-h` (`--help`), `-q` (`--quiet`: print results and errors only) and `-v` (`--verbose`: print the log
of HTTP requests, and the traceback of an error). Every command with a result that machines read has
`--format text|json` and its short form `--json`; it then prints one JSON document on standard output, errors included:
`{"error": {"message": ..., "exit_code": ...}}`. Progress, notes and errors go to standard error. `-y` (`--yes`) applies
a plan without asking. Options for SageMaker are refused where a command runs on this machine, and the other way round.

`tritonforge completion bash|zsh|fish` prints the script of shell completion: `eval "$(tritonforge completion bash)"`.

## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | the job failed or reached its time limit; the server, AWS or `validate` refused; `--check` found a difference |
| 2 | invalid input or usage: an option, a path that does not exist, a definition, a model file, a missing extra |
| 3 | only `deploy --plan --detailed-exitcode`: there are changes to apply |
| 130 | interrupted by Ctrl-C or SIGTERM |

`emulate -- COMMAND` exits with the code of COMMAND.

## Extras

Without an extra, `new`, `build --check`, `validate`, `explain`, `import`, `graph` (except PNG), `trace`, `completion`
and `algorithm show` work. The others end with exit code 2 and the command that installs what they need:

| extra | commands |
|---|---|
| `client` | `infer` over HTTP, `manifest` (except `show`), `watch`, `profile URL`, `deploy --to kserve -o DIR` |
| `local` | `serve`, `test`, `tune`, `profile REPOSITORY`, most of `build`, `transform --repository`, `manifest show` |
| `aws` | `package`, `deploy`, `destroy`, `train`, most of `algorithm`, `--on sagemaker`, `s3://` addresses |
| `transform` | `transform --url` |
| `ray` | `transform --on ray` |
| `graph` | `graph -o x.png` |
| `grpc` | `infer grpc://` |
| `kubernetes` | `deploy --to kserve --apply` |
| `lsp` | `lsp` |
| `emulator` | `emulate` |
| `ray` | `transform --on ray` |

## All commands

| command | what it does |
|---|---|
"""


def list_commands() -> Iterator[tuple[str, str, click.Command]]:
    """Yield the name, the line in the help, and the command of every subcommand that is not a group."""
    return _list_rows("tritonforge", cli)


def _list_rows(prefix: str, group: click.Command) -> Iterator[tuple[str, str, click.Command]]:
    assert isinstance(group, Group)
    context = click.Context(group)
    for name, (_, line) in group.rows.items():
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, Group):
            yield from _list_rows(f"{prefix} {name}", command)
        else:
            yield f"{prefix} {name}", line, command


def parse_example(line: str) -> None:
    """Parse a command line that begins with tritonforge or has it in a substitution. Raises click.UsageError."""
    start = line.index("tritonforge ")
    text = line[start:].split(" |")[0]
    words = shlex.split(text.rstrip('")') if line[:start].endswith("$(") else text)
    command: click.Command | None = cli
    path, arguments = [words[0]], words[1:]
    while isinstance(command, Group):
        path.append(arguments[0])
        command = command.get_command(click.Context(command), arguments[0])
        arguments = arguments[1:]
    assert command is not None, line
    # Without the values that the line leaves out, click would also accept unknown options: they are compared here.
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    for word in arguments[: arguments.index("--") if "--" in arguments else None]:
        if word.startswith("--") and word.partition("=")[0] not in names:
            raise click.NoSuchOption(word)
    with command.make_context(" ".join(path), arguments, resilient_parsing=True):
        pass


def render_reference() -> str:
    """Return the content of docs/commands.md."""
    commands = list(list_commands())
    parts = [_INTRODUCTION, *(f"| [`{name}`](#{name.replace(' ', '-')}) | {line} |\n" for name, line, _ in commands)]
    for name, _, command in commands:
        parts.append(f"\n## {name}\n\n```text\n{command.get_help(_create_context(name, command))}\n```\n")
    return "".join(parts)


def locate_command_page(name: str) -> str:
    """Return the path of a command's page on the site.

    >>> locate_command_page("tritonforge manifest check")
    'commands/manifest-check.md'
    """
    return f"commands/{name.removeprefix('tritonforge ').replace(' ', '-')}.md"


def render_command_index() -> str:
    """Return the page of the site that lists all commands, with what is common to them."""
    rows = (f"| [`{name}`]({locate_command_page(name)}) | {line} |\n" for name, line, _ in list_commands())
    return "".join([_INTRODUCTION, *rows])


def render_command_page(name: str, command: click.Command) -> str:
    """Return the page of a command: its usage, its help, its options by group, and its examples."""
    context = _create_context(name, command)
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"# {name}\n\n```text\n{usage}\n```\n\n{escape_prose(inspect.cleandoc(command.help or ''))}\n"]
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            groups.setdefault(getattr(parameter, "group", _GLOBAL), []).append(record)
    example = getattr(command, "example", "")
    if example:
        parts.append(f"\n## Examples\n\n```sh\n{example.strip()}\n```\n")
    for heading in sorted(groups, key=lambda group: (group == _GLOBAL, group != "Options")):
        parts.append(f"\n## {heading}\n")
        parts += (f"\n`{names}`\n:   {escape_prose(text)}\n" for names, text in groups[heading])
    if command.epilog:
        parts.append(f"\n{escape_prose(command.epilog)}\n")
    return "".join(parts)


def _create_context(name: str, command: click.Command) -> click.Context:
    return click.Context(
        command, info_name=name, max_content_width=110, terminal_width=110, help_option_names=["-h", "--help"]
    )


if __name__ == "__main__":
    DOCUMENT.write_text(render_reference(), encoding="utf-8")
