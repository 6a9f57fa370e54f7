"""A DALI pipeline that survives invalid samples, and reports which of them are invalid.

DALI cannot use a pipeline object any more after one error. A new one from the serialised bytes takes about 2 ms, so it
is made for the next batch. To find the sample that caused an error, the samples that look damaged run apart from the
rest; when none looks damaged, halves do.

DALI reports little more of a damaged image than ``nvImageCodec failure: '#4'``, with a page of its own stack. The bytes
themselves show more: their format, and whether the image is complete.

DALI 2.4 decodes a JPEG with damaged bytes in its middle to wrong pixels (the decoder warns in the server's log only);
one that lacks its last bytes, even the two of its end marker, fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from tritonforge.serving.backends.requests import Arrays, BackendRequest, RequestError, Result

__all__ = ["Engine", "clean_message", "describe_damage"]

#: First bytes of the formats that DALI's image decoders know: "Supported formats" of `fn.decoders.image`.
_FORMATS: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*")),
    ("PNM", re.compile(rb"P[1-6]\s")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
)

#: Statuses of nvImageCodec that DALI passes on as numbers. Source: nvimgcodec.h, `nvimgcodecStatus_t`.
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "3": "the image's code stream is damaged",
        "4": "the image's format is not supported",
        "13": "the image's code stream is damaged",
        "14": "the image's format is not supported",
        "17": "the image's header cannot be read",
    }
)

#: The executor gives one batch at a time and nothing is prefetched: a server's batches come when they come.
_EXECUTOR: Final[Mapping[str, Any]] = {"prefetch_queue_depth": 1, "exec_async": False, "exec_pipelined": False}


@dataclass(slots=True)
class Engine:
    """A serialised pipeline ready to run.

    ``outputs`` are the configured names in the order of the pipeline's outputs; ``batch_size`` and ``num_threads`` are
    the file's own where they are None; ``device_id`` is None on the CPU. With ``decodes_images`` rows of bytes are
    encoded images, whose damage can be described.
    """

    serialized: bytes
    outputs: tuple[str, ...]
    batch_size: int | None
    num_threads: int | None
    device_id: int | None
    decodes_images: bool
    _pipeline: Any = None
    #: What the last run returned: arrays show its memory.
    _lists: tuple[Any, ...] = ()

    def run(self, requests: Sequence[BackendRequest]) -> list[Result]:
        """Run requests as one batch; those with invalid samples get an error of their own.

        The arrays may be DALI's own memory: they are valid until the next call.
        """
        return self._run(requests, copies=False)

    def _run(self, requests: Sequence[BackendRequest], *, copies: bool) -> list[Result]:
        if not requests:
            return []
        try:
            return list(self._run_pipeline(requests, copies=copies))
        # DALI raises RuntimeError in its operators, ValueError and TypeError for input that it cannot take, and
        # plugins raise other errors: each is the answer to one request, not to the others of the batch.
        except Exception as error:
            if len(requests) == 1:
                return [RequestError(self._explain(requests[0], error))]
        results: list[Result | None] = [None] * len(requests)
        for places in self._split_requests(requests):
            part = self._run([requests[place] for place in places], copies=True)
            for place, result in zip(places, part, strict=True):
                results[place] = result
        return [result for result in results if result is not None]

    def build(self) -> Any:
        """Return the pipeline, a new one after an error."""
        if self._pipeline is None:
            from nvidia.dali import Pipeline

            settings = {"batch_size": self.batch_size, "num_threads": self.num_threads}
            self._pipeline = Pipeline.deserialize(
                serialized_pipeline=self.serialized,
                device_id=self.device_id,
                **{name: value for name, value in settings.items() if value is not None},
                **_EXECUTOR,
            )
        return self._pipeline

    def _run_pipeline(self, requests: Sequence[BackendRequest], *, copies: bool = True) -> list[Arrays]:
        pipeline = self.build()
        try:
            for name in requests[0].inputs:
                pipeline.feed_input(name, [sample for request in requests for sample in request.inputs[name]])
            self._lists = lists = tuple(output.as_cpu() for output in pipeline.run())
            sizes = [_count_samples(request) for request in requests]
            outputs = {
                name: _split_output(samples, sizes, copies=copies)
                for name, samples in zip(self.outputs, lists, strict=True)
            }
        except BaseException:
            self._pipeline = None
            raise
        return [{name: parts[place] for name, parts in outputs.items()} for place in range(len(requests))]

    def _split_requests(self, requests: Sequence[BackendRequest]) -> list[list[int]]:
        """Return places of requests to run apart: each suspect alone and the others together, else two halves."""
        places = range(len(requests))
        suspects = {place for place in places if any(self._list_suspects(requests[place]))}
        if 0 < len(suspects) < len(requests):
            return [[place for place in places if place not in suspects], *([place] for place in sorted(suspects))]
        middle = len(requests) // 2
        return [list(places[:middle]), list(places[middle:])]

    def _explain(self, request: BackendRequest, error: Exception) -> str:
        """Return one sentence with the input, the sample of the request, and its problem."""
        count = _count_samples(request)
        sample, error = self._find_invalid_sample(request, error)
        which = f", sample {sample + 1} of {count}" if sample is not None and count > 1 else ""
        for name, array in request.inputs.items():
            if sample is not None and (damage := self._find_damage(array[sample])):
                return f"input '{name}'{which} {damage}"
        names = ", ".join(f"'{name}'" for name in request.inputs)
        return f"input {names}{which}: DALI cannot process it: {clean_message(str(error))}"

    def _find_invalid_sample(self, request: BackendRequest, error: Exception) -> tuple[int | None, Exception]:
        """Return a sample that fails by itself, with DALI's error for it; None when all succeed alone."""
        count = _count_samples(request)
        if count <= 1:
            return (0 if count else None), error
        for sample in self._list_suspects(request):
            if narrower := self._find_error(request, [sample]):
                return sample, narrower
        samples, reason = list(range(count)), error
        while len(samples) > 1:
            middle = len(samples) // 2
            for half in (samples[:middle], samples[middle:]):
                if narrower := self._find_error(request, half):
                    samples, reason = half, narrower
                    break
            else:
                return None, error
        return samples[0], reason

    def _find_error(self, request: BackendRequest, samples: list[int]) -> Exception | None:
        """Return DALI's error for some samples of a request alone; None if they succeed."""
        part = BackendRequest({name: array[samples] for name, array in request.inputs.items()}, (), len(samples))
        try:
            self._run_pipeline([part])
        except Exception as error:  # see `answer`
            return error
        return None

    def _list_suspects(self, request: BackendRequest) -> list[int]:
        """Return the samples that look damaged."""
        samples = range(_count_samples(request))
        return [
            sample for sample in samples if any(self._find_damage(array[sample]) for array in request.inputs.values())
        ]

    def _find_damage(self, sample: np.ndarray[Any, Any]) -> str | None:
        if not self.decodes_images or sample.ndim != 1 or sample.dtype != np.uint8:
            return None
        return describe_damage(sample.tobytes())


def _count_samples(request: BackendRequest) -> int:
    return int(next(iter(request.inputs.values())).shape[0])


def _split_output(output: Any, sizes: Sequence[int], *, copies: bool) -> list[np.ndarray[Any, Any]]:
    """Return the samples of one output as one array per request.

    With ``copies`` they are copied out of DALI's buffers, which the next run uses again.
    """
    parts = []
    start = 0
    whole = np.array(output.as_array(), copy=copies) if output.is_dense_tensor() else None
    for size in sizes:
        stop = start + size
        if whole is not None:
            parts.append(whole[start:stop])
        else:
            samples = [np.array(output.at(place)) for place in range(start, stop)]
            shapes = sorted({sample.shape for sample in samples})
            if len(shapes) > 1:
                raise ValueError(f"the samples of one request have outputs of different shapes: {shapes}")
            parts.append(np.stack(samples))
        start = stop
    return parts


def describe_damage(content: bytes) -> str | None:
    """Return what is wrong with the bytes of an image file, as the end of a sentence; None when they look complete.

    Zeros after the image are ignored: they are padding in a batch of files of different sizes.
    """
    if not content:
        return "is empty"
    image = content.rstrip(b"\0")
    if not image:
        return f"contains {len(content)} zero bytes and no image"
    name = next((name for name, start in _FORMATS if start.match(content)), None)
    if name is None:
        return f"is not an image of a format that DALI decodes: it starts with {_describe_start(content)}"
    # A progressive JPEG ends with the marker EOI like any other; some cameras write more behind it.
    if (name == "JPEG" and b"\xff\xd9" not in image[-65536:]) or (name == "PNG" and b"IEND" not in image[-65536:]):
        return f"is a {name} that was cut off: its {len(image)} bytes end before the image does"
    return None


def clean_message(message: str) -> str:
    """Return the reason in a message of DALI in one line, without its stack traces."""
    text = message.split("encountered:")[-1]
    text = re.sub(r"Stacktrace \(.*|Current pipeline object is[^.]*valid\.?", "", text, flags=re.DOTALL)
    text = re.sub(r"\[/[^\]]*\]\s*|Critical error in pipeline:|C\+\+ context:.*", "", text)
    text = re.sub(r"sample #\d+", "the sample", text)  # its place in a batch that the sender does not see
    text = re.sub(r"nvImageCodec failure: '#(\d+)'", lambda found: _describe_status(found[1]), text)
    return re.sub(r"\s+", " ", text).strip(" :.") or "DALI gave no reason"


def _describe_status(number: str) -> str:
    return _STATUSES.get(number, f"nvImageCodec status {number}")


def _describe_start(content: bytes) -> str:
    start = content[:16]
    if re.fullmatch(rb"[\x20-\x7e\s]+", start):
        return f"the text {start.decode('ascii')!r}"
    return f"the bytes {start[:8].hex(' ')}"
