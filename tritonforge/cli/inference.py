"""The subcommand `tritonforge infer`: send tensors or images to a server, and print what it answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli.inference_run import InferenceAnswer, InferenceRun
from tritonforge.cli.input_arguments import read_inputs
from tritonforge.cli.output_rendering import checked_destination, text_lines, write_arrays
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, out, shown
from tritonforge.errors import ConnectError, DecodeError, TritonForgeError
from tritonforge.inference.client import Client, UnnamedModelError

__all__ = ["infer"]

#: Characters of a server's error that are shown: some answer with a page of HTML.
_SHOWN_ERROR: Final = 2000
#: How many images of a request its error names.
_SHOWN_FILES: Final = 4


#: Shown as it is: the first character is click's mark for that.
_EXAMPLES: Final = """\b
Examples:
  tritonforge infer http://localhost:8000 photo.jpg
  tritonforge infer http://localhost:8000 --model sum --input a='[1, 2]' --input b=@b.npy
  tritonforge infer grpc://localhost:8001 --model story --input prompt="Once upon a time"
  echo '{"a": [1, 2], "b": [3, 4]}' | tritonforge infer http://localhost:8000 --input @-
"""


@click.command(epilog=_EXAMPLES)
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
    """Send tensors or encoded IMAGES (JPEG, PNG ...) to the server at URL, and print the outputs.

    URL is http://host:8080 (the SageMaker front end), http://host:8000 or grpc://host:8001 (Triton's own), or
    sagemaker://endpoint-name, where the options marked SageMaker hold.

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
    answers: list[InferenceAnswer] = []
    broken: TritonForgeError | None = None
    with Client(url, model=model, timeout=timeout, **said) as client:
        try:
            run = InferenceRun(client, given, top=top, binary=binary, stream=stream, sequence=sequence)
            run.check_batch(batch)
            for answer in run.ask_images(files, batch) if files else run.ask_tensors():
                answers.append(answer)
                if not as_json:
                    _print(answer, names=not files)
        except UnnamedModelError as error:
            raise click.UsageError(f"{error}: --model NAME") from error
        except (ConnectError, DecodeError) as error:
            if not answers:
                raise
            broken = error  # what was answered until then is not lost
    failed = broken is not None or any(answer.error for answer in answers)
    if as_json:
        document: dict[str, Any] = {"url": url, "answers": [row for answer in answers for row in answer.to_json()]}
        if broken is not None:
            document["error"] = {"message": str(broken), "exit_code": broken.exit_code}
        echo(json.dumps(document, indent=2, allow_nan=False))
    if broken is not None:
        err.print(f"[red]error:[/red] {escape(str(broken))}")
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


def _print(answer: InferenceAnswer, *, names: bool) -> None:
    """One answer as text; the error of a request is printed once, with all its images."""
    if answer.error is not None:
        files = ", ".join(answer.files[:_SHOWN_FILES])
        if len(answer.files) > _SHOWN_FILES:
            files += f" and {len(answer.files) - _SHOWN_FILES} more"
        sentence = str(answer.error)[:_SHOWN_ERROR]
        err.print(f"[red]error:[/red] {shown(files) + ': ' if files else ''}{escape(sentence)}")
        return
    response = answer.response
    assert response is not None
    variant = response.provenance.get("invoked_production_variant")
    by = f", {escape(variant)}" if variant else ""
    time_taken = f"[dim]{answer.milliseconds:.1f} ms{by}[/dim]"
    model = f"{response.model_name} {response.model_version}".strip()
    title = model if answer.index is None else f"{model} response {answer.index}"
    for row, file in enumerate(answer.files) if answer.files else ((None, title),):
        out.print(f"[bold]{shown(file)}[/bold]  {time_taken}")
        for line in text_lines(response, row, rows=len(answer.files), names=names):
            out.print(line, markup=False)
    out.file.flush()  # the next response of a stream may take long
