"""A small client of the v2 protocol, and the inputs that tests send with it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import urllib3
from PIL import Image

from tritonforge.datatypes import BY_WIRE, from_numpy

#: Every port is a free one.
FREE = {"sagemaker_port": 0, "http_port": 0, "grpc_port": 0, "metrics_port": 0}


@dataclass(frozen=True)
class Reply:
    """What came back: arrays by output name, or the error's sentence."""

    status: int
    outputs: Mapping[str, np.ndarray[Any, Any]]
    error: str


@dataclass(frozen=True)
class Asker:
    """Asks models over HTTP with binary tensors; one connection pool for many threads."""

    url: str
    pool: urllib3.PoolManager

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> Reply:
        """One request; the datatypes follow from the arrays' types; ``parameters`` are of the request."""
        described, bodies = [], []
        for name, array in inputs.items():
            datatype = from_numpy(array.dtype)
            assert datatype is not None
            body = _pack_strings(array) if datatype.wire == "BYTES" else array.tobytes()
            size = {"binary_data_size": len(body)}
            described.append({"name": name, "shape": array.shape, "datatype": datatype.wire, "parameters": size})
            bodies.append(body)
        request: dict[str, Any] = {
            "inputs": described,
            "parameters": {"binary_data_output": True, **(parameters or {})},
        }
        if outputs is not None:
            request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        header = json.dumps(request).encode()
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
        headers = {"Inference-Header-Content-Length": str(len(header))}
        answer = self.pool.request("POST", self.url + path, body=b"".join([header, *bodies]), headers=headers)
        if answer.status != 200:
            return Reply(answer.status, {}, json.loads(answer.data)["error"])
        size = int(answer.headers.get("Inference-Header-Content-Length", len(answer.data)))
        return Reply(200, _arrays(json.loads(answer.data[:size]), answer.data[size:]), "")

    def statistics(self, model: str) -> Mapping[str, Any]:
        """The counts of a model's first version."""
        answer = self.pool.request("GET", f"{self.url}/v2/models/{model}/stats")
        return json.loads(answer.data)["model_stats"][0]


def jpeg(seed: int = 0, *, width: int = 96, height: int = 64, file_format: str = "JPEG") -> bytes:
    """A picture of coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((16, 16, 1), np.uint8))).save(file, file_format)
    return file.getvalue()


def images(*files: bytes) -> np.ndarray[Any, Any]:
    """Files as one batch, padded with zeros."""
    batch = np.zeros((len(files), max(len(file) for file in files)), np.uint8)
    for row, file in zip(batch, files, strict=True):
        row[: len(file)] = np.frombuffer(file, np.uint8)
    return batch


def _pack_strings(array: np.ndarray[Any, Any]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in array.ravel())


def _arrays(answer: Mapping[str, Any], body: bytes) -> dict[str, np.ndarray[Any, Any]]:
    found, start = {}, 0
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        part = body[start : start + size]
        start += size
        if output["datatype"] == "BYTES":
            texts, place = [], 0
            while place < size:
                (length,) = struct.unpack_from("<I", part, place)
                texts.append(part[place + 4 : place + 4 + length])
                place += 4 + length
            array = np.array(texts, dtype=object)
        else:
            array = np.frombuffer(part, BY_WIRE[output["datatype"]].dtype)
        found[output["name"]] = array.reshape(output["shape"])
    return found


def samples(wire: str) -> np.ndarray[Any, Any]:
    """Two rows of two elements of a datatype, its extremes among them."""
    if wire == "BYTES":
        return np.array([[b"", b"a\0b"], ["é€".encode(), b"x" * 1000]], dtype=object)
    dtype = BY_WIRE[wire].dtype
    if wire == "BOOL":
        return np.array([[True, False], [False, True]])
    limits = ml_dtypes.finfo(dtype) if dtype.kind in "fV" else np.iinfo(dtype)
    return np.array([[dtype.type(limits.min), dtype.type(limits.max)], [dtype.type(0), dtype.type(1)]], dtype)
