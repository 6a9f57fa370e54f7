"""Literals and comments of written definitions: whatever the text, it stays a text."""

import ast

from hypothesis import given
from hypothesis import strategies as st

from tritonforge.repository.definition_writer import VariableNames
from tritonforge.repository.source_layout import Atom, Group, Item, format_comment, layout, quote, quote_block

#: Every character, also halves of surrogate pairs, with those that end strings and lines more often.
TEXTS = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from("\"'\\\n\r\t\x0c\x85\u2028#")))


@given(TEXTS)
def test_a_literal_is_its_text(text: str) -> None:
    literal = quote(text)
    assert ast.literal_eval(literal) == text
    assert len(literal.splitlines()) == 1


@given(TEXTS)
def test_a_comment_is_one_line_and_no_code(text: str) -> None:
    module = ast.parse(f"x = 1  {format_comment(text)}\n{format_comment(text)}\n".encode("utf-8", "strict"))
    assert len(module.body) == 1


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), min_size=1))
def test_a_block_is_its_lines(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert ast.literal_eval(quote_block(text)) == f"\n{text}"


@given(TEXTS)
def test_a_variable_is_a_new_name(text: str) -> None:
    names = VariableNames()
    variables = [names.take(text, default="model") for _ in range(3)]
    assert len(set(variables)) == 3
    assert all(variable.isidentifier() and not variable.startswith("_") for variable in variables)
    assert not set(variables) & {"import", "print", "Input", "type"}


def test_what_does_not_fit_on_a_line_is_split() -> None:
    items = [Item(Atom(quote("x" * 50)), f"name_{n}=") for n in range(3)]
    assert layout(Group("f(", items[:1], ")"), prefix="a = ") == [f'a = f(name_0="{"x" * 50}")']
    assert layout(Group("f(", items, ")"), prefix="a = ")[:2] == ["a = f(", f'    name_0="{"x" * 50}",']
    items[0].behind = "why"
    assert layout(Group("f(", items[:1], ")")) == ["f(", f'    name_0="{"x" * 50}",  # why', ")"]
    items[0].behind = "y" * 100
    assert layout(Group("f(", items[:1], ")"))[1] == f"    # {'y' * 100}"
