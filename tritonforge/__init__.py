"""tritonforge: Python definitions become a Triton model repository, proved right before any server sees it.

What a definition needs is at hand here; the other wings are imported by name (`tritonforge.inference`,
`tritonforge.serving`). Nothing here loads a framework, boto3 or grpc.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tritonforge.datatypes import (
    TYPE_BF16,
    TYPE_BOOL,
    TYPE_FP16,
    TYPE_FP32,
    TYPE_FP64,
    TYPE_INT8,
    TYPE_INT16,
    TYPE_INT32,
    TYPE_INT64,
    TYPE_STRING,
    TYPE_UINT8,
    TYPE_UINT16,
    TYPE_UINT32,
    TYPE_UINT64,
)
from tritonforge.repository.definition import (
    S3,
    All,
    BatchInput,
    BatchOutput,
    Control,
    ControlInput,
    Dali,
    Direct,
    Download,
    DynamicBatching,
    Ensemble,
    File,
    Function,
    InitialState,
    Input,
    InstanceGroup,
    Latest,
    Model,
    Oldest,
    Onnx,
    Output,
    Python,
    PyTorch,
    QueuePolicy,
    RateLimiter,
    Resource,
    SecondaryDevice,
    SequenceBatching,
    Specific,
    State,
    Tensor,
    TensorFlow,
    TensorFlowServing,
    TensorRT,
    Tensors,
    VersionPolicy,
    Warmup,
    WarmupInput,
)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tritonforge.repository.findings import Finding
    from tritonforge.repository.validation import validate
    from tritonforge.sagemaker.deployment import Deployment

#: What is imported when it is first asked for, so that a definition does not pay for it.
_LATER = {
    "Deployment": "tritonforge.sagemaker.deployment",
    "Finding": "tritonforge.repository.findings",
    "validate": "tritonforge.repository.validation",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'tritonforge' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


__all__ = [
    "S3",
    "TYPE_BF16",
    "TYPE_BOOL",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_STRING",
    "TYPE_UINT8",
    "TYPE_UINT16",
    "TYPE_UINT32",
    "TYPE_UINT64",
    "All",
    "BatchInput",
    "BatchOutput",
    "Control",
    "ControlInput",
    "Dali",
    "Deployment",
    "Direct",
    "Download",
    "DynamicBatching",
    "Ensemble",
    "File",
    "Finding",
    "Function",
    "InitialState",
    "Input",
    "InstanceGroup",
    "Latest",
    "Model",
    "Oldest",
    "Onnx",
    "Output",
    "PyTorch",
    "Python",
    "QueuePolicy",
    "RateLimiter",
    "Resource",
    "SecondaryDevice",
    "SequenceBatching",
    "Specific",
    "State",
    "Tensor",
    "TensorFlow",
    "TensorFlowServing",
    "TensorRT",
    "Tensors",
    "VersionPolicy",
    "Warmup",
    "WarmupInput",
    "__version__",
    "validate",
]
