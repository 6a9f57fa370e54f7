"""Commands, groups and options in general: help, examples, suggestions, formats, and shell completion."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.command_lines import DOCUMENT, list_commands, parse_example, render_reference
from tritonforge.cli.command import Command, Group, Option

COMMANDS = {name: command for name, _, command in list_commands()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    lines = command.example.splitlines()
    assert lines
    for line in lines:
        assert name in line
        parse_example(line)
    assert "Example" in command.get_help(click.Context(command, info_name=name))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described_in_a_group(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert isinstance(parameter, Option), parameter.opts
            assert parameter.help, parameter.opts
            assert parameter.help.rstrip("]").endswith((".", ")")) or "[default" in parameter.help, parameter.help
            assert parameter.help[0].isupper() or parameter.help[0] in "/`" or parameter.help.startswith("gRPC")


def test_options_are_spelled_alike_in_every_command() -> None:
    for name, command in COMMANDS.items():
        options = {option: parameter for parameter in command.params for option in parameter.opts}
        assert ("--format" in options) == ("--json" in options), name
        assert ("--yes" in options) == ("-y" in options), name
        assert {"-q", "--quiet", "-v", "--verbose"} <= set(options), name
        if "--model" in options:
            assert options["--model"].metavar == "NAME", name


def test_the_reference_is_up_to_date() -> None:
    """`make docs` writes it."""
    assert DOCUMENT.read_text(encoding="utf-8") == render_reference()


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["biuld"], "No such command 'biuld'. Did you mean 'build'?"),
        (["manifest", "chekc"], "No such command 'chekc'. Did you mean 'check'?"),
        (["frobnicate"], "No such command 'frobnicate'. (see: tritonforge --help)"),
        (["build", "--chekc"], "Did you mean '--check'"),
    ],
)
def test_a_typing_error_gets_a_suggestion(arguments: list[str], suggestion: str) -> None:
    done = tritonforge(*arguments)
    assert done.returncode == 2
    assert suggestion in done.stderr.replace("one of: ", "")


@pytest.mark.parametrize("arguments", [[], ["manifest"], ["algorithm", "run"]])
def test_a_group_without_a_command_prints_its_help(arguments: list[str]) -> None:
    done = tritonforge(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: tritonforge")
    assert "error:" not in done.stderr


#: An argument that is a path, or an option with a file to write, for each command that has one.
MISSING_PATHS = [
    "build none", "validate none", "serve none", "infer http://127.0.0.1:1 none.jpg", "package none", "deploy none",
    "package none.tar.gz --inspect", "manifest check none", "manifest convert none --to detector -o x",
    "manifest convert README.md --to detector -o none/x", "manifest split none --train a --validation b",
    "manifest split README.md --train none/a --validation b", "manifest show none -o x.png",
    "manifest show README.md -o none/x.png", "package repos -o none/x.tar.gz",
    "infer http://127.0.0.1:1 README.md -o none/x.npz", "serve repos --log none/x", "emulate --log none/x",
    "algorithm show none", "algorithm run serve none --model-dir repos",
    "algorithm run serve repos --model-dir none", "algorithm requests none --training-image i:1",
    "algorithm publish none --training-image i:1", "transform none x --url http://127.0.0.1:1",
    "transform repos x --repository none", "transform repos x --repository repos --log none/x", "train none -o x",
    "train repos/detector -o x --job none", "train repos/detector -o x --channel training=none",
]  # fmt: skip


@pytest.mark.parametrize("line", MISSING_PATHS)
def test_a_path_that_does_not_exist_ends_with_2(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = tritonforge(*line.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert any(text in done.stderr for text in ("does not exist", "not found", "no such"))


def test_json_is_short_for_the_format(tmp_path: Path) -> None:
    long, short = (tritonforge("explain", "E213", *option) for option in (("--format", "json"), ("--json",)))
    assert long.stdout == short.stdout
    assert json.loads(short.stdout)["code"] == "E213"
    done = tritonforge("explain", "E213", "--json", "--format", "text")
    assert (done.returncode, "--json is short for --format json" in done.stderr) == (2, True)


def test_quiet_hides_progress_and_notes_but_not_errors(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.pbtxt").write_text('backend: "python"')
    assert "note: " in tritonforge("validate", str(tmp_path / "model"), "--allow-empty").stderr
    assert tritonforge("validate", str(tmp_path / "model"), "--allow-empty", "-q").stderr == ""
    assert tritonforge("validate", str(tmp_path / "none"), "-q").stderr.startswith("error: ")


def test_verbose_adds_the_traceback_of_an_error(tmp_path: Path) -> None:
    (tmp_path / "definition.py").write_text("1 / 0")
    plain, verbose = (tritonforge("build", str(tmp_path), *option) for option in ((), ("-v",)))
    assert "Traceback" not in plain.stderr
    assert "Traceback" in verbose.stderr
    assert plain.returncode == verbose.returncode == 2


@pytest.mark.process
def test_groups_complete_without_importing_commands() -> None:
    script = (
        "import sys; from tritonforge.cli.main import cli; from click.shell_completion import ShellComplete\n"
        "print([item.value for item in ShellComplete(cli, {}, 'tritonforge', '_X').get_completions([], 'ex')])\n"
        "print('tritonforge.cli.validation' in sys.modules, 'rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['explain']", "False False"]


def complete(shell: str, words: str) -> subprocess.CompletedProcess[str]:
    """Run what a shell's completion of some words runs, in that shell."""
    program = Path(sys.executable).with_name("tritonforge")
    scripts = {
        "bash": f"""eval "$(tritonforge completion bash)"; complete -p tritonforge; COMP_WORDS=({words})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _tritonforge_completion tritonforge; printf '%s\\n' "${{COMPREPLY[@]}}"
        """,
        "zsh": 'autoload -U compinit; compinit -u; eval "$(tritonforge completion zsh)"; echo ${_comps[tritonforge]}',
        "fish": f"tritonforge completion fish | source; complete --do-complete '{words}'",
    }
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "dumb"}
    return subprocess.run(
        [shell, "-c", scripts[shell]], capture_output=True, text=True, check=False, env=environment, timeout=60
    )


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tritonforge ex", ["explain"]),
        ("tritonforge manifest s", ["split", "show"]),
        ("tritonforge build --che", ["--check"]),
    ],
)
def test_bash_completes_commands_and_options(words: str, expected: list[str]) -> None:
    done = complete("bash", words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == expected, done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [("zsh", "", "_tritonforge_completion"), ("fish", "tritonforge ex", "explain")],
)
def test_other_shells_accept_their_scripts(shell: str, words: str, expected: str) -> None:
    """In the real shell if it is installed; otherwise the script must name the function that the shell calls."""
    if shutil.which(shell) is None:
        script = tritonforge("completion", shell).stdout
        assert "_TRITONFORGE_COMPLETE" in script
        assert "_tritonforge_completion" in script
    else:
        done = complete(shell, words)
        assert expected in done.stdout, done.stderr


def test_a_group_in_a_group_lists_its_commands() -> None:
    done = tritonforge("algorithm", "run", "--help")
    assert done.returncode == 0
    assert "\n  train" in done.stdout
    assert isinstance(COMMANDS["tritonforge algorithm run train"], Command)
    assert not any(isinstance(command, Group) for command in COMMANDS.values())
