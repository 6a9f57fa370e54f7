"""`make demo`: the main job, step by step as a user would type it, on two photographs and held-out digits."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import sklearn
from rich.console import Console
from rich.table import Table

from tritonforge.cli.terminal import human_bytes
from tritonforge.inference.client import Client
from tritonforge.inference.wire import encode_request, pad_batch

ROOT = Path(__file__).parents[1]
TRITONFORGE = Path(sys.executable).with_name("tritonforge")
PHOTOGRAPHS = Path(sklearn.__file__).parent / "datasets" / "images"
IMAGES = Path("build/demo")

console = Console(highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """A heading of the demo."""
    console.print(f"\n[bold cyan]# {sentence}[/bold cyan]")


def run(*arguments: str, environment: Mapping[str, str] | None = None, code: int = 0) -> None:
    """Run tritonforge as typed, with its own output on the terminal; it must exit with ``code``."""
    console.print(f"[bold]$ tritonforge {shlex.join(arguments)}[/bold]")
    done = subprocess.run([TRITONFORGE, *arguments], cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode != code:
        raise SystemExit(f"tritonforge {arguments[0]} exited with {done.returncode} (expected {code})")


@contextmanager
def served(repository: str, *options: str) -> Iterator[str]:
    """Run `tritonforge serve` for a block, then stop it as Ctrl-C does; gives the SageMaker front end's URL."""
    ports = dict(zip(("sagemaker", "http", "grpc", "metrics"), free_ports(4), strict=True))
    arguments = ["serve", repository, *(f"--{name}-port={port}" for name, port in ports.items()), *options]
    console.print(f"[bold]$ tritonforge {shlex.join(arguments)} &[/bold]")
    # One pipe for both, so that the lines come in the order in which they are written.
    process = subprocess.Popen(
        [TRITONFORGE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:  # serve prints its table once the server is ready
            console.print(line, end="", markup=False)
            if line.startswith("Ctrl-C"):
                break
        else:
            raise SystemExit(process.wait())
        yield f"http://127.0.0.1:{ports['sagemaker']}"
        console.print("[bold]$ kill -INT %1[/bold]")
    finally:
        process.send_signal(signal.SIGINT)
        console.print(process.communicate()[0], end="", markup=False)


@contextmanager
def emulated() -> Iterator[dict[str, Any]]:
    """Run `tritonforge emulate` for a block, then stop it as Ctrl-C does; gives its environment and its role."""
    arguments = ["emulate", "--port", str(free_ports(1)[0]), "--format", "json"]
    console.print(f"[bold]$ tritonforge {shlex.join(arguments)} &[/bold]")
    process = subprocess.Popen(
        [TRITONFORGE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        settings: dict[str, Any] = json.loads(process.stdout.readline())
        for name, value in settings["environment"].items():
            console.print(f"[bold]$ export {name}={value}[/bold]")
        yield settings
        console.print("[bold]$ kill -INT %1[/bold]")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(free.getsockname()[1]) for free in sockets]
    for free in sockets:
        free.close()
    return ports


def photographs() -> list[str]:
    """Copies of scikit-learn's two photographs."""
    (ROOT / IMAGES).mkdir(parents=True, exist_ok=True)
    for name in ("china.jpg", "flower.jpg"):
        shutil.copy(PHOTOGRAPHS / name, ROOT / IMAGES / name)
    return [str(IMAGES / name) for name in ("china.jpg", "flower.jpg")]


def compare(url: str, path: str) -> None:
    """The same photograph as JSON, as binary+json, and as the bare file: bytes sent and milliseconds."""
    image = (ROOT / path).read_bytes()
    inputs = {"INPUT": pad_batch([image])}
    rows: list[tuple[str, int, Callable[[Client], object]]] = [
        ("JSON", encode_request(inputs, binary=False).size, lambda client: client.infer(inputs, binary=False)),
        ("binary+json", encode_request(inputs).size, lambda client: client.infer(inputs)),
        ("the JPEG, header size 0", len(image), lambda client: client.infer_raw(image)),
    ]
    table = Table("request", "bytes sent", "times the JPEG", "ms (median of 9)", box=None, pad_edge=False)
    with Client(url) as client:
        for name, size, ask in rows:
            taken = []
            for _ in range(9):
                began = time.perf_counter()
                ask(client)
                taken.append((time.perf_counter() - began) * 1000)
            table.add_row(name, f"{size:,}", f"{size / len(image):.2f}", f"{statistics.median(taken):.1f}")
    console.print(table)


def digits_module() -> ModuleType:
    """`repos/digits/network.py`, for its held-out images."""
    spec = importlib.util.spec_from_file_location("digits_network", ROOT / "repos/digits/network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accuracy(url: str) -> None:
    """All held-out digits through the server, and how many were read right."""
    images, labels = digits_module().heldout()
    right = 0
    began = time.perf_counter()
    with Client(url) as client:
        for start in range(0, len(images), 20):
            response = client.infer_images(images[start : start + 20], classification=1)
            found = [row[0].index for row in response.classes()]
            right += sum(a == b for a, b in zip(found, labels[start : start + 20], strict=True))
    taken = time.perf_counter() - began
    total = human_bytes(sum(map(len, images)))
    console.print(
        f"{len(images)} held-out digits as PNG and JPEG ({total}) in {taken:.2f} s through decode -> classify: "
        f"[bold]{right / len(images):.1%}[/bold] read right"
    )
    if right / len(images) < 0.95:
        raise SystemExit("the ensemble reads digits worse than the network was trained to")


def golden_tests() -> None:
    """Golden tests: record the answers of each step, break the preprocessing, and see which step is named."""
    changed, cases = Path("build/demo/changed"), Path("build/demo/cases")
    for folder in (changed, cases):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    shutil.copytree(ROOT / "repos/digits/tests", ROOT / cases, ignore=shutil.ignore_patterns("recorded"))
    run("test", "build/digits", "--cases", str(cases), "--record")
    console.print(f"[bold]$ cp -r repos/digits {changed}; sed -i s/types.RGB/types.BGR/ {changed}/network.py[/bold]")
    shutil.copytree(ROOT / "repos/digits", ROOT / changed, ignore=shutil.ignore_patterns("__pycache__"))
    network = ROOT / changed / "network.py"
    network.write_text(network.read_text().replace("types.RGB", "types.BGR"))
    # The build starts from links to the earlier one, so that the network is not trained again.
    shutil.rmtree(ROOT / "build/changed", ignore_errors=True)
    shutil.copytree(ROOT / "build/digits", ROOT / "build/changed", copy_function=os.link)
    run("test", str(changed), "--cases", str(cases), "-k", "seven", "--report", "build/demo/report", code=1)


def main() -> None:
    """The whole demo."""
    began = time.monotonic()
    say("three Python definitions become a Triton model repository")
    run("build", "repos/inception_v3", "-o", "build/inception_v3")
    run("build", "repos/inception_v3", "--check")
    say("a real tritonserver runs it, with SageMaker's front end")
    with served("build/inception_v3") as url:
        files = photographs()
        say("photographs in, labelled probabilities out")
        run("infer", url, *files, "--top", "5")
        say("the same photograph as JSON and as binary+json")
        compare(url, files[0])
    say("a network that is really trained: the wiring, layout, normalisation and colours are right")
    run("build", "repos/digits", "-o", "build/digits")
    with served("build/digits") as url:
        images, labels = digits_module().heldout()
        for index in range(3):
            (ROOT / IMAGES / f"digit-{labels[index]}-{index}.png").write_bytes(images[index])
        run("infer", url, *(str(IMAGES / f"digit-{labels[index]}-{index}.png") for index in range(3)), "--top", "2")
        accuracy(url)
    say("golden tests: the preprocessing is broken on purpose, and the step that differs first is named")
    golden_tests()
    say("the same package goes to SageMaker: here to one on this machine, with a real tritonserver behind the endpoint")
    run("package", "build/digits", "-o", "build/demo/model.tar.gz", "--image", "24.09")
    with emulated() as settings:
        aws = settings["environment"]
        wanted = [
            "--name",
            "digits",
            "--image",
            "24.09",
            "--instance-type",
            "ml.g4dn.xlarge",
            "--role",
            settings["role"],
        ]
        run("deploy", "build/digits", *wanted, "--yes", environment=aws)
        say("a second run finds nothing to do")
        run("deploy", "build/digits", *wanted, "--yes", environment=aws)
        picture = str(IMAGES / f"digit-{labels[0]}-0.png")
        run("infer", "sagemaker://digits", picture, "--top", "2", environment=aws)
        say("the golden tests ask the endpoint")
        run("test", "build/digits", "--cases", "build/demo/cases", "--against", "sagemaker://digits", environment=aws)
        run("destroy", "digits", "--yes", environment=aws)
    say("where the time goes: both steps of the digits under load, and the one that limits them")
    files = [str(IMAGES / f"digit-{labels[index]}-{index}.png") for index in range(3)]
    page = "build/demo/profile.html"
    run("profile", "build/digits", *files, "--concurrency", "1,8", "--max-time", "5", "--html", page)
    say("the console: open its address in a browser, and drop an image on the page")
    with served("build/digits", "--ui", "--samples", "repos/digits/tests"):
        if sys.stdout.isatty():
            say("Ctrl-C ends the demo")
            with suppress(KeyboardInterrupt):
                signal.pause()
    console.print(f"\n[green]done in {time.monotonic() - began:.0f} s; the servers are stopped[/green]")


if __name__ == "__main__":
    main()
