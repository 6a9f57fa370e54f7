"""The file of a DALI model: its name, whether it is a pipeline, and which DALI wrote it. No I/O.

The backend tries ``<version>/<default_model_filename or model.dali>`` as a serialised pipeline, then as a Python file
with ``@autoserialize``, then ``<version>/dali.py`` (dali_backend/src/dali_model.h `LoadModel`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "DaliFile", "check_name", "check_origin", "find"]

_FALLBACK: Final = "dali.py"
_ALLOWED: Final = re.compile(r"[a-zA-Z0-9_.-]")

#: DALI 1.53.0 was seen to write the arguments below; how much older a DALI knows them is not known.
_KNOWN_WRITER: Final = (1, 53)
_SOURCE_ARGUMENTS: Final = ("_module", "_display_name", "preserve_name")
_SOURCE_PREFIX: Final = "_origin_stack_"

_LOAD_MODEL: Final = "dali_backend/src/dali_model.h LoadModel"

NOT_A_PIPELINE: Final = Rule(
    code="E501",
    severity="error",
    refused_by="triton",
    summary="Failed to load model file. The program looked in the following locations: <a>, <b>. Please make sure that "
    "the model exists in any of the locations and is properly serialized or can be properly serialized.",
    source=_LOAD_MODEL,
    why="The file is neither a serialised pipeline nor a Python file with @autoserialize, and there is no dali.py.",
    bad="1/model.dali: the text of a Git LFS pointer",
    good="1/model.dali: the result of Pipeline.serialize()",
)
AUTOSERIALIZED: Final = Rule(
    code="E502",
    severity="error",
    refused_by="triton",
    summary="Failed to load model file. The program looked in the following locations: <a>, <b>. Please make sure that "
    "the model exists in any of the locations and is properly serialized or can be properly serialized.",
    source=f"{_LOAD_MODEL}; dali_backend issue 244",
    why="Serialising a pipeline when it is loaded needs DALI's Python package, which images from 24.04 on do not have.",
    bad="1/dali.py   --image 24.09",
    good="1/model.dali   --image 24.09",
)
NAME: Final = Rule(
    code="E511",
    severity="error",
    refused_by="triton",
    summary="File path '<p>' contains an invalid character: '<c>'\nAllowed characters are: a-z, A-Z, 0-9, _, ., -, /",
    source="dali_backend/src/utils/utils.h ValidateFilename, ValidateAbsPath (25.07 and later)",
    why="The backend hands the path to a shell when it serialises, so it takes no other characters, nor '..'.",
    bad="my pipeline/1/model.dali   --image 25.09",
    good="my_pipeline/1/model.dali   --image 25.09",
)
AUTOSERIALIZED_SOMEWHERE: Final = Rule(
    code="W501",
    severity="warning",
    refused_by=None,
    summary="the pipeline is serialised when it is loaded, which images from 24.04 on cannot do",
    source=f"{_LOAD_MODEL}; dali_backend issue 244",
    why="Serialising needs DALI's Python package beside the server; the images of 24.04 and later do not have it.",
    bad="1/dali.py",
    good="1/model.dali",
)
EMPTY: Final = Rule(
    code="W502",
    severity="warning",
    refused_by=None,
    summary="the pipeline's file is empty",
    source=_LOAD_MODEL,
    why="An empty file stands in for a pipeline; the real backend will not load it.",
    bad="1/model.dali: 0 bytes",
    good="1/model.dali: the result of Pipeline.serialize()",
)
NEWER_DALI: Final = Rule(
    code="W503",
    severity="warning",
    refused_by=None,
    summary="the pipeline has arguments of a newer DALI than the image's",
    source="files written by DALI 1.53.0 and 2.4.0; release notes of the images",
    why="A pipeline must be written by a DALI that is not newer than the one that loads it. The file names no version, "
    "but newer versions leave traces of the Python source in it, whose arguments an older one may not know.",
    bad="1/model.dali with _origin_stack_line   --image 24.09",
    good="1/model.dali as `tritonforge build` writes it   --image 24.09",
)
NAME_SOMEWHERE: Final = Rule(
    code="W504",
    severity="warning",
    refused_by=None,
    summary="the path has characters that the DALI backend of 25.07 and later refuses",
    source="dali_backend/src/utils/utils.h ValidateFilename, ValidateAbsPath (25.07 and later)",
    why="Allowed are a-z, A-Z, 0-9, _, ., - and no '..'. Older backends do not look.",
    bad="my pipeline/1/model.dali",
    good="my_pipeline/1/model.dali",
)

RULES: Final = (NOT_A_PIPELINE, AUTOSERIALIZED, NAME, AUTOSERIALIZED_SOMEWHERE, EMPTY, NEWER_DALI, NAME_SOMEWHERE)


@dataclass(frozen=True, slots=True)
class DaliFile:
    """What a version's file is: its bytes when it is a serialised pipeline that was read, and what is wrong with it."""

    path: str
    data: bytes | None = None
    findings: tuple[Finding, ...] = ()


def find(context: Context, model: ModelView, version: int) -> DaliFile:
    """The file that the backend would load; a missing one is the layout's business and gives nothing here."""
    folder = f"{model.name}/{version}"
    path = f"{folder}/{model.default_model_filename or 'model.dali'}"
    fallback = f"{folder}/{_FALLBACK}"
    entry = context.tree.entry(path) if context.tree.is_file(path) else None
    if entry is None:
        if context.tree.is_file(fallback):
            return DaliFile(fallback, findings=_autoserialized(context, fallback, path, fallback))
        return DaliFile(path)
    if entry.size == 0:
        return DaliFile(path, findings=(EMPTY.finding(EMPTY.summary, path=path, help="put a pipeline there"),))
    if entry.content is None:
        return DaliFile(path)
    try:
        dali_pipeline.parse(entry.content)
    except ArtifactError as error:
        if b"autoserialize" in entry.content:
            return DaliFile(path, findings=_autoserialized(context, path, path, fallback))
        if context.tree.is_file(fallback):
            return DaliFile(fallback, findings=_autoserialized(context, fallback, path, fallback))
        sentence = _sentence(path, fallback)
        return DaliFile(path, findings=(NOT_A_PIPELINE.finding(sentence, path=path, help=str(error)),))
    return DaliFile(path, entry.content)


def _sentence(path: str, fallback: str) -> str:
    return NOT_A_PIPELINE.summary.replace("<a>", f"<repo>/{path}").replace("<b>", f"<repo>/{fallback}")


def _autoserialized(context: Context, at: str, path: str, fallback: str) -> tuple[Finding, ...]:
    advice = "serialise it now and ship model.dali: `tritonforge build` does, or Pipeline.serialize() by hand"
    if context.image is None:
        return (AUTOSERIALIZED_SOMEWHERE.finding(AUTOSERIALIZED_SOMEWHERE.summary, path=at, help=advice),)
    if not context.has(changes.DALI_WITHOUT_PYTHON):
        return ()
    why = f"image {context.image.release} has no Python DALI to serialise it with; {advice}"
    return (AUTOSERIALIZED.finding(_sentence(path, fallback), path=at, help=why),)


def check_name(context: Context, model: ModelView) -> Iterator[Finding]:
    """The characters of the model's path; those of the folder that holds the repository are not known here."""
    if context.image is not None and not context.has(changes.DALI_PATH_CHARACTERS):
        return
    sentence = _bad_name(model)
    if sentence is None:
        return
    rule = NAME_SOMEWHERE if context.image is None else NAME
    in_config = model.place(model.document.one("default_model_filename"))
    yield rule.finding(
        f"{rule.summary}: {sentence.splitlines()[0]}" if context.image is None else sentence,
        path=model.config_path if model.has_config else model.name,
        node=in_config if model.has_config else None,
        help="rename it with the characters a-z, A-Z, 0-9, _, . and - only",
    )


def _bad_name(model: ModelView) -> str | None:
    """The backend's sentence for the first version's path; None when it has nothing to say."""
    name = model.default_model_filename or "model.dali"
    allowed = "Allowed characters are: a-z, A-Z, 0-9, _, ., -"
    for character in name:
        if not _ALLOWED.fullmatch(character):
            return f"Model file name '{name}' contains an invalid character: '{character}'\n{allowed}"
    path = f"{model.name}/{model.versions[0] if model.versions else 1}/{name}"
    for character in path:
        if character != "/" and not _ALLOWED.fullmatch(character):
            return f"File path '<repo>/{path}' contains an invalid character: '{character}'\n{allowed}, /"
    return f"Invalid '..' sequence found in model path: '<repo>/{path}'" if ".." in path else None


def check_origin(context: Context, path: str, data: bytes) -> Iterator[Finding]:
    """Traces of a DALI that is newer than the image's."""
    if context.image is None or context.image.dali is None:
        return
    if tuple(map(int, context.image.dali.split(".")))[:2] >= _KNOWN_WRITER:
        return
    traces = sorted(
        {
            argument.name
            for operator in dali_pipeline.parse(data).op
            for argument in operator.args
            if argument.name in _SOURCE_ARGUMENTS or argument.name.startswith(_SOURCE_PREFIX)
        }
    )
    if traces:
        yield NEWER_DALI.finding(
            f"the pipeline has the arguments {', '.join(traces)}, as DALI 1.53 and later write them; image "
            f"{context.image.release} has DALI {context.image.dali}, which may not know them",
            path=path,
            help="write the file with `tritonforge build`, which leaves them out, or with the image's DALI",
        )
