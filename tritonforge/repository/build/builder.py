"""Build a repository from definitions: make what changed, link what did not, and put the whole in place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tritonforge.errors import ArtifactError, ValidationError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.loading import Definitions
from tritonforge.repository.definition.models import Dali, Model
from tritonforge.repository.definition.package import VERSION_FOLDER
from tritonforge.repository.build.tfs_package import code_files
from tritonforge.validation.tree_reader import read_tree
from tritonforge.repository.build.manifest import Entry, MadeEntry, Record, digest, intact, previous, sha256_of
from tritonforge.repository.build.replacement import put_in_place, staging
from tritonforge.validation.labels import compare_labels
from tritonforge.repository.resolve import Beside, Content, Folder, Repository, resolve
from tritonforge.validation.runner import validate

__all__ = ["Built", "Maker", "Progress", "build"]

#: Who refuses a repository, by `Finding.refused_by`.
_REFUSERS = {"triton": "Triton", "tfs": "SageMaker's TensorFlow Serving container", "tritonforge": "tritonforge serve"}


class Progress(Protocol):
    """What a build tells while it works."""

    def begin(self, what: str) -> None:
        """A slow piece of work begins; it ends with the next one, or with the build."""

    def say(self, sentence: str) -> None:
        """A sentence that the user must not miss."""

    def moved(self, done: int, total: int | None) -> None:
        """So many bytes of the slow piece of work are moved, of so many where that is known."""


class Maker(Protocol):
    """Makes version directories, tells what they are made from, and reads what they hold."""

    def fingerprint(self, model: Model, version: int, *, base: Path) -> str:
        """A digest of everything that the result depends on; quick, and without a framework."""

    def make(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        say: Callable[[str], None],
        moved: Callable[[int, int | None], None],
    ) -> Any:
        """Make one version directory, and give what introspection reads from it as plain JSON."""

    def complete(self, model: Model, signature: Any) -> Model:
        """The model with what it leaves out read from the artifact, and what it states held against it."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: the tree's ``digest``, its files with their sizes in bytes, and what was made anew."""

    digest: str
    files: Mapping[str, int]
    made: tuple[str, ...]
    changed: bool
    said: tuple[str, ...]
    repository: Repository


def build(definitions: Definitions, destination: Path, *, maker: Maker, progress: Progress) -> Built:
    """Write the repository of these definitions to ``destination``, all of it or nothing.

    A version directory whose fingerprint is unchanged is taken from the old tree by hard links. A tree that would be
    equal to the old one is left as it is.

    Raises:
        DefinitionError: the definitions contradict themselves, or the destination is a folder of something else.
        ArtifactError: a model file is missing, damaged, or not what its definition says; a label file has fewer labels
            than its output has classes.
        ValidationError: Triton would refuse what was built; nothing is written.
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100  # resolve() would follow a link that is the target
    with staging(destination) as partial:
        old = previous(destination)
        work = _Work(definitions, destination, partial, old, maker, progress)
        completed = {name: work.model(model) for name, model in definitions.models.items()}
        repository = resolve(completed, definitions.package)
        for path, source in repository.files.items():
            if isinstance(source, Content):
                work.write(path, source.data)
            elif isinstance(source, Beside):
                work.copy(path, source)
            elif isinstance(source, Folder):
                work.copy_folder(path, source)
        notes = _check_labels(repository, partial)
        for note in notes:
            progress.say(note)
        files = dict(sorted(work.files.items()))
        record = Record(digest(files), files, dict(sorted(work.made.items())))
        changed = record.digest != old.digest or not destination.exists() or not intact(destination, old)
        if changed:
            _check(partial)
            record.write(partial)
            put_in_place(partial, destination)
        elif record.made != old.made:
            Record(old.digest, old.files, record.made).write(destination)
    said = (*(sentence for each in record.made.values() for sentence in each.said), *notes)
    sizes = {path: each.size for path, each in files.items()}
    return Built(record.digest, sizes, tuple(work.anew), changed, said, repository)


class _Work:
    """One build under way: the files written so far, and what they were made from."""

    def __init__(
        self,
        definitions: Definitions,
        destination: Path,
        partial: Path,
        old: Record,
        maker: Maker,
        progress: Progress,
    ) -> None:
        self.definitions, self.destination, self.partial, self.old = definitions, destination, partial, old
        self.maker, self.progress = maker, progress
        self.files: dict[str, Entry] = {}
        self.made: dict[str, MadeEntry] = {}
        self.anew: list[str] = []

    def model(self, model: Model | Ensemble) -> Model | Ensemble:
        """Make or link every version of a model, and complete the model from the artifacts."""
        if isinstance(model, Ensemble):
            return model
        for version, artifact in model.versions.items():
            if artifact is None:
                raise ArtifactError(
                    f"{model.name}: there is no model file for it; give it an artifact (File, Download, Function ...)"
                    f"{' or a pipeline function' if isinstance(model, Dali) else ''}"
                )
            model = self.maker.complete(model, self._version(model, version))
        return model

    def _version(self, model: Model, version: int) -> Any:
        directory = f"{model.name}/{version}"
        fingerprint = self.maker.fingerprint(model, version, base=self.definitions.folder)
        known, files = self.old.made.get(directory), self.old.under(directory)
        if known is not None and known.fingerprint == fingerprint and files and self._linked(files):
            for sentence in known.said:
                self.progress.say(sentence)
            self.made[directory] = known
            return known.signature
        made = directory if model.model_filename == VERSION_FOLDER else f"{directory}/{model.model_filename}"
        self.progress.begin(f"making {made}")
        said: list[str] = []

        def say(sentence: str) -> None:
            said.append(sentence)
            self.progress.say(sentence)

        target = self.partial / directory
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        signature = self.maker.make(
            self.definitions, model, version, destination=target, say=say, moved=self.progress.moved
        )
        for path in sorted(each for each in target.rglob("*") if each.is_file()):
            self._note(path.relative_to(self.partial).as_posix())
        self.made[directory] = MadeEntry(fingerprint, signature, tuple(said))
        self.anew.append(directory)
        return signature

    def write(self, path: str, data: bytes) -> None:
        """Write a file whose bytes are known, or link the old one when it holds the same."""
        known = self.old.files.get(path)
        old = self.destination / path
        if known is not None and known.size == len(data) and known.unchanged(old) and old.read_bytes() == data:
            self._linked({path: known})
            return
        target = self.partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self._note(path)

    def copy(self, path: str, source: Beside) -> None:
        """Copy a file that lies beside the definition."""
        origin = self.definitions.folder / source.path
        if not origin.is_file():
            raise ArtifactError(f"{origin}: there is no such file; the definition names it for {path}")
        self.write(path, origin.read_bytes())
        if source.sha256 is not None and self.files[path].sha256 != source.sha256:
            raise ArtifactError(
                f"{origin}: its sha256 is {self.files[path].sha256}, the definition says {source.sha256}"
            )

    def copy_folder(self, path: str, source: Folder) -> None:
        """Copy a folder that lies beside the definition."""
        for relative, file in code_files(self.definitions.folder / source.path):
            self.write(f"{path}/{relative}", file.read_bytes())

    def _linked(self, files: Mapping[str, Entry]) -> bool:
        """Link files of the old tree into the new one; False when one of them is gone or was touched."""
        if not all(each.unchanged(self.destination / path) for path, each in files.items()):
            return False
        for path, each in files.items():
            target = self.partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.destination / path, target)
            except OSError:
                # A file system without hard links: the copy keeps the time stamp, so that the next build knows it.
                shutil.copy2(self.destination / path, target)
            self.files[path] = each
        return True

    def _note(self, path: str) -> None:
        found = (self.partial / path).stat()
        self.files[path] = Entry(found.st_size, found.st_mtime_ns, sha256_of(self.partial / path))


def _check_labels(repository: Repository, partial: Path) -> list[str]:
    """Compare each label file with its output; the sentences are of files with more labels than classes.

    Raises:
        ArtifactError: a file has fewer labels, so that classes would be answered without a name.
    """
    notes = []
    for model in repository.models:
        config: Any = model.config
        for output in () if config is None else config.output:
            path = f"{model.name}/{output.label_filename}"
            if not output.label_filename or not (partial / path).is_file():
                continue
            difference = compare_labels(output.name, output.dims, path, (partial / path).read_bytes())
            if difference is not None and difference[0] > 0:
                raise ArtifactError(f"{difference[1]}. Name every class.")
            if difference is not None:
                notes.append(difference[1])
    return notes


def _check(partial: Path) -> None:
    """Judge the finished tree as the server would, before it is anybody's."""
    refused = [each for each in validate(read_tree(partial)) if each.refused_by not in (None, "sagemaker")]
    if refused:
        told = "\n".join(f"  {each.path}: {each.code}: {each.message}" for each in refused)
        who = _REFUSERS[str(refused[0].refused_by)]
        raise ValidationError(f"{who} would refuse this repository, so it was not written:\n{told}", findings=refused)
