"""A repository in the editor: unsaved texts, findings by file, fixes, navigation."""

from pathlib import Path

import pytest

from tests.support.rule_repositories import e, m, x
from tritonforge.language_server.definition_tree import complete_definition_tree, is_definition_directory
from tritonforge.language_server.edited_repository import EditedRepository, find_repository
from tritonforge.language_server.navigation import find_definition, find_references
from tritonforge.validation.context import Options
from tritonforge.validation.model_views import build_context
from tritonforge.validation.report import run
from tritonforge.validation.tree import Tree


def write_files(folder: Path, files: dict[str, object]) -> EditedRepository:
    """Write the files; return the repository as it is read."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir(exist_ok=True)
        else:
            place.write_text(str(content))
    repository = EditedRepository(folder, Options())
    repository.read()
    repository.validate()
    return repository


def list_codes(repository: EditedRepository) -> set[str]:
    return {finding.code for finding in repository.findings}


def test_unsaved_texts_win_over_files(tmp_path: Path) -> None:
    repository = write_files(tmp_path, m())
    assert not list_codes(repository)
    repository.set_buffer("m/config.pbtxt", 'backend: "identity" max_batch_size: -1')
    repository.validate()
    assert "E213" in list_codes(repository)
    repository.set_buffer("m/config.pbtxt", None)
    repository.validate()
    assert not list_codes(repository)


def test_an_edit_costs_the_edited_model_only(tmp_path: Path) -> None:
    repository = write_files(tmp_path, {**x(), **x("y"), **e(), **m()})
    for path in ("m/config.pbtxt", "x/config.pbtxt"):
        repository.set_buffer(path, str({**x(), **m()}[path]))
    repository.validate()
    repository.set_buffer("m/config.pbtxt", "max_batch_size: -1")
    repository.read()
    repository.validate()
    assert repository.checked == 1


def test_a_finding_on_a_directory_is_shown_in_the_configuration(tmp_path: Path) -> None:
    repository = write_files(tmp_path, {**m(), "m/1/": ""} | {"m/2x/": ""})
    shown = repository.group_findings()
    assert shown.keys() <= {"m/config.pbtxt"}
    files = {"m/config.pbtxt": 'backend: "python"', "m/1/": ""}
    other = write_files(tmp_path / "other", files)
    ((finding, is_moved),) = [item for item in other.group_findings()["m/config.pbtxt"] if item[0].code == "E122"]
    assert is_moved
    assert finding.path == "m/1"


def test_fixes_are_those_of_the_command(tmp_path: Path) -> None:
    files = {**x(), "x/config.pbtxt": str(x()["x/config.pbtxt"]).replace("backend", 'name: "y" backend')}
    repository = write_files(tmp_path, files)
    (fix,) = repository.list_fixes("x/config.pbtxt")
    assert fix.is_preferred
    (replacement,) = fix.replacements
    assert replacement.text == "x"
    assert [finding.code for finding in fix.findings] == ["E104"]
    missing = write_files(tmp_path / "e", {**x(), "e/config.pbtxt": e()["e/config.pbtxt"]})
    (fix,) = missing.list_fixes("e/config.pbtxt")
    assert list(fix.created) == ["e/1/.gitkeep"]
    assert [item.path for item in fix.replacements if item.text] == ["e/1/.gitkeep"]


def test_a_name_that_a_finding_proposes_is_a_fix(tmp_path: Path) -> None:
    repository = write_files(tmp_path, m("max_bach_size: 1"))
    (fix,) = repository.list_fixes("m/config.pbtxt")
    assert fix.replacements[0].text == "max_batch_size"
    assert not fix.is_preferred


def test_names_lead_to_their_definitions_and_uses() -> None:
    context = build_context(Tree.of({**x(), **e()}))
    text = context.models["e"].document.source
    (model,) = find_definition(context, "e", text.index('"x"') + 1)
    assert model.path == "x/config.pbtxt"
    (tensor,) = find_definition(context, "e", text.index('key: "A"') + 6)
    assert context.models["x"].document.source[slice(*tensor.span)] == '"A"'
    (source,) = find_definition(context, "e", text.index('value: "I"') + 8)
    assert source.span.start == text.index('"I"')
    (use,) = find_references(context, "e", text.index('"I"') + 1)
    assert use.span.start == text.index('value: "I"') + 7
    assert [place.path for place in find_references(context, "e", text.index('"x"') + 1)] == ["e/config.pbtxt"]
    assert find_definition(context, "e", 0) == []
    assert find_definition(context, "gone", 0) == []


def test_configurations_beside_a_definition_are_judged_as_what_is_built(tmp_path: Path) -> None:
    models = {path: text for path, text in {**x(), **e()}.items() if path.endswith(".pbtxt")}
    tree = Tree.of({**models, "definition.py": "", "notes/a.txt": ""})
    assert is_definition_directory(tree)
    assert not run(complete_definition_tree(tree)).findings
    assert run(tree).findings
    assert not is_definition_directory(Tree.of({**models, "definition.py": "", "x/1/": ""}))


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("r/m/config.pbtxt", "r"),
        ("r/m/1/model.py", "r"),
        ("r/m/configs/a.pbtxt", "r"),
        ("r/m/1/config.pbtxt", "r"),
        ("r/new/config.pbtxt", "r"),
        ("d/definition.py", "d"),
        ("r/notes.txt", None),
    ],
)
def test_the_repository_of_a_file_is_above_its_model(tmp_path: Path, file: str, root: str | None) -> None:
    (tmp_path / "r" / "m" / "1").mkdir(parents=True)
    (tmp_path / "r" / "m" / "config.pbtxt").write_text("")
    (tmp_path / "r" / "m" / "1" / "config.pbtxt").write_text("")  # of another program
    assert find_repository(tmp_path / file) == (None if root is None else tmp_path / root)


def test_neither_the_disk_nor_a_home_is_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_repository(tmp_path / "m" / "config.pbtxt") is None
    assert find_repository(tmp_path / "definition.py") is None
    assert find_repository(Path("/m/config.pbtxt")) is None
    assert find_repository(Path("/config.pbtxt")) is None
