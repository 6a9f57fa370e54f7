"""The corpus: every repository that the real server loads is imported as equal messages, but for named exceptions.

The corpus is beside the project (../shared/corpus); its README states its format.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.imported_definitions import import_and_build
from tritonforge.repository.repository_import import import_repository
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus (../shared/corpus) is not beside the project")

#: Repositories on which the server starts and that have no definition, and why.
EXCEPTIONS = {
    "nm_unicode": "a name that HTTP clients cannot address",
    "repro/py_name_chars": "a name that Triton passes to a shell",
    "pt_invalid_utf8": "a text that is not UTF-8, which protobuf's Python cannot hold",
    "fs_empty_repo": "no models",
    "ex_exit_on_error_false": "a configuration that cannot be parsed, which the server was started to skip",
    "ex_explicit_broken_neighbour": "a configuration that cannot be parsed, of a model that the server was not to load",
    "fs_symlink_version_dir": "a version directory that is a link out of the repository",
}

#: Models whose configuration names another model than its directory: Triton refuses them there.
MISNAMED = {"wrong_model__dup"}


def list_cases(name: str) -> list[dict[str, Any]]:
    """Return the cases of a file of the corpus."""
    return [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]


def build_tree(files: dict[str, Any], models: set[str] | None = None) -> Tree:
    """Return the tree of a case's files; with ``models``, without the directories of others."""

    def read(value: Any) -> str | bytes | Entry:
        if isinstance(value, str):
            return value
        if "base64" in value:
            return base64.b64decode(value["base64"])
        if "link" in value:
            return link(value["link"])
        return DIRECTORY if value.get("dir") else b""

    chosen = {path: value for path, value in files.items() if models is None or path.partition("/")[0] in models}
    return Tree.of({path: read(value) for path, value in chosen.items()})


@pytest.mark.slow
def test_what_the_server_loads_is_imported_as_equal_messages(tmp_path: Path) -> None:
    refused, differing, models = {}, {}, 0
    cases = [(case["id"], build_tree(case["files"])) for name in ("server_probes.jsonl", "server_probes_2.jsonl")
             for case in list_cases(name) if case["expected"] == "good"]  # fmt: skip
    for case in list_cases("hand_written.jsonl"):
        good = {model for model, verdict in case["verdicts"].items() if verdict["expected"] != "bad"}
        cases.append((case["id"], build_tree(case["files"], good - MISNAMED)))
    for number, (name, tree) in enumerate(cases):
        imported = import_repository(tree, directory="repository", title="Imported.")
        if imported.problems:
            refused[name] = imported.problems
            continue
        wanted, built = import_and_build(tree, tmp_path / str(number))
        models += len(wanted)
        unequal = [model for model, config in wanted.items() if config != built[model]]
        if unequal:
            differing[name] = unequal
    assert refused.keys() == EXCEPTIONS.keys()
    assert differing == {}
    assert models >= 250


@pytest.mark.slow
def test_what_the_server_refuses_gives_no_traceback() -> None:
    for name in ("server_probes.jsonl", "server_probes_2.jsonl"):
        for case in list_cases(name):
            if case["expected"] != "good":
                imported = import_repository(build_tree(case["files"]), directory="repository", title="Imported.")
                assert bool(imported.text) != bool(imported.problems), case["id"]
