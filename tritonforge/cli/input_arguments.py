"""The tensors and images that commands take, read from the argument, a file or standard input."""

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
from tritonforge.files import describe_error
from tritonforge.inference.client import TensorMetadata
from tritonforge.inference.model_inputs import convert_array, convert_bytes, convert_json, convert_text
from tritonforge.inference.wire import Parameter, RequestedOutput, decode_request

__all__ = ["InputArguments", "InputValue", "read_image", "read_inputs"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputValue:
    """A value for one input: ``convert`` makes the array that the input's metadata require.

    ``metadata`` is the value's own datatype and shape, None for text and plain JSON.
    """

    convert: Callable[[TensorMetadata], Array]
    metadata: TensorMetadata | None = None


@dataclass(frozen=True, slots=True)
class InputArguments:
    """The values of all ``--input`` options.

    ``values`` by input; ``unnamed`` is for the only remaining input. ``image_input`` names the input that takes the
    IMAGES. ``id``, ``parameters`` and ``outputs`` are those of a KServe request in JSON.
    """

    values: Mapping[str, InputValue]
    unnamed: InputValue | None = None
    image_input: str | None = None
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.unnamed)

    def convert(
        self, tensors: Sequence[TensorMetadata] | None, *, excluded: str | None = None, reason: str = ""
    ) -> dict[str, Array]:
        """Return the arrays by input.

        Args:
            tensors: the model's inputs, None if the server does not provide them.
            excluded: an input that something else fills.
            reason: why ``tensors`` is None.

        Raises:
            click.UsageError: an option does not fit the model.
            EncodeError: a value cannot be converted to its input.
        """
        values = dict(self.values)
        if self.unnamed is not None:
            values[self._find_remaining_input(tensors, excluded)] = self.unnamed
        if tensors is None:
            return dict(_convert_by_own_metadata(values, reason))
        known = {tensor.name: tensor for tensor in tensors}
        for name in values:
            if name not in known:
                raise click.UsageError(f"the model has no input {name!r}; its inputs are {', '.join(known)}")
        return {name: value.convert(known[name]) for name, value in values.items()}

    def _find_remaining_input(self, tensors: Sequence[TensorMetadata] | None, excluded: str | None) -> str:
        remaining = [
            tensor.name for tensor in tensors or () if tensor.name not in self.values and tensor.name != excluded
        ]
        if len(remaining) != 1:
            names = f" (its inputs are {', '.join(tensor.name for tensor in tensors)})" if tensors else ""
            raise click.UsageError(f"--input must name the input that takes the value: --input NAME=VALUE{names}")
        return remaining[0]


def read_inputs(arguments: Sequence[str], stdin: BinaryIO, *, has_images: bool = False) -> InputArguments:
    """Read all ``--input`` options; ``@-`` is standard input, and a name alone is that of the input of IMAGES.

    Raises:
        click.UsageError: a value cannot be read, or there is a name alone without IMAGES.
    """
    values: dict[str, InputValue] = {}
    more: dict[str, Any] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if argument.startswith("@"):
            given = _read_document(argument[1:], stdin)
        elif separator:
            given = InputArguments({_check_name(name, argument): _read_value(name, text, stdin)})
        elif has_images:
            given = InputArguments({}, image_input=_check_name(name, argument))
        else:
            raise click.UsageError(f"--input {argument}: write NAME=VALUE, or pass IMAGES for this input")
        for key in ("unnamed", "image_input", "id", "parameters", "outputs"):
            if value := getattr(given, key):
                if key in more:
                    raise click.UsageError(f"--input {argument}: duplicate {key.replace('_', ' ')}; write NAME=VALUE")
                more[key] = value
        for key, entry in given.values.items():
            if key in values:
                raise click.UsageError(f"--input {argument}: duplicate input {key!r}")
            values[key] = entry
    return InputArguments(values, **more)


def read_image(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        click.UsageError: the file cannot be read or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: cannot read: {describe_error(error)}") from error
    if not content:
        raise click.UsageError(f"{path}: the file is empty")
    return content


def _check_name(name: str, argument: str) -> str:
    if not name:
        raise click.UsageError(f"--input {argument}: the input's name is missing; write NAME=VALUE")
    return name


def _read_value(name: str, text: str, stdin: BinaryIO) -> InputValue:
    if not text.startswith("@"):
        return InputValue(partial(convert_text, text))
    path = text[1:]
    content = _read_content(path, stdin, hint="; text that starts with @ is written as JSON: " + json.dumps([text]))
    return _parse_file(name, path, content)


def _parse_file(name: str, path: str, content: bytes) -> InputValue:
    suffix = Path(path).suffix.lower()
    if suffix in (".npy", ".npz"):
        arrays = _load_arrays(path, content)
        if name in arrays:
            return _from_array(name, arrays[name])
        if len(arrays) == 1:
            return _from_array(name, next(iter(arrays.values())))
        raise click.UsageError(f"{path}: array {name!r} not found; it has {', '.join(arrays) or 'none'}")
    if suffix == ".json":
        return InputValue(partial(convert_json, _parse_json(path, content)))
    if suffix == ".txt":
        return InputValue(partial(_convert_text_file, content))
    return InputValue(partial(convert_bytes, content))


def _read_document(path: str, stdin: BinaryIO) -> InputArguments:
    """Read several inputs from one file: an ``.npz``, a JSON object of values, or a KServe request in JSON."""
    content = _read_content(path, stdin)
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return InputArguments({name: _from_array(name, array) for name, array in _load_arrays(path, content).items()})
    if path != "-" and suffix != ".json":
        return InputArguments({}, unnamed=_parse_file("", path, content))
    document = _parse_json(path, content)
    if not isinstance(document, dict):
        return InputArguments({}, unnamed=InputValue(partial(convert_json, document)))
    entries = document.get("inputs")
    if isinstance(entries, list) and all(isinstance(entry, dict) and "name" in entry for entry in entries):
        return _parse_kserve_request(_describe_source(path), document, entries)
    return InputArguments({name: InputValue(partial(convert_json, value)) for name, value in document.items()})


def _parse_kserve_request(where: str, document: dict[str, Any], entries: list[dict[str, Any]]) -> InputArguments:
    values: dict[str, InputValue] = {}
    for entry in entries:
        name = str(entry["name"])
        if "data" not in entry:
            raise click.UsageError(f"{where}: input {name!r} has no data; JSON cannot hold binary tensors")
        if name in values:
            raise click.UsageError(f"{where}: duplicate input {name!r}")
        values[name] = _parse_kserve_value(where, name, entry)
    rest = {key: value for key, value in document.items() if key in ("id", "parameters", "outputs")}
    try:
        request = decode_request(json.dumps({**rest, "inputs": []}).encode())
    except DecodeError as error:
        raise click.UsageError(f"{where}: {error}") from error
    return InputArguments(values, id=request.id, parameters=request.parameters, outputs=request.outputs)


def _parse_kserve_value(where: str, name: str, entry: dict[str, Any]) -> InputValue:
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
        array = convert_json(_flatten(entry["data"]), flat)
    except EncodeError as error:
        raise click.UsageError(f"{where}: {error}") from error
    if array.size != math.prod(shape):
        raise click.UsageError(
            f"{where}: input {name!r}: expected {math.prod(shape)} elements for shape {shape}, got {array.size}"
        )
    return InputValue(partial(_convert_exactly, array.reshape(shape)), own)


def _convert_exactly(array: Array, tensor: TensorMetadata) -> Array:
    """Return the array of a KServe request, whose datatype must be that of the input."""
    own = from_numpy(array.dtype)
    if own is not None and own.wire != tensor.datatype:
        raise click.UsageError(
            f"input {tensor.name!r}: expected {tensor.datatype} of shape {list(tensor.shape)}, got a request with "
            f"{own.wire}"
        )
    return convert_array(array, tensor)


def _flatten(data: object) -> list[Any]:
    """Return the elements of nested lists in order; a KServe request may nest them or not."""
    leaves: list[Any] = []
    waiting = [data]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting.extend(reversed(entry))
        else:
            leaves.append(entry)
    return leaves


def _from_array(name: str, array: Array) -> InputValue:
    datatype = from_numpy(array.dtype)
    own = None if datatype is None else TensorMetadata(name, datatype.wire, array.shape)
    return InputValue(partial(convert_array, array), own)


def _convert_by_own_metadata(values: Mapping[str, InputValue], reason: str) -> Iterator[tuple[str, Array]]:
    for name, value in values.items():
        if value.metadata is None:
            raise click.UsageError(
                f"{reason}. The datatype and shape of input {name!r} are required: pass {name}=@FILE.npy or a "
                "KServe request in JSON"
            )
        yield name, value.convert(value.metadata)


def _convert_text_file(content: bytes, tensor: TensorMetadata) -> Array:
    if tensor.datatype == "BYTES":
        return convert_bytes(content, tensor)
    return convert_text(content.decode("utf-8", "replace"), tensor)


def _read_content(path: str, stdin: BinaryIO, *, hint: str = "") -> bytes:
    if path == "-":
        if stdin.closed:
            raise click.UsageError("standard input (@-) can be read only once")
        with stdin:
            return stdin.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path or '@'}: cannot read: {describe_error(error)}{hint}") from error
    except ValueError as error:
        raise click.UsageError(f"{path!a}: {error}") from error


def _load_arrays(path: str, content: bytes) -> dict[str, Array]:
    """Return the arrays of a ``.npz`` by name, of a ``.npy`` one without a name. Nothing in it is unpickled."""
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        reason = "it contains Python objects" if "allow_pickle" in str(error) else "it is damaged or in another format"
        raise click.UsageError(
            f"{path}: expected arrays of numbers or text in numpy's format, but {reason}; write it with numpy.save or "
            "numpy.savez"
        ) from error


def _parse_json(path: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise click.UsageError(f"{_describe_source(path)}: expected JSON: {reason}") from error


def _describe_source(path: str) -> str:
    return "standard input" if path == "-" else path
