"""Hostile inputs: whatever the bytes and the tree, validation gives a list of findings."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.support.repository_mutations import repository
from tests.support.rule_repositories import FIXTURES
from tritonforge.pbtxt import parse
from tritonforge.validation.findings import Finding, sort_findings
from tritonforge.validation.report import validate
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link

#: Pieces of configurations, so that random texts reach the rules.
PIECES = some.sampled_from(
    sorted(
        {
            word
            for fixture in FIXTURES.values()
            for content in fixture.bad.values()
            if isinstance(content, str) and len(content) < 2000
            for word in content.replace("{", " { ").replace("}", " } ").replace(":", ": ").split()
        }
    )
)
TEXTS = some.one_of(
    some.binary(max_size=200),
    some.text(max_size=200),
    some.lists(PIECES, max_size=60).map(" ".join),
    some.sampled_from(
        [
            text
            for fixture in FIXTURES.values()
            for text in fixture.bad.values()
            # E208 has a text of 3 MB, which its own test covers and Hypothesis does not print.
            if isinstance(text, str) and len(text) < 50_000
        ]
    ),
)
NAMES = some.sampled_from(
    [
        "m",
        "e",
        "x",
        "x.identity",
        "1",
        "01",
        "2",
        "1abc",
        "9" * 30,
        "config.pbtxt",
        "model.onnx",
        "model.dali",
        "warmup",
        ".",
        "..",
        "é",
    ]
)
PATHS = some.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = some.one_of(
    TEXTS.map(lambda text: text if isinstance(text, bytes) else text[:5000].encode("utf-8", "surrogatepass")),
    some.just(DIRECTORY),
    some.sampled_from([link(".."), link("."), link("m"), link("/nowhere"), link("../../x"), link("m/config.pbtxt")]),
    some.sampled_from([Entry("other"), Entry("file", 10**10), Entry("file", 5, problem="Permission denied")]),
)
RELAXED = settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])


def check(findings: list[Finding]) -> None:
    """Findings are complete and sorted, and their texts can be printed."""
    assert findings == sort_findings(findings)
    for finding in findings:
        (finding.message + finding.help + finding.path + finding.field).encode()
        assert finding.message
        assert finding.line is None or finding.line >= 1


@pytest.mark.slow
@RELAXED
@given(TEXTS)
def test_any_text_is_parsed(text: "str | bytes") -> None:
    """Any bytes give a document whose problems have places."""
    document = parse(text)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in document.problems)


@pytest.mark.slow
@RELAXED
@given(some.dictionaries(PATHS, ENTRIES, max_size=8), some.booleans(), some.sampled_from([None, "24.09", "26.05"]))
def test_any_tree_is_judged(files: "dict[str, bytes | Entry]", auto_complete: bool, image: "str | None") -> None:
    """Any tree gives a list of findings, with any image and target."""
    check(validate(Tree.of(files), auto_complete=auto_complete, image=image, target="sagemaker"))


@pytest.mark.slow
@RELAXED
@given(some.integers(0, 2**32), some.binary(max_size=20))
def test_damaged_repositories_are_judged(seed: int, noise: bytes) -> None:
    """Good repositories with two mutations and noise in a configuration give findings."""
    files, options = repository(seed)
    chance = random.Random(seed)
    configs = sorted(path for path in files if path.endswith(".pbtxt"))
    damaged: dict[str, Any] = dict(files)
    if configs:
        path = chance.choice(configs)
        content = str(files[path]).encode("utf-8", "surrogateescape")
        at = chance.randrange(len(content) + 1)
        damaged[path] = content[:at] + noise + content[at:]
    check(validate(Tree.of(damaged), **options))
