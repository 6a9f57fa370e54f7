"""A model whose Python process (its stub) ended: which one, and why, in sentences.

tritonserver 2.51 starts no other process: it answers 500 for the model, and 200 to health checks, from then on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.serving import serverlog
from tritonforge.serving.server_process import ChildExit, how_it_ended

__all__ = ["ModelDeath", "death_of", "is_unhealthy", "load_failures"]

#: What tritonserver answers for such a model (python_backend src/python_be.cc).
_UNHEALTHY: Final = re.compile(r"Stub process '.*' is not healthy")


@dataclass(frozen=True, slots=True)
class ModelDeath:
    """The end of a model's process while the server ran: ``reason`` is a sentence, ``ended`` is monotonic time."""

    model: str
    reason: str
    ended: float


def death_of(child: ChildExit, prefix: str) -> ModelDeath:
    """The death of the model of a stub; ``prefix`` begins the names of the server's shared memory regions."""
    model = serverlog.model_of_stub(child.command, prefix)
    return ModelDeath(model, f"{_who(model)}: its Python process ended {_how(child)}", child.ended)


def is_unhealthy(answer: str) -> bool:
    """Whether an answer of the server says that a stub has died."""
    return _UNHEALTHY.search(answer) is not None


def load_failures(child: ChildExit, sentences: Sequence[str], *, log: str, prefix: str) -> list[str]:
    """Why models did not load, where a stub died meanwhile: "not healthy" alone explains nothing.

    ``sentences`` are the server's own reasons, ``log`` is its log.
    """
    telling = [sentence for sentence in sentences if not is_unhealthy(sentence)]
    model = serverlog.model_of_stub(child.command, prefix) or " or ".join(serverlog.loading(log))
    if any(f"'{model}'" in sentence for sentence in telling):
        return telling
    return [*telling, f"{_who(model)} did not load: its Python process ended {_how(child)}"]


def _who(model: str) -> str:
    return f"model '{model}'" if model else "a model"


def _how(child: ChildExit) -> str:
    memory = " (the kernel's out-of-memory killer was at work)" if child.out_of_memory else ""
    return how_it_ended(child.status) + memory
