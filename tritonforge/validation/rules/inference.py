"""What the server infers of a model before it judges it: platform, backend, default file name, versions. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tritonforge.pbtxt import Document
from tritonforge.triton import changes
from tritonforge.validation.tree import Tree

__all__ = [
    "BACKENDS",
    "FAMILIES",
    "PLAIN_DIRECTORIES",
    "Inferred",
    "Policy",
    "VersionName",
    "backend_of_platform",
    "file_sought",
    "infer",
    "platforms",
    "policy_of",
    "read_version",
    "versions_loaded",
]

#: Directories of a model that are no version (model_lifecycle.cc `VersionsToLoad`).
PLAIN_DIRECTORIES: Final = ("warmup", "initial_state", "configs")

#: The backends that core knows by name, with the platforms of each (constants.h, mcu `GetBackendTypeFromPlatform`).
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "tensorflow": ("tensorflow_savedmodel", "tensorflow_graphdef"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch",),
}

#: Backends that are published (github.com/triton-inference-server and their documentation): a name that is not here
#: and has no library in the model's own directory is most likely misspelt.
BACKENDS: Final = frozenset(
    (*FAMILIES, "openvino", "python", "dali", "identity", "repeat", "square", "fil", "vllm", "tensorrtllm", "hps",
     "hugectr", "armnn_tflite", "paddle", "stateful", "minimal", "recommended", "implicit_state", "sequence",
     "dyna_sequence", "iterative_sequence", "distributed_addsub", "query", "rapids_identity")
)  # fmt: skip

_FILENAMES: Final[Mapping[str, str]] = {
    "tensorflow_savedmodel": "model.savedmodel",
    "tensorflow_graphdef": "model.graphdef",
    "tensorrt": "model.plan",
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "pytorch": "model.pt",
    "python": "model.py",
}
_PLATFORMS: Final[Mapping[str, str]] = {
    "tensorrt": "tensorrt_plan",
    "onnxruntime": "onnxruntime_onnx",
    "pytorch": "pytorch_libtorch",
}
#: The second platform of the PyTorch backend and its default file.
_AOTI: Final = "torch_aoti"
_AOTI_FILENAME: Final = "model.pt2"

#: C's ``isspace`` and what ``std::stoll`` takes from the front of a text.
_STOLL: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")


@dataclass(frozen=True, slots=True)
class Inferred:
    """What `AutoCompleteBackendFields` leaves behind; ``problem`` is its error ("" when there is none)."""

    platform: str
    backend: str
    default_model_filename: str
    problem: str = ""


def platforms(backend: str, release: str) -> tuple[str, ...]:
    """The platforms that core of a release pairs with a backend that it knows by name."""
    known = FAMILIES.get(backend, ())
    return (*known, _AOTI) if backend == "pytorch" and changes.TORCH_AOTI.applies_to(release) else known


def backend_of_platform(platform: str, release: str) -> str:
    """The backend that core of a release pairs with a platform; "" for one that it does not know."""
    return next((backend for backend in FAMILIES if platform in platforms(backend, release)), "")


def infer(name: str, document: Document, tree: Tree, release: str = changes.REFERENCE) -> Inferred:
    """Platform, backend and default file name of a model (model_config_utils.cc `AutoCompleteBackendFields`).

    Only the first sub-directory of the model's directory is looked into, whatever its name is.
    """
    platform, backend = document.text("platform"), document.text("backend")
    filename = document.text("default_model_filename")
    subdirectories = () if backend and (filename or backend != "tensorflow") else tree.subdirectories(name)
    first = f"{name}/{subdirectories[0]}" if subdirectories else ""
    content = frozenset(tree.children(first)) if first else frozenset()

    def has(wanted: str, *kinds: str) -> bool:
        return wanted in content and (not kinds or tree.kind(f"{first}/{wanted}") in kinds)

    if not platform and backend in ("", "tensorflow"):
        if filename in ("model.savedmodel", "model.graphdef"):
            platform = f"tensorflow_{filename.removeprefix('model.')}"
        elif not filename:
            if has("model.graphdef", "file", "other"):
                platform = "tensorflow_graphdef"
            elif has("model.savedmodel", "directory"):
                platform = "tensorflow_savedmodel"
    if platform in FAMILIES["tensorflow"]:
        return Inferred(platform, backend or "tensorflow", filename or _FILENAMES[platform])

    bare = not platform and not filename
    for candidate in ("tensorrt", "onnxruntime", "openvino", "pytorch", "python"):
        wanted = _FILENAMES[candidate]
        if candidate == "pytorch":
            given = Inferred(platform, backend, filename)
            found = _infer_pytorch(given, runtime=document.text("runtime"), content_has=has, release=release)
            if found is not None:
                return found
            continue
        if not backend:
            kinds = ("file", "other") if candidate == "tensorrt" else ()
            named = candidate in _PLATFORMS and platform == _PLATFORMS[candidate]
            if named or filename == wanted or (bare and has(wanted, *kinds)):
                backend = candidate
        if backend == candidate:
            return Inferred(platform or _PLATFORMS.get(candidate, ""), backend, filename or wanted)
    if not backend and not platform and not filename:
        _, dot, suffix = name.partition(".")
        if not dot:
            return Inferred("", "", "", _no_backend(name))
        return Inferred("", suffix, f"model.{suffix}")
    return Inferred(platform, backend, filename)


def _infer_pytorch(given: Inferred, *, runtime: str, content_has: Callable[..., bool], release: str) -> Inferred | None:
    """What the PyTorch part of `AutoCompleteBackendFields` fills in; None where the backend is another one."""
    platform, backend, filename = given.platform, given.backend, given.default_model_filename
    aoti, aoti_file = changes.TORCH_AOTI.applies_to(release), changes.TORCH_AOTI_FILE.applies_to(release)
    named = ("pytorch_libtorch", *([_AOTI] if aoti else []))
    if changes.LIBTORCH_NAMED.applies_to(release):
        named += ("libtorch",)
    if not backend:
        if platform in named or filename in ("model.pt", *([_AOTI_FILENAME] if aoti else [])):
            backend = "pytorch"
        elif not platform and not filename:
            if content_has("model.pt"):
                backend = "pytorch" if content_has("model.pt", "file", "other") else ""
                platform = "pytorch_libtorch" if backend else ""
            elif aoti and content_has(_AOTI_FILENAME, "file", "other"):
                backend, platform = "pytorch", _AOTI if aoti_file else ""
    if backend != "pytorch":
        return None
    default = "" if runtime == "model.py" and not changes.TORCH_RUNTIME_FILE.applies_to(release) else "model.pt"
    if aoti_file and platform:
        default = _AOTI_FILENAME if platform == _AOTI else ""
    return Inferred(platform or "pytorch_libtorch", backend, filename or default)


def _no_backend(name: str) -> str:
    return (
        f"Invalid model name: Could not determine backend for model '{name}' with no backend in model configuration. "
        "Expected model name of the form 'model.<backend_name>'."
    )


def file_sought(inferred_backend: str, platform: str, filename: str) -> str:
    """The file or directory that a backend opens in a version directory; "" where that is not known."""
    if filename:
        return filename
    if inferred_backend == "dali":
        return "model.dali"
    return _FILENAMES.get(platform, _FILENAMES.get(inferred_backend, ""))


@dataclass(frozen=True, slots=True)
class VersionName:
    """How the server reads the name of a directory: as a version's number, or not, and why not."""

    number: int | None
    exact: bool = True
    ignored: str = ""
    overflows: bool = False


def read_version(name: str) -> VersionName:
    """The version that a directory's name stands for (model_lifecycle.cc `VersionsToLoad`, with ``std::stoll``)."""
    if name in PLAIN_DIRECTORIES:
        return VersionName(None)
    if len(name) > 1 and name[0] == "0":
        return VersionName(None, ignored="which contains leading zeros in its directory name")
    found = _STOLL.match(name)
    if found is None:
        return VersionName(None, ignored="which fails to convert to integral number")
    digits = found.group(1)
    if len(digits) > 40 or not -(2**63) <= int(digits) < 2**63:
        return VersionName(None, overflows=True)
    return VersionName(int(digits), exact=digits == name and digits[0] not in "+-")


@dataclass(frozen=True, slots=True)
class Policy:
    """A version policy: ``latest`` a number of versions, ``specific`` ones, or all (both None)."""

    latest: int | None = None
    specific: tuple[int, ...] | None = None


def policy_of(document: Document) -> Policy:
    """The version policy of a configuration, after normalisation: the latest one when there is none."""
    message = document.message("version_policy")
    if message is None:
        return Policy(latest=1)
    latest, specific = message.message("latest"), message.message("specific")
    if latest is not None:
        return Policy(latest=latest.integer("num_versions"))
    if specific is not None:
        return Policy(specific=specific.integers("versions"))
    return Policy()


def versions_loaded(policy: Policy, present: Mapping[int, str]) -> tuple[int, ...]:
    """The versions that the policy loads, ascending."""
    if policy.specific is not None:
        return tuple(sorted({version for version in policy.specific if version in present}))
    versions = sorted(present)
    if policy.latest is not None:
        return tuple(versions[max(0, len(versions) - policy.latest) :])
    return tuple(versions)
