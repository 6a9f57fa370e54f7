"""A repository against the Triton image that is to serve it: backends, fields, GPUs. No I/O.

`check` needs `Context.image`; `check_instance` needs an instance type besides, which a repository does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Document, Message, Node
from tritonforge.triton import CATALOGUE, Image, changes, find_gpu_family, find_image, has_unsupported_gpu
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.backends import missing_backend
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.inference import BACKENDS

__all__ = ["RULES", "check", "check_instance"]

_PROTO: Final = "history of triton-inference-server/common protobuf/model_config.proto"

NO_TENSORFLOW: Final = Rule(
    code="E601",
    severity="error",
    refused_by="triton",
    summary="unable to find backend library for backend 'tensorflow', try specifying runtime on the model "
    "configuration.",
    source="server/build.py enable_all (r25.03 and later; server PR 8068); core backend_model.cc ResolveBackendPaths",
    why="Triton 25.02 is the last release with a TensorFlow backend, 24.09 the last such image on SageMaker.",
    bad='platform: "tensorflow_savedmodel"   --image 25.04',
    good="tritonforge package REPO --image 25.04 --tensorflow onnx\n"
    "tritonforge package REPO --image 25.04 --tensorflow python-backend   (the image: 25.04+tensorflow)",
)
NO_BACKEND: Final = Rule(
    code="E602",
    severity="error",
    refused_by="triton",
    summary="unable to find backend library for backend '<b>', try specifying runtime on the model configuration.",
    source="server/build.py enable_all; core backend_model.cc ResolveBackendPaths",
    why="The image carries a fixed set of backends; others must be added to it, or lie beside the model as "
    "libtriton_<backend>.so.",
    bad='backend: "vllm"   --image 24.09',
    good='backend: "python"   --image 24.09',
)
UNKNOWN_FIELD: Final = Rule(
    code="E603",
    severity="error",
    refused_by="triton",
    summary="failed to read text proto from <repo>/<model>/config.pbtxt",
    source=f"{_PROTO}; core model_config_utils.cc, ReadTextProto",
    why="A server refuses the whole file for one field, or one name of an enum, that its schema does not have yet.",
    bad="model_metrics { ... }   --image 24.09",
    good="model_metrics { ... }   --image 25.04",
)
GPU_ON_CPU_IMAGE: Final = Rule(
    code="E604",
    severity="error",
    refused_by="triton",
    summary="instance group <g> of model <m> has kind KIND_GPU but server does not support GPUs",
    source="core model_config_utils.cc ValidateInstanceGroup",
    why="The images whose tag ends in -cpu serve on the CPU.",
    bad="instance_group { kind: KIND_GPU }   --image 24.09-py3-cpu",
    good="instance_group { kind: KIND_CPU }   --image 24.09-py3-cpu",
)
OLD_GPU: Final = Rule(
    code="E605",
    severity="error",
    refused_by=None,
    summary="the image needs GPUs of compute capability 7.5 or later, the instance type has older ones",
    source="NVIDIA's release notes of Triton 25.03 and later (V100 = ml.p3 is not supported)",
    why="The libraries of newer images no longer have code for GPUs before Turing.",
    bad="--image 25.04   ml.p3.2xlarge",
    good="--image 25.04   ml.g4dn.xlarge",
)
NOT_ON_SAGEMAKER: Final = Rule(
    code="W601",
    severity="warning",
    refused_by=None,
    summary="AWS publishes no SageMaker image of this Triton release",
    source="image table of the SageMaker SDK (sagemaker-core 2.27.0); aws/deep-learning-containers",
    why="NVIDIA's own image runs on SageMaker too, but it must be copied into an ECR repository of yours.",
    bad="--target sagemaker --image 24.10",
    good="--target sagemaker --image 24.09",
)
UNUSED_GPU: Final = Rule(
    code="W602",
    severity="warning",
    refused_by=None,
    summary="the image is for the CPU, the instance type has GPUs",
    source="aws/deep-learning-containers: only the CPU image's tag has a suffix",
    why="The CPU image does not see the GPUs that the instance is paid for.",
    bad="--image 24.09-py3-cpu   ml.g5.xlarge",
    good="--image 24.09-py3   ml.g5.xlarge",
)

RULES: Final = (NO_TENSORFLOW, NO_BACKEND, UNKNOWN_FIELD, GPU_ON_CPU_IMAGE, OLD_GPU, NOT_ON_SAGEMAKER, UNUSED_GPU)


def check(context: Context) -> Iterator[Finding]:
    """What the image's server would say, model by model; without an image, the fields that the local one lacks."""
    image = context.image
    if image is None:
        for model in context.models.values():
            yield from _check_fields(context, model)
        return
    if context.target == "sagemaker" and not image.sagemaker:
        yield NOT_ON_SAGEMAKER.finding(
            f"AWS publishes no SageMaker image {image.tag}"
            if image.variant
            else f"AWS publishes no SageMaker image of Triton {image.release}",
            path="",
            help="choose a release that AWS publishes, or copy NVIDIA's image into your registry",
        )
    for model in context.models.values():
        yield from _check_fields(context, model)
        if model.parsed:
            yield from _check_backend(context, model, image)
            if image.cpu and context.gpus is None:
                yield from _check_groups(model, image)


def check_instance(image: Image | str, instance_type: str) -> Iterator[Finding]:
    """What is to be said of an image (or its tag or URI) on a SageMaker instance type.

    For an instance type without GPUs (`tritonforge.triton.find_gpu_family` is None) validate with ``Context.gpus`` = 0.
    Raises DefinitionError for an unknown image, or text that is no instance type.
    """
    chosen = find_image(image) if isinstance(image, str) else image
    if has_unsupported_gpu(chosen, instance_type):
        yield OLD_GPU.finding(
            f"Triton {chosen.release} needs GPUs of compute capability {chosen.min_compute_capability} or later, "
            f"{instance_type} has older ones",
            path="",
            help="choose g4dn, g5 or later, or an image up to 24.10",
        )
    if chosen.cpu and find_gpu_family(instance_type) is not None:
        yield UNUSED_GPU.finding(
            f"image {chosen.tag} is for the CPU, {instance_type} has GPUs",
            path="",
            help=f"use {chosen.release}-py3, or an instance without GPUs",
        )


def _check_backend(context: Context, model: ModelView, image: Image) -> Iterator[Finding]:
    backend = model.backend
    if not backend or model.is_ensemble or backend in image.backends or model.document.text("runtime"):
        return
    if not model.versions or backend not in BACKENDS | CATALOGUE[image.release].backends:
        return  # the layout says so
    library = f"libtriton_{backend}.so"
    folders = [model.name, *(f"{model.name}/{version}" for version in model.versions)]
    if any(context.tree.is_file(f"{folder}/{library}") for folder in folders):
        return
    rule, advice = NO_BACKEND, f"the image has: {', '.join(sorted(image.backends))}"
    if image.variant and backend in CATALOGUE[image.release].backends:
        advice = f"{image.tag} has: {', '.join(sorted(image.backends))}; take {image.release}-py3, which has it"
    elif backend == "tensorflow":
        rule, advice = NO_TENSORFLOW, _ways_out(image)
    yield rule.finding(
        missing_backend(context, model),
        path=model.config_path if model.has_config else model.name,
        node=model.place(model.document.one("backend"), model.document.one("platform")) if model.has_config else None,
        help=f"Triton {image.triton} ({image.tag if image.variant else image.release}) has no {backend} backend: "
        + advice,
    )


def _ways_out(image: Image) -> str:
    """The commands that bring a TensorFlow model to an image without TensorFlow."""
    release = image.tag if image.cpu else image.release
    package = f"tritonforge package REPO --image {release} --tensorflow"
    return (
        f"run {package} onnx, which converts the model and compares it with the original, or {package} python-backend, "
        "for an image of yours with tritonforge's TensorFlow backend (the Dockerfile's stage sagemaker-tensorflow)"
    )


def _check_groups(model: ModelView, image: Image) -> Iterator[Finding]:
    for group in model.document.messages("instance_group"):
        if group.text("kind") == "KIND_GPU":
            name = group.text("name") or f"{model.name}_{group.index}"
            yield GPU_ON_CPU_IMAGE.finding(
                f"instance group {name} of model {model.name} has kind KIND_GPU but server does not support GPUs",
                path=model.config_path,
                node=group.one("kind"),
                help=f"use KIND_CPU or leave the kind out, or the image {image.release}-py3",
            )


def _check_fields(context: Context, model: ModelView) -> Iterator[Finding]:
    if not model.has_config:
        return
    for node, path in _nodes(model.document, ""):
        what, change = f'the field "{node.name}"', changes.FIELDS.get(path)
        if change is None and isinstance(node.value, str) and node.value in changes.VALUES and _is_name(node):
            what, change = node.value, changes.VALUES[node.value]
        if change is not None and not context.has(change):
            server = f"Triton {CATALOGUE[context.release].triton} ({context.release})"
            advice = "leave it out, or choose a later image"
            if context.image is None:
                server, advice = f"{server}, the local server,", "leave it out, or name the image: --image RELEASE"
            yield UNKNOWN_FIELD.finding(
                f"failed to read text proto from <repo>/{model.config_path}",
                path=model.config_path,
                node=node,
                help=f"{server} does not know {what}, which came with {change.first}: {advice}",
            )


def _nodes(message: Message, prefix: str) -> Iterator[tuple[Node, str]]:
    """Every node below a message with its path without indices; the schema bounds the depth."""
    for name, values in message.fields.items():
        path = f"{prefix}{name}"
        for node in values:
            yield node, path
            if isinstance(node, Message):
                yield from _nodes(node, f"{path}.")


def _is_name(node: Node) -> bool:
    """Whether an enum's value is written by name: a bare word. A number is taken by every server."""
    document: Document = node.root
    return document.source[node.offset : node.offset + 1].isalpha()
