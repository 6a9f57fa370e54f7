"""The errors of tritonforge, under one root; packages derive errors of their own use from these.

TritonForgeError
├─ DefinitionError    a definition is wrong: this object, or this line that wires it      (also ValueError)
├─ PbtxtError         text is not a ModelConfig in protobuf's text format; .line .column  (also ValueError)
├─ ValidationError    validation found errors; .findings
├─ ArtifactError      a model file is missing, damaged, or not what the definition says
├─ MissingExtraError  an optional package is not installed; the message is the command that installs it
├─ EncodeError        the caller passed what the protocol cannot carry                    (also ValueError)
│  └─ UnnamedModelError  a request names no model, and the server has several; .models (inference.client)
├─ DecodeError        the peer sent what the protocol forbids
│  ├─ RecordError     a stream of records is damaged; .offset              (records)
│  ├─ ManifestError   a manifest is invalid; .line .attribute
│  └─ TraceError      a file is not a trace of Triton, or has no request
├─ ConnectError       the peer gave no answer: refused, timed out, or cut off
├─ ServerError        Triton or SageMaker answered with an error; .status .message
│  ├─ DecoupledError  the model has any number of responses, the call one  (inference.client)
│  ├─ ModelError      SageMaker reports the container's error; .log         (inference.client)
│  └─ RelayError      SageMaker's own error in front of it; .code .advice   (inference.client)
├─ CaseError          a case of a golden test, or its recording, is invalid       (golden_tests)
├─ PackageError       a model archive is unsafe, damaged, or not laid out for the image
├─ RequestError       a request breaks AWS's own service model, found before any call     (also ValueError)
├─ LaunchError        the local tritonserver did not start, or ended by itself
│  └─ ModelChoiceError     the repository has no model, or not the requested one
├─ SandboxError       this machine refuses a container's namespaces, or its port        (training.sandbox)
│  └─ BindError       a path for the container does not exist, or has no place in it
├─ InputError         invalid settings, channels or data of a training job
│  └─ HyperparameterError  hyperparameters are unknown, missing or invalid; .problems
├─ StoppedError       SIGTERM came while a training program waited
├─ RefusalError       an inference container refuses a request; .status
└─ DeploymentError    a step on SageMaker failed: where, what, what to do
   └─ AwsError        AWS answered a call with an error; .service .operation .code .message (sagemaker.client)

A message says where, what, and what to do. Foreign errors are mapped where they enter, with ``raise ... from``.
``exit_code`` is what the command line ends with: 2 for invalid input or usage, 1 when the job failed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import ClassVar

__all__ = ["ArtifactError", "CaseError", "ConnectError", "DecodeError", "DefinitionError", "DeploymentError",
           "EncodeError", "HyperparameterError", "InputError", "LaunchError", "ManifestError", "MissingExtraError",
           "ModelChoiceError", "PackageError", "PbtxtError", "RefusalError", "RequestError", "ServerError",
           "StoppedError", "TraceError", "TritonForgeError", "ValidationError", "install_command"]  # fmt: skip


class TritonForgeError(Exception):
    """The root of every error that tritonforge raises on purpose."""

    exit_code: ClassVar[int] = 1


class DefinitionError(TritonForgeError, ValueError):
    """A definition is invalid, or a line that wires its models is."""

    exit_code = 2


class PbtxtError(TritonForgeError, ValueError):
    """Text is not a ModelConfig in protobuf's text format; ``line`` and ``column`` count from 1, None when unknown."""

    exit_code = 2

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class ValidationError(TritonForgeError):
    """Validation found errors; ``findings`` holds all of them."""

    def __init__(self, message: str, *, findings: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class ArtifactError(TritonForgeError):
    """A model file is missing, damaged, or not what the definition says."""

    exit_code = 2


class MissingExtraError(TritonForgeError):
    """An optional package is not installed."""

    exit_code = 2

    def __init__(self, package: str, *, extra: str) -> None:
        self.package = package
        self.extra = extra
        #: The pip command that installs it.
        self.command = install_command(extra, _direct_url())
        super().__init__(f"{package} is not installed; run: {self.command}")


def install_command(extra: str, direct_url: str | None) -> str:
    """Return the pip command that adds an extra to this installation.

    ``direct_url`` is the text of the installation's direct_url.json (PEP 610), which says where it came from when that
    is not a package index: a checkout, an archive, a repository.
    """
    try:
        source = json.loads(direct_url or "{}")
        url = source["url"]
        version_control = source.get("vcs_info", {}).get("vcs")
        editable = "-e " if source.get("dir_info", {}).get("editable") else ""
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"pip install 'tritonforge[{extra}]'"
    if version_control:
        return f"pip install {shlex.quote(f'tritonforge[{extra}] @ {version_control}+{url}')}"
    if url.startswith("file://") and "dir_info" in source and "%" not in url:
        folder = url.removeprefix("file://")
        return f"pip install {editable}{shlex.quote(f'{folder}[{extra}]')}"
    return f"pip install {shlex.quote(f'tritonforge[{extra}] @ {url}')}"


def _direct_url() -> str | None:
    from importlib import metadata

    try:
        return metadata.distribution("tritonforge").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None


class EncodeError(TritonForgeError, ValueError):
    """The caller passed what the protocol cannot carry."""

    exit_code = 2


class DecodeError(TritonForgeError):
    """The peer sent what the protocol forbids."""


class TraceError(DecodeError):
    """A file is not a trace of Triton, or has no complete request."""

    exit_code = 2


class ManifestError(DecodeError):
    """A manifest is invalid.

    ``line`` counts from 1, None where no line is to blame; ``attribute`` is the name on that line, "" where it is the
    line itself; ``what`` is the message without the two.
    """

    exit_code = 2

    def __init__(self, message: str, *, line: int | None = None, attribute: str = "") -> None:
        where = [] if line is None else [f"line {line}"]
        super().__init__(": ".join([*where, *([attribute] if attribute else []), message]))
        self.line = line
        self.attribute = attribute
        self.what = message


class ConnectError(TritonForgeError):
    """The peer gave no answer: the connection was refused, timed out, or was cut off."""


class ServerError(TritonForgeError):
    """Triton or SageMaker answered with an error.

    ``status`` is the HTTP status (for gRPC the HTTP status that Triton maps the code to, 0 inside of a stream, whose
    errors have no code), ``message`` the server's own sentence, unchanged.
    """

    def __init__(self, message: str, *, status: int) -> None:
        answered = f"the server answered {status}" if status else "the server answered with an error"
        super().__init__(f"{answered}: {message}" if message else answered)
        self.status = status
        self.message = message


class CaseError(TritonForgeError):
    """A case of a golden test, or its recording, is invalid; one line for each mistake."""

    exit_code = 2


class PackageError(TritonForgeError):
    """A model archive is unsafe to unpack, damaged, or not laid out as the image requires."""

    exit_code = 2


class RequestError(TritonForgeError, ValueError):
    """A request breaks AWS's own service model; found before any call is made."""

    exit_code = 2


class LaunchError(TritonForgeError):
    """The local tritonserver did not start, or ended by itself."""


class ModelChoiceError(LaunchError):
    """A repository has no model, not the requested one, or several of which one must be chosen."""

    exit_code = 2


class DeploymentError(TritonForgeError):
    """A step on SageMaker failed."""


class InputError(TritonForgeError):
    """The input of the job is invalid: its settings, its channels, or the data in them."""

    exit_code = 2


class HyperparameterError(InputError, ValueError):
    """Hyperparameters are unknown, missing or invalid; ``problems`` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        noun = "hyperparameter is" if len(problems) == 1 else "hyperparameters are"
        super().__init__(f"{len(problems)} {noun} wrong: {'; '.join(problems)}")
        self.problems = tuple(problems)


class StoppedError(TritonForgeError):
    """SIGTERM ended a wait of a training program; `tritonforge.training.algorithm.run` then exits with 0."""


class RefusalError(TritonForgeError):
    """An inference container rejects a request; ``status`` is the HTTP status, 4xx for an error of the client."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
