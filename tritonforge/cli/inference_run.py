"""The requests of one `tritonforge infer`: images in batches, or one request of tensors, and what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from tritonforge.cli.input_arguments import InputArguments
from tritonforge.cli.output_rendering import json_outputs
from tritonforge.errors import DecodeError, ServerError
from tritonforge.inference.client import (
    Client,
    DecoupledError,
    ModelError,
    ModelMetadata,
    RelayError,
    TensorMetadata,
)
from tritonforge.inference.tensor_values import repeat_rows
from tritonforge.inference.wire import RequestedOutput, Response
from tritonforge.inference.wire.tensors import datatype_of

__all__ = ["InferenceAnswer", "InferenceRun"]


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """What came back for one request: a response, or the server's error.

    ``files`` are the images of the request, a row of the batch each. ``index`` counts the responses of a stream.
    """

    milliseconds: float
    files: tuple[str, ...] = ()
    response: Response | None = None
    error: ServerError | None = None
    index: int | None = None

    def to_json(self) -> Iterator[dict[str, Any]]:
        """One object for each image, or one for a request of tensors."""
        told: dict[str, Any] = {"ms": round(self.milliseconds, 3)}
        if self.index is not None:
            told["response"] = self.index
        if self.error is not None:
            told["error"] = _json_error(self.error)
        for row, file in enumerate(self.files) if self.files else ((None, None),):
            named = told if file is None else {"file": file, **told}
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
                    "outputs": json_outputs(self.response, row, rows=len(self.files)),
                }


class InferenceRun:
    """The requests of one run, and what they share."""

    def __init__(
        self,
        client: Client,
        given: InputArguments,
        *,
        top: int | None,
        binary: bool,
        stream: bool,
        sequence: Mapping[str, Any],
    ) -> None:
        self._client = client
        self._given = given
        self._top = top
        self._binary = binary
        self._stream = stream
        self._sequence = sequence
        self._reason = ""
        self._metadata = self._ask_metadata()
        self._outputs = self._metadata.outputs if self._metadata is not None else ()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that the model does not take. Raises click.UsageError."""
        most = self._metadata.max_batch_size if self._metadata is not None else None
        if self._metadata is not None and most and batch > most:
            raise click.UsageError(
                f"--batch {batch}: model {self._metadata.name!r} takes at most {most} in a request (its max_batch_size)"
            )

    def ask_images(self, files: Sequence[tuple[str, bytes]], batch: int) -> Iterator[InferenceAnswer]:
        """Send the images, ``batch`` in a request, each with all other inputs."""
        tensors = None if self._metadata is None else self._metadata.inputs
        others = self._given.arrays(tensors, spared=self._given.image_input, reason=self._reason)
        known = {tensor.name: tensor for tensor in tensors or ()}
        for first in range(0, len(files), batch):
            part = files[first : first + batch]
            rows = {
                name: repeat_rows(array, len(part), known[name]) if len(part) > 1 and name in known else array
                for name, array in others.items()
            }
            arguments = {
                "images": [content for _, content in part],
                "input": self._given.image_input,
                "inputs": rows,
                **self._shared(is_first=first == 0, is_last=first + batch >= len(files)),
            }
            names = tuple(name for name, _ in part)
            began = time.perf_counter()
            try:
                response = self._classified(self._client.infer_images, arguments, images=True)
            except ServerError as error:
                yield InferenceAnswer(_milliseconds(began), names, error=error)
            else:
                yield InferenceAnswer(_milliseconds(began), names, response)

    def ask_tensors(self) -> Iterator[InferenceAnswer]:
        """Send one request; a decoupled model gives any number of responses."""
        tensors = None if self._metadata is None else self._metadata.inputs
        arguments = {
            "inputs": self._given.arrays(tensors, reason=self._reason),
            **self._shared(is_first=True, is_last=True),
        }
        decoupled = bool(self._metadata is not None and self._metadata.decoupled and self._client.can_stream)
        began = time.perf_counter()
        try:
            if not (self._stream or decoupled):
                try:
                    response = self._classified(self._client.infer, arguments, images=False)
                    yield InferenceAnswer(_milliseconds(began), response=response)
                    return
                except DecoupledError:
                    # The configuration of an ensemble does not say that one of its steps is decoupled.
                    if not self._client.can_stream:
                        raise
            del arguments["binary"]  # gRPC has one form
            outputs = self._given.outputs or self._requested(images=False)
            for index, response in enumerate(self._client.infer_stream(**arguments, outputs=outputs)):
                yield InferenceAnswer(_milliseconds(began), response=response, index=index)
        except ServerError as error:
            yield InferenceAnswer(_milliseconds(began), error=error)

    def _ask_metadata(self) -> ModelMetadata | None:
        """The model's metadata; None where the server does not tell them."""
        try:
            return self._client.metadata(inputs=tuple(self._given.values))
        except DecodeError as error:
            if not self._given:
                raise
            self._reason = str(error)
            return None

    def _shared(self, *, is_first: bool, is_last: bool) -> dict[str, Any]:
        """The arguments that all requests have; of a sequence the first starts it and the last ends it."""
        shared = {"binary": self._binary, "id": self._given.id, "parameters": self._given.parameters, **self._sequence}
        if shared.get("sequence_id"):
            shared["sequence_start"] = shared["sequence_start"] and is_first
            shared["sequence_end"] = shared["sequence_end"] and is_last
        return shared

    def _classified(self, send: Callable[..., Response], arguments: Mapping[str, Any], *, images: bool) -> Response:
        """The response, with the classes that the run asks for.

        Triton must be told an output's name for them. Where the server has no metadata, the names are those of a first,
        plain answer; in a sequence, where each request counts, that answer is the one that is printed.
        """
        if not self._given.outputs and not self._outputs:
            plain = send(**arguments)
            self._outputs = tuple(
                TensorMetadata(name, datatype_of(name, array).wire, array.shape)
                for name, array in plain.outputs.items()
            )
            if self._sequence or not self._requested(images=images):
                return plain
        return send(**arguments, outputs=self._given.outputs or self._requested(images=images))

    def _requested(self, *, images: bool) -> tuple[RequestedOutput, ...]:
        """All outputs, those of scores as classes; empty where there are none of scores."""
        most = self._metadata.max_batch_size if self._metadata is not None else None
        labelled = self._metadata.labelled_outputs if self._metadata is not None else ()
        count = 5 if self._top is None else self._top
        classes = {
            output.name
            for output in self._outputs
            if (output.name in labelled if self._top is None and not images else _is_scores(output, most, labelled))
        }
        if not classes or not count:
            return ()
        return tuple(
            RequestedOutput(output.name, classification=count if output.name in classes else 0)
            for output in self._outputs
        )


def _is_scores(output: TensorMetadata, max_batch_size: int | None, labelled: Sequence[str]) -> bool:
    """Whether an output holds a score for each class: floats, one vector for each image, more than one element."""
    if output.name in labelled:
        return True
    shape = output.shape[1:] if max_batch_size or (max_batch_size is None and len(output.shape) > 1) else output.shape
    return output.datatype.startswith(("FP", "BF")) and len(shape) == 1 and shape[0] > 1


def _milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _json_error(error: ServerError) -> dict[str, Any]:
    told: dict[str, Any] = {"status": error.status, "message": error.message}
    if isinstance(error, ModelError) and error.log:
        told["log"] = error.log
    if isinstance(error, RelayError):
        told |= {name: value for name in ("code", "advice") if (value := getattr(error, name))}
    if isinstance(error, DecoupledError):
        told["advice"] = error.advice
    return told
