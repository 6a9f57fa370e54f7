"""Reading definition files: what is collected, and one sentence for each way to be wrong."""

import sys
from pathlib import Path

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.loading import load


def write(folder: Path, **files: str) -> Path:
    """A folder of Python files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_models_of_a_module_and_of_its_lists_are_found(tmp_path: Path) -> None:
    """Names, lists, and models that only an ensemble uses; sorted by name."""
    write(
        tmp_path,
        definition=(
            "from tritonforge import *\n"
            "def leaf(name):\n"
            "    return Python(name, input=[Input('x', TYPE_FP32, [1])], output=[Output('y', TYPE_FP32, [1])])\n"
            "several = [leaf('c'), leaf('b')]\n"
            "outer = Ensemble('z', outputs={'O': leaf('hidden')(Tensor('I'))})\n"
        ),
    )
    assert list(load(tmp_path).models) == ["b", "c", "hidden", "z"]
    assert load(tmp_path / "definition.py").folder == tmp_path


def test_neighbours_of_two_definitions_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each definition imports the file beside it, also when another one's neighbour has the same name."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    for name in ("one", "two"):
        write(
            tmp_path / name,
            definition="from tritonforge import Python\nfrom network import NAME\nmodel = Python(NAME)\n",
            network=f"NAME = {name!r}\n",
        )
    assert [list(load(tmp_path / name).models) for name in ("one", "two", "one")] == [["one"], ["two"], ["one"]]
    assert not list(tmp_path.rglob("__pycache__"))
    assert not sys.dont_write_bytecode


REFUSED = {
    "syntax": ("x = (\n", r"definition.py:1: SyntaxError"),
    "import": ("import nowhere_at_all\n", r"definition.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "name": ("\nx = mdoel\n", r"definition.py:2: NameError: name 'mdoel' is not defined"),
    "exit": ("import sys\nsys.exit(3)\n", r"definition.py:2: it calls exit"),
    "empty": ("x = 1\n", r"no models found"),
    "own error": (
        "from tritonforge import Python\n\n\nmodel = Python('m', max_batch_size=-2)\n",
        r"definition.py:4: m: 'max_batch_size' must be non-negative",
    ),
    "twice": (
        "from tritonforge import Python\na = Python('m')\nb = Python('m')\n",
        r"two models are named 'm'",
    ),
    "neighbour": ("from broken import x\n", r"broken.py:1: ZeroDivisionError"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_definition_that_does_not_import_is_one_sentence_with_its_place(case: str, tmp_path: Path) -> None:
    """File and line of the user's own code, and what is wrong there."""
    text, sentence = REFUSED[case]
    write(tmp_path, definition=text, broken="1 / 0\n")
    with pytest.raises(DefinitionError, match=sentence) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_missing_definition_is_named(tmp_path: Path) -> None:
    """No file, or a folder without one."""
    for path in (tmp_path, tmp_path / "definition.py", tmp_path / "nowhere"):
        with pytest.raises(DefinitionError, match="definition not found"):
            load(path)
