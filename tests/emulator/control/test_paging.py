"""Pages of a list: complete, without repetition, whatever others do meanwhile."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.emulator.control import resource_store
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.records import DEFAULT_PAGE, Record, select_records, take_page

ITEMS = st.lists(
    st.tuples(st.text("abc-", min_size=1, max_size=6), st.integers(0, 5)), unique_by=lambda each: each[0], max_size=30
)
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "SortBy": st.sampled_from(["Name", "CreationTime"]),
        "SortOrder": st.sampled_from(["Ascending", "Descending"]),
        "NameContains": st.sampled_from(["a", "B"]),
        "CreationTimeAfter": st.integers(0, 5),
        "CreationTimeBefore": st.integers(0, 5),
        "MaxResults": st.integers(1, 7),
    },
)


def chosen(request: dict[str, Any], items: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The items that a request selects."""
    records = [Record(name=name, arn="", created=created) for name, created in items]
    return [(record.name, int(record.created)) for record in select_records(request, records)]


@given(ITEMS, QUESTIONS)
def test_pages_put_together_are_the_list(items: Any, question: Any) -> None:
    """Every item once, in order; the last page has no token."""
    whole = chosen(question, items)
    found: list[Any] = []
    request = dict(question)
    while True:
        shown, token = take_page(request, chosen(request, items), name=lambda each: each[0])
        assert len(shown) <= question.get("MaxResults", DEFAULT_PAGE)
        found += shown
        if token is None:
            break
        request = {**question, "NextToken": token}
    assert found == whole


@given(ITEMS, QUESTIONS)
def test_a_selection_is_what_the_filters_say(items: Any, question: Any) -> None:
    """After is inclusive, before exclusive, names are compared without regard to case."""
    expected = {
        item
        for item in items
        if question.get("NameContains", "").lower() in item[0].lower()
        and item[1] >= question.get("CreationTimeAfter", 0)
        and item[1] < question.get("CreationTimeBefore", 6)
    }
    assert set(chosen(question, items)) == expected


def test_a_page_goes_on_after_what_it_ended_with() -> None:
    """Items that appear or vanish before the mark shift nothing."""
    request = {"SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 2}
    items = [("b", 0), ("c", 0), ("d", 0), ("e", 0)]
    _, token = take_page(request, chosen(request, items), name=lambda each: each[0])
    request["NextToken"] = token
    shown, _ = take_page(request, chosen(request, [("a", 0), *items]), name=lambda each: each[0])
    assert [item[0] for item in shown] == ["d", "e"]
    shown, _ = take_page(request, chosen(request, [("b", 0), ("d", 0), ("e", 0)]), name=lambda each: each[0])
    assert [item[0] for item in shown] == ["e"]  # the mark itself is gone: its place counts


@pytest.mark.parametrize("token", ["x", base64.urlsafe_b64encode(b"[]").decode(), "é"])
def test_an_unknown_token_is_rejected(token: str) -> None:
    with pytest.raises(ApiError, match="NextToken"):
        take_page({"NextToken": token}, [1], name=str)


def test_an_empty_token_asks_for_the_first_page() -> None:
    assert take_page({"NextToken": ""}, [1], name=str) == ([1], None)


def test_a_token_is_for_one_question() -> None:
    """With another filter it means nothing."""
    _, token = take_page({"MaxResults": 1}, ["a", "b"], name=str)
    with pytest.raises(ApiError, match="NextToken"):
        take_page({"NextToken": token, "NameContains": "b"}, ["a", "b"], name=str)


def test_arns_have_small_letters_and_a_partition() -> None:
    """As ListEndpoints shows them; China and GovCloud have partitions of their own."""
    made = resource_store.build_arn("endpoint", "DEMO-ep", region="cn-north-1", account="123456789012")
    assert made == "arn:aws-cn:sagemaker:cn-north-1:123456789012:endpoint/demo-ep"
    assert resource_store.parse_arn(made) == resource_store.Arn("cn-north-1", "123456789012", "endpoint", "demo-ep")
    assert resource_store.parse_arn("arn:aws:s3:::bucket") is None
    assert resource_store.find_partition("us-gov-west-1") == "aws-us-gov"
