"""Our verdict beside the real server's: on every fixture, and on random repositories near good ones.

``TRITONFORGE_MUTATIONS=3000`` runs that many random repositories instead of forty, ``TRITONFORGE_ENSEMBLES=3000``
that many random ensembles instead of twelve (about eight minutes); a case that differs is known by its number, and
belongs among the fixtures once it is understood.
"""

import os
from pathlib import Path

import pytest

from tests.support import completion_mutations
from tests.support.ensemble_differential import differences
from tests.support.ensemble_mutations import repository as repository_of_steps
from tests.support.repository_mutations import repository
from tests.support.rule_repositories import ACCEPTED, DIFFERENCES, FIXTURES, INHERITED, PYTHON_MODELS, m
from tests.support.server_oracle import Oracle, find_difference
from tritonforge.cli.validation import select_core_findings
from tritonforge.validation import model_views
from tritonforge.validation.findings import verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Tree

pytestmark = pytest.mark.server

#: What this server cannot be asked: files that only a `Tree` has, what is newer than it or not in its wheel.
UNASKED = {
    ("E109", "bad"): "the file system of the test's user has no unreadable file",
    ("E127", "bad"): "a file of a gigabyte",
    ("E208", "bad"): "the server reads texts of any size",
    ("W101", "bad"): "the link's goal is outside of the repository",
    ("E113", "good"): "the library is an empty file",
    ("E233", "bad"): "model_metrics is newer than the server",
    ("E233", "good"): "model_metrics is newer than the server",
    ("E290", "good"): "the wheel has no repository agents",
    ("E293", "good"): "the library is not there",
    ("E262", "good"): "the host has no GPU",
    ("E122", "bad"): "the stand-in for the python backend opens no model.py; the real one never answers",
    ("E123", "bad"): "the stand-in for the python backend opens no model.py",
    ("E125", "bad"): "the stand-in for the TensorRT backend opens no plan",
    ("E295", "bad"): "the stand-in for the python backend opens no environment",
    ("E296", "bad"): "the stand-in for the ONNX Runtime backend has no accelerators",
    ("W295", "bad"): "the library is not there",
}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """The real server."""
    return Oracle(tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize("code", sorted(FIXTURES))
def test_the_server_judges_the_fixtures_as_we_do(oracle: Oracle, code: str) -> None:
    """Each fixture's verdict and sentences are the server's."""
    if not oracle.fast:
        pytest.skip("no C compiler: a verdict would take seconds")
    fixture = FIXTURES[code]
    for side in ("bad", "good"):
        if (code, side) not in UNASKED:
            options = {"gpus": 0, **fixture.options}
            assert find_difference(oracle, getattr(fixture, side), options) == ""


def test_random_repositories_are_judged_as_the_server_does(oracle: Oracle) -> None:
    """Verdict and sentences agree on forty seeded mutations of good repositories."""
    asked = int(os.environ.get("TRITONFORGE_MUTATIONS", "40" if oracle.fast else "10"))
    different = {seed: found for seed in range(asked) if (found := find_difference(oracle, *repository(seed)))}
    assert different == {}


def test_random_ensembles_are_judged_as_the_server_does(oracle: Oracle) -> None:
    """Verdict and sentences agree on mutations of good ensembles; other releases differ by the table only."""
    if not oracle.fast:
        pytest.skip("no C compiler: a verdict would take seconds")
    asked = int(os.environ.get("TRITONFORGE_ENSEMBLES", "12"))
    assert dict(differences(oracle, range(asked))) == {}


def test_the_ensembles_that_are_judged_are_of_both_kinds() -> None:
    """Among the random ensembles are enough that load, and enough that are refused, to mean something."""
    loading = [verdict(validate(Tree.of(files), **options)) for files, options in map(repository_of_steps, range(60))]
    assert 10 <= loading.count("loads") <= 45


def test_random_warmup_and_completed_steps_are_judged_as_the_server_does(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, on models with warmup and sequences, and on steps that leave max_batch_size to their backend.

    The stand-ins complete nothing. What a backend may complete makes us say less, and nothing else.
    """
    asked = int(os.environ.get("TRITONFORGE_MUTATIONS", "8" if oracle.fast else "0"))
    different = {}
    for seed in range(asked):
        files, options = completion_mutations.repository(seed)
        ours = verdict(select_core_findings(validate(Tree.of(files), **options)))
        with monkeypatch.context() as patch:
            patch.setattr(model_views, "may_be_completed", lambda *_: False)
            different[seed] = find_difference(oracle, files, options)
            assumed = verdict(select_core_findings(validate(Tree.of(files), **options)))
        if (ours, assumed) == ("refused", "loads"):
            different[seed] += "; refused only where a backend may complete it"
    assert {seed: text for seed, text in different.items() if text} == {}


def test_the_oracle_hears_both_verdicts(oracle: Oracle) -> None:
    """The oracle itself can say both, so that agreement means something."""
    assert oracle.judge(m()).loads
    heard = oracle.judge(m("max_batch_size: -1"))
    assert not heard.loads
    assert heard.sentences == ("'max_batch_size' must be non-negative value for m",)


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_the_server_still_says_what_mutations_found(oracle: Oracle, name: str) -> None:
    """The recorded sentences are the server's, and we agree."""
    files, sentence = DIFFERENCES[name]
    heard = oracle.judge(files)
    assert not heard.loads
    assert heard.sentences == ((sentence,) if sentence else ())
    assert find_difference(oracle, files, {"gpus": 0}) == ""


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_the_server_still_takes_what_we_refused_once(oracle: Oracle, name: str) -> None:
    """It loads there, and here."""
    assert find_difference(oracle, ACCEPTED[name], {"gpus": 0}) == ""


def test_the_python_backend_refuses_what_we_refuse(tmp_path: Path) -> None:
    """Its own words on files that Python does not take, on environments that are missing, and on base classes."""
    python = Oracle(tmp_path, real=("python",))
    heard = python.judge(PYTHON_MODELS, seconds=60)
    messages = {finding.message for finding in validate(Tree.of(PYTHON_MODELS), gpus=0)}
    assert set(heard.sentences) == messages
    assert find_difference(python, INHERITED, {"gpus": 0}) == ""
