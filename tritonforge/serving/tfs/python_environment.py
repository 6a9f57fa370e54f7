"""The Python environment of a package's handlers: the packages of SageMaker's image, and what requirements.txt adds.

It is a virtual environment of the running Python. The image's packages are links to those that are installed here, so
that handlers cannot import anything that the image lacks; what ``code/requirements.txt`` names is installed by pip from
the configured index, as the image does at every start. Source: aws/deep-learning-containers
scripts/docker/tensorflow/inference/sagemaker/serve.py `ServiceManager._setup_gunicorn`.
"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

from tritonforge.errors import LaunchError
from tritonforge.triton.tfs_container import DISTRIBUTIONS

__all__ = ["PACKAGE_PATH", "create_environment", "install_requirements"]

#: The folder below the environment's that holds a link to tritonforge, and nothing else: PYTHONPATH of the worker.
PACKAGE_PATH: Final = "tritonforge-path"

_IMAGE_PACKAGES: Final = "image-packages"
_ENVIRONMENT: Final = "python"


def create_environment(folder: Path, *, with_pip: bool) -> Path:
    """Create the environment in ``folder`` and return its Python.

    ``with_pip`` says whether `install_requirements` is to follow.

    Raises:
        LaunchError: the environment cannot be created.
    """
    packages = folder / _IMAGE_PACKAGES
    packages.mkdir()
    for name in sorted(DISTRIBUTIONS):
        _link_distribution(name, packages)
    own = folder / PACKAGE_PATH
    own.mkdir()
    package = Path(__file__).parents[2]
    (own / package.name).symlink_to(package)
    environment = folder / _ENVIRONMENT
    try:
        # A pip that is installed here can work on another environment, which saves the seconds of ensurepip.
        venv.EnvBuilder(symlinks=True, with_pip=with_pip and not _has_pip()).create(environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"cannot create a Python environment for the handlers: {error}") from error
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    (site_packages / "image_packages.pth").write_text(f"{packages}\n", encoding="utf-8")
    return environment / "bin" / "python"


def install_requirements(
    python: Path,
    requirements: Path,
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    preexec: Callable[[], None] | None = None,
) -> None:
    """Install a requirements file into the environment of ``python``, which `create_environment` made.

    pip reads its own configuration and ``PIP_*`` of ``environment``; ``on_line`` is given its output. ``preexec`` runs
    in pip's process before it starts.

    Raises:
        LaunchError: pip failed; the message has its last error.
    """
    command = [sys.executable, "-m", "pip", "--python", str(python)] if _has_pip() else [str(python), "-m", "pip"]
    process: subprocess.Popen[str]
    with subprocess.Popen(  # noqa: S603 - pip, on the file of the package that is being served
        [*command, "install", "--no-input", "--disable-pip-version-check", "--requirement", str(requirements)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        env={**environment, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"},
        preexec_fn=preexec,
    ) as process:
        assert process.stdout is not None
        last = ""
        try:
            for line in process.stdout:
                on_line(line.rstrip())
                if line.startswith("ERROR: "):
                    last = line.removeprefix("ERROR: ").strip()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        reason = last or f"pip ended with status {process.returncode}"
        raise LaunchError(f"{requirements}: failed to install required packages: {reason}")


def _has_pip() -> bool:
    """Return True if the running Python has a pip that supports ``--python`` (22.3)."""
    if importlib.util.find_spec("pip") is None:
        return False
    major, minor = (int(part) for part in metadata.version("pip").split(".")[:2])
    return (major, minor) >= (22, 3)


def _link_distribution(name: str, target: Path) -> None:
    """Link every file of an installed distribution below ``target``, whole packages by one link."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # the error of its import states how to install it
    linked: set[str] = set()
    for path in _list_recorded_paths(distribution):
        top = path.partition("/")[0]
        if top in linked or top in ("..", "__pycache__") or top.startswith("__editable__"):
            continue  # linked as a whole, or scripts and the like, which are not imported
        _link(Path(str(distribution.locate_file(""))), PurePosixPath(path).parts, target)
        if (target / top).is_symlink():
            linked.add(top)


def _list_recorded_paths(distribution: metadata.Distribution) -> Iterable[str]:
    """Return the paths of a distribution's files, which `Distribution.files` makes objects of one by one."""
    record = distribution.read_text("RECORD")
    if record is None:
        return map(str, distribution.files or ())
    return (row[0] for row in csv.reader(record.splitlines()) if row)


def _link(root: Path, parts: tuple[str, ...], target: Path) -> None:
    """Link the first directory of a path that is a package, or the file itself.

    A directory without ``__init__.py``, such as ``google``, is shared by several distributions, so it is made anew.
    """
    source, link = root, target
    for part in parts:
        source, link = source / part, link / part
        if link.is_symlink():
            return
        if source.is_file() or (source / "__init__.py").is_file() or source.suffix == ".dist-info":
            link.symlink_to(source)
            return
        if not source.is_dir():
            return  # a file that was removed after it was installed
        link.mkdir(exist_ok=True)
