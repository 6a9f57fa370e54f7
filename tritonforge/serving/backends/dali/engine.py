"""A DALI pipeline that survives bad samples, and says which of them were bad.

A pipeline object is dead after one error ("Current pipeline object is no longer valid"). Making a new one from the
serialised bytes takes about 2 ms, so it is made when the next batch comes. To find who caused an error, the samples
that look damaged run apart from the rest; when nothing looks damaged, halves do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge.serving.backends.dali import diagnosis
from tritonforge.serving.backends.requests import Answer, Arrays, Question, RequestError

__all__ = ["Engine"]

#: The executor gives one batch at a time and nothing is prefetched: a server's batches come when they come.
_EXECUTOR: Final[Mapping[str, Any]] = {"prefetch_queue_depth": 1, "exec_async": False, "exec_pipelined": False}


@dataclass(slots=True)
class Engine:
    """A serialised pipeline ready to run.

    ``outputs`` are the configured names in the order of the pipeline's outputs; ``batch_size`` and ``num_threads`` are
    the file's own where they are None; ``device_id`` is None on the CPU.
    """

    serialized: bytes
    outputs: tuple[str, ...]
    batch_size: int | None
    num_threads: int | None
    device_id: int | None
    _pipeline: Any = None

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Run requests as one batch; those with bad samples get an error of their own."""
        if not questions:
            return []
        try:
            return list(self._run(questions))
        except RuntimeError as error:  # what DALI raises for everything
            if len(questions) == 1:
                return [RequestError(self._explain(questions[0], error))]
        answers: list[Answer | None] = [None] * len(questions)
        for places in _parts(questions, _suspicious):
            for place, answered in zip(places, self.answer([questions[each] for each in places]), strict=True):
                answers[place] = answered
        return [each for each in answers if each is not None]

    def build(self) -> Any:
        """The pipeline, made anew where there is none."""
        if self._pipeline is None:
            from nvidia.dali import Pipeline

            given = {"batch_size": self.batch_size, "num_threads": self.num_threads}
            self._pipeline = Pipeline.deserialize(
                serialized_pipeline=self.serialized,
                device_id=self.device_id,
                **{name: value for name, value in given.items() if value is not None},
                **_EXECUTOR,
            )
        return self._pipeline

    def _run(self, questions: Sequence[Question]) -> list[Arrays]:
        pipeline = self.build()
        try:
            for name in questions[0].inputs:
                pipeline.feed_input(name, [sample for question in questions for sample in question.inputs[name]])
            lists = pipeline.run()
            sizes = [_samples(question) for question in questions]
            outputs = {name: _split(each, sizes) for name, each in zip(self.outputs, lists, strict=True)}
        except BaseException:
            self._pipeline = None
            raise
        return [{name: parts[place] for name, parts in outputs.items()} for place in range(len(questions))]

    def _explain(self, question: Question, error: RuntimeError) -> str:
        """One sentence: which input, which sample of the request, and what was wrong with it."""
        count = _samples(question)
        sample, reason = self._first_bad(question, range(count), error)
        which = f"sample {sample + 1} of {count}" if sample is not None else f"the batch of {count}"
        for name, array in question.inputs.items():
            found = None if sample is None else _looks(array[sample])
            if found:
                return f"input '{name}', {which} {found}" if count > 1 else f"input '{name}' {found}"
        name = next(iter(question.inputs))
        return f"input '{name}', {which}: DALI cannot process it: {diagnosis.cleaned(str(reason))}"

    def _first_bad(
        self, question: Question, samples: Sequence[int], error: RuntimeError
    ) -> tuple[int | None, RuntimeError]:
        """The first sample that fails by itself, with DALI's error for it; halves the samples until one is left."""
        if len(samples) == 1:
            return samples[0], error
        for sample in samples:
            if any(_looks(array[sample]) for array in question.inputs.values()):
                return sample, error
        middle = len(samples) // 2
        for half in (samples[:middle], samples[middle:]):
            part = Question({name: array[list(half)] for name, array in question.inputs.items()}, (), len(half))
            try:
                self._run([part])
            except RuntimeError as narrower:
                return self._first_bad(question, half, narrower)
        return None, error


def _samples(question: Question) -> int:
    return int(next(iter(question.inputs.values())).shape[0])


def _split(output: Any, sizes: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """The samples of one output as one array a request, copied out of DALI's buffers, which the next run overwrites."""
    output = output.as_cpu()
    parts = []
    start = 0
    whole = np.array(output.as_array()) if output.is_dense_tensor() else None
    for size in sizes:
        stop = start + size
        if whole is not None:
            parts.append(whole[start:stop])
        else:
            samples = [np.array(output.at(place)) for place in range(start, stop)]
            shapes = sorted({each.shape for each in samples})
            if len(shapes) > 1:
                raise RuntimeError(f"the samples of one request have outputs of different shapes: {shapes}")
            parts.append(np.stack(samples))
        start = stop
    return parts


def _parts(questions: Sequence[Question], suspicious: Callable[[Question], bool]) -> list[list[int]]:
    """Places of questions to run apart: the sound ones together and each suspect alone, else two halves."""
    suspects = [place for place, question in enumerate(questions) if suspicious(question)]
    if 0 < len(suspects) < len(questions):
        sound = [place for place in range(len(questions)) if place not in set(suspects)]
        return [sound, *([place] for place in suspects)]
    middle = len(questions) // 2
    return [list(range(middle)), list(range(middle, len(questions)))]


def _suspicious(question: Question) -> bool:
    return any(_looks(sample) for array in question.inputs.values() for sample in array)


def _looks(sample: np.ndarray[Any, Any]) -> str | None:
    """What looks wrong with a sample that may be an encoded image: a row of bytes."""
    if sample.ndim != 1 or sample.dtype != np.uint8:
        return None
    return diagnosis.suspicion(sample.tobytes())
