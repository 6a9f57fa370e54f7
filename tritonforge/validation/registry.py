"""The registry: every rule of `tritonforge validate`, and the checks that report it. No I/O.

A module of `tritonforge.validation.rules` defines rules with `define_error` and `define_advice`, and registers the
functions that check them with `register_check`. Importing the module does both; `load_rules` imports all of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tritonforge.validation.findings import Finding, RefusedBy, Severity

if TYPE_CHECKING:
    from tritonforge.pbtxt import Node
    from tritonforge.validation.context import ModelView

__all__ = ["Check", "Rule", "Stage", "define_advice", "define_error", "list_checks", "load_rules",
           "register_check"]  # fmt: skip

_CheckFunction: TypeAlias = Callable[..., Iterable[Finding]]
_F = TypeVar("_F", bound=_CheckFunction)


class Stage(Enum):
    """When a check runs, in the server's order: an ensemble over a model quotes the first finding that fails it.

    The functions take a `Context`, and those of the stages about one model its `ModelView` too. The functions of
    ENSEMBLE and CACHE are methods of `EnsembleChecker`.
    """

    REPOSITORY = auto()  #: the directories of the repository
    DIRECTORY = auto()  #: one model's directory
    TEXT = auto()  #: the text of its config.pbtxt
    AGENTS = auto()  #: its repository agents; from here on the text is valid
    CONFIG = auto()  #: its configuration, when the server reads it
    STEPS = auto()  #: an ensemble's steps on their own
    VERSIONS = auto()  #: its versions, when the server loads it
    FILES = auto()  #: the backend's library and the model's files
    INSTANCES = auto()  #: instance groups and metrics
    TENSORS = auto()  #: inputs and outputs
    WARMUP = auto()  #: warmup samples and initial states
    PARAMETERS = auto()  #: parameters that name files
    LABELS = auto()  #: label files
    ENSEMBLE = auto()  #: an ensemble and the models of its steps
    CACHE = auto()  #: an ensemble's response cache
    LOADED = auto()  #: what the server loads, and then fails at, ignores or does not see
    PACKAGE = auto()  #: a package for SageMaker's TensorFlow Serving container


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    ``sentence`` is what a finding states, in the server's words where it has any, with names in ``<>``. ``source`` is
    the function and file of Triton, or the section of the document, that the rule comes from; ``why`` explains it;
    ``bad`` and ``good`` are short pieces of a config.pbtxt or of a tree.
    """

    code: str
    severity: Severity
    refused_by: RefusedBy | None
    sentence: str
    source: str
    why: str
    bad: str
    good: str

    @property
    def checks(self) -> Sequence[Check]:
        """The checks that report the rule."""
        return [check for check in _CHECKS if self in check.rules]

    def report(
        self,
        message: str,
        *,
        path: str,
        node: Node | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str = "",
        help: str = "",  # noqa: A002 - named as in Finding
    ) -> Finding:
        """Return a finding at a node, at a line, or at ``path``: line 1 where that is a config.pbtxt."""
        if node is not None:
            line, column, field = node.line, node.column, field or node.path
        elif line is None and path.endswith(".pbtxt"):
            line, column = 1, 1
        return Finding(
            code=self.code,
            severity=self.severity,
            refused_by=self.refused_by,
            path=_escape(path),
            line=line,
            column=column,
            field=field,
            message=_escape(message),
            help=_escape(help),
        )

    def report_in(
        self,
        model: ModelView,
        message: str,
        node: Node | None = None,
        help: str = "",  # noqa: A002 - named as in Finding
    ) -> Finding:
        """Return a finding in a model's configuration: at a node, or at the model's name where the node is None."""
        return self.report(message, path=model.config_path, node=model.place(node), help=help)


@dataclass(frozen=True, slots=True)
class Check:
    """A function that reports some rules, and the stage in which it runs."""

    stage: Stage
    rules: tuple[Rule, ...]
    function: _CheckFunction


_RULES: Final[dict[str, Rule]] = {}
_CHECKS: Final[list[Check]] = []


def define_error(code: str, sentence: str, *, refused_by: RefusedBy | None = "triton", **texts: str) -> Rule:
    """Define and register a rule that is an error; ``texts`` are ``source``, ``why``, ``bad`` and ``good``."""
    return _register(Rule(code=code, severity="error", refused_by=refused_by, sentence=sentence, **texts))


def define_advice(code: str, sentence: str, **texts: str) -> Rule:
    """Define and register a rule that is a warning, since nothing refuses what breaks it."""
    return _register(Rule(code=code, severity="warning", refused_by=None, sentence=sentence, **texts))


def _register(rule: Rule) -> Rule:
    if rule.code in _RULES:
        raise ValueError(f"two rules have the code {rule.code}")
    _RULES[rule.code] = rule
    return rule


def register_check(stage: Stage, *rules: Rule) -> Callable[[_F], _F]:
    """Register the decorated function as the check of these rules; it runs in ``stage``, after those before it."""

    def register(function: _F) -> _F:
        _CHECKS.append(Check(stage, rules, function))
        return function

    return register


@lru_cache(maxsize=1)
def load_rules() -> Mapping[str, Rule]:
    """Import every module of `tritonforge.validation.rules`; return all rules by code, sorted."""
    package: Any = import_module("tritonforge.validation.rules")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_RULES.items()))


@lru_cache(maxsize=len(Stage))
def list_checks(stage: Stage) -> Sequence[_CheckFunction]:
    """Return the functions that run in a stage."""
    load_rules()
    return [check.function for check in _CHECKS if check.stage is stage]


def _escape(text: str) -> str:
    """Return text that any terminal and any JSON reader accepts: bytes that are not UTF-8 become escapes."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that encodes no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
