"""Hyperparameters: declared once, and parsed from the strings that SageMaker passes. No I/O.

As in SageMaker's API, a hyperparameter is Integer, Continuous, Categorical or FreeText, and its value is a string of at
most 2500 characters. The SageMaker SDKs send some of them as JSON, so that ``adam`` has quotes around it; both forms
are accepted. A flag is Categorical with the values True and False.

Sources of limits: botocore's model of SageMaker: EntityDescription and ParameterName are letters, marks, separators,
symbols, numbers and punctuation (no control characters); the patterns ``.*`` of the others are Java's, whose dot does
not match the end of a line (java.util.regex.Pattern, "Line terminators").
"""

from __future__ import annotations

import difflib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from tritonforge.errors import DefinitionError, HyperparameterError
from tritonforge.field_types import check_fields

__all__ = [
    "FLAG",
    "LONGEST_DESCRIPTION",
    "HyperParameter",
    "HyperParameterValues",
    "ParameterType",
    "Value",
    "check_description",
    "check_text_line",
    "parse_values",
    "suggest_name",
]  # fmt: skip

#: Source: botocore's model of SageMaker, EntityDescription.
LONGEST_DESCRIPTION: Final = 1024

_LINE_ENDS: Final = "\n\r\u0085\u2028\u2029"


def check_description(description: str) -> Iterator[str]:
    """Yield what is wrong with a description."""
    if len(description) > LONGEST_DESCRIPTION:
        yield f"a description has at most {LONGEST_DESCRIPTION} characters, found {len(description)}"
    if any(unicodedata.category(character).startswith("C") for character in description):
        yield "a description is one line without control characters"


def check_text_line(what: str, text: str, *, most: int, least: int = 0) -> Iterator[str]:
    """Yield what is wrong with a text of one line; ``what`` begins the sentence."""
    if not least <= len(text) <= most:
        yield f"{what} has {least} to {most} characters, found {len(text)}"
    if any(end in text for end in _LINE_ENDS):
        yield f"{what} is one line, found {text[:60]!r}"


#: Source: API_HyperParameterSpecification, `Type`.
ParameterType: TypeAlias = Literal["Integer", "Continuous", "Categorical", "FreeText"]

#: An Integer is an int, a Continuous a float, the others are str.
Value: TypeAlias = int | float | str

#: The values of a flag. Source: JumpStart's built-in algorithms (`train_only_on_top_layer` and others).
FLAG: Final = ("True", "False")

#: Source: botocore's model of SageMaker: HyperParameterValue, ParameterName, ParameterValue, ParameterValues.
_MAX_VALUE: Final = 2500
_MAX_NAME: Final = 256
_MAX_CHOICE: Final = 256
_MAX_CHOICES: Final = 30

#: What SageMaker and its SDKs add to an algorithm's own. Source: sagemaker-training-toolkit, params.py; the SDK's
#: tuner, which takes ``_tuning_objective_metric`` out again.
_RESERVED: Final = ("sagemaker_", "_tuning_objective_metric")

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_CONTINUOUS: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

#: Characters of an invalid value that a message quotes.
_MAX_QUOTED: Final = 60


@dataclass(frozen=True, slots=True)
class HyperParameter:
    """One hyperparameter: its name, its type, and its allowed values.

    Attributes:
        minimum, maximum: for Integer and Continuous; both or neither, both inclusive.
        values: for Categorical.
        default: for a job that does not set it, stored as the string of SageMaker's API; not if it is ``required``. A
            hyperparameter without value and default is left out of the `HyperParameterValues`.

    Raises:
        DefinitionError: the declaration contradicts itself, or exceeds a limit of CreateAlgorithm.
    """

    name: str
    type: ParameterType
    description: str = ""
    default: Value | bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: Sequence[str] = ()
    tunable: bool = False
    required: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "default", None if self.default is None else str(self.default))
        if problems := list(self._find_problems()) or list(self._find_default_problems()):
            raise DefinitionError(f"hyperparameter {self.name!r}: {'; '.join(problems)}")

    @classmethod
    def flag(
        cls, name: str, description: str = "", *, default: bool | None = None, required: bool = False
    ) -> HyperParameter:
        """Declare a Categorical whose values are True and False."""
        return cls(name, "Categorical", description, default=default, values=FLAG, required=required)

    def read(self, given: str) -> Value:
        """Parse the value of a string.

        Raises:
            ValueError: with the expected value, as the end of a sentence.
        """
        if len(given) > _MAX_VALUE:
            raise ValueError(f"has {len(given)} characters; SageMaker allows {_MAX_VALUE}")
        text = _unquote(given)
        if self.type == "Integer":
            return self._parse_integer(text)
        if self.type == "Continuous":
            return self._parse_continuous(text)
        if self.type == "Categorical":
            return self._parse_categorical(text)
        return text

    def _parse_integer(self, text: str) -> int:
        if not _INTEGER.fullmatch(text.strip()):
            raise ValueError(f"is {_quote(text)}; write an integer{self._describe_range()}")
        return cast("int", self._check_range(int(text), text))

    def _parse_continuous(self, text: str) -> float:
        if not _CONTINUOUS.fullmatch(text.strip()) or not math.isfinite(float(text)):
            raise ValueError(f"is {_quote(text)}; write a number{self._describe_range()}")
        return self._check_range(float(text), text)

    def _check_range(self, value: float, text: str) -> float:
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise ValueError(f"is {_quote(text)}; it must be{self._describe_range()}")
        return value

    def _parse_categorical(self, text: str) -> str:
        # The SDKs write a bool as JSON does, JumpStart as Python does.
        word = text.capitalize() if set(self.values) == set(FLAG) else text
        if word not in self.values:
            raise ValueError(
                f"is {_quote(text)}; write {_join_choices(self.values)}{_suggest_similar(word, self.values)}"
            )
        return word

    def _describe_range(self) -> str:
        return "" if self.minimum is None else f" from {self.minimum} to {self.maximum}"

    def _find_problems(self) -> Iterator[str]:
        yield from check_text_line("a name", self.name, least=1, most=_MAX_NAME)
        if any(unicodedata.category(character).startswith("C") for character in self.name):
            yield "a name has no control characters"
        if self.name.startswith(_RESERVED):
            yield f"names that begin with {' or '.join(_RESERVED)} are SageMaker's own"
        yield from check_description(self.description)
        yield from check_text_line("a default", str(self.default or ""), most=_MAX_VALUE)
        yield from self._find_range_problems()
        yield from self._find_choice_problems()
        if self.tunable and self.type == "FreeText":
            yield "a FreeText cannot be tuned"  # Source: API_ParameterRanges: Integer, Continuous and Categorical.
        if self.default is not None and self.required:
            # Source: API_HyperParameterSpecification, `DefaultValue`.
            yield "if a default is given it cannot be required"

    def _find_range_problems(self) -> Iterator[str]:
        bounds = (self.minimum, self.maximum)
        if bounds == (None, None):
            return
        if self.type not in ("Integer", "Continuous"):
            yield f"minimum and maximum are for Integer and Continuous, not for {self.type}"
        elif self.minimum is None or self.maximum is None:
            # Source: API_IntegerParameterRangeSpecification and API_ContinuousParameterRangeSpecification.
            yield "SageMaker's ranges have both a minimum and a maximum"
        elif not (math.isfinite(self.minimum) and math.isfinite(self.maximum)):
            yield "minimum and maximum are finite"
        elif self.type == "Integer" and not (isinstance(self.minimum, int) and isinstance(self.maximum, int)):
            yield f"minimum and maximum of an Integer are integers, found {self.minimum} and {self.maximum}"
        elif self.minimum > self.maximum:
            yield f"its minimum {self.minimum} is above its maximum {self.maximum}"

    def _find_choice_problems(self) -> Iterator[str]:
        if self.type != "Categorical":
            if self.values:
                yield f"values are for Categorical, not for {self.type}"
        elif not 1 <= len(self.values) <= _MAX_CHOICES:
            yield f"a Categorical has 1 to {_MAX_CHOICES} values, found {len(self.values)}"
        elif len(set(self.values)) < len(self.values):
            yield "its values are not all different"
        else:
            for value in self.values:
                yield from check_text_line("a value", value, most=_MAX_CHOICE)

    def _find_default_problems(self) -> Iterator[str]:
        if self.default is not None:
            try:
                self.read(str(self.default))
            except ValueError as error:
                yield f"its default {error}"


class HyperParameterValues(Mapping[str, Value]):
    """The hyperparameters of one run by name, each of its type, with defaults.

    ``given`` has the names that the job set itself. A hyperparameter without a value is not in the mapping.
    """

    __slots__ = ("_values", "given")

    def __init__(self, values: Mapping[str, Value], *, given: Iterable[str] = ()) -> None:
        self._values = dict(values)
        self.given = frozenset(given)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"HyperParameterValues({self._values!r})"

    def integer(self, name: str) -> int:
        """Return the value of an Integer. Raises KeyError without a value, TypeError for another type."""
        return cast("int", self._get_typed(name, int))

    def number(self, name: str) -> float:
        """Return the value of a Continuous. Raises KeyError without a value, TypeError for another type."""
        return cast("float", self._get_typed(name, float))

    def text(self, name: str) -> str:
        """Return the value of a Categorical or FreeText. Raises KeyError or TypeError as `integer` does."""
        return cast("str", self._get_typed(name, str))

    def flag(self, name: str) -> bool:
        """Return True if a flag is "True". Raises KeyError without a value, TypeError for another type."""
        word = self.text(name)
        if word not in FLAG:
            raise TypeError(f"hyperparameter {name} is {word!r}, not a flag")
        return word == "True"

    def _get_typed(self, name: str, kind: type[Any]) -> Any:
        value = self._values[name]
        if not isinstance(value, kind):
            raise TypeError(f"hyperparameter {name} is {value!r}, expected {kind.__name__}")
        return value


def parse_values(parameters: Sequence[HyperParameter], given: Mapping[str, str]) -> HyperParameterValues:
    """Parse the values of a run from SageMaker's strings, without the names that SageMaker reserves.

    Raises:
        HyperparameterError: with every problem: unknown names and the nearest known one, missing ones, invalid values.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Value] = {}
    problems: list[str] = []
    for name, text in given.items():
        if name not in by_name:
            if not name.startswith(_RESERVED):
                problems.append(f"{_quote(name)} is unknown{suggest_name(name, by_name)}")
            continue
        try:
            values[name] = by_name[name].read(text)
        except ValueError as error:
            problems.append(f"{name} {error}")
    for parameter in parameters:
        if parameter.name in given:
            continue
        if parameter.required:
            problems.append(f"{parameter.name} is missing")
        elif parameter.default is not None:
            values[parameter.name] = parameter.read(str(parameter.default))
    if problems:
        raise HyperparameterError(problems)
    return HyperParameterValues(
        {name: values[name] for name in by_name if name in values}, given=given.keys() & by_name.keys()
    )


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the known name that is most similar, or all of them."""
    names = sorted(known)
    return _suggest_similar(name, names) or (f"; known are {', '.join(names)}" if names else "; none is declared")


def _suggest_similar(word: str, known: Iterable[str]) -> str:
    by_lower_case = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower()[:_MAX_NAME], by_lower_case, n=1)
    return f"; did you mean {by_lower_case[matches[0]]}?" if matches else ""


def _unquote(given: str) -> str:
    """Return the text of a value that the SDKs may have sent as a JSON string."""
    if len(given) > 1 and given[0] == given[-1] == '"':
        try:
            return str(json.loads(given))
        except ValueError:
            return given
    return given


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "...")


def _join_choices(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
