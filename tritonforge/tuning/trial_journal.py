"""The trials of a search as lines of JSON in a file, from which an interrupted search continues.

The first line has what the search is of: the repository's digest, the space, the objective and the load. A search of
something else starts the file anew. A last line that was cut off by a crash is dropped. A file that is not a journal
is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.tuning.objective import Measurement
from tritonforge.tuning.search_space import Point, SearchSpace

__all__ = ["JournaledTrial", "TrialJournal", "describe_space"]

#: Raised when lines get another meaning.
_FORMAT: Final = 1
#: How the first line of every journal begins.
_BEGINNING: Final = '{"format": '


@dataclass(frozen=True, slots=True)
class JournaledTrial:
    """A trial: its point, what was measured or why nothing was, and the seconds for loading and measuring."""

    point: Point
    measurement: Measurement | None
    error: str = ""
    load_seconds: float = 0.0
    measure_seconds: float = 0.0


def describe_space(space: SearchSpace) -> list[dict[str, Any]]:
    """Return the settings of a space as plain JSON."""
    return [asdict(setting) for setting in space.settings]


class TrialJournal:
    """The file of one search; ``subject`` is what it must be of to be continued.

    ``dropped`` is the number of trials of another search that the file had. With ``restart`` they are dropped in any
    case.

    Raises:
        TritonForgeError: the file cannot be read or written, or is not a journal.
    """

    def __init__(self, path: Path, subject: Mapping[str, Any], *, restart: bool = False) -> None:
        self.path = path
        self._header = json.loads(json.dumps({"format": _FORMAT, **subject}))
        lines = self._read_lines()
        self.trials: list[JournaledTrial] = []
        if lines and lines[0] == self._header and not restart:
            self.trials = [_parse_trial(line) for line in lines[1:]]
        self.dropped = max(len(lines) - 1 - len(self.trials), 0)
        self._rewrite()

    def append(self, trial: JournaledTrial) -> None:
        """Add a trial; it is on disk when this returns."""
        self.trials.append(trial)
        self._write(self._format(trial), mode="a")

    def _rewrite(self) -> None:
        text = json.dumps(self._header) + "\n" + "".join(self._format(trial) for trial in self.trials)
        self._write(text, mode="w")

    def _write(self, text: str, *, mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TritonForgeError(f"{self.path}: cannot write: {describe_error(error)}") from error

    def _read_lines(self) -> Sequence[Any]:
        try:
            content = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            reason = describe_error(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise TritonForgeError(f"{self.path}: cannot read: {reason}") from error
        refusal = "so this is not a journal of tune. Name another file with --journal."
        if content and not content.startswith(_BEGINNING):
            raise TritonForgeError(f"{self.path}: it does not begin with {_BEGINNING}, {refusal}")
        lines = []
        for line in content.split("\n")[:-1]:  # behind the last newline is nothing, or a line that was cut off
            try:
                lines.append(json.loads(line))
            except ValueError as error:  # noqa: PERF203 - the message names the line
                raise TritonForgeError(f"{self.path}: line {len(lines) + 1} is not JSON, {refusal}") from error
        return lines

    @staticmethod
    def _format(trial: JournaledTrial) -> str:
        return json.dumps(asdict(trial)) + "\n"


def _parse_trial(line: Mapping[str, Any]) -> JournaledTrial:
    measured = line["measurement"]
    return JournaledTrial(
        tuple(line["point"]),
        None if measured is None else Measurement(**measured),
        line["error"],
        line["load_seconds"],
        line["measure_seconds"],
    )
