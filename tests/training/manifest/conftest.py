"""What the tests of `tritonforge manifest` share: the command in this process, and small labelled pictures."""

from __future__ import annotations

import pytest

from tests.support.manifest_samples import Run
from tritonforge.cli.main import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `tritonforge manifest` in this process: exit code, standard output, standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["manifest", *map(str, arguments)])
        output = capsys.readouterr()
        return int(str(ended.value.code)), output.out, output.err

    return command
