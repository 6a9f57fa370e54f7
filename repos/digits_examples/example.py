"""A Triton model that takes the bytes of one feature out of each serialised tf.train.Example. It needs numpy only.

The feature's name is the model's parameter ``feature``. Sources: TensorFlow, core/example/example.proto and
feature.proto; protobuf's wire format (protobuf.dev, "Encoding").
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TritonPythonModel:
    """Input: TYPE_STRING [1], one Example for each entry of the batch. Output: TYPE_UINT8 [-1], padded with zeros."""

    def initialize(self, args):
        """Read the configuration: the feature, and how the tensors are called."""
        config = json.loads(args["model_config"])
        self._feature = config["parameters"]["feature"]["string_value"].encode()
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]

    def execute(self, requests):
        """Answer each request by itself, so that a bad record costs its neighbours nothing."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        examples = pb_utils.get_input_tensor_by_name(request, self._input).as_numpy().reshape(-1)
        try:
            values = [feature_bytes(example, self._feature) for example in examples]
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"the tf.train.Example: {error}"))
        padded = np.zeros((len(values), max(map(len, values))), dtype=np.uint8)
        for row, value in zip(padded, values, strict=True):
            row[: len(value)] = np.frombuffer(value, dtype=np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._output, padded)])


def feature_bytes(example, name):
    """The first bytes of a feature; raises ValueError."""
    found = None
    for features in _submessages(memoryview(example), 1):
        for entry in _submessages(features, 1):
            if any(bytes(key) == name for key in _submessages(entry, 1)):
                for feature in _submessages(entry, 2):
                    for values in _submessages(feature, 1):
                        found = next(_submessages(values, 1), found)
    if found is None or not len(found):
        raise ValueError(f"it has no bytes in a feature {name.decode()!r}")
    return found


def _submessages(message, number):
    """The content of each field of this number that has a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError(f"a field of {size} bytes at byte {at} goes beyond the end of its {len(message)}")
            if tag >> 3 == number:
                yield message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind} at byte {at} is none of protobuf's")
    if at > len(message):
        raise ValueError("it is cut off")


def _varint(message, at):
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"a number is cut off at byte {at}")
