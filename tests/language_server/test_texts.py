"""Positions, completion, hover, outline, indentation: what the language server makes of one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rule_repositories import e, m, x
from tritonforge.language_server.blocks import find_cursor, read_blocks
from tritonforge.language_server.completion import complete
from tritonforge.language_server.definition_lines import find_definition_span
from tritonforge.language_server.hover import build_hover
from tritonforge.language_server.placement import find_span, replace_text
from tritonforge.language_server.positions import Position, Span, TextIndex, find_finding_offset
from tritonforge.language_server.symbols import indent_lines, list_symbols
from tritonforge.pbtxt.document import FieldKind, MessageSpec, root_spec
from tritonforge.pbtxt.tokens import tokenize
from tritonforge.triton.field_documentation import find_documentation
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree import Tree

CONTEXT = build_context(Tree.of({**x(inputs="AC"), **x("y"), **e(), "m/labels.txt": "a\n", **m()}))


def list_labels(text: str, model: str = "e") -> list[str]:
    """Return the proposals at the bar."""
    offset = text.index("|")
    return [item.label for item in complete(text.replace("|", ""), offset, model=model, context=CONTEXT)]


@pytest.mark.parametrize(
    ("encoding", "character"), [("utf-8", 4 + 2 + 4 + 3), ("utf-16", 4 + 1 + 2 + 1), ("utf-32", 4 + 1 + 1 + 1)]
)
def test_positions_count_the_units_of_the_encoding(encoding: str, character: int) -> None:
    text = "a\r\n# c\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}\N{EURO SIGN}x\rend"
    index = TextIndex(text, encoding)
    character -= 1  # "# c" has three characters
    assert index.find_position(text.index("x")) == Position(1, character)
    assert index.find_offset(1, character) == text.index("x")
    assert index.find_position(text.index("end")) == Position(2, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_position_inside_of_a_character_is_behind_it(encoding: str) -> None:
    assert TextIndex("a\N{GRINNING FACE}b\ud800", encoding).find_offset(0, 2) == 2
    assert TextIndex("a\N{GRINNING FACE}b\ud800", encoding).find_offset(0, 99) == 4


def test_a_position_outside_is_the_end_of_its_line_or_text() -> None:
    index = TextIndex("ab\r\ncd")
    assert index.find_offset(0, 99) == 2
    assert index.find_offset(9, 0) == 6
    assert index.find_position(99) == Position(1, 2)


def test_only_line_feeds_end_the_lines_of_a_finding() -> None:
    assert find_finding_offset("a\rb\ncd", 2, 2) == 5
    assert find_finding_offset("a", 3, 1) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name: "|', ["e"]),
        ("input [ { data_type: TYPE_F|", ["TYPE_FP16", "TYPE_FP32", "TYPE_FP64"]),
        ("dynamic_batching { preserve_ordering: |", ["true", "false"]),
        ('ensemble_scheduling { step [ { model_name: "|" } ] }', ["m", "x", "y"]),
        ('ensemble_scheduling { step { model_name: "x" input_map { key: "|', ["A", "C"]),
        ('ensemble_scheduling { step { model_name: "x" output_map { key: "|', ["B"]),
        ('ensemble_scheduling { step { model_name: "gone" input_map { key: "|', []),
        ('ensemble_scheduling { step { input_map { value: "|" } } } input { name: "I" }', ["I"]),
        ('backend: "onnx|', ["onnxruntime"]),
        ('# name: "|', []),
        ('unknown: "|', []),
        ("unknown { |", []),
        ("max_batch_size: |", []),
        ('name: "x" # |\n', []),
    ],
)
def test_values_are_proposed_by_field(text: str, expected: list[str]) -> None:
    typed = text[: text.index("|")].rpartition(" ")[2].strip('"')
    assert [label for label in list_labels(text) if label.startswith(typed)] == expected


def test_files_of_the_model_are_proposed() -> None:
    assert list_labels('output [ { label_filename: "|', "m") == ["labels.txt"]


def test_fields_are_proposed_that_the_message_does_not_have() -> None:
    assert {"input", "max_batch_size"} <= set(list_labels('name: "e"\n|\nbackend: "python"'))
    assert not {"name", "backend"} & set(list_labels('name: "e"\n|\nbackend: "python"'))
    assert "name" in list_labels("na|")  # the word itself
    assert "dynamic_batching" not in list_labels("sequence_batching { }\n|")  # of one oneof
    assert "dims" in list_labels("input\ninput [ { name: \n |")


def test_a_field_is_inserted_with_its_brackets() -> None:
    texts = {item.label: item.text for item in complete("", 0)}
    assert texts["name"] == 'name: "$0"'
    assert texts["input"] == "input [\n  {\n    $0\n  }\n]"
    assert texts["max_batch_size"] == "max_batch_size: $0"
    assert {item.label: item.text for item in complete("na: 1", 2)}["name"] == "name"


def test_a_cursor_is_found_in_damaged_texts() -> None:
    for text in ("}}}", "[[[", "input [ {", 'name: "', "a{" * 500, "]" * 50, "input: <", "'", ": :", "\0{"):
        for offset in range(min(len(text), 60) + 1):
            find_cursor(text, offset)
        assert read_blocks(text).name == ""


def test_a_value_that_is_missing_does_not_hide_the_next_field() -> None:
    names = [block.name for block in read_blocks("name:\ninput { }\nplatform\noutput [ { }, { } ]").blocks]
    assert names == ["input", "output", "output"]


def test_hover_shows_the_field_and_the_rule() -> None:
    text = "max_batch_size: -1"
    finding = Finding(code="E213", severity="error", message="m", line=1, column=17)
    hover = build_hover(text, 3, findings=[finding])
    assert hover is not None
    assert "Maximum batch size" in hover.markdown
    assert "**E213**" in hover.markdown
    assert hover.span == Span(0, 14)
    assert build_hover("# comment", 3) is None


def test_hover_shows_values_models_and_tensors() -> None:
    text = 'input [ { format: FORMAT_NHWC } ] ensemble_scheduling { step { model_name: "x" input_map { key: "C" } } }'
    for word, expected in (("FORMAT_NHWC", "HWC image"), ('"x"', r"input A: TYPE\_FP32 \[4\]"), ('"C"', "FP32")):
        hover = build_hover(text, text.index(word) + 1, context=CONTEXT)
        assert hover is not None
        assert expected in hover.markdown


def test_names_that_hide_something_are_not_proposed() -> None:
    names = {"\x1b[2Jx": "", 'a"b': "", "ab\udcff": "", "\u202ex": "", "good": ""}
    context = build_context(Tree.of({f"{name}/1/": "" for name in names}))
    items = complete('ensemble_scheduling { step { model_name: "', 42, model="e", context=context)
    assert [item.label for item in items] == ["good"]


def test_markdown_of_a_repository_is_escaped() -> None:
    context = build_context(Tree.of({"<b>`x`": "", **m(io='input [{ name: "[a](http://b)" data_type: TYPE_FP32 }]')}))
    hover = build_hover('ensemble_scheduling { step { model_name: "m" } }', 43, context=context)
    assert hover is not None
    assert "\\[a\\]\\(http:" in hover.markdown


def test_the_outline_has_messages_by_their_names() -> None:
    (tensor, scheduling) = list_symbols(
        'input [ { name: "A" } ] ensemble_scheduling { step { model_name: "x" input_map { key: "k" value: "v" } } }'
    )
    assert tensor.name == "input A"
    (step,) = scheduling.symbols
    assert (step.name, step.symbols[0].name, step.symbols[0].detail) == ("step x", "input_map k", "v")
    assert len(list_symbols("a { " * 10_000)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input [\n{\nname: 'a' # {\n    }\n  ]\n", "input [\n  {\n    name: 'a' # {\n  }\n]\n"),
        ("input [ {\nname: 'a' }, {\nname: 'b'\n} ]\n", "input [ {\n    name: 'a' }, {\n    name: 'b'\n} ]\n"),
        ("a {\r\n  b: '{'\r\n}\r\n\r\n", "a {\r\n  b: '{'\r\n}\r\n\r\n"),
        ("a {\n   b {\n", "a {\n   b {\n"),
        ("}\n  a {\n", "}\n  a {\n"),
    ],
)
def test_indentation_follows_the_brackets(text: str, expected: str) -> None:
    changed = text
    for span, white in reversed(indent_lines(text)):
        changed = changed[: span.start] + white + changed[span.end :]
    assert changed == expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ('a: "x\\"y" b', 4, '"x\\"y"'),
        ("input [ {", 9, "input [ {"),
        ("dims: -12,", 7, "-12"),
        ("a: ;", 4, ";"),
        ("a:\n", 3, ""),
    ],
)
def test_a_finding_covers_its_token(text: str, column: int, expected: str) -> None:
    span = find_span(text, Finding(code="E1", severity="error", message="", line=1, column=column))
    assert text[span.start : span.end] == expected


def test_the_shortest_replacement_is_made() -> None:
    assert replace_text("p", "name: 'ab'", "name: 'aXb'") == replace_text("p", "name: 'ab'", "name: 'aXb'")
    replacement = replace_text("p", "aa", "aaa")
    assert "aa"[: replacement.span.start] + replacement.text + "aa"[replacement.span.end :] == "aaa"


DEFINITION = """from tritonforge import Dali, Ensemble, Input, Tensor, TensorFlow
decode = Dali("decode", max_batch_size=8, input=[Input("a", TYPE_UINT8, [-1])])
nett = models.TensorFlow(name="n\N{EURO SIGN}t", max_batch_size=8,
    input=[Input("b", TYPE_FP32, [0])])
show = Ensemble("show", outputs=[nett(decode(Tensor("I")))])
"""


@pytest.mark.parametrize(
    ("path", "field", "expected"),
    [
        ("decode/config.pbtxt", "max_batch_size", "8"),
        ("decode/config.pbtxt", "input[0].dims[0]", "-1"),
        ("decode/config.pbtxt", "", "Dali"),
        ("n\N{EURO SIGN}t", "input[0].name", '"b"'),
        ("show/config.pbtxt", "ensemble_scheduling.step[0].model_name", 'decode(Tensor("I"))'),
        ("show/config.pbtxt", "ensemble_scheduling.step[7].model_name", "Ensemble"),
        ("other", "", "from tritonforge import Dali, Ensemble, Input, Tensor, TensorFlow"),
    ],
)
def test_a_finding_on_a_definition_is_at_its_declaration(path: str, field: str, expected: str) -> None:
    finding = Finding(code="E1", severity="error", message="", path=path, field=field)
    span = find_definition_span(DEFINITION, finding, ["decode", "n\N{EURO SIGN}t"])
    assert DEFINITION[span.start : span.end] == expected


TEXTS = st.lists(
    st.sampled_from(
        ["name", "input", "dims", "ensemble_scheduling", "step", "input_map", "key", "model_name", "data_type", ":",
         "{", "}", "[", "]", "<", ">", ",", '"', "'", '"x"', "\\", "1", "-", "#", "\n", "\r\n", "\r", " ", "\t",
         "\u2028", "\x0c", "\N{GRINNING FACE}", "\0", "TYPE_FP32", "true"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(text=TEXTS, offset=st.integers(0, 40))
def test_any_text_has_answers(text: str, offset: int) -> None:
    offset = min(offset, len(text))
    for item in complete(text, offset, model="e", context=CONTEXT):
        assert item.span.start <= offset <= item.span.end
    hover = build_hover(text, offset, context=CONTEXT)
    assert hover is None or hover.span is None or hover.span.start <= offset <= hover.span.end
    list_symbols(text)
    index = TextIndex(text)
    position = index.find_position(offset)
    assert index.find_offset(*position) == offset or text[offset - 1 : offset + 1] == "\r\n"
    changed = text
    for span, white in reversed(indent_lines(text)):
        assert not text[span.start : span.end].strip(" \t")
        changed = changed[: span.start] + white + changed[span.end :]
    assert tokenize(changed, limit=100).texts == tokenize(text, limit=100).texts


def test_every_field_of_the_schema_is_documented() -> None:
    pending: list[MessageSpec] = [root_spec()]
    missing, seen = set(), set()
    while pending:
        spec = pending.pop()
        for field in spec.fields.values():
            if not spec.name.endswith("Entry") and not find_documentation(field.full_name):
                missing.add(field.full_name)
            if field.kind == FieldKind.MESSAGE and field.message.name not in seen:
                seen.add(field.message.name)
                pending.append(field.message)
    assert len(seen) > 30
    assert not missing
