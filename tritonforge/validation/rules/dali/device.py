"""Where a DALI pipeline computes, against where its instances are. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.model_files import dali_pipeline
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "check"]

GPU_WITHOUT_GPU: Final = Rule(
    code="E510",
    severity="error",
    refused_by="triton",
    summary="the pipeline has operators on the GPU, but the instance has none",
    source="dali_backend/src/dali_model.h InstantiateDaliPipeline; DALI Pipeline",
    why="Devices are fixed when a pipeline is serialised. DALI builds no GPU operator (also no `mixed` decoder) for an "
    "instance group of KIND_CPU, on the CPU image, or on a host without a GPU.",
    bad='fn.decoders.image(..., device="mixed")   instance_group { kind: KIND_CPU }',
    good='fn.decoders.image(..., device="cpu")   instance_group { kind: KIND_CPU }',
)

RULES: Final = (GPU_WITHOUT_GPU,)


def check(context: Context, model: ModelView, data: bytes, *, path: str) -> Iterator[Finding]:
    """Hold the devices of the pipeline in ``path`` against the model's instance groups, the image and the host."""
    if not dali_pipeline.needs_gpu(data):
        return
    groups = [group for group in model.document.messages("instance_group") if group.text("kind") == "KIND_CPU"]
    for group in groups:
        name = group.text("name") or f"{model.name}_{group.index}"
        yield GPU_WITHOUT_GPU.finding(
            f"the pipeline {path} has operators on the GPU, but instance group {name} is KIND_CPU",
            path=model.config_path,
            node=group.one("kind"),
            help="serialise the pipeline for the CPU, or use KIND_GPU",
        )
    if groups:
        return
    where = ""
    if context.image is not None and context.image.cpu:
        where = f"image {context.image.tag} is for the CPU"
    elif context.gpus == 0:
        where = "the host has none"
    if where:
        yield GPU_WITHOUT_GPU.finding(
            f"the pipeline has operators on the GPU, but {where}",
            path=path,
            help="serialise the pipeline for the CPU",
        )
