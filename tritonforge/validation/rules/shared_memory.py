"""The shared memory that Python models take, and what there is of it where they are served. No I/O.

Each instance of a model of the python backend has a region in /dev/shm: of a fixed size when it starts, grown when the
tensors of a batch do not fit, and never made smaller. Source: python_backend shm_manager.cc `SharedMemoryManager`,
`GrowIfNeeded` (r23.05 to r26.07); measured with Triton 2.51 by tests/serving/test_shared_memory.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tritonforge.triton.backends import BACKENDS
from tritonforge.triton.changes import LARGE_REGIONS, SERVE_REGIONS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, register_check
from tritonforge.validation.rules.tensors import compute_bounded_size

_SOURCE: Final = (
    "python_backend python_be.cc TRITONBACKEND_Initialize, shm_manager.cc SharedMemoryManager; the size of /dev/shm: "
    "tritonforge.triton.targets"
)

# fmt: off
W471 = define_advice("W471", "the Python models need more shared memory when they start than /dev/shm has",
    source=_SOURCE,
    why="Every instance of a Python model reserves its region when it is loaded: 1 MB (64 MB before release 23.09; 16 "
        "MB with SageMaker's serve script). Where /dev/shm is full, the next model is refused: Unable to initialize "
        "shared memory key '<key>' to requested size.",
    bad="instance_group { count: 5 kind: KIND_CPU }   --target sagemaker",
    good="instance_group { count: 5 kind: KIND_CPU }   --target sagemaker "
         "--env SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE=1048576")
W472 = define_advice("W472", "a full batch of the Python models needs more shared memory than /dev/shm has",
    source=_SOURCE,
    why="The inputs and outputs of a batch lie in the instance's region, which grows for them and is never made "
        "smaller. Where /dev/shm is full, the request fails: Failed to increase the shared memory pool size for key "
        "'<key>'. Tensors of fixed size are counted only.",
    bad="max_batch_size: 64   input { data_type: TYPE_FP32 dims: [3, 512, 512] }   --target kserve",
    good="max_batch_size: 8   input { data_type: TYPE_FP32 dims: [3, 512, 512] }   --target kserve")
# fmt: on

_MEGABYTE: Final = 1 << 20
_PLACE: Final = "/dev/shm"  # noqa: S108 - the words of a message; nothing is opened
_VARIABLE: Final = "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE"
#: The smallest region that the python backend takes (python_be.cc: "to be greater than or equal to 1MB").
_SMALLEST: Final = _MEGABYTE


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What the instances of one model take at least, in bytes: when they start, and after a full batch of each."""

    model: ModelView
    instances: int
    start: int
    full: int


@register_check(Stage.LOADED, W471, W472)
def check_shared_memory(context: Context) -> Iterator[Finding]:
    """Compare what the Python models take at least with the size of /dev/shm."""
    limit, region = context.serving.shared_memory, find_region_size(context)
    if limit is None or region is None:
        return
    needs = measure_needs(context, region)
    count = sum(need.instances for need in needs)
    start, full = sum(need.start for need in needs), sum(need.full for need in needs)
    if start > limit:
        yield W471.report(
            f"{count} instances of Python models take {format_size(start)} of shared memory when they start: "
            f"{_PLACE} of {context.serving.title} has {format_size(limit)}",
            path="",
            help=_advise_start(context, limit // count),
        )
    elif full > limit:
        largest = max(needs, key=lambda need: need.full)
        model = largest.model
        others = f", {format_size(largest.full)} of it {model.name}" if len(needs) > 1 else ""
        yield W472.report_in(
            model,
            f"after a full batch of each instance the Python models hold at least {format_size(full)} of shared "
            f"memory{others}: {_PLACE} of {context.serving.title} has {format_size(limit)}",
            model.document.one("max_batch_size") or model.document.one("input"),
            _advise_full(context, full),
        )


def measure_needs(context: Context, region: int) -> list[MemoryNeed]:
    """Return what the models that run in Python stubs take; ``region`` is that of the python backend, in bytes."""
    own = find_default_size(context)  # the flags of the serve script name the python backend alone
    return [
        measure_need(context, model, region if model.backend == "python" else own)
        for model in context.models.values()
        if _runs_in_stub(context, model)
    ]


def _advise_start(context: Context, share: int) -> str:
    if context.serving.name != "sagemaker":
        return _advise_volume(context.serving.shared_memory or 0, "use fewer instances")
    fitting = share // _MEGABYTE * _MEGABYTE
    return f"set {_VARIABLE}={fitting}" if fitting >= _SMALLEST else "use fewer instances: 1 MB each is the least"


def _advise_full(context: Context, need: int) -> str:
    fewer = "lower max_batch_size, use fewer instances, or send smaller data types"
    if context.serving.name == "sagemaker":
        return f"{fewer}: SageMaker has no setting for the size of {_PLACE}"
    return _advise_volume(need, fewer)


def _advise_volume(size: int, otherwise: str) -> str:
    return (
        f"mount an emptyDir with medium: Memory and a sizeLimit above {format_size(size)} at {_PLACE}, or {otherwise}"
    )


def format_size(size: int) -> str:
    """Return a size in megabytes.

    >>> format_size(67108864), format_size(17825792)
    ('64 MB', '17 MB')
    """
    return f"{size / _MEGABYTE:.1f}".removesuffix(".0") + " MB"


def find_region_size(context: Context) -> int | None:
    """Return the size in bytes of a region when its instance starts; None where the environment hides it."""
    if context.serving.region is None:
        return find_default_size(context)
    environment = context.options.environment or {}
    if "shm-" in environment.get("SAGEMAKER_TRITON_ADDITIONAL_ARGS", ""):
        return None
    text = environment.get(_VARIABLE, "")
    if not text:
        return context.serving.region if context.has(SERVE_REGIONS) else find_default_size(context)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= _SMALLEST else None


def find_default_size(context: Context) -> int:
    """Return the size in bytes of a region when its instance starts, where no flag sets it."""
    return 64 * _MEGABYTE if context.has(LARGE_REGIONS) else _SMALLEST


def _runs_in_stub(context: Context, model: ModelView) -> bool:
    """Return True if Python stubs run the model on the image: a backend of the image, or one added to it in Python."""
    row = BACKENDS.get(model.backend)
    added = context.image is not None and model.backend in context.image.added
    return model.parsed and not model.is_ensemble and (added or (row is not None and row.runs_in_stub))


def measure_need(context: Context, model: ModelView, region: int) -> MemoryNeed:
    """Return what the instances of a model take at least: every loaded version has its own."""
    instances = tensors = 0
    for count, has_gpu in _list_groups(context, model):
        instances += count
        tensors += count * max(region, _count_batch(model, has_gpu=has_gpu))
    versions = len(model.versions)
    return MemoryNeed(model, instances * versions, instances * versions * region, tensors * versions)


def _list_groups(context: Context, model: ModelView) -> Iterator[tuple[int, bool]]:
    """Yield the number of instances of each group, at least, and whether they may be on a GPU.

    A group counts once where the number of GPUs is not known (model_config_utils.cc `NormalizeInstanceGroup`).
    """
    gpus = context.options.gpus
    groups = model.document.messages("instance_group")
    if not groups:
        yield gpus or 1, gpus != 0
    for group in groups:
        kind, named = group.text("kind", "KIND_AUTO"), len(group.integers("gpus"))
        has_gpu = kind != "KIND_CPU" and gpus != 0
        hosts = (named or gpus or 1) if has_gpu and kind == "KIND_GPU" else 1 if named or not has_gpu else gpus or 1
        yield max(group.integer("count"), 1) * hosts, has_gpu


def _count_batch(model: ModelView, *, has_gpu: bool) -> int:
    """Return the bytes that a full batch has at least, in tensors that are in shared memory at the same time.

    A tensor whose size the request decides counts nothing. The outputs of an instance on a GPU may stay there,
    and a decoupled model may answer with fewer.
    """
    tensors = [tensor for tensor in model.inputs if not tensor.optional]
    if not has_gpu and not model.decoupled:
        tensors += model.outputs
    sizes = [compute_bounded_size(tensor.data_type, tensor.dims) for tensor in tensors]
    return sum(max(size, 0) for size in sizes) * max(model.max_batch_size, 1)
