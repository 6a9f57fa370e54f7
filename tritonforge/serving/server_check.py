"""The check of a repository on a real tritonserver without its weights: backends that open no model file load it.

Triton's core checks names, versions, configurations, labels, warm-up files and ensembles. What a backend checks when it
opens a model file is not checked, nor what it would fill in; where that could change the verdict on a model, and so on
the ensembles of it, the model is undecided. No file of the repository is run (`installation.prepare_stand_in`).
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import LaunchError
from tritonforge.serving import server_process
from tritonforge.serving.repository_copy import RepositoryCopy, copy_repository, read_regular_file
from tritonforge.serving.server import Server
from tritonforge.triton.backends import BACKENDS

__all__ = ["ServerVerdict", "check_on_server"]

_MODEL: Final = re.compile(r"^model '(?P<model>.+?)' did not load: (?P<reason>.+)$", re.DOTALL)
_ENSEMBLE: Final = re.compile(r"(?:^|: )(?:in )?ensemble '?(?P<model>[^', ]+)'?[, ]")
_SHAPES: Final = re.compile(r"inconsistent shape: (?P<one>\[[^\]]*\]).* while (?P<other>\[[^\]]*\])")
#: Folders of the stand-in, which messages show as those of NVIDIA's images.
_AGENTS: Final = re.compile(r"/[^\s']*/backends/missing/repoagents")
_BACKENDS: Final = re.compile(r"/[^\s']*/backends(?=/)")
_LATE: Final = "tritonserver was not ready"

#: Backends that fill in what a configuration leaves out, from the model's file ("auto-complete"). A Python model does
#: where it, or what it inherits from, has a function of this name.
_COMPLETING: Final = frozenset(name for name, row in BACKENDS.items() if row.completion in ("file", "undeclared"))
_COMPLETES: Final = re.compile(rb"auto_complete_config|class\s+TritonPythonModel\s*\(")
#: The model files by which core finds a backend that a configuration does not name.
_FILES: Final = frozenset(
    filename for name, row in BACKENDS.items() if row.is_inferred and name in _COMPLETING for filename in row.filenames
)
_PYTHON: Final = BACKENDS["python"]
_LARGEST_SOURCE: Final = 2**20


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """The verdict of tritonserver.

    ``loads`` is None where it is undecided. ``messages`` are the server's own sentences, empty when it loads;
    ``undecided`` has a reason for each undecided model, and for each ensemble of it; ``seconds`` is the time it took.
    """

    loads: bool | None
    messages: tuple[str, ...]
    seconds: float
    undecided: Mapping[str, str] = field(default_factory=dict)


def check_on_server(repository: Path, *, auto_complete: bool = True, timeout: float = 60.0) -> ServerVerdict:
    """Load a copy of the repository on a real tritonserver with stand-in backends, and stop it again.

    ``auto_complete`` off is ``--disable-auto-complete-config``, ``timeout`` is in seconds. No code of the repository
    is run.

    Raises:
        MissingExtraError: nvidia-pytriton is not installed.
        LaunchError: the repository cannot be read, or is too large to be copied.
    """
    began = time.monotonic()
    folder = server_process.make_folder(temporary.build_prefix("judge"))
    try:
        copy = copy_repository(repository, folder / "repository")
        completed = dict(_list_completed_models(repository, copy)) if auto_complete else {}
        sentences = _load_copy(copy, auto_complete=auto_complete, timeout=timeout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    undecided = {**completed, **{name: "; ".join(reasons) for name, reasons in copy.undecided.items()}}
    steps = {name: _list_steps(config) for name, config in copy.configs.items()}
    undecided |= _find_dependent_ensembles(steps, undecided)
    decided = []
    for model, sentence in sentences:
        if model not in undecided and sentence.startswith(_LATE):
            undecided[model] = sentence
        elif model not in undecided and auto_complete and _is_about_batches(sentence, model, copy, steps):
            undecided[model] = "whether a step batches is completed from its model file, and its tensors depend on it"
        elif model not in undecided:
            decided.append(sentence)
    open_ = len(decided) < len(sentences) or bool(copy.hidden)
    loads = False if decided else None if open_ else True
    return ServerVerdict(loads, tuple(dict.fromkeys(decided)), time.monotonic() - began, undecided)


def _load_copy(copy: RepositoryCopy, *, auto_complete: bool, timeout: float) -> list[tuple[str, str]]:
    """Load the copy, and return the server's errors: the model ("" when none is named), and the sentence."""
    try:
        server = Server(
            copy.folder,
            sagemaker_port=None,
            http_port=0,
            grpc_port=None,
            metrics_port=None,
            stand_in=sorted(copy.backends),
            unguessable=True,
            arguments=() if auto_complete else ("--disable-auto-complete-config",),
            startup_timeout=timeout,
        )
    except LaunchError as error:
        if str(error).startswith(_LATE):
            return [("", str(error).splitlines()[0].partition(";")[0])]
        text = _AGENTS.sub("/opt/tritonserver/repoagents", str(error).replace(str(copy.folder), "<repo>"))
        return [_attribute_line(line) for line in _BACKENDS.sub("<backends>", text).splitlines()]
    server.stop()
    return []


def _attribute_line(line: str) -> tuple[str, str]:
    if match := _MODEL.match(line):
        return match["model"], match["reason"]
    match = _ENSEMBLE.search(line)
    return (match["model"] if match else "", line)


def _list_completed_models(repository: Path, copy: RepositoryCopy) -> Iterator[tuple[str, str]]:
    """Yield the models whose configuration a backend completes from the model's file, and what it lacks."""
    for name, config in copy.configs.items():
        missing = _describe_missing(config)
        if missing and _is_completed_by_backend(repository / name, copy.folder / name, config):
            yield name, f"{missing}, which the backend completes from the model's file"


def _describe_missing(config: Any) -> str:
    for kind, tensors in (("input", config.input), ("output", config.output)):
        if not tensors:
            return f"its configuration has no {kind}"
        for tensor in tensors:
            if not tensor.data_type or not (tensor.dims or tensor.HasField("reshape")):
                return f"its {kind} '{tensor.name}' has no data_type or no dims"
    return ""


def _is_completed_by_backend(model: Path, copy: Path, config: Any) -> bool:
    backend = config.backend or config.platform.partition("_")[0]
    names = {path.name for version in copy.iterdir() if version.is_dir() for path in version.iterdir()}
    if backend in _COMPLETING or (not backend and names & _FILES):
        return True
    if backend not in ("", _PYTHON.name):
        return False
    file = config.default_model_filename or _PYTHON.filename
    sources = (read_regular_file(model / version.name / file, _LARGEST_SOURCE) for version in copy.iterdir())
    return any(source is not None and _COMPLETES.search(source) for source in sources)


def _list_steps(config: Any) -> Sequence[str]:
    return [step.model_name for step in config.ensemble_scheduling.step]


def _find_dependent_ensembles(steps: Mapping[str, Sequence[str]], undecided: Mapping[str, str]) -> dict[str, str]:
    """Return the ensembles that have an undecided step, at any depth, and the reason."""
    dependent: dict[str, str] = {}
    while True:
        known = {**undecided, **dependent}
        more = {
            name: f"its step '{step}' is not decided"
            for name, names in steps.items()
            for step in names
            if step in known and name not in known
        }
        if not more:
            return dependent
        dependent |= more


def _is_about_batches(sentence: str, model: str, copy: RepositoryCopy, steps: Mapping[str, Sequence[str]]) -> bool:
    """Return True if two shapes differ by a batch dimension only, and a step's backend may complete that."""
    match = _SHAPES.search(sentence)
    if match is None:
        return False
    one, other = (match[side].strip("[]").split(",") for side in ("one", "other"))
    if one[:1] == ["-1"]:
        one, other = other, one
    configs = [copy.configs[step] for step in steps.get(model, ()) if step in copy.configs]
    doubtful = any(
        not config.max_batch_size and (config.backend or config.platform.partition("_")[0]) in _COMPLETING
        for config in configs
    )
    return doubtful and other[:1] == ["-1"] and other[1:] == one
