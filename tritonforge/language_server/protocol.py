"""Findings, proposals, symbols and changes as values of the language server protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from lsprotocol import types

from tritonforge.escaping import escape_line
from tritonforge.language_server.completion import Completion, CompletionKind
from tritonforge.language_server.hover import Hover
from tritonforge.language_server.placement import Fix
from tritonforge.language_server.positions import Span, TextIndex
from tritonforge.language_server.rule_pages import find_page
from tritonforge.language_server.symbols import Symbol
from tritonforge.validation.findings import Finding

__all__ = ["FIX_ALL", "IndexOf", "to_code_action", "to_completion", "to_diagnostic", "to_hover", "to_range",
           "to_symbol"]  # fmt: skip

#: Returns the index of a file's text, by its path in the repository.
IndexOf = Callable[[str], TextIndex]

#: The kind of the action that an editor may run on save (``editor.codeActionsOnSave`` of VS Code).
FIX_ALL: Final = "source.fixAll.tritonforge"

_SOURCE: Final = "tritonforge"
_KINDS: Final[dict[CompletionKind, types.CompletionItemKind]] = {
    "field": types.CompletionItemKind.Property,
    "message": types.CompletionItemKind.Struct,
    "value": types.CompletionItemKind.EnumMember,
    "model": types.CompletionItemKind.Module,
    "tensor": types.CompletionItemKind.Variable,
    "file": types.CompletionItemKind.File,
    "text": types.CompletionItemKind.Text,
}


def to_range(index: TextIndex, span: Span) -> types.Range:
    """Return the range of a part of a text."""
    return types.Range(types.Position(*index.find_position(span.start)), types.Position(*index.find_position(span.end)))


def to_diagnostic(finding: Finding, index: TextIndex, span: Span, *, is_moved: bool = False) -> types.Diagnostic:
    """Return a finding as a diagnostic; one that is shown in another file begins with its own path."""
    page = find_page(finding.code)
    words = (f"{finding.path}: {finding.message}" if is_moved and finding.path else finding.message, finding.help)
    return types.Diagnostic(
        range=to_range(index, span),
        severity=types.DiagnosticSeverity.Error if finding.severity == "error" else types.DiagnosticSeverity.Warning,
        code=finding.code,
        code_description=types.CodeDescription(page) if page is not None else None,
        source=_SOURCE,
        message="\n".join(escape_line(text) for text in words if text),
    )


def to_completion(completion: Completion, index: TextIndex, *, allows_snippets: bool) -> types.CompletionItem:
    """Return a proposal; without snippets, only the name of a field is inserted."""
    text = completion.text
    if completion.is_snippet and not allows_snippets:
        text = completion.label
    return types.CompletionItem(
        label=completion.label,
        kind=_KINDS[completion.kind],
        detail=completion.detail or None,
        documentation=completion.documentation or None,
        filter_text=index.text[completion.span.start : completion.span.start + 1] + completion.label
        if text.startswith('"') and index.text[completion.span.start : completion.span.start + 1] in ("'", '"')
        else None,
        insert_text_format=types.InsertTextFormat.Snippet
        if completion.is_snippet and allows_snippets
        else types.InsertTextFormat.PlainText,
        text_edit=types.TextEdit(to_range(index, completion.span), text),
    )


def to_hover(hover: Hover, index: TextIndex) -> types.Hover:
    """Return a hover."""
    content = types.MarkupContent(types.MarkupKind.Markdown, hover.markdown)
    return types.Hover(content, to_range(index, hover.span) if hover.span is not None else None)


def to_symbol(symbol: Symbol, index: TextIndex) -> types.DocumentSymbol:
    """Return an entry of the outline, with those in it."""
    return types.DocumentSymbol(
        name=escape_line(symbol.name),
        detail=escape_line(symbol.detail) or None,
        kind=types.SymbolKind.Struct if symbol.symbols else types.SymbolKind.Field,
        range=to_range(index, symbol.span),
        selection_range=to_range(index, symbol.name_span),
        children=[to_symbol(inner, index) for inner in symbol.symbols],
    )


def to_code_action(
    fix: Fix, root: Path, index_of: IndexOf, diagnostics: Sequence[types.Diagnostic], *, kind: str, creates_files: bool
) -> types.CodeAction | None:
    """Return a fix as an action; None where it creates a file and the editor cannot."""
    if fix.created and not creates_files:
        return None
    edits: dict[str, list[types.TextEdit]] = {}
    for replacement in fix.replacements:
        edit = types.TextEdit(to_range(index_of(replacement.path), replacement.span), replacement.text)
        edits.setdefault(Path(root, replacement.path).as_uri(), []).append(edit)
    if not fix.created:
        changed = types.WorkspaceEdit(changes=edits)
    else:
        # With the option ignoreIfExists Neovim makes neither the directory nor the file, and the text of another
        # program's new file would be changed.
        creations = [types.CreateFile(Path(root, path).as_uri()) for path in fix.created]
        texts = [
            types.TextDocumentEdit(types.OptionalVersionedTextDocumentIdentifier(uri=uri), list(listed))
            for uri, listed in edits.items()
        ]
        changed = types.WorkspaceEdit(document_changes=[*creations, *texts])
    solved = {finding.code for finding in fix.findings}
    return types.CodeAction(
        title=fix.title,
        kind=kind,
        diagnostics=_select_solved(diagnostics, solved),
        is_preferred=fix.is_preferred or None,
        edit=changed,
    )


def _select_solved(diagnostics: Iterable[types.Diagnostic], codes: set[str]) -> list[types.Diagnostic]:
    return [diagnostic for diagnostic in diagnostics if diagnostic.code in codes]
