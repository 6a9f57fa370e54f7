"""The subcommand of the inference wing: infer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from tritonforge.cli.terminal import err, out
from tritonforge.errors import ServerError
from tritonforge.inference.client import Client, ModelError, RelayError
from tritonforge.inference.wire import Response

__all__ = ["infer"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back for one file: its outputs as plain JSON, or the server's refusal."""

    file: str
    milliseconds: float
    outputs: dict[str, Any] | None = None
    error: ServerError | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"file": self.file, "ms": round(self.milliseconds, 3), **self.provenance}
        if self.error is None:
            return {**told, "outputs": self.outputs}
        said: dict[str, Any] = {"status": self.error.status, "message": self.error.message}
        if isinstance(self.error, ModelError) and self.error.log:
            said["log"] = self.error.log
        if isinstance(self.error, RelayError):
            said |= {name: value for name in ("code", "advice") if (value := getattr(self.error, name))}
        return {**told, "error": said}


@click.command()
@click.argument("url")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="The model to ask; needed at Triton's own addresses (http port 8000, grpc).")
@click.option("--input", "input_", metavar="NAME", help="The input that takes the image; default the only one.")
@click.option("--top", default=5, show_default=True, help="How many classes; 0 gives the numbers as they are.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Images sent in one request.")
@click.option("--binary/--no-binary", default=True, show_default=True, help="binary+json, or plain JSON.")
@click.option("--timeout", default=70.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--target-model", metavar="FILE", help="SageMaker: the archive of a multi-model endpoint.")
@click.option("--target-variant", metavar="NAME", help="SageMaker: the variant that is to answer.")
@click.option("--inference-id", metavar="ID", help="SageMaker: the id under which data capture keeps each request.")
@click.option("--async", "asynchronous", metavar="S3-URI", help="SageMaker: ask an asynchronous endpoint, through S3.")
@click.option("--region", metavar="NAME", help="SageMaker: the region; else as boto3 finds it.")
@click.option("--endpoint-url", metavar="URL", help="SageMaker: in place of AWS's own address.")
@click.option("--profile", metavar="NAME", help="SageMaker: the profile in ~/.aws/config.")
@click.option("--json", "as_json", is_flag=True, help="Answers as one JSON document.")
def infer(
    url: str,
    images: tuple[Path, ...],
    model: str | None,
    input_: str | None,
    top: int,
    batch: int,
    binary: bool,
    timeout: float,
    as_json: bool,
    **endpoint: str | None,
) -> int:
    """Send encoded IMAGES (JPEG, PNG ...) to the server at URL and print the best classes of each.

    URL is http://host:8080 (the SageMaker front end), http://host:8000 or grpc://host:8001 (Triton's own), or
    sagemaker://endpoint-name, where the options marked SageMaker hold. An image that the server refuses costs the
    others of its request too, no others.
    """
    files = [(str(path), _read(path)) for path in images]
    said: dict[str, Any] = {name: value for name, value in endpoint.items() if value is not None}
    with Client(url, model=model, timeout=timeout, **said) as client:
        answers = list(_ask(client, files, input_=input_, top=top, batch=batch, binary=binary))
    if as_json:
        click.echo(json.dumps({"url": url, "answers": [each.to_json() for each in answers]}, indent=2))
    else:
        for each in answers:
            _print(each)
    return 1 if any(each.error for each in answers) else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error


def _ask(
    client: Client, files: Sequence[tuple[str, bytes]], *, input_: str | None, top: int, batch: int, binary: bool
) -> Iterator[_Answer]:
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        began = time.perf_counter()
        try:
            response = client.infer_images(
                [content for _, content in part], input=input_, classification=top or None, binary=binary
            )
        except ServerError as error:
            taken = (time.perf_counter() - began) * 1000
            yield from (_Answer(name, taken, error=error) for name, _ in part)
            continue
        taken = (time.perf_counter() - began) * 1000
        for index, (name, _) in enumerate(part):
            yield _Answer(name, taken, outputs=_outputs(response, index, top), provenance=response.provenance)


def _outputs(response: Response, index: int, top: int) -> dict[str, Any]:
    """One image's share of an answer, as plain JSON."""
    if top:
        return {
            name: [
                {"score": each.score, "index": each.index, **({"label": each.label} if each.label else {})}
                for each in response.classes(name)[index]
            ]
            for name in response.outputs
        }
    rows = {name: array[index] for name, array in response.outputs.items()}
    return {
        name: {"datatype": str(row.dtype), "shape": list(row.shape), "data": _plain(row.reshape(-1).tolist())}
        for name, row in rows.items()
    }


def _plain(values: list[Any]) -> list[Any]:
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in values]


def _print(answer: _Answer) -> None:
    if answer.error is not None:
        err.print(f"[red]error:[/red] {escape(answer.file)}: {escape(str(answer.error))}")
        return
    assert answer.outputs is not None
    variant = answer.provenance.get("invoked_production_variant")
    by = f", {escape(variant)}" if variant else ""
    out.print(f"[bold]{escape(answer.file)}[/bold]  [dim]{answer.milliseconds:.1f} ms{by}[/dim]")
    several = len(answer.outputs) > 1
    for name, found in answer.outputs.items():
        if several:
            out.print(f"  {escape(name)}")
        if isinstance(found, dict):
            shown = ", ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in found["data"][:8])
            out.print(f"  {found['datatype']} {found['shape']}  {escape(shown)}{' ...' * (len(found['data']) > 8)}")
            continue
        for each in found:
            out.print(f"  {each['score']:10.6f}  {each['index']:5d}  {escape(each.get('label', ''))}")
