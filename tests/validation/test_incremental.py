"""Validation while a repository is edited: the findings are those of a validation of the whole."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from tests.support.rule_repositories import FIXTURES, e, m, x
from tritonforge.errors import DefinitionError
from tritonforge.validation.context import Options
from tritonforge.validation.fixes import with_files
from tritonforge.validation.incremental import IncrementalValidator
from tritonforge.validation.report import run
from tritonforge.validation.tree import Tree, link


def rename_models(code: str, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files of a fixture, whose directories have other names; steps still name the old ones."""
    return {f"{code.lower()}_{path}": content for path, content in files.items() if "/" in path}


def group_fixtures(size: int) -> Iterator[dict[str, Any]]:
    codes = iter([code for code in FIXTURES if code != "E208"])  # its text is as large as one may be
    while group := {code: FIXTURES[code] for code in islice(codes, size)}:
        yield group


@pytest.mark.slow
@pytest.mark.parametrize("group", list(group_fixtures(6)), ids=lambda group: next(iter(group)))
def test_findings_after_each_edit_are_those_of_a_whole_validation(group: dict[str, Any]) -> None:
    validator = IncrementalValidator()
    parts = {code: rename_models(code, fixture.good) for code, fixture in group.items()}
    parts["shared"] = {**x(), **x("y"), **m()}
    tree = Tree.of({path: content for part in parts.values() for path, content in part.items()})
    for code, fixture in group.items():
        for side in (fixture.bad, fixture.good):
            edited = Tree.of(rename_models(code, side))
            kept = {path: entry for path, entry in tree.entries.items() if not path.startswith(f"{code.lower()}_")}
            tree = Tree({**kept, **edited.entries})
            assert list(validator.validate(tree).findings) == list(run(tree).findings)


@pytest.mark.parametrize("code", [code for code, fixture in FIXTURES.items() if fixture.options])
def test_a_fixture_gives_its_findings_under_its_own_options(code: str) -> None:
    fixture = FIXTURES[code]
    options = Options(**fixture.options)
    validator = IncrementalValidator(options)
    for side in (fixture.good, fixture.bad, fixture.good):
        tree = Tree.of(side)
        assert list(validator.validate(tree).findings) == list(run(tree, options).findings)


def test_an_edit_costs_one_model() -> None:
    validator = IncrementalValidator()
    tree = Tree.of({**x(), **x("y"), **m(), **e()})
    validator.validate(tree)
    assert validator.checked == 4
    validator.validate(tree)
    assert validator.checked == 0
    edited = with_files(tree, {"m/config.pbtxt": b'backend: "identity" max_batch_size: -1'})
    assert "E213" in {finding.code for finding in validator.validate(edited).findings}
    assert validator.checked == 1


def test_a_tree_with_links_is_validated_whole() -> None:
    files = {**x(), **m()}
    validator = IncrementalValidator()
    validator.validate(Tree.of(files))
    linked = Tree.of({**x(), "m/config.pbtxt": files["m/config.pbtxt"], "m/1": link("../x/1")})
    assert list(validator.validate(linked).findings) == list(run(linked).findings)


def test_a_selection_of_models_follows_the_steps() -> None:
    options = Options(load_models=("e",))
    validator = IncrementalValidator(options)
    for side in ({**x(), **e()}, {**x(), **x("y"), **e()}):
        tree = Tree.of(side)
        assert list(validator.validate(tree).findings) == list(run(tree, options).findings)


def test_findings_of_exempt_rules_are_dropped() -> None:
    tree = Tree.of(m("max_batch_size: -1"))
    options = Options()
    assert IncrementalValidator(options).validate(tree).findings
    codes = {finding.code for finding in run(tree).findings}
    assert not IncrementalValidator(replace(options, exempt=tuple(codes))).validate(tree).findings


def test_an_unknown_image_is_refused_each_time() -> None:
    validator = IncrementalValidator(Options(image="nothing"))
    for _ in range(2):
        with pytest.raises(DefinitionError):
            validator.validate(Tree.of(m()))
