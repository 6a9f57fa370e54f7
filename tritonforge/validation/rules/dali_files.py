"""The file of a DALI model: its name, whether it is a pipeline, which DALI wrote it, where it computes. No I/O.

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
from tritonforge.triton.backends import BACKENDS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.dali_tensors import SIGNATURE_RULES, check_max_batch_size, compare_signature

_LOAD_MODEL: Final = "dali_backend/src/dali_model.h LoadModel"

_TOOLS: Final = "dali_backend/src/config_tools/config_tools.cc"

# fmt: off
E501 = define_error("E501", "Failed to load model file. The program looked in the following locations: <a>, <b>. "
                            "Please make sure that the model exists in any of the locations and is properly "
                            "serialized or can be properly serialized.",
    source=_LOAD_MODEL,
    why="The file is neither a serialised pipeline nor a Python file with @autoserialize, and there is no dali.py.",
    bad="1/model.dali: the text of a Git LFS pointer", good="1/model.dali: the result of Pipeline.serialize()")
E502 = define_error("E502", "Failed to load model file. The program looked in the following locations: <a>, <b>. "
                            "Please make sure that the model exists in any of the locations and is properly "
                            "serialized or can be properly serialized.",
    source=f"{_LOAD_MODEL}; dali_backend issue 244",
    why="Serialising a pipeline when it is loaded needs DALI's Python package, which images from 24.04 on do not have.",
    bad="1/dali.py   --image 24.09", good="1/model.dali   --image 24.09")
E510 = define_error("E510", "the pipeline has operators on the GPU, but the instance has none",
    source="dali_backend/src/dali_model.h InstantiateDaliPipeline; DALI Pipeline",
    why="Devices are fixed when a pipeline is serialised. DALI builds no GPU operator (also no `mixed` decoder) for "
        "an instance group of KIND_CPU, on the CPU image, or on a host without a GPU.",
    bad='fn.decoders.image(..., device="mixed")   instance_group { kind: KIND_CPU }',
    good='fn.decoders.image(..., device="cpu")   instance_group { kind: KIND_CPU }')
E512 = define_error("E512", "DALI tensor <n> has an element type that Triton's DALI cannot carry",
    source=f"{_TOOLS} to_triton_config",
    why="The backend has the integers, floats and BOOL. It calls any other type of DALI TYPE_INVALID, which then "
        "equals nothing in the configuration.",
    bad="pipeline_def(output_dtype=types.INTERP_TYPE)", good="pipeline_def(output_dtype=types.INT32)")
E511 = define_error("E511", "File path '<p>' contains an invalid character: '<c>'\nAllowed characters are: a-z, "
                            "A-Z, 0-9, _, ., -, /",
    source="dali_backend/src/utils/utils.h ValidateFilename, ValidateAbsPath (25.07 and later)",
    why="The backend hands the path to a shell when it serialises, so it takes no other characters, nor '..'.",
    bad="my pipeline/1/model.dali   --image 25.09", good="my_pipeline/1/model.dali   --image 25.09")
W501 = define_advice("W501", "the pipeline is serialised when it is loaded, which images from 24.04 on cannot do",
    source=f"{_LOAD_MODEL}; dali_backend issue 244",
    why="Serialising needs DALI's Python package beside the server; the images of 24.04 and later do not have it.",
    bad="1/dali.py", good="1/model.dali")
W502 = define_advice("W502", "the pipeline's file is empty",
    source=_LOAD_MODEL,
    why="An empty file is not a pipeline; the real backend will not load it.",
    bad="1/model.dali: 0 bytes", good="1/model.dali: the result of Pipeline.serialize()")
W503 = define_advice("W503", "the pipeline has arguments of a newer DALI than the image's",
    source="files written by DALI 1.53.0 and 2.4.0; release notes of the images",
    why="A pipeline must be written by a DALI that is not newer than the one that loads it. The file names no "
        "version, but newer versions leave traces of the Python source in it, whose arguments an older one may not "
        "know.",
    bad="1/model.dali with _origin_stack_line   --image 24.09",
    good="1/model.dali as `tritonforge build` writes it   --image 24.09")
W504 = define_advice("W504", "the path has characters that the DALI backend of 25.07 and later refuses",
    source="dali_backend/src/utils/utils.h ValidateFilename, ValidateAbsPath (25.07 and later)",
    why="Allowed are a-z, A-Z, 0-9, _, ., - and no '..'. Older backends do not look.",
    bad="my pipeline/1/model.dali", good="my_pipeline/1/model.dali")
# fmt: on

_DEFAULT: Final = BACKENDS["dali"].filename
_FALLBACK: Final = "dali.py"
_ALLOWED: Final = re.compile(r"[a-zA-Z0-9_.-]")
#: DALI 1.53.0 was seen to write the arguments below; which older versions know them is unknown.
_KNOWN_WRITER: Final = (1, 53)
_SOURCE_ARGUMENTS: Final = ("_module", "_display_name", "preserve_name")
_SOURCE_PREFIX: Final = "_origin_stack_"


@register_check(Stage.LOADED, E501, E502, E510, E511, E512, W501, W502, W503, W504, *SIGNATURE_RULES)
def check_dali_models(context: Context) -> Iterator[Finding]:
    """Check every version of every DALI model that the server loads, as the backend does."""
    for model in context.models.values():
        if model.backend != "dali" or not model.parsed:
            continue
        yield from _check_name(context, model)
        yield from check_max_batch_size(model)
        for version in model.versions:
            file = _find_file(context, model, version)
            yield from file.findings
            if file.data is None:
                continue
            yield from _check_writer(context, file.path, file.data)
            yield from _check_device(context, model, file.data, path=file.path)
            try:
                signature = dali_pipeline.read_signature(file.data)
            except ArtifactError as error:
                advice = "cast it inside the pipeline to a type that Triton has"
                yield E512.report(str(error), path=file.path, help=advice)
            else:
                yield from compare_signature(context, model, signature, path=file.path)


@dataclass(frozen=True, slots=True)
class DaliFile:
    """A version's file: its bytes when it is a serialised pipeline that was read, and its findings."""

    path: str
    data: bytes | None = None
    findings: tuple[Finding, ...] = ()


def _find_file(context: Context, model: ModelView, version: int) -> DaliFile:
    """Return the file that the backend would load; a missing one has no findings here."""
    folder = f"{model.name}/{version}"
    path = f"{folder}/{model.default_model_filename or _DEFAULT}"
    fallback = f"{folder}/{_FALLBACK}"
    entry = context.tree.entry(path) if context.tree.is_file(path) else None
    if entry is None:
        if context.tree.is_file(fallback):
            return DaliFile(fallback, findings=_report_autoserialized(context, fallback, path, fallback))
        return DaliFile(path)
    if entry.size == 0:
        return DaliFile(path, findings=(W502.report(W502.sentence, path=path, help="put a pipeline there"),))
    if entry.content is None:
        return DaliFile(path)
    try:
        dali_pipeline.parse(entry.content)
    except ArtifactError as error:
        if b"autoserialize" in entry.content:
            return DaliFile(path, findings=_report_autoserialized(context, path, path, fallback))
        if context.tree.is_file(fallback):
            return DaliFile(fallback, findings=_report_autoserialized(context, fallback, path, fallback))
        sentence = _format_sentence(path, fallback)
        return DaliFile(path, findings=(E501.report(sentence, path=path, help=str(error)),))
    return DaliFile(path, entry.content)


def _format_sentence(path: str, fallback: str) -> str:
    return E501.sentence.replace("<a>", f"<repo>/{path}").replace("<b>", f"<repo>/{fallback}")


def _report_autoserialized(context: Context, at: str, path: str, fallback: str) -> tuple[Finding, ...]:
    advice = "serialise it now and ship model.dali: `tritonforge build` does, or Pipeline.serialize() by hand"
    if context.image is None:
        return (W501.report(W501.sentence, path=at, help=advice),)
    if not context.has(changes.DALI_WITHOUT_PYTHON):
        return ()
    why = f"image {context.image.release} has no Python DALI to serialise it with; {advice}"
    return (E502.report(_format_sentence(path, fallback), path=at, help=why),)


def _check_name(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the characters of the model's path; those of the repository's own folder are unknown here."""
    if context.image is not None and not context.has(changes.DALI_PATH_CHARACTERS):
        return
    sentence = _explain_name(model)
    if sentence is None:
        return
    rule = W504 if context.image is None else E511
    in_config = model.place(model.document.one("default_model_filename"))
    yield rule.report(
        f"{rule.sentence}: {sentence.splitlines()[0]}" if context.image is None else sentence,
        path=model.config_or_directory,
        node=in_config if model.has_config else None,
        help="rename it with the characters a-z, A-Z, 0-9, _, . and - only",
    )


def _explain_name(model: ModelView) -> str | None:
    """Return the backend's sentence for the first version's path; None where it accepts it."""
    name = model.default_model_filename or _DEFAULT
    allowed = "Allowed characters are: a-z, A-Z, 0-9, _, ., -"
    for character in name:
        if not _ALLOWED.fullmatch(character):
            return f"Model file name '{name}' contains an invalid character: '{character}'\n{allowed}"
    path = f"{model.name}/{model.versions[0] if model.versions else 1}/{name}"
    for character in path:
        if character != "/" and not _ALLOWED.fullmatch(character):
            return f"File path '<repo>/{path}' contains an invalid character: '{character}'\n{allowed}, /"
    return f"Invalid '..' sequence found in model path: '<repo>/{path}'" if ".." in path else None


def _check_writer(context: Context, path: str, data: bytes) -> Iterator[Finding]:
    """Check for traces of a DALI that is newer than the image's."""
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
        yield W503.report(
            f"the pipeline has the arguments {', '.join(traces)}, as DALI 1.53 and later write them; image "
            f"{context.image.release} has DALI {context.image.dali}, which may not know them",
            path=path,
            help="write the file with `tritonforge build`, which leaves them out, or with the image's DALI",
        )


def _check_device(context: Context, model: ModelView, data: bytes, *, path: str) -> Iterator[Finding]:
    """Compare the devices of the pipeline in ``path`` with the model's instance groups, the image and the host."""
    if not dali_pipeline.needs_gpu(data):
        return
    groups = [group for group in model.document.messages("instance_group") if group.text("kind") == "KIND_CPU"]
    for group in groups:
        name = group.text("name") or f"{model.name}_{group.index}"
        yield E510.report(
            f"the pipeline {path} has operators on the GPU, but instance group {name} is KIND_CPU",
            path=model.config_path,
            node=group.one("kind"),
            help="serialise the pipeline for the CPU, or use KIND_GPU",
        )
    if groups:
        return
    where = ""
    if context.image is not None and context.image.cpu:
        where = f"image {context.image.tag} is for the CPU"
    elif context.options.gpus == 0:
        where = "the host has none"
    if where:
        yield E510.report(
            f"the pipeline has operators on the GPU, but {where}",
            path=path,
            help="serialise the pipeline for the CPU",
        )
