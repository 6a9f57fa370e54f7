"""The command line, run in the process of the test: starting it anew costs about a second of imports each time."""

from __future__ import annotations

import contextlib
import io
import subprocess

from tritonforge.cli.main import main


def tritonforge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; gives the exit code and both streams, as `tests.conftest.tritonforge` does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(["tritonforge", *arguments], code, out.getvalue(), err.getvalue())
