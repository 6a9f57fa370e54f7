"""`tritonforge lsp` with a client over standard input and output."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.language_client import DEADLINE, LanguageClient
from tests.support.rule_repositories import e, m, x

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LanguageClient, Path]]:
    """An editor with a repository of an ensemble `e`, its model `x`, a model `m`, and a copy of repos/digits."""
    folder = tmp_path_factory.mktemp("editor").resolve()
    for path, content in {**x(), **e(), **m()}.items():
        place = folder / "models" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir()
        else:
            place.write_text(str(content))
    shutil.copytree(ROOT / "repos" / "digits", folder / "digits", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    with LanguageClient(folder, runDefinitions=True, image="24.09", colour="red") as client:
        yield client, folder


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Return True if a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_initialization_names_unknown_options(editor: tuple[LanguageClient, Path]) -> None:
    client, _ = editor
    assert client.capabilities["positionEncoding"] == "utf-16"
    assert any("unknown colour" in shown for shown in client.shown)


def test_typing_changes_the_findings(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    file = folder / "models" / "m" / "config.pbtxt"
    uri, text = client.open(file), file.read_text()
    line = 'parameters { key: "\N{GRINNING FACE}" } max_bach_size: 1'
    client.change(uri, f"{text}\n{line}")
    (diagnostic,) = client.wait_for(uri, lambda listed: bool(listed))
    start, end = line.index("max_bach_size") + 1, line.index(": 1") + 1  # the face has two units in UTF-16
    number = text.count("\n") + 1
    assert diagnostic["range"] == {
        "start": {"line": number, "character": start},
        "end": {"line": number, "character": end},
    }
    assert (diagnostic["source"], diagnostic["severity"]) == ("tritonforge", 1)
    page = Path(diagnostic["codeDescription"]["href"].removeprefix("file://"))
    assert page.read_text().startswith(f"# {diagnostic['code']}\n")
    client.change(uri, text)
    client.wait_for_codes(uri)


def test_an_edit_of_a_model_reaches_its_ensemble(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    ensemble = client.open(folder / "models" / "e" / "config.pbtxt")
    model = client.open(folder / "models" / "x" / "config.pbtxt")
    text = (folder / "models" / "x" / "config.pbtxt").read_text()
    client.change(model, text.replace('"B"', '"C"'))
    client.wait_for(ensemble, lambda listed: bool(listed))
    client.change(model, text)
    client.wait_for_codes(ensemble)
    source = (folder / "models" / "e" / "config.pbtxt").read_text()
    column = source.index('"x"') + 1
    (place,) = client.ask("definition", ensemble, 0, column)
    assert place["uri"] == model
    (use,) = client.ask("references", ensemble, 0, column, context={"includeDeclaration": True})
    assert use["range"]["start"]["character"] == column - 1
    assert "max\\_batch\\_size" in client.ask("hover", ensemble, 0, column)["contents"]["value"]
    (item,) = client.ask("completion", ensemble, 0, source.index('key: "A"') + 6)
    assert item["textEdit"]["newText"] == '"A"'
    symbols = client.request("textDocument/documentSymbol", {"textDocument": {"uri": ensemble}})
    assert [symbol["name"] for symbol in symbols] == ["input I", "output O", "ensemble_scheduling"]


def test_fixes_are_offered_and_files_that_change_are_read(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    file = folder / "models" / "new" / "config.pbtxt"
    file.parent.mkdir()
    uri = client.open(file, 'name: "old" ' + str(e()["e/config.pbtxt"]))
    client.wait_for(uri, lambda listed: any(item["code"] == "E104" for item in listed))
    whole = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 99}}
    params = {"textDocument": {"uri": uri}, "range": whole, "context": {"diagnostics": []}}
    (action,) = client.request("textDocument/codeAction", params)
    kinds = [change.get("kind", "edit") for change in action["edit"]["documentChanges"]]
    assert kinds == ["create", "edit", "edit"]
    assert action["isPreferred"]
    file.write_text('backend: "identity"')
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": uri, "type": 2}]})
    client.wait_for(uri, lambda listed: bool(listed) and all(item["code"] != "E104" for item in listed))


def test_a_definition_runs_with_its_unsaved_text(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    file = folder / "digits" / "definition.py"
    uri, text = client.open(file), file.read_text()
    waiting = folder / "waiting"
    client.change(uri, f"import os, time\nopen({str(waiting)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    wait_until(lambda: waiting.is_file() and waiting.read_text() != "")
    client.change(uri, text.replace("max_batch_size=64", "max_batch_size=-1", 1))
    (diagnostic,) = client.wait_for(uri, lambda listed: bool(listed))
    assert "'max_batch_size' must be non-negative" in diagnostic["message"]
    assert text.splitlines()[diagnostic["range"]["start"]["line"]].startswith("decode = ")
    client.change(uri, text)
    client.wait_for_codes(uri)
    assert not is_running(int(waiting.read_text()))
    assert not list(folder.rglob("__pycache__"))


def test_what_a_definition_starts_ends_with_it(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    pid = folder / "pid"
    text = "import subprocess as s\nquiet = {name: s.DEVNULL for name in ('stdin', 'stdout', 'stderr')}\n"
    text += f"open({str(pid)!r}, 'w').write(str(s.Popen(['sleep', '600'], **quiet).pid))\n"
    file = folder / "starting" / "definition.py"
    file.parent.mkdir()
    file.write_text(text)
    uri = client.open(file)
    wait_until(lambda: pid.is_file() and pid.read_text() != "")
    wait_until(lambda: not is_running(int(pid.read_text())))
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_a_definition_whose_directory_was_renamed_says_so(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    (folder / "old").mkdir()
    (folder / "old" / "definition.py").write_text("undefined\n")
    uri = client.open(folder / "old" / "definition.py")
    client.wait_for(uri, lambda listed: bool(listed) and "undefined" in listed[0]["message"])
    (folder / "old").rename(folder / "renamed")
    names = {"oldUri": (folder / "old").as_uri(), "newUri": (folder / "renamed").as_uri()}
    client.notify("workspace/didRenameFiles", {"files": [names]})
    client.change(uri, "undefined_too\n")
    client.wait_for(uri, lambda listed: bool(listed) and "the definition cannot run" in listed[0]["message"])
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    moved = client.open(folder / "renamed" / "definition.py", "undefined_too\n")
    client.wait_for(moved, lambda listed: bool(listed) and "undefined_too" in listed[0]["message"])
    client.notify("textDocument/didClose", {"textDocument": {"uri": moved}})


def test_other_files_of_protobuf_text_are_left_alone(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    version = folder / "models" / "m" / "1"
    for name in ("label_map.pbtxt", "config.pbtxt"):
        uri = client.open(version / name, "item { id: 1 }\n")
        assert client.ask("completion", uri, 1, 0) == []
        assert client.ask("hover", uri, 0, 1) is None
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        assert not client.diagnostics.get(uri)


def test_a_large_document_has_findings_only(editor: tuple[LanguageClient, Path]) -> None:
    client, folder = editor
    uri = client.open(folder / "models" / "m" / "config.pbtxt", "# " * (256 * 1024) + "\nmax_bach_size: 1\n")
    (diagnostic,) = client.wait_for(uri, lambda listed: bool(listed))
    assert diagnostic["range"]["start"] == {"line": 1, "character": 0}
    assert client.ask("completion", uri, 2, 0) == []
    assert client.request("textDocument/documentSymbol", {"textDocument": {"uri": uri}}) == []
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_a_definition_does_not_run_by_default(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "definition.py").write_text("open('ran', 'w')\n")
    (folder / "m").mkdir()
    (folder / "m" / "config.pbtxt").write_text("max_batch_size: -1")
    with LanguageClient(folder, encoding="utf-8") as client:
        assert client.capabilities["positionEncoding"] == "utf-8"
        client.open(folder / "definition.py")
        uri = client.open(folder / "m" / "config.pbtxt")
        client.wait_for(uri, lambda listed: bool(listed))
        client.change(uri, json.dumps("\ud800"))
        client.wait_for(uri, lambda listed: any("Expected identifier" in item["message"] for item in listed))
    assert not (folder / "ran").exists()
