"""How fast the wire is, beside memcpy and NVIDIA's tritonclient: both sides of a ratio in one run, alternating.

``run()`` gives one row a figure: ``name``, ``ours_ms`` and ``other_ms`` (medians of one call), ``ratio``, ``target``
(the bound on the ratio, as text) and ``ok``. The ratio is the median of the ratios of neighbouring calls, so that a
machine that is slower for a while slows both sides. memcpy is one copy of the same bytes into memory that is already
there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tritonclient.http as tritonclient

from tritonforge.inference.wire import decode_response, encode_request, encode_response

Row = dict[str, Any]

#: 8.6 MB: a batch of eight 299x299 RGB images as FP32, Inception V3's input.
BATCH = (8, 299, 299, 3)
JPEGS, JPEG_BYTES = 64, 100_000
LABELS = 100_000


def run() -> list[Row]:
    """All figures; about ten seconds on two cores."""
    random = np.random.default_rng(0)
    batch = random.random(BATCH, dtype=np.float32)
    jpegs = np.empty((JPEGS, 1), dtype=object)
    jpegs[:, 0] = [random.bytes(JPEG_BYTES) for _ in range(JPEGS)]
    labels = np.array([b"class %d" % index for index in range(LABELS)], dtype=object)
    return [
        compared(
            "encode 8.6 MB FP32, one body / memcpy",
            lambda: encode_request({"input": batch}).body,
            memcpy([batch]),
            at_most=1.15,
        ),
        compared(
            "encode 8.6 MB FP32, buffers / tritonclient's body",
            lambda: encode_request({"input": batch}).buffers,
            lambda: tritonclient_body("input", batch, "FP32"),
            faster=50,
        ),
        compared(
            "encode 64 JPEGs of 100 KB as BYTES, one body / memcpy",
            lambda: encode_request({"input": jpegs}).body,
            memcpy([np.frombuffer(picture, dtype=np.uint8) for picture in jpegs[:, 0]]),
            at_most=1.2,
        ),
        compared(
            "encode 64 JPEGs of 100 KB as BYTES, buffers / tritonclient's body",
            lambda: encode_request({"input": jpegs}).buffers,
            lambda: tritonclient_body("input", jpegs, "BYTES"),
        ),
        compared(
            "encode 100,000 labels as BYTES, one body / tritonclient",
            lambda: encode_request({"input": labels}).body,
            lambda: tritonclient_body("input", labels, "BYTES"),
        ),
        decoded("decode 8.6 MB FP32 / tritonclient", batch, faster=3),
        decoded("decode 64 JPEGs of 100 KB as BYTES / tritonclient", jpegs, faster=None),
        decoded("decode 100,000 labels as BYTES / tritonclient", labels, faster=None),
        decoded("decode 1001 probabilities / tritonclient", batch.reshape(-1)[:1001].reshape(1, 1001), faster=None),
        compared(
            "encode one 100 KB image, JSON / tritonclient",
            lambda: encode_request({"input": image_bytes(jpegs)}, binary=False).body,
            lambda: tritonclient_body("input", image_bytes(jpegs), "UINT8", binary=False),
        ),
    ]


def image_bytes(jpegs: Any) -> Any:
    """The first image as a UINT8 batch of one."""
    return np.frombuffer(jpegs[0, 0], dtype=np.uint8).reshape(1, -1)


def memcpy(parts: Sequence[Any]) -> Callable[[], object]:
    """One copy of all the parts' bytes into memory that was touched before."""
    sources = [np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts]
    target = np.zeros(sum(source.nbytes for source in sources), dtype=np.uint8)

    def copy() -> object:
        at = 0
        for source in sources:
            target[at : at + source.nbytes] = source
            at += source.nbytes
        return target

    return copy


def tritonclient_body(name: str, array: Any, datatype: str, *, binary: bool = True) -> bytes:
    """The request body that NVIDIA's HTTP client builds."""
    tensor = tritonclient.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    body, _ = tritonclient.InferenceServerClient.generate_request_body([tensor])
    return bytes(body) if not isinstance(body, bytes) else body


def decoded(name: str, array: Any, *, faster: float | None) -> Row:
    """Decoding a response with this one output, against tritonclient's InferResult."""
    payload = encode_response({"output": array}, model_name="model")
    body, length = payload.body, payload.header_length

    def other() -> object:
        return tritonclient.InferResult.from_response_body(body, header_length=length).as_numpy("output")

    return compared(name, lambda: decode_response(body, header_length=length)["output"], other, faster=faster)


def compared(
    name: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    at_most: float | None = None,
    faster: float | None = None,
    seconds: float = 0.8,
) -> Row:
    """The row of one comparison: the ratio is ours / other where it must stay below, else other / ours."""
    once = max(timed(ours) + timed(other), 1e-6)
    pairs = [(timed(ours), timed(other)) for _ in range(max(15, min(2000, int(seconds / once))))]
    below = at_most is not None
    ratio = statistics.median(mine / theirs if below else theirs / mine for mine, theirs in pairs)
    target = f"<= {at_most}" if at_most is not None else f">= {faster}" if faster is not None else ""
    return {
        "name": name,
        "ours_ms": statistics.median(mine for mine, _ in pairs) * 1e3,
        "other_ms": statistics.median(theirs for _, theirs in pairs) * 1e3,
        "ratio": ratio,
        "target": target,
        "ok": ratio <= at_most if at_most is not None else faster is None or ratio >= faster,
    }


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call; its result is freed inside of the time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in run():
        mark = "ok" if row["ok"] else "MISSED"
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:66} {row['ours_ms']:9.3f} ms {row['other_ms']:9.3f} ms"
            f" {row['ratio']:8.2f} {row['target']:8} {mark}"
        )
