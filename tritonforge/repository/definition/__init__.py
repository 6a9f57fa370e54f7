"""The definition language: tensors, models, ensembles. Only `loading` does I/O."""

from tritonforge.repository.definition.ensemble import Ensemble, EnsembleStep, rebind_models
from tritonforge.repository.definition.models import (
    Dali,
    Model,
    Onnx,
    Python,
    PyTorch,
    TensorFlow,
    TensorFlowServing,
    TensorRT,
)
from tritonforge.repository.definition.settings import (
    All,
    BatchInput,
    BatchOutput,
    Control,
    ControlInput,
    Direct,
    DynamicBatching,
    InitialState,
    InstanceGroup,
    Latest,
    Oldest,
    QueuePolicy,
    RateLimiter,
    Resource,
    SecondaryDevice,
    SequenceBatching,
    Specific,
    State,
    VersionPolicy,
    Warmup,
    WarmupInput,
)
from tritonforge.repository.definition.sources import S3, Artifact, Download, File, Function
from tritonforge.repository.definition.tensors import Input, Output, Servable, Step, Tensor, Tensors

__all__ = ["S3", "All", "Artifact", "BatchInput", "BatchOutput", "Control", "ControlInput", "Dali", "Direct",
           "Download", "DynamicBatching", "Ensemble", "EnsembleStep", "File", "Function", "InitialState", "Input",
           "InstanceGroup", "Latest", "Model", "Oldest", "Onnx", "Output", "PyTorch", "Python", "QueuePolicy",
           "RateLimiter", "Resource", "SecondaryDevice", "SequenceBatching", "Servable", "Specific", "State", "Step",
           "Tensor", "TensorFlow", "TensorFlowServing", "TensorRT", "Tensors", "VersionPolicy", "Warmup", "WarmupInput",
           "rebind_models"]  # fmt: skip
