"""Names and paths that must reach the shell which starts Triton's Python stubs unchanged.

Every backend here is a Python one, so every model but an ensemble has a stub; `tritonforge.triton.backends` has
what of a model its command holds. `tritonforge.validation.rules.model_names` finds the same without a server (E118,
W118).

Triton puts paths into a shell's command unquoted, the linker splits LD_LIBRARY_PATH at colons and semicolons, a stub
reads ASCII only, and Linux cuts a script's ``#!`` line at 255 bytes. Where TMPDIR is not such a path, one of the
system's own temporary folders is used instead; what is put there is small.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import LaunchError
from tritonforge.files import describe_error
from tritonforge.triton.backends import is_word, list_odd_characters
from tritonforge.triton.schema import ModelConfig

__all__ = ["find_unsafe_names", "list_temporary_roots", "make_folder"]


_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"


def find_unsafe_names(repository: Path, configs: Mapping[str, ModelConfig]) -> list[str]:
    """Return a sentence for each string that a shell would change; empty when the models can be served.

    ``repository`` is the folder that tritonserver reads, ``configs`` has the models that it may load, by directory.
    """
    problems = []
    for name, config in configs.items():
        for what, text in _list_stub_arguments(repository, name, config):
            if not is_word(text):
                of_model = "" if text == name else f" of model '{_escape(name)}'"
                problems.append(
                    f"{what} '{_escape(text)}'{of_model} has characters that Triton's python backend passes to a "
                    f"shell unquoted: {list_odd_characters(text)}; use letters, digits and _ . / + @ % : , = - (ASCII)"
                )
    return problems


def _list_stub_arguments(repository: Path, name: str, message: ModelConfig) -> Iterator[tuple[str, str]]:
    config: Any = message  # protobuf makes the class of ModelConfig at run time
    if config.platform == "ensemble":
        return
    yield "the model directory", name
    for group in config.instance_group:
        yield "the instance group", group.name
    yield "default_model_filename", config.default_model_filename
    if _ENVIRONMENT in config.parameters:
        given = config.parameters[_ENVIRONMENT].string_value
        yield _ENVIRONMENT, given.replace(_MODEL_DIRECTORY, "")
        # <environment>/bin/activate is sourced by the path without links (pb_env.cc `ExtractIfNotExtracted`).
        path = Path(given.replace(_MODEL_DIRECTORY, str(repository / name)))
        if path.is_dir():
            yield f"the real path of {_ENVIRONMENT}", str(path.resolve())


def _escape(text: str) -> str:
    return ascii(text)[1:-1]


#: The folders that replace TMPDIR where it cannot be used, in this order.
_SYSTEM_ROOTS: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes a folder that no other user may enter

_LONGEST_ROOT: Final = 150


def list_temporary_roots() -> tuple[Path, ...]:
    """Return the possible parents of temporary folders, the preferred one first."""
    return tuple(dict.fromkeys([Path(tempfile.gettempdir()), *map(Path, _SYSTEM_ROOTS)]))


def make_folder(prefix: str) -> Path:
    """Create a folder for this user alone.

    Raises:
        LaunchError: no place can be used; the message names TMPDIR.
    """
    problems = []
    for place in list_temporary_roots():
        problem = _find_root_problem(place)
        if not problem:
            try:
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            except OSError as error:
                problem = describe_error(error)
        problems.append(f"{ascii(str(place))[1:-1]}: {problem}")
    raise LaunchError(
        f"no folder for temporary files can be used ({'; '.join(problems)}); set TMPDIR to a writable one whose path "
        "has letters, digits and _ . / + @ % , = - (ASCII) only"
    )


def _find_root_problem(place: Path) -> str:
    """Return why programs and libraries cannot be run from a folder; "" when they can."""
    path = str(place)
    if not is_word(path) or ":" in path:
        return f"its path has the characters {list_odd_characters(path) or ':'}"
    if len(path) > _LONGEST_ROOT:
        return f"its path is longer than {_LONGEST_ROOT} characters"
    try:
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return "programs cannot be run from it (mounted noexec)"
    except OSError as error:
        return describe_error(error)
    return ""
