"""The README's own code and words are run, so that what it says stays true."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tritonforge import TYPE_FP32, Dali, Input, Output, Tensor
from tritonforge.cli.main import cli
from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.loading import load
from tritonforge.repository.resolve import BuiltArtifact, resolve

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_definition_is_one_and_its_wiring_error_is_word_for_word() -> None:
    """The first Python block defines what it says, and the error shown is the one raised."""
    defined: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), defined)
    assert [wire.model.name for wire in defined["classify"].steps] == ["decode", "inception"]
    smaller = Dali(
        "decode", max_batch_size=64, input=[Input("jpeg")], output=[Output("pixels", TYPE_FP32, [224, 224, 3])]
    )
    with pytest.raises(DefinitionError) as raised:
        defined["inception"](smaller(Tensor("INPUT")))
    assert f"DefinitionError: {raised.value}" in " ".join(blocks("text")[0].split())


def test_the_deployment_is_one() -> None:
    """The Python block of a deployment makes it."""
    (block,) = (block for block in blocks("python") if "import Deployment" in block)
    defined: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), defined)
    assert defined["deployment"].name == "digits"


def test_every_command_in_the_readme_exists() -> None:
    """Each `$ tritonforge ...` line is parsed by the command line itself."""
    whole = [block.replace("\\\n", " ") for block in blocks("console")]
    lines = [line[2:] for block in whole for line in block.splitlines() if line.startswith("$ ")]
    ours = [shlex.split(line, comments=True) for line in lines if line.startswith("tritonforge ")]
    assert len(ours) >= 4
    for _, command, *arguments in ours:
        found = cli.get_command(None, command)  # type: ignore[arg-type]  # our group needs no context
        assert found is not None, command
        found.make_context(command, [argument for argument in arguments if argument != "&"], resilient_parsing=True)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in lines:
        if line.startswith("make "):
            assert shlex.split(line, comments=True)[1] in targets


def test_every_python_name_in_the_readme_can_be_imported() -> None:
    """The imports of every Python block work."""
    for block in blocks("python"):
        for line in block.splitlines():
            if line.startswith("from tritonforge"):
                exec(line, {})


def built_files() -> list[str]:
    """The paths in the transcript of `tritonforge build repos/inception_v3`."""
    transcript = next(block for block in blocks("console") if "tritonforge build repos/inception_v3" in block)
    return re.findall(r"^  (\S+/\S+)  [\d.]+ k?M?B$", transcript, flags=re.MULTILINE)


def test_the_build_transcript_lists_the_files_of_the_definition() -> None:
    """Each path in the transcript is in the repository that the definition describes, and no other."""
    names = {"dali": "model.dali", "inception_graphdef": "model.graphdef"}
    files = resolve(load(ROOT / "repos/inception_v3/definition.py").models).files
    assert built_files() == sorted(
        f"{path}/{names[source.model.name]}" if isinstance(source, BuiltArtifact) else path
        for path, source in files.items()
    )


# The graph takes long to build; the test above compares the same paths with the definition.
@pytest.mark.long
@pytest.mark.framework
def test_the_build_transcript_lists_the_files_that_are_built(inception: Path) -> None:
    """Each path in the transcript is in the built repository, and no other."""
    assert built_files() == sorted(
        path.relative_to(inception).as_posix()
        for path in inception.rglob("*")
        if path.is_file() and path.parent != inception
    )


@pytest.mark.process
def test_the_exit_codes_are_documented_in_both_places() -> None:
    """README and `--help` name the same codes."""
    help_ = run_tritonforge("--help").stdout
    for code in ("0", "1", "2", "130"):
        assert f"| {code} |" in README
        assert f" {code} " in help_
