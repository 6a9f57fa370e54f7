"""The Triton release that a container image represents, and what its `serve` script does. This module does no I/O.

Every image is served by the local tritonserver, by the rules of the release that it represents: of a known image its
tag says which, of an image of the user's own its declaration, ``24.09`` or ``26.05+tensorflow`` (the release that
it is based on, and the backends that it adds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tritonforge import triton
from tritonforge.emulator.hosting.container_definitions import ContainerError
from tritonforge.errors import DefinitionError
from tritonforge.triton import tfs_layout
from tritonforge.triton.changes import PING_MODE, SERVE_VARIABLES
from tritonforge.triton.targets import SERVE_REGION
from tritonforge.validation.findings import Finding

__all__ = ["FolderListing", "ScriptOutcome", "ServedImage", "is_tensorflow_serving", "resolve_image",
           "run_serve_script"]  # fmt: skip


#: What an image of the user's own is declared as that serves TensorFlow Serving packages.
_PACKAGES: Final = "tensorflow-inference"

#: The repository of the first images, and the last release that it holds. Source:
#: aws/sagemaker-tensorflow-serving-container, README, and the image URIs of sagemaker-python-sdk.
_OLD_PACKAGES: Final = re.compile(r"/sagemaker-tensorflow-serving(?:-eia)?:(?P<major>\d+)\.(?P<minor>\d+)")
_LAST_OLD: Final = (1, 12)


@dataclass(frozen=True, slots=True)
class ServedImage:
    """An image as it is served here: the tag whose rules hold, and the backends that were added to it."""

    tag: str
    added: frozenset[str] = frozenset()

    @property
    def release(self) -> str:
        """The release, ``YY.MM``."""
        return self.tag.partition("-")[0]

    def refuses(self, finding: Finding) -> bool:
        """Return True if the image's container would end for this finding; an added backend is not missing."""
        if finding.refused_by is None:
            return False
        return not any(f"for backend '{name}'" in finding.message for name in self.added)


def is_tensorflow_serving(uri: str, declared: Mapping[str, str]) -> bool:
    """Return True if an image is for TensorFlow Serving packages, by its name or as declared.

    Raises:
        ContainerError: it is an image that AWS never published.
    """
    if uri in declared:
        return declared[uri].partition(":")[0] == _PACKAGES
    if not tfs_layout.is_tfs_image(uri):
        return False
    match = _OLD_PACKAGES.search(uri)
    if match is not None and (int(match["major"]), int(match["minor"])) > _LAST_OLD:
        raise ContainerError(
            f"The image {uri!r} cannot be pulled: sagemaker-tensorflow-serving ends with 1.12.0; from 1.13.0 on the "
            "repository is tensorflow-inference, of account 763104351884 in most regions."
        )
    return True


def resolve_image(uri: str, declared: Mapping[str, str]) -> ServedImage:
    """Return what an image of this URI represents.

    Raises:
        ContainerError: it is neither a Triton image that is known, nor declared.
    """
    words = declared.get(uri, uri).split("+") if uri in declared else [uri]
    try:
        return ServedImage(triton.find_image(words[0]).tag, frozenset(words[1:]))
    except DefinitionError as error:
        known = uri in declared or "tritonserver" in uri
        detail = (
            f"({str(error).partition(';')[0]}.)"
            if known
            else "It is not known as a Triton image. Declare the release that it is based on, and the backends that it "
            f"adds: Emulator(images={{{uri!r}: '26.05+tensorflow'}}), or tritonforge emulate --image "
            f"'{uri}=26.05+tensorflow'; {_PACKAGES} for TensorFlow Serving packages, a folder with the executables "
            "train and serve for an algorithm."
        )
        raise ContainerError(f"The image {uri!r} cannot be run here.", detail=detail) from error


_REPOSITORY: Final = "/opt/ml/model/"
_NO_REPOSITORY: Final = "/tmp/sagemaker"  # noqa: S108 - the script's own path, in the container
_PREFIX: Final = "SAGEMAKER_TRITON_"
_INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")
_SHM_DEFAULT: Final = str(SERVE_REGION)
_SHM_GROWTH: Final = "1048576"


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The names at the top of the model folder: its directories, and its links to directories.

    Both are in the order in which the file system lists them.

    ``has_config`` says whether a config.pbtxt lies there.
    """

    directories: Sequence[str] = ()
    links: Sequence[str] = ()
    has_config: bool = False


@dataclass(frozen=True, slots=True)
class ScriptOutcome:
    """What the script did.

    ``output`` are the lines that it printed. With ``exit_code`` 0 it went over to ``tritonserver`` with ``arguments``,
    having set ``exports``; else there is no server, and ``reason`` is its ERROR in one sentence.
    """

    output: tuple[str, ...]
    exit_code: int = 0
    arguments: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False
    default_model: str | None = None

    @property
    def reason(self) -> str:
        """The lines of the script's error as one sentence; empty where it went well."""
        words = " ".join(line.strip() for line in self.output) if self.exit_code else ""
        return words.removeprefix("ERROR: ")


def run_serve_script(
    environment: Mapping[str, str], listing: FolderListing, *, release: str | None = None
) -> ScriptOutcome:
    """Predict what the script does in a container with this environment and model folder.

    ``release`` is the image's ``YY.MM``; None is the newest script.

    >>> run_serve_script({}, FolderListing(("digits",))).default_model
    'digits'
    """
    known = {name: value for name, value in environment.items() if _is_read(name, release)}
    own = {name.removeprefix(_PREFIX): value for name, value in known.items() if name.startswith(_PREFIX) and value}
    inference_type = own.get("INFERENCE_TYPE", "infer")
    if inference_type not in _INFERENCE_TYPES:
        return ScriptOutcome(
            (
                f"ERROR: Invalid SAGEMAKER_TRITON_INFERENCE_TYPE '{inference_type}'",
                f"       Must be one of: {', '.join(_INFERENCE_TYPES)}",
            ),
            exit_code=1,
        )
    multi_model = known.get("SAGEMAKER_MULTI_MODEL") == "true"
    output: tuple[str, ...] = ()
    model: str | None = None
    if multi_model:
        ping = ""
        if release is None or PING_MODE.applies_to(release):
            ping = f' Using Triton ping mode: "{own.get("OVERRIDE_PING_MODE", "live")}"'
        output = (f"Triton is running in SageMaker MME mode.{ping}",)
    else:
        chosen = _find_default_model(own.get("DEFAULT_MODEL_NAME", ""), listing)
        if isinstance(chosen, ScriptOutcome):
            return chosen
        output, model = chosen
    text = _build_arguments(own, known, _NO_REPOSITORY if multi_model else _REPOSITORY)
    if model is not None:
        text += f" --load-model={model}"
    # The script hands its text to tritonserver without quotes: the shell splits it at blanks.
    arguments = tuple(text.split())
    exports = {} if model is None else {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": model}
    return ScriptOutcome(output, 0, arguments, exports, multi_model, model)


def _is_read(name: str, release: str | None) -> bool:
    return release is None or name not in SERVE_VARIABLES or SERVE_VARIABLES[name].applies_to(release)


def _find_default_model(given: str, listing: FolderListing) -> tuple[tuple[str, ...], str] | ScriptOutcome:
    """Return the model to load and the lines that the script prints, or how the script ended."""
    if listing.has_config:
        lines: tuple[str, ...] = (
            "ERROR: Incorrect directory structure.",
            "       Model directory needs to contain the top level folder",
        )
        return ScriptOutcome(lines, exit_code=1)
    if given:
        if given.rstrip("/") in (*listing.directories, *listing.links):
            return (), given
        sentence = f"ERROR: Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {given} does not exist"
        return ScriptOutcome((sentence,), exit_code=1)
    if not listing.directories:
        return ScriptOutcome(("ERROR: No model found in model repository",), exit_code=1)
    if len(listing.directories) > 1:
        lines = (
            "ERROR: More than 1 model directory found in model repository.",
            f"       Either provide a single directory or set {_PREFIX}DEFAULT_MODEL_NAME to run the ensemble backend.",
            f"       Directories found in model repository: {' '.join(listing.directories)}",
        )
        return ScriptOutcome(lines, exit_code=1)
    only = listing.directories[0]
    lines = (
        "WARNING: No SAGEMAKER_TRITON_DEFAULT_MODEL_NAME provided.",
        f"         Starting with the only existing model directory {only}",
    )
    return lines, only


def _build_arguments(own: Mapping[str, str], known: Mapping[str, str], repository: str) -> str:
    """Build tritonserver's arguments as the script does, in its order; ``own`` are its variables without the prefix."""
    flags = ["--allow-sagemaker=true --allow-http=false --model-control-mode=explicit"]
    flags.append(f"--model-repository={repository}")
    flags.append(f"--model-namespacing={own.get('DISABLE_MODEL_NAMESPACING', 'true')}")
    for flag, name in (("sagemaker-port", "BIND_TO_PORT"), ("sagemaker-safe-port-range", "SAFE_PORT_RANGE")):
        if value := known.get(f"SAGEMAKER_{name}"):
            flags.append(f"--{flag}={value}")
    flags.append(f"--allow-grpc={own.get('ALLOW_GRPC', 'false')}")
    flags.append(f"--allow-metrics={own.get('ALLOW_METRICS', 'false')}")
    for flag, name, default in (
        ("metrics-port", "METRICS_PORT", ""),
        ("grpc-port", "GRPC_PORT", ""),
        ("buffer-manager-thread-count", "BUFFER_MANAGER_THREAD_COUNT", ""),
        ("sagemaker-thread-count", "THREAD_COUNT", ""),
        ("log-verbose", "LOG_VERBOSE", "true"),
        ("log-info", "LOG_INFO", ""),
        ("log-warning", "LOG_WARNING", ""),
        ("log-error", "LOG_ERROR", ""),
    ):
        if value := own.get(name, default):
            flags.append(f"--{flag}={value}")
    for setting, name, default in (
        ("python,shm-default-byte-size", "SHM_DEFAULT_BYTE_SIZE", _SHM_DEFAULT),
        ("python,shm-growth-byte-size", "SHM_GROWTH_BYTE_SIZE", _SHM_GROWTH),
        ("tensorflow,version", "TENSORFLOW_VERSION", ""),
    ):
        if value := own.get(name, default):
            flags.append(f"--backend-config={setting}={value}")
    flags.append(own.get("ADDITIONAL_ARGS", ""))
    return " ".join(flag for flag in flags if flag)
