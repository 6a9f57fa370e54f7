"""The table of `tritonforge watch`, from activities that no server of a test has."""

from __future__ import annotations

import io

from rich.console import Console

from tritonforge.cli.activity_table import ServerTable, WatchedServer, describe_servers, list_lines
from tritonforge.profiling.activity import ActivityHistory, ActivityRow, ModelActivity, ServerActivity
from tritonforge.profiling.server_poller import ServerPoller


def row(name: str, depth: int = 0, *, rate: float = 5.0, is_bottleneck: bool = False) -> ActivityRow:
    return ActivityRow(name, name, depth, False, rate, 1, 2, 0.5, 1.5, 2.0, {1: 2, 8: 2}, 0.25, None, is_bottleneck)


def watch(*models: ModelActivity) -> WatchedServer:
    server = WatchedServer(ServerPoller("http://127.0.0.1:8000"), ActivityHistory(1.0))
    server.activity = ServerActivity(1.0, models)
    return server


def show(server: WatchedServer, *, width: int = 100, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, soft_wrap=True)
    console.print(ServerTable([server]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("\n")


def test_names_of_a_server_cannot_control_the_terminal() -> None:
    server = watch(ModelActivity((row("a\x1b[2J\nb"),)))
    for text in ("\n".join(show(server)), "\n".join(list_lines([server]))):
        assert "\x1b[2J" not in text
        assert "a\\u001b[2J\\u000ab" in text


def test_long_names_are_shortened_so_that_the_figures_fit() -> None:
    server = watch(ModelActivity((row("m" * 200), row(f"{'n' * 50}/{'s' * 100}", 2, is_bottleneck=True))))
    lines = show(server, width=80)
    assert all(len(line) <= 90 for line in lines)  # with escapes of styles
    assert sum("25%" in line for line in lines) == 2
    assert any("\x1b[1;7m> " in line for line in lines)
    assert any("m" * 200 in line for line in list_lines([server]))


def test_models_without_requests_are_left_out_where_the_rows_do_not_fit() -> None:
    server = watch(*(ModelActivity((row(f"model{number:03}", rate=float(number == 7)),)) for number in range(100)))
    lines = show(server, height=30)
    assert len(lines) < 10
    assert any("model007" in line for line in lines)
    assert any("99 models without requests" in line for line in lines)
    assert len(list(list_lines([server]))) > 100


def test_a_server_without_a_reading_or_an_answer_is_described() -> None:
    server = watch()
    server.activity = None
    assert show(server)[0].startswith("\x1b[1mhttp://127.0.0.1:8000  reading ...")
    assert describe_servers([server], moment=1.5)["servers"] == [
        {"url": "http://127.0.0.1:8000", "error": "only one reading so far"}
    ]
    server.problem = "no server answers"
    assert "no valid answer for" in show(server)[0]
    assert show(server)[1] == "no server answers"
