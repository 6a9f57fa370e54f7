"""The comments of a config.pbtxt, and the fields that they are beside."""

import pytest

from tritonforge.pbtxt import parse
from tritonforge.pbtxt.comments import Comment, list_comments


@pytest.mark.parametrize(
    ("text", "comments"),
    [
        ("max_batch_size: 8", []),
        ("# alone", [Comment("alone", "")]),
        ("max_batch_size: 8 # x", [Comment("x", "max_batch_size", is_trailing=True)]),
        ("# x\nmax_batch_size: 8", [Comment("x", "max_batch_size")]),
        ("# x\n\n# y\nmax_batch_size: 8", [Comment("x", "", is_heading=True), Comment("y", "max_batch_size")]),
        ("max_batch_size: 8\n# end", [Comment("end", "max_batch_size")]),
        ("input { name: 'a'\n# x\n}\nmax_batch_size: 8", [Comment("x", "input[0].name")]),
        ("input { name: 'a'\n} # x\nmax_batch_size: 8", [Comment("x", "input[0].name")]),
        ("input [ # x\n { name: 'a' } ]", [Comment("x", "input[0]")]),
        ("input { dims: [ 1, # x\n 2 ] }", [Comment("x", "input[0]", is_trailing=True)]),
        ("name: '#a' # b 'c'", [Comment("b 'c'", "name", is_trailing=True)]),
        ('name: "a\\"#b" # c', [Comment("c", "name", is_trailing=True)]),
    ],
)
def test_a_comment_is_beside_a_field(text: str, comments: list[Comment]) -> None:
    document = parse(text)
    assert document.problems == ()
    assert list_comments(document) == comments
