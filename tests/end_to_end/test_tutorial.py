"""docs/tutorial.md: its commands are run in order in an empty directory, and print what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

pytestmark = [pytest.mark.server, pytest.mark.framework]

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
#: What differs between two runs or two environments: times, digests, sizes of files that libraries write, extras.
VOLATILE = re.compile(
    r"[\d.]+ ms|sha256:\w+|[\d.]+ k?B$|^backends .*\n|^ +not installed.*\n|(?<=\d\.\d{4})\d+", re.MULTILINE
)
URLS = ("http://127.0.0.1:8080", "http://127.0.0.1:8000", "grpc://127.0.0.1:8001", "http://127.0.0.1:8002")


def list_steps() -> Iterator[tuple[str, str]]:
    """The commands after the installation, and the text that the page shows below them."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.partition("## 2.")[2], flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = entry.partition("\n")
            yield command, shown


def round_scores(text: str) -> str:
    """A text with scores of four digits: the last ones differ between processors."""
    return re.sub(r"(?<=\d\.\d{4})\d+", "", text)


def read_until_served(server: subprocess.Popen[str]) -> str:
    """What `serve` prints until it serves; an error if it ends first."""
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            return "".join(lines)
    raise AssertionError("".join(lines))


def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    addresses: dict[str, str] = {}
    server: subprocess.Popen[str] | None = None
    shown_ran = 0
    try:
        for command, shown in list_steps():
            if command.startswith("pip "):
                continue
            if command == "kill -INT %1":
                assert server is not None
                (python,) = (
                    block
                    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
                    if "Client(" in block
                )
                script = python.replace(URLS[0], addresses[URLS[0]])
                done = subprocess.run(
                    [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
                )
                assert round_scores(done.stdout) in round_scores(PAGE)
                server.send_signal(signal.SIGINT)
                assert server.wait(60) == 0
                continue
            if command.endswith(" &"):
                options = ["--sagemaker-port=0", "--http-port=0", "--grpc-port=0", "--metrics-port=0"]
                server = subprocess.Popen(
                    [*shlex.split(command[:-2]), *options], cwd=tmp_path, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                printed = read_until_served(server)
                addresses = dict(zip(URLS, re.findall(r"\w+://127[\d.:]+", printed), strict=True))
            else:
                for written, address in addresses.items():
                    command = command.replace(written, address)
                done = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
                )
                assert done.returncode == (1 if "Triton refuses it" in shown else 0), done.stderr
                printed = done.stderr + done.stdout
            for written, address in addresses.items():
                printed = printed.replace(address, written)
            if shown:
                assert VOLATILE.sub("~", printed) == VOLATILE.sub("~", shown), command
                shown_ran += 1
    finally:
        if server is not None:
            server.kill()
            server.communicate()
    assert shown_ran == 6
