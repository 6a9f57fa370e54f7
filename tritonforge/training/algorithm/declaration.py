"""An algorithm, declared once: what its training takes, what it tells, and what its inference answers. No I/O.

The running program checks its job with it, `tritonforge.sagemaker.jobs.marketplace` makes CreateAlgorithm's request of
it, and `documentation` the table for its users. Every limit here is CreateAlgorithm's, so that a valid declaration can
be published.

An algorithm's page as Markdown: tables of what training takes and tells, and what inference answers. No I/O.
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
    Values,
    check_description,
    check_text_line,
    parse_values,
    suggest_name,
)

__all__ = [
    "Algorithm",
    "Channel",
    "CompressionType",
    "InputMode",
    "JobChannel",
    "Metric",
    "Objective",
    "ObjectiveType",
    "render_markdown",
]

#: Source: API_ChannelSpecification.
InputMode: TypeAlias = Literal["File", "FastFile", "Pipe"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
_MODES: Final = ("File", "FastFile", "Pipe")

#: Source: API_HyperParameterTuningJobObjective.
ObjectiveType: TypeAlias = Literal["Maximize", "Minimize"]

#: Source: botocore's model of SageMaker: EntityName, ChannelName, ContentType, ResponseMIMEType,
#: MetricName, MetricRegex, HyperParameterSpecifications, ChannelSpecifications, MetricDefinitionList.
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_RESPONSE_TYPE: Final = re.compile(r"[-\w]+/.+", re.ASCII)
_LONGEST_CONTENT_TYPE: Final = 256
_LONGEST_RESPONSE_TYPE: Final = 1024
_LONGEST_METRIC: Final = 255
_LONGEST_REGEX: Final = 500
_MOST_HYPERPARAMETERS: Final = 100
_MOST_CHANNELS: Final = 8
_MOST_METRICS: Final = 40


@dataclass(frozen=True, slots=True)
class Channel:
    """An input of training: its name, what it may hold, and how it may come.

    ``content_types`` that are empty let everything in. Raises DefinitionError for what CreateAlgorithm would refuse.
    """

    name: str
    description: str = ""
    required: bool = False
    content_types: Sequence[str] = ()
    compression_types: Sequence[CompressionType] = ()
    input_modes: Sequence[InputMode] = ("File",)

    def __post_init__(self) -> None:
        check_fields(self)
        _raise(f"channel {self.name!r}", self._problems())

    def takes(self, content_type: str) -> bool:
        """Whether data of this content type may come: it, or what stands before its ``;``, is among those declared."""
        known = {_normal(each) for each in self.content_types}
        return not known or not content_type or bool({_normal(content_type), _normal(content_type, bare=True)} & known)

    def _problems(self) -> Iterator[str]:
        if not _CHANNEL_NAME.fullmatch(self.name):
            yield "a channel's name has 1 to 64 of the characters A-Z a-z 0-9 . - _"
        yield from check_description(self.description)
        for each in self.content_types:
            yield from check_text_line("a content type", each, most=_LONGEST_CONTENT_TYPE)
        if not self.input_modes:
            yield f"a channel has at least one input mode of {', '.join(_MODES)}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that training writes to its log: the regex's first group is the number. Raises DefinitionError."""

    name: str
    regex: str

    def __post_init__(self) -> None:
        check_fields(self)
        _raise(f"metric {self.name!r}", self._problems())

    def _problems(self) -> Iterator[str]:
        yield from check_text_line("a metric's name", self.name, least=1, most=_LONGEST_METRIC)
        yield from check_text_line("a regex", self.regex, least=1, most=_LONGEST_REGEX)
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
    """A metric that a tuning job may make as large or as small as it can. Raises DefinitionError."""

    metric: str
    type: ObjectiveType

    def __post_init__(self) -> None:
        check_fields(self)


class JobChannel(Protocol):
    """A channel as a job offers it: its name, how it comes, and its content type ("" where the job states none)."""

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
    """What an algorithm is to its users, its running programs and SageMaker.

    ``content_types`` and ``response_types`` are what inference takes and gives; ``objectives`` are metrics that a
    tuning job may aim at; ``distributed`` says that training can run on several machines.

    Raises:
        DefinitionError: with everything that CreateAlgorithm would refuse.
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
        _raise(f"algorithm {self.name!r}", self._problems())

    def read(self, given: Mapping[str, str]) -> Values:
        """The hyperparameters of a run from SageMaker's strings, typed, with defaults.

        Raises:
            HyperparameterError: with every problem: unknown names, missing ones, wrong values.
        """
        return parse_values(self.hyperparameters, given)

    def check(self, offered: Iterable[JobChannel]) -> None:
        """Hold the channels of a job against the declared ones.

        Raises:
            InputError: with every problem: unknown or missing channels, modes and content types that do not fit.
        """
        if problems := list(self._channel_problems(list(offered))):
            raise InputError(f"the channels do not fit {self.name}: {'; '.join(problems)}")

    def _channel_problems(self, offered: Sequence[JobChannel]) -> Iterator[str]:
        by_name = {each.name: each for each in self.channels}
        for each in offered:
            channel = by_name.get(each.name)
            if channel is None:
                yield f"channel {each.name!r} is unknown{suggest_name(each.name, by_name)}"
                continue
            if each.mode not in channel.input_modes:
                yield f"channel {each.name} comes in {each.mode} mode; give it as {' or '.join(channel.input_modes)}"
            if not channel.takes(each.content_type):
                kinds = " or ".join(channel.content_types)
                yield f"channel {each.name} has content type {each.content_type!r}; it takes {kinds}"
        here = {each.name for each in offered}
        for channel in self.channels:
            if channel.required and channel.name not in here:
                yield f"channel {channel.name} is missing"

    def _problems(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield "a name has 1 to 63 letters, digits and hyphens, and begins and ends with no hyphen"
        yield from check_description(self.description)
        yield from _counted("hyperparameters", [each.name for each in self.hyperparameters], _MOST_HYPERPARAMETERS)
        yield from _counted("channels", [each.name for each in self.channels], _MOST_CHANNELS)
        yield from _counted("metrics", [each.name for each in self.metrics], _MOST_METRICS)
        yield from _counted("objectives", [f"{each.metric} {each.type}" for each in self.objectives], None)
        metrics = {each.name for each in self.metrics}
        for objective in self.objectives:
            if objective.metric not in metrics:
                yield f"objective {objective.metric!r} is no metric of it{suggest_name(objective.metric, metrics)}"
        for kind in self.content_types:
            yield from check_text_line("a content type", kind, most=_LONGEST_CONTENT_TYPE)
        for kind in self.response_types:
            if len(kind) > _LONGEST_RESPONSE_TYPE or not _RESPONSE_TYPE.fullmatch(kind):
                yield f"response type {kind!r} is not like application/json"


def _raise(where: str, found: Iterable[str]) -> None:
    if problems := list(found):
        raise DefinitionError(f"{where}: {'; '.join(problems)}")


def _counted(what: str, names: Sequence[str], most: int | None) -> Iterator[str]:
    if most is not None and len(names) > most:
        yield f"SageMaker allows {most} {what}, found {len(names)}"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"{what} of the same name: {', '.join(twice)}"


def _normal(content_type: str, *, bare: bool = False) -> str:
    text = content_type.partition(";")[0] if bare else content_type
    return "".join(text.split()).lower()


def render_markdown(algorithm: Algorithm) -> str:
    """The page of an algorithm; a section without rows is left out. It ends with one newline."""
    return "\n\n".join(_sections(algorithm)) + "\n"


def _sections(algorithm: Algorithm) -> Iterator[str]:
    yield f"# {algorithm.name}"
    if algorithm.description:
        yield _line(algorithm.description)
    yield from _table(
        "Hyperparameters",
        ("name", "type", "default", "values", "description"),
        (_hyperparameter(each) for each in algorithm.hyperparameters),
    )
    yield from _table(
        "Channels",
        ("name", "needed", "content types", "modes", "compression", "description"),
        (_channel(each) for each in algorithm.channels),
    )
    aims = {each.metric: each.type for each in algorithm.objectives}
    yield from _table(
        "Metrics",
        ("name", "regex", "objective"),
        ((_code(each.name), _code(each.regex), aims.get(each.name, "")) for each in algorithm.metrics),
    )
    yield from _table(
        "Inference",
        ("takes", "answers"),
        [(_codes(algorithm.content_types), _codes(algorithm.response_types))]
        if algorithm.content_types or algorithm.response_types
        else [],
    )
    machines = (
        ("training", algorithm.training_instance_types),
        ("batch transform", algorithm.transform_instance_types),
        ("endpoints", algorithm.realtime_instance_types),
    )
    yield from _table("Instance types", ("for", "types"), [(use, _codes(types)) for use, types in machines if types])


def _hyperparameter(each: HyperParameter) -> tuple[str, ...]:
    if each.type == "Categorical":
        values = _codes(each.values)
    elif each.minimum is not None:
        values = f"{each.minimum} to {each.maximum}"
    else:
        values = ""
    default = "required" if each.required else "" if each.default is None else _code(str(each.default))
    kind = f"{each.type}, tunable" if each.tunable else each.type
    return (_code(each.name), kind, default, values, _line(each.description))


def _channel(each: Channel) -> tuple[str, ...]:
    return (
        _code(each.name),
        "yes" if each.required else "no",
        _codes(each.content_types) or "any",
        ", ".join(each.input_modes),
        ", ".join(each.compression_types) or "None",
        _line(each.description),
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if lines:
        yield "\n".join((f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines))


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(_code(each) for each in texts)


def _code(text: str) -> str:
    """A text as code in a cell. A bar ends a cell even inside of code, so that it is escaped; a backtick wants more."""
    line = " ".join(text.split()).replace("|", "\\|")
    if "`" in line:
        return f"`` {line} ``"
    return f"`{line}`" if line else '`""`'


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
