"""What the rules judge: the tree, and every model in it as the server would see it before its backend runs. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tritonforge.pbtxt import Document, Message, Node
from tritonforge.triton import Image
from tritonforge.triton.changes import REFERENCE, Change
from tritonforge.validation.tree import Tree

__all__ = ["Context", "ModelView", "TensorView"]


@dataclass(frozen=True, slots=True)
class TensorView:
    """One input or output of a configuration; ``dims`` has no batch dimension where the model batches.

    ``data_type`` is the enum's name ("TYPE_INVALID" when absent, digits for a number that has no name).
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None
    optional: bool
    node: Message


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model directory: its configuration after the server's inference and normalisation, and its versions.

    ``config_path`` is the file that the server reads (it may be absent: ``has_config``); ``document`` is that file
    parsed, empty when it is absent or unreadable; ``parsed`` says that the server's parser takes it. ``platform``,
    ``backend`` and ``default_model_filename`` are what the server infers where the file leaves them out.
    ``version_directories`` has every directory that counts as a version, by its number; ``versions`` are those that the
    version policy loads. ``completes`` says that the backend may still fill in or change inputs, outputs and
    max_batch_size when it loads, so that what the file leaves out is not known here. ``name`` is the directory's,
    ``configured_name`` the one in the server's messages: the configuration's, which differs only where the server
    refuses the model for it (E104).
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
    decoupled: bool
    version_directories: Mapping[int, str]
    versions: tuple[int, ...]
    completes: bool

    @property
    def is_ensemble(self) -> bool:
        """Whether the server treats the model as an ensemble."""
        return self.platform == "ensemble"

    @property
    def has_known_batch_dimension(self) -> bool:
        """Whether a backend's completion cannot change if the model batches.

        A backend does not see whether ``max_batch_size: 0`` was written or left out, so both may be completed; only
        DALI looks into the text (dali_model.h ReadMBSFromPBtxt).
        """
        if self.max_batch_size > 0 or not self.completes:
            return True
        return self.backend == "dali" and self.document.has("max_batch_size")

    @property
    def has_known_batch_size(self) -> bool:
        """Whether a backend's completion cannot change the number either: Python code may raise it, DALI keeps it."""
        return self.has_known_batch_dimension and not (self.completes and self.backend == "python")

    def place(self, *nodes: Node | None) -> Node | None:
        """The first node that is there, else the line of the model's name, else None."""
        for node in (*nodes, self.document.one("name")):
            if node is not None:
                return node
        return None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a rule may look at.

    ``gpus`` is the number of GPUs of the host, None when it is not known; ``load`` the models that are loaded in
    explicit model control mode, None for mode NONE, where all are; ``config_name`` what ``--model-config-name`` says.
    """

    tree: Tree
    models: Mapping[str, ModelView] = field(default_factory=dict)
    auto_complete: bool = True
    target: Literal["triton", "sagemaker"] = "triton"
    image: Image | None = None
    gpus: int | None = None
    load: tuple[str, ...] | None = None
    config_name: str = ""

    @property
    def release(self) -> str:
        """The release whose server gives the verdict: the image's, else the local server's."""
        return self.image.release if self.image is not None else REFERENCE

    def has(self, change: Change) -> bool:
        """Whether the server that gives the verdict behaves as a row of the table of changes says."""
        return change.applies_to(self.release)
