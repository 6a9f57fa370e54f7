"""The program of a process that sends requests: ``python -m tritonforge.profiling.load_worker``.

Standard input has the plan: a line of JSON, then the messages one after another; the end of input, or any byte after
the plan, stops the program. Standard output gets frames: a line of JSON with the number of times, errors, and the
processor's seconds, then the times as doubles: due, sent, answered.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

from tritonforge.profiling.http_load import HttpLoad, Samples

__all__ = ["main", "schedule_requests"]

_TICK: Final = 0.1  # seconds between frames


def schedule_requests(
    rate: float, *, is_poisson: bool, begin: float, seed: int, offset: float = 0.0
) -> Iterator[float]:
    """Yield when requests are due, without an end.

    Args:
        rate: requests per second.
        is_poisson: draw the times between requests from the exponential distribution; they are equal otherwise.
        begin: the time before the first request, in seconds.
        seed: of the random numbers.
        offset: of equal times, from 0 to 1: several processes send in turn.
    """
    if is_poisson:
        generator = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        due = begin
        while True:
            due += generator.expovariate(rate)
            yield due
    count = offset
    while True:
        yield begin + count / rate
        count += 1


def main() -> int:
    """Read the plan, send requests until the end of the input, and write what was measured."""
    plan, messages = _read_plan(sys.stdin.buffer)
    samples = Samples()

    def schedule() -> Iterator[float] | None:
        """Return when requests are due from now on; None for a closed loop."""
        if plan["rate"] is None:
            return None
        return schedule_requests(
            plan["rate"],
            is_poisson=plan["is_poisson"],
            begin=time.monotonic(),
            seed=plan["seed"],
            offset=plan["offset"],
        )

    with ExitStack() as stack:
        load: Any
        if plan["engine"] == "http":
            load = HttpLoad(
                (plan["host"], plan["port"]),
                messages=messages,
                scripts=plan["scripts"],
                connections=plan["connections"],
                dues=schedule(),
                timeout=plan["timeout"],
                samples=samples,
            )
        else:
            from tritonforge.profiling.transport_load import TransportLoad
            from tritonforge.profiling.transport_sender import open_sender

            send = stack.enter_context(open_sender(plan, messages))
            load = TransportLoad(
                send, scripts=plan["scripts"], connections=plan["connections"], dues=schedule(), samples=samples
            )
        stack.callback(load.close)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection delays requests; nothing here makes cycles

        def report() -> bool:
            _write_frame(samples if plan["engine"] == "http" else load.take())
            return not _is_stop_requested()

        load.run(control=0, on_tick=report, tick=_TICK)
        report()
    return 0


def _read_plan(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
    plan: dict[str, Any] = json.loads(stream.readline())
    messages = [stream.read(size) for size in plan["sizes"]]
    os.set_blocking(0, False)
    return plan, messages


def _is_stop_requested() -> bool:
    try:
        os.read(0, 1)
    except BlockingIOError:
        return False
    return True


def _write_frame(samples: Samples) -> None:
    head = {
        "times": len(samples.times), "errors": samples.errors, "cpu": time.process_time(), "now": time.monotonic(),
    }  # fmt: skip
    data = memoryview(json.dumps(head).encode() + b"\n" + samples.times.tobytes())
    samples.times = type(samples.times)("d")
    samples.errors = {}
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
