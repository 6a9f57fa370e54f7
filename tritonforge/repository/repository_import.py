"""A model repository as the source of a definition. This module does no I/O: it reads a `Tree`.

The models are those of `validation`'s context, so that a backend is inferred here as the server and the rules do it.
Files are referred to by their path from the definition's directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from tritonforge.errors import DefinitionError, PbtxtError
from tritonforge.escaping import escape_line
from tritonforge.pbtxt.comments import Comment, list_comments
from tritonforge.repository.definition import Ensemble, File, Model
from tritonforge.repository.definition.models import is_inner_path
from tritonforge.repository.definition.sources import Artifact
from tritonforge.repository.definition_writer import CommentedModel, write_definition
from tritonforge.repository.ensemble_reader import read_ensemble
from tritonforge.repository.model_config import parse_config
from tritonforge.repository.model_reader import ModelFiles, read_model
from tritonforge.repository.package_import import read_package
from tritonforge.triton.backends import find_model_filename
from tritonforge.triton.schema import ModelConfig
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.loaded_config import apply_completion
from tritonforge.validation.model_views import build_context
from tritonforge.validation.rules.tfs_package import is_tfs_package
from tritonforge.validation.tree import GITKEEP, Tree

__all__ = ["ImportedRepository", "import_repository"]

Servable: TypeAlias = Model | Ensemble

#: Directories that Python leaves in a model's directory.
_LEFTOVERS: Final = frozenset({"__pycache__"})
#: Files that keep an empty directory in version control. A build writes its own one.
_PLACEHOLDERS: Final = frozenset({GITKEEP, ".keep", ".gitignore"})
#: Files of one model, and directories below it, that are listed: bounds on time and on the length of a definition.
_MAXIMAL_FILES: Final = 2000
_MAXIMAL_DEPTH: Final = 32
_CONFIG: Final = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class ImportedRepository:
    """A definition: its ``text``, the model files that it names by their path in the repository, and notes.

    ``problems`` are sentences on models that have no definition; the text is "" where there are any. ``models`` are
    those of the definition, in its order.
    """

    text: str
    models: Mapping[str, Servable] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def import_repository(tree: Tree, *, directory: str, title: str) -> ImportedRepository:
    """Return the definition of a repository, or of a package for SageMaker's TensorFlow Serving containers.

    Args:
        tree: the repository.
        directory: the path of the repository from the definition's directory.
        title: the first line of the definition's docstring.
    """
    if tree.kind(_CONFIG) == "file":
        problem = f"{_CONFIG} is at the top: this is a model's directory (expected the directory of models). Give that."
        return ImportedRepository("", problems=(problem,))
    if is_tfs_package(tree):
        try:
            text, package, files, notes = read_package(tree, directory=directory, title=title)
        except DefinitionError as error:
            return ImportedRepository("", problems=(str(error),))
        return ImportedRepository(text, {model.name: model for model in package.models}, tuple(files), tuple(notes))
    reader = _Reader(tree, build_context(tree), directory)
    if tree.truncated:
        reader.problems.append(f"the repository was not read completely: {tree.truncated}")
    reader.read()
    if not reader.models and not reader.problems:
        reader.problems.append("no models found (expected directories with a config.pbtxt or a version directory)")
    models = {entry.model.name: entry.model for entry in reader.models}
    text = "" if reader.problems else write_definition(reader.models, title=title)
    return ImportedRepository(text, models, tuple(reader.files), tuple(reader.notes), tuple(reader.problems))


class _Reader:
    """One reading of a repository."""

    def __init__(self, tree: Tree, context: Context, directory: str) -> None:
        self._tree, self._context, self._directory = tree, context, directory
        self._steps = {model for view in context.models.values() for model in view.step_models}
        self.models: list[CommentedModel] = []
        self.files: list[str] = []
        self.notes: list[str] = []
        self.problems: list[str] = []

    def read(self) -> None:
        """Read every model, those of an ensemble's steps before it."""
        known: dict[str, Servable] = {}
        for view in _order_views(self._list_views()):
            try:
                entry = self._read_view(view, known)
            except DefinitionError as error:  # noqa: PERF203  # all problems are reported
                self.problems.append(str(error))
            except PbtxtError as error:
                self.problems.append(f"{view.config_path}: {error}")
            else:
                known[entry.model.name] = entry.model
                self.models.append(entry)

    def _list_views(self) -> Iterator[ModelView]:
        for name, view in self._context.models.items():
            if self._tree.leaves(name) or self._tree.leaves(view.config_path):
                self.problems.append(_describe_link(name if self._tree.leaves(name) else view.config_path))
            elif not view.has_config and not view.version_directories:
                self.notes.append(f"{name}: left out: it has no config.pbtxt and no version directory")
            elif not view.parsed:
                self.problems.append(_describe_syntax(view, self._tree))
            else:
                yield view

    def _read_view(self, view: ModelView, known: Mapping[str, Servable]) -> CommentedModel:
        name = view.name
        config: Any = parse_config(view.document.source)
        if view.configured_name != name:
            self.notes.append(
                f"{view.config_path}: name is {view.configured_name!r} (expected {name!r}, as its directory). The "
                "definition has the directory's name, without which Triton does not load the model."
            )
        self._complete(config, view)
        is_ensemble = config.HasField("ensemble_scheduling") or config.platform == "ensemble"
        comments = _sort_entries(list_comments(view.document), view)
        files = self._read_files(view, is_ensemble=is_ensemble)
        if is_ensemble:
            ensemble = read_ensemble(config, name=name, models=known, files=files, file_at=self._file_of(view))
            if isinstance(ensemble, Ensemble):
                return CommentedModel(ensemble, comments)
            note = f"Its steps are protobuf text, since {ensemble.reason}"
            self.notes.append(f"{name}: its steps are in override, since {ensemble.reason}")
            return CommentedModel(self._read_model(config, view, files), comments, note.rstrip("."))
        return CommentedModel(self._read_model(config, view, files), comments)

    def _complete(self, config: Any, view: ModelView) -> None:
        """State what the configuration leaves out and the server fills in from the model's file.

        A definition that states only a part would be another model: a build writes inputs, outputs and max_batch_size,
        and then ONNX Runtime's backend completes nothing, and DALI's does not take the pipeline's batch size.
        """
        tensors = [*config.input, *config.output]
        has_batch_size = view.backend != "dali" or view.document.has("max_batch_size")
        has_tensors = bool(config.input and config.output) and all(
            tensor.data_type and (tensor.dims or tensor.HasField("reshape")) for tensor in tensors
        )
        if has_tensors and has_batch_size:
            return
        if view.is_completed and (view.backend != "python" or view.name in self._steps):
            apply_completion(config, view)
            self.notes.append(
                f"{view.name}: the definition states what its configuration leaves out and its model file has: inputs, "
                "outputs and max_batch_size as Triton has them after loading"
            )
        elif not has_batch_size:
            self.notes.append(
                f"{view.config_path}: it has no max_batch_size, and its pipeline was not read. The definition has 0, "
                "which a build writes; state the batch size of the pipeline."
            )

    def _read_model(self, config: ModelConfig, view: ModelView, files: ModelFiles) -> Model:
        return read_model(config, name=view.name, backend=view.backend, files=files, file_at=self._file_of(view))

    def _file_of(self, view: ModelView) -> Any:
        return lambda path: File(_join(self._directory, view.name, path))

    def _read_files(self, view: ModelView, *, is_ensemble: bool) -> ModelFiles:
        """Return the sources of a model's versions, and the other files of its directory."""
        labels = {entry.text("label_filename") for entry in view.document.messages("output")} - {""}
        warmup = {
            f"warmup/{entry.text('input_data_file')}"
            for request in view.document.messages("model_warmup")
            for entry in _list_map_values(request.messages("inputs"))
            if entry.has("input_data_file") and is_inner_path(entry.text("input_data_file"))
        }
        paths = [path for path in self._list_files(view.name) if path not in warmup]
        for path in sorted((labels | warmup).difference(self._existing(view.name, labels | warmup))):
            self.notes.append(f"{view.name}: {path} not found; the build needs it")
        self.files += [f"{view.name}/{path}" for path in [*paths, *sorted(self._existing(view.name, warmup))]]
        filename = (
            ""
            if is_ensemble
            else find_model_filename(view.backend, view.platform, view.document.text("default_model_filename"))
        )
        if not is_inner_path(filename):
            filename = ""
        by_directory: dict[str, list[str]] = {}
        for path in paths:
            by_directory.setdefault(path.partition("/")[0], []).append(path)
        versions: dict[int, Artifact | None] = {}
        used: set[str] = set()
        for version, directory in sorted(view.version_directories.items()):
            relative = directory.removeprefix(f"{view.name}/")
            inside = by_directory.get(relative, [])
            placeholders = [path for path in inside if path.removeprefix(f"{relative}/") in _PLACEHOLDERS]
            model_file = f"{relative}/{filename}"
            covered = [
                path for path in inside if filename and (path == model_file or path.startswith(f"{model_file}/"))
            ]
            used.update(covered, placeholders)
            if not filename or (not covered and len(placeholders) < len(inside)):
                versions[version] = None
                continue
            versions[version] = File(_join(self._directory, view.name, model_file))
            if not covered:
                self.notes.append(f"{view.name}: {model_file} not found; the build needs it")
        if not versions and filename:
            versions[1] = File(_join(self._directory, view.name, f"1/{filename}"))
            self.notes.append(f"{view.name}: 1/{filename} not found; the build needs it")
        rest = {path: File(_join(self._directory, view.name, path)) for path in paths if path not in used}
        artifact: Any = versions.get(1) if list(versions) in ([], [1]) else versions
        return ModelFiles(None if is_ensemble else artifact, rest)

    def _existing(self, name: str, paths: Iterable[str]) -> set[str]:
        return {path for path in paths if self._tree.kind(f"{name}/{path}") == "file"}

    def _list_files(self, name: str) -> list[str]:
        """Return the files below a model's directory that are not its configuration, by their path in it."""
        paths: list[str] = []
        pending = [("", 0)]
        while pending:
            prefix, depth = pending.pop()
            for child in self._tree.children(f"{name}/{prefix}".rstrip("/")):
                path = f"{prefix}{child}"
                kind = self._tree.kind(f"{name}/{path}")
                if kind != "missing" and self._tree.leaves(f"{name}/{path}"):
                    raise DefinitionError(_describe_link(f"{name}/{path}"))
                if kind == "directory" and child not in _LEFTOVERS and depth < _MAXIMAL_DEPTH:
                    pending.append((f"{path}/", depth + 1))
                elif kind == "file" and path != _CONFIG:
                    paths.append(path)
                elif kind in ("missing", "other"):
                    self.notes.append(f"{name}/{path}: left out: it is not a file, or a link to nothing")
            if len(paths) > _MAXIMAL_FILES:
                raise DefinitionError(f"{name}: it has more than {_MAXIMAL_FILES} files; a definition lists them all")
        return sorted(paths)


def _order_views(views: Iterator[ModelView]) -> list[ModelView]:
    """Return the ensembles by name, each after the models of its steps, then the other models by name."""
    by_name = {view.name: view for view in views}
    ordered: dict[str, ModelView] = {}
    open_names: set[str] = set()
    names = sorted(by_name, key=lambda name: (not by_name[name].steps, name))
    stack = [(name, False) for name in reversed(names)]
    while stack:
        name, is_done = stack.pop()
        if name in ordered:
            continue
        if is_done:
            ordered[name] = by_name[name]
            continue
        if name in open_names:
            continue
        open_names.add(name)
        stack.append((name, True))
        stack += [(step.model, False) for step in reversed(by_name[name].steps) if step.model in by_name]
    return list(ordered.values())


def _sort_entries(comments: Sequence[Comment], view: ModelView) -> list[Comment]:
    """Return the comments with the places of parameters in the order of their keys, in which they are written."""
    keys = [
        str(key.value) if (key := entry.one("key")) is not None else ""
        for entry in view.document.messages("parameters")
    ]
    order = {key: index for index, key in enumerate(sorted(set(keys)))}
    sorted_comments = []
    for comment in comments:
        head, bracket, rest = comment.path.partition("[")
        number = rest.partition("]")[0]
        if head == "parameters" and bracket and number.isdecimal():
            comment = replace(comment, path=f"parameters[{order[keys[int(number)]]}]")
        sorted_comments.append(comment)
    return sorted_comments


def _list_map_values(entries: Sequence[Any]) -> list[Any]:
    return [value for entry in entries if (value := entry.message("value")) is not None]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part not in ("", "."))


def _describe_link(path: str) -> str:
    return f"{escape_line(path)}: the link leads out of the repository. Put the file or directory there itself."


def _describe_syntax(view: ModelView, tree: Tree) -> str:
    if view.document.problems:
        problem = view.document.problems[0]
        return f"{view.config_path}:{problem.line}:{problem.column}: {problem.message}"
    entry = tree.entry(view.config_path)
    reason = entry.problem if entry is not None and entry.problem else "it is larger than what is read, or not a file"
    return f"{view.config_path}: cannot be read: {reason}"
