"""One judged repository, as every report takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritonforge.validation.findings import Finding, Verdict, verdict

__all__ = ["Judged", "ServerVerdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerVerdict:
    """What the real server said of a repository, with stand-ins for its models.

    ``loads`` is None where they do not decide; ``messages`` are the server's own sentences; ``undecided`` has a reason
    for each model on which they do not decide; ``differences`` says where the server and the findings disagree.
    """

    loads: bool | None
    messages: Sequence[str] = ()
    undecided: Mapping[str, str] = field(default_factory=dict)
    differences: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """The verdict as one word."""
        return {True: "loads", False: "refused", None: "not decidable"}[self.loads]


@dataclass(frozen=True, slots=True)
class Judged:
    """A repository's path as the user gave it, its findings, its models, and the texts that findings point into.

    ``server`` is the real server's verdict, None when it was not asked. ``is_tfs_package`` says that it is a package
    for SageMaker's TensorFlow Serving containers.
    ``select`` and ``ignore`` are codes or their first characters: which findings a report shows. They never change the
    verdict.
    """

    repository: str
    findings: Sequence[Finding]
    models: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    server: ServerVerdict | None = None
    is_tfs_package: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What Triton, or TensorFlow Serving's container, would say."""
        return verdict(self.findings)

    @property
    def is_refused(self) -> bool:
        """Whether anything refuses the repository, or a part of it was not judged."""
        return self.verdict != "loads" or any(each.refused_by for each in self.findings)

    @property
    def shown(self) -> Sequence[Finding]:
        """The findings that a report shows."""
        return [each for each in self.findings if self._is_shown(each)]

    @property
    def hidden(self) -> Sequence[Finding]:
        """The findings that a report only counts."""
        return [each for each in self.findings if not self._is_shown(each)]

    def _is_shown(self, finding: Finding) -> bool:
        selected = not self.select or finding.code.startswith(self.select)
        return selected and not (self.ignore and finding.code.startswith(self.ignore))

    def where(self, finding: Finding) -> str:
        """The path of a finding as the user can open it."""
        return f"{self.repository.rstrip('/')}/{finding.path}" if finding.path else self.repository

    def summary(self) -> str:
        """The verdict, the number of models, and the findings counted, in one line."""
        shown, hidden = self.shown, len(self.hidden)
        errors = sum(finding.severity == "error" for finding in shown)
        counts = [(errors, "error"), (len(shown) - errors, "warning")]
        counted = [_counted(count, word) for count, word in counts if count]
        if hidden:
            counted.append(f"{_counted(hidden, 'finding')} hidden by --select or --ignore")
        return (
            f"{self._verdict_line()}; {_counted(len(self.models), 'model')}, {', '.join(counted) or 'nothing to say'}"
        )

    def _verdict_line(self) -> str:
        who = "SageMaker's TensorFlow Serving container" if self.is_tfs_package else "Triton"
        lines = {
            "loads": f"{who} loads it",
            "refused": f"{who} refuses it",
            "not judged": "not judged, since not all of it was read",
        }
        others = {"sagemaker": "SageMaker", "tritonforge": "tritonforge"}
        refused = {finding.refused_by for finding in self.findings}
        return lines[self.verdict] + "".join(f", {who} refuses it" for by, who in others.items() if by in refused)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
