"""What sends a prepared request through a transport of the client: gRPC, SageMaker or HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tritonforge.inference.client import Client
from tritonforge.inference.transports import Call, StreamingTransport
from tritonforge.inference.wire import Payload

__all__ = ["open_sender"]


@contextmanager
def open_sender(plan: Mapping[str, Any], messages: Sequence[bytes]) -> Iterator[Callable[[int], None]]:
    """Yield a function that sends the message of a number and returns when its last answer arrived.

    Args:
        plan: of `load_worker`: url, model, model_version, header_lengths, is_decoupled, timeout, connections, options.
        messages: the bodies of requests.

    Raises:
        ConnectError, ServerError, DecodeError: from the function.
    """
    calls = [
        Call(Payload((message,), length), plan["model"], plan["model_version"])
        for message, length in zip(messages, plan["header_lengths"], strict=True)
    ]
    with Client(
        plan["url"],
        timeout=plan["timeout"],
        connections=plan["connections"],
        front_end=plan["front_end"],
        **plan["options"],
    ) as client:
        transport = client.transport
        if plan["is_decoupled"]:
            assert isinstance(transport, StreamingTransport)  # `measure` refuses decoupled models of other addresses

            def stream(number: int) -> None:
                for _ in transport.stream(calls[number]):
                    pass

            yield stream
        elif (prepare := getattr(transport, "prepare", None)) is not None:
            prepared = [prepare(call) for call in calls]
            yield lambda number: prepared[number]()
        else:

            def send(number: int) -> None:
                transport.infer(calls[number])

            yield send
