"""The command line in the process of the test, for tests that need no process of their own."""

from __future__ import annotations

import subprocess

from click.testing import CliRunner

from tritonforge.cli.main import main


def tritonforge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line here, return its exit code, standard output and standard error."""
    with CliRunner().isolation() as (output, error, _):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        texts = [stream.getvalue().decode() for stream in (output, error)]
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, *texts)
