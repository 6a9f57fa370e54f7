"""Trace files as tritonserver 2.51 writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_STEP = ("REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END",
         "REQUEST_END")  # fmt: skip


def write_request(first: int = 1, *, begin: int = 1_000_000, scale: int = 1, request_id: str = "") -> str:
    """Return the records of a request as tritonserver 2.51 writes them: an ensemble with the steps decode, classify.

    The times are microseconds after ``begin``, times ``scale``.
    """

    def step(number: int, model: str, parent: int | None, points: Sequence[tuple[str, int]]) -> Iterator[str]:
        identity = f',"request_id":"{request_id}"' if request_id else ""
        above = f',"parent_id":{parent}' if parent else ""
        for name, time in points:
            if name == "REQUEST_START":
                yield f'{{"id":{number},"model_name":"{model}","model_version":1{identity}{above}}}'
            yield f'{{"id":{number},"timestamps":[{{"name":"{name}","ns":{begin + time * 1000 * scale}}}]}}'

    classify = zip(_STEP, (400, 410, 500, 510, 800, 840, 850), strict=True)
    decode = zip(_STEP, (30, 40, 100, 110, 380, 390, 395), strict=True)
    names = ("HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "QUEUE_START", "INFER_RESPONSE_COMPLETE",
             "HTTP_SEND_START", "HTTP_SEND_END", "REQUEST_END")  # fmt: skip
    root = list(zip(names, (0, 20, 25, 26, 845, 860, 900, 870), strict=True))
    return ",".join(
        [
            *step(first + 2, "classify", first, list(classify)),
            *step(first + 1, "decode", first, list(decode)),
            *step(first, "digits", None, root),
        ]
    )
