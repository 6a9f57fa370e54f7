"""Clients of other projects: AWS's command line and SDKs, in an environment of their own (`make setup`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.forked_scripts import Forks
from tritonforge.emulator import Emulator, client_environment

PEERS = ROOT / ".venv" / "peers" / "bin"
#: A folder with AWS's SageMaker SDK 2; without it on PYTHONPATH the environment has version 3.
SDK_2 = ROOT / ".venv" / "peers" / "sagemaker-2"

_SCRIPTS = Path(__file__).parents[1] / "sagemaker" / "peers"
#: A folder with what shortens the SDKs' waits.
_QUICK = _SCRIPTS / "quick"
_SERVICE_MODELS = _SCRIPTS / "service_models.py"
_SCHEMA_CHECKS = _SCRIPTS / "schema_checks.py"


def own_variables() -> dict[str, str]:
    """The variables of this process, without AWS's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


class Peers:
    """Runs the clients; those that import the same are forks of one process, which starts when it is first needed."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()

    @cached_property
    def _command_line(self) -> Forks:
        forks = Forks(
            [PEERS / "python"], "awscli.clidriver", "awscli.handlers", _SERVICE_MODELS, environment=own_variables()
        )
        return self._running.enter_context(forks)

    @cached_property
    def _sdk_3(self) -> Forks:
        modules = ("sagemaker.core.resources", "sagemaker.train.model_trainer")
        variables = {**own_variables(), "PYTHONPATH": str(_QUICK)}
        warm = (_SCHEMA_CHECKS, *modules, _SERVICE_MODELS)
        forks = Forks([PEERS / "python", "-W", "ignore"], *warm, environment=variables)
        return self._running.enter_context(forks)

    @cached_property
    def _boto3(self) -> Forks:
        forks = Forks([sys.executable], "boto3", "numpy", "tritonclient.http", environment=own_variables())
        return self._running.enter_context(forks)

    def aws(self, emulator: Emulator, *arguments: str) -> Any:
        """Run AWS's command line, and return its JSON."""
        variables = {**own_variables(), **emulator.environment}
        done = self._command_line.run(PEERS / "aws", *arguments, "--output", "json", environment=variables)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout) if done.stdout.strip() else None

    def boto3(self, emulator: Emulator, script: Path, *arguments: str) -> str:
        """Run a script on boto3 in the environment of the tests, and return its output."""
        return _output(self._boto3, {**own_variables(), **emulator.environment}, script, *arguments)

    def sdk_3(self, emulator: Emulator, script: Path, *arguments: str, proxy: bool = False) -> str:
        """Run a script on SageMaker SDK 3, and return its output; with ``proxy``, through the emulator's proxy."""
        own = own_variables()
        variables = (
            client_environment.merge_environment(own, emulator.proxy_environment)
            if proxy
            else {**own, **emulator.environment}
        )
        return _output(self._sdk_3, variables, script, *arguments)


def _output(forks: Forks, variables: Mapping[str, str], script: Path, *arguments: str) -> str:
    done = forks.run(script, *arguments, environment=variables)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def run_sdk_2(emulator: Emulator, *scripts: tuple[str, ...], folder: Path | None = None) -> tuple[int, str]:
    """Run scripts of `peers/`, each with its arguments, in one process with SDK 2, through the emulator's proxy.

    ``folder`` is the working directory. Returns the exit code and what was printed on either stream.
    """
    variables = client_environment.merge_environment(own_variables(), emulator.proxy_environment)
    variables["PYTHONPATH"] = os.pathsep.join(map(str, (_QUICK, SDK_2)))
    listed = [[str(_SCHEMA_CHECKS)], [str(_SERVICE_MODELS)]]
    listed += [[str(_SCRIPTS / name), *arguments] for name, *arguments in scripts]
    done = subprocess.run(
        [PEERS / "python", "-W", "ignore", _SCRIPTS / "several.py", json.dumps(listed)],
        env=variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    return done.returncode, done.stdout


IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"


@dataclass(frozen=True)
class Place:
    """The running emulator, and where the package lies in its S3."""

    emulator: Emulator
    package: str

    def client(self, service: str) -> Any:
        """A boto3 client of the emulator."""
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        region = self.emulator.environment["AWS_DEFAULT_REGION"]
        return boto3.client(service, endpoint_url=self.emulator.url, region_name=region, **keys)


def upload_package(emulator: Emulator, repository: Path, folder: Path) -> Place:
    """Package a repository and upload it by boto3."""
    place = Place(emulator, f"s3://models/{repository.name}.tar.gz")
    s3 = place.client("s3")
    s3.create_bucket(Bucket="models")  # in us-east-1 the owner may create it again
    archive = folder / f"{repository.name}.tar.gz"
    done = tritonforge("package", str(repository), "-o", str(archive), "--image", "24.09")
    assert done.returncode == 0, done.stderr
    s3.upload_file(str(archive), "models", archive.name)
    return place
