"""DALI models: the serialised pipeline held against its configuration, as Triton's DALI backend does. No I/O.

Core knows nothing of this; the sentences are the DALI backend's own, with its spelling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.dali import device, file, tensors

__all__ = ["RULES", "check"]

RULES: Final[tuple[Rule, ...]] = (*file.RULES, *tensors.RULES, *device.RULES)


def check(context: Context) -> Iterator[Finding]:
    """What the DALI backend would say of every version that it loads."""
    for model in context.models.values():
        if model.backend == "dali" and model.parsed:
            yield from file.check_name(context, model)
            yield from tensors.check_max_batch_size(context, model)
            for version in model.versions:
                yield from _check_version(context, model, version)


def _check_version(context: Context, model: ModelView, version: int) -> Iterator[Finding]:
    found = file.find(context, model, version)
    yield from found.findings
    if found.data is None:
        return
    yield from file.check_origin(context, found.path, found.data)
    yield from device.check(context, model, found.data, path=found.path)
    try:
        signature = dali_pipeline.read_signature(found.data)
    except ArtifactError as error:
        yield tensors.FOREIGN_TYPE.finding(
            str(error), path=found.path, help="cast it inside the pipeline to a type that Triton has"
        )
        return
    yield from tensors.check(context, model, signature, path=found.path)
