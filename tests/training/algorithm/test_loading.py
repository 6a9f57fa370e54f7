"""The declaration of a program folder is loaded, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.training.algorithm.program import find_algorithm, load_algorithm


def test_a_declaration_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    """Its neighbours are its own: another folder's of the same name is not taken for them."""
    for name, default in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "beside.py").write_text(f"DEFAULT = {default}\n")
        (folder / "algorithm.py").write_text(
            "from beside import DEFAULT\n"
            "from tritonforge.training.algorithm import Algorithm, HyperParameter\n"
            f"algorithm = Algorithm('{name}', hyperparameters=[HyperParameter('n', 'Integer', default=DEFAULT)])\n"
        )
        found = load_algorithm(folder)
        assert (found.name, found.read({})["n"]) == (name, default)


def test_a_program_of_another_language_declares_nothing(tmp_path: Path) -> None:
    assert find_algorithm(tmp_path) is None
    with pytest.raises(DefinitionError, match=r"there is no algorithm\.py in it"):
        load_algorithm(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "it binds no algorithm"),
        ("x = 1\nx = y\n", r"algorithm\.py:2: NameError"),
        ("x = (\n", r"algorithm\.py:1: SyntaxError"),
        ("raise SystemExit(3)\n", "it calls exit; it only declares an algorithm"),
        (
            "from tritonforge.training.algorithm import Algorithm\n\nalgorithm = Algorithm('a_b')\n",
            r"algorithm\.py:3: algorithm 'a_b': a name has",
        ),
    ],
)
def test_an_error_is_reported_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    """One sentence, whatever the file raises."""
    (tmp_path / "algorithm.py").write_text(text)
    with pytest.raises(DefinitionError, match=sentence):
        find_algorithm(tmp_path)
