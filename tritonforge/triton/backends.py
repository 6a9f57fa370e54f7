"""The backends of Triton, one row each: names, platforms, default files, auto-complete, and who has them. No I/O.

Whatever names a backend, a platform or a default file reads this table, and what reaches a shell of a Python stub.
Sources: core src/constants.h, src/model_config_utils.cc (`AutoCompleteBackendFields`, `GetBackendTypeFromPlatform`);
server build.py `enable_all`; the backends' own repositories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from tritonforge.triton.changes import TENSORFLOW, TORCH_AOTI, Change

__all__ = ["BACKENDS", "SAVED_MODEL_FILES", "Backend", "Completion", "Platform", "find_backend_of_platform",
           "find_model_filename", "find_platform", "is_word", "list_image_backends", "list_odd_characters",
           "list_platforms"]  # fmt: skip

#: When a backend fills in inputs, outputs and max_batch_size that a configuration leaves out: "file" from the model's
#: file, "undeclared" from it only where inputs or outputs are absent altogether, "code" where the model's code does it,
#: "never", or "unknown" for a backend whose source was not read.
Completion: TypeAlias = Literal["file", "undeclared", "code", "never", "unknown"]

_EVERY_RELEASE: Final = Change(text="", source="")


@dataclass(frozen=True, slots=True)
class Platform:
    """One ``platform:`` of a backend: its default file or directory.

    ``has_signature`` is False where the file does not state its inputs and outputs, so that nothing is completed.
    ``releases`` are those whose core pairs it with the backend.
    """

    name: str
    filename: str
    has_signature: bool = True
    releases: Change = _EVERY_RELEASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend.

    ``platforms`` are those that core pairs with it, its default first; ``own_filename`` is the default file of a
    backend without platforms. ``images`` are the releases whose image with all backends has it, None for none of them.
    ``is_inferred`` is True where core finds the backend by its file in a model without ``backend`` and ``platform``.
    ``is_compiled`` is True for a C++ library of that image, which a Python file cannot replace; ``opens_file`` where
    every version must hold the file (DALI has a fallback); ``runs_in_stub`` where a Python stub runs the model on
    every server; ``checks_texts`` where it calls `ValidateStringBuffer` (backend_common.cc, r24.10) on its inputs.
    ``package`` is the Python package on which tritonforge's own implementation runs it locally ("" for none), and
    ``extra`` the extra of tritonforge that installs it; ``needs_stand_in`` where `validate --with-server` replaces the
    backend, since it opens files or is not in the wheel. ``thread_parameters`` are the parameters of a configuration
    that set its threads on the CPU; ``default_instances`` is the number of instances on the CPU where a configuration
    has none (core src/model_config_utils.cc `SetDefaultInstanceCount`); ``limits_batch`` is True where the model's file
    holds the largest batch that it takes.
    """

    name: str
    platforms: tuple[Platform, ...] = ()
    own_filename: str = ""
    completion: Completion = "unknown"
    images: Change | None = None
    is_inferred: bool = False
    is_compiled: bool = False
    opens_file: bool = False
    runs_in_stub: bool = False
    checks_texts: bool = False
    package: str = ""
    extra: str = ""
    needs_stand_in: bool = False
    thread_parameters: tuple[str, ...] = ()
    default_instances: int = 1
    limits_batch: bool = False

    @property
    def is_local(self) -> bool:
        """Return True if tritonforge runs it locally on a Python package."""
        return bool(self.package)

    @property
    def platform(self) -> str:
        """The default platform, "" where core pairs none with it."""
        return self.platforms[0].name if self.platforms else ""

    @property
    def identity(self) -> tuple[str, str]:
        """``platform`` and ``backend`` of a configuration."""
        return self.platform, self.name

    @property
    def filenames(self) -> tuple[str, ...]:
        """The default files of all its platforms."""
        return tuple(platform.filename for platform in self.platforms) or (self.own_filename,)

    @property
    def filename(self) -> str:
        """The file or directory that it opens in a version by default, "" where that is not known."""
        return self.platforms[0].filename if self.platforms else self.own_filename


# fmt: off
_ROWS: Final = (
    Backend(name="tensorflow", completion="file", images=TENSORFLOW, is_inferred=True, is_compiled=True,
            opens_file=True, checks_texts=True, needs_stand_in=True, package="tensorflow", extra="tensorflow",
            thread_parameters=("TF_NUM_INTRA_THREADS", "TF_NUM_INTER_THREADS"), default_instances=2,
            platforms=(Platform("tensorflow_savedmodel", "model.savedmodel"),
                       Platform("tensorflow_graphdef", "model.graphdef", has_signature=False))),
    Backend(name="tensorrt", platforms=(Platform("tensorrt_plan", "model.plan"),), completion="file",
            images=_EVERY_RELEASE, is_inferred=True, is_compiled=True, opens_file=True, needs_stand_in=True,
            limits_batch=True),
    Backend(name="onnxruntime", platforms=(Platform("onnxruntime_onnx", "model.onnx"),), completion="undeclared",
            images=_EVERY_RELEASE, is_inferred=True, is_compiled=True, opens_file=True, checks_texts=True,
            needs_stand_in=True, package="onnxruntime", extra="onnxruntime",
            thread_parameters=("intra_op_thread_count", "inter_op_thread_count"), default_instances=2),
    Backend(name="openvino", own_filename="model.xml", completion="file", images=_EVERY_RELEASE, is_inferred=True,
            is_compiled=True, opens_file=True, needs_stand_in=True, package="openvino", extra="openvino",
            thread_parameters=("INFERENCE_NUM_THREADS",)),
    Backend(name="pytorch", completion="never", images=_EVERY_RELEASE, is_inferred=True, is_compiled=True,
            opens_file=True, needs_stand_in=True, package="torch", extra="pytorch",
            thread_parameters=("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT"),
            platforms=(Platform("pytorch_libtorch", "model.pt"),
                       Platform("torch_aoti", "model.pt2", releases=TORCH_AOTI))),
    Backend(name="python", own_filename="model.py", completion="code", images=_EVERY_RELEASE, is_inferred=True,
            is_compiled=True, opens_file=True, runs_in_stub=True, checks_texts=True),
    Backend(name="dali", own_filename="model.dali", completion="file", images=_EVERY_RELEASE, is_compiled=True,
            needs_stand_in=True, package="nvidia.dali", extra="dali", thread_parameters=("num_threads",)),
    Backend(name="identity", completion="never", images=_EVERY_RELEASE, is_compiled=True),
    Backend(name="fil", completion="never", images=_EVERY_RELEASE, needs_stand_in=True, package="treelite",
            extra="fil", thread_parameters=("cpu_nthread",)),
    Backend(name="repeat", images=_EVERY_RELEASE),
    Backend(name="square", images=_EVERY_RELEASE),
    Backend(name="vllm", runs_in_stub=True, needs_stand_in=True),
    Backend(name="tensorrtllm", needs_stand_in=True),
    # Published by NVIDIA or documented by Triton, in none of its images.
    *(Backend(name=name) for name in (
        "armnn_tflite", "distributed_addsub", "dyna_sequence", "hps", "hugectr", "implicit_state", "iterative_sequence",
        "minimal", "paddle", "query", "rapids_identity", "recommended", "sequence", "stateful")),
)
# fmt: on

#: Every published backend by its name, in the order in which core looks for their files. A name that is not here is
#: most likely misspelt.
BACKENDS: Final[Mapping[str, Backend]] = MappingProxyType({backend.name: backend for backend in _ROWS})
_PLATFORMS: Final[Mapping[str, Platform]] = {platform.name: platform for row in _ROWS for platform in row.platforms}

#: A SavedModel is a directory with one of these (tensorflow/cc/saved_model/loader.cc).
SAVED_MODEL_FILES: Final = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def list_image_backends(release: str) -> frozenset[str]:
    """Return the backends of the image of a release that has all of them."""
    return frozenset(
        backend.name for backend in _ROWS if backend.images is not None and backend.images.applies_to(release)
    )


def list_platforms(backend: str, release: str) -> tuple[str, ...]:
    """Return the platforms that core of a release pairs with a backend, the default first."""
    row = BACKENDS.get(backend)
    if row is None:
        return ()
    return tuple(platform.name for platform in row.platforms if platform.releases.applies_to(release))


def find_platform(name: str) -> Platform | None:
    """Return the platform of a name, None where no release has it."""
    return _PLATFORMS.get(name)


def find_backend_of_platform(platform: str, release: str) -> str:
    """Return the backend that core of a release pairs with a platform, "" where it pairs none."""
    return next((name for name in BACKENDS if platform in list_platforms(name, release)), "")


def find_model_filename(backend: str, platform: str, filename: str) -> str:
    """Return the file or directory that a backend opens in a version; "" where that is not known.

    ``filename`` is the configuration's ``default_model_filename``, "" where it has none.

    >>> find_model_filename("tensorflow", "tensorflow_graphdef", "")
    'model.graphdef'
    """
    if filename:
        return filename
    row, known = BACKENDS.get(backend), find_platform(platform)
    if known is not None and (not backend or (row is not None and known in row.platforms)):
        return known.filename
    return row.filename if row is not None else ""


#: What a shell takes as one plain word and a Python stub opens as a path. Up to release 25.07 the python backend starts
#: a stub with ``bash -c "exec <stub> <model file> ... <instance>"`` and quotes nothing (python_backend
#: src/stub_launcher.cc `StubLauncher::Launch` of r24.10); the stub's interpreter has no locale, so it opens ASCII paths
#: only (pb_stub.cc; run with 2.51). An allow list, so that every other character is refused.
_WORD: Final = re.compile(r"[A-Za-z0-9_./+@%:,=-]*")
_ODD: Final = re.compile(r"[^A-Za-z0-9_./+@%:,=-]")


def is_word(text: str) -> bool:
    """Return True if a shell takes the text unchanged, as one word, and a Python stub can open it as a path."""
    return _WORD.fullmatch(text) is not None


def list_odd_characters(text: str) -> str:
    """Return the characters because of which `is_word` is False: each once, escaped, with blanks between them."""
    return " ".join(dict.fromkeys(ascii(character) for character in _ODD.findall(text)))
