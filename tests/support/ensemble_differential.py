"""Our verdict beside the real server's on random ensembles: many in one start, each difference by its number.

The server's stand-ins complete no configuration, so it is compared with our verdict on the repository without model
files. With them we may say less, never more. For other releases, of which no server is here, the verdict may differ
from the local one by the rules of the table of changes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from tests.support.ensemble_mutations import prefix, repository, weightless
from tests.support.server_oracle import Heard, Oracle, arguments
from tritonforge.triton import changes
from tritonforge.validation.findings import Finding, verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Tree

__all__ = ["differences"]

#: Cases in one start of the server.
_BATCH: Final = 25
#: Releases whose rules are compared with the local server's: the oldest that was read, and each side of the changes.
RELEASES: Final = ("23.12", "24.10", "25.08", "26.02", "26.03", "26.04", "26.08")
#: What the real backends say of model files, and the stand-ins do not open.
_OF_FILES: Final = frozenset({"E122", "E123", "E125"})
#: What a model that fails brings to the ensembles over it.
_CONSEQUENCES: Final = frozenset({"E320", "E322", "E323"})


def differences(oracle: Oracle, seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Each case that is judged differently, and what differs; seeds in order of their batches."""
    groups: dict[bool, list[int]] = {True: [], False: []}
    for seed in seeds:
        groups[repository(seed)[1]["auto_complete"]].append(seed)
    for group in groups.values():
        for start in range(0, len(group), _BATCH):
            heard = _ask_server(oracle, group[start : start + _BATCH])
            for seed, answer in heard.items():
                if difference(answer, seed) and (found := difference(_alone(oracle, seed), seed)):
                    yield seed, found


def _ask_server(oracle: Oracle, seeds: list[int]) -> dict[int, Heard]:
    """The server's answer to each case; a batch that takes the server down is halved until it does not."""
    if len(seeds) == 1:
        return {seeds[0]: _alone(oracle, seeds[0])}
    cases = {prefix(seed): weightless(repository(seed)[0]) for seed in seeds}
    answers = oracle.judge_many(cases, *arguments(repository(seeds[0])[1]))
    if not answers:
        half = len(seeds) // 2
        return _ask_server(oracle, seeds[:half]) | _ask_server(oracle, seeds[half:])
    return {seed: answers[prefix(seed)] for seed in seeds}


def _alone(oracle: Oracle, seed: int) -> Heard:
    files, options = repository(seed)
    return oracle.judge(weightless(files), *arguments(options))


def difference(heard: Heard, seed: int) -> str:
    """What differs between the server's answer to a case and ours; "" when nothing does."""
    files, options = repository(seed)
    bare = validate(Tree.of(weightless(files)), **options)
    if _OF_FILES & {finding.code for finding in bare}:
        return ""  # not decidable by stand-ins
    if (verdict(bare) == "loads") != heard.loads:
        return f"the server {'loads' if heard.loads else 'refuses'} it {heard.sentences}, we found {_summarize(bare)}"
    messages = {finding.message.strip() for finding in bare}
    lost = {
        sentence for sentence in heard.sentences if sentence not in messages and not _is_of_many(sentence, messages)
    }
    if lost and not heard.loads:
        return f"the server reports {sorted(lost)}, we found {_summarize(bare)}"
    full = validate(Tree.of(files), **options)
    if verdict(full) == "refused" and verdict(bare) == "loads" and not _OF_FILES & {finding.code for finding in full}:
        return f"with model files, which stand-ins do not read, we refuse it: {_summarize(full)}"
    return _between_releases(full, files, options)


def _between_releases(local: list[Finding], files: Any, options: dict[str, Any]) -> str:
    """How the verdicts for other releases differ from the local one beyond the table."""
    codes = {finding.code for finding in _refusing(local)}
    for release in RELEASES:
        found = {finding.code for finding in _refusing(validate(Tree.of(files), image=release, **options))}
        explained = {
            code
            for change in changes.list_changes()
            if change.applies_to(release) != change.applies_to(changes.REFERENCE)
            for code in change.rules
        }
        if unexplained := (codes ^ found) - explained - (_CONSEQUENCES if explained else set()):
            return f"for {release} we differ by {sorted(unexplained)}, which the table does not explain"
    return ""


def _is_of_many(sentence: str, messages: set[str]) -> bool:
    """Return True if we report the same of another tensor, where an unordered map decides which the server names."""
    before, named, _ = sentence.partition(": at least one of its depending tensors, ")
    return bool(named) and any(finding.startswith(f"{before}{named}") for finding in messages)


def _refusing(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.refused_by == "triton"]


def _summarize(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in _refusing(findings)]
