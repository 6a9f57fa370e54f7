"""The command infer: it sends tensors or images to a server and prints the outputs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tritonforge.cli.command import Command
from tritonforge.cli.inference_run import InferenceAnswer, InferenceRun
from tritonforge.cli.input_arguments import read_image, read_inputs
from tritonforge.cli.options import (
    EXISTING_FILE,
    FILE,
    OUTPUT,
    SAGEMAKER,
    AwsOptions,
    add_options,
    declare_option,
    json_option,
    option,
    reject_options,
)
from tritonforge.cli.output_rendering import check_destination, format_response, write_arrays
from tritonforge.cli.printing import echo, print_error
from tritonforge.cli.terminal import escape_markup, list_names, out
from tritonforge.errors import ConnectError, DecodeError, TritonForgeError
from tritonforge.inference.client import (
    Client,
    UnnamedModelError,
)

__all__ = ["infer"]

#: Characters of a server's error that are printed: some servers answer with a page of HTML.
_ERROR_WIDTH = 2000
#: Images of a request that its error names.
_NAMED_FILES = 4


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What a request to a SageMaker endpoint adds to it."""

    target_model: str | None = declare_option(
        "--target-model", metavar="FILE", group=SAGEMAKER, help="The archive of a multi-model endpoint."
    )
    target_variant: str | None = declare_option(
        "--target-variant", metavar="NAME", group=SAGEMAKER, help="The variant that serves the request."
    )
    inference_id: str | None = declare_option(
        "--inference-id", metavar="ID", group=SAGEMAKER, help="The id under which data capture stores each request."
    )
    asynchronous: str | None = declare_option(
        "--async", metavar="S3-URI", group=SAGEMAKER, help="Send requests to an asynchronous endpoint through S3."
    )


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """The sequence that the requests are part of."""

    sequence_id: str | None = declare_option(
        "--sequence-id",
        metavar="ID",
        group="Sequence options",
        help="The sequence: a number or a text.",
    )
    start: bool = declare_option(
        "--sequence-start", "--start", is_flag=True, group="Sequence options",
        help="The first request starts the sequence.",
    )  # fmt: skip
    end: bool = declare_option(
        "--sequence-end", "--end", is_flag=True, group="Sequence options", help="The last request ends the sequence."
    )

    def to_arguments(self) -> dict[str, Any]:
        """Return the arguments of the client's methods. Raises click.UsageError for options that do not fit."""
        if self.sequence_id is None:
            if self.start or self.end:
                raise click.UsageError(f"--sequence-{'start' if self.start else 'end'} needs --sequence-id")
            return {}
        text = self.sequence_id
        number = int(text) if text.isascii() and text.isdigit() else None
        if number == 0 or text == "" or (number or 0) >= 2**64:
            raise click.UsageError(
                f"--sequence-id {text!r}: expected a number from 1 to 2**64 - 1, or a text that is not empty"
            )
        return {"sequence_id": number or text, "sequence_start": self.start, "sequence_end": self.end}


@click.command(
    cls=Command,
    example="""\
tritonforge infer http://localhost:8000 photo.jpg
tritonforge infer http://localhost:8000 --model sum --input a='[1, 2]' --input b=@b.npy
tritonforge infer grpc://localhost:8001 --model story --input prompt="Once upon a time"
echo '{"a": [1, 2], "b": [3, 4]}' | tritonforge infer http://localhost:8000 --input @-""",
)
@click.argument("url")
@click.argument("images", nargs=-1, type=EXISTING_FILE)
@option("--model", metavar="NAME", help="The model to run. Default: the only model of the server.")
@option("--input", "inputs", multiple=True, metavar="NAME=VALUE", help="A tensor: JSON, text, @FILE, or @- for "
        "standard input. Repeat it for several inputs. NAME alone is the input that takes the images.")  # fmt: skip
@option("--top", type=click.IntRange(0), metavar="K", help="Print the K best classes of each output of scores; 0 "
        "prints numbers. Default: 5 for images; for tensors only for outputs with labels.")  # fmt: skip
@option("--scores", multiple=True, metavar="NAME", help="Request the classes of this output only; repeat it for "
        "several. A server without metadata then runs the model once per request, also for the first one.")  # fmt: skip
@option("--batch", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="Images in one request.")
@option("--stream", is_flag=True, help="gRPC: print each response as it arrives. Default for decoupled models.")
@option("--binary/--no-binary", default=True, show_default=True, help="Send binary+json, or plain JSON.")
@option("--timeout", default=70.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
        help="Wait this long for a response.")  # fmt: skip
@add_options(SequenceOptions, "sequence")
@add_options(EndpointOptions, "endpoint")
@add_options(AwsOptions, "aws")
@option("-o", "--output", type=FILE, group=OUTPUT,
        help="Also write all outputs in full to FILE.npz, or a single one to FILE.npy.")  # fmt: skip
@json_option
def infer(
    url: str,
    images: tuple[Path, ...],
    model: str | None,
    inputs: tuple[str, ...],
    top: int | None,
    scores: tuple[str, ...],
    batch: int,
    sequence: SequenceOptions,
    stream: bool,
    binary: bool,
    timeout: float,
    endpoint: EndpointOptions,
    aws: AwsOptions,
    output: Path | None,
    as_json: bool,
) -> int:
    """Send tensors or encoded IMAGES (JPEG, PNG ...) to the server at URL and print the outputs.

    URL is http://host:8080 (the SageMaker front end), http://host:8000 or grpc://host:8001 (Triton's own), or
    sagemaker://ENDPOINT-NAME.

    VALUE is converted to the datatype and shape of the input. The name of a file decides how it is read: .npy and .npz
    are arrays, .json is JSON, .txt is text; any other file is sent as its bytes, as images are. @FILE without a name is
    an .npz with an array for each input, or a JSON object: {"NAME": VALUE, ...} or a KServe v2 request. An input of
    text (BYTES) takes VALUE as one element; a JSON list of strings is several.

    In JSON, NaN and infinities are the strings "NaN", "Infinity" and "-Infinity"; bytes that are not UTF-8 are base64,
    with "encoding": "base64".

    Exit code 0: every request succeeded; 1: a request failed, which does not stop the others; 2: invalid input.
    """
    check_destination(output)
    arguments = read_inputs(inputs, sys.stdin.buffer, has_images=bool(images))
    if not images and not arguments:
        raise click.UsageError("no input; pass IMAGES, or tensors with --input NAME=VALUE")
    if output is not None and top:
        raise click.UsageError(f"-o writes numbers, but --top {top} requests classes instead of them; use one of them")
    if scores and (top == 0 or output is not None):
        raise click.UsageError("--scores requests classes instead of numbers; leave it out with --top 0 and -o")
    if stream and images:
        raise click.UsageError("--stream takes tensors (--input NAME=VALUE), not IMAGES")
    files = [(str(path), read_image(path)) for path in images]
    sequence_arguments = sequence.to_arguments()
    endpoint_arguments: dict[str, Any] = {}
    if url.startswith("sagemaker://"):
        endpoint_arguments = {
            name: value
            for options in (endpoint, aws)
            for name in options.__slots__
            if (value := getattr(options, name)) is not None
        }
    else:
        reject_options(f"applies to SageMaker endpoints (sagemaker://NAME), not to {url}", group=SAGEMAKER)
    answers: list[InferenceAnswer] = []
    failure: TritonForgeError | None = None
    with Client(url, model=model, timeout=timeout, **endpoint_arguments) as client:
        try:
            run = InferenceRun(
                client,
                arguments,
                top=0 if output is not None else top,
                binary=binary,
                stream=stream,
                sequence=sequence_arguments,
                has_images=bool(files),
                scores=scores,
            )
            run.check_batch(batch)
            for answer in run.send_images(files, batch) if files else run.send_tensors():
                answers.append(answer)
                if not as_json:
                    _print(answer, has_names=not files)
        except UnnamedModelError as error:
            raise click.UsageError(f"{error}: --model NAME") from error
        except (ConnectError, DecodeError) as error:
            if not answers:
                raise
            failure = error  # the answers before it are printed
    has_failed = failure is not None or any(answer.error for answer in answers)
    if as_json:
        document: dict[str, Any] = {"url": url, "answers": [row for answer in answers for row in answer.to_json()]}
        if failure is not None:
            document["error"] = {"message": str(failure), "exit_code": failure.exit_code}
        echo(json.dumps(document, indent=2, allow_nan=False))
    if failure is not None:
        print_error(str(failure))
    if output is not None and not has_failed:
        write_arrays(output, [answer.response.outputs for answer in answers if answer.response], batched=bool(files))
    elif output is not None:
        print_error(f"{output} is not written, because a request failed")
    return 1 if has_failed else 0


def _print(answer: InferenceAnswer, *, has_names: bool) -> None:
    """Print an answer as text; the error of a request is printed once, with all its images."""
    if answer.error is not None:
        files = list_names(answer.files, _NAMED_FILES)
        print_error(f"{files + ': ' if files else ''}{str(answer.error)[:_ERROR_WIDTH]}")
        return
    response = answer.response
    assert response is not None
    variant = response.provenance.get("invoked_production_variant")
    time_taken = f"[dim]{answer.milliseconds:.1f} ms{f', {escape_markup(variant)}' if variant else ''}[/dim]"
    model = f"{response.model_name} {response.model_version}".strip()
    title = model if answer.index is None else f"{model} response {answer.index}"
    for row, file in enumerate(answer.files) if answer.files else ((None, title),):
        out.print(f"[bold]{escape_markup(file)}[/bold]  {time_taken}")
        for line in format_response(response, row, rows=len(answer.files), has_names=has_names):
            out.print(line, markup=False)
    out.file.flush()  # the next response of a stream may take long
