"""The command line in the process of the test: for tests of what it says, which need no process of its own."""

from __future__ import annotations

import subprocess

from click.testing import CliRunner

from tritonforge.cli.main import main


def tritonforge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line here, with standard output and standard error apart; gives what a process of it gives."""
    with CliRunner().isolation() as (output, error, _):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        told = [each.getvalue().decode() for each in (output, error)]
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, *told)
