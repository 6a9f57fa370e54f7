"""The limits of what an archive may be when it is read: more is taken for an attack, or for a mistake as costly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tritonforge.validation.tree_reader import MAXIMAL_DEPTH, MAXIMAL_ENTRIES

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may be at most.

    ``size`` is in bytes of everything unpacked, ``ratio`` the unpacked bytes for each compressed one, judged only
    beyond ``ratio_from`` unpacked bytes (deflate reaches 1030 on zeros, weights stay below 20). ``members`` counts
    files, links and directories, each as often as the archive has it, and extended headers as well; ``depth`` counts
    the directories around one. ``names`` is in bytes of all paths, and of all extended headers; ``header`` in bytes of
    one extended header. ``links`` counts symbolic links, ``link_bytes`` is in bytes of their targets: the look-up of
    one path may follow forty of them.
    """

    size: int = 512 << 30
    ratio: int = 250
    ratio_from: int = 256 << 20
    members: int = MAXIMAL_ENTRIES
    depth: int = MAXIMAL_DEPTH
    names: int = 64 << 20
    header: int = 1 << 20
    links: int = 20_000
    link_bytes: int = 2 << 20


#: The limits of a reader that is given none; how much is too much for the disk, the disk says.
LIMITS: Final = Limits()
