"""tritonforge: Python definitions become a Triton model repository that is validated before any server sees it.

This package exports what definitions use. The others are imported by name (`tritonforge.inference`,
`tritonforge.serving`). Nothing here imports a framework, boto3 or grpc.
"""

# Not from typing, whose import takes longer than all else here: a command that is interrupted while this module loads
# ends with Python's own traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tritonforge.building import BuildProgress, BuildResult, build
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
    from tritonforge.sagemaker.endpoints import Deployment
    from tritonforge.validation.findings import Finding
    from tritonforge.validation.report import validate

__version__ = "0.1.0"

#: Where a name comes from, when it is not part of a definition.
_MODULES = {
    "BuildProgress": "tritonforge.building",
    "BuildResult": "tritonforge.building",
    "Deployment": "tritonforge.sagemaker.endpoints",
    "Finding": "tritonforge.validation.findings",
    "build": "tritonforge.building",
    "validate": "tritonforge.validation.report",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first used: a command that needs none of them starts at once."""
    if name not in __all__:
        raise AttributeError(f"module 'tritonforge' has no attribute {name!r}")
    from importlib import import_module

    default = "tritonforge.datatypes" if name.startswith("TYPE_") else "tritonforge.repository.definition"
    value: object = getattr(import_module(_MODULES.get(name, default)), name)
    globals()[name] = value
    return value


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
    "BuildProgress",
    "BuildResult",
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
    "build",
    "validate",
]
