"""The child process that converts one version of one model: ``python -m tritonforge.repository.conversion JOB``.

``JOB`` is the text of a `tritonforge.repository.conversion.job.Job`; `tritonforge.repository.artifacts.child_process`
says what is written to standard output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonforge import tf_memory
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import ONNX, Signature, TensorSpec, compare_signatures
from tritonforge.repository.artifacts.child_channel import Parent, answer
from tritonforge.repository.conversion import comparison, original, samples, translation
from tritonforge.repository.conversion.facts import TOLERANCES, Converted
from tritonforge.repository.conversion.job import Job


def main() -> int:
    """Convert and compare; 0 when the model was written, 1 when an error was."""
    job = Job.from_text(sys.argv[1])

    def work(parent: Parent) -> Any:
        began = time.monotonic()
        tf_memory.without_keras()
        try:
            import onnxruntime  # noqa: F401 - whether both are there, before the long work
            import tensorflow as tf  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(error.name or "tensorflow", extra="local") from error
        model = original.load(job)
        Path(job.target).write_bytes(translation.translated(job, model))
        tf_memory.give_back()  # before both models are run, which takes as much again
        _check(job)
        return _compared(job, model, parent, began).to_json()

    return answer(work)


def _check(job: Job) -> None:
    """Compare the file's names and types with the configuration, as ONNX Runtime's backend will."""
    found = introspect(Path(job.target), ONNX)
    for difference in compare_signatures(Signature(job.inputs, job.outputs), found, batched=False):
        stated = difference.stated
        if difference.kind == "unknown" and stated is not None:
            raise ArtifactError(f"{job.name}: its ONNX model has no {difference.direction} {stated.name!r}")
        if difference.kind == "data_type" and stated is not None and difference.found is not None:
            raise ArtifactError(
                f"{job.name}: {difference.direction} {stated.name!r} is {difference.found.data_type}, config.pbtxt "
                f"says {stated.data_type}"
            )


def _compared(job: Job, model: original.Original, parent: Parent, began: float) -> Converted:
    """Ask both models the same, and hold the differences to their tolerance.

    Raises:
        ArtifactError: they differ by more, or neither can be asked.
    """
    ask = _session(job)
    stated = {each.name: each for each in job.inputs}
    inputs = [
        TensorSpec(
            each.name,
            each.data_type,
            translation.narrowed(stated.get(each.name), each, batched=job.max_batch_size > 0) or (),
        )
        for each in model.inputs
    ]
    outputs = [each.name for each in model.outputs]
    counts = {"photographs": 0, "random": 0}
    largest = comparison.Difference()
    held = [TOLERANCES[str(each.data_type)] for each in model.outputs if each.data_type in TOLERANCES]
    classes = 0
    for asked in samples.cases(job, inputs, say=parent.say):
        case, expected = _expected(job, model, asked)
        counts[case.what] += case.size
        found = ask(case.arrays, outputs)
        for each in model.outputs:
            apart = comparison.difference(expected[each.name], found[each.name], str(each.data_type))
            _hold(job, each.name, str(each.data_type), case, apart)
            classes += apart.classes
            largest = max(largest, apart, key=lambda known: known.relative)
    return Converted(
        model=job.model,
        version=job.version,
        opset=job.opset,
        converter=translation.converter(),
        photographs=counts["photographs"],
        random=counts["random"],
        largest_difference=largest.absolute,
        relative_difference=largest.relative,
        tolerance=min(held, default=0.0),
        classes=classes,
        seconds=round(time.monotonic() - began, 1),
    )


def _expected(job: Job, model: original.Original, case: samples.Case) -> tuple[samples.Case, Mapping[str, Any]]:
    """The case and TensorFlow's answer; with zeros in place of random whole numbers where TensorFlow refuses those."""
    try:
        return case, model.run(case.arrays)
    except original.RefusedError:
        case = samples.zeros(case)
    try:
        return case, model.run(case.arrays)
    except original.RefusedError as error:
        raise ArtifactError(
            f"{job.name}: it cannot be compared: TensorFlow itself refuses a batch of {case.size} {case.what} inputs: "
            f"{error}"
        ) from error


def _hold(job: Job, output: str, data_type: str, case: samples.Case, apart: comparison.Difference) -> None:
    problem = comparison.problem(apart, data_type)
    if problem:
        raise ArtifactError(
            f"{job.name}: on a batch of {case.size} ({case.what}) the ONNX model's output {output!r} {problem}; "
            f"nothing was written; {translation.OTHERWISE}"
        )


def _session(job: Job) -> Any:
    """A function of (arrays, output names) to arrays by name, run by ONNX Runtime on the CPU."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings of unused constants say nothing to anybody
    try:
        session = onnxruntime.InferenceSession(job.target, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors derive from Exception itself and are made at run time
        raise ArtifactError(
            f"{job.name}: ONNX Runtime does not load it: {_line(error)}; {translation.OTHERWISE}"
        ) from error

    def ask(arrays: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        given = {
            name: np.array([each.decode() for each in array.ravel()], dtype=object).reshape(array.shape)
            if array.dtype == object
            else np.ascontiguousarray(array)
            for name, array in arrays.items()
        }
        try:
            values = session.run(list(outputs), given)
        except Exception as error:  # as above
            raise ArtifactError(
                f"{job.name}: ONNX Runtime does not run it: {_line(error)}; {translation.OTHERWISE}"
            ) from error
        return dict(zip(outputs, values, strict=True))

    return ask


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


if __name__ == "__main__":
    sys.exit(main())
