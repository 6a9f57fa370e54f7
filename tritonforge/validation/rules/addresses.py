"""Names of models that stand in the addresses of Triton's HTTP API. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.triton.backends import is_word
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import advice
from tritonforge.validation.rules.context import Context

__all__ = ["RULES", "check"]

#: RFC 3986, "unreserved": what no client percent-encodes.
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")

W136: Final = advice(
    "W136",
    "the model's name has characters that HTTP clients percent-encode, which Triton does not decode",
    source="http_server.cc HTTPAPIServer::Handle matches the path as it comes (run with 2.51: Request for unknown "
    "model: 'a%2Bb' is not found)",
    why="tritonclient.http and most HTTP clients cannot ask this model; gRPC and SageMaker's /invocations can.",
    bad="a+b/config.pbtxt",
    good="a_b/config.pbtxt",
)

RULES: Final = (W136,)


def check(context: Context) -> Iterator[Finding]:
    """The findings of every model whose name is no finding of the shell's already."""
    for view in context.models.values():
        if not view.parsed or _UNRESERVED.fullmatch(view.name) or not (view.is_ensemble or is_word(view.name)):
            continue
        yield W136.finding(
            f"the model's name '{ascii(view.name)[1:-1]}' has characters that HTTP clients percent-encode, which "
            "Triton does not decode",
            path=view.config_path if view.has_config else view.name,
            help="use letters, digits and _ . - (ASCII)",
        )
