"""The corpus: recorded verdicts of the real server, and hand-written repositories that must give no false error.

The corpus lies beside the project (../shared/corpus); its README says how to read it. Sentences are compared after the
server's prefixes are taken off; `<repo>` is the repository's folder in both.
"""

import base64
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_oracle import PREFIXES
from tritonforge.validation.findings import Finding, verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus (../shared/corpus) is not beside the project")


@lru_cache
def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file of the corpus."""
    path = CORPUS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def probes() -> list[dict[str, Any]]:
    """The recorded verdicts: the first collection, and the cases found later where we differed from the server."""
    return cases("server_probes.jsonl") + cases("server_probes_2.jsonl")


def tree(files: dict[str, Any]) -> Tree:
    """The tree of a case's files."""

    def entry(value: Any) -> str | bytes | Entry:
        if isinstance(value, str):
            return value
        if "base64" in value:
            return base64.b64decode(value["base64"])
        if "link" in value:
            return link(value["link"])
        return DIRECTORY if value.get("dir") else b""

    return Tree.of({path: entry(value) for path, value in files.items()})


def judged(case: dict[str, Any]) -> list[Finding]:
    """Return our findings, with the options of the server."""
    options: dict[str, Any] = {}
    for argument in case["server_args"]:
        name, _, value = argument.partition("=")
        if (name, value) == ("--strict-model-config", "true"):
            options["auto_complete"] = False
        elif name == "--load-model":
            options.setdefault("load_models", []).append(value)
        elif name == "--model-config-name":
            options["model_config_name"] = value
    if "host without GPU" in case["needs"]:
        options["gpus"] = 0
    return validate(tree(case["files"]), **options)


def sentences(case: dict[str, Any]) -> list[str]:
    """Return the server's sentences without their prefixes; a process that died has none of its own."""
    lines = [
        line for line in case["errors"] if not line.startswith("PROCESS DIED") and "failed to load all" not in line
    ]
    return [PREFIXES.sub("", line).strip() for line in lines]


#: With --exit-on-error=false the server starts whatever its models are; its sentences are compared below.
DECIDED = [case for case in probes() if "--exit-on-error=false" not in case["server_args"]]


def test_the_corpus_is_whole() -> None:
    """No parametrization below is empty."""
    assert len(DECIDED) > 100
    assert cases("hand_written.jsonl")


@pytest.mark.parametrize("case", DECIDED, ids=lambda case: case["id"])
def test_the_verdict_is_the_servers(case: dict[str, Any]) -> None:
    """Loads or refused, as the real server did."""
    expected = "loads" if case["expected"] == "good" else "refused"
    assert verdict(judged(case)) == expected


def test_the_servers_sentences_are_among_the_messages() -> None:
    """In at least 95 of 100 refused repositories each sentence of the server is one of our messages."""
    refused = [case for case in probes() if sentences(case)]
    lost = {
        case["id"]: missing
        for case in refused
        if (missing := set(sentences(case)) - {finding.message.strip() for finding in judged(case)})
    }
    assert len(lost) <= 0.05 * len(refused), lost


def test_good_repositories_give_no_error() -> None:
    """What the server takes gives advice at most, save what tritonforge itself refuses: strings for a shell."""
    wrong = {
        case["id"]: errors
        for case in probes()
        if case["expected"] == "good"
        and "--exit-on-error=false" not in case["server_args"]
        and (errors := [finding for finding in judged(case) if finding.severity == "error" and finding.code != "E118"])
    }
    assert wrong == {}


@pytest.mark.parametrize("case", cases("hand_written.jsonl"), ids=lambda case: case["id"])
def test_hand_written_repositories_give_no_false_error(case: dict[str, Any]) -> None:
    """Public repositories that load give no error; models whose verdict needs others that are not there are let be.

    The verdicts are of a server whose backends open no files, and the examples of the python backend lie as their
    documentation has them, without a version directory: a missing model.py is not counted.
    """
    verdicts = case["verdicts"]
    wrong = [
        finding
        for finding in validate(tree(case["files"]))
        if finding.severity == "error"
        and "Python model file not found" not in finding.message
        and verdicts.get(finding.path.split("/")[0], {}).get("expected") != "context"
    ]
    assert wrong == []
