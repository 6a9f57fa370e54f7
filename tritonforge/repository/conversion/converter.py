"""Convert a repository: TensorFlow models in a child process, everything else byte by byte, all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from tritonforge import triton
from tritonforge.errors import ArtifactError, DefinitionError, PbtxtError, ValidationError
from tritonforge.model_files.signature import DALI, GRAPHDEF, SAVEDMODEL
from tritonforge.repository import config as text
from tritonforge.repository.artifacts.child_process import run_in_child
from tritonforge.repository.build.builder import Progress
from tritonforge.repository.build.manifest import Entry, MadeEntry, Record, digest, intact, previous, sha256_of
from tritonforge.repository.build.replacement import put_in_place, staging
from tritonforge.repository.conversion import configuration
from tritonforge.repository.conversion.facts import Conversion, Converted
from tritonforge.repository.conversion.job import Job, Pipeline
from tritonforge.repository.conversion.opset import opset
from tritonforge.triton.schema import ModelConfig, new_model_config
from tritonforge.validation.rules import views
from tritonforge.validation.rules.context import ModelView
from tritonforge.validation.rules.inference import file_sought
from tritonforge.validation.runner import validate
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import read_tree

__all__ = ["converted"]

_TARGET: Final = "model.onnx"

#: What a conversion's result, or its verdict, depends on besides the model itself.
_DISTRIBUTIONS: Final = (
    "numpy",
    "nvidia-dali-cuda120",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "tensorflow",
    "tensorflow-cpu",
    "tf2onnx",
)


def converted(repository: Path, destination: Path, *, image: str, progress: Progress) -> Conversion:
    """Write to ``destination`` the repository with each TensorFlow model as an ONNX model, for the given image.

    Names, inputs, outputs, labels, batching, instances and warm-up stay; TensorFlow's own settings are left out, each
    with a note. Ensembles and models of other backends are copied byte by byte. Each converted model is asked the same
    as its original and held to a tolerance (`facts.TOLERANCES`). A version that is unchanged since the last conversion
    is not converted again.

    Raises:
        DefinitionError: the image is not known, the folders are one, or hold something else.
        ArtifactError: ONNX cannot hold a model, or its answers differ by more than the tolerance; nothing is written,
            and the message has a sentence for each such model.
        ValidationError: Triton refuses the repository, before or after; nothing is written.
        MissingExtraError: TensorFlow, tf2onnx or ONNX Runtime is not installed.
    """
    chosen = triton.find_image(image)
    repository, destination = Path(os.path.abspath(repository)), Path(os.path.abspath(destination))  # noqa: PTH100  # resolve() would follow a link that is the target
    _check_apart(repository, destination)
    tree = _tree(repository)
    _check(tree, repository, None)
    with staging(destination) as partial:
        old = previous(destination)
        work = _Work(repository, tree, destination, partial, old, opset(chosen), progress)
        work.run()
        files = dict(sorted(work.files.items()))
        record = Record(digest(files), files, dict(sorted(work.made.items())))
        changed = record.digest != old.digest or not destination.exists() or not intact(destination, old)
        _check(_tree(partial), repository, image)
        if changed:
            record.write(partial)
            put_in_place(partial, destination)
        elif record.made != old.made:
            Record(old.digest, old.files, record.made).write(destination)
    facts = tuple(Converted.from_json(each.signature) for each in record.made.values())
    return Conversion(destination, record.digest, facts, tuple(dict.fromkeys(work.notes)), tuple(work.anew), changed)


class _Work:
    """One conversion under way."""

    def __init__(
        self,
        repository: Path,
        tree: Tree,
        destination: Path,
        partial: Path,
        old: Record,
        number: int,
        progress: Progress,
    ) -> None:
        self.repository, self.tree, self.destination, self.partial = repository, tree, destination, partial
        self.old, self.opset, self.progress = old, number, progress
        self.known = (Record.read(repository) or Record()).files
        self.views = views.build(tree).models
        self.configs = {name: self._config(view) for name, view in self.views.items()}
        self.files: dict[str, Entry] = {}
        self.made: dict[str, MadeEntry] = {}
        self.notes: list[str] = []
        self.anew: list[str] = []

    def run(self) -> None:
        """Every model; the sentences of all that cannot be converted come as one error."""
        refused = []
        for name, view in self.views.items():
            if view.backend != "tensorflow":
                self._copy(name, frozenset())
            elif problem := self._convert(view):
                refused.append(problem)
        if refused:
            raise ArtifactError("\n".join(refused))

    def say(self, sentence: str) -> None:
        """A note for the user."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.progress.say(sentence)

    def _config(self, view: ModelView, path: str | None = None) -> ModelConfig:
        entry = self.tree.entry(path or view.config_path)
        if entry is None or entry.content is None:
            return new_model_config()
        try:
            return text.read(entry.content.decode("utf-8", "replace"))
        except PbtxtError as error:
            raise ArtifactError(f"{self.repository / (path or view.config_path)}: {error}") from error

    def _convert(self, view: ModelView) -> str:
        """Write a model for ONNX Runtime; gives why it cannot be, "" when it was."""
        sought = file_sought(view.backend, view.platform, view.default_model_filename)
        found = {
            version: f"{directory}/{sought}"
            for version, directory in sorted(view.version_directories.items())
            if self.tree.kind(f"{directory}/{sought}") != "missing"
        }
        rewritten = [view.config_path] if view.has_config else []
        rewritten += [
            f"{view.name}/configs/{each}"
            for each in self.tree.children(f"{view.name}/configs")
            if each.endswith(".pbtxt")
        ]
        targets = {f"{directory}/{_TARGET}" for directory in view.version_directories.values()}
        self._copy(view.name, frozenset({*rewritten, *found.values(), *targets}))
        for path in rewritten:
            made, said = configuration.for_onnxruntime(self._config(view, path))
            for sentence in said:
                self.say(sentence)
            self._write(path, text.write(made).encode())
        try:
            for version, path in found.items():
                self._version(view, version, path)
        except ArtifactError as error:
            return str(error)
        return ""

    def _version(self, view: ModelView, version: int, path: str) -> None:
        directory = path.rpartition("/")[0]
        target = f"{directory}/{_TARGET}"
        job = self._job(view, version, path, target)
        fingerprint = self._fingerprint(job, path)
        known, files = self.old.made.get(directory), self.old.under(directory)
        if known is not None and known.fingerprint == fingerprint and target in files and self._linked(target):
            for sentence in known.said:
                self.say(sentence)
            self.made[directory] = known
            return
        self.progress.begin(f"converting {path} to ONNX")
        said: list[str] = []

        def say(sentence: str) -> None:
            said.append(sentence)
            self.say(sentence)

        (self.partial / directory).mkdir(parents=True, exist_ok=True)
        facts = run_in_child(
            "tritonforge.repository.conversion",
            [job.to_text()],
            what=f"{job.name}: the process that converts it",
            report=say,
        )
        self._note(target)
        self.made[directory] = MadeEntry(fingerprint, facts, tuple(said))
        self.anew.append(directory)

    def _job(self, view: ModelView, version: int, path: str, target: str) -> Job:
        config: Any = self.configs[view.name]
        inputs = configuration.inputs(config)
        return Job(
            model=view.name,
            version=version,
            kind=SAVEDMODEL if self.tree.is_dir(path) else GRAPHDEF,
            path=str(self.repository / path),
            target=str(self.partial / target),
            opset=self.opset,
            max_batch_size=int(config.max_batch_size),
            tag=configuration.parameter(config, "TF_GRAPH_TAG", "serve"),
            signature=configuration.parameter(config, "TF_SIGNATURE_DEF"),
            inputs=inputs,
            outputs=configuration.outputs(config),
            pipelines=dict(self._pipelines(view.name)),
        )

    def _pipelines(self, model: str) -> Iterator[tuple[str, Pipeline]]:
        """The DALI pipelines that make inputs of a model from one encoded image."""
        for name, (maker, place) in sorted(configuration.sources(self.configs, model).items()):
            view = self.views.get(maker)
            if view is None or view.backend != DALI or not view.version_directories or len(view.inputs) != 1:
                continue
            newest = view.version_directories[max(view.version_directories)]
            path = f"{newest}/{file_sought(view.backend, view.platform, view.default_model_filename)}"
            if view.inputs[0].data_type == "TYPE_UINT8" and self.tree.is_file(path):
                yield name, Pipeline(str(self.repository / path), place)

    def _fingerprint(self, job: Job, path: str) -> str:
        state = {
            "job": {**json.loads(job.to_text()), "path": path, "target": "", "pipelines": {}},
            "model": self._contents(path),
            "pipelines": {name: self._contents(self._relative(each.path)) for name, each in job.pipelines.items()},
            "versions": _versions(),
            "code": _code(),
        }
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def _relative(self, path: str) -> str:
        return Path(path).relative_to(self.repository).as_posix()

    def _contents(self, path: str) -> list[tuple[str, str]]:
        """Each file at or below a path of the repository, and the SHA-256 of its content."""
        folder = self.repository / path
        found = sorted(each for each in folder.rglob("*") if each.is_file()) if folder.is_dir() else [folder]
        names = [each.relative_to(self.repository).as_posix() for each in found]
        return [(name, self._sha256(name)) for name in names]

    def _sha256(self, path: str) -> str:
        """The digest of a file of the repository; the repository's own record knows it while the file is untouched."""
        known = self.known.get(path)
        if known is not None and known.unchanged(self.repository / path):
            return known.sha256
        return sha256_of(self.repository / path)

    def _copy(self, model: str, without: frozenset[str]) -> None:
        """Copy a model's folder, but for some of its paths; links are followed, folders without files kept."""
        root = self.repository / model
        (self.partial / model).mkdir(parents=True)
        try:
            for folder, folders, names in os.walk(root, followlinks=True, onerror=_raise):
                here = Path(folder).relative_to(self.repository).as_posix()
                folders[:] = sorted(each for each in folders if f"{here}/{each}" not in without)
                for each in folders:
                    (self.partial / here / each).mkdir()
                for each in sorted(names):
                    if f"{here}/{each}" not in without:
                        self._put(f"{here}/{each}")
        except OSError as error:
            raise ArtifactError(f"{error.filename or root}: cannot be copied: {error.strerror or error}") from error

    def _put(self, path: str) -> None:
        known = self.old.files.get(path)
        if known is not None and known.sha256 == self._sha256(path) and self._linked(path):
            return
        shutil.copyfile(self.repository / path, self.partial / path)
        self._note(path)

    def _write(self, path: str, data: bytes) -> None:
        target = self.partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self._note(path)

    def _linked(self, path: str) -> bool:
        """Link a file of the last conversion into the new one; False when it is gone or was touched."""
        known = self.old.files[path]
        if not known.unchanged(self.destination / path):
            return False
        (self.partial / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.destination / path, self.partial / path)
        except OSError:
            # A file system without hard links: the copy keeps the time stamp, so that the next conversion knows it.
            shutil.copy2(self.destination / path, self.partial / path)
        self.files[path] = known
        return True

    def _note(self, path: str) -> None:
        found = (self.partial / path).stat()
        self.files[path] = Entry(found.st_size, found.st_mtime_ns, sha256_of(self.partial / path))


def _raise(error: OSError) -> None:
    raise error


def _check_apart(repository: Path, destination: Path) -> None:
    if not repository.is_dir():
        raise DefinitionError(f"{repository}: there is no such folder; give a model repository")
    ours, theirs = repository.resolve(), destination.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise DefinitionError(
            f"{destination}: the converted repository must be a folder apart from the original, {repository}"
        )


def _tree(folder: Path) -> Tree:
    try:
        return read_tree(folder)
    except OSError as error:
        raise DefinitionError(f"{folder}: no model repository can be read here: {error.strerror}") from error


def _check(tree: Tree, repository: Path, image: str | None) -> None:
    """Raise ValidationError with all that Triton refuses in a tree; ``image`` is None for the original."""
    refused = [each for each in validate(tree, image=image) if each.refused_by == "triton"]
    if refused:
        told = "\n".join(f"  {each.path}: {each.code}: {each.message}" for each in refused)
        what = (
            f"{repository}: Triton refuses this repository, so it was not converted"
            if image is None
            else f"{repository}: the image {image} would refuse it as ONNX too, so nothing was written"
        )
        raise ValidationError(f"{what}:\n{told}", findings=refused)


def _versions() -> Mapping[str, str]:
    installed = {}
    for name in _DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def _code() -> str:
    """The digest of the modules here: when they change, their results may."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()
