"""Options that several commands share, the types of their values, and what refuses options that do not apply."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from tritonforge.cli.command import Option

if TYPE_CHECKING:
    from tritonforge.training.sandbox import Limits

__all__ = [
    "DIRECTORY",
    "EXISTING_DIRECTORY",
    "EXISTING_FILE",
    "EXISTING_PATH",
    "FILE",
    "LOCAL",
    "MEMORY_SIZE",
    "NAME_VALUE",
    "NEW_PATH",
    "OUTPUT",
    "PORT",
    "SAGEMAKER",
    "AwsOptions",
    "LimitOptions",
    "add_options",
    "declare_name_value_option",
    "declare_option",
    "format_option",
    "json_option",
    "list_given_options",
    "name_value_option",
    "option",
    "reject_options",
    "reject_unused_aws_options",
    "split_attributes",
    "yes_option",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Headings under which the help lists options.
OUTPUT: Final = "Output options"
SAGEMAKER: Final = "SageMaker options"
LOCAL: Final = "Options for this machine"


class _NewPath(click.Path):
    """A path to write, whose directory exists."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)  # the type's path_type
        if not path.parent.is_dir():
            self.fail(f"Directory {str(path.parent)!r} does not exist.", param, ctx)
        return path


#: Paths to write; the directory of a file must exist.
DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
FILE: Final = _NewPath(path_type=Path, dir_okay=False)
NEW_PATH: Final = _NewPath(path_type=Path)
#: Paths to read.
EXISTING_DIRECTORY: Final = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
EXISTING_PATH: Final = click.Path(path_type=Path, exists=True)


class _NameValue(click.ParamType):  # type: ignore[type-arg]  # click before 8.4 cannot subscript it
    """``NAME=VALUE``; the name is not empty. VALUE may be empty and may contain ``=``."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not name or not separator:
            self.fail(f"expected {param.metavar if param is not None and param.metavar else self.name}, got {value!r}")
        return name, text


class _Port(click.ParamType):  # type: ignore[type-arg]
    """A port, 0 for any free one, or ``off``, which gives None."""

    name = "PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "off":
            return None
        text = str(value)
        if not text.isdecimal() or int(text) > 65535:
            self.fail(f"expected a port from 0 to 65535 or off, got {value!r}")
        return int(text)


class _MemorySize(click.ParamType):  # type: ignore[type-arg]
    """A size as docker run accepts it: 512m, 8g, 1048576."""

    name = "SIZE"

    _PATTERN: Final = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
    _UNITS: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
    #: The minimum of docker run; less does not hold a Python.
    _MINIMUM: Final = 6 * 2**20

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = self._PATTERN.fullmatch(str(value))
        if match is None:
            self.fail(f"expected a size, a number with b, k, m or g such as 512m, got {value!r}")
        size = int(match[1]) * self._UNITS[match[2].lower()]
        if size < self._MINIMUM:
            self.fail(f"{value} is less than the minimum of 6m")
        return size


NAME_VALUE: Final = _NameValue()
PORT: Final = _Port()
MEMORY_SIZE: Final = _MemorySize()


def option(*declarations: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """Add an option to a command, as `click.option` does; ``group`` is the heading in the help."""
    return click.option(*declarations, cls=Option, **attributes)


def name_value_option(*declarations: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """Add an option of the form NAME=VALUE that may be repeated; the command gets a dictionary.

    The last value of a name counts.
    """
    return option(*declarations, **_name_value_attributes(attributes))


def _name_value_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    shared = {
        "multiple": True,
        "type": NAME_VALUE,
        "metavar": "NAME=VALUE",
        "callback": lambda _, __, pairs: dict(pairs),
    }
    return {**shared, **attributes}


def declare_option(*declarations: str, **attributes: Any) -> Any:
    """Declare a field of a class that `add_options` takes as an option, with the arguments of `option`."""
    default = () if attributes.get("multiple") else False if attributes.get("is_flag") else None
    return field(default=attributes.get("default", default), metadata={"option": (declarations, attributes)})


def declare_name_value_option(*declarations: str, **attributes: Any) -> Any:
    """Declare a field as an option of the form NAME=VALUE that may be repeated; its value is a dictionary."""
    return field(default_factory=dict, metadata={"option": (declarations, _name_value_attributes(attributes))})


def add_options(options: type[Any], name: str) -> Callable[[_Function], _Function]:
    """Add the options of a dataclass, whose fields are declared with `declare_option`; the command gets an instance.

    Args:
        options: the dataclass.
        name: the command's parameter for the instance.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*arguments: Any, **values: Any) -> Any:
            values[name] = options(**{item.name: values.pop(item.name) for item in fields(options)})
            return function(*arguments, **values)

        decorated: Any = call
        for item in reversed(fields(options)):
            declarations, attributes = item.metadata["option"]
            decorated = option(*declarations, item.name, **attributes)(decorated)
        result: _Function = decorated
        return result

    return decorate


def json_option(function: _Function) -> _Function:
    """Add --format text|json and its short form --json; the command gets ``as_json``, a bool."""

    def is_json(ctx: click.Context, parameter: click.Parameter, value: str) -> bool:
        return _choose_format(ctx, parameter, value) == "json"

    return _add_format(function, "as_json", ["text", "json"], is_json)


def format_option(*formats: str) -> Callable[[_Function], _Function]:
    """Add --format with the given formats and the short form --json; the command gets ``output_format``."""
    return lambda function: _add_format(function, "output_format", formats, _choose_format)


def _add_format(function: _Function, name: str, formats: Sequence[str], callback: Callable[..., Any]) -> _Function:
    function = option("--json", "json_flag", is_flag=True, is_eager=True, expose_value=False, callback=_remember_json,
                      group=OUTPUT, help="Short for --format json.")(function)  # fmt: skip
    return option("--format", name, type=click.Choice(formats), default="text", show_default=True, callback=callback,
                  group=OUTPUT, help="The format of the result on standard output.")(function)  # fmt: skip


def _remember_json(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    ctx.meta["tritonforge.json"] = is_given


def _choose_format(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not ctx.meta.get("tritonforge.json"):
        return value
    source = ctx.get_parameter_source(parameter.name or "")
    if source is ParameterSource.COMMANDLINE and value != "json":
        raise click.UsageError(f"--json is short for --format json and excludes --format {value}", ctx)
    return "json"


def yes_option(function: _Function) -> _Function:
    """Add -y, --yes; the command gets ``yes``."""
    return option("-y", "--yes", is_flag=True, help="Apply the plan without asking.")(function)


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """Which AWS is called; boto3 finds what is None in its own configuration."""

    region: str | None = declare_option(
        "--region", metavar="NAME", group=SAGEMAKER, help="The AWS region. Default: the configured one."
    )
    profile: str | None = declare_option(
        "--profile", metavar="NAME", group=SAGEMAKER, help="The profile in ~/.aws/config."
    )
    endpoint_url: str | None = declare_option(
        "--endpoint-url", metavar="URL", group=SAGEMAKER, help="Override the AWS endpoint URL."
    )

    @property
    def session_arguments(self) -> dict[str, Any]:
        """The arguments of `tritonforge.sagemaker.client.Session`."""
        return {"region_name": self.region, "profile_name": self.profile, "endpoint_url": self.endpoint_url}


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """Limits of a program's memory, CPU and processes, named as docker run names them."""

    memory: int | None = declare_option(
        "--memory", type=MEMORY_SIZE, metavar="SIZE", group=LOCAL,
        help="Limit the program's memory, such as 512m or 8g. Default: no limit.",
    )  # fmt: skip
    cpus: float | None = declare_option(
        "--cpus", type=click.FloatRange(0, min_open=True), metavar="N", group=LOCAL,
        help="Limit its CPU time to this number of CPUs, such as 1.5.",
    )  # fmt: skip
    pids_limit: int | None = declare_option(
        "--pids-limit", type=click.IntRange(1), metavar="N", group=LOCAL, help="Limit its processes and threads."
    )

    def to_limits(self) -> Limits:
        """Return the limits for a sandbox."""
        from tritonforge.training.sandbox import Limits

        return Limits(memory=self.memory, cpus=self.cpus, pids=self.pids_limit)


def split_attributes(text: str) -> tuple[str, tuple[str, ...]]:
    """Split ``DATA[:ATTRIBUTE,...]`` into the address of data and attributes of an augmented manifest.

    The attributes follow the last colon; a colon with a slash after it is part of the address.

    >>> split_attributes("s3://b/train.manifest:source-ref,label")
    ('s3://b/train.manifest', ('source-ref', 'label'))
    >>> split_attributes("s3://b/train/")
    ('s3://b/train/', ())
    """
    address, colon, names = text.rpartition(":")
    if not colon or "/" in names:
        return text, ()
    return address, tuple(filter(None, names.split(",")))


def reject_unused_aws_options(*uris: str | None) -> None:
    """Refuse the options of `AwsOptions` for a command that uses no S3. Raises click.UsageError."""
    if not any(uri is not None and uri.startswith("s3://") for uri in uris):
        names = [item.name for item in fields(AwsOptions)]
        reject_options("applies to s3:// addresses and to --on sagemaker only", names=names)


def list_given_options(*, group: str = "", names: Collection[str] = ()) -> list[str]:
    """Return the options of the running command that the user has given, as the user writes them.

    Args:
        group: only options under this heading.
        names: only these parameters.
    """
    ctx = click.get_current_context()
    return [
        max(parameter.opts, key=len)
        for parameter in ctx.command.params
        if isinstance(parameter, Option)
        and (parameter.group == group or parameter.name in names)
        and parameter.name is not None
        and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]


def reject_options(reason: str, *, group: str = "", names: Collection[str] = ()) -> None:
    """Refuse the options of a group or of some names, which do not apply.

    Args:
        reason: when they apply, such as "applies to sagemaker:// URLs only".
        group: options under this heading.
        names: these parameters.

    Raises:
        click.UsageError: the user has given one of them.
    """
    if given := list_given_options(group=group, names=names):
        raise click.UsageError(f"{given[0]} {reason}")
