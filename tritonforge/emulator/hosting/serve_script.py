"""What the `serve` script of SageMaker's Triton images does with an environment and a model folder. No I/O.

Source: triton-inference-server/server, docker/sagemaker/serve, of the releases from 25.04 on; variables that an older
release's script does not read are ignored (`SERVE_VARIABLES`). Held to what the script itself printed when it was
run on the same folders with a stand-in for tritonserver (tests/emulator/hosting/test_serve_script.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tritonforge.triton.changes import PING_MODE, SERVE_VARIABLES

__all__ = ["Listing", "Outcome", "run"]

_REPOSITORY: Final = "/opt/ml/model/"
_NO_REPOSITORY: Final = "/tmp/sagemaker"  # noqa: S108 - the script's own path, in the container
_PREFIX: Final = "SAGEMAKER_TRITON_"
_INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")
_SHM_DEFAULT: Final = "16777216"
_SHM_GROWTH: Final = "1048576"


@dataclass(frozen=True, slots=True)
class Listing:
    """The top of the model folder: names of directories in the folder's own order, links to such apart.

    ``has_config`` says whether a config.pbtxt lies there.
    """

    directories: Sequence[str] = ()
    links: Sequence[str] = ()
    has_config: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
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


def run(environment: Mapping[str, str], listing: Listing, *, release: str | None = None) -> Outcome:
    """The script's course in a container with this environment and model folder.

    ``release`` is the image's ``YY.MM``; None is the newest script.

    >>> run({}, Listing(("digits",))).default_model
    'digits'
    """
    known = {name: value for name, value in environment.items() if _is_read(name, release)}
    own = {name.removeprefix(_PREFIX): value for name, value in known.items() if name.startswith(_PREFIX) and value}
    inference_type = own.get("INFERENCE_TYPE", "infer")
    if inference_type not in _INFERENCE_TYPES:
        return Outcome(
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
        found = _default_model(own.get("DEFAULT_MODEL_NAME", ""), listing)
        if isinstance(found, Outcome):
            return found
        output, model = found
    text = _arguments(own, known, _NO_REPOSITORY if multi_model else _REPOSITORY)
    if model is not None:
        text += f" --load-model={model}"
    # The script hands its text to tritonserver without quotes: the shell splits it at blanks.
    arguments = tuple(text.split())
    exports = {} if model is None else {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": model}
    return Outcome(output, 0, arguments, exports, multi_model, model)


def _is_read(name: str, release: str | None) -> bool:
    return release is None or name not in SERVE_VARIABLES or SERVE_VARIABLES[name].applies_to(release)


def _default_model(given: str, listing: Listing) -> tuple[tuple[str, ...], str] | Outcome:
    """The model to load, and what is said about it; or how the script ended."""
    if listing.has_config:
        lines: tuple[str, ...] = (
            "ERROR: Incorrect directory structure.",
            "       Model directory needs to contain the top level folder",
        )
        return Outcome(lines, exit_code=1)
    if given:
        if given.rstrip("/") in (*listing.directories, *listing.links):
            return (), given
        sentence = f"ERROR: Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {given} does not exist"
        return Outcome((sentence,), exit_code=1)
    if not listing.directories:
        return Outcome(("ERROR: No model found in model repository",), exit_code=1)
    if len(listing.directories) > 1:
        lines = (
            "ERROR: More than 1 model directory found in model repository.",
            f"       Either provide a single directory or set {_PREFIX}DEFAULT_MODEL_NAME to run the ensemble backend.",
            f"       Directories found in model repository: {' '.join(listing.directories)}",
        )
        return Outcome(lines, exit_code=1)
    only = listing.directories[0]
    lines = (
        "WARNING: No SAGEMAKER_TRITON_DEFAULT_MODEL_NAME provided.",
        f"         Starting with the only existing model directory {only}",
    )
    return lines, only


def _arguments(own: Mapping[str, str], known: Mapping[str, str], repository: str) -> str:
    """The text of tritonserver's arguments, in the script's order; ``own`` are its variables without their prefix."""
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
    return " ".join(each for each in flags if each)
