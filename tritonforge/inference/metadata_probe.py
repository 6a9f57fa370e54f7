"""A model's inputs, read from the messages with which Triton refuses a request. This module does no I/O.

The SageMaker front end has no call for metadata, but Triton checks a request before it runs a model, and reports what
it expected: first the number and names of the inputs, then each input's datatype, then its shape
(core/src/infer_request.cc, ``InferenceRequest::Normalize``). A request that is wrong on purpose is answered at once,
with status 400, and no model runs. Read on tritonserver 2.51; other wording gives no metadata rather than wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

import numpy as np

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import ServerError
from tritonforge.inference.transports import Call, RelayError, TensorMetadata, Transport
from tritonforge.inference.wire import Payload, encode_request

__all__ = ["Send", "correct_input", "probe_inputs", "probe_names", "send_invalid"]

#: Sends a payload and returns the message of the error that came back, empty when none came.
Send: TypeAlias = Callable[[Payload], str]

_MISSING: Final = re.compile(
    r"expected (?:number of inputs between \d+ and )?\d+ (?:inputs )?but got \d+ inputs for model .*"
    r"missing required input\(s\) \[?(.*?)\]\. Please",
    re.DOTALL,
)
_UNEXPECTED: Final = re.compile(r"unexpected inference input '(.+?)' for model")
_DATATYPE: Final = re.compile(r"inference input '(.+?)' data-type is '\w+', but model '.*' expects '(\w+)'")
_SHAPE: Final = re.compile(r"unexpected shape for input '(.+?)' for model '.*'\. Expected \[([-\d,]*)\], got")

#: How many inputs no model has.
_MOST_INPUTS: Final = 256
#: More dimensions than any model's input has, so that the shape is refused too.
_RANK: Final = 19


def send_invalid(transport: Transport, call: Call) -> str:
    """Send a request that the model's server should refuse, and return the message of its error; "" if it accepts.

    Raises ServerError where the answer is not about the request, and ConnectError.
    """
    try:
        transport.infer(call)
    except RelayError:  # the model did not see the request
        raise
    except ServerError as error:
        if error.status >= 500 or error.status == 404:
            raise
        return error.message
    return ""


def probe_names(send: Send) -> tuple[str, ...] | None:
    """Return the names of a model's required inputs, by one request; None where the server does not report them."""
    # More inputs than any model has: Triton counts them first, and then lists the required ones that are missing.
    too_many = {f"tritonforge.probe.{index}": np.zeros(1, dtype=np.bool_) for index in range(_MOST_INPUTS)}
    missing = _MISSING.search(send(encode_request(too_many)))
    return None if missing is None else tuple(re.findall(r"'([^']*)'", missing[1]))


def correct_input(tensor: TensorMetadata, message: str) -> TensorMetadata | None:
    """Return an input as the refusal of a request describes it; None where the message is about something else."""
    if (match := _DATATYPE.search(message)) and match[1] == tensor.name and match[2] in BY_WIRE:
        return TensorMetadata(tensor.name, match[2], tensor.shape)
    if (match := _SHAPE.search(message)) and match[1] == tensor.name:
        shape = _parse_shape(match[2])
        return None if len(shape) == len(tensor.shape) else TensorMetadata(tensor.name, tensor.datatype, shape)
    return None


def probe_inputs(send: Send, *, named: Collection[str] = ()) -> tuple[TensorMetadata, ...]:
    """Return the required inputs of a model, in the order of their names; empty where the server does not report them.

    ``send`` is called once for the names, and at most three times for each input. ``named`` are inputs that the caller
    has values for: of those that the model has, the optional ones are returned as well.
    """
    required = probe_names(send)
    if required is None:
        return ()
    names = list(dict.fromkeys([*required, *named]))
    probes: dict[str, Any] = {name: _build_probe("BOOL") for name in names}
    datatypes = dict.fromkeys(names, "BOOL")
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(3 * len(names)):
        if len(shapes) == len(probes):  # a request that fits would run the model
            break
        message = send(encode_request(probes))
        if (match := _DATATYPE.search(message)) and match[1] in probes and match[2] in BY_WIRE:
            datatypes[match[1]] = match[2]
            probes[match[1]] = _build_probe(match[2])
        elif (match := _SHAPE.search(message)) and match[1] in probes:
            shapes[match[1]] = _parse_shape(match[2])
            # From here on this input passes, and the message is about the next one.
            probes[match[1]] = _build_array(datatypes[match[1]], shapes[match[1]])
        elif (match := _UNEXPECTED.search(message)) and match[1] in probes and match[1] not in required:
            del probes[match[1]]
        elif _MISSING.search(message) and len(probes) > len(required):  # several of `named` are not the model's
            return probe_inputs(send)
        else:
            break
    return tuple(TensorMetadata(name, datatypes[name], shapes[name]) for name in names if name in shapes)


def _parse_shape(text: str) -> tuple[int, ...]:
    return tuple(int(extent) for extent in text.split(",") if extent)


def _build_probe(datatype: str) -> Any:
    return _build_array(datatype, (1,) * _RANK)


def _build_array(datatype: str, shape: tuple[int, ...]) -> Any:
    """Return an array of this shape, with 1 for each -1; a 0 stays."""
    concrete = tuple(max(extent, 1) if extent else 0 for extent in shape)
    if datatype == "BYTES":
        return np.full(concrete, b"", dtype=object)
    return np.zeros(concrete, dtype=BY_WIRE[datatype].dtype)
