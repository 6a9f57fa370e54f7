"""What is sent to the editor about names of a repository."""

import json

from tritonforge.language_server.hover import explain_finding
from tritonforge.language_server.positions import Span, TextIndex
from tritonforge.language_server.protocol import to_diagnostic, to_symbol
from tritonforge.language_server.symbols import list_symbols
from tritonforge.validation.findings import Finding


def test_messages_and_names_are_escaped() -> None:
    text = "input { name: '\x1b]0;x\udcff\u202e' }"
    finding = Finding(code="W999", severity="warning", path="a\x1b", message="b\x07\nc", help="d\u202e")
    diagnostic = to_diagnostic(finding, TextIndex(text), Span(0, 5), is_moved=True)
    assert diagnostic.message == "a\\u001b: b\\u0007\\u000ac\nd\\u202e"
    assert diagnostic.code_description is None  # no rule has this code
    (symbol,) = [to_symbol(symbol, TextIndex(text)) for symbol in list_symbols(text)]
    assert symbol.name == "input \\u001b]0;x\\udcff\\u202e"
    json.dumps(symbol.name).encode()
    assert "\x07" not in explain_finding(finding)
