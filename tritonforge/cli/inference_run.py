"""The requests of one ``infer`` command: images in batches or one request of tensors, and their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from tritonforge.cli.input_arguments import InputArguments
from tritonforge.cli.output_rendering import outputs_to_json
from tritonforge.errors import DecodeError, ServerError
from tritonforge.inference.client import (
    Client,
    DecoupledError,
    ModelError,
    ModelMetadata,
    RelayError,
    TensorMetadata,
)
from tritonforge.inference.model_inputs import repeat_rows
from tritonforge.inference.transports import describe_outputs
from tritonforge.inference.wire import RequestedOutput, Response

__all__ = ["InferenceAnswer", "InferenceRun"]


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """The answer to one request: a response or the server's error.

    ``files`` are the images of the request, one per row of the batch. ``index`` counts the responses of a stream.
    """

    milliseconds: float
    files: tuple[str, ...] = ()
    response: Response | None = None
    error: ServerError | None = None
    index: int | None = None

    def to_json(self) -> Iterator[dict[str, Any]]:
        """Yield an object for each image, or one for a request of tensors."""
        answer: dict[str, Any] = {"ms": round(self.milliseconds, 3)}
        if self.index is not None:
            answer["response"] = self.index
        if self.error is not None:
            answer["error"] = _error_to_json(self.error)
        for row, file in enumerate(self.files) if self.files else ((None, None),):
            named = answer if file is None else {"file": file, **answer}
            if self.response is None:
                yield named
            else:
                about = {
                    key: value
                    for key in ("model_name", "model_version", "id", "parameters")
                    if (value := getattr(self.response, key))
                }
                yield {
                    **named,
                    **self.response.provenance,
                    **about,
                    "outputs": outputs_to_json(self.response, row, rows=len(self.files)),
                }


class InferenceRun:
    """The requests of one run and what they share."""

    def __init__(
        self,
        client: Client,
        arguments: InputArguments,
        *,
        top: int | None,
        binary: bool,
        stream: bool,
        sequence: Mapping[str, Any],
        has_images: bool = False,
        scores: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._arguments = arguments
        self._top = top
        self._binary = binary
        self._stream = stream
        self._sequence = sequence
        self._scores = scores
        self._reason = ""
        # Images need the metadata of other inputs only, so nothing is probed for them alone.
        only_images = has_images and not arguments
        self._metadata = client.fetch_metadata() if only_images else self._read_metadata()
        self._outputs = self._metadata.outputs if self._metadata is not None else ()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that the model does not accept. Raises click.UsageError."""
        most = self._metadata.max_batch_size if self._metadata is not None else None
        if self._metadata is not None and most and batch > most:
            raise click.UsageError(
                f"--batch {batch}: model {self._metadata.name!r} accepts at most {most} (its max_batch_size)"
            )

    def send_images(self, files: Sequence[tuple[str, bytes]], batch: int) -> Iterator[InferenceAnswer]:
        """Send the images, ``batch`` per request, each with all other inputs."""
        tensors = None if self._metadata is None else self._metadata.inputs
        others = self._arguments.convert(tensors, excluded=self._arguments.image_input, reason=self._reason)
        known = {tensor.name: tensor for tensor in tensors or ()}
        for first in range(0, len(files), batch):
            part = files[first : first + batch]
            rows = {
                name: repeat_rows(array, len(part), known[name]) if len(part) > 1 and name in known else array
                for name, array in others.items()
            }
            arguments = {
                "images": [content for _, content in part],
                "input": self._arguments.image_input,
                "inputs": rows,
                **self._build_shared_arguments(is_first=first == 0, is_last=first + batch >= len(files)),
            }
            names = tuple(name for name, _ in part)
            began = time.perf_counter()
            try:
                response = self._classify(self._client.infer_images, arguments, images=True)
            except ServerError as error:
                yield InferenceAnswer(_milliseconds_since(began), names, error=error)
            else:
                yield InferenceAnswer(_milliseconds_since(began), names, response)

    def send_tensors(self) -> Iterator[InferenceAnswer]:
        """Send one request; a decoupled model returns any number of responses."""
        tensors = None if self._metadata is None else self._metadata.inputs
        arguments = {
            "inputs": self._arguments.convert(tensors, reason=self._reason),
            **self._build_shared_arguments(is_first=True, is_last=True),
        }
        decoupled = bool(self._metadata is not None and self._metadata.decoupled and self._client.can_stream)
        began = time.perf_counter()
        try:
            if not (self._stream or decoupled):
                try:
                    response = self._classify(self._client.infer, arguments, images=False)
                    yield InferenceAnswer(_milliseconds_since(began), response=response)
                    return
                except DecoupledError:
                    # The configuration of an ensemble does not state that one of its steps is decoupled.
                    if not self._client.can_stream:
                        raise
            del arguments["binary"]  # gRPC has one encoding
            outputs = self._arguments.outputs or self._list_requested_outputs(images=False)
            for index, response in enumerate(self._client.infer_stream(**arguments, outputs=outputs)):
                yield InferenceAnswer(_milliseconds_since(began), response=response, index=index)
        except ServerError as error:
            yield InferenceAnswer(_milliseconds_since(began), error=error)

    def _read_metadata(self) -> ModelMetadata | None:
        """Return the model's metadata; None if the server does not provide them."""
        try:
            return self._client.metadata(inputs=tuple(self._arguments.values))
        except DecodeError as error:
            if not self._arguments:
                raise
            self._reason = str(error)
            return None

    def _build_shared_arguments(self, *, is_first: bool, is_last: bool) -> dict[str, Any]:
        """Return the arguments of every request; the first starts a sequence and the last ends it."""
        shared = {
            "binary": self._binary,
            "id": self._arguments.id,
            "parameters": self._arguments.parameters,
            **self._sequence,
        }
        if shared.get("sequence_id"):
            shared["sequence_start"] = shared["sequence_start"] and is_first
            shared["sequence_end"] = shared["sequence_end"] and is_last
        return shared

    def _classify(self, send: Callable[..., Response], arguments: Mapping[str, Any], *, images: bool) -> Response:
        """Return the response with the classes that the run requests.

        The request must name their outputs. If the server has no metadata and the command names no output, the names
        are those of a first, plain response; in a sequence, where each request counts, that response is printed.
        """
        if not self._arguments.outputs and not self._outputs and not self._scores:
            plain = send(**arguments)
            self._outputs = describe_outputs(plain)
            if self._sequence or not self._list_requested_outputs(images=images):
                return plain
        return send(**arguments, outputs=self._arguments.outputs or self._list_requested_outputs(images=images))

    def _list_requested_outputs(self, *, images: bool) -> tuple[RequestedOutput, ...]:
        """Return all outputs, those of scores as classes; an empty tuple if no output has scores."""
        most = self._metadata.max_batch_size if self._metadata is not None else None
        labelled = self._metadata.labelled_outputs if self._metadata is not None else ()
        count = 5 if self._top is None else self._top
        if self._scores:
            return tuple(RequestedOutput(name, classification=count) for name in self._scores)
        classes = {
            output.name
            for output in self._outputs
            if (output.name in labelled if self._top is None and not images else _has_scores(output, most, labelled))
        }
        if not classes or not count:
            return ()
        return tuple(
            RequestedOutput(output.name, classification=count if output.name in classes else 0)
            for output in self._outputs
        )


def _has_scores(output: TensorMetadata, max_batch_size: int | None, labelled: Sequence[str]) -> bool:
    """Return True if an output has a score for each class: a vector of several floats for each image."""
    if output.name in labelled:
        return True
    shape = output.shape[1:] if max_batch_size or (max_batch_size is None and len(output.shape) > 1) else output.shape
    return output.datatype.startswith(("FP", "BF")) and len(shape) == 1 and shape[0] > 1


def _milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _error_to_json(error: ServerError) -> dict[str, Any]:
    document: dict[str, Any] = {"status": error.status, "message": error.message}
    if isinstance(error, ModelError) and error.log:
        document["log"] = error.log
    if isinstance(error, RelayError):
        document |= {name: value for name in ("code", "advice") if (value := getattr(error, name))}
    if isinstance(error, DecoupledError):
        document["advice"] = error.advice
    return document
