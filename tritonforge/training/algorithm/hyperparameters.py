"""What CreateAlgorithm lets a text be: its length and its characters, as the ends of sentences. No I/O.

Source: botocore's model of SageMaker: EntityDescription and ParameterName are letters, marks, separators, symbols,
numbers and punctuation (no control characters); the patterns ``.*`` of the others are Java's, whose dot is no end of a
line (java.util.regex.Pattern, "Line terminators").

Hyperparameters: declared once, read from the strings that SageMaker gives. This module does no I/O.

SageMaker's words: a hyperparameter is Integer, Continuous, Categorical or FreeText, and its value always a string of at
most 2500 characters. The SageMaker SDKs send some of them as JSON, so that ``adam`` comes with quotes around it; both
are read. A flag is Categorical with the values True and False.
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
    "ParameterType",
    "Value",
    "Values",
    "check_description",
    "check_text_line",
    "parse_values",
    "suggest_name",
]

#: Source: botocore's model of SageMaker, EntityDescription.
LONGEST_DESCRIPTION: Final = 1024

_ENDS: Final = "\n\r\u0085\u2028\u2029"


def check_description(description: str) -> Iterator[str]:
    """What is wrong with a description."""
    if len(description) > LONGEST_DESCRIPTION:
        yield f"a description has at most {LONGEST_DESCRIPTION} characters, found {len(description)}"
    if any(unicodedata.category(each).startswith("C") for each in description):
        yield "a description is one line without control characters"


def check_text_line(what: str, text: str, *, most: int, least: int = 0) -> Iterator[str]:
    """What is wrong with a text of one line; ``what`` begins the sentence."""
    if not least <= len(text) <= most:
        yield f"{what} has {least} to {most} characters, found {len(text)}"
    if any(each in text for each in _ENDS):
        yield f"{what} is one line, found {text[:60]!r}"


#: Source: API_HyperParameterSpecification, `Type`.
ParameterType: TypeAlias = Literal["Integer", "Continuous", "Categorical", "FreeText"]

#: An Integer is an int, a Continuous a float, the others are str.
Value: TypeAlias = int | float | str

#: The values of a flag. Source: JumpStart's built-in algorithms (`train_only_on_top_layer` and others).
FLAG: Final = ("True", "False")

#: Source: botocore's model of SageMaker: HyperParameterValue, ParameterName, ParameterValue, ParameterValues.
_LONGEST_VALUE: Final = 2500
_LONGEST_NAME: Final = 256
_LONGEST_CHOICE: Final = 256
_MOST_CHOICES: Final = 30

#: What SageMaker and its SDKs put among an algorithm's own. Source: sagemaker-training-toolkit, params.py; the SDK's
#: tuner, which takes ``_tuning_objective_metric`` out again.
_RESERVED: Final = ("sagemaker_", "_tuning_objective_metric")

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_CONTINUOUS: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

#: Characters of a wrong value that a sentence shows.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class HyperParameter:
    """One hyperparameter: its name, its type, and which values it may have.

    ``minimum`` and ``maximum`` (both or neither, both included) are for Integer and Continuous, ``values`` for
    Categorical. ``default`` is what a job gets that does not give it, kept as the string that SageMaker's API has for
    it; one that is ``required`` has none. One that is neither given, required, nor has a default is left out of the
    `Values`.

    Raises:
        DefinitionError: the declaration contradicts itself, or breaks a limit of CreateAlgorithm.
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
        if problems := list(self._problems()) or list(self._default_problem()):
            raise DefinitionError(f"hyperparameter {self.name!r}: {'; '.join(problems)}")

    @classmethod
    def flag(
        cls, name: str, description: str = "", *, default: bool | None = None, required: bool = False
    ) -> HyperParameter:
        """A Categorical whose values are True and False."""
        return cls(name, "Categorical", description, default=default, values=FLAG, required=required)

    def read(self, given: str) -> Value:
        """The value that a string stands for.

        Raises:
            ValueError: with what it should be, as the end of a sentence.
        """
        if len(given) > _LONGEST_VALUE:
            raise ValueError(f"has {len(given)} characters; SageMaker allows {_LONGEST_VALUE}")
        text = _bare(given)
        if self.type == "Integer":
            return self._integer(text)
        if self.type == "Continuous":
            return self._continuous(text)
        if self.type == "Categorical":
            return self._categorical(text)
        return text

    def _integer(self, text: str) -> int:
        if not _INTEGER.fullmatch(text.strip()):
            raise ValueError(f"is {_shown(text)}; write an integer{self._range()}")
        return cast("int", self._within(int(text), text))

    def _continuous(self, text: str) -> float:
        if not _CONTINUOUS.fullmatch(text.strip()) or not math.isfinite(float(text)):
            raise ValueError(f"is {_shown(text)}; write a number{self._range()}")
        return self._within(float(text), text)

    def _within(self, value: float, text: str) -> float:
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise ValueError(f"is {_shown(text)}; it must be{self._range()}")
        return value

    def _categorical(self, text: str) -> str:
        # The SDKs write a bool as JSON does, JumpStart as Python does.
        word = text.capitalize() if set(self.values) == set(FLAG) else text
        if word not in self.values:
            raise ValueError(f"is {_shown(text)}; write {_choice(self.values)}{_meant(word, self.values)}")
        return word

    def _range(self) -> str:
        return "" if self.minimum is None else f" from {self.minimum} to {self.maximum}"

    def _problems(self) -> Iterator[str]:
        yield from check_text_line("a name", self.name, least=1, most=_LONGEST_NAME)
        if any(unicodedata.category(each).startswith("C") for each in self.name):
            yield "a name has no control characters"
        if self.name.startswith(_RESERVED):
            yield f"names that begin with {' or '.join(_RESERVED)} are SageMaker's own"
        yield from check_description(self.description)
        yield from check_text_line("a default", str(self.default or ""), most=_LONGEST_VALUE)
        yield from self._range_problems()
        yield from self._choice_problems()
        if self.tunable and self.type == "FreeText":
            yield "a FreeText cannot be tuned"  # Source: API_ParameterRanges: Integer, Continuous and Categorical.
        if self.default is not None and self.required:
            # Source: API_HyperParameterSpecification, `DefaultValue`.
            yield "if a default is given it cannot be required"

    def _range_problems(self) -> Iterator[str]:
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

    def _choice_problems(self) -> Iterator[str]:
        if self.type != "Categorical":
            if self.values:
                yield f"values are for Categorical, not for {self.type}"
        elif not 1 <= len(self.values) <= _MOST_CHOICES:
            yield f"a Categorical has 1 to {_MOST_CHOICES} values, found {len(self.values)}"
        elif len(set(self.values)) < len(self.values):
            yield "its values are not all different"
        else:
            for each in self.values:
                yield from check_text_line("a value", each, most=_LONGEST_CHOICE)

    def _default_problem(self) -> Iterator[str]:
        if self.default is not None:
            try:
                self.read(str(self.default))
            except ValueError as error:
                yield f"its default {error}"


class Values(Mapping[str, Value]):
    """The hyperparameters of one run by name, each of its type, defaults filled in.

    ``given`` names those that the job gave itself. One that has no value is not in the mapping.
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
        return f"Values({self._values!r})"

    def integer(self, name: str) -> int:
        """The value of an Integer. Raises KeyError without a value, TypeError for another type."""
        return cast("int", self._typed(name, int))

    def number(self, name: str) -> float:
        """The value of a Continuous. Raises KeyError without a value, TypeError for another type."""
        return cast("float", self._typed(name, float))

    def text(self, name: str) -> str:
        """The value of a Categorical or FreeText. Raises KeyError without a value, TypeError for another type."""
        return cast("str", self._typed(name, str))

    def flag(self, name: str) -> bool:
        """Whether a flag is "True". Raises KeyError without a value, TypeError for what is no flag."""
        word = self.text(name)
        if word not in FLAG:
            raise TypeError(f"hyperparameter {name} is {word!r}, and no flag")
        return word == "True"

    def _typed(self, name: str, kind: type[Any]) -> Any:
        value = self._values[name]
        if not isinstance(value, kind):
            raise TypeError(f"hyperparameter {name} is {value!r}, and no {kind.__name__}")
        return value


def parse_values(declared: Sequence[HyperParameter], given: Mapping[str, str]) -> Values:
    """The values of a run from SageMaker's strings; names that SageMaker reserves are passed over.

    Raises:
        HyperparameterError: with every problem: unknown names and the known one next to it, missing ones, wrong values.
    """
    by_name = {each.name: each for each in declared}
    values: dict[str, Value] = {}
    problems: list[str] = []
    for name, text in given.items():
        if name not in by_name:
            if not name.startswith(_RESERVED):
                problems.append(f"{_shown(name)} is unknown{suggest_name(name, by_name)}")
            continue
        try:
            values[name] = by_name[name].read(text)
        except ValueError as error:
            problems.append(f"{name} {error}")
    for each in declared:
        if each.name in given:
            continue
        if each.required:
            problems.append(f"{each.name} is missing")
        elif each.default is not None:
            values[each.name] = each.read(str(each.default))
    if problems:
        raise HyperparameterError(problems)
    return Values({name: values[name] for name in by_name if name in values}, given=given.keys() & by_name.keys())


def suggest_name(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the known one that looks most like it, or all of them."""
    names = sorted(known)
    return _meant(name, names) or (f"; known are {', '.join(names)}" if names else "; there are none")


def _meant(word: str, known: Iterable[str]) -> str:
    by_small = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower()[:_LONGEST_NAME], by_small, n=1)
    return f"; did you mean {by_small[found[0]]}?" if found else ""


def _bare(given: str) -> str:
    """The text of a value that the SDKs may have sent as a JSON string."""
    if len(given) > 1 and given[0] == given[-1] == '"':
        try:
            return str(json.loads(given))
        except ValueError:
            return given
    return given


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _choice(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
