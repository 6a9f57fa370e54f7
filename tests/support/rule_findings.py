"""Findings of some rules alone, and DALI pipelines built without DALI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tritonforge.model_files import dali_pipeline
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import load_rules
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree

Files = Mapping[str, "str | bytes | Entry"]


def list_rules(pattern: str) -> set[str]:
    """Return the codes of the rules that a pattern matches, such as ``[EW]5``."""
    return {code for code in load_rules() if re.match(pattern, code)}


def find(pattern: str, files: Files, **options: Any) -> list[Finding]:
    """Return the findings of the rules that a pattern matches."""
    return [finding for finding in validate(Tree.of(files), **options) if re.match(pattern, finding.code)]


def codes(pattern: str, files: Files, **options: Any) -> list[str]:
    """Return the codes of these findings."""
    return [finding.code for finding in find(pattern, files, **options)]


def only(pattern: str, files: Files, **options: Any) -> Finding:
    """Return the single finding of these rules."""
    (finding,) = find(pattern, files, **options)
    return finding


def pipeline(
    inputs: Mapping[str, tuple[str | None, int | None]] | None = None,
    outputs: Sequence[tuple[str, str | None, int | None]] = (("images", None, None),),
    *,
    device: str = "cpu",
    arguments: Sequence[str] = (),
) -> bytes:
    """A serialised DALI pipeline: inputs by name and outputs in order, each with its declared data_type and rank."""
    message: Any = type(dali_pipeline.parse(_SMALLEST))()
    message.batch_size = 8
    for name, (data_type, ndim) in (inputs if inputs is not None else {"IMAGE": ("TYPE_UINT8", 1)}).items():
        source = message.op.add(name="ExternalSource", inst_name=name)
        source.output.add(name=name, device="cpu", is_argument_input=False)
        if data_type is not None:
            source.args.add(name="dtype", type="int", is_vector=False, ints=[dali_pipeline.NUMBERS[data_type]])
        if ndim is not None:
            source.args.add(name="ndim", type="int", is_vector=False, ints=[ndim])
    decoder = message.op.add(name="decoders__Image", inst_name="decoder")
    decoder.args.add(name="device", type="string", is_vector=False, strings=[device])
    for argument in arguments:
        decoder.args.add(name=argument, type="string", is_vector=False, strings=["x"])
    for name, data_type, ndim in outputs:
        number = dali_pipeline.NUMBERS[data_type] if data_type is not None else -1
        rank = ndim if ndim is not None else -1
        message.pipe_outputs.add(name=name, device="cpu", is_argument_input=False, dtype=number, ndim=rank)
    return bytes(message.SerializeToString())


#: batch_size 1, one operator and one output, each with the required fields only.
_SMALLEST = bytes.fromhex("10012a030a01613a080a01621201631800")
