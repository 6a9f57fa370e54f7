"""The language server: documents in, diagnostics and answers out, over standard input and output.

It runs no code of a repository. A definition.py runs, in a child process, only where the user has allowed it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from tritonforge import __version__
from tritonforge.errors import TritonForgeError
from tritonforge.escaping import escape_text
from tritonforge.language_server.definition_check import DefinitionReport, run_check
from tritonforge.language_server.definition_lines import find_definition_span
from tritonforge.language_server.definition_tree import DEFINITION
from tritonforge.language_server.edited_repository import EditedRepository, find_repository
from tritonforge.language_server.placement import find_span
from tritonforge.language_server.positions import Span, TextIndex
from tritonforge.language_server.protocol import to_diagnostic
from tritonforge.validation.context import Options
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree import Tree

__all__ = ["RepositoryServer", "Session"]

#: A validation that takes longer, in seconds, delays the next one by as much, so that the editor is not kept waiting.
_PROMPT: Final = 0.05
#: Seconds without a change before a definition runs, and before changed files are read.
_DEFINITION_DELAY: Final = 0.4
_READ_DELAY: Final = 0.2
#: Initialization options, by the names that editors write: the field of `Options`, and its type.
_OPTIONS: Final[Mapping[str, tuple[str, type]]] = {
    "image": ("image", str),
    "target": ("target", str),
    "targetVersion": ("target_version", str),
    "storageUri": ("storage_uri", str),
    "instanceType": ("instance_type", str),
    "gpus": ("gpus", int),
    "autoComplete": ("auto_complete", bool),
}


class Session:
    """One repository with the documents that are open in it, and what was published for its files."""

    def __init__(self, repository: EditedRepository) -> None:
        self.repository = repository
        self.open: dict[str, str] = {}
        self.published: dict[str, list[types.Diagnostic]] = {}
        self.report = DefinitionReport()
        self.is_changed = False  # on disk, since it was read
        self.is_read = False  # nothing is published before the directory was read once
        self.is_stale = True
        self.duration = 0.0
        self.validation: asyncio.TimerHandle | None = None
        self.reading: asyncio.Task[None] | None = None
        self.definition: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Cancel what is scheduled."""
        if self.validation is not None:
            self.validation.cancel()
        for task in (self.reading, self.definition):
            if task is not None:
                task.cancel()


class RepositoryServer(LanguageServer):
    """The state of the language server: a session for each repository that has open documents."""

    def __init__(self, options: Options, *, runs_definitions: bool = False) -> None:
        # An editor sends the whole text: pygls counts more line ends than the protocol has.
        super().__init__("tritonforge", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.options = options
        self.runs_definitions = runs_definitions
        self.sessions: dict[Path, Session] = {}

    def configure(self, given: Any) -> str:
        """Take over the initialization options; return what is wrong with them, "" if nothing is."""
        if not isinstance(given, Mapping):
            return ""
        fields: dict[str, Any] = {}
        for name, (field, kind) in _OPTIONS.items():
            value = given.get(name)
            if value is not None and type(value) is not kind:
                return f"initialization options: {name} has a wrong type (expected {kind.__name__}). None were used."
            if value is not None:
                fields[field] = value
        unknown = sorted(str(name) for name in given.keys() - _OPTIONS.keys() - {"runDefinitions"})
        try:
            options = Options(**{**asdict(self.options), **fields})
            build_context(Tree({}), options)
        except TritonForgeError as error:
            return f"initialization options: {error}. None were used."
        self.options = options
        self.runs_definitions = self.runs_definitions or given.get("runDefinitions") is True
        expected = ", ".join([*_OPTIONS, "runDefinitions"])
        return f"initialization options: unknown {', '.join(unknown)} (expected {expected})" if unknown else ""

    def find_session(self, uri: str) -> tuple[Session, str] | None:
        """Return the session of an open document, and its path in the repository."""
        for session in self.sessions.values():
            if uri in session.open:
                return session, session.open[uri]
        return None

    def open_document(self, uri: str, text: str) -> None:
        """Open a document; one that belongs to no repository is left alone."""
        name = to_fs_path(uri)
        file = Path(name) if name else None
        root = find_repository(file) if file is not None and uri.startswith("file:") else None
        if root is None or file is None:
            return
        session = self.sessions.get(root)
        if session is None:
            session = self.sessions[root] = Session(EditedRepository(root, self.options))
        session.open[uri] = file.relative_to(root).as_posix()
        session.repository.set_buffer(session.open[uri], text)
        self.schedule_reading(session, delay=0.0)
        self.schedule_definition(session)

    def change_document(self, uri: str, text: str) -> None:
        """Take over the text of a document."""
        opened = self.find_session(uri)
        if opened is not None:
            session, path = opened
            session.repository.set_buffer(path, text)
            self.schedule_validation(session)
            if path.endswith(".py"):
                self.schedule_definition(session)

    def close_document(self, uri: str) -> None:
        """Close a document; the session ends with its last one."""
        opened = self.find_session(uri)
        if opened is None:
            return
        session, path = opened
        del session.open[uri]
        session.repository.set_buffer(path, None)
        if path == DEFINITION:
            session.report = DefinitionReport()
            self.schedule_definition(session)
        if session.open:
            self.schedule_reading(session)
            return
        session.close()
        del self.sessions[session.repository.root]
        for published in session.published:
            self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(published, []))

    def change_files(self, uris: Iterable[str]) -> None:
        """Read the repositories of files that changed on disk again."""
        names = [name for uri in uris if (name := to_fs_path(uri))]
        for root, session in self.sessions.items():
            if any(Path(name).is_relative_to(root) for name in names):
                self.schedule_reading(session)
                if any(name.endswith(".py") for name in names):
                    self.schedule_definition(session)

    def schedule_reading(self, session: Session, delay: float = _READ_DELAY) -> None:
        """Read the directory soon, in a thread, and validate it."""
        session.is_changed = True
        if session.reading is None or session.reading.done():
            session.reading = asyncio.ensure_future(self._read(session, delay))

    async def _read(self, session: Session, delay: float) -> None:
        while session.is_changed:
            await asyncio.sleep(delay)
            session.is_changed = False
            await asyncio.to_thread(session.repository.read)
            session.is_read = True
            self.schedule_validation(session)
            delay = _READ_DELAY

    def schedule_validation(self, session: Session) -> None:
        """Validate when the messages that have arrived are handled; later if validation takes long."""
        session.is_stale = True
        if session.validation is None and session.is_read:
            delay = session.duration if session.duration > _PROMPT else 0.0
            session.validation = asyncio.get_running_loop().call_later(delay, self._publish, session)

    def refresh(self, session: Session) -> EditedRepository:
        """Return the repository, validated with the texts as they are now."""
        if session.is_stale:
            start = time.monotonic()
            session.repository.validate()
            session.duration = time.monotonic() - start
            session.is_stale = False
        return session.repository

    def build_index(self, text: str) -> TextIndex:
        """Return the index of a text, in the encoding that was agreed with the editor."""
        return TextIndex(text, str(getattr(self.workspace.position_encoding, "value", None) or "utf-16"))

    def _publish(self, session: Session) -> None:
        """Validate, and publish the diagnostics that have changed."""
        session.validation = None
        repository = self.refresh(session)
        uris = {path: uri for uri, path in session.open.items()}
        diagnostics: dict[str, list[types.Diagnostic]] = {}
        for path, findings in repository.group_findings().items():
            text = repository.text(path)
            if text is None:
                continue
            index = self.build_index(text)
            diagnostics[uris.get(path) or Path(repository.root, path).as_uri()] = [
                to_diagnostic(finding, index, Span(0, 0) if is_moved else find_span(text, finding), is_moved=is_moved)
                for finding, is_moved in findings
            ]
        for path, listed in self._list_definition_diagnostics(session):
            diagnostics.setdefault(uris.get(path) or Path(repository.root, path).as_uri(), []).extend(listed)
        for uri in session.published.keys() | diagnostics.keys():
            current = diagnostics.get(uri, [])
            if session.published.get(uri, []) != current:
                self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, current))
        session.published = diagnostics

    def _list_definition_diagnostics(self, session: Session) -> Iterable[tuple[str, list[types.Diagnostic]]]:
        report, buffers = session.report, session.repository.list_buffers()
        problem = report.problem
        if problem is not None:
            text = buffers.get(problem.path, "")
            index = self.build_index(text)
            start = index.find_offset(max(problem.line - 1, 0), 0)
            end = index.find_offset(max(problem.line - 1, 0), 1 << 30)
            placed = types.Diagnostic(
                range=types.Range(
                    types.Position(*index.find_position(start)) if text else types.Position(problem.line - 1, 0),
                    types.Position(*index.find_position(end)) if text else types.Position(problem.line - 1, 1000),
                ),
                severity=types.DiagnosticSeverity.Error,
                source="tritonforge",
                message=escape_text(problem.message),
            )
            yield problem.path, [placed]
        text = buffers.get(DEFINITION, "")
        if report.findings and text:
            index = self.build_index(text)
            steps = report.steps or {}
            yield (
                DEFINITION,
                [
                    to_diagnostic(
                        finding,
                        index,
                        find_definition_span(text, finding, steps.get(finding.path.partition("/")[0], ())),
                        is_moved=True,
                    )
                    for finding in report.findings
                ],
            )

    def schedule_definition(self, session: Session) -> None:
        """Run the definition that is open, if the user allows it, when nothing has changed for a moment."""
        if session.definition is not None:
            session.definition.cancel()  # which ends the child
            session.definition = None
        if self.runs_definitions and DEFINITION in session.open.values():
            session.definition = asyncio.ensure_future(self._check_definition(session))

    async def _check_definition(self, session: Session) -> None:
        await asyncio.sleep(_DEFINITION_DELAY)
        root = session.repository.root
        buffers = {str(root / path): text for path, text in session.repository.list_buffers().items()}
        session.report = await run_check(root / DEFINITION, buffers, asdict(self.options))
        self.schedule_validation(session)
