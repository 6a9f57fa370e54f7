"""Changes the configurations of the models of a running Triton, by Triton's own API for loading models.

The server is in explicit model control (``--model-control-mode=explicit``). ``POST /v2/repository/models/NAME/load``
takes the configuration as a parameter (docs/protocol/extension_model_repository.md), so that no file of the repository
changes and only the models that differ are loaded again; where only the number of instances differs, Triton keeps the
instances that it has. An ensemble is loaded again with its steps, and is gone if it does not fit them any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import urllib3
from google.protobuf import json_format

from tritonforge.errors import ConnectError, ServerError, TritonForgeError
from tritonforge.triton.schema import ModelConfig

__all__ = ["ModelControl", "TrialError"]

_SECONDS_TO_CONNECT: Final = 5.0


class TrialError(TritonForgeError):
    """Triton does not load a model with the configuration of a trial; the message is Triton's reason."""


class ModelControl:
    """Loads models of a running Triton with other configurations than those of its repository.

    Args:
        url: of the server's HTTP API.
        configs: the configurations with which it loaded the models of its repository.
        headers: what its API for loading models requires (``--http-restricted-api``).
        timeout: seconds until a model must be loaded.
    """

    def __init__(
        self, url: str, configs: Mapping[str, ModelConfig], *, headers: Mapping[str, str], timeout: float = 300.0
    ) -> None:
        self._url = url.rstrip("/")
        self._original = dict(configs)
        self._loaded = dict(configs)
        self._headers = dict(headers)
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_SECONDS_TO_CONNECT, read=timeout), retries=False
        )

    def check(self) -> None:
        """Check that models can be loaded by request.

        Raises:
            ServerError: the server is not in explicit model control, or refuses the header.
            ConnectError: no server answers.
        """
        name = next(iter(self._original))
        status, body = self._post(f"/v2/repository/models/{quote(name, safe='')}/load", self._write_body(name))
        if status != 200:
            raise ServerError(
                f"{_find_error(body)}. {self._url} must load models by request: start it with "
                "--model-control-mode=explicit and --load-model for every model.",
                status=status,
            )

    def load_all(self) -> None:
        """Load every model with the configuration that it should have by now.

        Raises:
            ServerError: the server does not load models by request.
            TrialError, ConnectError: as for `apply`.
        """
        self.check()
        ensembles = self._order_ensembles()
        for name in [*(name for name in self._original if name not in ensembles), *ensembles]:
            self._load(name, self._original[name])

    def apply(self, configs: Mapping[str, ModelConfig]) -> list[str]:
        """Load the models whose configurations differ from the present ones, and return their names.

        Raises:
            TrialError: a model is not loaded; the models that were loaded before it stay so.
            ConnectError: the server does not answer.
        """
        changed = [name for name in self._original if configs[name] != self._loaded[name]]
        steps = [name for name in changed if not _is_ensemble(configs[name])]
        ensembles = self._order_ensembles()
        for name in steps:
            self._load(name, configs[name])
        if changed:
            ready = self._list_ready()
            for name in ensembles:
                if name in changed or name not in ready:
                    self._load(name, configs[name])
        return changed

    def restore(self) -> None:
        """Load the models as their files in the repository have them. Raises as `apply` does.

        A model is unloaded first: after a load with a configuration, one without it keeps that (seen with 2.51).
        """
        changed = [name for name in self._original if self._original[name] != self._loaded[name]]
        if not changed:
            return
        ensembles = self._order_ensembles()
        for name in changed:
            self._send(name, "unload", json.dumps({"parameters": {"unload_dependents": False}}))
        for name in [name for name in changed if name not in ensembles] + ensembles:
            self._send(name, "load", "{}")
            self._loaded[name] = self._original[name]

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def _load(self, name: str, config: ModelConfig) -> None:
        self._loaded[name] = config
        self._send(name, "load", self._write_body(name))

    def _write_body(self, name: str) -> str:
        document = json_format.MessageToDict(self._loaded[name], preserving_proto_field_name=True)
        return json.dumps({"parameters": {"config": json.dumps(document)}})

    def _send(self, name: str, action: str, body: str) -> None:
        status, answer = self._post(f"/v2/repository/models/{quote(name, safe='')}/{action}", body)
        if status != 200:
            raise TrialError(_find_error(answer))

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        try:
            response = self._http.request("POST", f"{self._url}{path}", body=body.encode(), headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectError(f"{self._url}: no answer while a model was loaded: {error}") from error
        return response.status, response.data

    def _list_ready(self) -> set[str]:
        status, body = self._post("/v2/repository/index", '{"ready": true}')
        if status != 200:
            raise TrialError(_find_error(body))
        return {row["name"] for row in json.loads(body)}

    def _order_ensembles(self) -> list[str]:
        """Return the ensembles, inner ones first."""
        ordered: list[str] = []
        pending: set[str] = set()

        def add(name: str) -> None:
            config: Any = self._original.get(name)
            if config is None or name in ordered or name in pending or not _is_ensemble(config):
                return
            pending.add(name)
            for step in config.ensemble_scheduling.step:
                add(step.model_name)
            ordered.append(name)

        for name in self._original:
            add(name)
        return ordered


def _is_ensemble(config: Any) -> bool:
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def _find_error(body: bytes) -> str:
    """Return the sentence of an error of Triton's HTTP API."""
    try:
        return str(json.loads(body)["error"]).strip()
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "no reason"
