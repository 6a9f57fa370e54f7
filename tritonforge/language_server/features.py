"""The requests and notifications of the protocol that the language server handles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lsprotocol import types

from tritonforge.language_server.completion import complete
from tritonforge.language_server.edited_repository import is_configuration
from tritonforge.language_server.hover import build_findings_hover, build_hover
from tritonforge.language_server.navigation import Place, find_definition, find_references
from tritonforge.language_server.placement import find_span
from tritonforge.language_server.positions import TextIndex
from tritonforge.language_server.protocol import (
    FIX_ALL,
    to_code_action,
    to_completion,
    to_hover,
    to_range,
    to_symbol,
)
from tritonforge.language_server.server import RepositoryServer, Session
from tritonforge.language_server.symbols import indent_lines, list_symbols
from tritonforge.validation.context import Options

__all__ = ["create_server"]

#: Characters of a document about which the editor is answered; of a larger one only the findings are shown. The whole
#: outline of one of 5 MB takes 16 s, in which nothing else is answered.
_MAXIMAL_TEXT: Final = 512 * 1024


def create_server(options: Options, *, runs_definitions: bool = False) -> RepositoryServer:
    """Return a language server that is ready to start; the editor's initialization options override ``options``."""
    server = RepositoryServer(options, runs_definitions=runs_definitions)
    _add_documents(server)
    _add_requests(server)
    return server


def _add_documents(server: RepositoryServer) -> None:
    """Register what the editor notifies of."""

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        problem = server.configure(params.initialization_options)
        if problem:
            server.window_show_message(types.ShowMessageParams(types.MessageType.Error, problem))

    @server.feature(types.INITIALIZED)
    def watch(_: types.InitializedParams) -> None:
        workspace = server.client_capabilities.workspace
        watched = workspace.did_change_watched_files if workspace is not None else None
        if watched is not None and watched.dynamic_registration:
            options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*")])
            registration = types.Registration("watched-files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
            server.client_register_capability(types.RegistrationParams([registration]))

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def open_document(params: types.DidOpenTextDocumentParams) -> None:
        server.open_document(params.text_document.uri, params.text_document.text)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def change_document(params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        server.change_document(uri, server.workspace.get_text_document(uri).source)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def close_document(params: types.DidCloseTextDocumentParams) -> None:
        server.close_document(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def save_document(params: types.DidSaveTextDocumentParams) -> None:
        server.change_files([params.text_document.uri])

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def change_files(params: types.DidChangeWatchedFilesParams) -> None:
        server.change_files([change.uri for change in params.changes])

    # What an editor does with files itself; one that does not watch the disk notifies of nothing else.
    every_file = types.FileOperationRegistrationOptions([types.FileOperationFilter(types.FileOperationPattern("**"))])

    @server.feature(types.WORKSPACE_DID_CREATE_FILES, every_file)
    def create_files(params: types.CreateFilesParams) -> None:
        server.change_files([file.uri for file in params.files])

    @server.feature(types.WORKSPACE_DID_RENAME_FILES, every_file)
    def rename_files(params: types.RenameFilesParams) -> None:
        server.change_files([uri for file in params.files for uri in (file.old_uri, file.new_uri)])

    @server.feature(types.WORKSPACE_DID_DELETE_FILES, every_file)
    def delete_files(params: types.DeleteFilesParams) -> None:
        server.change_files([file.uri for file in params.files])


def _add_requests(server: RepositoryServer) -> None:
    """Register what the editor asks for."""

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=['"', ":", "{", "["]))
    def list_completions(params: types.CompletionParams) -> list[types.CompletionItem]:
        opened = _find_config(server, params.text_document.uri)
        if opened is None:
            return []
        session, path, index = opened
        offset = index.find_offset(params.position.line, params.position.character)
        context = server.refresh(session).context
        document = server.client_capabilities.text_document
        completion = document.completion if document is not None else None
        item = completion.completion_item if completion is not None else None
        return [
            to_completion(proposal, index, allows_snippets=bool(item and item.snippet_support))
            for proposal in complete(index.text, offset, model=path.partition("/")[0], context=context)
        ]

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def show_hover(params: types.HoverParams) -> types.Hover | None:
        opened = _find_document(server, params.text_document.uri)
        if opened is None:
            return None
        session, path, index = opened
        offset = index.find_offset(params.position.line, params.position.character)
        repository = server.refresh(session)
        spans = (
            (finding, find_span(index.text, finding))
            for finding, is_moved in repository.group_findings().get(path, ())
            if not is_moved
        )
        findings = [finding for finding, span in spans if span.start <= offset <= span.end]
        if is_configuration(path):
            hover = build_hover(index.text, offset, context=repository.context, findings=findings)
        else:
            hover = build_findings_hover(findings)
        return to_hover(hover, index) if hover is not None else None

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    def go_to_definition(params: types.DefinitionParams) -> list[types.Location]:
        opened = _find_config(server, params.text_document.uri)
        if opened is None:
            return []
        session, path, index = opened
        offset = index.find_offset(params.position.line, params.position.character)
        places = find_definition(server.refresh(session).context, path.partition("/")[0], offset)
        return _list_locations(server, session, places)

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    def list_references(params: types.ReferenceParams) -> list[types.Location]:
        opened = _find_config(server, params.text_document.uri)
        if opened is None:
            return []
        session, path, index = opened
        offset = index.find_offset(params.position.line, params.position.character)
        places = find_references(server.refresh(session).context, path.partition("/")[0], offset)
        return _list_locations(server, session, places)

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def list_document_symbols(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        opened = _find_config(server, params.text_document.uri)
        if opened is None:
            return []
        return [to_symbol(symbol, opened[2]) for symbol in list_symbols(opened[2].text)]

    @server.feature(types.TEXT_DOCUMENT_FORMATTING)
    def format_document(params: types.DocumentFormattingParams) -> list[types.TextEdit]:
        opened = _find_config(server, params.text_document.uri)
        if opened is None:
            return []
        index = opened[2]
        return [types.TextEdit(to_range(index, span), text) for span, text in indent_lines(index.text)]

    kinds = [types.CodeActionKind.QuickFix, FIX_ALL]
    server.feature(types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(code_action_kinds=kinds))(
        lambda params: _list_code_actions(server, params)
    )


def _list_code_actions(server: RepositoryServer, params: types.CodeActionParams) -> list[types.CodeAction]:
    opened = _find_config(server, params.text_document.uri)
    only = params.context.only
    kind = types.CodeActionKind.QuickFix.value
    if only and not any(kind == wanted or kind.startswith(f"{wanted}.") for wanted in only):
        if not any(wanted == FIX_ALL or FIX_ALL.startswith(f"{wanted}.") for wanted in only):
            return []
        kind = FIX_ALL
    if opened is None:
        return []
    session, path, index = opened
    repository = server.refresh(session)
    start = index.find_offset(params.range.start.line, params.range.start.character)
    end = index.find_offset(params.range.end.line, params.range.end.character)
    workspace = server.client_capabilities.workspace
    edits = workspace.workspace_edit if workspace is not None else None
    # Neovim 0.7 creates files and does not state documentChanges, which this needs.
    creates = bool(edits and types.ResourceOperationKind.Create in (edits.resource_operations or ()))
    actions = []
    for fix in repository.list_fixes(path):
        spans = [find_span(index.text, finding) for finding in fix.findings if finding.path == path]
        touches = any(span.start <= end and start <= span.end for span in spans)
        if fix.is_preferred if kind == FIX_ALL else (touches or fix.is_preferred):
            actions.append(
                to_code_action(
                    fix,
                    repository.root,
                    lambda name: server.build_index(repository.text(name) or ""),
                    params.context.diagnostics,
                    kind=kind,
                    creates_files=creates,
                )
            )
    return [action for action in actions if action is not None]


def _find_config(server: RepositoryServer, uri: str) -> tuple[Session, str, TextIndex] | None:
    """Return the session, the path and the text of an open configuration; None for any other document."""
    opened = _find_document(server, uri)
    return opened if opened is not None and is_configuration(opened[1]) else None


def _find_document(server: RepositoryServer, uri: str) -> tuple[Session, str, TextIndex] | None:
    """Return the session, the path and the text of an open document of a repository; None for one that is too large."""
    opened = server.find_session(uri)
    if opened is None:
        return None
    text = server.workspace.get_text_document(uri).source
    if len(text) > _MAXIMAL_TEXT:
        return None
    return opened[0], opened[1], server.build_index(text)


def _list_locations(server: RepositoryServer, session: Session, places: Sequence[Place]) -> list[types.Location]:
    """Return places as locations, under the address that the editor uses for an open document."""
    uris = {path: uri for uri, path in session.open.items()}
    locations = []
    for place in places:
        uri = uris.get(place.path) or Path(session.repository.root, place.path).as_uri()
        index = server.build_index(session.repository.text(place.path) or "")
        locations.append(types.Location(uri, to_range(index, place.span)))
    return locations
