"""The REST API of TensorFlow Serving over servables: predict, classify, regress, status, metadata.

Source: tensorflow/serving tensorflow_serving/model_servers/http_rest_api_handler.cc, http_rest_api_util.cc,
get_model_status_impl.cc; g3doc/api_rest.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from tritonforge.serving.listener import Reply, Request
from tritonforge.serving.tfs.predictor import examples, reading, writing
from tritonforge.serving.tfs.predictor.refusals import NOT_FOUND, Refusal, name_of
from tritonforge.serving.tfs.predictor.servable import DEFAULT_SIGNATURE, Servable, Signature

__all__ = ["Api"]

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


class Api:
    """Answers the API's requests for these servables, from many threads."""

    def __init__(self, servables: Sequence[Servable]) -> None:
        self._servables = {(each.name, each.version): each for each in servables}

    def answer(self, request: Request) -> Reply:
        """The answer to any request."""
        if not request.path.lower().startswith("/v1/"):
            return Reply(HTTPStatus.NOT_FOUND, b"<html><body>404 Not Found</body></html>", "text/html")
        try:
            return Reply(HTTPStatus.OK, self._answer(request))
        except Refusal as refusal:
            sentence, status = str(refusal), refusal.status
        except RecursionError:  # lists within lists that JSON's reader still takes
            sentence, status = "JSON Value: it is nested too deeply", HTTPStatus.BAD_REQUEST
        return Reply(status, writing.error(sentence))

    def _answer(self, request: Request) -> bytes:
        if request.method == "POST" and (found := _METHOD.fullmatch(request.path)):
            method = found["method"].lower()
            document = reading.parse(request.body)
            signature = self._signature(document, found["model"], found["version"], found["label"])
            if method == "predict":
                return _predict(document, signature, request.body)
            told = examples.serialised(document, method)
            if method == "classify":
                return writing.classifications(examples.classify(signature, told))
            return writing.regressions(examples.regress(signature, told))
        if request.method == "GET" and (found := _STATUS.fullmatch(request.path)):
            if found["model"] is None:
                raise Refusal("Missing model name in request.")
            if found["metadata"]:
                return _metadata(self._servable(found["model"], found["version"], found["label"]))
            return self._status(found["model"], found["version"])
        raise Refusal(f"Malformed request: {request.method} {request.path}")

    def _signature(self, document: Mapping[str, Any], model: str, version: str | None, label: str | None) -> Signature:
        name = reading.signature_name(document) or DEFAULT_SIGNATURE
        signatures = self._servable(model, version, label).signatures
        if name not in signatures:
            raise Refusal(f'Serving signature name: "{name}" not found in signature def')
        return signatures[name]

    def _servable(self, model: str, version: str | None, label: str | None) -> Servable:
        """The version that is asked for, or the highest that is loaded."""
        if label is not None:
            raise Refusal(f"Unrecognized servable version label: {label}")
        loaded = {key[1]: each for key, each in self._servables.items() if key[0] == model and not each.error}
        number = None if version is None else _number(version)
        if number is not None and number in loaded:
            return loaded[number]
        if number is not None or not loaded:
            asked = f"Latest({model})" if number is None else f"Specific({model}, {number})"
            raise Refusal(f"Servable not found for request: {asked}", code=NOT_FOUND)
        return loaded[max(loaded)]

    def _status(self, model: str, version: str | None) -> bytes:
        found = {key[1]: each for key, each in self._servables.items() if key[0] == model}
        asked = None if version is None else _number(version)
        if asked is not None and asked not in found:
            raise Refusal(f"Could not find version {asked} of model {model}", code=NOT_FOUND)
        if not found:
            raise Refusal(f"Could not find any versions of model {model}", code=NOT_FOUND)
        rows = [
            {
                "version": str(each.version),
                "state": "END" if each.error else "AVAILABLE",
                "status": {"error_code": name_of(each.code), "error_message": each.error},
            }
            for number, each in sorted(found.items(), reverse=True)
            if asked is None or number == asked
        ]
        return json.dumps({"model_version_status": rows}, indent=1).encode() + b"\n"


def _number(version: str) -> int:
    """A version of a path; TensorFlow Serving reads it into 64 bits (http_rest_api_util.cc `ParseModelInfo`)."""
    if len(version) > _DIGITS or int(version) >= 2**63:
        raise Refusal(f"Failed to convert version: {version:.40} to numeric.")
    return int(version)


def _predict(document: Mapping[str, Any], signature: Signature, body: bytes) -> bytes:
    # JSON's true and false would pass for numbers with numpy, and are refused by the API.
    plain = b"true" not in body and b"false" not in body
    inputs, form = reading.arrays(document, signature.inputs, plain=plain)
    return writing.predictions(signature.run(inputs), form)


def _metadata(servable: Servable) -> bytes:
    """The signatures of a servable: names, types and shapes are TensorFlow's own protobuf as JSON."""
    told = {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": {"signature_def": dict(servable.definitions)}},
    }
    return json.dumps(told, indent=1).encode() + b"\n"
