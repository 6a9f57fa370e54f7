"""A repository and the server that runs it, as the page asks for them: models, graph, samples, requests, figures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from tritonforge.errors import CaseError, DecodeError, ServerError
from tritonforge.golden_tests.data_flow import find_outermost
from tritonforge.graph.diagram import Graph
from tritonforge.graph.graph_reader import read_calls, read_graph
from tritonforge.inference.client import Client
from tritonforge.inference.http_transport import Address
from tritonforge.inference.transports import ModelMetadata
from tritonforge.inference.wire import decode_error
from tritonforge.profiling.statistics import ServerStatistics, parse_statistics
from tritonforge.profiling.step_times import Calls
from tritonforge.serving.repository_overlay import read_configs, select_models
from tritonforge.triton.schema import new_model_config
from tritonforge.validation.findings import Finding
from tritonforge.validation.tree_reader import read_tree
from tritonforge.web_console.graph_view import build_graph_view
from tritonforge.web_console.live_statistics import LiveStatistics
from tritonforge.web_console.request_run import RequestFollower
from tritonforge.web_console.samples import SampleLibrary, convert_upload, find_image_input

__all__ = ["ServedRepository"]

Document = dict[str, Any]

_OK: Final = 200
#: Seconds that a model may take for a request of the page.
_TIMEOUT: Final = 120.0
#: Bytes and lines of a file with the names of classes.
_LARGEST_LABELS: Final = 4 * 2**20


class ServedRepository:
    """A repository that a local server serves.

    Args:
        repository: the directory of the models.
        http_url: the address of Triton's HTTP front end.
        grpc_url: that of its gRPC front end, for decoupled models; None where it is off.
        model: the only model that the server has, with its steps; None for all models.
        samples: the directory of samples; None searches beside the repository.
    """

    def __init__(
        self, repository: Path, http_url: str, *, grpc_url: str | None, model: str | None, samples: Path | None
    ) -> None:
        self._repository = repository
        self._address = Address(http_url, timeout=_TIMEOUT, connections=4)
        self._client = Client(http_url, front_end="triton", timeout=_TIMEOUT)
        self._grpc_url = grpc_url
        self._stream: Client | None = None
        self._model = model
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        configs = read_configs(repository)
        selected = configs if model is None else select_models(configs, [model])
        self._configs = {name: self._read_config(name) for name in selected}
        calls = read_calls(read_tree(repository))
        self._models = (model,) if model is not None else _list_outermost(self._configs, calls)
        self._samples = SampleLibrary(repository, samples)
        self._live = LiveStatistics(self._configs, self._models, calls=calls)
        self._follower = RequestFollower(
            self._client,
            self._configs,
            labels=_read_labels(repository, self._configs),
            read_statistics=self._read_statistics,
            open_stream=self._open_stream,
            calls=calls,
        )

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()
        self._address.close()
        if self._stream is not None:
            self._stream.close()

    def describe(self) -> Document:
        """Return the repository, the server, and the models that clients request, with their samples."""
        server = json.loads(self._get("/v2"))
        return {
            "repository": self._repository.name,
            "server": {"name": str(server.get("name", "")), "version": str(server.get("version", ""))},
            "models": [self._describe_model(name) for name in self._models],
        }

    def describe_graph(self, model: str) -> Document:
        """Return the picture of a model with the places in it, and the findings on the repository."""
        graph = self._read_graph()
        self._check_model(model)
        findings = [_describe_finding(number, finding) for number, finding in enumerate(graph.findings, 1)]
        return {**asdict(build_graph_view(graph, model)), "findings": findings}

    def describe_load(self, model: str) -> Document:
        """Return the figures of a model and its steps since the reading before, and those of the last minutes."""
        self._check_model(model)
        with self._lock:
            now = time.monotonic()
            if self._live.needs_reading(now):
                self._live.add(self._read_statistics(), now)
            return self._live.describe(model)

    def send_sample(self, model: str, number: int) -> Document:
        """Send a sample and return the document of the request. Raises CaseError, EncodeError and ConnectError."""
        metadata = self._fetch_metadata(model)
        inputs = self._samples.read_inputs(number, metadata, is_only=len(self._models) == 1)
        return self._follower.follow(model, inputs)

    def send_file(self, model: str, name: str, content: bytes) -> Document:
        """Send a file and return the document of the request. Raises CaseError, EncodeError and ConnectError."""
        return self._follower.follow(model, convert_upload(name, content, self._fetch_metadata(model)))

    def read_picture(self, model: str, number: int) -> bytes:
        """Return the encoded image of a sample; empty for one without an image. Raises CaseError."""
        return self._samples.read_picture(number, self._fetch_metadata(model), is_only=len(self._models) == 1)

    def _describe_model(self, name: str) -> Document:
        metadata = self._fetch_metadata(name)
        samples = self._samples.list_samples(metadata, is_only=len(self._models) == 1)
        return {
            "name": name,
            "inputs": [asdict(tensor) for tensor in metadata.inputs],
            "outputs": [asdict(tensor) for tensor in metadata.outputs],
            "takes_image": find_image_input(metadata) is not None,
            "is_ensemble": bool(self._configs[name].ensemble_scheduling.step),
            "samples": [asdict(sample) for sample in samples],
        }

    def _check_model(self, model: str) -> None:
        if model not in self._models:
            raise CaseError(f"model {model!r}: not found (expected one of {', '.join(self._models)})")

    def _fetch_metadata(self, model: str) -> ModelMetadata:
        self._check_model(model)
        return self._client.metadata(model)

    def _read_graph(self) -> Graph:
        with self._lock:
            if self._graph is None:
                self._graph = read_graph(read_tree(self._repository), models=self._models)
            return self._graph

    def _read_config(self, name: str) -> Any:
        """Return a configuration as the server completed it."""
        config = new_model_config()
        path = f"/v2/models/{name}/config"
        try:
            json_format.Parse(self._get(path), config, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise DecodeError(f"{self._address.url}{path}: expected a model's configuration: {error}") from error
        return config

    def _read_statistics(self) -> ServerStatistics:
        return parse_statistics(self._get("/v2/models/stats"), where=self._address.url)

    def _get(self, path: str) -> bytes:
        response = self._address.get(path)
        if response.status != _OK:
            raise ServerError(decode_error(response.data), status=response.status)
        return bytes(response.data)

    def _open_stream(self) -> Client | None:
        if self._stream is None and self._grpc_url is not None:
            self._stream = Client(self._grpc_url)
        return self._stream


def _list_outermost(configs: Mapping[str, Any], calls: Calls) -> tuple[str, ...]:
    """Return the models that are not a step of an ensemble: ensembles first, and those last that code requests."""
    ensembles = find_outermost(configs)
    steps = {step.model_name for config in configs.values() for step in config.ensemble_scheduling.step}
    called = {name for caller, names in calls.items() for name in names if name != caller}
    outermost = dict.fromkeys([*ensembles, *(name for name in configs if name not in steps)])
    return tuple(sorted(outermost, key=lambda name: name in called))


def _describe_finding(number: int, finding: Finding) -> Document:
    return {
        "number": number,
        "code": finding.code,
        "severity": finding.severity,
        "place": f"{finding.path}{f':{finding.line}' if finding.line else ''}",
        "message": finding.message,
        "help": finding.help,
    }


def _read_labels(repository: Path, configs: Mapping[str, Any]) -> dict[tuple[str, str], Sequence[str]]:
    """Return the names of classes by model and output; a file that Triton would not read either is left out."""
    labels: dict[tuple[str, str], Sequence[str]] = {}
    for name, config in configs.items():
        folder = repository / name
        for output in config.output:
            path = folder / output.label_filename
            if not output.label_filename or not path.resolve().is_relative_to(folder.resolve()):
                continue
            try:
                with path.open("rb") as file:
                    labels[name, output.name] = file.read(_LARGEST_LABELS).decode("utf-8", "replace").splitlines()
            except OSError:
                continue
    return labels
