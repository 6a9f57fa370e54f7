"""The subcommand `tritonforge infer`: send tensors or images to a server, and print what it answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli.input_arguments import InputArguments, read_inputs
from tritonforge.cli.output_rendering import (
    checked_destination,
    escape_control,
    json_outputs,
    text_lines,
    write_arrays,
)
from tritonforge.cli.terminal import err, out
from tritonforge.errors import DecodeError, ServerError
from tritonforge.inference.client import (
    Client,
    DecoupledError,
    ModelError,
    ModelMetadata,
    RelayError,
    TensorMetadata,
    UnnamedModelError,
)
from tritonforge.inference.tensor_values import repeat_rows
from tritonforge.inference.wire import RequestedOutput, Response
from tritonforge.inference.wire.tensors import datatype_of

__all__ = ["infer"]

#: Characters of a server's error that are shown: some answer with a page of HTML.
_SHOWN_ERROR: Final = 2000
#: How many images of a request its error names.
_SHOWN_FILES: Final = 4


@dataclass(frozen=True, slots=True)
class _Answer:
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
                yield {**named, **self.response.provenance, **about, "outputs": json_outputs(self.response, row)}


class _Run:
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
        self._metadata = self._ask_metadata()
        self._outputs = self._metadata.outputs if self._metadata is not None else ()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that the model does not take. Raises click.UsageError."""
        most = self._metadata.max_batch_size if self._metadata is not None else None
        if self._metadata is not None and most and batch > most:
            raise click.UsageError(
                f"--batch {batch}: model {self._metadata.name!r} takes at most {most} in a request (its max_batch_size)"
            )

    def ask_images(self, files: Sequence[tuple[str, bytes]], batch: int) -> Iterator[_Answer]:
        """Send the images, ``batch`` in a request, each with all other inputs."""
        tensors = None if self._metadata is None else self._metadata.inputs
        others = self._given.arrays(tensors, spared=self._given.image_input)
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
                yield _Answer(_milliseconds(began), names, error=error)
            else:
                yield _Answer(_milliseconds(began), names, response)

    def ask_tensors(self) -> Iterator[_Answer]:
        """Send one request; a decoupled model gives any number of responses."""
        tensors = None if self._metadata is None else self._metadata.inputs
        arguments = {"inputs": self._given.arrays(tensors), **self._shared(is_first=True, is_last=True)}
        decoupled = bool(self._metadata is not None and self._metadata.decoupled and self._client.can_stream)
        began = time.perf_counter()
        try:
            if not (self._stream or decoupled):
                try:
                    response = self._classified(self._client.infer, arguments, images=False)
                    yield _Answer(_milliseconds(began), response=response)
                    return
                except DecoupledError:
                    # The configuration of an ensemble does not say that one of its steps is decoupled.
                    if not self._client.can_stream:
                        raise
            del arguments["binary"]  # gRPC has one form
            outputs = self._given.outputs or self._requested(images=False)
            for index, response in enumerate(self._client.infer_stream(**arguments, outputs=outputs)):
                yield _Answer(_milliseconds(began), response=response, index=index)
        except ServerError as error:
            yield _Answer(_milliseconds(began), error=error)

    def _ask_metadata(self) -> ModelMetadata | None:
        """The model's metadata; None where the server does not tell them."""
        try:
            return self._client.metadata(inputs=tuple(self._given.values))
        except DecodeError:
            if not self._given:
                raise
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


@click.command()
@click.argument("url")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", help="The model to ask; default the only one of the server.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="A tensor: JSON, text, @FILE, or @- for standard input. Repeat it for several inputs. NAME alone is the input "
    "that takes the images.",
)
@click.option(
    "--top",
    type=click.IntRange(0),
    help="Print the K best classes of each output of scores; 0 prints numbers. Default 5 for images; for tensors only "
    "of outputs with labels.",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Images sent in one request.")
@click.option("--sequence-id", metavar="ID", help="The sequence that the requests are part of: a number or a text.")
@click.option("--sequence-start", "--start", "start", is_flag=True, help="The first request starts the sequence.")
@click.option("--sequence-end", "--end", "end", is_flag=True, help="The last request ends the sequence.")
@click.option("--stream", is_flag=True, help="gRPC: print each response as it arrives. Default for decoupled models.")
@click.option("--binary/--no-binary", default=True, show_default=True, help="Send binary+json, or plain JSON.")
@click.option(
    "--timeout",
    default=70.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds to wait for a response.",
)
@click.option("--target-model", metavar="FILE", help="SageMaker: the archive of a multi-model endpoint.")
@click.option("--target-variant", metavar="NAME", help="SageMaker: the variant that is to answer.")
@click.option("--inference-id", metavar="ID", help="SageMaker: the id under which data capture keeps each request.")
@click.option("--async", "asynchronous", metavar="S3-URI", help="SageMaker: ask an asynchronous endpoint, through S3.")
@click.option("--region", metavar="NAME", help="SageMaker: the region; else as boto3 finds it.")
@click.option("--endpoint-url", metavar="URL", help="SageMaker: override the AWS endpoint URL.")
@click.option("--profile", metavar="NAME", help="SageMaker: the profile in ~/.aws/config.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Also write all outputs in full to FILE.npz, or a single one to FILE.npy.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def infer(
    url: str,
    images: tuple[Path, ...],
    model: str | None,
    inputs: tuple[str, ...],
    top: int | None,
    batch: int,
    sequence_id: str | None,
    start: bool,
    end: bool,
    stream: bool,
    binary: bool,
    timeout: float,
    output: Path | None,
    form: str,
    as_json: bool,
    **endpoint: str | None,
) -> int:
    r"""Send tensors or encoded IMAGES (JPEG, PNG ...) to the server at URL, and print the outputs.

    URL is http://host:8080 (the SageMaker front end), http://host:8000 or grpc://host:8001 (Triton's own), or
    sagemaker://endpoint-name, where the options marked SageMaker hold.

    \b
    tritonforge infer http://localhost:8000 photo.jpg
    tritonforge infer http://localhost:8000 --model sum --input a='[1, 2]' --input b=@b.npy
    tritonforge infer grpc://localhost:8001 --model llm --input prompt="Once upon a time"
    echo '{"a": [1, 2], "b": [3, 4]}' | tritonforge infer http://localhost:8000 --model sum --input @-

    VALUE is converted to the datatype and shape of the input. A file is read by its name: .npy and .npz are arrays,
    .json is JSON, .txt is text; any other file is sent as its bytes, as images are. @FILE without a name is an .npz
    with an array for each input, or a JSON object: {"NAME": VALUE, ...} or a KServe v2 request. An input of text
    (BYTES) takes VALUE as one element; a JSON list of strings is several.

    In JSON, NaN and infinities are the strings "NaN", "Infinity" and "-Infinity"; bytes that are not UTF-8 are base64,
    with "encoding": "base64".

    An image that the server refuses costs the others of its request too, no others.
    """
    as_json = as_json or form == "json"
    checked_destination(output)
    given = read_inputs(inputs, sys.stdin.buffer)
    if given.image_input and not images:
        raise click.UsageError(f"--input {given.image_input}: write NAME=VALUE, or give IMAGES for this input")
    if not images and not given:
        raise click.UsageError("there is nothing to send; give IMAGES, or tensors with --input NAME=VALUE")
    if output is not None and top:
        raise click.UsageError(f"-o writes numbers, and --top {top} asks for classes instead of them; use one of them")
    if output is not None:
        top = 0
    if stream and images:
        raise click.UsageError("--stream takes tensors (--input NAME=VALUE), not IMAGES")
    files = [(str(path), _read(path)) for path in images]
    sequence = _sequence(sequence_id, start=start, end=end)
    said: dict[str, Any] = {name: value for name, value in endpoint.items() if value is not None}
    if said and not url.startswith("sagemaker://"):
        option = {"asynchronous": "async"}.get(next(iter(said)), next(iter(said)).replace("_", "-"))
        raise click.UsageError(f"--{option} is for SageMaker endpoints (sagemaker://NAME), not for {url}")
    answers: list[_Answer] = []
    with Client(url, model=model, timeout=timeout, **said) as client:
        try:
            run = _Run(client, given, top=top, binary=binary, stream=stream, sequence=sequence)
            run.check_batch(batch)
            for answer in run.ask_images(files, batch) if files else run.ask_tensors():
                answers.append(answer)
                if not as_json:
                    _print(answer, names=not files)
        except UnnamedModelError as error:
            raise click.UsageError(f"{error}: --model NAME") from error
    failed = any(answer.error for answer in answers)
    if as_json:
        rows = [row for answer in answers for row in answer.to_json()]
        click.echo(json.dumps({"url": url, "answers": rows}, indent=2, allow_nan=False))
    if output is not None and not failed:
        write_arrays(output, [each.response.outputs for each in answers if each.response], batched=bool(files))
    elif output is not None:
        err.print(f"{output} is not written, because a request failed", markup=False)
    return 1 if failed else 0


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    if not content:
        raise click.UsageError(f"{path}: the file is empty")
    return content


def _sequence(sequence_id: str | None, *, start: bool, end: bool) -> dict[str, Any]:
    if sequence_id is None:
        if start or end:
            raise click.UsageError(f"{'--start' if start else '--end'} needs --sequence-id")
        return {}
    number = int(sequence_id) if sequence_id.isascii() and sequence_id.isdigit() else None
    if number == 0 or sequence_id == "" or (number or 0) >= 2**64:
        raise click.UsageError(
            f"--sequence-id {sequence_id!r}: expected a number from 1 to 2**64 - 1, or a text that is not empty"
        )
    return {"sequence_id": number or sequence_id, "sequence_start": start, "sequence_end": end}


def _json_error(error: ServerError) -> dict[str, Any]:
    told: dict[str, Any] = {"status": error.status, "message": error.message}
    if isinstance(error, ModelError) and error.log:
        told["log"] = error.log
    if isinstance(error, RelayError):
        told |= {name: value for name in ("code", "advice") if (value := getattr(error, name))}
    if isinstance(error, DecoupledError):
        told["advice"] = error.advice
    return told


def _print(answer: _Answer, *, names: bool) -> None:
    """One answer as text; the error of a request is printed once, with all its images."""
    if answer.error is not None:
        shown = ", ".join(answer.files[:_SHOWN_FILES])
        if len(answer.files) > _SHOWN_FILES:
            shown += f" and {len(answer.files) - _SHOWN_FILES} more"
        sentence = escape_control(str(answer.error)[:_SHOWN_ERROR])
        err.print(f"[red]error:[/red] {escape(escape_control(shown) + ': ' if shown else '')}{escape(sentence)}")
        return
    response = answer.response
    assert response is not None
    variant = response.provenance.get("invoked_production_variant")
    by = f", {escape(variant)}" if variant else ""
    time_taken = f"[dim]{answer.milliseconds:.1f} ms{by}[/dim]"
    model = f"{response.model_name} {response.model_version}".strip()
    title = model if answer.index is None else f"{model} response {answer.index}"
    for row, file in enumerate(answer.files) if answer.files else ((None, title),):
        out.print(f"[bold]{escape(escape_control(file))}[/bold]  {time_taken}")
        for line in text_lines(response, row, names=names):
            out.print(line, markup=False)
