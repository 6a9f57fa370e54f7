"""Reports of findings: for people, as JSON, and in the formats of CI systems. This module does no I/O.

JSON has for one repository ``{"repository", "verdict", "findings", "hidden"}``, for several ``{"verdict",
"repositories": [...]}``. A verdict is "loads", "refused" or "not judged"; that of several is "refused" when one of them
is, else "not judged" when one is. "hidden" is the number of findings that --select and --ignore leave out. After
--with-server, ``"server"`` has the server's verdict and messages, the models that stub backends do not decide, and the
differences from the findings.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from tritonforge import __version__
from tritonforge.escaping import escape_github_data, escape_github_property, escape_line, escape_uri, escape_xml
from tritonforge.validation.findings import Finding, Verdict, verdict
from tritonforge.validation.registry import load_rules
from tritonforge.validation.rule_page import locate_page

if TYPE_CHECKING:
    from tritonforge.validation.loaded_config import LoadedConfig

__all__ = ["FORMATS", "RepositoryReport", "ServerVerdict", "render_configs"]

_SERVERS: Final = {"sagemaker": "SageMaker", "kserve": "KServe", "tritonforge": "tritonforge"}

#: What the real server does, by `ServerVerdict.loads`.
_SERVER_TEXT: Final = {True: "loads it", False: "refuses it", None: "not decidable"}

#: Of a longer line the part around the position is shown.
_WIDTH: Final = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerVerdict:
    """The verdict of the real server on a repository with stub models.

    ``loads`` is None if the stubs do not decide; ``messages`` are the server's own; ``undecided`` has a reason for each
    model that they do not decide; ``differences`` states where the server and the findings disagree.
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
class RepositoryReport:
    """A repository's path as the user wrote it, its findings, its models, and the texts that findings refer to.

    ``server`` is the real server's verdict, None if it was not run. ``is_tfs_package`` marks a package for SageMaker's
    TensorFlow Serving containers. ``select`` and ``ignore`` are codes or their first characters: which findings a
    report shows. They do not change the verdict. ``configs`` are the configurations of --show-config, by model.
    ``documentation`` is the address of the documentation site, empty without one.
    """

    repository: str
    findings: Sequence[Finding]
    models: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    server: ServerVerdict | None = None
    is_tfs_package: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    configs: Mapping[str, LoadedConfig] | None = None
    documentation: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict of Triton or of TensorFlow Serving's container."""
        return verdict(self.findings)

    @property
    def is_refused(self) -> bool:
        """Whether anything refuses the repository, or a part of it was not judged."""
        return self.verdict != "loads" or any(finding.refused_by for finding in self.findings)

    @property
    def shown(self) -> Sequence[Finding]:
        """The findings that a report shows."""
        return [finding for finding in self.findings if self._is_shown(finding)]

    @property
    def hidden(self) -> Sequence[Finding]:
        """The findings that a report only counts."""
        return [finding for finding in self.findings if not self._is_shown(finding)]

    def _is_shown(self, finding: Finding) -> bool:
        is_selected = not self.select or finding.code.startswith(self.select)
        return is_selected and not (self.ignore and finding.code.startswith(self.ignore))

    def locate(self, finding: Finding) -> str:
        """Return the path of a finding as the user can open it."""
        return f"{self.repository.rstrip('/')}/{finding.path}" if finding.path else self.repository

    def summarize(self) -> str:
        """Return the verdict, the number of models and the number of findings in one line."""
        shown, hidden = self.shown, len(self.hidden)
        errors = sum(finding.severity == "error" for finding in shown)
        counts = [
            _count(number, word) for number, word in ((errors, "error"), (len(shown) - errors, "warning")) if number
        ]
        if hidden:
            counts.append(f"{_count(hidden, 'finding')} hidden by --select or --ignore")
        server = "SageMaker's TensorFlow Serving container" if self.is_tfs_package else "Triton"
        sentence = {
            "loads": f"{server} loads it",
            "refused": f"{server} refuses it",
            "not judged": "not judged, since not all of it was read",
        }[self.verdict]
        refused_by = {finding.refused_by for finding in self.findings}
        sentence += "".join(f", {name} refuses it" for key, name in _SERVERS.items() if key in refused_by)
        return f"{sentence}; {_count(len(self.models), 'model')}, {', '.join(counts) or 'no findings'}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _describe(finding: Finding) -> str:
    return finding.message + (f"\nhelp: {finding.help}" if finding.help else "")


def _render_text(reports: Sequence[RepositoryReport]) -> str:
    """Render for people: each finding with its line and a caret below the position, as compilers do."""
    return "\n".join(line for report in reports for line in _text_lines(report))


def _text_lines(report: RepositoryReport) -> Iterator[str]:
    for finding in report.shown:
        place = escape_line(report.locate(finding))
        if finding.line is not None:
            place += f":{finding.line}" + (f":{finding.column}" if finding.column is not None else "")
        yield f"{place}: {finding.severity} {finding.code}: {escape_line(finding.message)}"
        lines = report.texts.get(finding.path, "").splitlines()
        if finding.line is not None and 0 < finding.line <= len(lines):
            line, column = lines[finding.line - 1].replace("\t", " "), finding.column or 1
            start = 0 if len(line) <= _WIDTH or column < _WIDTH - 10 else column - _WIDTH // 2
            number = f"{finding.line:5d}"
            yield f"{number} | {line[start : start + _WIDTH]}"
            yield f"{' ' * len(number)} | {' ' * (column - start - 1)}^"
        if finding.help:
            yield f"        help: {escape_line(finding.help)}"
    yield f"{escape_line(report.repository)}: {report.summarize()}"
    if report.server is not None:
        yield f"the real server, with stubs for the models: {_SERVER_TEXT[report.server.loads]}"
        yield from (f"  {escape_line(message)}" for message in report.server.messages)
        for model, reason in report.server.undecided.items():
            text = f"not decidable by stubs: {model}: {reason}" if model else f"not decidable: {reason}"
            yield escape_line(text)
        yield from (f"difference: {escape_line(sentence)}" for sentence in report.server.differences)


def _config_to_json(config: LoadedConfig) -> dict[str, Any]:
    from tritonforge.validation.loaded_config import render_json

    return {"config": None if config.message is None else render_json(config.message), "reason": config.reason}


def render_configs(reports: Sequence[RepositoryReport]) -> str:
    """Return the configurations of all models as texts of config.pbtxt, with what is unknown in comments."""
    from google.protobuf import text_format

    parts = []
    for report in reports:
        for name, config in (report.configs or {}).items():
            parts.append(f"# {escape_line(f'{report.repository}/{name}')}\n")
            if config.reason:
                parts.append(f"# unknown: {escape_line(config.reason)}\n")
            if config.message is not None:
                parts.append(text_format.MessageToString(config.message, use_short_repeated_primitives=True))
            parts.append("\n")
    return "".join(parts)


def _render_json(reports: Sequence[RepositoryReport]) -> str:
    documents = []
    for report in reports:
        document: dict[str, Any] = {
            "repository": report.repository,
            "verdict": report.verdict,
            "findings": [asdict(finding) for finding in report.shown],
            "hidden": len(report.hidden),
        }
        if report.configs is not None:
            document["configs"] = {name: _config_to_json(config) for name, config in report.configs.items()}
        if report.server is not None:
            document["server"] = {
                "verdict": report.server.verdict,
                "messages": list(report.server.messages),
                "undecided": dict(report.server.undecided),
                "differences": list(report.server.differences),
            }
        documents.append(document)
    if len(documents) == 1:
        return json.dumps(documents[0], indent=2)
    verdicts = {report.verdict for report in reports}
    worst = next((name for name in ("refused", "not judged") if name in verdicts), "loads")
    return json.dumps({"verdict": worst, "repositories": documents}, indent=2)


def _render_sarif(reports: Sequence[RepositoryReport]) -> str:
    """Render SARIF 2.1.0 (OASIS), which code-scanning services read: one run with the rules that have findings."""
    codes = sorted({finding.code for report in reports for finding in report.shown})
    site = next((report.documentation for report in reports), "")
    driver = {
        "name": "tritonforge",
        "semanticVersion": __version__,
        "rules": [_sarif_rule(code, site) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "properties": {
            "repositories": [
                {"repository": report.repository, "verdict": report.verdict, "hidden": len(report.hidden)}
                for report in reports
            ]
        },
        "results": [
            _sarif_result(report, finding, codes.index(finding.code)) for report in reports for finding in report.shown
        ],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2)


def _sarif_rule(code: str, site: str) -> dict[str, Any]:
    rule = load_rules()[code]
    return {
        **({"helpUri": locate_page(code, site)} if site else {}),
        "id": code,
        "shortDescription": {"text": rule.sentence},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why}\nSource: {rule.source}"},
        "defaultConfiguration": {"level": rule.severity},
    }


def _sarif_result(report: RepositoryReport, finding: Finding, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": escape_uri(report.locate(finding))}}
    if finding.line is not None:
        region = {"startLine": finding.line}
        if finding.column is not None:
            region["startColumn"] = finding.column
        location["region"] = region
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": _describe(finding)},
        "locations": [{"physicalLocation": location}],
        "properties": {"refused_by": finding.refused_by, "field": finding.field},
    }


def _render_junit(reports: Sequence[RepositoryReport]) -> str:
    """Render JUnit XML: a suite for each repository, a case for each model, a failure for each error."""
    root = ET.Element("testsuites", name="tritonforge validate")
    for report in reports:
        _add_suite(root, report)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _add_suite(root: ET.Element, report: RepositoryReport) -> None:
    by_model: dict[str, list[Finding]] = {name: [] for name in report.models}
    for finding in report.shown:
        by_model.setdefault(finding.path.split("/")[0] or "(repository)", []).append(finding)
    failures = sum(any(finding.severity == "error" for finding in findings) for findings in by_model.values())
    # If every refusal is hidden, a case of its own fails, so that the report fails as the command does.
    has_hidden_refusal = report.is_refused and not failures
    name = escape_xml(report.repository)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(len(by_model) + has_hidden_refusal),
        failures=str(failures + has_hidden_refusal),
        errors="0",
        skipped="0",
    )
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="verdict", value=report.verdict)
    ET.SubElement(properties, "property", name="hidden", value=str(len(report.hidden)))
    if has_hidden_refusal:
        case = ET.SubElement(suite, "testcase", classname=name, name="(hidden)")
        ET.SubElement(case, "failure", type="hidden", message=escape_xml(report.summarize()))
    for model, findings in by_model.items():
        case = ET.SubElement(suite, "testcase", classname=name, name=escape_xml(model))
        for finding in findings:
            text = f"{escape_line(report.locate(finding))}:{finding.line or 1}: {_describe(finding)}"
            if finding.severity == "error":
                failure = ET.SubElement(case, "failure", type=finding.code, message=escape_xml(finding.message))
                failure.text = escape_xml(text)
            else:
                ET.SubElement(case, "system-out").text = escape_xml(f"{finding.severity} {finding.code}: {text}")


def _render_github(reports: Sequence[RepositoryReport]) -> str:
    """Render workflow commands, which GitHub shows in the diff; one for each finding and one for what is hidden."""
    return "\n".join(line for report in reports for line in _github_lines(report))


def _github_lines(report: RepositoryReport) -> Iterator[str]:
    for finding in report.shown:
        values = {"file": report.locate(finding), "line": finding.line, "col": finding.column, "title": finding.code}
        properties = ",".join(
            f"{key}={escape_github_property(str(value))}" for key, value in values.items() if value is not None
        )
        yield f"::{finding.severity} {properties}::{escape_github_data(_describe(finding))}"
    if report.hidden:
        level = "error" if report.is_refused else "notice"
        summary = escape_github_data(f"{report.repository}: {report.summarize()}")
        yield f"::{level} file={escape_github_property(report.repository)}::{summary}"


def _render_gitlab(reports: Sequence[RepositoryReport]) -> str:
    """Render GitLab's Code Quality report: a list of issues, of which a merge request shows the new and the fixed ones.

    Source: GitLab's documentation, "Code Quality report format". A fingerprint has no line number, so that an issue
    stays the same when lines are added above it.
    """
    issues: list[dict[str, Any]] = []
    seen: Counter[tuple[str, ...]] = Counter()
    for report in reports:
        for finding in report.shown:
            path = escape_line(report.locate(finding))
            identity = (path, finding.code, finding.field or "", finding.message)
            fingerprint = hashlib.sha256(json.dumps([*identity, seen[identity]]).encode()).hexdigest()
            seen[identity] += 1
            issues.append(
                {
                    "description": f"{finding.code}: {_describe(finding)}",
                    "check_name": finding.code,
                    "fingerprint": fingerprint,
                    "severity": "critical" if finding.severity == "error" else "minor",
                    "location": {"path": path, "lines": {"begin": finding.line or 1}},
                }
            )
    return json.dumps(issues, indent=2)


#: Format -> what renders a report on repositories.
FORMATS: Final[Mapping[str, Callable[[Sequence[RepositoryReport]], str]]] = MappingProxyType(
    {
        "text": _render_text,
        "json": _render_json,
        "sarif": _render_sarif,
        "junit": _render_junit,
        "github": _render_github,
        "gitlab": _render_gitlab,
    }
)
