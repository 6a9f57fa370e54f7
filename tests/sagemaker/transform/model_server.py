"""Takes the place of tensorflow_model_server, without TensorFlow, for the signature that `make_classifier` writes.

It takes TensorFlow Serving's flags, and answers a predict request with probabilities and classes of encoded images:
brightness in random masks, as there.
"""

import base64
import http.server
import io
import json
import socket
import sys

import numpy as np
from PIL import Image

SIDE, CLASSES = 8, 11
MASKS = np.random.default_rng(5).normal(size=(CLASSES, SIDE, SIDE))


def prediction(encoded: bytes) -> dict[str, object]:
    """The two outputs for an image."""
    picture = Image.open(io.BytesIO(encoded)).convert("L").resize((SIDE, SIDE))
    logits = (np.asarray(picture, np.float64) / 255 * MASKS).sum(axis=(1, 2))
    powers = np.exp(logits - logits.max())
    return {"probabilities": (powers / powers.sum()).tolist(), "classes": int(logits.argmax())}


class Handler(http.server.BaseHTTPRequestHandler):
    """The REST API: the state of a model, and predictions."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, reported: object) -> None:
        """Send JSON."""
        body = json.dumps(reported).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """The one version is loaded."""
        status = {"error_code": "OK", "error_message": ""}
        self.answer({"model_version_status": [{"version": "1538687370", "state": "AVAILABLE", "status": status}]})

    def do_POST(self) -> None:
        """Predict."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        images = [base64.b64decode(instance["b64"]) for instance in request["instances"]]
        self.answer({"predictions": [prediction(image) for image in images]})


class Server(http.server.ThreadingHTTPServer):
    """Listens where TensorFlow Serving does."""

    address_family = socket.AF_INET6
    daemon_threads = True


if "--version" in sys.argv:
    sys.stdout.write("TensorFlow ModelServer: 2.20.0-fake\n")
else:
    port = next(item.partition("=")[2] for item in sys.argv if item.startswith("--rest_api_port="))
    Server(("::", int(port)), Handler).serve_forever()
