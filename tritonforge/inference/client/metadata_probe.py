"""A model's inputs, learned from the sentences with which Triton refuses a request. This module does no I/O.

The SageMaker front end has no call for metadata, but Triton checks a request before it runs a model, and says what it
expected: first the number and names of the inputs, then each input's datatype, then its shape
(core/src/infer_request.cc, ``InferenceRequest::Normalize``). A request that is wrong on purpose is answered at once,
with status 400, and no model runs. Read on tritonserver 2.51; a server that words it otherwise gives no metadata, not
wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np

from tritonforge.datatypes import BY_WIRE
from tritonforge.inference.client.transports import TensorMetadata
from tritonforge.inference.wire import Payload, encode_request

__all__ = ["learn_inputs"]

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


def learn_inputs(refusal: Callable[[Payload], str], *, named: Collection[str] = ()) -> tuple[TensorMetadata, ...]:
    """The required inputs of a model, in the order of their names; empty where the server does not tell.

    ``refusal`` sends a payload and gives the sentence of the error that came back, empty when none came. It is called
    once for the names, and at most three times for each input. ``named`` are inputs that the caller has values for: of
    those that the model has, the optional ones are learned as well.
    """
    # More inputs than any model has: Triton counts them first, and then lists the required ones that are missing.
    too_many = {f"tritonforge.probe.{index}": np.zeros(1, dtype=np.bool_) for index in range(_MOST_INPUTS)}
    missing = _MISSING.search(refusal(encode_request(too_many)))
    if missing is None:
        return ()
    required = re.findall(r"'([^']*)'", missing[1])
    names = list(dict.fromkeys([*required, *named]))
    probes: dict[str, Any] = {name: _probe("BOOL") for name in names}
    datatypes = dict.fromkeys(names, "BOOL")
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(3 * len(names)):
        if len(shapes) == len(probes):  # a request that fits would run the model
            break
        sentence = refusal(encode_request(probes))
        if (told := _DATATYPE.search(sentence)) and told[1] in probes and told[2] in BY_WIRE:
            datatypes[told[1]] = told[2]
            probes[told[1]] = _probe(told[2])
        elif (told := _SHAPE.search(sentence)) and told[1] in probes:
            shapes[told[1]] = tuple(int(each) for each in told[2].split(",") if each)
            # From here on this input passes, and the sentence is about the next one.
            probes[told[1]] = _fitting(datatypes[told[1]], shapes[told[1]])
        elif (told := _UNEXPECTED.search(sentence)) and told[1] in probes and told[1] not in required:
            del probes[told[1]]
        elif _MISSING.search(sentence) and len(probes) > len(required):  # several of `named` are not the model's
            return learn_inputs(refusal)
        else:
            break
    return tuple(TensorMetadata(name, datatypes[name], shapes[name]) for name in names if name in shapes)


def _probe(datatype: str) -> Any:
    return _fitting(datatype, (1,) * _RANK)


def _fitting(datatype: str, shape: tuple[int, ...]) -> Any:
    """An array of this shape, 1 for each -1, and empty where that is not needed to be right."""
    concrete = tuple(max(each, 1) if each else 0 for each in shape)
    if datatype == "BYTES":
        return np.full(concrete, b"", dtype=object)
    return np.zeros(concrete, dtype=BY_WIRE[datatype].dtype)
