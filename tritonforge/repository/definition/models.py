"""Models of one backend each, and a package for TensorFlow Serving, as a definition declares them.

This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Final

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, set_field
from tritonforge.repository.definition.settings import (
    BatchInput,
    BatchOutput,
    DynamicBatching,
    InstanceGroup,
    SequenceBatching,
    VersionPolicy,
    Warmup,
)
from tritonforge.repository.definition.sources import Artifact, File, Function, as_file, as_source
from tritonforge.repository.definition.tensors import Input, Output, Tensor, wire_model
from tritonforge.triton.backends import BACKENDS, Backend, find_model_filename, is_word, list_odd_characters
from tritonforge.triton.tfs_layout import CODE

__all__ = ["VERSION_FOLDER", "Dali", "Model", "Onnx", "PyTorch", "Python", "TensorFlow", "TensorFlowServing",
           "TensorRT"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A model of any backend, by its name; of a backend that has a kind of its own, use that (`Dali`, `Onnx` ...).

    Fields are those of `ModelConfig` with their names and meanings. ``artifact`` is the source of the model's file: one
    source, which becomes version 1, or a mapping from version number to source. A text or a `Path` is a `File` beside
    the definition. ``files`` adds further files to the model's directory, by their path in it. A version without a
    source has what ``files`` places in its directory. ``override`` is protobuf text merged over everything else, for
    the fields that have no typed counterpart (``optimization`` ...).

    Examples:
        >>> Model("trees", backend="fil", files={"1/xgboost.json": File("xgboost.json")}).versions
        {1: None}

    A model is called on tensors of an ensemble to wire it (see `Ensemble`).

    Raises:
        DefinitionError: a field has the wrong type or is wrong on its own: no name, a name with a slash,
            ``max_batch_size`` below 0 ...
    """

    #: The backend of a kind, whose platform and name config.pbtxt states; None where the model names them itself.
    kind: ClassVar[Backend | None] = None

    name: str
    _: KW_ONLY
    platform: str = ""
    backend: str = ""
    max_batch_size: int = 0
    input: Sequence[Input] = ()
    output: Sequence[Output] = ()
    artifact: Artifact | Mapping[int, Artifact | None] | None = None  # a text or a Path becomes a File
    version_policy: VersionPolicy | None = None
    instance_group: Sequence[InstanceGroup] = ()
    dynamic_batching: DynamicBatching | None = None
    sequence_batching: SequenceBatching | None = None
    batch_input: Sequence[BatchInput] = ()
    batch_output: Sequence[BatchOutput] = ()
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    model_warmup: Sequence[Warmup] = ()
    default_model_filename: str = ""
    cc_model_filenames: Mapping[str, str] = field(default_factory=dict)
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    model_operations: Sequence[str] | None = None
    response_cache: bool | None = None
    decoupled: bool = False
    runtime: str = ""
    files: Mapping[str, File | bytes] = field(default_factory=dict, repr=False)
    override: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.artifact, Mapping):
            sources = {version: as_source(source, self.name) for version, source in self.artifact.items()}
            set_field(self, "artifact", sources)
        else:
            set_field(self, "artifact", as_source(self.artifact, self.name))
        if isinstance(self.files, Mapping):
            set_field(self, "files", {path: as_file(content) for path, content in self.files.items()})
        check_fields(self)
        check_name(self.name, type(self).__name__)
        self._check_backend()
        check_word(self.default_model_filename, f"{self.name}: default_model_filename")
        for group in self.instance_group:
            check_word(group.name, f"{self.name}: the name of an instance group")
        check_max_batch_size(self.max_batch_size, self.name)
        _check_unique([tensor.name for tensor in self.input], f"{self.name}: input")
        _check_unique([tensor.name for tensor in self.output], f"{self.name}: output")
        if self.dynamic_batching is not None and self.sequence_batching is not None:
            raise DefinitionError(f"{self.name}: dynamic_batching and sequence_batching exclude each other")
        if isinstance(self.artifact, Mapping):
            bad = [version for version in self.artifact if version < 0]
            if bad or not self.artifact:
                raise DefinitionError(f"{self.name}: artifact maps version numbers >= 0 to sources, not {bad}")
        check_paths(self.files, self.name)
        check_labels(self.output, self.name)
        warmup = [tensor.input_data_file or "" for entry in self.model_warmup for tensor in entry.inputs.values()]
        for path in (self.default_model_filename, *warmup):
            if not is_inner_path(path):
                raise DefinitionError(f"{self.name}: {path!r} is not a path inside the model's directory")

    def _check_backend(self) -> None:
        """Check that ``platform`` and ``backend`` are those of the model's kind; either may be empty."""
        if self.kind is None:
            check_word(self.backend, f"{self.name}: backend")
            return
        platforms = [platform.name for platform in self.kind.platforms]
        if self.platform and self.platform not in platforms:
            choices = " or ".join(map(repr, platforms)) or "backend alone"
            raise DefinitionError(f"{self.name}: platform is {self.platform!r}; write {choices}")
        if self.backend not in ("", self.kind.name):
            raise DefinitionError(
                f"{self.name}: backend is {self.backend!r} (expected {self.kind.name!r}). Write "
                f"Model(..., backend={self.backend!r}) for a model of that backend."
            )

    @property
    def model_filename(self) -> str:
        """The file (or directory) that the backend opens in a version directory; "" where that is not known."""
        backend = self.backend or (self.kind.name if self.kind is not None else "")
        return find_model_filename(backend, self.platform, self.default_model_filename)

    @property
    def file_platform(self) -> str:
        """The platform that the model's file is of: the stated one, or the default of its kind."""
        return self.platform or (self.kind.platform if self.kind is not None else "")

    @property
    def versions(self) -> Mapping[int, Artifact | None]:
        """The source of each version; a model without an artifact has the empty version 1."""
        return self.artifact if isinstance(self.artifact, Mapping) else {1: self.artifact}

    def has_files_in(self, version: int) -> bool:
        """Return True if ``files`` places a file in a version directory."""
        return any(path.startswith(f"{version}/") for path in self.files)

    def __call__(
        self,
        *tensors: Tensor | Mapping[str, Tensor],
        to: str | Sequence[str] | Mapping[str, str] | None = None,
        version: int = -1,
        **named: Tensor,
    ) -> Any:  # a Tensor where the model has one output, else Tensors; types cannot express which
        """Wire this model as a step of an ensemble; see `tensors.wire_model`."""
        return wire_model(self, tensors, named, to=to, version=version)


@dataclass(frozen=True, slots=True)
class Dali(Model):
    """A DALI pipeline.

    ``pipeline`` is one Python function: it takes the external inputs (DALI data nodes, in the order of ``input``) and
    returns the outputs, one or a sequence in the order of ``output``. It is written for the GPU (decoders with
    ``device="mixed"``). The build serialises it as ``model.dali`` for ``device``: ``"gpu"`` as it is written, ``"cpu"``
    with every operator moved to the CPU. Instead of a function, ``artifact`` may be a serialised pipeline.
    """

    kind = BACKENDS["dali"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default=kind.name, kw_only=True)

    pipeline: Callable[..., Any] | None = None
    device: str = "gpu"

    def __post_init__(self) -> None:
        # super() without arguments fails in a slotted dataclass: its class is replaced after this body is compiled.
        Model.__post_init__(self)
        if self.device not in ("gpu", "cpu"):
            raise DefinitionError(f"{self.name}: device is {self.device!r}; write 'gpu' or 'cpu'")
        if self.pipeline is not None and self.artifact is not None:
            raise DefinitionError(f"{self.name}: give a pipeline function or an artifact, not both")

    @property
    def versions(self) -> Mapping[int, Artifact | None]:
        """The source of each version; a pipeline function is version 1."""
        if self.pipeline is not None:
            return {1: Function(build=self.pipeline)}
        return self.artifact if isinstance(self.artifact, Mapping) else {1: self.artifact}


@dataclass(frozen=True, slots=True)
class TensorFlow(Model):
    """A TensorFlow model: ``platform`` is ``tensorflow_savedmodel`` (the default) or ``tensorflow_graphdef``.

    For a SavedModel, input and output names are the keys of its serving signature; for a GraphDef, its node names.
    """

    kind = BACKENDS["tensorflow"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Onnx(Model):
    """An ONNX model for ONNX Runtime."""

    kind = BACKENDS["onnxruntime"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default=kind.name, kw_only=True)


@dataclass(frozen=True, slots=True)
class PyTorch(Model):
    """A TorchScript model; inputs and outputs are named ``INPUT__0`` or by ``forward``'s arguments."""

    kind = BACKENDS["pytorch"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default=kind.name, kw_only=True)


@dataclass(frozen=True, slots=True)
class TensorRT(Model):
    """A TensorRT engine."""

    kind = BACKENDS["tensorrt"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default=kind.name, kw_only=True)


@dataclass(frozen=True, slots=True)
class Python(Model):
    """A Python model: ``artifact`` is its ``model.py``."""

    kind = BACKENDS["python"]

    platform: str = field(default=kind.platform, kw_only=True)
    backend: str = field(default=kind.name, kw_only=True)


#: What needs no escape in a path, in an HTTP address (RFC 3986, "unreserved") and in the command of a Python stub.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


def check_name(name: str, kind: str) -> None:
    """Check a model's name: it is its directory's name, and part of addresses and commands without quotes.

    Sources: rules E118 and W118 (stub_launcher.cc), W136 (http_server.cc).
    """
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise DefinitionError(f"{kind}: name is {name!r}; a model's name is the name of its directory")
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{kind}: name is {name!r} (expected ASCII letters, digits and _ . - only). Triton passes it to a shell, "
            "and HTTP clients cannot address others."
        )


def check_word(text: str, where: str) -> None:
    """Check a name that reaches the shell which starts Triton's Python stubs: it is a plain word (rule E118)."""
    if not is_word(text):
        raise DefinitionError(
            f"{where} is {text!r}, with characters that Triton's python backend passes to a shell unquoted: "
            f"{list_odd_characters(text)}. Use letters, digits and _ . + @ % : , = - (ASCII)."
        )


def check_max_batch_size(max_batch_size: int, name: str) -> None:
    """Check that ``max_batch_size`` is an integer of at least 0 (model_config_utils.cc `ValidateModelConfig`)."""
    if isinstance(max_batch_size, bool) or not isinstance(max_batch_size, int) or max_batch_size < 0:
        raise DefinitionError(f"{name}: 'max_batch_size' must be non-negative, not {max_batch_size!r}")


def is_inner_path(path: str) -> bool:
    """Return True if a path stays in the directory that it starts in; a build writes files there only."""
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def check_paths(files: Mapping[str, File | bytes], name: str) -> None:
    """Check that the paths of ``files`` are inside the model's directory."""
    for path in files:
        if not is_inner_path(path) or not path:
            raise DefinitionError(f"{name}: files: {path!r} is not a path inside the model's directory")


def check_labels(output: Sequence[Output], name: str) -> None:
    """Check that the label files of outputs are inside the model's directory."""
    for tensor in output:
        if not is_inner_path(tensor.label_filename):
            raise DefinitionError(
                f"{name}: label_filename: {tensor.label_filename!r} is not a path inside the model's directory"
            )


def _check_unique(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionError(f"{where} {twice[0]!r} is declared twice")


#: The file name of a model that is its version directory itself, as in TensorFlow Serving.
VERSION_FOLDER: Final = "."

#: Fields of a model that a package supports; all others are settings of Triton.
_STATED: Final = frozenset({"name", "max_batch_size", "input", "output", "artifact", "platform", "backend"})


@dataclass(frozen=True, slots=True)
class TensorFlowServing:
    """A package: SavedModels in numbered folders, and the Python of their handlers.

    Each of ``models`` is a `TensorFlow` model whose versions become ``<name>/<version>/saved_model.pb``; its inputs and
    outputs are those of the signature ``serving_default``. ``code`` is the directory beside the definition that becomes
    ``code/``: ``inference.py`` with the handlers, ``requirements.txt``, ``lib/`` with the modules that they need. A
    definition that binds a package to a name declares only that, and no model repository.

    Raises:
        DefinitionError: no models, one that is not a SavedModel, two of one name, or a setting that only Triton has.
    """

    models: Sequence[TensorFlow]
    _: KW_ONLY
    code: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        given = self.models
        if not given:
            raise DefinitionError("TensorFlowServing: it has no models")
        for model in given:
            _check_package_model(model)
        names = [model.name for model in given]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DefinitionError(f"TensorFlowServing: two models are named {twice[0]!r}")
        set_field(self, "models", tuple(replace(model, default_model_filename=VERSION_FOLDER) for model in given))


def _check_package_model(model: Model) -> None:
    if not isinstance(model, TensorFlow) or model.platform != BACKENDS["tensorflow"].platform:
        raise DefinitionError(f"TensorFlowServing: {model.name} is not a SavedModel; give TensorFlow models")
    if model.name == CODE:
        raise DefinitionError(f"TensorFlowServing: a model cannot be named {CODE!r}, the directory of the handlers")
    for setting in fields(model):
        if setting.name not in _STATED and getattr(model, setting.name) != _get_default(setting):
            raise DefinitionError(
                f"TensorFlowServing: {model.name}: {setting.name} is a setting of Triton's; TensorFlow Serving is set "
                "by the container's environment (SAGEMAKER_TFS_ENABLE_BATCHING and the like)"
            )


def _get_default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
