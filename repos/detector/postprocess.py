"""A Triton model that makes detections of what the network says of each location. It needs numpy only.

The suppression is tritonforge's own, as a file beside this model's configuration; so are the names of the classes.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

_FOLDER = Path(__file__).resolve().parents[1]


class TritonPythonModel:
    """Inputs: ``boxes`` [n, 4] and ``scores`` [n, classes]. Outputs: ``count`` detections, and zeros behind them.

    ``boxes`` are [xmin, ymin, xmax, ymax] as parts of the image, ``classes`` numbers of lines of labels.txt, -1 behind
    the last one, ``labels`` these lines. The likeliest comes first.
    """

    def initialize(self, args):
        """Read the configuration, the labels and the suppression."""
        config = json.loads(args["model_config"])
        self._iou = float(config["parameters"]["iou"]["string_value"])
        self._least = float(config["parameters"]["score"]["string_value"])
        (self._most,) = (output["dims"][0] for output in config["output"] if output["name"] == "scores")
        self._most = int(self._most)
        self._labels = np.asarray((_FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines(), dtype=object)
        sys.dont_write_bytecode = True  # the model directory stays as it is; on SageMaker it is read only
        spec = importlib.util.spec_from_file_location("boxes", _FOLDER / "boxes.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._suppress = module.suppress

    def execute(self, requests):
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        boxes = pb_utils.get_input_tensor_by_name(request, "boxes").as_numpy()
        scores = pb_utils.get_input_tensor_by_name(request, "scores").as_numpy()
        images = len(boxes)
        count = np.zeros((images, 1), np.int32)
        found = {
            "boxes": np.zeros((images, self._most, 4), np.float32),
            "classes": np.full((images, self._most), -1, np.int32),
            "scores": np.zeros((images, self._most), np.float32),
            "labels": np.full((images, self._most), b"", object),
        }
        for image in range(images):
            kept, classes, likely = self._suppress(
                boxes[image], scores[image], iou=self._iou, least=self._least, most=self._most
            )
            count[image] = len(kept)
            found["boxes"][image, : len(kept)] = kept
            found["classes"][image, : len(kept)] = classes
            found["scores"][image, : len(kept)] = likely
            found["labels"][image, : len(kept)] = [label.encode() for label in self._labels[classes]]
        tensors = [pb_utils.Tensor("count", count)]
        return pb_utils.InferenceResponse(
            [*tensors, *(pb_utils.Tensor(name, output) for name, output in found.items())]
        )
