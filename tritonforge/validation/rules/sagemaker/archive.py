"""The model archive as the `serve` script of SageMaker's Triton images sees it, unpacked in /opt/ml/model. No I/O.

Source of every sentence: triton-inference-server/server, docker/sagemaker/serve (the same from r23.12 on in what is
judged here), each also observed with a stand-in server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tritonforge.datatypes import BY_CONFIG
from tritonforge.triton.service_limits import REAL_TIME_BODY, TRANSFORM_VOLUME
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["RULES", "check", "default_model", "model_directories"]

_SERVE: Final = "triton-inference-server/server docker/sagemaker/serve"

#: Where counting bytes ends: no tensor is larger, and the product of hostile dims stays a small number.
_MAXIMAL_COUNT: Final = 2**63

#: How many names a sentence lists.
_LISTED: Final = 50

#: What the shell splits a word at or expands in it, where a script does not quote it.
_SHELL: Final = frozenset(" \t\n*?[")

CONFIG_AT_ROOT: Final = Rule(
    code="E401",
    severity="error",
    refused_by="sagemaker",
    summary="Incorrect directory structure. Model directory needs to contain the top level folder",
    source=_SERVE,
    why="The archive holds model directories. With a config.pbtxt at its root, the script takes the archive for the "
    "inside of one model directory and ends. (As an archive of a multi-model endpoint it is allowed.)",
    bad="model.tar.gz: config.pbtxt, 1/model.onnx",
    good="model.tar.gz: classifier/config.pbtxt, classifier/1/model.onnx",
)
NO_MODEL: Final = Rule(
    code="E402",
    severity="error",
    refused_by="sagemaker",
    summary="No model found in model repository",
    source=_SERVE,
    why="The script counts the directories at the top of the archive (links do not count) and ends when there is none.",
    bad="model.tar.gz: README.md",
    good="model.tar.gz: classifier/config.pbtxt, classifier/1/model.onnx",
)
NO_DEFAULT: Final = Rule(
    code="E403",
    severity="error",
    refused_by="sagemaker",
    summary="More than 1 model directory found in model repository. Either provide a single directory or set "
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME to run the ensemble backend.",
    source=_SERVE,
    why="Every directory counts, hidden ones and `code/` too. Of several, the endpoint serves the one that "
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME names, with the models it depends on; without the variable the script ends.",
    bad="classifier/, .git/",
    good="classifier/",
)
DEFAULT_ABSENT: Final = Rule(
    code="E404",
    severity="error",
    refused_by="sagemaker",
    summary="Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME <name> does not exist",
    source=_SERVE,
    why="The variable names a directory at the top of the archive.",
    bad="SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=classify   classifier/",
    good="SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=classifier   classifier/",
)
NAME_SPLIT: Final = Rule(
    code="E405",
    severity="error",
    refused_by="sagemaker",
    summary="serve hands the name to the shell without quotes, which splits it at blanks and expands * ? [",
    source=_SERVE,
    why="The script builds its list of directories and the server's flags from unquoted words, so such a model is "
    "counted twice or loaded under a part of its name.",
    bad="my model/",
    good="my_model/",
)
DEFAULT_NEEDED: Final = Rule(
    code="W401",
    severity="warning",
    refused_by=None,
    summary="the archive has several model directories: SAGEMAKER_TRITON_DEFAULT_MODEL_NAME must be set",
    source=_SERVE,
    why="The repository itself says which model is meant, the one that no other uses, but the script does not look "
    "for it: without the variable it ends with 'More than 1 model directory found in model repository.'",
    bad="ensemble/, preprocess/, classifier/",
    good="classifier/",
)
EXTRA_DIRECTORY: Final = Rule(
    code="W402",
    severity="warning",
    refused_by=None,
    summary="the directory holds no model, but serve counts it as one",
    source=_SERVE,
    why="Hidden directories, `code/` and the like travel in the archive; where there is but one model they make "
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME necessary.",
    bad="classifier/, preprocess/, ensemble/, __pycache__/",
    good="classifier/, preprocess/, ensemble/",
)
LINKED_MODEL: Final = Rule(
    code="W403",
    severity="warning",
    refused_by=None,
    summary="the model directory is a link: serve does not count it",
    source=f"{_SERVE} (find -type d)",
    why="Triton follows the link, the script's count of directories does not, so a repository of links is empty to it.",
    bad="classifier -> ../models/classifier, other/",
    good="classifier/, other/",
)
LARGE_REQUEST: Final = Rule(
    code="W404",
    severity="warning",
    refused_by=None,
    summary="one item of the model's inputs is larger than a real-time request may be (25 MB)",
    source='Amazon SageMaker, "Model Hosting FAQs": 25 MB real-time, 1 GB asynchronous; MaxPayloadInMB <= 100',
    why="InvokeEndpoint carries no body above 25 MB, so such a model answers only asynchronous or batch requests.",
    bad="input { data_type: TYPE_FP32 dims: [3, 2048, 2048] }",
    good="input { data_type: TYPE_UINT8 dims: [3, 2048, 2048] }",
)
LARGE_REPOSITORY: Final = Rule(
    code="W405",
    severity="warning",
    refused_by=None,
    summary="the repository is larger than the 30 GB that batch transform has for a model",
    source="Amazon SageMaker, batch transform: volume of the instances",
    why="Instances of a transform job have a fixed volume; only types with disks of their own have more.",
    bad="llm/1/model.plan: 40 GB",
    good="llm/1/model.plan: 20 GB",
)

RULES: Final = (
    CONFIG_AT_ROOT,
    NO_MODEL,
    NO_DEFAULT,
    DEFAULT_ABSENT,
    NAME_SPLIT,
    DEFAULT_NEEDED,
    EXTRA_DIRECTORY,
    LINKED_MODEL,
    LARGE_REQUEST,
    LARGE_REPOSITORY,
)


def check(context: Context) -> Iterator[Finding]:
    """What the script would say, where the default model is the first that ``context.load`` names, if it names one."""
    if context.tree.is_file("config.pbtxt"):
        yield CONFIG_AT_ROOT.finding(
            CONFIG_AT_ROOT.summary,
            path="config.pbtxt",
            help="put the model into a directory of its name at the top of the archive",
        )
        return
    directories = model_directories(context)
    links = [name for name in context.tree.subdirectories() if name not in directories]
    extra = [name for name in directories if not _holds_a_model(context, name)]
    default = context.load[0] if context.load else default_model(context, directories)
    yield from _start(context, directories, extra)
    for name in extra:
        if len(directories) - len(extra) != 1:
            yield EXTRA_DIRECTORY.finding(EXTRA_DIRECTORY.summary, path=name, help="leave it out of the archive")
    for name in links:
        yield LINKED_MODEL.finding(
            LINKED_MODEL.summary, path=name, help="put the directory itself into the archive, not a link to it"
        )
    if default is not None and not _SHELL.isdisjoint(default):
        yield NAME_SPLIT.finding(
            f"serve hands {default!r} to the shell without quotes, which splits it at blanks and expands * ? [",
            path=default,
            help="use letters, digits, '_', '-' and '.' in the name",
        )
    if default is not None and default in context.models:
        yield from _request(context.models[default])
    size = sum(entry.size for entry in context.tree.entries.values() if entry.kind == "file")
    if size > TRANSFORM_VOLUME.value:
        yield LARGE_REPOSITORY.finding(
            f"the repository has {size / 1024**3:.1f} GB: batch transform has 30 GB for a model",
            path="",
            help="serve it on an endpoint, or transform on instances with disks of their own",
        )


def model_directories(context: Context) -> tuple[str, ...]:
    """The directories that serve counts: all that are directories themselves, hidden ones too, links not."""
    return tuple(name for name in context.tree.subdirectories() if context.tree.entries[name].kind == "directory")


def _start(context: Context, directories: Sequence[str], extra: Sequence[str]) -> Iterator[Finding]:
    if context.load:
        name = context.load[0]
        if not context.tree.is_dir(name):
            yield DEFAULT_ABSENT.finding(
                f"Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {name} does not exist",
                path="",
                help=f"the archive has: {_listed(directories) or 'no directory'}",
            )
    elif not directories:
        yield NO_MODEL.finding(NO_MODEL.summary, path="", help="an archive holds one directory for each model")
    elif len(directories) > 1:
        sentence = f"{NO_DEFAULT.summary} Directories found in model repository: {_listed(directories, ' ')}"
        default = default_model(context, directories)
        models = [name for name in directories if name not in extra]
        if default is None:
            yield NO_DEFAULT.finding(
                sentence, path="", help=f"set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME to one of: {_listed(models)}"
            )
        elif len(models) == 1:
            yield NO_DEFAULT.finding(
                sentence,
                path="",
                help=f"leave {_listed(extra)} out of the archive, or set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME={default}",
            )
        else:
            yield DEFAULT_NEEDED.finding(
                DEFAULT_NEEDED.summary, path="", help=f"set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME={default}"
            )


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    return separator.join((*names[:_LISTED], "...") if len(names) > _LISTED else names)


def default_model(context: Context, directories: Sequence[str]) -> str | None:
    """The only directory, or the only model that no ensemble uses; None where it is not clear."""
    if len(directories) == 1:
        return directories[0]
    models = {name: context.models[name] for name in directories if _holds_a_model(context, name)}
    used = {
        node.text("model_name")
        for model in models.values()
        if model.is_ensemble
        for scheduling in model.document.messages("ensemble_scheduling")
        for node in scheduling.messages("step")
    }
    free = [name for name in models if name not in used]
    return free[0] if len(free) == 1 else None


def _holds_a_model(context: Context, name: str) -> bool:
    if name.startswith("."):
        return False
    model = context.models.get(name)
    if model is None:
        # In explicit mode models that are not asked for are not judged; they are models all the same.
        return context.tree.is_file(f"{name}/config.pbtxt")
    return model.has_config or bool(model.version_directories)


def _request(model: ModelView) -> Iterator[Finding]:
    size = 0
    for tensor in model.inputs:
        datatype = BY_CONFIG.get(tensor.data_type)
        if tensor.optional or datatype is None or datatype.size is None or min(tensor.dims, default=-1) < 1:
            continue
        item = datatype.size
        for dim in tensor.dims:
            item *= dim
            if item > _MAXIMAL_COUNT:
                break
        size += item
    if size > REAL_TIME_BODY.value:
        yield LARGE_REQUEST.finding(
            f"one item of the inputs of {model.name} has {size / 1024**2:.1f} MB: InvokeEndpoint carries 25 MB",
            path=model.config_path,
            node=model.place(model.inputs[0].node),
            help="send it in a smaller data_type or compressed, or use asynchronous inference or batch transform",
        )
