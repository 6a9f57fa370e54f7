"""The command watch, and the table under a server of `tritonforge serve --watch`."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import click

from tritonforge.cli.activity_table import ServerTable, WatchedServer, describe_servers, list_lines
from tritonforge.cli.command import Command
from tritonforge.cli.options import json_option, option
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import err, handle_signals, out
from tritonforge.errors import ConnectError
from tritonforge.profiling.activity import ActivityHistory
from tritonforge.profiling.server_poller import ServerPoller

__all__ = ["show_activity", "watch"]

#: Seconds over which the figures of the table are averaged.
_WINDOW: Final = 10.0

#: Servers that are read at the same time.
_MOST_THREADS: Final = 16


class _Interruption(Exception):  # noqa: N818 - not an error
    """SIGTERM or Ctrl-C arrived."""


@click.command(
    cls=Command,
    example="tritonforge watch http://127.0.0.1:8000\n"
    "tritonforge watch http://10.0.0.1:8000 http://10.0.0.2:8000\n"
    "tritonforge watch http://127.0.0.1:8000 --once --json",
)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@option("--interval", default=1.0, type=click.FloatRange(0.1), metavar="SECONDS", show_default=True,
        help="Read the servers this often.")  # fmt: skip
@option("--once", is_flag=True, help="Print one interval and end.")
@option("--metrics-url", "metrics_urls", multiple=True, metavar="URL", help="The address of a server's metrics; repeat "
        "it in the order of the servers. Default: port 8002 beside 8000 and 8001.")  # fmt: skip
@json_option
def watch(urls: tuple[str, ...], interval: float, once: bool, metrics_urls: tuple[str, ...], as_json: bool) -> int:
    """Show what running servers do: requests per second, queue and compute time, batch sizes, failures, pending
    requests and memory of every model, and of every step below its ensemble, with the step that limits it.

    URL is Triton's HTTP address (http://host:8000) or gRPC address (grpc://host:8001). On a terminal the table is
    updated in place and averages the last 10 seconds; q or Ctrl-C ends it. Elsewhere the lines of an interval follow
    those of the one before it; with --json each interval is one line with a JSON object.

    Exit code 0: ended by q or a signal; 1: with --once, a server gives no answer; 2: invalid usage.
    """  # noqa: D205 - the help of a command begins with a sentence
    if metrics_urls and len(metrics_urls) != len(urls):
        raise click.UsageError(f"expected a --metrics-url for each server ({len(urls)}), got {len(metrics_urls)}")
    is_live = out.is_terminal and not once and not as_json
    with contextlib.ExitStack() as stack:
        servers = []
        for place, url in enumerate(urls):
            poller = ServerPoller(url, metrics_url=metrics_urls[place] if metrics_urls else None)
            stack.callback(poller.close)
            servers.append(WatchedServer(poller, ActivityHistory(_WINDOW if is_live else 0.0)))
        if once:
            return _print_once(servers, interval, as_json=as_json)

        def interrupt(_: int) -> None:
            raise _Interruption

        try:
            with handle_signals(interrupt):
                if is_live:
                    _show_live(servers, interval)
                else:
                    _print_intervals(servers, interval, as_json=as_json)
        except _Interruption:
            pass
    return 0


def _print_once(servers: Sequence[WatchedServer], interval: float, *, as_json: bool) -> int:
    with _open_reader(servers) as reader:
        reader.read()
        time.sleep(interval)
        reader.read()
    silent = [server for server in servers if server.problem]
    if as_json or len(silent) < len(servers):
        _print_interval(servers, as_json=as_json)
    if silent and not as_json:
        raise ConnectError(silent[0].problem)
    return 1 if silent else 0


def _print_intervals(servers: Sequence[WatchedServer], interval: float, *, as_json: bool) -> None:
    with _open_reader(servers) as reader:
        reader.read()
        for _ in _list_intervals(interval):
            reader.read()
            _print_interval(servers, as_json=as_json)


def _print_interval(servers: Sequence[WatchedServer], *, as_json: bool) -> None:
    if as_json:
        echo_json(describe_servers(servers, moment=time.time()), indent=None)
        return
    echo(time.strftime("%H:%M:%S"))
    for line in list_lines(servers):
        echo(line)
    sys.stdout.flush()


def _list_intervals(interval: float) -> Iterator[None]:
    """Yield after each interval; a slow reading delays those after it and is not caught up on."""
    due = time.monotonic() + interval
    while True:
        time.sleep(max(due - time.monotonic(), 0.0))
        yield
        due = max(due + interval, time.monotonic())


def _show_live(servers: Sequence[WatchedServer], interval: float) -> None:
    """Show the table on the terminal's other screen until a key or a signal ends it."""
    from rich.live import Live

    hint = "q ends"
    with _open_reader(servers) as reader, _read_keys() as wait_for_key:
        reader.read()
        with Live(ServerTable(servers, hint=hint), console=out, screen=True, auto_refresh=False) as live:
            is_ended = False
            while not is_ended:
                due = time.monotonic() + interval
                reader.read()
                live.update(ServerTable(servers, hint=hint), refresh=True)
                while not is_ended and (rest := due - time.monotonic()) > 0:
                    is_ended = wait_for_key(rest) in ("q", "Q", "\x03", "\x04")


class _Reader:
    """Reads all servers at the same time."""

    def __init__(self, servers: Sequence[WatchedServer], pool: ThreadPoolExecutor | None) -> None:
        self._servers = servers
        self._pool = pool

    def read(self) -> None:
        """Read every server. Raises EncodeError if an address has no statistics."""
        if self._pool is None:
            self._servers[0].update()
        else:
            list(self._pool.map(WatchedServer.update, self._servers))


@contextlib.contextmanager
def _open_reader(servers: Sequence[WatchedServer]) -> Iterator[_Reader]:
    if len(servers) == 1:
        yield _Reader(servers, None)
        return
    pool = ThreadPoolExecutor(min(len(servers), _MOST_THREADS))
    try:
        yield _Reader(servers, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _read_keys() -> Iterator[_KeyReader]:
    """Yield a function that waits for a key for some seconds; without a terminal as standard input it only waits."""
    import termios
    import tty

    try:
        descriptor = sys.stdin.fileno()
        previous = termios.tcgetattr(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):
        yield _KeyReader(None)
        return
    tty.setcbreak(descriptor)
    try:
        yield _KeyReader(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, previous)


class _KeyReader:
    """Waits for a key."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self, seconds: float) -> str:
        """Return the key that is pressed within these seconds, "" without one."""
        if self._descriptor is None:
            time.sleep(seconds)
            return ""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return ""
        key = os.read(self._descriptor, 1).decode(errors="replace")
        if not key:  # the terminal was closed
            self._descriptor = None
        return key


@contextlib.contextmanager
def show_activity(
    url: str, *, metrics_url: str | None, calls: Mapping[str, Sequence[str]], interval: float = 1.0
) -> Iterator[None]:
    """Show the table of a server below what else is printed on standard error, while the context lasts.

    ``calls`` are the models that the code of each model requests, which are rows below it. Lines that are printed
    meanwhile appear above the table. Where standard error is not a terminal, the lines of the table are printed every
    10 intervals.
    """
    from rich.live import Live

    ended = threading.Event()
    server = WatchedServer(ServerPoller(url, metrics_url=metrics_url), ActivityHistory(_WINDOW, calls))
    live = Live(console=err, auto_refresh=False, transient=True) if err.is_terminal else None

    def run() -> None:
        count = 0
        while True:
            server.update()
            if live is not None:
                live.update(ServerTable([server]), refresh=True)
            elif server.activity is not None and count % 10 == 0:
                for line in list_lines([server]):
                    err.print(line, markup=False)
            count += server.activity is not None
            if ended.wait(interval):
                return

    thread = threading.Thread(target=run, name="watch", daemon=True)
    with server.poller, live or contextlib.nullcontext():
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
