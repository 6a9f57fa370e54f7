"""What of a model repository reaches a shell: the words of the command that starts a Python stub. No I/O.

Up to release 25.07 Triton's python backend starts each stub with ``bash -c "exec <stub> <model file> ... <instance>"``
and quotes nothing, and it tries the stub out with ``system()`` (python_backend src/stub_launcher.cc
`StubLauncher::Launch` of r24.10). A name that a shell does not take as one plain word is a command to it. The stub's
own interpreter opens paths of ASCII characters only (pb_stub.cc starts it without a locale; run with 2.51).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_word", "odd_characters"]

#: An allow list, so that no character is forgotten.
_WORD: Final = re.compile(r"[A-Za-z0-9_./+@%:,=-]*")
_ODD: Final = re.compile(r"[^A-Za-z0-9_./+@%:,=-]")


def is_word(text: str) -> bool:
    """Return True if a shell takes the text unchanged, as one word, and a stub can open it as a path."""
    return _WORD.fullmatch(text) is not None


def odd_characters(text: str) -> str:
    """The characters because of which `is_word` is False: each once, escaped; "" when there is none."""
    return " ".join(dict.fromkeys(ascii(character) for character in _ODD.findall(text)))
