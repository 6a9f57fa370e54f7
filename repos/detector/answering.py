"""Inference: a real tritonserver on the model directory, and in front of it the answers of SageMaker's own detector."""

from __future__ import annotations

from pathlib import Path

from tritonforge.inference.client import Client
from tritonforge.serving.server import Server
from tritonforge.training.algorithm import Container, InputError, RefusalError, Reply, Request
from tritonforge.training.detection import build_answer, check_content_type, parse_accept

__all__ = ["ENSEMBLE", "Detector"]

#: What is asked for every image.
ENSEMBLE = "detect"

_OUTPUTS = ("count", "boxes", "classes", "scores")


class Detector:
    """The server and who asks it; `load` first, `close` last."""

    def __init__(self, container: Container | None = None) -> None:
        self._folder = (container or Container.here()).model_dir
        self._server: Server | None = None
        self._client: Client | None = None
        self._labels: list[str] = []

    def load(self) -> None:
        """Start the server; returns when it is ready.

        Raises:
            InputError: the model directory holds no detector.
            LaunchError: Triton does not load it.
        """
        labels = Path(self._folder, "detector", "labels.txt")
        if not labels.is_file() or not Path(self._folder, ENSEMBLE).is_dir():
            raise InputError(f"{self._folder} holds no detector; give it what training left in its model directory")
        self._labels = labels.read_text(encoding="utf-8").splitlines()
        self._server = Server(
            self._folder,
            models=[ENSEMBLE],  # not `detector_image_bytes`, the whole network a second time
            default_model=ENSEMBLE,
            sagemaker_port=None,
            http_port=0,
            grpc_port=None,
            metrics_port=None,
        )
        self._client = Client(str(self._server.http_url), model=ENSEMBLE)

    def answer(self, request: Request) -> Reply:
        """The detections on one encoded image."""
        check_content_type(request.headers.get("content-type", ""))
        form = parse_accept(request.headers.get("accept", ""))
        if not request.body:
            raise RefusalError("the body is empty; send one JPEG or PNG image")
        assert self._client is not None
        found = self._client.infer_images([request.body], outputs=_OUTPUTS)
        count = int(found["count"].reshape(-1)[0])
        boxes, classes, scores = (found[name][0][:count] for name in _OUTPUTS[1:])
        return Reply(200, build_answer(boxes, classes, scores, labels=self._labels, form=form))

    def close(self) -> None:
        """End the server."""
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.stop()
