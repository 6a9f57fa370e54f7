"""The tensors of `tritonforge infer`: what ``--input`` names, read from the argument, a file or standard input."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE, from_numpy
from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.client import TensorMetadata
from tritonforge.inference.tensor_values import (
    convert_array,
    convert_bytes,
    convert_json,
    convert_text,
)
from tritonforge.inference.wire import Parameter, RequestedOutput, decode_request

__all__ = ["InputArguments", "InputValue", "read_inputs"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputValue:
    """A value for one input: ``convert`` makes the array that the input's metadata asks for.

    ``own`` is the datatype and shape that the value has by itself, None for text and plain JSON.
    """

    convert: Callable[[TensorMetadata], Array]
    own: TensorMetadata | None = None


@dataclass(frozen=True, slots=True)
class InputArguments:
    """What all ``--input`` options give.

    ``values`` by input; ``unnamed`` is for the only input that is left. ``image_input`` names the input that takes the
    IMAGES. ``id``, ``parameters`` and ``outputs`` are those of a KServe request that was given as JSON.
    """

    values: Mapping[str, InputValue]
    unnamed: InputValue | None = None
    image_input: str | None = None
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.unnamed)

    def arrays(
        self, tensors: Sequence[TensorMetadata] | None, *, spared: str | None = None, reason: str = ""
    ) -> dict[str, Array]:
        """The arrays by input, for a model with these inputs; None where the server does not tell them.

        ``spared`` is an input that something else fills; ``reason`` says why there are no ``tensors``. Raises
        click.UsageError and EncodeError.
        """
        values = dict(self.values)
        if self.unnamed is not None:
            values[self._only_input(tensors, spared)] = self.unnamed
        if tensors is None:
            return dict(_by_own_metadata(values, reason))
        known = {tensor.name: tensor for tensor in tensors}
        for name in values:
            if name not in known:
                raise click.UsageError(f"the model has no input {name!r}; its inputs are {', '.join(known)}")
        return {name: value.convert(known[name]) for name, value in values.items()}

    def _only_input(self, tensors: Sequence[TensorMetadata] | None, spared: str | None) -> str:
        left = [tensor.name for tensor in tensors or () if tensor.name not in self.values and tensor.name != spared]
        if len(left) != 1:
            names = f" (its inputs are {', '.join(tensor.name for tensor in tensors)})" if tensors else ""
            raise click.UsageError(f"name the input that takes the value, as in --input NAME=VALUE{names}")
        return left[0]


def read_inputs(arguments: Sequence[str], stdin: BinaryIO) -> InputArguments:
    """Read all ``--input`` options; ``@-`` reads standard input. Raises click.UsageError for what cannot be read."""
    values: dict[str, InputValue] = {}
    more: dict[str, Any] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if argument.startswith("@"):
            found = _document(argument[1:], stdin)
        elif separator:
            found = InputArguments({_checked(name, argument): _value(name, text, stdin)})
        else:
            found = InputArguments({}, image_input=_checked(name, argument))
        for key in ("unnamed", "image_input", "id", "parameters", "outputs"):
            if value := getattr(found, key):
                if key in more:
                    raise click.UsageError(f"--input {argument}: only one --input can give this; write NAME=VALUE")
                more[key] = value
        for key, given in found.values.items():
            if key in values:
                raise click.UsageError(f"--input {argument}: input {key!r} is given twice")
            values[key] = given
    return InputArguments(values, **more)


def _checked(name: str, argument: str) -> str:
    if not name:
        raise click.UsageError(f"--input {argument}: the input's name is missing; write NAME=VALUE")
    return name


def _value(name: str, text: str, stdin: BinaryIO) -> InputValue:
    if not text.startswith("@"):
        return InputValue(partial(convert_text, text))
    path = text[1:]
    content = _content(path, stdin, hint="; text that starts with @ is written as JSON: " + json.dumps([text]))
    return _file_value(name, path, content)


def _file_value(name: str, path: str, content: bytes) -> InputValue:
    suffix = Path(path).suffix.lower()
    if suffix in (".npy", ".npz"):
        arrays = _arrays(path, content)
        if name in arrays:
            return _array_value(name, arrays[name])
        if len(arrays) == 1:
            return _array_value(name, next(iter(arrays.values())))
        raise click.UsageError(f"{path}: there is no array {name!r} in it; it has {', '.join(arrays) or 'none'}")
    if suffix == ".json":
        return InputValue(partial(convert_json, _json(path, content)))
    if suffix == ".txt":
        return InputValue(partial(_text_file, content))
    return InputValue(partial(convert_bytes, content))


def _document(path: str, stdin: BinaryIO) -> InputArguments:
    """Several inputs of one file: the arrays of an ``.npz``, or a JSON object of values or of a KServe request."""
    content = _content(path, stdin)
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return InputArguments({name: _array_value(name, array) for name, array in _arrays(path, content).items()})
    if path != "-" and suffix != ".json":
        return InputArguments({}, unnamed=_file_value("", path, content))
    document = _json(path, content)
    if not isinstance(document, dict):
        return InputArguments({}, unnamed=InputValue(partial(convert_json, document)))
    entries = document.get("inputs")
    if isinstance(entries, list) and all(isinstance(entry, dict) and "name" in entry for entry in entries):
        return _kserve_request(_shown(path), document, entries)
    return InputArguments({name: InputValue(partial(convert_json, value)) for name, value in document.items()})


def _kserve_request(where: str, document: dict[str, Any], entries: list[dict[str, Any]]) -> InputArguments:
    values: dict[str, InputValue] = {}
    for entry in entries:
        name = str(entry["name"])
        if "data" not in entry:
            raise click.UsageError(f"{where}: input {name!r} has no data; binary tensors have no form in JSON")
        if name in values:
            raise click.UsageError(f"{where}: input {name!r} is given twice")
        values[name] = _kserve_value(where, name, entry)
    rest = {key: value for key, value in document.items() if key in ("id", "parameters", "outputs")}
    try:
        request = decode_request(json.dumps({**rest, "inputs": []}).encode())
    except DecodeError as error:
        raise click.UsageError(f"{where}: {error}") from error
    return InputArguments(values, id=request.id, parameters=request.parameters, outputs=request.outputs)


def _kserve_value(where: str, name: str, entry: dict[str, Any]) -> InputValue:
    shape, datatype = entry.get("shape"), entry.get("datatype")
    if shape is None or datatype is None:
        return InputValue(partial(convert_json, entry["data"]))
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise click.UsageError(f"{where}: input {name!r}: shape must be a list of whole numbers, got {shape!r:.60}")
    if datatype not in BY_WIRE:
        raise click.UsageError(f"{where}: input {name!r}: {datatype!r:.40} is not one of {', '.join(BY_WIRE)}")
    flat = TensorMetadata(name, datatype, (-1,))
    own = TensorMetadata(name, datatype, tuple(shape))
    try:
        array = convert_json(_leaves(entry["data"]), flat)
    except EncodeError as error:
        raise click.UsageError(f"{where}: {error}") from error
    if array.size != math.prod(shape):
        raise click.UsageError(
            f"{where}: input {name!r}: expected {math.prod(shape)} elements for shape {shape}, got {array.size}"
        )
    return InputValue(partial(_exact, array.reshape(shape)), own)


def _exact(array: Array, tensor: TensorMetadata) -> Array:
    """The array of a KServe request, which states its datatype: no other is made of it."""
    own = from_numpy(array.dtype)
    if own is not None and own.wire != tensor.datatype:
        raise click.UsageError(
            f"input {tensor.name!r}: expected {tensor.datatype} of shape {list(tensor.shape)}, got a request that says "
            f"{own.wire}"
        )
    return convert_array(array, tensor)


def _leaves(data: object) -> list[Any]:
    """The elements of nested lists, in order: a KServe request may nest them or not."""
    leaves: list[Any] = []
    waiting = [data]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting.extend(reversed(entry))
        else:
            leaves.append(entry)
    return leaves


def _array_value(name: str, array: Array) -> InputValue:
    datatype = from_numpy(array.dtype)
    own = None if datatype is None else TensorMetadata(name, datatype.wire, array.shape)
    return InputValue(partial(convert_array, array), own)


def _by_own_metadata(values: Mapping[str, InputValue], reason: str) -> Iterator[tuple[str, Array]]:
    for name, value in values.items():
        if value.own is None:
            raise click.UsageError(
                f"{reason}. The datatype and shape of input {name!r} are needed: give it as {name}=@FILE.npy, or as a "
                "KServe request in JSON"
            )
        yield name, value.convert(value.own)


def _text_file(content: bytes, tensor: TensorMetadata) -> Array:
    if tensor.datatype == "BYTES":
        return convert_bytes(content, tensor)
    return convert_text(content.decode("utf-8", "replace"), tensor)


def _content(path: str, stdin: BinaryIO, *, hint: str = "") -> bytes:
    if path == "-":
        if stdin.closed:
            raise click.UsageError("standard input (@-) can be read once only")
        with stdin:
            return stdin.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path or '@'}: {error.strerror}{hint}") from error
    except ValueError as error:
        raise click.UsageError(f"{path!a}: {error}") from error


def _arrays(path: str, content: bytes) -> dict[str, Array]:
    """The arrays of a ``.npz`` by name; of a ``.npy`` one without a name. Nothing in it is unpickled."""
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else "it is damaged or not numpy's"
        raise click.UsageError(
            f"{path}: expected arrays of numbers or text in numpy's format, but {reason}; write it with numpy.save or "
            "numpy.savez"
        ) from error


def _json(path: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise click.UsageError(f"{_shown(path)}: expected JSON: {reason}") from error


def _shown(path: str) -> str:
    return "standard input" if path == "-" else path
