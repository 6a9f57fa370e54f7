"""Convert a TensorFlow model to ONNX and compare the two on photographs and random numbers, in a child process.

The photographs are scikit-learn's two, whole and mirrored in part. Where an ensemble makes the model's input from an
encoded image by a DALI pipeline, that pipeline makes it here too; otherwise they are scaled to the input's size and to
0..1 (whole numbers: 0..255). Random numbers are drawn from a fixed seed.
"""

from __future__ import annotations

import importlib.util
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from tritonforge import tf_memory
from tritonforge.datatypes import BY_CONFIG, TYPE_BOOL, TYPE_STRING, TYPE_UINT8
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import ONNX, Signature, TensorSpec, compare_signatures
from tritonforge.repository import onnx_translation, tensorflow_model
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress
from tritonforge.repository.onnx_conversion import TOLERANCES, ConversionJob, ConvertedModel, ImagePipeline
from tritonforge.repository.tensorflow_model import InputRejectedError, Original

__all__ = ["Difference", "SampleBatch", "compare_outputs", "convert_from_arguments", "describe_problem",
           "generate_batches", "replace_integers"]  # fmt: skip

Array: TypeAlias = np.ndarray[Any, Any]

#: Below this magnitude an output is rounding, and differences are not divided by it.
_SMALLEST: Final = 1e-3

#: The size of a batch besides a single input, where the model accepts it.
_BATCH_SIZE: Final = 4

#: The value of an open extent: of an image's sides, and of all others.
_SIDE: Final = 224
_EXTENT: Final = 16

_COLOURS: Final = (1, 3)


def convert_from_arguments(arguments: Mapping[str, Any], on_progress: ProgressCallback) -> dict[str, Any]:
    """Convert and compare in a child process; see `tritonforge.repository.child_process`."""
    job = ConversionJob.from_json(arguments)
    start = time.monotonic()
    try:
        import onnxruntime  # noqa: F401 - missing packages are reported before the long work

        tf_memory.import_tensorflow()
    except ImportError as error:
        raise MissingExtraError(error.name or "tensorflow", extra="local") from error
    original = tensorflow_model.load_original(job)
    Path(job.target).write_bytes(onnx_translation.translate(job, original))
    tf_memory.trim_heap()  # before both models run, which takes as much memory again
    _check_signature(job)
    result = _compare_models(job, original, on_progress)
    return replace(result, seconds=round(time.monotonic() - start, 1)).to_json()


def _check_signature(job: ConversionJob) -> None:
    """Compare the file's names and types with the configuration, as ONNX Runtime's backend will."""
    found = introspect(Path(job.target), ONNX)
    for difference in compare_signatures(Signature(job.inputs, job.outputs), found, batched=False):
        kind, stated = difference.direction, difference.stated
        if difference.kind == "unknown" and stated is not None:
            raise ArtifactError(f"{job.name}: its ONNX model has no {kind} {stated.name!r}")
        if difference.kind == "data_type" and stated is not None and difference.found is not None:
            found_type = difference.found.data_type
            raise ArtifactError(
                f"{job.name}: {kind} {stated.name!r} is {found_type}, config.pbtxt says {stated.data_type}"
            )


def _compare_models(job: ConversionJob, original: Original, on_progress: ProgressCallback) -> ConvertedModel:
    """Run both models on the same inputs, and compare their outputs.

    Raises:
        ArtifactError: they differ by more than the tolerance, or one of them does not run.
    """
    run_converted = _open_session(job)
    stated = {tensor.name: tensor for tensor in job.inputs}
    batched = job.max_batch_size > 0
    inputs = [
        replace(tensor, shape=onnx_translation.narrow_shape(stated.get(tensor.name), tensor, batched=batched) or ())
        for tensor in original.inputs
    ]
    outputs = {tensor.name: str(tensor.data_type) for tensor in original.outputs}
    counts = {"photographs": 0, "random": 0}
    largest, classes = Difference(), 0
    for sample in generate_batches(job, inputs, on_progress=on_progress):
        batch, expected = _run_original(job, original, sample)
        counts[batch.kind] += batch.size
        converted = run_converted(batch.arrays, list(outputs))
        for name, data_type in outputs.items():
            difference = compare_outputs(expected[name], converted[name], data_type)
            problem = describe_problem(difference, data_type)
            if problem:
                raise ArtifactError(
                    f"{job.name}: on a batch of {batch.size} ({batch.kind}) the ONNX model's output {name!r} "
                    f"{problem}; nothing was written; {onnx_translation.ALTERNATIVE}"
                )
            classes += difference.classes
            largest = max(largest, difference, key=lambda candidate: candidate.relative)
    return ConvertedModel(
        model=job.model,
        version=job.version,
        opset=job.opset,
        converter=onnx_translation.describe_converter(),
        photographs=counts["photographs"],
        random=counts["random"],
        largest_difference=largest.absolute,
        relative_difference=largest.relative,
        tolerance=min((TOLERANCES[kind] for kind in outputs.values() if kind in TOLERANCES), default=0.0),
        classes=classes,
        seconds=0.0,
    )


def _run_original(job: ConversionJob, original: Original, batch: SampleBatch) -> tuple[SampleBatch, Mapping[str, Any]]:
    """Return the batch and TensorFlow's outputs; with zeros for random integers where TensorFlow rejects those."""
    try:
        return batch, original.run(batch.arrays)
    except InputRejectedError:
        batch = replace_integers(batch)
    try:
        return batch, original.run(batch.arrays)
    except InputRejectedError as error:
        raise ArtifactError(
            f"{job.name}: it cannot be compared: TensorFlow itself refuses a batch of {batch.size} {batch.kind} "
            f"inputs: {error}"
        ) from error


def _open_session(job: ConversionJob) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, Any]]:
    """Return a function of (arrays, output names) to arrays by name, which ONNX Runtime runs on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings of unused constants

    def fail(what: str, error: Exception) -> ArtifactError:
        reason = " ".join(str(error).split())[:400]
        return ArtifactError(f"{job.name}: ONNX Runtime does not {what} it: {reason}; {onnx_translation.ALTERNATIVE}")

    try:
        session = onnxruntime.InferenceSession(job.target, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors derive from Exception itself and are made at run time
        raise fail("load", error) from error

    def run(arrays: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        feeds = {
            name: np.array([text.decode() for text in array.ravel()], dtype=object).reshape(array.shape)
            if array.dtype == object
            else np.ascontiguousarray(array)
            for name, array in arrays.items()
        }
        try:
            return dict(zip(outputs, session.run(list(outputs), feeds), strict=True))
        except Exception as error:  # as above
            raise fail("run", error) from error

    return run


@dataclass(frozen=True, slots=True)
class Difference:
    """One output in one batch: ``absolute`` and ``relative`` (of the original's largest magnitude) largest difference.

    ``classes`` counts the rows of scores that have one largest value, ``moved`` those where the converted model has it
    elsewhere. ``problem`` is set where the outputs cannot be compared as numbers, or are not equal.
    """

    absolute: float = 0.0
    relative: float = 0.0
    classes: int = 0
    moved: int = 0
    problem: str = ""


def compare_outputs(original: Array, converted: Array, data_type: str) -> Difference:
    """Return the difference of one output; integers, booleans and texts must be equal."""
    if original.shape != converted.shape:
        return Difference(problem=f"has shape {list(converted.shape)} where TensorFlow's has {list(original.shape)}")
    if data_type not in TOLERANCES:
        # TensorFlow's texts are bytes, ONNX Runtime's are str.
        pairs = zip(original.ravel(), converted.ravel(), strict=True)
        unequal = sum(a != (b.encode() if isinstance(b, str) else b) for a, b in pairs)
        return Difference(problem=f"differs in {unequal} of {original.size} values" if unequal else "")
    left, right = original.astype(np.float64), converted.astype(np.float64)
    finite = np.isfinite(left)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True) or not np.isfinite(right[finite]).all():
        return Difference(problem="is not a number where TensorFlow's is one, or the other way round")
    if not finite.any():
        return Difference()
    absolute = float(np.abs(left[finite] - right[finite]).max())
    relative = absolute / max(float(np.abs(left[finite]).max()), _SMALLEST)
    return Difference(absolute, relative, *_count_classes(left, right))


def describe_problem(difference: Difference, data_type: str) -> str:
    """Return what is wrong with an output, as the rest of a sentence; "" for a difference within its tolerance.

    Classes must agree whatever the tolerance: they are a classifier's result.
    """
    if difference.problem:
        return difference.problem
    allowed = TOLERANCES.get(data_type, 0.0)
    if difference.relative > allowed:
        return (
            f"differs from TensorFlow's by {difference.absolute:.2g}, {difference.relative:.2g} of its largest value, "
            f"where {allowed:g} is allowed"
        )
    moved = difference.moved
    return f"has another largest class in {moved} of {difference.classes} rows" if moved else ""


def _count_classes(left: Array, right: Array) -> tuple[int, int]:
    """Return the number of rows of scores with one largest value, and of those where the other model's is elsewhere."""
    if left.ndim != 2 or left.shape[1] < 2 or not np.isfinite(left).all():
        return 0, 0
    single = (left == left.max(axis=1, keepdims=True)).sum(axis=1) == 1
    moved = single & (left.argmax(axis=1) != right.argmax(axis=1))
    return int(single.sum()), int(moved.sum())


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """One batch of ``size`` inputs for both models: whole arrays by input name."""

    kind: str
    size: int
    arrays: Mapping[str, Array]


def generate_batches(
    job: ConversionJob, inputs: Sequence[TensorSpec], *, on_progress: ProgressCallback = no_progress
) -> list[SampleBatch]:
    """Return batches for a model with these inputs (whole shapes), and note what cannot be compared."""
    open_batch = all(tensor.shape is not None and tuple(tensor.shape[:1]) == (-1,) for tensor in inputs)
    several = min(_BATCH_SIZE, job.max_batch_size or _BATCH_SIZE) if job.max_batch_size > 0 or open_batch else 1
    sizes = (1, several) if several > 1 else (1,)
    random = np.random.default_rng(0)

    def draw(size: int) -> dict[str, Array]:
        return {tensor.name: _draw_random(tensor, size, random) for tensor in inputs}

    batches = [SampleBatch("random", size, draw(size)) for size in sizes]
    photographs = _prepare_photographs(job, inputs, on_progress)
    for size in sizes if photographs else ():
        shown = {name: array[:size] if several > 1 else array[0] for name, array in photographs.items()}
        batches.append(SampleBatch("photographs", size, {**draw(size), **shown}))
    return batches


def replace_integers(batch: SampleBatch) -> SampleBatch:
    """Return the batch with zeros for random integers, which may be indices that are out of range."""
    arrays = {
        name: np.zeros_like(array) if array.dtype.kind in "iu" and array.dtype != np.uint8 else array
        for name, array in batch.arrays.items()
    }
    return replace(batch, arrays=arrays)


def _choose_extents(tensor: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape for a batch of ``size``: the first open extent is the batch's."""
    shape, sides = tuple(tensor.shape or ()), _find_image_axes(tensor)
    extents = [extent if extent != -1 else _SIDE if axis in sides else _EXTENT for axis, extent in enumerate(shape)]
    return (size, *extents[1:]) if shape[:1] == (-1,) else tuple(extents)


def _find_image_axes(tensor: TensorSpec) -> tuple[int, ...]:
    """Return the axes of an image's height and width, none for other inputs: NHWC or NCHW, N may be absent."""
    shape = tuple(tensor.shape or ())
    if len(shape) not in (3, 4) or tensor.data_type in (TYPE_STRING, TYPE_BOOL):
        return ()
    first = len(shape) - 3
    if shape[-1] in _COLOURS:
        return first, first + 1
    return (first + 1, first + 2) if shape[first] in _COLOURS else ()


def _draw_random(tensor: TensorSpec, size: int, random: np.random.Generator) -> Array:
    shape = _choose_extents(tensor, size)
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


def _prepare_photographs(
    job: ConversionJob, inputs: Sequence[TensorSpec], on_progress: ProgressCallback
) -> dict[str, Array]:
    """Return four photographs for each input that is an image."""

    def note(sentence: str) -> None:
        on_progress(BuildProgress("note", f"{job.model}: {sentence}"))

    images = [tensor for tensor in inputs if tensor.name in job.pipelines or _find_image_axes(tensor)]
    files = _read_photographs() if images else []
    if images and not files:
        note(
            "its ONNX model was compared on random inputs only: scikit-learn, which has the photographs, is not "
            "installed"
        )
    prepared = {}
    for tensor in images if files else ():
        if tensor.name in job.pipelines:
            try:
                prepared[tensor.name] = _run_pipeline(job.pipelines[tensor.name], files)
                continue
            except (ImportError, RuntimeError, ArtifactError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                note(f"its ensemble's DALI pipeline does not run here ({reason}); photographs were scaled")
        if _find_image_axes(tensor):
            prepared[tensor.name] = _scale(tensor, files)
    return prepared


def _read_photographs() -> list[bytes]:
    """Return four JPEG files of different sizes; none where scikit-learn is not installed."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        return []
    from PIL import Image, ImageOps

    folder = Path(spec.origin).parent / "datasets" / "images"
    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    for index, file in enumerate(list(files)):
        image = ImageOps.mirror(Image.open(io.BytesIO(file)))
        buffer = io.BytesIO()
        image.crop((40, 20 + 30 * index, image.width - 90, image.height - 60)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files[:_BATCH_SIZE]


def _run_pipeline(pipeline: ImagePipeline, files: Sequence[bytes]) -> Array:
    from nvidia.dali.pipeline import Pipeline

    data = dali_pipeline.move_to_cpu(Path(pipeline.path).read_bytes())
    (source,) = dali_pipeline.read_signature(data).inputs
    runner = Pipeline.deserialize(data, batch_size=len(files), num_threads=2, device_id=None, prefetch_queue_depth=1)
    runner.build()
    runner.feed_input(source.name, [np.frombuffer(file, np.uint8) for file in files])
    array: Array = runner.run()[pipeline.output].as_array()
    return array


def _scale(tensor: TensorSpec, files: Sequence[bytes]) -> Array:
    from PIL import Image

    shape, axes = _choose_extents(tensor, 1), _find_image_axes(tensor)
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
    scaled: Array = images.astype(dtype) if dtype.kind in "iu" else (images / np.float32(255)).astype(dtype)
    # A shape with a fixed first extent in front of the image, 1 for example, takes each photograph as it is.
    return scaled if len(shape) == 4 and tuple(tensor.shape or ())[:1] == (-1,) else scaled.reshape(len(files), *shape)
