"""The subcommand that runs SageMaker on this machine: emulate."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from tritonforge import request_origin
from tritonforge.cli.terminal import err, out, steps

if TYPE_CHECKING:
    from tritonforge.sagemaker.emulator import Emulator

__all__ = ["emulate"]


@click.command()
@click.option("--port", default=4566, show_default=True, type=click.IntRange(0, 65535), help="0 is any free one.")
@click.option("--region", default="us-east-1", show_default=True, help="Where its own role and bucket are.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Keep everything in this folder.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="How many "
              "times faster than AWS waiting passes: bake times, intervals.")  # fmt: skip
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="URI=RELEASE|FOLDER",
    help="What a custom image is: my/triton:1=26.05, =26.05+tensorflow with a backend added, or for an algorithm the "
    "folder with its train and serve.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME[:PORT]",
    help="A name that containers know this machine by, for example host.docker.internal. Requests for any other host "
    "than 127.0.0.1 and localhost are refused.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def emulate(
    port: int,
    region: str,
    state: Path | None,
    speed: float,
    images: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    form: str,
) -> int:
    """Run SageMaker, with S3, IAM, STS and autoscaling, on one loopback address of this machine.

    Unmodified AWS code finds it by AWS_ENDPOINT_URL. An endpoint is a real tritonserver on the model archive that was
    uploaded, or an algorithm's own program, which training jobs run as well. Ctrl-C stops it; without --state
    everything is forgotten then.
    """
    from tritonforge.sagemaker.emulator import Emulator

    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    declared = _images(images)
    for host in allowed_hosts:
        if not request_origin.is_host_name(host):
            raise click.UsageError(
                f"--allow-host {host!r}: expected NAME or NAME:PORT, for example host.docker.internal"
            )
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with steps() as progress:
            progress.begin("starting the emulator")
            emulator = Emulator(
                port=port,
                state=state,
                speed=speed,
                images=declared,
                region=region,
                allowed_hosts=allowed_hosts,
                log=lambda line: err.print(line, markup=False),
            )
        with emulator:
            _report(emulator, form)
            while not stopped.wait(0.5):  # so that the signal is seen on every platform
                pass
            err.print("stopping ...")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _images(images: Sequence[str]) -> dict[str, str]:
    wrong = [each for each in images if not all(each.partition("="))]
    if wrong:
        raise click.UsageError(
            f"--image {wrong[0]}: write URI=RELEASE, as in my/triton:1=26.05+tensorflow, or URI=FOLDER"
        )
    return {uri: value for uri, _, value in (each.partition("=") for each in images)}


def _report(emulator: Emulator, form: str) -> None:
    if form == "json":
        report = {"url": emulator.url, "environment": dict(emulator.environment), "role": emulator.role_arn}
        click.echo(json.dumps(report))
        return
    out.print(f"SageMaker, S3, IAM, STS, autoscaling  {emulator.url}")
    out.print(f"a role for models                     {emulator.role_arn}")
    err.print("[dim]in the shell that runs your code:[/dim]")
    for name, value in emulator.environment.items():
        out.print(f"  export {name}={shlex.quote(value)}")
    err.print("[dim]Ctrl-C stops it[/dim]")
