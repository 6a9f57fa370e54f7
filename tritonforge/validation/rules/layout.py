"""A model's directory and its versions: links, names, the place of the configuration, version directories. No I/O.

Source: core src/model_repository_manager, model_lifecycle.cc, model_config_utils.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.triton import changes
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_views import PLAIN_DIRECTORIES, infer_backend, read_policy, read_version
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.ensemble_models import select_models
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

_POLL: Final = "model_repository_manager.cc Poll, InitializeModelInfo"
_VERSIONS: Final = "model_lifecycle.cc VersionsToLoad"

# fmt: off
E127 = define_error("E127", "not judged: <path> <why it was not read>",
    refused_by=None, source="tritonforge: bounds on what is read",
    why="Validation reads a bounded number of regular files and bytes, and follows no link out of the repository. "
        "The verdict on what it did not read is not known.",
    bad="a repository of a million files; a configuration of a gigabyte; m/ -> ../store/m",
    good="a repository that holds models only")
E101 = define_error("E101", "failed to poll model repository '<repo>': failed to stat file <path>",
    source="model_repository_manager.cc Poll, filesystem/implementations/local.h IsDirectory",
    why="In model control mode NONE the server looks at every entry of the repository; a link to nothing stops it.",
    bad="repository/old -> /nowhere", good="repository/ holds model directories only")
E102 = define_error("E102", "failed to stat file <path>",
    source=_POLL,
    why="The server looks at every entry of a model's directory; a link to nothing fails the model.",
    bad="m/assets -> /nowhere", good="m/assets/")
E103 = define_error("E103", "the configuration is a directory: the server's process dies",
    source="filesystem/implementations/local.h ReadTextFile (an uncaught std::length_error)",
    why="Triton reads the directory as a file of absurd length and aborts; every model goes down with it.",
    bad="m/config.pbtxt/", good="m/config.pbtxt")
E104 = define_error("E104", "unexpected directory name '<dir>' for model '<name>', directory name must equal model "
                            "name",
    source=_POLL,
    why="A model is found by its directory; the name in the configuration may be left out, but not differ.",
    bad='resnet/config.pbtxt: name: "resnet50"', good='resnet/config.pbtxt: name: "resnet"')
E105 = define_error("E105", "at least one version must be available under the version policy of model '<m>'",
    source=_VERSIONS,
    why="A model is loaded by version, and an ensemble is too, though its version directory stays empty.",
    bad="m/config.pbtxt", good="m/config.pbtxt and m/1/")
E106 = define_error("E106", "the version directory's number overflows: the server's process dies",
    source=f"{_VERSIONS} (an uncaught std::out_of_range of stoll)",
    why="Triton converts the name to a 64-bit integer and aborts; every model goes down with it.",
    bad="m/99999999999999999999/", good="m/1/")
E107 = define_error("E107", "failed to open text file for read <path>: No such file or directory",
    source=_POLL,
    why="With --disable-auto-complete-config every model needs a configuration file.",
    bad="m/1/model.onnx", good="m/config.pbtxt and m/1/model.onnx")
E108 = define_error("E108", "Invalid model name: Could not determine backend for model '<m>' with no backend in "
                            "model configuration.",
    source="model_config_utils.cc AutoCompleteBackendFields",
    why="Without backend and platform the server looks for a known model file in the model's first directory.",
    bad='m/config.pbtxt: name: "m"', good='m/config.pbtxt: name: "m" backend: "python"')
E109 = define_error("E109", "failed to open text file for read <path>: <why>",
    source="filesystem/implementations/local.h ReadTextFile",
    why="The server cannot read what the reader of this repository cannot read.",
    bad="m/config.pbtxt (mode 000)", good="m/config.pbtxt (mode 644)")
E112 = define_error("E112", "failed to poll model '<m>': model not found in any model repository.",
    source="model_repository_manager.cc PollModels",
    why="In explicit model control mode each model that is named has to be there.",
    bad="--load-model=resnet without resnet/", good="--load-model=resnet with resnet/")
E116 = define_error("E116", "model configuration is not provided for model '<m>'",
    source="model.cc Model::Init (NOT_FOUND)",
    why="Without a configuration file the backend has to fill in everything, and this one cannot.",
    bad="x.identity/1/", good="x.identity/config.pbtxt and x.identity/1/")
W101 = define_advice("W101", "a link leads out of the repository",
    source="SageMaker: model.tar.gz carries the link, not what it leads to; Triton follows it",
    why="The repository works on this machine only.",
    bad="m/1 -> ../../weights", good="m/1/")
W102 = define_advice("W102", "the server takes '<d>' for version <n>, and the backend opens <model>/<n>/, which is "
                             "another directory",
    source=f"{_VERSIONS}: stoll takes the number at the front of a name",
    why="`1abc` counts as version 1; the core takes it, but the backend finds no model there.",
    bad="m/1abc/", good="m/1/")
W103 = define_advice("W103", "ignore version directory '<d>'",
    source=_VERSIONS,
    why="The server loads nothing from there; it says so only in its log.",
    bad="m/v1/", good="m/1/")
W104 = define_advice("W104", "version <v> is specified for model '<m>', but the version directory is not present",
    source=_VERSIONS,
    why="The server logs it and loads the other versions.",
    bad="version_policy { specific { versions: [1, 2] } } with m/1/ only",
    good="version_policy { specific { versions: [1] } }")
W106 = define_advice("W106", "the version directory of an ensemble is empty: git and many archivers drop it",
    source=f"{_VERSIONS}: an ensemble needs a version directory; git keeps no empty directories",
    why="After a checkout the ensemble has no version and does not load.",
    bad="ensemble/1/", good="ensemble/1/.gitkeep")
W107 = define_advice("W107", "the server looks for the model's file in '<d>' only, the first directory of the model",
    source="model_config_utils.cc AutoCompleteBackendFields",
    why="A directory that sorts before the version hides it when platform and backend are left out.",
    bad="m/assets/ and m/version_1/model.onnx", good='backend: "onnxruntime" in m/config.pbtxt')
W109 = define_advice("W109", "the server does not read this configuration",
    source="model_repository_manager.cc InitializeModelInfo: it opens <model>/config.pbtxt",
    why="Another spelling, or a place inside of the version, is not looked at.",
    bad="m/1/config.pbtxt", good="m/config.pbtxt")
# fmt: on

_FATAL: Final = "The server's process dies, so no model of the repository is served."


@register_check(Stage.REPOSITORY, E101, E127, W101)
def check_repository(context: Context) -> Iterator[Finding]:
    """Check the links of the repository, and that all of it was read."""
    tree = context.tree
    if tree.truncated:
        yield E127.report(f"not judged: {tree.truncated}", path="")
    if context.options.load_models is None:
        for name in tree.dangling():
            yield E101.report(
                f"failed to poll model repository '<repo>': failed to stat file <repo>/{name}",
                path=name,
                help="remove the link, or what it leads to is missing",
            )
    for path, entry in tree.entries.items():
        if entry.kind == "link" and tree.leaves(path) and tree.kind(path) != "missing":
            yield W101.report(f"the link leads out of the repository, to {entry.target}", path=path)
        if entry.problem and not path.endswith(".pbtxt"):
            yield E127.report(f"not judged: {path} cannot be read: {entry.problem}", path=path)
    for name in context.models:
        if tree.leaves(name):
            yield report_unread(tree, name)


@register_check(Stage.REPOSITORY, E112)
def check_requested_models(context: Context) -> Iterator[Finding]:
    """Check that the models of explicit model control mode, and the models of their steps, exist."""
    directories = context.tree.subdirectories()
    known = {"*", *directories}
    for name in select_models(context):
        if name not in known:
            message = f"failed to poll model '{name}': model not found in any model repository."
            advice = f"the repository has {', '.join(directories[:10])}" if directories else ""
            yield E112.report(message, path="", help=advice)


def report_unread(tree: Tree, path: str, limit: int = MAXIMAL_TEXT) -> Finding:
    """Report that a file or a directory that the server opens was not read; ``limit`` is in bytes."""
    entry = tree.entry(path)
    if entry is None:
        why, advice = (
            "is reached over a link out of the repository, which is not followed",
            "put it into the repository",
        )
    elif entry.kind != "file":
        why, advice = "is not a regular file", "put a file there"
    else:
        why = f"has {entry.size} bytes, more than the {limit} that are read"
        advice = "the server reads files of any size; ask it with --with-server"
    return E127.report(f"not judged: {path} {why}", path=path, help=advice)


@register_check(Stage.DIRECTORY, E102, E103, E104, E107, E108, E109, E127, W107, W109)
def check_directory(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check what fails a model when its directory is read."""
    tree, name = context.tree, model.name
    for child in tree.dangling(name):
        yield E102.report(f"failed to stat file <repo>/{name}/{child}", path=f"{name}/{child}")
    kind, entry = tree.kind(model.config_path), tree.entry(model.config_path)
    if kind == "missing" and not context.options.auto_complete:
        message = f"failed to open text file for read <repo>/{model.config_path}: No such file or directory"
        yield E107.report(message, path=model.config_path, help="write a config.pbtxt, or leave auto-complete on")
    elif kind == "directory":
        message = f"{model.config_path} is a directory, which the server reads as a text file"
        yield E103.report(message, path=model.config_path, help=_FATAL)
    elif entry is not None and entry.problem:
        message = f"failed to open text file for read <repo>/{model.config_path}: {entry.problem}"
        yield E109.report(message, path=model.config_path)
    elif kind != "missing" and (entry is None or entry.content is None or entry.size > MAXIMAL_TEXT):
        yield report_unread(tree, model.config_path)
    if kind == "missing":
        yield from _check_misplaced(context, model)
    if kind != "missing" and not model.parsed:
        return
    problem = infer_backend(name, model.document, tree, context.release).problem
    if problem and (kind != "missing" or context.options.auto_complete):
        yield from _check_missing_backend(context, model, problem)
    given = model.document.text("name")
    if given and given != name:
        yield E104.report(
            f"unexpected directory name '{name}' for model '{given}', directory name must equal model name",
            path=model.config_path,
            node=model.document.one("name"),
            help=f'write name: "{name}", leave the name out, or rename the directory',
        )


def _check_misplaced(context: Context, model: ModelView) -> Iterator[Finding]:
    """Find configurations where the server does not look."""
    tree, name = context.tree, model.name
    files = [f"{name}/{file}" for file in tree.children(name) if file.lower() in ("config.pbtxt", "config.pbtext")]
    files += [
        f"{name}/{directory}/config.pbtxt"
        for directory in tree.subdirectories(name)
        if directory not in PLAIN_DIRECTORIES and tree.is_file(f"{name}/{directory}/config.pbtxt")
    ]
    for path in files:
        yield W109.report(
            f"the server does not read this file, it looks for {name}/config.pbtxt", path=path, help="move it there"
        )


def _check_missing_backend(context: Context, model: ModelView, problem: str) -> Iterator[Finding]:
    tree, name = context.tree, model.name
    advice = 'write backend: "..." (or platform: "ensemble")'
    if not model.has_config and not model.version_directories:
        advice = "every directory in the repository is taken for a model: move this one elsewhere"
    elif model.document.has("ensemble_scheduling"):
        advice = 'write platform: "ensemble"'
    yield E108.report(problem, path=model.config_path, node=model.place(), help=advice)
    subdirectories = tree.subdirectories(name)
    if subdirectories and model.version_directories and read_version(subdirectories[0]).number is None:
        yield W107.report(
            f"the server looks for the model's file in '{subdirectories[0]}' only, the first directory of the model",
            path=f"{name}/{subdirectories[0]}",
            help="write backend and platform in config.pbtxt",
        )


@register_check(Stage.VERSIONS, E105, E106, W102, W103, W104)
def check_versions(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the version directories and the version policy."""
    tree, name = context.tree, model.name
    for directory in tree.subdirectories(name):
        version_name = read_version(directory)
        path = f"{name}/{directory}"
        if version_name.overflows and context.has(changes.EXCEPTIONS_CAUGHT):
            message = f"ignore version directory '{directory}' which fails to convert to integral number"
            yield W103.report(message, path=path, help="name it by a number of at most 18 digits, as 1")
        elif version_name.overflows:
            message = f"the number of the version directory '{directory}' does not fit into 64 bits"
            yield E106.report(message, path=path, help=_FATAL)
        elif version_name.ignored and any(letter.isdigit() for letter in directory):  # others are assets, not versions
            yield W103.report(
                f"ignore version directory '{directory}' {version_name.ignored}",
                path=path,
                help="name it by a number, as 1",
            )
        elif version_name.number is not None and not version_name.exact:
            yield W102.report(
                f"the server counts '{directory}' as version {version_name.number}; its backend will open "
                f"{name}/{version_name.number}/, which is not this directory",
                path=path,
                help=f"rename it to {abs(version_name.number)}",
            )
    policy = read_policy(model.document)
    for version in sorted(set(policy.specific or ())):
        if version not in model.version_directories and model.versions:
            yield W104.report(
                f"version {version} is specified for model '{name}', but the version directory is not present",
                path=model.config_path,
                node=model.document.one("version_policy"),
            )
    if not model.versions:
        advice = f"make the directory {name}/1" if not model.version_directories else "correct version_policy"
        if model.is_ensemble and not model.version_directories:
            advice += " (an ensemble needs one too; keep a file in it, as git drops empty directories)"
        elif not model.has_config and not model.version_directories:
            advice = "every directory in the repository is taken for a model: move this one elsewhere"
        message = f"at least one version must be available under the version policy of model '{name}'"
        node = model.document.one("version_policy") or model.place()
        yield E105.report(message, path=model.config_or_directory, node=node, help=advice)


@register_check(Stage.FILES, E116, W106)
def check_contents(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that a configuration is there where none is completed, and that git keeps an ensemble's version."""
    tree = context.tree
    completed = model.has_config or not context.options.auto_complete or not model.backend or model.completes
    completed |= model.is_completed
    if not completed and model.versions:
        message = f"model configuration is not provided for model '{model.name}'"
        yield E116.report(message, path=model.config_path, help="write a config.pbtxt")
    for directory in (model.version_directories[version] for version in model.versions):
        if model.is_ensemble and not tree.children(directory) and not tree.leaves(directory):
            message = f"the version directory {directory} is empty: git and many archivers drop it"
            yield W106.report(message, path=directory, help=f"put a file into it, such as {directory}/.gitkeep")
