"""Convert a repository: TensorFlow models in a child process, everything else byte by byte, all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tritonforge import triton
from tritonforge.errors import ArtifactError, DefinitionError, PbtxtError, ValidationError
from tritonforge.files import describe_error, hash_file
from tritonforge.model_files.signature import DALI, GRAPHDEF, SAVEDMODEL
from tritonforge.repository import onnx_conversion
from tritonforge.repository.build_tree import BuildManifest, BuiltVersion, TreeWriter, open_tree
from tritonforge.repository.child_process import run_in_child
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress
from tritonforge.repository.fingerprint import list_versions
from tritonforge.repository.model_config import format_config, parse_config
from tritonforge.repository.onnx_conversion import Conversion, ConversionJob, ConvertedModel, ImagePipeline
from tritonforge.triton.backends import BACKENDS, find_model_filename
from tritonforge.triton.schema import ModelConfig, new_model_config
from tritonforge.validation.context import ModelView
from tritonforge.validation.model_views import build_context
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import read_tree

__all__ = ["convert_repository"]

_TARGET: Final = BACKENDS["onnxruntime"].filename
_TASK: Final = "tritonforge.repository.onnx_comparison:convert_from_arguments"

#: What a conversion's result depends on besides the model itself.
_DISTRIBUTIONS: Final = ("numpy", "nvidia-dali-cuda120", "onnx", "onnxruntime", "scikit-learn", "tensorflow",
                         "tensorflow-cpu", "tf2onnx")  # fmt: skip
_MODULES: Final = ("onnx_comparison", "onnx_conversion", "onnx_converter", "onnx_translation", "tensorflow_model")


def convert_repository(
    repository: Path, destination: Path, *, image: str, on_progress: ProgressCallback = no_progress
) -> Conversion:
    """Write to ``destination`` the repository with each TensorFlow model as an ONNX model, for the given image.

    Names, inputs, outputs, labels, batching, instances and warm-up stay; TensorFlow's own settings are left out, each
    with a note. Ensembles and models of other backends are copied byte by byte. Each converted model runs on the same
    inputs as its original, and their outputs are compared (`onnx_conversion.TOLERANCES`). A version that is unchanged
    since the last conversion is not converted again.

    Raises:
        DefinitionError: the image is unknown, or the directories are one, or hold something else.
        ArtifactError: ONNX cannot hold a model, or its outputs differ by more than the tolerance; nothing is written,
            and the message has a sentence for each such model.
        ValidationError: Triton rejects the repository, before or after; nothing is written.
        MissingExtraError: TensorFlow, tf2onnx or ONNX Runtime is not installed.
    """
    opset = onnx_conversion.choose_opset(triton.find_image(image))
    repository, destination = Path(os.path.abspath(repository)), Path(os.path.abspath(destination))  # noqa: PTH100  # resolve() would follow a link that is the target
    _check_apart(repository, destination)
    tree = _read_tree(repository)
    _validate(tree, repository, None)
    with open_tree(destination) as writer:
        converter = _Converter(repository, tree, writer, opset, on_progress)
        converter.run()
        _validate(_read_tree(writer.partial), repository, image)
        changed = writer.is_changed()
        writer.commit()
    manifest = writer.build_manifest()
    models = tuple(ConvertedModel.from_json(version.signature) for version in manifest.versions.values())
    return Conversion(destination, manifest.digest, models, tuple(converter.notes), tuple(writer.rebuilt), changed)


class _Converter:
    """One conversion: what it reads, and what it has written."""

    def __init__(
        self, repository: Path, tree: Tree, writer: TreeWriter, opset: int, on_progress: ProgressCallback
    ) -> None:
        self.repository, self.tree, self.writer = repository, tree, writer
        self.opset, self.on_progress = opset, on_progress
        self.known = (BuildManifest.read(repository) or BuildManifest()).files
        self.views = build_context(tree).models
        self.configs = {name: self._read_config(view.config_path) for name, view in self.views.items()}
        self.notes: dict[str, None] = {}

    def run(self) -> None:
        """Convert or copy every model; the sentences of all that cannot be converted come as one error."""
        problems = []
        for name, view in self.views.items():
            if view.backend != "tensorflow":
                self._copy_model(name, frozenset())
                continue
            try:
                self._convert_model(view)
            except ArtifactError as error:
                problems.append(str(error))
        if problems:
            raise ArtifactError("\n".join(problems))

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes[sentence] = None
            self.on_progress(BuildProgress("note", sentence))

    def _read_config(self, path: str) -> ModelConfig:
        entry = self.tree.entry(path)
        if entry is None or entry.content is None:
            return new_model_config()
        try:
            return parse_config(entry.content.decode("utf-8", "replace"))
        except PbtxtError as error:
            raise ArtifactError(f"{self.repository / path}: {error}") from error

    def _convert_model(self, view: ModelView) -> None:
        sought = find_model_filename(view.backend, view.platform, view.default_model_filename)
        sources = {
            version: f"{directory}/{sought}"
            for version, directory in sorted(view.version_directories.items())
            if self.tree.kind(f"{directory}/{sought}") != "missing"
        }
        configs = [view.config_path] if view.has_config else []
        folder = f"{view.name}/configs"
        configs += [f"{folder}/{name}" for name in self.tree.children(folder) if name.endswith(".pbtxt")]
        targets = {f"{directory}/{_TARGET}" for directory in view.version_directories.values()}
        self._copy_model(view.name, frozenset({*configs, *sources.values(), *targets}))
        for path in configs:
            config, notes = onnx_conversion.convert_config(self._read_config(path))
            for note in notes:
                self._note(note)
            self.writer.write(path, format_config(config).encode())
        for version, path in sources.items():
            self._convert_version(view, version, path)

    def _convert_version(self, view: ModelView, version: int, path: str) -> None:
        directory = path.rpartition("/")[0]
        target = f"{directory}/{_TARGET}"
        job = self._build_job(view, version, path, target)
        fingerprint = self._fingerprint(job, path)
        old = self.writer.old
        known = old.versions.get(directory)
        is_known = known is not None and known.fingerprint == fingerprint and target in old.files
        if known is not None and is_known and self.writer.link({target: old.files[target]}):
            for note in known.notes:
                self._note(note)
            self.writer.versions[directory] = known
            return
        self.on_progress(BuildProgress("step", f"converting {path} to ONNX"))
        notes: list[str] = []

        def keep_notes(event: BuildProgress) -> None:
            if event.kind == "note":
                notes.append(event.message)
                self._note(event.message)

        (self.writer.partial / directory).mkdir(parents=True, exist_ok=True)
        what = f"{job.name}: the process that converts it"
        result = run_in_child(_TASK, job.to_json(), what=what, on_progress=keep_notes)
        self.writer.record(target)
        self.writer.versions[directory] = BuiltVersion(fingerprint, result, tuple(notes))
        self.writer.rebuilt.append(directory)

    def _build_job(self, view: ModelView, version: int, path: str, target: str) -> ConversionJob:
        config: Any = self.configs[view.name]
        return ConversionJob(
            model=view.name,
            version=version,
            kind=SAVEDMODEL if self.tree.is_dir(path) else GRAPHDEF,
            path=str(self.repository / path),
            target=str(self.writer.partial / target),
            opset=self.opset,
            max_batch_size=int(config.max_batch_size),
            tag=onnx_conversion.read_parameter(config, "TF_GRAPH_TAG", "serve"),
            signature=onnx_conversion.read_parameter(config, "TF_SIGNATURE_DEF"),
            inputs=tuple(onnx_conversion.list_inputs(config)),
            outputs=tuple(onnx_conversion.list_outputs(config)),
            pipelines=dict(self._find_pipelines(view.name)),
        )

    def _find_pipelines(self, model: str) -> Iterator[tuple[str, ImagePipeline]]:
        """Yield the DALI pipelines that make inputs of a model from one encoded image."""
        for name, (source, position) in sorted(onnx_conversion.find_sources(self.configs, model).items()):
            view = self.views.get(source)
            if view is None or view.backend != DALI or not view.version_directories or len(view.inputs) != 1:
                continue
            newest = view.version_directories[max(view.version_directories)]
            path = f"{newest}/{find_model_filename(view.backend, view.platform, view.default_model_filename)}"
            if view.inputs[0].data_type == "TYPE_UINT8" and self.tree.is_file(path):
                yield name, ImagePipeline(str(self.repository / path), position)

    def _fingerprint(self, job: ConversionJob, path: str) -> str:
        pipelines = {
            name: self._hash_files(Path(pipeline.path).relative_to(self.repository).as_posix())
            for name, pipeline in job.pipelines.items()
        }
        package = Path(__file__).parent
        state = {
            "job": {**job.to_json(), "path": path, "target": "", "pipelines": {}},
            "model": self._hash_files(path),
            "pipelines": pipelines,
            "versions": list_versions(_DISTRIBUTIONS),
            "code": [hash_file(package / f"{name}.py") for name in _MODULES],
        }
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def _hash_files(self, path: str) -> list[tuple[str, str]]:
        """Return each file at or below a path of the repository with the SHA-256 of its content."""
        root = self.repository / path
        files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
        names = [file.relative_to(self.repository).as_posix() for file in files]
        return [(name, self._hash_file(name)) for name in names]

    def _hash_file(self, path: str) -> str:
        """Return the digest of a file of the repository, from its manifest while the file is unchanged."""
        known = self.known.get(path)
        if known is not None and known.is_unchanged(self.repository / path):
            return known.sha256
        return hash_file(self.repository / path)

    def _copy_model(self, model: str, without: frozenset[str]) -> None:
        """Copy a model's directory except for some paths; links are followed, directories without files are kept."""
        root = self.repository / model
        (self.writer.partial / model).mkdir(parents=True)
        try:
            for folder, folders, names in os.walk(root, followlinks=True, onerror=_raise):
                parent = Path(folder).relative_to(self.repository).as_posix()
                folders[:] = sorted(name for name in folders if f"{parent}/{name}" not in without)
                for name in folders:
                    (self.writer.partial / parent / name).mkdir()
                for path in sorted(f"{parent}/{name}" for name in names):
                    if path not in without:
                        self.writer.copy(path, self.repository / path, self._hash_file(path))
        except OSError as error:
            raise ArtifactError(f"{error.filename or root}: cannot be copied: {describe_error(error)}") from error


def _raise(error: OSError) -> None:
    raise error


def _check_apart(repository: Path, destination: Path) -> None:
    if not repository.is_dir():
        raise DefinitionError(f"{repository}: no such directory; give a model repository")
    source, target = repository.resolve(), destination.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise DefinitionError(
            f"{destination}: the converted repository must be a directory apart from the original, {repository}"
        )


def _read_tree(folder: Path) -> Tree:
    try:
        return read_tree(folder)
    except OSError as error:
        raise DefinitionError(f"{folder}: cannot read: {describe_error(error)}") from error


def _validate(tree: Tree, repository: Path, image: str | None) -> None:
    """Raise ValidationError with all that Triton rejects in a tree; ``image`` is None for the original."""
    findings = [finding for finding in validate(tree, image=image) if finding.refused_by == "triton"]
    if findings:
        lines = "\n".join(f"  {finding.path}: {finding.code}: {finding.message}" for finding in findings)
        what = (
            f"{repository}: Triton refuses this repository, so it was not converted"
            if image is None
            else f"{repository}: the image {image} would refuse it as ONNX too, so nothing was written"
        )
        raise ValidationError(f"{what}:\n{lines}", findings=findings)
