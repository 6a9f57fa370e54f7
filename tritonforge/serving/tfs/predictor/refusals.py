"""A refusal: an error as TensorFlow Serving's REST API answers it. No I/O here."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "UNKNOWN", "Refusal", "name_of"]

#: Codes of absl::Status, as numbers (google/rpc/code.proto).
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12

#: Code: its name, and the HTTP status of the answer (tensorflow_serving/model_servers/http_server.cc
#: `ToHTTPStatusCode`).
_CODES: Final = MappingProxyType(
    {
        0: ("OK", 200),
        1: ("CANCELLED", 499),
        UNKNOWN: ("UNKNOWN", 500),
        INVALID_ARGUMENT: ("INVALID_ARGUMENT", 400),
        4: ("DEADLINE_EXCEEDED", 504),
        NOT_FOUND: ("NOT_FOUND", 404),
        6: ("ALREADY_EXISTS", 409),
        7: ("PERMISSION_DENIED", 403),
        8: ("RESOURCE_EXHAUSTED", 429),
        9: ("FAILED_PRECONDITION", 400),
        10: ("ABORTED", 409),
        11: ("OUT_OF_RANGE", 400),
        UNIMPLEMENTED: ("UNIMPLEMENTED", 501),
        13: ("INTERNAL", 500),
        14: ("UNAVAILABLE", 503),
        15: ("DATA_LOSS", 500),
        16: ("UNAUTHENTICATED", 401),
    }
)


class Refusal(Exception):  # noqa: N818  # an answer of the API, not a failure of this program
    """What is answered as ``{"error": message}``; ``code`` is absl's."""

    def __init__(self, message: str, *, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _CODES.get(self.code, _CODES[UNKNOWN])[1]


def name_of(code: int) -> str:
    """The name of a code."""
    return _CODES.get(code, _CODES[UNKNOWN])[0]
