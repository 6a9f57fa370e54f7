"""How findings are told: for people, for programs, and in the formats of CI systems. Values in, text out."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tritonforge.cli.reports import github, junit, machine, sarif, text
from tritonforge.cli.reports.judged import Judged, ServerVerdict

__all__ = ["FORMATS", "Judged", "ServerVerdict"]

#: Format name -> the text of a report on these repositories.
FORMATS: Final[Mapping[str, Callable[[Sequence[Judged]], str]]] = MappingProxyType(
    {
        "text": text.render,
        "json": machine.render,
        "sarif": sarif.render,
        "junit": junit.render,
        "github": github.render,
    }
)
