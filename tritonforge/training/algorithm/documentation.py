"""An algorithm's page as Markdown: tables of what training takes and tells, and what inference answers. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tritonforge.training.algorithm.declaration import Algorithm, Channel
from tritonforge.training.algorithm.hyperparameters import HyperParameter

__all__ = ["markdown"]


def markdown(algorithm: Algorithm) -> str:
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
