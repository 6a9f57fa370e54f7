"""Planted bottlenecks on a real server: profile names the step. `make bottlenecks` has all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bottleneck_repositories import PLANTED, Planted, lengthen_sleeps
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.inference.client import Client
from tritonforge.profiling.load import ClosedLoop, OpenLoop, StopRule
from tritonforge.profiling.load_generator import measure
from tritonforge.profiling.session import profile_loads
from tritonforge.profiling.target import open_target, read_configs
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

CASES = [case for case in PLANTED if case.name in ("long_delay", "locked", "serial_calls")]
#: Ends after a second, and later on a machine that is too busy for 20 answers in it.
SHORT = StopRule(precision=10.0, min_seconds=0.7, max_seconds=60.0, warm_up=0.2, min_requests=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bottlenecks")
    for case in CASES:
        case.write(folder)
    lengthen_sleeps(folder, 4)
    with ThrowawayServer(
        folder, sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=None, default_model=None
    ) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_step_that_limits_an_ensemble_is_named(case: Planted, server: Server) -> None:
    assert server.http_url is not None
    payloads, _ = case.encode()
    with Client(server.http_url) as client:
        (profile,) = profile_loads(
            open_target(client, model=case.name),
            payloads,
            [ClosedLoop(case.concurrency)],
            configs=read_configs(client),
            stop=SHORT,
        )
    found = profile.bottleneck
    assert found is not None
    assert (found.step, found.kind in case.kinds) == (case.step, True), found.sentence
    assert profile.times is not None
    explained = sum(step.total for step in profile.times.critical_path) + profile.times.overhead
    assert explained == pytest.approx(profile.times.total, rel=0.05)


def test_statistics_and_configurations_are_the_same_over_grpc(server: Server) -> None:
    assert server.http_url is not None
    assert server.grpc_url is not None
    with Client(server.http_url) as http, Client(server.grpc_url) as grpc:
        first, second = read_configs(http), read_configs(grpc)
        assert {name: str(config) for name, config in first.items()} == {
            name: str(config) for name, config in second.items()
        }
        statistics = [open_target(client, model="locked").read_statistics for client in (http, grpc)]
        over_http, over_grpc = (read() for read in statistics if read is not None)
        assert over_http == over_grpc


@pytest.mark.parametrize("load", [ClosedLoop(2), OpenLoop(20, is_poisson=False)], ids=str)
def test_grpc_and_http_measure_the_same_load(load: Any, server: Server) -> None:
    payloads, _ = CASES[0].encode()
    for url in (server.http_url, server.grpc_url):
        assert url is not None
        with Client(url) as client:
            result = measure(open_target(client, model="locked_pre"), payloads, load, stop=SHORT)
        assert result.requests >= 20
        assert result.failures == 0
        assert result.p50 >= 8.0  # the model sleeps that long
        assert (result.send_lag is not None) == isinstance(load, OpenLoop)


def test_the_command_prints_json_and_writes_a_page(server: Server, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    done = run(server.http_url, "--model", "locked_pre", "--html", str(page), "--concurrency", "1,2", *FAST)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [load["load"] for load in document["loads"]] == [{"concurrency": 1}, {"concurrency": 2}]
    assert document["loads"][1]["bottleneck"]["step"] == "locked_pre"
    assert "<svg" in page.read_text()


def test_the_command_prints_the_bottleneck_and_refuses_what_does_not_fit(server: Server) -> None:
    done = run(server.http_url, "--model", "locked", "--input", "x=[[1, 2]]", *FAST[:-1], "--concurrency", "3")
    assert done.returncode == 0, done.stderr
    assert "between the steps" in done.stdout
    assert "bottleneck: locked_net takes" in done.stdout
    done = run(server.http_url, "--model", "locked_pre", "--batch", "9", *FAST)
    assert done.returncode == 2
    assert "max_batch_size is 8, got a batch of 9" in done.stderr
    done = run(server.http_url, *FAST)
    assert done.returncode == 2
    assert "--model NAME" in done.stderr


def test_an_interrupted_profile_prints_what_was_measured(server: Server) -> None:
    command = [*COMMAND, str(server.http_url), "--model=locked", "--concurrency=1,2", "--max-time=60", "--json",
               "--precision=0.1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "measuring 1 of 2" in line:
            break
    time.sleep(2.5)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    (load,) = json.loads(output)["loads"]
    assert load["is_interrupted"]
    assert load["requests"] > 0


def test_a_sagemaker_address_has_no_times_of_steps(server: Server) -> None:
    assert server.sagemaker_url is not None
    payloads, _ = CASES[0].encode()
    with Client(server.sagemaker_url) as client:
        target = open_target(client)
        assert (target.read_statistics, target.front_end) == (None, "sagemaker")
        assert read_configs(client) == {}
        # It has no default model: every request is refused, which is counted with the server's sentence.
        result = measure(target, payloads, ClosedLoop(2), stop=StopRule(min_seconds=0.3, max_seconds=0.5, warm_up=0.0))
    assert result.requests == 0
    assert result.failures > 0
    assert "400" in result.errors[0].sentence or "404" in result.errors[0].sentence


COMMAND = [str(Path(sys.executable).with_name("tritonforge")), "profile"]
FAST = ("--max-time", "1", "--warm-up", "0.1", "--json")


def run(*arguments: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
