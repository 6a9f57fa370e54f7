"""The inputs that the original and the converted model are both asked: photographs, and random numbers.

The photographs are scikit-learn's two, whole and mirrored in part. Where an ensemble makes the model's input from an
encoded image by a DALI pipeline, that very pipeline makes it here too; else they are scaled to the input's size and to
0..1 (whole numbers: 0..255). Random numbers are drawn from a fixed seed.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge.datatypes import BY_CONFIG, TYPE_BOOL, TYPE_STRING, TYPE_UINT8
from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.signature import TensorSpec
from tritonforge.repository.conversion.job import Job, Pipeline

__all__ = ["Case", "cases", "zeros"]

#: How many inputs are asked at once besides a single one, where the model takes so many.
_SEVERAL: Final = 4

#: What an open extent is taken for: of an image's sides, and of everything else.
_SIDE: Final = 224
_EXTENT: Final = 16

_COLOURS: Final = (1, 3)


@dataclass(frozen=True, slots=True)
class Case:
    """One question to both models: whole arrays by input name, ``size`` inputs in one batch."""

    what: str
    size: int
    arrays: Mapping[str, np.ndarray[Any, Any]]


def cases(job: Job, inputs: Sequence[TensorSpec], *, say: Callable[[str], None]) -> list[Case]:
    """The questions for a model with these inputs (whole shapes); ``say`` is told what could not be asked."""
    sizes = _sizes(job, inputs)
    random = np.random.default_rng(0)
    made = [Case("random", size, {each.name: _random(each, size, random) for each in inputs}) for size in sizes]
    shown = _shown(job, inputs, say)
    for size in sizes if shown else ():
        arrays = {each.name: _random(each, size, random) for each in inputs}
        arrays.update({name: array[:size] if sizes[-1] > 1 else array[0] for name, array in shown.items()})
        made.append(Case("photographs", size, arrays))
    return made


def zeros(case: Case) -> Case:
    """The same case with zeros in place of random whole numbers, which may be indices that are out of range."""
    arrays = {
        name: np.zeros_like(array) if array.dtype.kind in "iu" and array.dtype != np.uint8 else array
        for name, array in case.arrays.items()
    }
    return replace(case, arrays=arrays)


def _sizes(job: Job, inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    batched = job.max_batch_size > 0 or all(each.shape is not None and each.shape[:1] == (-1,) for each in inputs)
    several = min(_SEVERAL, job.max_batch_size or _SEVERAL)
    return (1, several) if batched and several > 1 else (1,)


def _extents(tensor: TensorSpec, size: int) -> tuple[int, ...]:
    """The shape to make for a batch of ``size``: the first open extent is the batch's."""
    shape = tuple(tensor.shape or ())
    opened = shape[:1] == (-1,)
    sides = _axes(tensor)
    made = [extent if extent != -1 else _SIDE if axis in sides else _EXTENT for axis, extent in enumerate(shape)]
    return (size, *made[1:]) if opened else tuple(made)


def _axes(tensor: TensorSpec) -> tuple[int, ...]:
    """The axes of an image's height and width, none when the input takes no image: NHWC or NCHW, N may be absent."""
    shape = tuple(tensor.shape or ())
    if len(shape) not in (3, 4) or tensor.data_type in (TYPE_STRING, TYPE_BOOL):
        return ()
    first = len(shape) - 3
    if shape[-1] in _COLOURS:
        return first, first + 1
    return (first + 1, first + 2) if shape[first] in _COLOURS else ()


def _random(tensor: TensorSpec, size: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = _extents(tensor, size)
    if tensor.data_type == TYPE_STRING:
        texts = [str(number).encode() for number in random.integers(0, 10, int(np.prod(shape)))]
        return np.array(texts, dtype=object).reshape(shape)
    dtype = BY_CONFIG[str(tensor.data_type)].dtype
    if tensor.data_type == TYPE_BOOL:
        return random.integers(0, 2, shape).astype(dtype)
    if tensor.data_type == TYPE_UINT8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind in "iu":
        return random.integers(0, 10, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def _shown(job: Job, inputs: Sequence[TensorSpec], say: Callable[[str], None]) -> dict[str, np.ndarray[Any, Any]]:
    """Four photographs as each input takes them, for the inputs that take any."""
    wanted = [each for each in inputs if each.name in job.pipelines or _axes(each)]
    files = _photographs() if wanted else []
    if wanted and not files:
        say(
            f"{job.model}: its ONNX model was compared on random inputs only: scikit-learn, which brings photographs, "
            "is not installed"
        )
    shown = {}
    for each in wanted if files else ():
        if each.name in job.pipelines:
            try:
                shown[each.name] = _through(job.pipelines[each.name], files)
                continue
            except (ImportError, RuntimeError, ArtifactError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                say(f"{job.model}: its ensemble's DALI pipeline does not run here ({reason}); photographs were scaled")
        if _axes(each):
            shown[each.name] = _scaled(each, files)
    return shown


def _photographs() -> list[bytes]:
    """Four JPEG files of different sizes; none where scikit-learn is not installed."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        return []
    from PIL import Image, ImageOps

    folder = Path(found.origin).parent / "datasets" / "images"
    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    for index, file in enumerate(list(files)):
        image = ImageOps.mirror(Image.open(io.BytesIO(file)))
        buffer = io.BytesIO()
        image.crop((40, 20 + 30 * index, image.width - 90, image.height - 60)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files[:_SEVERAL]


def _through(pipeline: Pipeline, files: Sequence[bytes]) -> np.ndarray[Any, Any]:
    from nvidia.dali.pipeline import Pipeline as Dali

    data = dali_pipeline.on_cpu(Path(pipeline.path).read_bytes())
    (source,) = dali_pipeline.signature(data).inputs
    runner = Dali.deserialize(data, batch_size=len(files), num_threads=2, device_id=None, prefetch_queue_depth=1)
    runner.build()
    runner.feed_input(source.name, [np.frombuffer(file, np.uint8) for file in files])
    array: np.ndarray[Any, Any] = runner.run()[pipeline.output].as_array()
    return array


def _scaled(tensor: TensorSpec, files: Sequence[bytes]) -> np.ndarray[Any, Any]:
    from PIL import Image

    shape, axes = _extents(tensor, 1), _axes(tensor)
    height, width = (shape[axis] for axis in axes)
    last = axes[-1] == len(shape) - 2  # colours come last
    mode = "L" if (shape[-1] if last else shape[axes[0] - 1]) == 1 else "RGB"
    rows = []
    for file in files:
        pixels = np.asarray(Image.open(io.BytesIO(file)).convert(mode).resize((width, height)))
        pixels = pixels[..., None] if mode == "L" else pixels
        rows.append(pixels if last else np.moveaxis(pixels, -1, 0))
    images = np.stack(rows)
    dtype = BY_CONFIG[str(tensor.data_type)].dtype
    made: np.ndarray[Any, Any] = (
        images.astype(dtype) if dtype.kind in "iu" else (images / np.float32(255)).astype(dtype)
    )
    # A shape with a fixed first extent in front of the image, say 1, takes each photograph as it is.
    return made if len(shape) == 4 and tuple(tensor.shape or ())[:1] == (-1,) else made.reshape(len(files), *shape)
