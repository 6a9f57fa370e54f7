"""Files that a configuration names: labels, a batching library, a Python environment, files with checksums. No I/O.

Source: core model.cc Model::Init, label_provider.cc AddLabels, backend_model.cc TritonModel::Create; python_backend
pb_env.cc EnvironmentManager::ExtractIfNotExtracted; checksum_repository_agent src/checksum.cc (66b9179), which core
runs before it checks anything else (model_repository_manager.cc CreateAgentModelListWithLoadAction).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from math import prod
from posixpath import normpath
from typing import Final, Literal, TypeAlias

from tritonforge.pbtxt import Node
from tritonforge.triton import changes
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.layout import _FATAL, E127, report_unread
from tritonforge.validation.tree import MAXIMAL_TEXT, UNKNOWN, Entry, leaves_directory

_CHECKSUM_AGENT: Final = "checksum_repository_agent src/checksum.cc"
# fmt: off
E110 = define_error("E110", "failed to open text file for read <model>/<label_filename>: No such file or directory",
    source="model.cc Model::Init, label_provider.cc AddLabels",
    why="Label files lie in the model's directory, not in the version's.",
    bad='output { label_filename: "labels.txt" } and m/1/labels.txt',
    good='output { label_filename: "labels.txt" } and m/labels.txt')
E111 = define_error("E111", "label_filename names a directory: the server's process dies",
    source="filesystem/implementations/local.h ReadTextFile (an uncaught std::length_error)",
    why="Triton reads the directory as a file of absurd length and aborts; every model goes down with it.",
    bad='output { label_filename: "labels" } and m/labels/',
    good='output { label_filename: "labels.txt" } and m/labels.txt')
E117 = define_error("E117", "multiple label files for '<o>'",
    source="label_provider.cc AddLabels (INTERNAL)",
    why="Labels are kept by the output's name, so two outputs of one name cannot both have labels.",
    bad='output [{ name: "B" label_filename: "l" }, { name: "B" label_filename: "l" }]',
    good='output [{ name: "B" label_filename: "l" }, { name: "C" label_filename: "l" }]')
E607 = define_error("E607", "label file path '<p>' for output '<o>' in model '<m>' is outside model directory",
    source=changes.LABEL_FILE_INSIDE.source,
    why="From 26.02 on label files are read from the model's directory only, links followed.",
    bad='label_filename: "../labels.txt"   --image 26.02', good='label_filename: "labels.txt"   --image 26.02')
W306 = define_advice("W306", "the number of labels differs from the number of classes",
    source="label_provider.cc GetLabel: an index without a label has none",
    why="Classes beyond the labels are answered without a name, or names stand at the wrong index.",
    bad="dims: [1001] and 1000 lines", good="dims: [1001] and 1001 lines")
E292 = define_error("E292", "TRITON_BATCH_STRATEGY_PATH cannot be specified with sequence batcher, using default "
                            "batching strategy",
    source="backend_model.cc TritonModel::SetBatchingStrategy",
    why="A batching library belongs to the dynamic batcher.",
    bad='sequence_batching {} parameters { key: "TRITON_BATCH_STRATEGY_PATH" ... }',
    good='dynamic_batching {} parameters { key: "TRITON_BATCH_STRATEGY_PATH" ... }')
E293 = define_error("E293", "Batching library path not found: <path>",
    source="backend_model.cc TritonModel::SetBatchingStrategy",
    why="The library has to be where the parameter says.",
    bad='parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/nowhere.so" } }',
    good="m/batchstrategy.so, which is found without the parameter")
E295 = define_error("E295", "Failed to get the canonical path for <path>.",
    source="python_backend pb_env.cc EnvironmentManager::ExtractIfNotExtracted",
    why="The python backend opens the environment before it starts the model: an archive of conda-pack, or a "
        "directory.",
    bad='parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }',
    good="the same, and m/env.tar.gz")
W295 = define_advice("W295", "<path> lies outside the repository: the model loads only where this file exists",
    source="tritonforge: a path of another machine cannot be looked at",
    why="The repository is not enough to serve the model: the file has to be on every server.",
    bad='parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/opt/envs/env.tar.gz" } }',
    good='parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }')
E609 = define_error("E609", "Batching library path escapes model repository.",
    source=changes.BATCHING_LIBRARY_INSIDE.source,
    why="From 26.06 on the library has to lie in the model's directory.",
    bad='parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/lib/batch.so" } }   --image 26.06',
    good="m/batchstrategy.so, which is found without the parameter")
E130 = define_error("E130", "Mismatched MD5 hash for file <f>, expect: <a>, got: <b>",
    source=f"{_CHECKSUM_AGENT} TRITONREPOAGENT_ModelAction",
    why="The file is not the one whose sum the configuration states. The agent compares lower-case hexadecimal digits.",
    bad='agents [{ name: "checksum" parameters { key: "MD5:1/model.onnx" value: "<the sum of another file>" } }]',
    good='agents [{ name: "checksum" parameters { key: "MD5:1/model.onnx" value: "<md5sum m/1/model.onnx>" } }]')
E131 = define_error("E131", "failed to open text file for read <f>: No such file or directory",
    source=f"{_CHECKSUM_AGENT} ReadFile",
    why="The path is relative to the model's directory.",
    bad='parameters { key: "MD5:model.onnx" ... } with m/1/model.onnx',
    good='parameters { key: "MD5:1/model.onnx" ... }')
E132 = define_error("E132", "Unsupported checksum algorithm: <x>",
    source=f"{_CHECKSUM_AGENT} ParseAlgorithmAndFile",
    why="The agent supports MD5 only.",
    bad='parameters { key: "SHA256:1/model.onnx" ... }', good='parameters { key: "MD5:1/model.onnx" ... }')
E133 = define_error("E133", "failed to parse key: <key>",
    source=f"{_CHECKSUM_AGENT} ParseAlgorithmAndFile",
    why="A key is the algorithm, a colon and the file.",
    bad='parameters { key: "1/model.onnx" ... }', good='parameters { key: "MD5:1/model.onnx" ... }')
E134 = define_error("E134", "the checksum is of a directory: the server's process dies",
    source=f"{_CHECKSUM_AGENT} ReadFile (an uncaught std::length_error)",
    why="The agent reads the directory as a file of absurd length; every model goes down with it.",
    bad='parameters { key: "MD5:1" ... }', good='parameters { key: "MD5:1/model.onnx" ... }')
# fmt: on

_SUM: Final = re.compile(r"[0-9a-f]{32}")

#: "elsewhere": the file may be there where the server runs, which cannot be seen from here.
Whereabouts: TypeAlias = Literal["file", "directory", "missing", "other", "elsewhere"]
#: Where SageMaker unpacks an archive.
_SAGEMAKER_MODEL: Final = "/opt/ml/model/"
#: Where NVIDIA's and AWS's images keep what they bring.
_IMAGE_FILES: Final = "/opt/"
_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
#: The parameter that names the Python environment of a model.
ENVIRONMENT_PARAMETER: Final = "EXECUTION_ENV_PATH"
#: What the server replaces by the model's directory.
MODEL_DIRECTORY_VARIABLE: Final = "$$TRITON_MODEL_DIRECTORY"


@register_check(Stage.LABELS, E110, E111, E117, E127)
def check_label_files(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the label files are there."""
    tree, seen = context.tree, set[str]()
    for output in model.outputs:
        filename = output.node.text("label_filename")
        if not filename:
            continue
        node = output.node.one("label_filename")
        path = "/".join(part for part in (model.name, *filename.split("/")) if part)
        kind = tree.kind(path) if not leaves_directory(f"{model.name}/{filename}") else "file"
        if kind == "directory":
            message = f"label_filename '{filename}' names a directory, which the server reads as a text file"
            advice = "name the file" if context.has(changes.EXCEPTIONS_CAUGHT) else _FATAL
            yield E111.report(message, path=model.config_path, node=node, help=advice)
        elif kind == "missing":
            places = [f"{model.name}/{directory}/{filename}" for directory in tree.subdirectories(model.name)]
            files = [place for place in places if tree.is_file(place)]
            advice = f"move {files[0]} to {path}" if files else f"labels are looked for in {model.name}/"
            message = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield E110.report(message, path=model.config_path, node=node, help=advice)
        elif output.name in seen:
            yield E117.report(f"multiple label files for '{output.name}'", path=model.config_path, node=node)
        elif kind == "other" or ((entry := tree.entry(path)) is not None and entry.size > MAXIMAL_TEXT):
            yield report_unread(tree, path)
        seen.add(output.name)


@register_check(Stage.LABELS, E607)
def check_label_directory(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that label files lie in the model's directory, where the release requires it."""
    if not model.versions or not context.has(changes.LABEL_FILE_INSIDE):
        return
    for output in model.outputs:
        filename = output.node.text("label_filename")
        if filename and _is_outside(context, model, filename):
            yield E607.report(
                f"label file path '<repo>/{model.name}/{filename}' for output '{output.name}' in model '{model.name}' "
                "is outside model directory",
                path=model.config_path,
                node=output.node.one("label_filename"),
                help=f"put the file into {model.name}/",
            )


def _is_outside(context: Context, model: ModelView, filename: str) -> bool:
    """Return True if a path leads out of the model's directory, links included as far as the tree has them."""
    path = f"{model.name}/{filename}"
    if context.tree.leaves(path) and not context.tree.leaves(model.name):
        return True
    place, directory = context.tree.real(path) or normpath(path), context.tree.real(model.name) or model.name
    if context.has(changes.WHOLE_PATHS):
        return place != directory and not place.startswith(f"{directory}/")
    return not place.startswith(directory)  # the server compares the texts, so a sibling `<m>2` counts as inside


@register_check(Stage.LOADED, W306)
def check_label_counts(context: Context) -> Iterator[Finding]:
    """Compare the number of labels of each output with its classes."""
    for model in context.models.values():
        for output in model.outputs if model.parsed else ():
            filename = output.node.text("label_filename")
            entry = context.tree.entry(f"{model.name}/{filename}") if filename else None
            if entry is None or not entry.content:
                continue
            difference = compare_labels(output.name, output.dims or (), filename, entry.content)
            if difference is not None:
                node = output.node.one("label_filename")
                yield W306.report(difference[1], path=model.config_path, node=node)


def count_labels(content: bytes) -> int:
    """Count the labels of a label file; empty lines at its end do not count."""
    return len(content.rstrip().splitlines())


def compare_labels(output: str, dims: Sequence[int], filename: str, content: bytes) -> tuple[int, str] | None:
    """Return how many labels are missing and a sentence; None where the numbers agree or an extent varies.

    The number is negative where there are more labels than classes. An index without a label is answered without one
    (label_provider.cc `GetLabel`).
    """
    if not dims or min(dims) < 1:
        return None
    labels, classes = count_labels(content), prod(dims)
    if labels == classes:
        return None
    return classes - labels, f"{filename} has {labels} labels, the output '{output}' has {classes} classes"


def find_file(context: Context, path: str) -> Whereabouts:
    """Return what is at a path that the server opens as it is: an absolute one, or one of its working directory.

    An absolute path outside the repository counts as it is on this machine, unless the repository is meant for an
    image. One that ends as a path of the repository does may be right where the repository is mounted.
    """
    tree = context.tree
    if context.options.target == "sagemaker" and path.startswith(_SAGEMAKER_MODEL):
        kind = tree.kind(path.removeprefix(_SAGEMAKER_MODEL))
        return "elsewhere" if tree.leaves(path.removeprefix(_SAGEMAKER_MODEL)) and kind != "missing" else kind
    here = tree.external.get(path, "missing")
    for_this_machine = context.image is None and context.options.target == "triton"
    if here != "missing":
        return here if for_this_machine else "elsewhere"
    if path.startswith(_IMAGE_FILES):
        return "elsewhere"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if any(tree.kind("/".join(parts[start:])) != "missing" for start in range(len(parts))):
        return "elsewhere"
    return "missing"


def find_parameter(model: ModelView, name: str) -> tuple[str, Node] | None:
    """Return the string of a parameter and its place; None where the parameter is absent."""
    entry = model.document.entries("parameters").get(name)
    if entry is None:
        return None
    value = entry.message("value")
    if value is None:
        return "", entry
    return value.text("string_value"), value.one("string_value") or entry


@register_check(Stage.PARAMETERS, E292, E293, E609, W295)
def check_batching_library(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the batching library that a parameter names."""
    parameter = find_parameter(model, _STRATEGY)
    if parameter is None or model.is_ensemble:
        return
    path, node = parameter
    if model.document.has("sequence_batching"):
        message = f"{_STRATEGY} cannot be specified with sequence batcher, using default batching strategy"
        yield E292.report_in(model, message, node)
        return
    if is_library_outside(context, model, path):
        if model.versions:
            message = "Batching library path escapes model repository."
            if not path:
                message = "Parent path and child path must be non-empty"
            advice = f"call it batchstrategy.so and put it into {model.name}/"
            yield E609.report(message, path=model.config_path, node=node, help=advice)
        return
    whereabouts = find_file(context, path)
    if whereabouts == "missing":
        yield E293.report_in(model, f"Batching library path not found: {path}", node)
    elif whereabouts == "elsewhere":
        yield _report_elsewhere(model, path, node)


@register_check(Stage.PARAMETERS, E295, W295)
def check_execution_environment(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the Python environment that a parameter names: an archive, or the directory of one."""
    parameter = find_parameter(model, ENVIRONMENT_PARAMETER) if model.backend == "python" and model.versions else None
    if parameter is None or not parameter[0]:
        return
    path, node = parameter
    whereabouts: Whereabouts
    if path.startswith(MODEL_DIRECTORY_VARIABLE):
        path, whereabouts = _find_in_model(context, model, path.removeprefix(MODEL_DIRECTORY_VARIABLE))
    else:
        whereabouts = find_file(context, path)
    if whereabouts == "missing":
        message = f"Failed to get the canonical path for {path}."
        yield E295.report_in(model, message, node, "put the environment there, or leave the parameter out")
    elif whereabouts == "elsewhere":
        yield _report_elsewhere(model, path, node)


def _find_in_model(context: Context, model: ModelView, below: str) -> tuple[str, Whereabouts]:
    """Return a path that begins at the model's directory, as the server prints it, and what is there."""
    tree = context.tree
    parts: list[str] = [model.name]
    for part in below.split("/"):
        if part == "..":
            if not parts:
                # SageMaker has nothing around the repository.
                return (
                    f"<repo>/{model.name}{below}",
                    "missing" if context.options.target == "sagemaker" else "elsewhere",
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    inside = parts[:1] == [model.name] and len(parts) > 1
    # The server takes the dots out of a path that leaves the model's directory only.
    shown = f"{model.name}{below}" if inside else "/".join(parts)
    return f"<repo>/{shown}", tree.kind(f"{model.name}{below}")


def _report_elsewhere(model: ModelView, path: str, node: Node) -> Finding:
    message = f"{path} lies outside the repository: the model loads only where this file exists"
    return W295.report_in(model, message, node, "put the file into the repository")


def is_library_outside(context: Context, model: ModelView, path: str) -> bool:
    """Return True if the server refuses the path of a batching library for leading out of the model's directory.

    Where the repository lies is known on SageMaker only; elsewhere a path through a directory of the model's name may
    be right.
    """
    if not context.has(changes.BATCHING_LIBRARY_INSIDE):
        return False
    place = normpath(path) if path else ""
    if not place.startswith("/"):
        return True  # taken from the server's working directory
    if context.options.target == "sagemaker":
        return not place.startswith(f"{_SAGEMAKER_MODEL}{model.name}/")
    return f"/{model.name}/" not in place


@register_check(Stage.AGENTS, E127, E130, E131, E132, E133, E134)
def check_checksums(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the files whose sums the checksum agent verifies."""
    agents = model.document.message("model_repository_agents")
    for agent in agents.messages("agents") if agents is not None else ():
        if agent.text("name") == "checksum":
            for key, entry in agent.entries("parameters").items():
                yield from _check_sum(context, model, key, entry.text("value"), entry.one("value") or entry)


def _check_sum(context: Context, model: ModelView, key: str, expected: str, node: Node) -> Iterator[Finding]:
    algorithm, colon, filename = key.partition(":")
    path = f"{model.name}/{filename}"
    tree, where = context.tree, model.config_path
    if not colon:
        yield E133.report(f"failed to parse key: {key}", path=where, node=node, help=f'write "MD5:{key}"')
    elif algorithm.lower() != "md5":
        yield E132.report(f"Unsupported checksum algorithm: {algorithm}", path=where, node=node, help="use MD5")
    elif tree.leaves(path):
        yield _report_unverified(path, "it lies outside of the repository")
    elif (kind := tree.kind(path)) == "missing":
        message = f"failed to open text file for read {filename}: No such file or directory"
        yield E131.report(message, path=where, node=node, help=f"files are looked for in {model.name}/")
    elif kind == "directory":
        yield E134.report(f"{path} is a directory, of which the agent reads the sum", path=where, node=node)
    elif (entry := tree.entry(path)) is not None and entry.problem:
        message = f"failed to open text file for read {filename}: {entry.problem}"
        yield E131.report(message, path=where, node=node)
    elif entry is not None and entry.size == UNKNOWN:
        return  # not built yet
    elif entry is None or (actual := _compute_sum(entry)) is None:
        yield _report_unverified(path, "it is larger than what is read for checksums")
    elif actual != expected:
        message = f"Mismatched MD5 hash for file {filename}, expect: {expected}, got: {actual}"
        advice = "the agent compares lower-case digits" if actual == expected.lower() else "the file has changed"
        if not _SUM.fullmatch(expected.lower()):
            advice = "an MD5 sum has 32 hexadecimal digits"
        yield E130.report(message, path=where, node=node, help=advice)


def _compute_sum(entry: Entry) -> str | None:
    if entry.content is not None:
        return hashlib.md5(entry.content, usedforsecurity=False).hexdigest()
    return entry.md5 or None


def _report_unverified(path: str, why: str) -> Finding:
    return E127.report(f"not judged: the checksum of {path} is not verified: {why}", path=path)
