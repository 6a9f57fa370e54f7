"""Definitions to a `Repository`: every directory, configuration and file source of it, sorted; nothing is written.

This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.ensemble import Ensemble, rebind_models
from tritonforge.repository.definition.models import Model, TensorFlowServing
from tritonforge.repository.definition.sources import File
from tritonforge.repository.model_config import build_config, format_config
from tritonforge.triton.schema import ModelConfig
from tritonforge.triton.tfs_layout import CODE
from tritonforge.validation.tree import GITKEEP, GITKEEP_TEXT

if TYPE_CHECKING:
    from tritonforge.validation.tree import Tree

__all__ = ["BuiltArtifact", "Content", "LocalFile", "LocalFolder", "Repository", "ResolvedModel", "Source", "resolve"]


@dataclass(frozen=True, slots=True)
class Content:
    """A file whose bytes are known."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file beside the definition; ``path`` is relative to the definition's directory, or absolute."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A directory beside the definition, with all below it except what Python and editors leave there."""

    path: str


@dataclass(frozen=True, slots=True)
class BuiltArtifact:
    """The content of a version directory, which `artifact_builder` writes; its path is that of the directory."""

    model: Model
    version: int


Source: TypeAlias = Content | LocalFile | LocalFolder | BuiltArtifact


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """One model of a repository: its configuration, and the source of each file by its path in the repository.

    A model of a package for TensorFlow Serving has no configuration.
    """

    name: str
    config: ModelConfig | None
    files: Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository as data: its models, sorted by name, and the other files.

    A package for TensorFlow Serving is one too: models without configurations, and the directory ``code``.
    """

    models: tuple[ResolvedModel, ...]
    others: Mapping[str, Source] = field(default_factory=dict)

    @property
    def files(self) -> Mapping[str, Source]:
        """The source of each file by its path in the repository, sorted."""
        merged = {path: source for model in self.models for path, source in model.files.items()} | dict(self.others)
        return {path: merged[path] for path in sorted(merged)}

    @property
    def configs(self) -> Mapping[str, str]:
        """The text of every config.pbtxt by its path in the repository."""
        configs = {model.name: model.config for model in self.models if model.config is not None}
        return {f"{name}/config.pbtxt": format_config(config) for name, config in configs.items()}

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the graph of the repository, and the findings on it as a table."""
        from tritonforge.graph.notebook import show_html

        return show_html(self.tree, "model repository")

    def _repr_svg_(self) -> str | None:
        """Return the graph as SVG, for viewers that show no HTML."""
        from tritonforge.graph.notebook import show_svg

        return show_svg(self.tree, "model repository")

    def tree(self) -> Tree:
        """Return the tree that this repository will be on disk; of files to build, only the name is known."""
        # Its own imports cost more than a small repository's rules.
        from tritonforge.triton.backends import BACKENDS, find_model_filename
        from tritonforge.validation.tree import DIRECTORY, UNKNOWN, Entry, Tree

        entries: dict[str, Entry] = {}
        for path, source in self.others.items():
            entries[path] = DIRECTORY if isinstance(source, LocalFolder) else Entry("file", UNKNOWN)
        for resolved in self.models:
            if resolved.config is None:
                entries |= {f"{path}/saved_model.pb": Entry("file", UNKNOWN) for path in resolved.files}
                continue
            config: Any = resolved.config  # protobuf makes the class of ModelConfig at run time
            sought = find_model_filename(config.backend, config.platform, config.default_model_filename)
            for path, source in resolved.files.items():
                if isinstance(source, Content):
                    entries[path] = Entry("file", len(source.data), content=source.data)
                elif isinstance(source, BuiltArtifact):
                    entries[path] = DIRECTORY
                    is_saved_model = sought == BACKENDS["tensorflow"].filename
                    file = f"{sought}/saved_model.pb" if is_saved_model else sought or "model"
                    entries[f"{path}/{file}"] = Entry("file", UNKNOWN)
                else:
                    entries[path] = Entry("file", UNKNOWN)
        return Tree(entries)


def resolve(models: Mapping[str, Model | Ensemble], package: TensorFlowServing | None = None) -> Repository:
    """Return the repository of these models, with every model that an ensemble among them uses.

    With ``package`` it is that package for TensorFlow Serving. Ensembles are rebound to ``models``, so that what
    introspection filled in is checked too.

    Raises:
        DefinitionError: an input or output without data_type or dims, two sources for one path, or ensembles that the
            completed models contradict.
    """
    if package is not None:
        return _resolve_package(package)
    completed: dict[str, Model | Ensemble] = {}

    def complete(model: Model | Ensemble) -> Model | Ensemble:
        if model.name not in completed:
            chosen = models.get(model.name, model)
            if isinstance(chosen, Ensemble):
                parts = {step.model.name: step.model for step in chosen.steps}
                for part in parts.values():
                    assert isinstance(part, Model | Ensemble)
                    complete(part)
                chosen = rebind_models(chosen, completed)
            _check_complete(chosen)
            completed[model.name] = chosen
        return completed[model.name]

    for model in models.values():
        complete(model)
    return Repository(tuple(_resolve_model(completed[name]) for name in sorted(completed)))


def _resolve_package(package: TensorFlowServing) -> Repository:
    models = tuple(
        ResolvedModel(
            model.name, None, {f"{model.name}/{version}": BuiltArtifact(model, version) for version in model.versions}
        )
        for model in sorted(package.models, key=lambda model: model.name)
    )
    return Repository(models, {} if package.code is None else {CODE: LocalFolder(package.code)})


def _check_complete(model: Model | Ensemble) -> None:
    for kind in ("input", "output"):
        for tensor in getattr(model, kind):
            missing = [name for name in ("data_type", "dims") if getattr(tensor, name) is None]
            if missing:
                raise DefinitionError(
                    f'{model.name}: {kind} "{tensor.name}" must specify {missing[0]!r}: the definition leaves it out '
                    "and there is no model file to read it from"
                )


def _resolve_model(model: Model | Ensemble) -> ResolvedModel:
    config = build_config(model)
    files: dict[str, Source] = {}
    for path, source in [("config.pbtxt", Content(format_config(config).encode())), *_list_sources(model)]:
        if files.setdefault(f"{model.name}/{path}", source) != source:
            raise DefinitionError(f"{model.name}: two sources map to {path}")
    return ResolvedModel(model.name, config, {path: files[path] for path in sorted(files)})


def _list_sources(model: Model | Ensemble) -> Iterator[tuple[str, Source]]:
    if isinstance(model, Ensemble):
        if not any(path.startswith("1/") for path in model.files):
            yield f"1/{GITKEEP}", Content(GITKEEP_TEXT)
    else:
        for version, artifact in model.versions.items():
            if artifact is not None:
                yield str(version), BuiltArtifact(model, version)
            elif not model.has_files_in(version):
                yield f"{version}/{GITKEEP}", Content(GITKEEP_TEXT)
        for warmup in model.model_warmup:
            for tensor in warmup.inputs.values():
                if isinstance(tensor.data, File):
                    yield f"warmup/{tensor.input_data_file}", LocalFile(tensor.data.path, tensor.data.sha256)
                elif tensor.data is not None:
                    yield f"warmup/{tensor.input_data_file}", Content(tensor.data)
    for output in model.output:
        if output.labels is not None:
            yield output.label_filename, Content("".join(f"{label}\n" for label in output.labels).encode())
        elif output.label_filename and output.label_filename not in model.files:
            yield output.label_filename, LocalFile(output.label_filename)
    for path, content in model.files.items():
        yield path, Content(content) if isinstance(content, bytes) else LocalFile(content.path, content.sha256)
