"""Names of a repository that must not reach the shell which starts Triton's Python stubs.

Every backend here is a Python one, so every model but an ensemble has a stub; `tritonforge.triton.backends` says
what of a model its command holds. `tritonforge.validation.rules.shell` finds the same without a server (E118, W118).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tritonforge.triton.backends import is_word, list_odd_characters
from tritonforge.triton.schema import ModelConfig

__all__ = ["problems"]

_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"


def problems(repository: Path, configs: Mapping[str, ModelConfig]) -> list[str]:
    """One sentence for each string that a shell would not take unchanged; none when the models can be served.

    ``repository`` is the folder that tritonserver reads, ``configs`` has the models that it may load, by directory.
    """
    found = []
    for name, config in configs.items():
        for what, text in _strings(repository, name, config):
            if not is_word(text):
                of_model = "" if text == name else f" of model '{_escaped(name)}'"
                found.append(
                    f"{what} '{_escaped(text)}'{of_model} has characters that Triton's python backend passes to a "
                    f"shell unquoted: {list_odd_characters(text)}; use letters, digits and _ . / + @ % : , = - (ASCII)"
                )
    return found


def _strings(repository: Path, name: str, message: ModelConfig) -> Iterator[tuple[str, str]]:
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


def _escaped(text: str) -> str:
    return ascii(text)[1:-1]
