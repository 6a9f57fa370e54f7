"""What the rules see: the tree, the options, and every model as the server sees it before its backend runs. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonforge.triton.changes import REFERENCE, Change
from tritonforge.triton.targets import ServingTarget, Target, find_target
from tritonforge.validation.tree import Tree

if TYPE_CHECKING:  # a stored result needs neither the parser nor the releases
    from tritonforge.pbtxt import Document, Message, Node
    from tritonforge.triton import Image

__all__ = ["Context", "MappedTensor", "ModelView", "Options", "StepView", "TensorView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the repository will be served; the fields are the keywords of `tritonforge.validate`.

    ``image`` is a tag (``"24.09"``) or a whole image URI; None for that of the target, else for the local server.
    ``target_version`` is the version of KServe or Dynamo, None for the newest known, and ``storage_uri`` the
    ``storageUri`` of a KServe InferenceService. ``auto_complete`` False is the server's
    ``--disable-auto-complete-config``, ``load_models`` its ``--load-model`` in explicit model control mode (None: all
    models, as in mode NONE), ``model_config_name`` its ``--model-config-name``. ``gpus`` is the number of GPUs of the
    host; None checks nothing against it. ``instance_type`` (``"ml.g5.xlarge"``) and the container's ``environment`` are
    those of SageMaker. ``allow_empty`` accepts a folder without models. Findings of the rules in ``exempt`` are
    dropped: these rules do not hold where the repository is served.
    """

    image: str | None = None
    target: Target = "triton"
    auto_complete: bool = True
    load_models: Sequence[str] | None = None
    model_config_name: str = ""
    gpus: int | None = None
    instance_type: str | None = None
    environment: Mapping[str, str] | None = None
    target_version: str | None = None
    storage_uri: str | None = None
    allow_empty: bool = False
    exempt: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class TensorView:
    """One input or output of a configuration; ``dims`` has no batch dimension where the model batches.

    ``data_type`` is the enum's name ("TYPE_INVALID" when absent, digits for a number without a name).
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None
    optional: bool
    node: Message


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """One entry of a step's map: the ensemble's tensor, and its place in the text."""

    tensor: str
    node: Node


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of an ensemble: its model and version, its tensors by the model's names, and its place."""

    index: int
    model: str
    version: int
    inputs: Mapping[str, MappedTensor]
    outputs: Mapping[str, MappedTensor]
    node: Message

    @property
    def is_complete(self) -> bool:
        """True if the step has all its parts."""
        return bool(self.model and self.inputs and self.outputs)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model directory: its configuration after the server's inference and normalisation, and its versions.

    ``config_path`` is the file that the server reads; ``has_config`` is False where it is absent. ``document`` is that
    file parsed, empty when it is absent or unreadable; ``parsed`` is True if the server's parser accepts it.
    ``platform``, ``backend`` and ``default_model_filename`` are what the server infers where the file leaves them out.
    ``steps`` are those of ``ensemble_scheduling``, in the order of the text.
    ``version_directories`` has every directory that counts as a version, by its number; ``versions`` are those that the
    version policy loads. ``completes`` is True if the backend may still fill in or change inputs, outputs and
    max_batch_size when it loads, so that what the file leaves out is unknown here. ``is_completed`` is True where what
    it fills in is known: ``inputs``, ``outputs``, ``max_batch_size``, ``decoupled`` and
    ``adds_dynamic_batching`` have it. ``name`` is the
    directory's, ``configured_name`` the one in the server's messages: the configuration's, which differs only where the
    server refuses the model for it (E104).
    """

    name: str
    configured_name: str
    config_path: str
    has_config: bool
    parsed: bool
    document: Document
    platform: str
    backend: str
    default_model_filename: str
    max_batch_size: int
    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]
    steps: tuple[StepView, ...]
    decoupled: bool
    version_directories: Mapping[int, str]
    versions: tuple[int, ...]
    completes: bool
    is_completed: bool = False
    adds_dynamic_batching: bool = False

    @property
    def is_ensemble(self) -> bool:
        """True if the server treats the model as an ensemble."""
        return self.platform == "ensemble"

    @property
    def step_models(self) -> tuple[str, ...]:
        """The models of the steps, each once."""
        return tuple(dict.fromkeys([step.model for step in self.steps if step.model]))

    @property
    def config_or_directory(self) -> str:
        """The path of a finding about the model: its configuration, or its directory where it has none."""
        return self.config_path if self.has_config else self.name

    @property
    def has_known_batch_dimension(self) -> bool:
        """True if a backend's completion cannot change whether the model batches.

        A backend cannot distinguish ``max_batch_size: 0`` from an absent one, so both may be completed; only DALI
        looks into the text (dali_model.h ReadMBSFromPBtxt).
        """
        if self.max_batch_size > 0 or not self.completes:
            return True
        return self.backend == "dali" and self.document.has("max_batch_size")

    @property
    def has_known_batch_size(self) -> bool:
        """True if a backend's completion cannot change the number either: Python code may raise it, DALI keeps it."""
        return self.has_known_batch_dimension and not (self.completes and self.backend == "python")

    def place(self, *nodes: Node | None) -> Node | None:
        """Return the first node that is not None, else the model's name in the configuration, else None."""
        for node in (*nodes, self.document.one("name")):
            if node is not None:
                return node
        return None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a check may look at.

    ``options`` are those of the caller with what follows from them: ``gpus`` is 0 for an instance type without GPUs,
    and ``load_models`` has the default model that ``environment`` names. ``serving`` is the row of the target; its
    image is ``image`` where the caller names none.
    """

    tree: Tree
    models: Mapping[str, ModelView] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    image: Image | None = None
    serving: ServingTarget = field(default_factory=lambda: find_target("triton"))

    @property
    def release(self) -> str:
        """The release whose server gives the verdict: the image's, else the local server's."""
        return self.image.release if self.image is not None else REFERENCE

    def has(self, change: Change) -> bool:
        """Return True if the server that gives the verdict behaves as a row of the table of changes says."""
        return change.applies_to(self.release)
