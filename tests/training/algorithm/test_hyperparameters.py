"""Hyperparameters: strings become typed values, or one error that names every problem."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonforge.errors import DefinitionError
from tritonforge.training.algorithm import Algorithm, HyperParameter, HyperparameterError, HyperParameterValues

DECLARED = Algorithm(
    "detector",
    hyperparameters=[
        HyperParameter("epochs", "Integer", "Passes.", 5, minimum=1, maximum=100),
        HyperParameter("learning_rate", "Continuous", "A step.", 0.001, minimum=0.0, maximum=1.0),
        HyperParameter("optimizer", "Categorical", "Who steps.", "adam", values=("adam", "sgd")),
        HyperParameter.flag("train_only_on_top_layer", "What is learned.", default=False),
        HyperParameter("comment", "FreeText"),
        HyperParameter("label_key", "FreeText", required=True),
    ],
)
NEEDED = {"label_key": "species"}


def read(**given: str) -> HyperParameterValues:
    """The values of a job that gives what it must, and this."""
    return DECLARED.read(NEEDED | given)


def problems(**given: str) -> tuple[str, ...]:
    """What is wrong with a job that gives what it must, and this."""
    with pytest.raises(HyperparameterError) as caught:
        DECLARED.read(NEEDED | given)
    return caught.value.problems


def test_defaults_are_filled_in_and_typed() -> None:
    """What a job does not give is its default; what has none is not there; `given` says what the job gave."""
    values = read()
    assert dict(values) == {
        "epochs": 5,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "train_only_on_top_layer": "False",
        "label_key": "species",
    }
    assert (values.integer("epochs"), values.number("learning_rate"), values.text("optimizer")) == (5, 0.001, "adam")
    assert values.flag("train_only_on_top_layer") is False
    assert values.given == {"label_key"}
    assert "comment" not in values


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "7", 7),
        ("epochs", '"7"', 7),
        ("epochs", " +7 ", 7),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", ".5", 0.5),
        ("learning_rate", "1", 1.0),
        ("optimizer", "sgd", "sgd"),
        ("optimizer", '"sgd"', "sgd"),
        ("train_only_on_top_layer", "True", "True"),
        ("train_only_on_top_layer", "true", "True"),
        ("train_only_on_top_layer", '"false"', "False"),
        ("comment", "", ""),
        ("comment", '"', '"'),
        ("comment", '"with \\"quotes\\""', 'with "quotes"'),
        ("comment", '"broken\\"', '"broken\\"'),
        ("comment", "日本語", "日本語"),
    ],
)
def test_strings_are_read_bare_and_as_json(name: str, text: str, value: object) -> None:
    """A value is what the string says, and what the JSON string in it says, as the SDKs send them."""
    found = read(**{name: text})[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("epochs", "2.5", "epochs is '2.5'; write an integer from 1 to 100"),
        ("epochs", "1_0", "epochs is '1_0'; write an integer from 1 to 100"),
        ("epochs", "٣", "epochs is '٣'; write an integer from 1 to 100"),
        ("epochs", "0", "epochs is '0'; it must be from 1 to 100"),
        ("epochs", "", "epochs is ''; write an integer from 1 to 100"),
        ("learning_rate", "nan", "learning_rate is 'nan'; write a number from 0.0 to 1.0"),
        ("learning_rate", "1e999", "learning_rate is '1e999'; write a number from 0.0 to 1.0"),
        ("learning_rate", "-0.1", "learning_rate is '-0.1'; it must be from 0.0 to 1.0"),
        ("optimizer", "adm", "optimizer is 'adm'; write adam or sgd; did you mean adam?"),
        ("optimizer", "Adam", "optimizer is 'Adam'; write adam or sgd; did you mean adam?"),
        ("train_only_on_top_layer", "1", "train_only_on_top_layer is '1'; write True or False"),
        ("comment", "x" * 2501, "comment has 2501 characters; SageMaker allows 2500"),
    ],
)
def test_wrong_values_say_what_to_write(name: str, text: str, sentence: str) -> None:
    """A wrong value is shown, with what is right."""
    assert problems(**{name: text}) == (sentence,)


def test_all_problems_are_reported_at_once() -> None:
    """Unknown, wrong and missing ones stand in one error, in one sentence."""
    with pytest.raises(HyperparameterError) as caught:
        DECLARED.read({"lerning_rate": "0.1", "epochs": "many", "zzz": "1"})
    assert str(caught.value) == (
        "4 hyperparameters are wrong: 'lerning_rate' is unknown; did you mean learning_rate?; "
        "epochs is 'many'; write an integer from 1 to 100; "
        "'zzz' is unknown; known are comment, epochs, label_key, learning_rate, optimizer, train_only_on_top_layer; "
        "label_key is missing"
    )
    assert caught.value.exit_code == 2


def test_the_seeds_wrong_name_is_corrected() -> None:
    """`train_only_top_layer`, as seed 3 has it, is answered with its real name."""
    assert problems(train_only_top_layer="True") == (
        "'train_only_top_layer' is unknown; did you mean train_only_on_top_layer?",
    )


def test_reserved_names_are_passed_over() -> None:
    values = read(sagemaker_program='"train.py"', sagemaker_region="us-east-1", _tuning_objective_metric="loss")
    assert values.given == {"label_key"}


@pytest.mark.slow
@settings(deadline=None)  # a busy machine must not fail the test
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([hyperparameter.name for hyperparameter in DECLARED.hyperparameters]), st.text()),
        st.text(),
    )
)
def test_any_strings_are_values_or_one_error(given: dict[str, str]) -> None:
    """Whatever a job gives is read as declared, or refused with HyperparameterError, and with nothing else."""
    caught = None
    try:
        values = DECLARED.read(given)
    except HyperparameterError as error:
        caught = error
    if caught is None:
        assert 1 <= values.integer("epochs") <= 100
        assert 0.0 <= values.number("learning_rate") <= 1.0
        assert values.text("optimizer") in ("adam", "sgd")
    else:
        assert caught.problems
        assert "\n" not in str(caught)


@settings(deadline=None)  # a busy machine must not fail the test
@given(st.integers(1, 100), st.floats(0, 1), st.text(max_size=100))
def test_what_the_sdks_write_is_read_back(epochs: int, rate: float, comment: str) -> None:
    """`str` and `json.dumps`, the two ways of the SDKs, are both undone; a text in quotes needs the second."""
    for write in (str, json.dumps):
        if write is str and comment[:1] == comment[-1:] == '"':
            continue
        values = read(epochs=write(epochs), learning_rate=write(rate), comment=write(comment))
        assert values.integer("epochs") == epochs
        assert math.isclose(values.number("learning_rate"), rate)
        assert values.text("comment") == comment


def test_values_are_asked_for_by_their_type() -> None:
    values = read()
    with pytest.raises(TypeError, match="hyperparameter optimizer is 'adam', expected int"):
        values.integer("optimizer")
    with pytest.raises(TypeError, match="hyperparameter optimizer is 'adam', not a flag"):
        values.flag("optimizer")
    with pytest.raises(KeyError):
        values.text("comment")


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (
            lambda: HyperParameter("a", "Integer", default=5, required=True),
            "if a default is given it cannot be required",
        ),
        (
            lambda: HyperParameter("a", "Integer", default=0, minimum=1, maximum=2),
            "its default is '0'; it must be from 1",
        ),
        (lambda: HyperParameter("a", "Integer", default="x"), "its default is 'x'; write an integer"),
        (lambda: HyperParameter("a", "Integer", minimum=1), "both a minimum and a maximum"),
        (lambda: HyperParameter("a", "Integer", minimum=2, maximum=1), "its minimum 2 is above its maximum 1"),
        (lambda: HyperParameter("a", "Integer", minimum=0.5, maximum=1), "of an Integer are integers, found 0.5 and 1"),
        (lambda: HyperParameter("a", "Continuous", minimum=0, maximum=math.inf), "minimum and maximum are finite"),
        (
            lambda: HyperParameter("a", "FreeText", minimum=0, maximum=1),
            "are for Integer and Continuous, not for FreeText",
        ),
        (lambda: HyperParameter("a", "Categorical"), "a Categorical has 1 to 30 values, found 0"),
        (lambda: HyperParameter("a", "Categorical", values=("x", "x")), "its values are not all different"),
        (lambda: HyperParameter("a", "Categorical", values=("x" * 257,)), "a value has 0 to 256 characters, found 257"),
        (lambda: HyperParameter("a", "Categorical", default="y", values=("x",)), "its default is 'y'; write x"),
        (lambda: HyperParameter("a", "Integer", values=("x",)), "values are for Categorical, not for Integer"),
        (lambda: HyperParameter("a", "FreeText", tunable=True), "a FreeText cannot be tuned"),
        (lambda: HyperParameter("a", "Float"), "type is 'Float' (expected Integer, Continuous, Categorical, FreeText)"),
        (lambda: HyperParameter("sagemaker_a", "FreeText"), "are SageMaker's own"),
        (lambda: HyperParameter("", "FreeText"), "a name has 1 to 256 characters, found 0"),
        (lambda: HyperParameter("a\x00", "FreeText"), "a name has no control characters"),
        (lambda: HyperParameter("a", "FreeText", default="two\nlines"), "a default is one line, found 'two\\nlines'"),
        (lambda: HyperParameter("a", "FreeText", "x" * 1025), "at most 1024 characters, found 1025"),
    ],
)
def test_declarations_check_themselves(declare: object, sentence: str) -> None:
    assert callable(declare)
    with pytest.raises(DefinitionError) as caught:
        declare()
    assert sentence in str(caught.value)
