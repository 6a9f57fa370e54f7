"""The declaration of an algorithm: its training inputs and metrics, its inference types, and its documentation. No I/O.

The running program checks its job with it, `tritonforge.sagemaker.jobs.marketplace` builds CreateAlgorithm's request
from it, and `render_markdown` the page for its users. The limits are CreateAlgorithm's, so a valid declaration can be
published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal, Protocol, TypeAlias

from tritonforge.errors import DefinitionError, InputError
from tritonforge.field_types import check_fields
from tritonforge.training.algorithm.hyperparameters import (
    HyperParameter,
    HyperParameterValues,
    check_description,
    check_text_line,
    parse_values,
    suggest_name,
)

__all__ = [
    "Algorithm", "Channel", "CompressionType", "InputMode", "JobChannel", "Metric", "Objective", "ObjectiveType",
    "render_markdown",
]  # fmt: skip

#: Source: API_ChannelSpecification.
InputMode: TypeAlias = Literal["File", "FastFile", "Pipe"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
_INPUT_MODES: Final = ("File", "FastFile", "Pipe")

#: Source: API_HyperParameterTuningJobObjective.
ObjectiveType: TypeAlias = Literal["Maximize", "Minimize"]

#: Source: botocore's model of SageMaker: EntityName, ChannelName, ContentType, ResponseMIMEType,
#: MetricName, MetricRegex, HyperParameterSpecifications, ChannelSpecifications, MetricDefinitionList.
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_RESPONSE_TYPE: Final = re.compile(r"[-\w]+/.+", re.ASCII)
_MAX_CONTENT_TYPE: Final = 256
_MAX_RESPONSE_TYPE: Final = 1024
_MAX_METRIC: Final = 255
_MAX_REGEX: Final = 500
_MAX_HYPERPARAMETERS: Final = 100
_MAX_CHANNELS: Final = 8
_MAX_METRICS: Final = 40


@dataclass(frozen=True, slots=True)
class Channel:
    """An input of training: its name, its content types, and its input modes.

    Empty ``content_types`` allow any. Raises DefinitionError for what CreateAlgorithm would reject.
    """

    name: str
    description: str = ""
    required: bool = False
    content_types: Sequence[str] = ()
    compression_types: Sequence[CompressionType] = ()
    input_modes: Sequence[InputMode] = ("File",)

    def __post_init__(self) -> None:
        check_fields(self)
        _raise_problems(f"channel {self.name!r}", self._find_problems())

    def accepts(self, content_type: str) -> bool:
        """Return True if data of this content type are allowed, with or without its parameters (after ``;``)."""
        allowed = {_normalize(allowed_type) for allowed_type in self.content_types}
        if not allowed or not content_type:
            return True
        return _normalize(content_type) in allowed or _normalize(content_type.partition(";")[0]) in allowed

    def _find_problems(self) -> Iterator[str]:
        if not _CHANNEL_NAME.fullmatch(self.name):
            yield "a channel's name has 1 to 64 of the characters A-Z a-z 0-9 . - _"
        yield from check_description(self.description)
        for content_type in self.content_types:
            yield from check_text_line("a content type", content_type, most=_MAX_CONTENT_TYPE)
        if not self.input_modes:
            yield f"a channel has at least one input mode of {', '.join(_INPUT_MODES)}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that training writes to its log: the first group of the regex. Raises DefinitionError."""

    name: str
    regex: str

    def __post_init__(self) -> None:
        check_fields(self)
        _raise_problems(f"metric {self.name!r}", self._find_problems())

    def _find_problems(self) -> Iterator[str]:
        yield from check_text_line("a metric's name", self.name, least=1, most=_MAX_METRIC)
        yield from check_text_line("a regex", self.regex, least=1, most=_MAX_REGEX)
        try:
            groups = re.compile(self.regex).groups
        except (re.error, RecursionError, OverflowError) as error:
            yield f"its regex {self.regex!r} does not compile: {error}"
        else:
            # Source: SageMaker developer guide, "Define Metrics": the group in parentheses is the value.
            if not groups:
                yield f"its regex {self.regex!r} has no group; put the number's part in parentheses"


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric that a tuning job may maximize or minimize. Raises DefinitionError."""

    metric: str
    type: ObjectiveType

    def __post_init__(self) -> None:
        check_fields(self)


class JobChannel(Protocol):
    """A channel of a job: its name, its input mode, and its content type ("" if the job sets none)."""

    @property
    def name(self) -> str:
        """The channel's name."""

    @property
    def mode(self) -> str:
        """File, FastFile or Pipe."""

    @property
    def content_type(self) -> str:
        """The MIME type."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm as its users, its programs and SageMaker see it.

    ``content_types`` and ``response_types`` are those of inference; ``objectives`` are metrics for tuning jobs;
    ``distributed`` means that training can run on several machines.

    Raises:
        DefinitionError: with everything that CreateAlgorithm would reject.
    """

    name: str
    _: KW_ONLY
    description: str = ""
    hyperparameters: Sequence[HyperParameter] = ()
    channels: Sequence[Channel] = ()
    metrics: Sequence[Metric] = ()
    objectives: Sequence[Objective] = ()
    training_instance_types: Sequence[str] = ()
    transform_instance_types: Sequence[str] = ()
    realtime_instance_types: Sequence[str] = ()
    content_types: Sequence[str] = ()
    response_types: Sequence[str] = ()
    distributed: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        _raise_problems(f"algorithm {self.name!r}", self._find_problems())

    def read(self, given: Mapping[str, str]) -> HyperParameterValues:
        """Parse the hyperparameters of a run from SageMaker's strings, with defaults.

        Raises:
            HyperparameterError: with every problem: unknown names, missing ones, invalid values.
        """
        return parse_values(self.hyperparameters, given)

    def check(self, offered: Iterable[JobChannel]) -> None:
        """Check the channels of a job against the declared ones.

        Raises:
            InputError: with every problem: unknown or missing channels, modes and content types that are not allowed.
        """
        if problems := list(self._find_channel_problems(list(offered))):
            raise InputError(f"the channels do not fit {self.name}: {'; '.join(problems)}")

    def _find_channel_problems(self, offered: Sequence[JobChannel]) -> Iterator[str]:
        by_name = {channel.name: channel for channel in self.channels}
        for given in offered:
            channel = by_name.get(given.name)
            if channel is None:
                yield f"channel {given.name!r} is unknown{suggest_name(given.name, by_name)}"
                continue
            if given.mode not in channel.input_modes:
                yield f"channel {given.name} comes in {given.mode} mode; give it as {' or '.join(channel.input_modes)}"
            if not channel.accepts(given.content_type):
                kinds = " or ".join(channel.content_types)
                yield f"channel {given.name} has content type {given.content_type!r}; it accepts {kinds}"
        here = {given.name for given in offered}
        for channel in self.channels:
            if channel.required and channel.name not in here:
                yield f"channel {channel.name} is missing"

    def _find_problems(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield "a name has 1 to 63 letters, digits and hyphens, and neither begins nor ends with a hyphen"
        yield from check_description(self.description)
        yield from _check_names(
            "hyperparameters", [parameter.name for parameter in self.hyperparameters], _MAX_HYPERPARAMETERS
        )
        yield from _check_names("channels", [channel.name for channel in self.channels], _MAX_CHANNELS)
        yield from _check_names("metrics", [metric.name for metric in self.metrics], _MAX_METRICS)
        yield from _check_names(
            "objectives", [f"{objective.metric} {objective.type}" for objective in self.objectives], None
        )
        metrics = {metric.name for metric in self.metrics}
        for objective in self.objectives:
            if objective.metric not in metrics:
                hint = suggest_name(objective.metric, metrics)
                yield f"objective {objective.metric!r} is not one of its metrics{hint}"
        for kind in self.content_types:
            yield from check_text_line("a content type", kind, most=_MAX_CONTENT_TYPE)
        for kind in self.response_types:
            if len(kind) > _MAX_RESPONSE_TYPE or not _RESPONSE_TYPE.fullmatch(kind):
                yield f"response type {kind!r} is not like application/json"


def _raise_problems(where: str, sentences: Iterable[str]) -> None:
    if problems := list(sentences):
        raise DefinitionError(f"{where}: {'; '.join(problems)}")


def _check_names(what: str, names: Sequence[str], most: int | None) -> Iterator[str]:
    if most is not None and len(names) > most:
        yield f"SageMaker allows {most} {what}, found {len(names)}"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"{what} of the same name: {', '.join(twice)}"


def _normalize(content_type: str) -> str:
    return "".join(content_type.split()).lower()


def render_markdown(algorithm: Algorithm) -> str:
    """Return the documentation of an algorithm as Markdown, without empty sections; it ends with one newline."""
    return "\n\n".join(_render_sections(algorithm)) + "\n"


def _render_sections(algorithm: Algorithm) -> Iterator[str]:
    yield f"# {algorithm.name}"
    if algorithm.description:
        yield _escape(algorithm.description)
    yield from _render_table(
        "Hyperparameters",
        ("name", "type", "default", "values", "description"),
        map(_hyperparameter_row, algorithm.hyperparameters),
    )
    yield from _render_table(
        "Channels",
        ("name", "needed", "content types", "modes", "compression", "description"),
        map(_channel_row, algorithm.channels),
    )
    objectives = {objective.metric: objective.type for objective in algorithm.objectives}
    yield from _render_table(
        "Metrics",
        ("name", "regex", "objective"),
        [
            (_format_code(metric.name), _format_code(metric.regex), objectives.get(metric.name, ""))
            for metric in algorithm.metrics
        ],
    )
    yield from _render_table(
        "Inference",
        ("takes", "answers"),
        [(_format_codes(algorithm.content_types), _format_codes(algorithm.response_types))]
        if algorithm.content_types or algorithm.response_types
        else [],
    )
    machines = (
        ("training", algorithm.training_instance_types),
        ("batch transform", algorithm.transform_instance_types),
        ("endpoints", algorithm.realtime_instance_types),
    )
    yield from _render_table(
        "Instance types", ("for", "types"), [(use, _format_codes(types)) for use, types in machines if types]
    )


def _hyperparameter_row(parameter: HyperParameter) -> tuple[str, ...]:
    if parameter.type == "Categorical":
        values = _format_codes(parameter.values)
    elif parameter.minimum is not None:
        values = f"{parameter.minimum} to {parameter.maximum}"
    else:
        values = ""
    default = (
        "required" if parameter.required else "" if parameter.default is None else _format_code(str(parameter.default))
    )
    kind = f"{parameter.type}, tunable" if parameter.tunable else parameter.type
    return (_format_code(parameter.name), kind, default, values, _escape(parameter.description))


def _channel_row(channel: Channel) -> tuple[str, ...]:
    return (
        _format_code(channel.name),
        "yes" if channel.required else "no",
        _format_codes(channel.content_types) or "any",
        ", ".join(channel.input_modes),
        ", ".join(channel.compression_types) or "None",
        _escape(channel.description),
    )


def _render_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if lines:
        yield "\n".join((f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines))


def _format_codes(texts: Iterable[str]) -> str:
    return ", ".join(map(_format_code, texts))


def _format_code(text: str) -> str:
    """Format a text as code in a cell, with escaped bars, and with two backticks if it contains one."""
    line = " ".join(text.split()).replace("|", "\\|")
    if "`" in line:
        return f"`` {line} ``"
    return f"`{line}`" if line else '`""`'


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
