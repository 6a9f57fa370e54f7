"""The options of `serve` for the console, refused before a server starts."""

import pytest

from tests.support.command import tritonforge


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ui-port", "9"], "--ui-port needs --ui"),
        (["--samples", "."], "--samples needs --ui"),
        (["--ui", "--http-port", "off"], "--ui needs Triton's HTTP port"),
        (["--ui", "--ui-port", "off"], "--ui needs Triton's HTTP port and a port of its own"),
        (["--ui", "--ui-port", "8001"], "8001"),
    ],
)
def test_options_that_cannot_work_together_are_refused(arguments, sentence, tmp_path) -> None:
    done = tritonforge("serve", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
