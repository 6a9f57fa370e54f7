"""What the server makes of each model directory: its configuration parsed, completed and normalised. No I/O.

Source: core model_config_utils.cc `AutoCompleteBackendFields`, `GetNormalizedModelConfig`; model_lifecycle.cc
`VersionsToLoad`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tritonforge.pbtxt import Document, Message, parse
from tritonforge.triton import changes, find_gpu_family, find_image
from tritonforge.triton.backends import BACKENDS, find_model_filename, find_platform
from tritonforge.triton.targets import find_target
from tritonforge.validation.completed_views import complete_python_view, complete_view
from tritonforge.validation.context import Context, MappedTensor, ModelView, Options, StepView, TensorView
from tritonforge.validation.python_source import may_complete
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["PLAIN_DIRECTORIES", "Inferred", "Policy", "VersionName", "build_context",
           "build_view", "infer_backend", "read_policy", "read_version"]  # fmt: skip

#: Directories of a model that are not versions (model_lifecycle.cc `VersionsToLoad`).
PLAIN_DIRECTORIES: Final = ("warmup", "initial_state", "configs")

_TENSORFLOW: Final = BACKENDS["tensorflow"]
#: The backends that core finds by a file, after TensorFlow, in its order.
_INFERRED: Final = tuple(row for row in BACKENDS.values() if row.is_inferred and row is not _TENSORFLOW)
_LIBTORCH, _AOTI = BACKENDS["pytorch"].platforms

#: C's ``isspace`` and what ``std::stoll`` takes from the front of a text.
_STOLL: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")


def build_context(
    tree: Tree,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    view_builder: Callable[[Context, str], ModelView] | None = None,
) -> Context:
    """Return the context of a tree: a view of every directory in it, each of which the server takes for a model.

    ``view_builder`` is called instead of `build_view`, with a context without models, and a name.

    Raises:
        DefinitionError: the image, the instance type, or the target or its version is unknown.
    """
    serving = find_target(options.target, options.target_version)
    tag = options.image if options.image is not None else serving.image
    image = find_image(tag) if tag else None
    gpus = options.gpus
    if gpus is None and options.instance_type is not None and find_gpu_family(options.instance_type) is None:
        gpus = 0
    default_model = (options.environment or {}).get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME")
    load_models = options.load_models or ([default_model] if default_model else None)
    build = view_builder or build_view
    context = Context(tree, {}, replace(options, gpus=gpus, load_models=load_models), image, serving)
    return replace(context, models={name: build(context, name) for name in tree.subdirectories()})


def build_view(context: Context, name: str) -> ModelView:
    """Return the view of a directory; of the context, tree, options and release are used."""
    tree, config_name = context.tree, context.options.model_config_name
    config_path = f"{name}/config.pbtxt"
    if config_name and tree.kind(f"{name}/configs/{config_name}.pbtxt") != "missing":
        config_path = f"{name}/configs/{config_name}.pbtxt"
    entry = tree.entry(config_path)
    content = entry.content if entry is not None and entry.size <= MAXIMAL_TEXT else None
    document = parse(content if content is not None else "")
    readable = (tree.kind(config_path) == "missing" and not tree.leaves(name)) or content is not None
    directories: dict[int, str] = {}
    for directory in tree.subdirectories(name):
        version = read_version(directory)
        if version.number is not None and (version.exact or version.number not in directories):
            directories[version.number] = f"{name}/{directory}"
    inferred = infer_backend(name, document, tree, context.release)
    versions = _select_versions(read_policy(document), directories)
    policy = document.message("model_transaction_policy")
    view = ModelView(
        name=name,
        configured_name=document.text("name") or name,
        config_path=config_path,
        has_config=tree.kind(config_path) != "missing",
        parsed=readable and not document.problems,
        document=document,
        platform=inferred.platform,
        backend=inferred.backend,
        default_model_filename=inferred.default_model_filename,
        max_batch_size=document.integer("max_batch_size"),
        inputs=tuple([_build_tensor(node) for node in document.messages("input")]),
        outputs=tuple([_build_tensor(node) for node in document.messages("output")]),
        steps=_build_steps(document),
        decoupled=policy is not None and policy.flag("decoupled"),
        version_directories=directories,
        versions=versions,
        completes=context.options.auto_complete
        and may_be_completed(inferred, document, tree, [directories[version] for version in versions]),
    )
    if not view.completes or not view.parsed or len(view.versions) != 1:
        return view
    return complete_python_view(context, view) if view.backend == "python" else complete_view(tree, view)


def _build_tensor(node: Message) -> TensorView:
    reshape = node.message("reshape")
    return TensorView(
        name=node.text("name"),
        data_type=node.text("data_type", "TYPE_INVALID"),
        dims=node.integers("dims"),
        reshape=None if reshape is None else reshape.integers("shape"),
        optional=node.flag("optional"),
        node=node,
    )


def _build_steps(document: Document) -> tuple[StepView, ...]:
    scheduling = document.message("ensemble_scheduling")
    if scheduling is None:
        return ()
    return tuple(
        [
            StepView(
                index=index,
                model=node.text("model_name"),
                version=node.integer("model_version"),
                inputs=_build_map(node, "input_map"),
                outputs=_build_map(node, "output_map"),
                node=node,
            )
            for index, node in enumerate(scheduling.messages("step"))
        ]
    )


def _build_map(step: Message, field: str) -> dict[str, MappedTensor]:
    mapped = {}
    for key, entry in step.entries(field).items():
        value = entry.one("value")
        mapped[key] = MappedTensor(str(value.value) if value is not None else "", value or entry)
    return mapped


@dataclass(frozen=True, slots=True)
class Inferred:
    """What `AutoCompleteBackendFields` fills in; ``problem`` is its error, "" where it has none."""

    platform: str
    backend: str
    default_model_filename: str
    problem: str = ""


def infer_backend(name: str, document: Document, tree: Tree, release: str = changes.REFERENCE) -> Inferred:
    """Return platform, backend and default file name of a model (model_config_utils.cc `AutoCompleteBackendFields`).

    Only the first sub-directory of the model's directory is looked into, whatever its name is.
    """
    platform, backend = document.text("platform"), document.text("backend")
    filename = document.text("default_model_filename")
    subdirectories = () if backend and (filename or backend != "tensorflow") else tree.subdirectories(name)
    first = f"{name}/{subdirectories[0]}" if subdirectories else ""
    content = frozenset(tree.children(first)) if first else frozenset()

    def has_file(path: str, *kinds: str) -> bool:
        return path in content and (not kinds or tree.kind(f"{first}/{path}") in kinds)

    if not platform and backend in ("", "tensorflow"):
        platform = _infer_tensorflow(filename, has_file)
    known = find_platform(platform)
    if known is not None and known in _TENSORFLOW.platforms:
        return Inferred(platform, backend or "tensorflow", filename or known.filename)

    bare = not platform and not filename
    for candidate in _INFERRED:
        if candidate.name == "pytorch":
            pytorch = _infer_pytorch(
                Inferred(platform, backend, filename), document.text("runtime"), has_file, release=release
            )
            if pytorch is not None:
                return pytorch
            continue
        if not backend:
            kinds = ("file", "other") if candidate.name == "tensorrt" else ()
            named = bool(candidate.platform) and platform == candidate.platform
            if named or filename == candidate.filename or (bare and has_file(candidate.filename, *kinds)):
                backend = candidate.name
        if backend == candidate.name:
            return Inferred(platform or candidate.platform, backend, filename or candidate.filename)
    if not backend and not platform and not filename:
        _, dot, suffix = name.partition(".")
        if not dot:
            problem = (
                f"Invalid model name: Could not determine backend for model '{name}' with no backend in model "
                "configuration. Expected model name of the form 'model.<backend_name>'."
            )
            return Inferred("", "", "", problem)
        return Inferred("", suffix, f"model.{suffix}")
    return Inferred(platform, backend, filename)


def _infer_tensorflow(filename: str, has_file: Callable[..., bool]) -> str:
    """Return the TensorFlow platform that a default file, or a file in the first version, implies."""
    saved_model, graphdef = _TENSORFLOW.platforms
    if not filename:
        if has_file(graphdef.filename, "file", "other"):
            return graphdef.name
        return saved_model.name if has_file(saved_model.filename, "directory") else ""
    return next((platform.name for platform in _TENSORFLOW.platforms if platform.filename == filename), "")


def _infer_pytorch(given: Inferred, runtime: str, has_file: Callable[..., bool], *, release: str) -> Inferred | None:
    """Return what the PyTorch part of `AutoCompleteBackendFields` fills in; None where the backend is another one."""
    platform, backend, filename = given.platform, given.backend, given.default_model_filename
    aoti, aoti_file = changes.TORCH_AOTI.applies_to(release), changes.TORCH_AOTI_FILE.applies_to(release)
    names = [_LIBTORCH.name, *([_AOTI.name] if aoti else [])]
    names += ["libtorch"] if changes.LIBTORCH_NAMED.applies_to(release) else []
    if not backend:
        if platform in names or filename in (_LIBTORCH.filename, *([_AOTI.filename] if aoti else [])):
            backend = "pytorch"
        elif not platform and not filename:
            if has_file(_LIBTORCH.filename):
                backend = "pytorch" if has_file(_LIBTORCH.filename, "file", "other") else ""
                platform = _LIBTORCH.name if backend else ""
            elif aoti and has_file(_AOTI.filename, "file", "other"):
                backend, platform = "pytorch", _AOTI.name if aoti_file else ""
    if backend != "pytorch":
        return None
    without_file = runtime == "model.py" and not changes.TORCH_RUNTIME_FILE.applies_to(release)
    default = "" if without_file else _LIBTORCH.filename
    if aoti_file and platform:
        default = _AOTI.filename if platform == _AOTI.name else ""
    return Inferred(platform or _LIBTORCH.name, backend, filename or default)


def may_be_completed(inferred: Inferred, document: Document, tree: Tree, directories: Sequence[str]) -> bool:
    """Return True if the backend may change the configuration when it loads: its kind can, and its file is there."""
    filename = find_model_filename(inferred.backend, inferred.platform, inferred.default_model_filename)
    if not filename or not directories or not inferred.backend:
        return False
    backend, platform = BACKENDS.get(inferred.backend), find_platform(inferred.platform)
    path = f"{directories[-1]}/{filename}"
    if inferred.backend == "dali":
        return any(tree.kind(file) == "file" for file in (path, f"{directories[-1]}/dali.py"))
    if tree.kind(path) == "missing":
        return False
    if platform is not None and platform in _TENSORFLOW.platforms and platform.has_signature:
        return True
    if backend is _TENSORFLOW:
        return False
    completion = backend.completion if backend is not None else "unknown"
    if completion == "undeclared":
        return not document.has("input") or not document.has("output")
    if completion == "code":
        return may_complete(tree, directories[-1], path)
    return completion != "never"


@dataclass(frozen=True, slots=True)
class VersionName:
    """How the server reads the name of a directory: as a version's number, or not, and why not."""

    number: int | None
    exact: bool = True
    ignored: str = ""
    overflows: bool = False


def read_version(name: str) -> VersionName:
    """Read the version that a directory's name means (model_lifecycle.cc `VersionsToLoad`, with ``std::stoll``)."""
    if name in PLAIN_DIRECTORIES:
        return VersionName(None)
    if len(name) > 1 and name[0] == "0":
        return VersionName(None, ignored="which contains leading zeros in its directory name")
    match = _STOLL.match(name)
    if match is None:
        return VersionName(None, ignored="which fails to convert to integral number")
    digits = match.group(1)
    if len(digits) > 40 or not -(2**63) <= int(digits) < 2**63:
        return VersionName(None, overflows=True)
    return VersionName(int(digits), exact=digits == name and digits[0] not in "+-")


@dataclass(frozen=True, slots=True)
class Policy:
    """A version policy: ``latest`` a number of versions, ``specific`` ones, or all (both None)."""

    latest: int | None = None
    specific: tuple[int, ...] | None = None


def read_policy(document: Document) -> Policy:
    """Return the version policy of a configuration after normalisation: the latest version where it has none."""
    message = document.message("version_policy")
    if message is None:
        return Policy(latest=1)
    latest, specific = message.message("latest"), message.message("specific")
    if latest is not None:
        return Policy(latest=latest.integer("num_versions"))
    if specific is not None:
        return Policy(specific=specific.integers("versions"))
    return Policy()


def _select_versions(policy: Policy, present: Mapping[int, str]) -> tuple[int, ...]:
    """Return the versions that the policy loads, ascending."""
    if policy.specific is not None:
        return tuple(sorted({version for version in policy.specific if version in present}))
    versions = sorted(present)
    if policy.latest is not None:
        return tuple(versions[max(0, len(versions) - policy.latest) :])
    return tuple(versions)
