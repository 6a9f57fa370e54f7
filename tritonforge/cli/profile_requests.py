"""The requests that `tritonforge profile` sends: of images, of --input, of golden test cases, or generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from tritonforge.cli.input_arguments import InputArguments, read_image
from tritonforge.cli.terminal import format_count
from tritonforge.errors import EncodeError, ServerError
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.inference.client import Client, ModelMetadata, StreamingTransport
from tritonforge.inference.transports import Call
from tritonforge.inference.wire import Parameter, Payload, encode_request
from tritonforge.inference.wire.requests import encode_images, sequence_parameters
from tritonforge.profiling.request_inputs import describe_inputs, generate_inputs
from tritonforge.profiling.target import Target

__all__ = ["ProfileRequests", "build_requests", "send_trial"]

Array = npt.NDArray[Any]
Inputs = dict[str, Array]

#: Generated requests that differ, and the bytes that all of them may have.
_VARIANTS: Final = 8
_MOST_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class ProfileRequests:
    """What is sent.

    Attributes:
        inputs: the arrays of each request.
        description: what they are, in words.
        batch_size: rows of a request.
        sequence_length: requests of a sequence; 0 for models without sequences.
    """

    inputs: tuple[Inputs, ...]
    description: str
    batch_size: int
    sequence_length: int = 0

    def encode(self, *, connections: int) -> tuple[list[Payload], list[list[int]]]:
        """Return the payloads, and the numbers of those that a connection sends; empty for all of them in turn."""
        if not self.sequence_length:
            return [encode_request(inputs) for inputs in self.inputs], []
        payloads: list[Payload] = []
        scripts: list[list[int]] = []
        for number in range(connections):
            inputs = self.inputs[number % len(self.inputs)]
            first = len(payloads)
            if self.sequence_length == 1:
                payloads.append(_encode_part(inputs, number + 1, start=True, end=True))
                scripts.append([first])
                continue
            payloads += [
                _encode_part(inputs, number + 1, start=start, end=end)
                for start, end in ((True, False), (False, False), (False, True))
            ]
            scripts.append([first, *[first + 1] * (self.sequence_length - 2), first + 2])
        return payloads, scripts


def _encode_part(inputs: Inputs, sequence: int, *, start: bool, end: bool) -> Payload:
    parameters: dict[str, Parameter] = sequence_parameters(sequence, start=start, end=end)
    return encode_request(inputs, parameters=parameters)


def build_requests(
    client: Client,
    metadata: ModelMetadata,
    config: Any,
    *,
    images: Sequence[Path] = (),
    arguments: InputArguments,
    cases: Path | None = None,
    batch_size: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    sequence_length: int | None = None,
    seed: int = 0,
) -> ProfileRequests:
    """Return the requests that the options ask for.

    Args:
        client: of the model's server.
        metadata: the model's.
        config: its ModelConfig; None if the server does not report it.
        images: files of encoded images.
        arguments: the values of --input.
        cases: the directory of golden tests.
        batch_size: rows of a request.
        shapes: of generated inputs, without the batch dimension.
        sequence_length: requests of a sequence. Default: 8 for models with sequence_batching.
        seed: of generated values.

    Raises:
        click.UsageError, EncodeError, CaseError: the options do not fit the model or cannot be read.
    """
    optional = {tensor.name for tensor in config.input if tensor.optional} if config is not None else set()
    is_sequence = config is not None and config.HasField("sequence_batching")
    length = (8 if is_sequence else 0) if sequence_length is None else sequence_length

    def complete(given: Inputs, rows: int, number: int) -> Inputs:
        """Return the inputs of a request, with generated ones for those that are missing."""
        generated = generate_inputs(
            metadata, batch_size=rows, shapes=shapes, excluded={*given, *optional}, seed=seed + number
        )
        return {**given, **generated}

    if cases is not None:
        if images or arguments:
            raise click.UsageError("--cases has the inputs; leave out IMAGES and --input")
        built = _read_cases(cases, metadata, optional)
        described = f"{format_count(len(built), 'golden test case')} of {cases}"
    elif images:
        given = arguments.convert(metadata.inputs, excluded=arguments.image_input)
        tensor = client.find_image_input(arguments.image_input, metadata.name or None, given=given)
        contents = [read_image(path) for path in images]
        groups = [
            [contents[(start + row) % len(contents)] for row in range(batch_size)]
            for start in range(0, len(contents), batch_size)
        ]
        built = []
        for number, group in enumerate(groups):
            batch = encode_images(group, tensor.name, tensor.datatype, rank=len(tensor.shape))
            built.append(complete({**given, tensor.name: batch}, len(group), number))
        described = f"{format_count(len(images), 'image')}"
    elif arguments:
        given = arguments.convert(metadata.inputs)
        rows = _count_rows(given, metadata) or batch_size
        built = [complete(given, rows, 0)]
        batch_size = rows
        described = "the values of --input"
    else:
        first = complete({}, batch_size, 0)
        size = max(1, sum(array.nbytes for array in first.values()))
        count = max(1, min(_VARIANTS, _MOST_BYTES // size)) if first else 1
        built = [first, *(complete({}, batch_size, number) for number in range(1, count))]
        described = f"{format_count(count, 'request')} generated from the metadata"
    shown = describe_inputs(built[0])
    return ProfileRequests(tuple(built), f"{described}: {shown}", batch_size, length)


def send_trial(client: Client, target: Target, requests: ProfileRequests) -> int:
    """Send one request, and return the bytes of its answer.

    Raises:
        ConnectError, ServerError, DecodeError: the request failed.
    """
    inputs = requests.inputs[0]
    payload = _encode_part(inputs, 2**31, start=True, end=True) if requests.sequence_length else encode_request(inputs)
    call = Call(payload, target.model, target.model_version)
    if target.is_decoupled:
        if not isinstance(client.transport, StreamingTransport):
            raise EncodeError(f"{target.model} is decoupled; use Triton's gRPC port (grpc://host:port)")
        return sum(len(answer.body) for answer in client.transport.stream(call))
    try:
        return len(client.transport.infer(call).body)
    except ServerError as error:
        raise ServerError(f"{error.message} (with {describe_inputs(inputs)})", status=error.status) from error


def _read_cases(folder: Path, metadata: ModelMetadata, optional: set[str]) -> list[Inputs]:
    directory = CaseDirectory(folder)
    tensors = {tensor.name: tensor for tensor in metadata.inputs}
    built = []
    for name in directory.list_names():
        case = directory.read_case(name)
        if case.error is not None or case.model not in (None, metadata.name):
            continue
        unknown = sorted(case.inputs.keys() - tensors.keys())
        missing = sorted(tensors.keys() - case.inputs.keys() - optional)
        if unknown or missing:
            problem = f"has no input {unknown[0]!r}" if unknown else f"needs input {missing[0]!r}"
            raise click.UsageError(f"{folder / name}.json: the model {problem}; its inputs are {', '.join(tensors)}")
        built.append({tensor: directory.read_tensor(source, tensors[tensor]) for tensor, source in case.inputs.items()})
    if not built:
        raise click.UsageError(f"{folder}: no case of {metadata.name} that expects an answer")
    return built


def _count_rows(inputs: Inputs, metadata: ModelMetadata) -> int | None:
    """Return the batch size of arrays; None for models without a batch dimension."""
    if not metadata.max_batch_size:
        return None
    return next((int(np.shape(array)[0]) for array in inputs.values() if np.ndim(array)), None)
