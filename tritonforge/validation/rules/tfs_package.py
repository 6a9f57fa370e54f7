"""A package for SageMaker's TensorFlow Serving containers: its SavedModels, and its environment. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.triton import tfs_container
from tritonforge.triton.tfs_layout import SAVED_MODEL, ServedModel, find_models, is_package
from tritonforge.validation.context import Context
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.tree import Tree

_TOOLKIT: Final = "aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/"
_SERVE: Final = f"{_TOOLKIT}serve.py"
_UTILITIES: Final = f"{_TOOLKIT}tfs_utils.py"

# fmt: off
E701 = define_error("E701", "no SavedModel bundles found!",
    refused_by="tfs", source=f"{_UTILITIES} find_models; {_SERVE} _create_tfs_config",
    why="The container serves each folder with a number for its name that has a saved_model.pb in it; the folder "
        "above names the model. It ends when it finds none.",
    bad="saved_model.pb, variables/, code/inference.py",
    good="resnet50/1/saved_model.pb, resnet50/1/variables/, code/inference.py")
E702 = define_error("E702", "the version's folder has no saved_model.pb, and is served all the same",
    refused_by="tfs", source=f"{_UTILITIES} find_model_versions, wait_for_model",
    why="Every folder with a number for its name is named to TensorFlow Serving as a version. One that does not "
        "load keeps the model from being ready, and the container ends when its time is up.",
    bad="resnet50/1/saved_model.pb, resnet50/2/", good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb")
E703 = define_error("E703", "the SavedModel's variables are not whole",
    refused_by="tfs", source="tensorflow/core/util/tensor_bundle (BundleReader): variables.index and every "
                             "variables.data-?????-of-?????",
    why="A SavedModel keeps its weights in an index and as many files as their names state; without one of them it "
        "does not load.",
    bad="1/variables/variables.index, 1/variables/variables.data-00000-of-00002",
    good="1/variables/variables.index, 1/variables/variables.data-00000-of-00001")
E709 = define_error("E709", "SAGEMAKER_TFS_DEFAULT_MODEL_NAME names no model of the package",
    refused_by="tfs", source=f"{_SERVE} _wait_for_tfs",
    why="The container waits for this model until its time is up, and ends.",
    bad="SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet   resnet50/1/saved_model.pb",
    good="SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet50   resnet50/1/saved_model.pb")
E710 = define_error("E710", "the variable's value is none that the container takes",
    refused_by="tfs", source=f"{_SERVE} ServiceManager.__init__; {_UTILITIES} create_batching_config",
    why="The container, or TensorFlow Serving, ends over it.",
    bad="SAGEMAKER_TFS_ENABLE_BATCHING=yes", good="SAGEMAKER_TFS_ENABLE_BATCHING=true")
E711 = define_error("E711", "Illegal to list model <m> multiple times in config list",
    refused_by="tfs", source=f"{_UTILITIES} find_models; tensorflow_serving/model_servers/server_core.cc "
           "ValidateModelConfigList",
    why="A model is named after its folder alone, wherever that lies, and TensorFlow Serving takes each name once.",
    bad="old/resnet50/1/saved_model.pb, new/resnet50/1/saved_model.pb",
    good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb")
W706 = define_advice("W706", "the package has several models, and which one requests are for is chance",
    source=f"{_SERVE} _create_tfs_config",
    why="A request that names no model goes to the first one that the container's file system lists. "
        "SAGEMAKER_TFS_DEFAULT_MODEL_NAME says which.",
    bad="resnet50/1/, inception/1/", good="resnet50/1/, inception/1/   SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet50")
W707 = define_advice("W707", "two folders have the same number: one of them is served",
    source=f"{_UTILITIES} find_model_versions, which drops leading zeros",
    why="01 and 1 are one version to TensorFlow Serving.",
    bad="resnet50/1/saved_model.pb, resnet50/01/saved_model.pb",
    good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb")
W708 = define_advice("W708", "no request can name the model: tfs-model-name takes letters, digits, '.', '_' and '-'",
    source=f"{_UTILITIES} _TFS_MODEL_NAME_RE",
    why="The container answers 400 to such a name in X-Amzn-SageMaker-Custom-Attributes; only as the default model "
        "is it reached.",
    bad="my model/1/saved_model.pb", good="my_model/1/saved_model.pb")
# fmt: on

_DEFAULT_MODEL: Final = "SAGEMAKER_TFS_DEFAULT_MODEL_NAME"
_SHARD: Final = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
#: Links to directories that are followed; a package has one a version at most.
_FOLLOWED: Final = 100
#: Where Triton's repositories keep a SavedModel.
_TRITON_FOLDER: Final = "model.savedmodel"


def is_tfs_package(tree: Tree) -> bool:
    """Return True if a tree is a package for TensorFlow Serving, not a model repository of Triton."""
    # Most trees are Triton's; the first model's configuration shows it without a look at every path.
    if any(f"{name}/config.pbtxt" in tree.entries for name in tree.children()):
        return False
    return is_package(list_paths(tree))


@register_check(Stage.PACKAGE, E709, E710)
def check_tfs_variables(context: Context) -> Iterator[Finding]:
    """Check the values of the environment that the container reads."""
    environment = context.options.environment or {}
    for name, sentence in tfs_container.find_problems(environment).items():
        yield E710.report(sentence, path="", field=f"environment {name}", help="correct the value")
    default, names = environment.get(_DEFAULT_MODEL, "None"), list_models(context.tree)
    if default != "None" and names and default not in names:
        yield E709.report(
            f"{_DEFAULT_MODEL} is {default!r}, and the package has no such model",
            path="",
            field=f"environment {_DEFAULT_MODEL}",
            help=f"the package has: {', '.join(names)}",
        )


def list_models(tree: Tree) -> tuple[str, ...]:
    """Return the names of a package's models, each once, sorted."""
    return tuple(sorted({model.name for model in find_package_models(tree)}))


def list_paths(tree: Tree) -> Iterator[str]:
    """Yield the paths of a tree as `tritonforge.triton.tfs_layout` takes them.

    A link is what it leads to; behind a link to a directory no further links are followed.
    """
    followed = 0
    for path, entry in tree.entries.items():
        kind = tree.kind(path)
        if kind == "file":
            yield path
        elif kind == "directory":
            yield f"{path}/"
            real = tree.real(path) if entry.kind == "link" else None
            if real is not None and not path.startswith(f"{real}/") and followed < _FOLLOWED:
                followed += 1
                yield from (path + below[len(real) :] for below in tree.entries if below.startswith(f"{real}/"))


def find_package_models(tree: Tree) -> tuple[ServedModel, ...]:
    """Return the models of a package."""
    return find_models(list_paths(tree))


@register_check(Stage.PACKAGE, E701, E702, E703, E711, W706, W707, W708)
def check_saved_models(context: Context) -> Iterator[Finding]:
    """Check the models of a package."""
    tree = context.tree
    models = find_package_models(tree)
    if not models:
        yield E701.report(E701.sentence, path="", help=_suggest_layout(tree))
        return
    by_name: dict[str, ServedModel] = {}
    for model in models:
        if model.name in by_name:
            yield E711.report(
                f"Illegal to list model {model.name} multiple times in config list",
                path=model.folder,
                help=f"give it another name than {by_name[model.name].folder}, or a version's number there",
            )
        by_name.setdefault(model.name, model)
        yield from _check_model(tree, model)
    if len(by_name) > 1 and _DEFAULT_MODEL not in (context.options.environment or {}):
        yield W706.report(
            f"the package has the models {', '.join(by_name)}, and which one requests are for is chance",
            path="",
            help=f"set {_DEFAULT_MODEL}={models[0].name} in the container's environment",
        )


def _check_model(tree: Tree, model: ServedModel) -> Iterator[Finding]:
    for directory in model.unloadable:
        advice = f"put the SavedModel into it, or give the folder a name that is not a number: {SAVED_MODEL} is missing"
        yield E702.report(E702.sentence, path=directory, help=advice)
    for directory in model.repeated:
        yield W707.report(
            f"{directory} and {model.versions[int(directory.rpartition('/')[2])]} have the same number: "
            "one of them is served",
            path=directory,
            help="give it a number of its own, or remove it",
        )
    for directory in model.versions.values():
        if directory not in model.unloadable:
            yield from _check_variables(tree, f"{directory}/variables")
    if not _NAME.fullmatch(model.name):
        yield W708.report(W708.sentence, path=model.folder, help="rename the folder")


def _check_variables(tree: Tree, folder: str) -> Iterator[Finding]:
    """Find an index without its data, or data without all of its parts."""
    names = tree.children(folder)
    parts = [match for name in names if (match := _SHARD.fullmatch(name))]
    has_index = "variables.index" in names
    if not parts and not has_index:
        return  # a SavedModel whose weights are constants of its graph has none
    missing = [] if has_index else ["variables.index"]
    total = int(parts[0][2]) if parts else 1
    present = {int(part[1]) for part in parts}
    missing += [f"variables.data-{number:05d}-of-{total:05d}" for number in range(total) if number not in present]
    if missing:
        yield E703.report(
            f"the SavedModel's variables are not whole: {', '.join(missing[:10])} is missing",
            path=folder,
            help="copy the whole folder that TensorFlow saved",
        )


def _suggest_layout(tree: Tree) -> str:
    """Return what to do with a package whose SavedModels lie where the container does not look."""
    if tree.is_file("definition.py"):
        return "this is the folder of a definition: build it, and validate what is built"
    for path in tree.entries:
        folder, _, name = path.rpartition("/")
        if name != SAVED_MODEL:
            continue
        if folder.rpartition("/")[2] == _TRITON_FOLDER:
            return (
                f"{path} lies as Triton requires it: for TensorFlow Serving {SAVED_MODEL} lies in the version's folder "
                "itself"
            )
        return f"{path}: move its folder into one with a number for its name, <model>/1/{SAVED_MODEL}"
    return f"put the SavedModel into a folder with a number for its name: <model>/1/{SAVED_MODEL}"
