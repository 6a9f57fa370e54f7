"""The checksums that a model's repository agent verifies before the model is read. No I/O.

Source: triton-inference-server/checksum_repository_agent src/checksum.cc (66b9179); core model_repository_manager.cc
CreateAgentModelListWithLoadAction, which runs the agents before anything else is checked. The sums of files whose
content a tree does not hold are those that its reader worked out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule, refused
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.layout.definitions import E127
from tritonforge.validation.tree import UNKNOWN, Entry

__all__ = ["RULES", "poll"]

_SOURCE: Final = "checksum_repository_agent src/checksum.cc"

MISMATCH: Final = refused(
    "E130",
    "Mismatched MD5 hash for file <f>, expect: <a>, got: <b>",
    source=f"{_SOURCE} TRITONREPOAGENT_ModelAction",
    why="The file is not the one whose sum the configuration states. The agent compares lower-case hexadecimal digits.",
    bad='agents [{ name: "checksum" parameters { key: "MD5:1/model.onnx" value: "<the sum of another file>" } }]',
    good='agents [{ name: "checksum" parameters { key: "MD5:1/model.onnx" value: "<md5sum m/1/model.onnx>" } }]',
)
MISSING: Final = refused(
    "E131",
    "failed to open text file for read <f>: No such file or directory",
    source=f"{_SOURCE} ReadFile",
    why="The path is relative to the model's directory.",
    bad='parameters { key: "MD5:model.onnx" ... } with m/1/model.onnx',
    good='parameters { key: "MD5:1/model.onnx" ... }',
)
ALGORITHM: Final = refused(
    "E132",
    "Unsupported checksum algorithm: <x>",
    source=f"{_SOURCE} ParseAlgorithmAndFile",
    why="The agent knows MD5 only.",
    bad='parameters { key: "SHA256:1/model.onnx" ... }',
    good='parameters { key: "MD5:1/model.onnx" ... }',
)
KEY: Final = refused(
    "E133",
    "failed to parse key: <key>",
    source=f"{_SOURCE} ParseAlgorithmAndFile",
    why="A key is the algorithm, a colon and the file.",
    bad='parameters { key: "1/model.onnx" ... }',
    good='parameters { key: "MD5:1/model.onnx" ... }',
)
DIRECTORY: Final = refused(
    "E134",
    "the checksum is of a directory: the server's process dies",
    source=f"{_SOURCE} ReadFile (an uncaught std::length_error)",
    why="The agent reads the directory as a file of absurd length; every model goes down with it.",
    bad='parameters { key: "MD5:1" ... }',
    good='parameters { key: "MD5:1/model.onnx" ... }',
)

RULES: Final[tuple[Rule, ...]] = (MISMATCH, MISSING, ALGORITHM, KEY, DIRECTORY)

_SUM: Final = re.compile(r"[0-9a-f]{32}")


def poll(context: Context, view: ModelView) -> Iterator[Finding]:
    """What the checksum agent says of a model when it is read."""
    agents = view.document.message("model_repository_agents")
    for agent in agents.messages("agents") if agents is not None else ():
        if agent.text("name") == "checksum":
            for key, entry in agent.entries("parameters").items():
                yield from _verify(context, view, key, entry.text("value"), entry.one("value") or entry)


def _verify(context: Context, view: ModelView, key: str, expected: str, node: Node) -> Iterator[Finding]:
    algorithm, colon, filename = key.partition(":")
    path = f"{view.name}/{filename}"
    tree, where = context.tree, view.config_path
    if not colon:
        yield KEY.finding(f"failed to parse key: {key}", path=where, node=node, help=f'write "MD5:{key}"')
    elif algorithm.lower() != "md5":
        yield ALGORITHM.finding(f"Unsupported checksum algorithm: {algorithm}", path=where, node=node, help="use MD5")
    elif tree.leaves(path):
        yield _unverified(path, "it lies outside of the repository")
    elif (kind := tree.kind(path)) == "missing":
        words = f"failed to open text file for read {filename}: No such file or directory"
        yield MISSING.finding(words, path=where, node=node, help=f"files are looked for in {view.name}/")
    elif kind == "directory":
        yield DIRECTORY.finding(f"{path} is a directory, of which the agent reads the sum", path=where, node=node)
    elif (entry := tree.entry(path)) is not None and entry.problem:
        words = f"failed to open text file for read {filename}: {entry.problem}"
        yield MISSING.finding(words, path=where, node=node)
    elif entry is not None and entry.size == UNKNOWN:
        return  # not made yet
    elif entry is None or (found := _sum(entry)) is None:
        yield _unverified(path, "it is larger than what is read for checksums")
    elif found != expected:
        words = f"Mismatched MD5 hash for file {filename}, expect: {expected}, got: {found}"
        help_ = "the agent compares lower-case digits" if found == expected.lower() else "the file has changed"
        if not _SUM.fullmatch(expected.lower()):
            help_ = "an MD5 sum has 32 hexadecimal digits"
        yield MISMATCH.finding(words, path=where, node=node, help=help_)


def _sum(entry: Entry) -> str | None:
    if entry.content is not None:
        return hashlib.md5(entry.content, usedforsecurity=False).hexdigest()
    return entry.md5 or None


def _unverified(path: str, why: str) -> Finding:
    return E127.finding(f"not judged: the checksum of {path} is not verified: {why}", path=path)
