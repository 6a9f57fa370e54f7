"""First definitions for new projects: the files of each template, with the project's name in them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.files import describe_error
from tritonforge.repository.definition.models import check_name
from tritonforge.repository.definition_writer import VariableNames

__all__ = ["TEMPLATES", "write_template"]

#: The templates, and how to send a request to what they serve; NAME is the name of the project's model.
TEMPLATES: Final = {
    "classify": "tritonforge infer http://localhost:8000 --model NAME photo.jpg",
    "detect": "tritonforge infer http://localhost:8000 --model NAME --input IMAGE photo.jpg --top 0",
    "onnx": "tritonforge infer http://localhost:8000 --model NAME --input measurements='[6.1, 2.8, 4.7, 1.2]'",
    "python": "tritonforge infer http://localhost:8000 --model NAME --input scores='[1, 2, 3]'",
}

#: Templates are not modules of this package: their files end in this.
_SUFFIX: Final = ".txt"
_FOLDER: Final = Path(__file__).parent / "templates"


def write_template(name: str, template: str, directory: Path) -> tuple[Path, ...]:
    """Write the files of a template for a model ``name`` into a new or empty directory; return their paths.

    Raises:
        DefinitionError: the name is not that of a model, the directory has files, or it cannot be written.
    """
    check_name(name, "new")
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise DefinitionError(f"{directory}: it already exists; give another name, or remove it")
    variable = VariableNames(("classify", "decode", "network", "postprocess", "preprocess", "score")).take(
        name, default="model"
    )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sorted((_FOLDER / template).iterdir()):
            text = source.read_text(encoding="utf-8")
            target = directory / source.name.removesuffix(_SUFFIX)
            target.write_text(
                text.replace("template_name", name).replace("template_variable", variable), encoding="utf-8"
            )
            written.append(target)
    except OSError as error:
        raise DefinitionError(f"{error.filename}: cannot write: {describe_error(error)}") from error
    return tuple(written)
