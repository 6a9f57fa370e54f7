"""The layout of a repository: directories, names, versions, and the files that the server opens. No I/O.

Source: core/src/model_repository_manager, model_lifecycle.cc, model_config_utils.cc, backend_model.cc. ``poll`` and
``load`` give the findings of a model in the server's order: what fails it when it is read, and when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.backends import missing_backend
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.inference import BACKENDS, PLAIN_DIRECTORIES, infer, policy_of, read_version
from tritonforge.validation.rules.layout import definitions as rules
from tritonforge.validation.rules.layout import model_files
from tritonforge.validation.rules.layout.definitions import RULES
from tritonforge.validation.rules.layout.reading import unread
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["RULES", "absent", "labels", "load", "poll", "repository", "unread"]

_FATAL = "The server's process dies, so no model of the repository is served."
#: Backends that are C libraries: a Python file cannot be their runtime.
_COMPILED = frozenset(("tensorflow", "tensorrt", "onnxruntime", "pytorch", "openvino", "dali", "python", "identity"))


def repository(context: Context) -> Iterator[Finding]:
    """What concerns the repository as a whole."""
    tree = context.tree
    if tree.truncated:
        yield rules.E127.finding(f"not judged: {tree.truncated}", path="")
    if context.load is None:
        for name in tree.dangling():
            yield rules.E101.finding(
                f"failed to poll model repository '<repo>': failed to stat file <repo>/{name}",
                path=name,
                help="remove the link, or what it leads to is missing",
            )
    for path, entry in tree.entries.items():
        if entry.kind == "link" and tree.leaves(path) and tree.kind(path) != "missing":
            yield rules.W101.finding(f"the link leads out of the repository, to {entry.target}", path=path)
        if entry.problem and not path.endswith(".pbtxt"):
            yield rules.E127.finding(f"not judged: {path} cannot be read: {entry.problem}", path=path)


def absent(context: Context, names: Sequence[str]) -> Iterator[Finding]:
    """Models that are asked for in explicit model control mode and are not there."""
    for name in names:
        if name != "*" and name not in context.models:
            words = f"failed to poll model '{name}': model not found in any model repository."
            help_ = f"the repository has {', '.join(list(context.models)[:10])}" if context.models else ""
            yield rules.E112.finding(words, path="", help=help_)


def poll(context: Context, view: ModelView) -> Iterator[Finding]:
    """What fails a model when its directory is read."""
    tree, name = context.tree, view.name
    for child in tree.dangling(name):
        yield rules.E102.finding(f"failed to stat file <repo>/{name}/{child}", path=f"{name}/{child}")
    kind, entry = tree.kind(view.config_path), tree.entry(view.config_path)
    if kind == "missing" and not context.auto_complete:
        words = f"failed to open text file for read <repo>/{view.config_path}: No such file or directory"
        yield rules.E107.finding(words, path=view.config_path, help="write a config.pbtxt, or leave auto-complete on")
    elif kind == "directory":
        words = f"{view.config_path} is a directory, which the server reads as a text file"
        yield rules.E103.finding(words, path=view.config_path, help=_FATAL)
    elif entry is not None and entry.problem:
        words = f"failed to open text file for read <repo>/{view.config_path}: {entry.problem}"
        yield rules.E109.finding(words, path=view.config_path)
    elif kind != "missing" and (entry is None or entry.content is None or entry.size > MAXIMAL_TEXT):
        yield unread(tree, view.config_path)
    if kind == "missing":
        yield from _unseen(context, view)
    if kind != "missing" and not view.parsed:
        return
    problem = infer(name, view.document, tree, context.release).problem
    if problem and (kind != "missing" or context.auto_complete):
        yield from _backendless(context, view, problem)
    given = view.document.text("name")
    if given and given != name:
        yield rules.E104.finding(
            f"unexpected directory name '{name}' for model '{given}', directory name must equal model name",
            path=view.config_path,
            node=view.document.one("name"),
            help=f'write name: "{name}", leave the name out, or rename the directory',
        )


def _unseen(context: Context, view: ModelView) -> Iterator[Finding]:
    """Configurations where the server does not look."""
    tree, name = context.tree, view.name
    wrong = [f"{name}/{each}" for each in tree.children(name) if each.lower() in ("config.pbtxt", "config.pbtext")]
    wrong += [
        f"{name}/{each}/config.pbtxt"
        for each in tree.subdirectories(name)
        if each not in PLAIN_DIRECTORIES and tree.is_file(f"{name}/{each}/config.pbtxt")
    ]
    for path in wrong:
        yield rules.W109.finding(
            f"the server does not read this file, it looks for {name}/config.pbtxt", path=path, help="move it there"
        )


def _backendless(context: Context, view: ModelView, problem: str) -> Iterator[Finding]:
    tree, name = context.tree, view.name
    help_ = 'write backend: "..." (or platform: "ensemble")'
    if not view.has_config and not view.version_directories:
        help_ = "every directory in the repository is taken for a model: move this one elsewhere"
    elif view.document.has("ensemble_scheduling"):
        help_ = 'write platform: "ensemble"'
    yield rules.E108.finding(problem, path=view.config_path, node=view.place(), help=help_)
    subdirectories = tree.subdirectories(name)
    if subdirectories and view.version_directories and read_version(subdirectories[0]).number is None:
        yield rules.W107.finding(
            f"the server looks for the model's file in '{subdirectories[0]}' only, the first directory of the model",
            path=f"{name}/{subdirectories[0]}",
            help="write backend and platform in config.pbtxt",
        )


def versions(context: Context, view: ModelView) -> Iterator[Finding]:
    """What is wrong with the version directories."""
    tree, name = context.tree, view.name
    for directory in tree.subdirectories(name):
        read = read_version(directory)
        path = f"{name}/{directory}"
        if read.overflows and context.has(changes.EXCEPTIONS_CAUGHT):
            words = f"ignore version directory '{directory}' which fails to convert to integral number"
            yield rules.W103.finding(words, path=path, help="name it by a number of at most 18 digits, as 1")
        elif read.overflows:
            words = f"the number of the version directory '{directory}' does not fit into 64 bits"
            yield rules.E106.finding(words, path=path, help=_FATAL)
        elif read.ignored and any(letter.isdigit() for letter in directory):  # others are assets, not versions
            yield rules.W103.finding(
                f"ignore version directory '{directory}' {read.ignored}", path=path, help="name it by a number, as 1"
            )
        elif read.number is not None and not read.exact:
            yield rules.W102.finding(
                f"the server counts '{directory}' as version {read.number}; its backend will open "
                f"{name}/{read.number}/, which is not this directory",
                path=path,
                help=f"rename it to {abs(read.number)}",
            )
    policy = policy_of(view.document)
    for version in sorted(set(policy.specific or ())):
        if version not in view.version_directories and view.versions:
            yield rules.W104.finding(
                f"version {version} is specified for model '{name}', but the version directory is not present",
                path=view.config_path,
                node=view.document.one("version_policy"),
            )
    if not view.versions:
        help_ = f"make the directory {name}/1" if not view.version_directories else "mend version_policy"
        if view.is_ensemble and not view.version_directories:
            help_ += " (an ensemble needs one too; keep a file in it, as git drops empty directories)"
        elif not view.has_config and not view.version_directories:
            help_ = "every directory in the repository is taken for a model: move this one elsewhere"
        words = f"at least one version must be available under the version policy of model '{name}'"
        node = view.document.one("version_policy") or view.place()
        yield rules.E105.finding(words, path=view.config_path if view.has_config else name, node=node, help=help_)


def libraries(context: Context, view: ModelView) -> Iterator[Finding]:
    """Whether the server finds the backend's library (backend_model.cc GetBackendLibraryProperties)."""
    backend, runtime = view.backend, view.document.text("runtime")
    if view.is_ensemble or not backend or not view.versions:
        return
    if runtime == "model.py":
        if backend in _COMPILED:
            words = (
                f"unable to find Python backend based backend library '{runtime}' for model '{view.name}', "
                f"searched: '<backends>/{backend}/model.py'"
            )
            yield rules.E114.finding(
                words,
                path=view.config_path,
                node=view.document.one("runtime"),
                help=f'leave it out, or write "libtriton_{backend}.so"',
            )
        return
    findings = (_library(context, view, runtime, f"{view.name}/{version}") for version in view.versions)
    yield from dict.fromkeys(each for each in findings if each is not None)


def _library(context: Context, view: ModelView, runtime: str, version: str) -> Finding | None:
    """What the server says of the library of one version; ``version`` is its directory."""
    backend, tree = view.backend, context.tree
    own = f"libtriton_{backend}.so"
    help_, node = f'leave it out, or write "{own}"', view.document.one("runtime")
    directory = ""
    for place in (version, view.name):
        path = f"{place}/{(runtime or own).lstrip('/')}"
        if tree.kind(path) == "missing":
            continue
        if not runtime or tree.leaves(place) or _is_below(tree, path, place):
            return None
        directory = f"<repo>/{place}"
        break
    if directory or (runtime and _climbs(runtime) and _library_beside(runtime)):
        words = (
            f"backend library name '{runtime}' escapes backend directory '{directory or f'<backends>/{backend}'}', for "
            f"model '{view.name}', check model config runtime field"
        )
        return rules.E115.finding(words, path=view.config_path, node=node, help=help_)
    if runtime not in ("", own):
        searched = f"'<repo>/{version}' '<repo>/{view.name}' '<backends>/{backend}'"
        words = f"unable to find backend library '{runtime}' for model '{view.name}', searched: {searched} "
        return rules.E114.finding(words, path=view.config_path, node=node, help=help_)
    if not runtime and backend not in BACKENDS and (context.image is None or backend not in context.image.backends):
        help_ = f"if the backend is your own, put {own} into the model's directory or the server's backend directory"
        if context.image is not None:
            help_ = f"the image has: {', '.join(sorted(context.image.backends))}; {help_}"
        return rules.E113.finding(
            missing_backend(context, view),
            path=view.config_path if view.has_config else view.name,
            node=view.place(view.document.one("backend")),
            help=help_,
        )
    return None


def _is_below(tree: Tree, path: str, place: str) -> bool:
    """Whether a path without its links begins as the directory's does, which is all that the server compares."""
    real, directory = tree.real(path), tree.real(place)
    return real is not None and directory is not None and real.startswith(directory)


def _library_beside(runtime: str) -> bool:
    """Whether the path leads from a backend's directory to the library of another one that is there."""
    parts = [part for part in runtime.split("/") if part not in ("", ".")]
    return len(parts) == 3 and parts[1] in BACKENDS and parts[2] == f"libtriton_{parts[1]}.so"


def labels(context: Context, view: ModelView) -> Iterator[Finding]:
    """Whether the label files are there."""
    tree, seen = context.tree, set[str]()
    for output in view.outputs:
        filename = output.node.text("label_filename")
        if not filename:
            continue
        node = output.node.one("label_filename")
        path = "/".join(part for part in (view.name, *filename.split("/")) if part)
        kind = tree.kind(path) if not _climbs(f"{view.name}/{filename}") else "file"
        if kind == "directory":
            words = f"label_filename '{filename}' names a directory, which the server reads as a text file"
            help_ = "name the file" if context.has(changes.EXCEPTIONS_CAUGHT) else _FATAL
            yield rules.E111.finding(words, path=view.config_path, node=node, help=help_)
        elif kind == "missing":
            where = [f"{each}/{filename}" for each in tree.subdirectories(view.name)]
            found = [each for each in where if tree.is_file(f"{view.name}/{each}")]
            help_ = f"move {view.name}/{found[0]} to {path}" if found else f"labels are looked for in {view.name}/"
            words = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield rules.E110.finding(words, path=view.config_path, node=node, help=help_)
        elif output.name in seen:
            yield rules.E117.finding(f"multiple label files for '{output.name}'", path=view.config_path, node=node)
        elif kind == "other" or ((entry := tree.entry(path)) is not None and entry.size > MAXIMAL_TEXT):
            yield unread(tree, path)
        seen.add(output.name)


def load(context: Context, view: ModelView) -> Iterator[Finding]:
    """What a model's directory lacks for the model to be loaded, apart from what its configuration says."""
    yield from versions(context, view)
    yield from libraries(context, view)
    if not view.has_config and context.auto_complete and view.backend and not view.completes and view.versions:
        words = f"model configuration is not provided for model '{view.name}'"
        yield rules.E116.finding(words, path=view.config_path, help="write a config.pbtxt")
    yield from _contents(context, view)


def _contents(context: Context, view: ModelView) -> Iterator[Finding]:
    """What the version directories hold."""
    tree = context.tree
    for version in view.versions:
        directory = view.version_directories[version]
        if view.is_ensemble:
            if not tree.children(directory) and not tree.leaves(directory):
                words = f"the version directory {directory} is empty: git and many archivers drop it"
                yield rules.W106.finding(
                    words, path=directory, help=f"put a file into it, such as {directory}/.gitkeep"
                )
            continue
        yield from model_files.check(context, view, version)


def _climbs(path: str) -> bool:
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False
