"""Algorithms: declarations check themselves, and the channels of a job are held against them; their page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.training.algorithm import (
    Algorithm,
    Channel,
    ChannelInput,
    HyperParameter,
    InputError,
    Metric,
    Objective,
    render_markdown,
)

DETECTOR = Algorithm(
    "detector",
    description="Finds objects.",
    hyperparameters=[
        HyperParameter("epochs", "Integer", "Passes | rounds.", 5, minimum=1, maximum=100, tunable=True),
        HyperParameter("optimizer", "Categorical", "Who steps.", "adam", values=("adam", "sgd")),
        HyperParameter("label", "FreeText", required=True),
    ],
    channels=[
        Channel("training", "Images.", required=True, content_types=("application/x-image", "application/x-recordio")),
        Channel("model", input_modes=("File", "FastFile")),
    ],
    metrics=[Metric("validation:loss", r"Val_loss=([0-9\.]+|nan)")],
    objectives=[Objective("validation:loss", "Minimize")],
    training_instance_types=("ml.m5.xlarge",),
    content_types=("application/x-image",),
    response_types=("application/json", "application/json;verbose"),
)


def offered(name: str = "training", mode: str = "File", content_type: str = "") -> ChannelInput:
    """A channel as a job offers it."""
    return ChannelInput(name, folder=Path("data") / name, mode=mode, content_type=content_type)


@pytest.mark.parametrize(
    ("content_type", "fits"),
    [
        ("", True),
        ("application/x-image", True),
        ("Application/X-Image; q=1", True),
        ("application/x-recordio; label-format=class-id", True),
        ("image/jpeg", False),
    ],
)
def test_content_types_are_compared_as_mime_types_are(content_type: str, fits: bool) -> None:
    """Case and parameters do not count, and a job may say nothing."""
    assert DETECTOR.channels[0].accepts(content_type) is fits
    assert DETECTOR.channels[1].accepts(content_type), "a channel without content types takes everything"


def test_channels_that_fit_are_let_in() -> None:
    """Required ones are there, known ones come as declared."""
    DETECTOR.check([offered(), offered("model", "FastFile", "application/x-model")])


def test_every_problem_of_the_channels_is_reported() -> None:
    """Unknown, missing, and those that come otherwise than declared, in one error."""
    with pytest.raises(InputError) as caught:
        DETECTOR.check([offered("trainng"), offered("model", "Pipe")])
    assert str(caught.value) == (
        "the channels do not fit detector: channel 'trainng' is unknown; did you mean training?; "
        "channel model comes in Pipe mode; give it as File or FastFile; channel training is missing"
    )
    with pytest.raises(InputError, match="content type 'text/csv'; it accepts application/x-image or"):
        DETECTOR.check([offered(content_type="text/csv")])


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda: Algorithm("a_b"), "a name has 1 to 63 letters, digits and hyphens"),
        (lambda: Algorithm("a" * 64), "a name has 1 to 63"),
        (lambda: Algorithm("a", description="x" * 1025), "found 1025"),
        (lambda: Algorithm("a", description="two\nlines"), "a description is one line without control characters"),
        (lambda: Metric("m", "(x)\n"), "a regex is one line, found '(x)\\n'"),
        (lambda: Algorithm("a", hyperparameters=[HyperParameter("x", "FreeText")] * 2), "of the same name: x"),
        (
            lambda: Algorithm("a", hyperparameters=[HyperParameter(f"x{n}", "FreeText") for n in range(101)]),
            "SageMaker allows 100 hyperparameters, found 101",
        ),
        (lambda: Algorithm("a", channels=[Channel(f"c{n}") for n in range(9)]), "allows 8 channels, found 9"),
        (lambda: Algorithm("a", channels=[Channel("c")] * 2), "channels of the same name: c"),
        (lambda: Algorithm("a", metrics=[Metric("m", "(x)")] * 2), "metrics of the same name: m"),
        (lambda: Algorithm("a", metrics=[Metric(f"m{n}", "(x)") for n in range(41)]), "allows 40 metrics, found 41"),
        (
            lambda: Algorithm("a", metrics=[Metric("loss", "(x)")], objectives=[Objective("los", "Minimize")]),
            "objective 'los' is not one of its metrics; did you mean loss?",
        ),
        (lambda: Algorithm("a", content_types=["x" * 257]), "a content type has 0 to 256 characters, found 257"),
        (lambda: Algorithm("a", response_types=["json"]), "response type 'json' is not like application/json"),
        (lambda: Channel("a b"), "a channel's name has 1 to 64"),
        (lambda: Channel("a", input_modes=()), "at least one input mode"),
        (lambda: Channel("a", input_modes=("Stream",)), "input_modes[0] is 'Stream' (expected File, FastFile, Pipe)"),
        (lambda: Channel("a", compression_types=("Zip",)), "compression_types[0] is 'Zip' (expected None, Gzip)"),
        (lambda: Channel("a", content_types=("x" * 257,)), "has 0 to 256 characters"),
        (lambda: Metric("m", "(x"), "does not compile"),
        (lambda: Metric("m", "x"), "has no group; put the number's part in parentheses"),
        (lambda: Metric("", "(x)"), "a metric's name has 1 to 255 characters, found 0"),
        (lambda: Metric("m", "(" + "x" * 500 + ")"), "1 to 500 characters, found 502"),
        (lambda: Objective("m", "Smaller"), "type is 'Smaller' (expected Maximize, Minimize)"),
    ],
)
def test_declarations_check_themselves(declare: object, sentence: str) -> None:
    assert callable(declare)
    with pytest.raises(DefinitionError) as caught:
        declare()
    assert sentence in str(caught.value)


def test_an_algorithm_is_a_value() -> None:
    """Lists become tuples, so that two that say the same are equal and can be keys."""
    again = Algorithm("x", channels=[Channel("c", input_modes=["File"])])  # type: ignore[list-item]
    assert again == Algorithm("x", channels=(Channel("c"),))
    assert hash(again) == hash(Algorithm("x", channels=(Channel("c"),)))


def test_its_page_is_markdown() -> None:
    """Every table has a row each, bars are escaped, and sections without rows are left out."""
    assert render_markdown(DETECTOR) == PAGE
    assert render_markdown(Algorithm("small")) == "# small\n"


PAGE = r"""# detector

Finds objects.

## Hyperparameters

| name | type | default | values | description |
| --- | --- | --- | --- | --- |
| `epochs` | Integer, tunable | `5` | 1 to 100 | Passes \| rounds. |
| `optimizer` | Categorical | `adam` | `adam`, `sgd` | Who steps. |
| `label` | FreeText | required |  |  |

## Channels

| name | needed | content types | modes | compression | description |
| --- | --- | --- | --- | --- | --- |
| `training` | yes | `application/x-image`, `application/x-recordio` | File | None | Images. |
| `model` | no | any | File, FastFile | None |  |

## Metrics

| name | regex | objective |
| --- | --- | --- |
| `validation:loss` | `Val_loss=([0-9\.]+\|nan)` | Minimize |

## Inference

| takes | answers |
| --- | --- |
| `application/x-image` | `application/json`, `application/json;verbose` |

## Instance types

| for | types |
| --- | --- |
| training | `ml.m5.xlarge` |
"""
