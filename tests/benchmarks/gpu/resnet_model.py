"""A model of Triton's python backend: ResNet-50 in ONNX Runtime on its instance's GPU, or on the CPU without one."""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One session."""

    def initialize(self, args):
        """Load the network; it fails where a GPU is asked for and ONNX Runtime cannot use it."""
        providers = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            onnxruntime.preload_dlls()
            providers = [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])})]
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), providers=providers)
        if args["model_instance_kind"] == "GPU" and self.session.get_providers()[0] != "CUDAExecutionProvider":
            raise pb_utils.TritonModelException(f"ONNX Runtime uses {self.session.get_providers()}, not the GPU")
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    def execute(self, requests):
        """Run all requests as one batch."""
        arrays = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        (scores,) = self.session.run([self.output], {self.input: np.concatenate(arrays)})
        responses, start = [], 0
        for array in arrays:
            part = np.ascontiguousarray(scores[start : start + len(array)])
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", part)]))
            start += len(array)
        return responses
