"""A search that was interrupted continues from its journal; another search starts it anew."""

from pathlib import Path

import pytest

from tritonforge.errors import TritonForgeError
from tritonforge.tuning.objective import Measurement
from tritonforge.tuning.trial_journal import JournaledTrial, TrialJournal

SUBJECT = {"digest": "sha256:1", "space": [{"values": (None, 1)}]}
MEASURED = JournaledTrial((0, 1), Measurement(throughput=10.0, p50=1.0, p99=2.0), "", 1.5, 2.5)
FAILED = JournaledTrial((1, 1), None, "load failed")


def write(path: Path) -> None:
    journal = TrialJournal(path, SUBJECT)
    journal.append(MEASURED)
    journal.append(FAILED)


def test_trials_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trials.jsonl"
    write(path)
    assert TrialJournal(path, SUBJECT).trials == [MEASURED, FAILED]


def test_a_line_that_was_cut_off_is_dropped_and_writing_continues(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    write(path)
    path.write_text(path.read_text()[:-5])
    journal = TrialJournal(path, SUBJECT)
    assert journal.trials == [MEASURED]
    journal.append(FAILED)
    assert TrialJournal(path, SUBJECT).trials == [MEASURED, FAILED]


def test_another_search_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    write(path)
    journal = TrialJournal(path, {**SUBJECT, "digest": "sha256:2"})
    assert (journal.trials, journal.dropped) == ([], 2)
    assert TrialJournal(path, SUBJECT).trials == []


def test_a_restart_drops_the_trials(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    write(path)
    journal = TrialJournal(path, SUBJECT, restart=True)
    assert (journal.trials, journal.dropped) == ([], 2)
    assert TrialJournal(path, SUBJECT).trials == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("text", ["my notes\n", "my notes", '{"label": 1}\n{"label": 2}\n', '{"format": notes\n'])
def test_a_file_of_something_else_is_kept(tmp_path: Path, text: str, *, restart: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(TritonForgeError, match="this is not a journal of tune"):
        TrialJournal(path, SUBJECT, restart=restart)
    assert path.read_text() == text
