"""The model archive as the `serve` script of SageMaker's Triton images sees it, unpacked in /opt/ml/model. No I/O.

Source of every sentence: triton-inference-server/server, docker/sagemaker/serve (the same from r23.12 on in what is
checked here), each also observed with a stand-in server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tritonforge.datatypes import BY_CONFIG
from tritonforge.triton.service_limits import REAL_TIME_BODY, TRANSFORM_VOLUME
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check

_SERVE: Final = "triton-inference-server/server docker/sagemaker/serve"

# fmt: off
E401 = define_error("E401", "Incorrect directory structure. Model directory needs to contain the top level folder",
    refused_by="sagemaker", source=_SERVE,
    why="The archive holds model directories. With a config.pbtxt at its root, the script takes the archive for the "
        "inside of one model directory and ends. (As an archive of a multi-model endpoint it is allowed.)",
    bad="model.tar.gz: config.pbtxt, 1/model.onnx",
    good="model.tar.gz: classifier/config.pbtxt, classifier/1/model.onnx")
E402 = define_error("E402", "No model found in model repository",
    refused_by="sagemaker", source=_SERVE,
    why="The script counts the directories at the top of the archive (links do not count) and ends when it finds none.",
    bad="model.tar.gz: README.md", good="model.tar.gz: classifier/config.pbtxt, classifier/1/model.onnx")
E403 = define_error("E403", "More than 1 model directory found in model repository. Either provide a single "
                            "directory or set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME to run the ensemble backend.",
    refused_by="sagemaker", source=_SERVE,
    why="Every directory counts, hidden ones and `code/` too. Of several, the endpoint serves the one that "
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME names, with the models it depends on; without the variable the script "
        "ends.",
    bad="classifier/, .git/", good="classifier/")
E404 = define_error("E404", "Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME <name> does not exist",
    refused_by="sagemaker", source=_SERVE,
    why="The variable names a directory at the top of the archive.",
    bad="SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=classify   classifier/",
    good="SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=classifier   classifier/")
E405 = define_error("E405", "serve hands the name to the shell without quotes, which splits it at blanks and "
                            "expands * ? [",
    refused_by="sagemaker", source=_SERVE,
    why="The script builds its list of directories and the server's flags from unquoted words, so such a model is "
        "counted twice or loaded under a part of its name.",
    bad="my model/", good="my_model/")
W401 = define_advice("W401", "the archive has several model directories: SAGEMAKER_TRITON_DEFAULT_MODEL_NAME must "
                             "be set",
    source=_SERVE,
    why="The repository itself says which model is meant, the one that no other uses, but the script does not look "
        "for it: without the variable it ends with 'More than 1 model directory found in model repository.'",
    bad="ensemble/, preprocess/, classifier/", good="classifier/")
W402 = define_advice("W402", "the directory holds no model, but serve counts it as one",
    source=_SERVE,
    why="Hidden directories, `code/` and the like travel in the archive; where there is but one model they make "
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME necessary.",
    bad="classifier/, preprocess/, ensemble/, __pycache__/", good="classifier/, preprocess/, ensemble/")
W403 = define_advice("W403", "the model directory is a link: serve does not count it",
    source=f"{_SERVE} (find -type d)",
    why="Triton follows the link, the script's count of directories does not, so a repository of links is empty to it.",
    bad="classifier -> ../models/classifier, other/", good="classifier/, other/")
W404 = define_advice("W404", "one item of the model's inputs is larger than a real-time request may be (25 MB)",
    source='Amazon SageMaker, "Model Hosting FAQs": 25 MB real-time, 1 GB asynchronous; MaxPayloadInMB <= 100',
    why="InvokeEndpoint carries no body above 25 MB, so such a model answers only asynchronous or batch requests.",
    bad="input { data_type: TYPE_FP32 dims: [3, 2048, 2048] }",
    good="input { data_type: TYPE_UINT8 dims: [3, 2048, 2048] }")
W405 = define_advice("W405", "the repository is larger than the 30 GB that batch transform has for a model",
    source="Amazon SageMaker, batch transform: volume of the instances",
    why="Instances of a transform job have a fixed volume; only types with disks of their own have more.",
    bad="llm/1/model.plan: 40 GB", good="llm/1/model.plan: 20 GB")
# fmt: on

#: Where counting bytes ends: no tensor is larger, and the product of hostile dims stays a small number.
_MAXIMAL_COUNT: Final = 2**63
#: How many names a sentence lists.
_LISTED: Final = 50
#: What the shell splits a word at or expands in it, where a script does not quote it.
_SHELL: Final = frozenset(" \t\n*?[")


@register_check(Stage.LOADED, E401, E402, E403, E404, E405, W401, W402, W403, W404, W405)
def check_archive(context: Context) -> Iterator[Finding]:
    """Check the archive as the script does; the default model is the first of the option ``load_models``, if any."""
    if context.options.target != "sagemaker":
        return
    if context.tree.is_file("config.pbtxt"):
        yield E401.report(
            E401.sentence,
            path="config.pbtxt",
            help="put the model into a directory of its name at the top of the archive",
        )
        return
    directories = list_model_directories(context)
    links = [name for name in context.tree.subdirectories() if name not in directories]
    extra = [name for name in directories if not _has_model(context, name)]
    default = (
        context.options.load_models[0] if context.options.load_models else find_default_model(context, directories)
    )
    yield from _check_default_model(context, directories, extra)
    for name in extra:
        if len(directories) - len(extra) != 1:
            yield W402.report(W402.sentence, path=name, help="leave it out of the archive")
    for name in links:
        yield W403.report(W403.sentence, path=name, help="put the directory itself into the archive, not a link to it")
    if default is not None and not _SHELL.isdisjoint(default):
        yield E405.report(
            f"serve hands {default!r} to the shell without quotes, which splits it at blanks and expands * ? [",
            path=default,
            help="use letters, digits, '_', '-' and '.' in the name",
        )
    if default is not None and default in context.models:
        yield from _check_request_size(context.models[default])
    size = sum(entry.size for entry in context.tree.entries.values() if entry.kind == "file")
    if size > TRANSFORM_VOLUME.value:
        yield W405.report(
            f"the repository has {size / 1024**3:.1f} GB: batch transform has 30 GB for a model",
            path="",
            help="serve it on an endpoint, or transform on instances with disks of their own",
        )


def list_model_directories(context: Context) -> tuple[str, ...]:
    """Return the directories that serve counts: also hidden ones, but not links."""
    return tuple(name for name in context.tree.subdirectories() if context.tree.entries[name].kind == "directory")


def _check_default_model(context: Context, directories: Sequence[str], extra: Sequence[str]) -> Iterator[Finding]:
    if context.options.load_models:
        name = context.options.load_models[0]
        if not context.tree.is_dir(name):
            yield E404.report(
                f"Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {name} does not exist",
                path="",
                help=f"the archive has: {_join_names(directories) or 'no directory'}",
            )
    elif not directories:
        yield E402.report(E402.sentence, path="", help="an archive holds one directory for each model")
    elif len(directories) > 1:
        sentence = f"{E403.sentence} Directories found in model repository: {_join_names(directories, ' ')}"
        default = find_default_model(context, directories)
        models = [name for name in directories if name not in extra]
        if default is None:
            yield E403.report(
                sentence, path="", help=f"set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME to one of: {_join_names(models)}"
            )
        elif len(models) == 1:
            yield E403.report(
                sentence,
                path="",
                help=f"leave {_join_names(extra)} out of the archive, or set "
                f"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME={default}",
            )
        else:
            yield W401.report(W401.sentence, path="", help=f"set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME={default}")


def _join_names(names: Sequence[str], separator: str = ", ") -> str:
    return separator.join((*names[:_LISTED], "...") if len(names) > _LISTED else names)


def find_default_model(context: Context, directories: Sequence[str]) -> str | None:
    """Return the only directory, or the only model that no ensemble uses; None where neither decides."""
    if len(directories) == 1:
        return directories[0]
    models = {name: context.models[name] for name in directories if _has_model(context, name)}
    used = {
        node.text("model_name")
        for model in models.values()
        if model.is_ensemble
        for scheduling in model.document.messages("ensemble_scheduling")
        for node in scheduling.messages("step")
    }
    free = [name for name in models if name not in used]
    return free[0] if len(free) == 1 else None


def _has_model(context: Context, name: str) -> bool:
    if name.startswith("."):
        return False
    model = context.models.get(name)
    if model is None:
        # In explicit mode the context has only the requested models; the others are models, too.
        return context.tree.is_file(f"{name}/config.pbtxt")
    return model.has_config or bool(model.version_directories)


def _check_request_size(model: ModelView) -> Iterator[Finding]:
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
        yield W404.report(
            f"one item of the inputs of {model.name} has {size / 1024**2:.1f} MB: InvokeEndpoint carries 25 MB",
            path=model.config_path,
            node=model.place(model.inputs[0].node),
            help="send it in a smaller data_type or compressed, or use asynchronous inference or batch transform",
        )
