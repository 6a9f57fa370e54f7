"""The predictor that replaces TensorFlow Serving: TensorFlow in a process of its own, behind the same REST API.

``python -m tritonforge.serving.tfs.predictor`` takes the flags and files that tensorflow_model_server is given by
SageMaker's container (`package.build_command`). Requests are batched by the scheduler that TensorFlow Serving uses too
(`servable`). It has no gRPC. Sources: tensorflow/serving tensorflow_serving/model_servers/http_rest_api_handler.cc,
http_rest_api_util.cc, get_model_status_impl.cc; g3doc/api_rest.md; config/model_server_config.proto, servables/
tensorflow/session_bundle_config.proto, sources/storage_path/file_system_storage_path_source.proto.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import text_format

from tritonforge import tf_memory
from tritonforge.errors import LaunchError
from tritonforge.serving import loopback
from tritonforge.serving.listener import Listener, Reply, Request, open_socket
from tritonforge.serving.tfs import predict_request, predict_response, servable
from tritonforge.serving.tfs.predict_request import NOT_FOUND, StatusError, get_code_name
from tritonforge.serving.tfs.servable import DEFAULT_SIGNATURE, Servable, Signature, load_servable
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class
from tritonforge.triton.tfs_container import Batching

__all__ = ["RestApi", "ServableConfig", "parse_batching", "parse_models"]


def main() -> int:
    """Load the models, and answer until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tritonforge.serving.tfs.predictor", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=0, help="ignored: the predictor has no gRPC")
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--max_num_load_retries", type=int, default=0)
    parser.add_argument("--enable_batching", default="false")
    parser.add_argument("--batching_parameters_file", type=Path)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0)
    arguments = parser.parse_args()
    try:
        models = parse_models(arguments.model_config_file.read_text(encoding="utf-8"))
        batching = None
        if arguments.enable_batching == "true":
            batching = parse_batching(arguments.batching_parameters_file.read_text(encoding="utf-8"))
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    tf = tf_memory.import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.tensorflow_intra_op_parallelism)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.tensorflow_inter_op_parallelism)
    servables = [servable for model in models for servable in _load_versions(model, batching)]
    Listener(open_socket(loopback.HOST, arguments.rest_api_port), RestApi(servables).answer).run()
    return 0


def _load_versions(model: ServableConfig, batching: Batching | None) -> list[Servable]:
    """Load every requested version of a model that has a folder, whose name may have leading zeros."""
    names = sorted((path.name for path in Path(model.base_path).iterdir()), reverse=True)
    folders = {int(name): name for name in names if name.isdecimal()}
    return [
        load_servable(model.name, version, Path(model.base_path, folders[version]), batching)
        for version in model.versions
        if version in folders
    ]


_METHOD: Final = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r":(?P<method>classify|regress|predict)",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(
    r"/v1/models(?:/(?P<model>[^/:]+))?(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?(?P<metadata>/metadata)?",
    re.IGNORECASE,
)

#: Digits of the largest version.
_DIGITS: Final = 19


class RestApi:
    """Answers the API's requests for these servables, from many threads."""

    def __init__(self, servables: Sequence[Servable]) -> None:
        self._servables = {(servable.name, servable.version): servable for servable in servables}

    def answer(self, request: Request) -> Reply:
        """Return the response to any request."""
        if not request.path.lower().startswith("/v1/"):
            return Reply(HTTPStatus.NOT_FOUND, b"<html><body>404 Not Found</body></html>", "text/html")
        try:
            return Reply(HTTPStatus.OK, self._answer(request))
        except StatusError as refusal:
            sentence, status = str(refusal), refusal.status
        except RecursionError:  # nested lists that JSON's reader still accepts
            sentence, status = "JSON Value: it is nested too deeply", HTTPStatus.BAD_REQUEST
        return Reply(status, predict_response.write_error(sentence))

    def _answer(self, request: Request) -> bytes:
        if request.method == "POST" and (match := _METHOD.fullmatch(request.path)):
            method = match["method"].lower()
            document = predict_request.parse_request(request.body)
            signature = self._find_signature(document, match["model"], match["version"], match["label"])
            if method == "predict":
                return _predict(document, signature, request.body)
            serialised = servable.serialise_examples(document, method)
            if method == "classify":
                return predict_response.write_classifications(servable.classify(signature, serialised))
            return predict_response.write_regressions(servable.regress(signature, serialised))
        if request.method == "GET" and (match := _STATUS.fullmatch(request.path)):
            if match["model"] is None:
                raise StatusError("Missing model name in request.")
            if match["metadata"]:
                return _write_metadata(self._find_servable(match["model"], match["version"], match["label"]))
            return self._write_status(match["model"], match["version"])
        raise StatusError(f"Malformed request: {request.method} {request.path}")

    def _find_signature(
        self, document: Mapping[str, Any], model: str, version: str | None, label: str | None
    ) -> Signature:
        name = predict_request.read_signature_name(document) or DEFAULT_SIGNATURE
        signatures = self._find_servable(model, version, label).signatures
        if name not in signatures:
            raise StatusError(f'Serving signature name: "{name}" not found in signature def')
        return signatures[name]

    def _find_servable(self, model: str, version: str | None, label: str | None) -> Servable:
        """Return the requested version, or the highest that is loaded."""
        if label is not None:
            raise StatusError(f"Unrecognized servable version label: {label}")
        loaded = {
            key[1]: servable for key, servable in self._servables.items() if key[0] == model and not servable.error
        }
        number = None if version is None else _parse_version(version)
        if number is not None and number in loaded:
            return loaded[number]
        if number is not None or not loaded:
            request = f"Latest({model})" if number is None else f"Specific({model}, {number})"
            raise StatusError(f"Servable not found for request: {request}", code=NOT_FOUND)
        return loaded[max(loaded)]

    def _write_status(self, model: str, version: str | None) -> bytes:
        versions = {key[1]: servable for key, servable in self._servables.items() if key[0] == model}
        requested = None if version is None else _parse_version(version)
        if requested is not None and requested not in versions:
            raise StatusError(f"Could not find version {requested} of model {model}", code=NOT_FOUND)
        if not versions:
            raise StatusError(f"Could not find any versions of model {model}", code=NOT_FOUND)
        rows = [
            {
                "version": str(servable.version),
                "state": "END" if servable.error else "AVAILABLE",
                "status": {"error_code": get_code_name(servable.code), "error_message": servable.error},
            }
            for number, servable in sorted(versions.items(), reverse=True)
            if requested is None or number == requested
        ]
        return json.dumps({"model_version_status": rows}, indent=1).encode() + b"\n"


def _parse_version(version: str) -> int:
    """Return the version in a path; TensorFlow Serving reads 64 bits (http_rest_api_util.cc `ParseModelInfo`)."""
    if len(version) > _DIGITS or int(version) >= 2**63:
        raise StatusError(f"Failed to convert version: {version:.40} to numeric.")
    return int(version)


def _predict(document: Mapping[str, Any], signature: Signature, body: bytes) -> bytes:
    # JSON's true and false would pass for numbers with numpy, and are refused by the API.
    plain = b"true" not in body and b"false" not in body
    inputs, form = predict_request.read_arrays(document, signature.inputs, plain=plain)
    return predict_response.write_predictions(signature.run(inputs), form)


def _write_metadata(servable: Servable) -> bytes:
    """Return the signatures of a servable: names, types and shapes, TensorFlow's own protobuf as JSON."""
    document = {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": {"signature_def": dict(servable.definitions)}},
    }
    return json.dumps(document, indent=1).encode() + b"\n"


_MODELS: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Specific": ((1, REPEATED, "int64", "versions", None),),
        "Policy": ((102, OPTIONAL, "Specific", "specific", None),),
        "Model": (
            (1, OPTIONAL, "string", "name", None),
            (2, OPTIONAL, "string", "base_path", None),
            (4, OPTIONAL, "string", "model_platform", None),
            (7, OPTIONAL, "Policy", "model_version_policy", None),
        ),
        "Models": ((1, REPEATED, "Model", "config", None),),
        "Config": ((1, OPTIONAL, "Models", "model_config_list", None),),
    }
)
_BATCHING: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Number": ((1, OPTIONAL, "int64", "value", None),),
        "Parameters": (
            (1, OPTIONAL, "Number", "max_batch_size", None),
            (2, OPTIONAL, "Number", "batch_timeout_micros", None),
            (3, OPTIONAL, "Number", "max_enqueued_batches", None),
            (4, OPTIONAL, "Number", "num_batch_threads", None),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ServableConfig:
    """One model: its name, its folder, and the versions of it that are served."""

    name: str
    base_path: str
    versions: tuple[int, ...]


def parse_models(text: str) -> tuple[ServableConfig, ...]:
    """Return the models of a ModelServerConfig in text format; raises LaunchError for another text."""
    config = _parse_text(text, build_message_class("tensorflow_serving_models", _MODELS, "Config"), "model_config_file")
    models = []
    for entry in config.model_config_list.config:
        models.append(ServableConfig(entry.name, entry.base_path, tuple(entry.model_version_policy.specific.versions)))
        names = [model.name for model in models]
        if names.count(entry.name) > 1:
            raise LaunchError(f"Illegal to list model {entry.name} multiple times in config list")
    return tuple(models)


def parse_batching(text: str) -> Batching:
    """Return the BatchingParameters of a text; raises LaunchError for another text."""
    kind = build_message_class("tensorflow_serving_batching", _BATCHING, "Parameters")
    message = _parse_text(text, kind, "batching_parameters_file")
    return Batching(
        max_batch_size=message.max_batch_size.value,
        batch_timeout_micros=message.batch_timeout_micros.value,
        num_batch_threads=message.num_batch_threads.value,
        max_enqueued_batches=message.max_enqueued_batches.value,
    )


def _parse_text(text: str, kind: Any, flag: str) -> Any:
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise LaunchError(f"--{flag}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
