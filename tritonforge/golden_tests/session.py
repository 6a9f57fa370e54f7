"""The server that golden tests ask: a repository on this machine, which a definition is built into first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tritonforge.building import BuildProgress, build_definitions
from tritonforge.errors import CaseError
from tritonforge.golden_tests.runner import RepositoryRunner
from tritonforge.inference.private_server import open_private_server
from tritonforge.repository.definition.loading import load
from tritonforge.serving.repository_overlay import read_configs

__all__ = ["TestedPath", "find_tested_path", "open_runner"]


@dataclass(frozen=True, slots=True)
class TestedPath:
    """What is tested: a definition or a model repository, and the directory of its cases."""

    path: Path
    is_definition: bool
    cases: Path

    def build(self, on_progress: Callable[[BuildProgress], None]) -> Path:
        """Return the model repository; a definition is built into build/NAME, as `tritonforge build` does.

        Raises:
            DefinitionError, ArtifactError, ValidationError: the definition cannot be built.
        """
        if not self.is_definition:
            return self.path
        definitions = load(self.path)
        if definitions.package is not None:
            raise CaseError(f"{self.path}: packages for TensorFlow Serving are not tested, model repositories are")
        destination = Path("build") / definitions.folder.name
        build_definitions(definitions, destination, on_progress=on_progress)
        return destination


def find_tested_path(path: Path, cases: Path | None) -> TestedPath:
    """Return what a path is: a definition if it is a Python file or a directory with a definition.py.

    Args:
        path: a definition, or a model repository.
        cases: the directory of the cases. Default: tests, beside the definition or beside the repository.
    """
    is_file = path.suffix == ".py" and not path.is_dir()
    is_definition = is_file or (path / "definition.py").is_file()
    folder = path if is_definition and not is_file else path.absolute().parent
    return TestedPath(path, is_definition, cases if cases is not None else _shorten(folder / "tests"))


@contextmanager
def open_runner(
    repository: Path,
    *,
    timeout: float = 300.0,
    on_progress: Callable[[str], None] = lambda sentence: None,
    on_warning: Callable[[str], None] = lambda sentence: None,
) -> Iterator[RepositoryRunner]:
    """Serve a repository while the context lasts, for this process only.

    Args:
        repository: the directory of the models.
        timeout: seconds until the models must be loaded.
        on_progress: gets short sentences while models load.
        on_warning: gets what differs from the server that the repository is for, such as a missing GPU.

    Raises:
        LaunchError: the repository does not load, with Triton's own reason.
        MissingExtraError: nvidia-pytriton is not installed, or gRPC, which decoupled models need.
    """
    configs = read_configs(repository)
    with open_private_server(
        repository, configs, timeout=timeout, on_progress=on_progress, on_warning=on_warning
    ) as private:
        yield RepositoryRunner(private.client, configs, private.open_stream)


def _shorten(path: Path) -> Path:
    """Return a path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
