"""Models of Triton's python backend, for servers that need no framework: each a configuration and a ``model.py``."""

from pathlib import Path

IDENTITY = '''
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Gives every input back under the same name with out_ instead of in_; numpy has no BF16, DLPack has."""

    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.copy(each) for each in request.inputs()]) for request in requests]

    def copy(self, tensor):
        name = tensor.name().replace("in_", "out_")
        if name.endswith("BF16"):
            return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
        return pb_utils.Tensor(name, tensor.as_numpy())
'''

REPEAT = (
    """
model_transaction_policy { decoupled: true }
input { name: "text" data_type: TYPE_STRING dims: [1] }
input { name: "count" data_type: TYPE_INT32 dims: [1] }
output { name: "piece" data_type: TYPE_STRING dims: [1] }
output { name: "index" data_type: TYPE_INT32 dims: [1] }
""",
    """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # Answers a request `count` times; a count below 0 ends with an error, one above 1000 pauses after the first answer.
    def execute(self, requests):
        for request in requests:
            text, count = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("text", "count"))
            sender, count = request.get_response_sender(), int(count[0])
            for index in range(abs(count) % 1000):
                tensors = [pb_utils.Tensor("piece", text), pb_utils.Tensor("index", np.array([index], np.int32))]
                sender.send(pb_utils.InferenceResponse(tensors))
                if count > 1000 and index == 0:
                    time.sleep(1)
            if count < 0:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(f"broke after {-count}")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
)

ACCUMULATE = (
    """
max_batch_size: 4
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } }
  control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
}
input { name: "x" data_type: TYPE_FP32 dims: [1] }
output { name: "sum" data_type: TYPE_FP32 dims: [1] }
""",
    """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # The sum of all x of a sequence.
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            x, start, key = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0, 0] for name in ("x", "START", "CORRID")
            )
            # Triton fills the batch slots of waiting sequences with requests without a correlation id.
            self.sums[int(key)] = (0 if start else self.sums.get(int(key), 0)) + float(x)
            tensor = pb_utils.Tensor("sum", np.full((1, 1), self.sums[int(key)], np.float32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
""",
)

PHOTO = (
    """
max_batch_size: 4
input { name: "image" data_type: TYPE_UINT8 dims: [-1] }
input { name: "note" data_type: TYPE_STRING dims: [1] optional: true }
output { name: "scores" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }
output { name: "caption" data_type: TYPE_STRING dims: [1] }
output { name: "size" data_type: TYPE_INT64 dims: [1] }
""",
    """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # Scores, a text and a number for each image; refuses those that start with "bad".
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        rows = [row.tobytes().rstrip(bytes(1)) for row in images]
        if any(row.startswith(b"bad") for row in rows):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("this is not an image"))
        note = pb_utils.get_input_tensor_by_name(request, "note")
        notes = [b"none"] * len(rows) if note is None else note.as_numpy()[:, 0].tolist()
        captions = [[f"{len(row)} bytes, note {text.decode()}".encode()] for row, text in zip(rows, notes)]
        outputs = {
            "scores": np.array([[0.125, 0.75, 0.5]] * len(rows), np.float32),
            "caption": np.array(captions, dtype=object),
            "size": np.array([[len(row)] for row in rows]),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])
""",
)


def write_model(repository: Path, name: str, config: str, code: str) -> None:
    """One python model of the repository."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(f'backend: "python"\n{config}')


def tensors(names: dict[str, str], dims: str, *, optional: bool = False, more_of_output: str = "") -> str:
    """Inputs in_X and outputs out_X of a config.pbtxt."""
    rest = " optional: true" if optional else ""
    return "\n".join(
        f'input {{ name: "in_{name}" data_type: TYPE_{data_type} dims: [{dims}]{rest} }}\n'
        f'output {{ name: "out_{name}" data_type: TYPE_{data_type} dims: [{dims}] {more_of_output} }}'
        for name, data_type in names.items()
    )
