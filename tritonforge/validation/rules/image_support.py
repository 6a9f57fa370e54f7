"""A repository and the image, or the SageMaker instance, that serves it: backends, names, flags. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.triton import CATALOGUE, Image, changes, find_gpu_family, has_unsupported_gpu
from tritonforge.triton.backends import BACKENDS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.backend_files import explain_missing_backend
from tritonforge.validation.rules.tensors import count_bounded

# fmt: off
E601 = define_error("E601", "unable to find backend library for backend 'tensorflow', try specifying runtime on the "
                            "model configuration.",
    source="server/build.py enable_all (r25.03 and later; server PR 8068); core backend_model.cc ResolveBackendPaths",
    why="Triton 25.02 is the last release with a TensorFlow backend, 24.09 the last such image on SageMaker.",
    bad='platform: "tensorflow_savedmodel"   --image 25.04',
    good="tritonforge package REPO --image 25.04 --tensorflow onnx\ntritonforge package REPO --image 25.04 "
         "--tensorflow python-backend   (the image: 25.04+tensorflow)")
E602 = define_error("E602", "unable to find backend library for backend '<b>', try specifying runtime on the model "
                            "configuration.",
    source="server/build.py enable_all; core backend_model.cc ResolveBackendPaths",
    why="The image carries a fixed set of backends; others must be added to it, or lie beside the model as "
        "libtriton_<backend>.so.",
    bad='backend: "vllm"   --image 24.09', good='backend: "python"   --image 24.09')
E605 = define_error("E605", "the image needs GPUs of compute capability 7.5 or later, the instance type has older ones",
    refused_by=None, source="NVIDIA's release notes of Triton 25.03 and later (V100 = ml.p3 is not supported)",
    why="The libraries of newer images no longer have code for GPUs before Turing.",
    bad="--image 25.04   ml.p3.2xlarge", good="--image 25.04   ml.g4dn.xlarge")
E612 = define_error("E612", "tritonserver: unrecognized option '--model-config-name=<name>'",
    source=changes.CONFIG_NAME.source,
    why="The flag came with 24.05; an older server prints its usage and ends.",
    bad="--model-config-name=fast   --image 24.04", good="--model-config-name=fast   --image 24.05")
W346 = define_advice("W346", "the load API of the image's server refuses the model's name",
    source=f"{changes.MODEL_NAMES.source}; {changes.MODEL_NAMES_WITH_DOTS.source}",
    why="A model with this name loads at the start and cannot be loaded again later: POST "
        "/v2/repository/models/<m>/load answers 400.",
    bad="a..b/config.pbtxt   --image 26.03", good="a.b/config.pbtxt   --image 26.03")
W347 = define_advice("W347", "the image's release is provisional here",
    source="release notes; tritonforge.triton.releases PROVISIONAL",
    why="No release branch was read: what the image holds is as its release notes state, and its server is taken to "
        "behave as the release before.",
    bad="--image 26.09", good="--image 26.08")
W603 = define_advice("W603", "max_inflight_requests limits each request of the ensemble on its own",
    source=changes.INFLIGHT_OF_A_REQUEST.source,
    why="Until 26.03 every request has a counter of its own, so that the memory in use grows with the number of "
        "requests. From 26.04 on the limit is shared by all requests.",
    bad="ensemble_scheduling { max_inflight_requests: 4 }   --image 26.03",
    good="ensemble_scheduling { max_inflight_requests: 4 }   --image 26.04")
W604 = define_advice("W604", "classification output tensor too large",
    source=changes.CLASSIFICATION_SIZE.source,
    why="The labels of an output serve a classification, which the servers of later images refuse for more than "
        "1 000 000 elements.",
    bad='output { name: "B" dims: [1, 1024, 1024] label_filename: "labels.txt" }   --image 26.02',
    good='output { name: "B" dims: [1000] label_filename: "labels.txt" }   --image 26.02')
W601 = define_advice("W601", "AWS publishes no SageMaker image of this Triton release",
    source="image table of the SageMaker SDK (sagemaker-core 2.27.0); aws/deep-learning-containers",
    why="NVIDIA's own image runs on SageMaker too, but it must be copied into an ECR repository of yours.",
    bad="--target sagemaker --image 24.10", good="--target sagemaker --image 24.09")
W602 = define_advice("W602", "the image is for the CPU, the instance type has GPUs",
    source="aws/deep-learning-containers: only the CPU image's tag has a suffix",
    why="The CPU image does not see the GPUs that the instance is paid for.",
    bad="--image 24.09-py3-cpu   ml.g5.xlarge", good="--image 24.09-py3   ml.g5.xlarge")
# fmt: on

#: Source: server classification.cc `TopkClassifications`, kMaxClassificationElements.
_MAXIMAL_CLASSES: Final = 1_000_000


@register_check(Stage.LOADED, W601, W347)
def check_release(context: Context) -> Iterator[Finding]:
    """Check that AWS publishes the image where SageMaker is the target, and that its release was read."""
    image = context.image
    if image is None:
        return
    if context.options.target == "sagemaker" and not image.sagemaker:
        name = f"image {image.tag}" if image.variant else f"image of Triton {image.release}"
        yield W601.report(
            f"AWS publishes no SageMaker {name}",
            path="",
            help="choose a release that AWS publishes, or copy NVIDIA's image into your registry",
        )
    if image.provisional and context.options.image is not None:
        last = max(release for release, row in CATALOGUE.items() if not row.provisional)
        yield W347.report(
            f"Triton {image.triton} ({image.release}) is provisional here: no release branch was read, so the verdict "
            f"is that of {last}",
            path="",
        )


@register_check(Stage.LOADED, E605, W602)
def check_instance(context: Context) -> Iterator[Finding]:
    """Check the image on the SageMaker instance type that it is to run on."""
    image, instance_type = context.image, context.options.instance_type
    if image is None or instance_type is None:
        return
    if has_unsupported_gpu(image, instance_type):
        yield E605.report(
            f"Triton {image.release} needs GPUs of compute capability {image.min_compute_capability} or later, "
            f"{instance_type} has older ones",
            path="",
            help="choose g4dn, g5 or later, or an image up to 24.10",
        )
    if image.cpu and find_gpu_family(instance_type) is not None:
        yield W602.report(
            f"image {image.tag} is for the CPU, {instance_type} has GPUs",
            path="",
            help=f"use {image.release}-py3, or an instance without GPUs",
        )


@register_check(Stage.LOADED, E612, W346)
def check_server(context: Context) -> Iterator[Finding]:
    """Check the server's flag, and that its load API accepts the names of the models."""
    if context.options.model_config_name and not context.has(changes.CONFIG_NAME):
        yield E612.report(
            f"tritonserver: unrecognized option '--model-config-name={context.options.model_config_name}'",
            path="",
            help=f"the flag came with {changes.CONFIG_NAME.first}",
        )
    with_dots, names = context.has(changes.MODEL_NAMES_WITH_DOTS), context.has(changes.MODEL_NAMES)
    for name in context.models if with_dots or names else ():
        is_blank = not name.strip(" \t\n\v\f\r")
        if is_blank or (with_dots and ".." in name):
            yield W346.report(
                f"the model '{name}' loads at the start, but the load API of Triton {context.release} refuses its name",
                path=name,
                help="rename it" if is_blank else "rename it, or use a later image",
            )


@register_check(Stage.LOADED, W603, W604)
def check_limits(context: Context) -> Iterator[Finding]:
    """Check what the server of the image limits in another way than later or earlier ones."""
    is_not_shared, is_bounded = context.has(changes.INFLIGHT_OF_A_REQUEST), context.has(changes.CLASSIFICATION_SIZE)
    for model in context.models.values() if is_not_shared or is_bounded else ():
        scheduling = model.document.message("ensemble_scheduling")
        if scheduling is not None and is_not_shared:
            limit = scheduling.integer("max_inflight_requests")
            if limit > 0:
                yield W603.report_in(
                    model,
                    f"max_inflight_requests of {model.name} holds for one request: requests that come together have "
                    f"{limit} in flight each",
                    scheduling.one("max_inflight_requests"),
                    "use image 26.04 or later, where all requests share it",
                )
        if is_bounded:
            for tensor in model.outputs:
                label, size = tensor.node.one("label_filename"), count_bounded(tensor.dims)
                if label is not None and size > _MAXIMAL_CLASSES:
                    yield W604.report_in(
                        model,
                        f"classification output tensor too large: '{tensor.name}' of {model.name} has {size} elements "
                        f"(expected at most {_MAXIMAL_CLASSES})",
                        label,
                    )


@register_check(Stage.LOADED, E601, E602)
def check_image_backends(context: Context) -> Iterator[Finding]:
    """Check that the image has the backends of the models."""
    image = context.image
    if image is not None:
        for model in context.models.values():
            if model.parsed:
                yield from _check_backend(context, model, image)


def _check_backend(context: Context, model: ModelView, image: Image) -> Iterator[Finding]:
    backend = model.backend
    if not backend or model.is_ensemble or backend in image.backends or model.document.text("runtime"):
        return
    if not model.versions or (backend not in BACKENDS and backend not in CATALOGUE[image.release].backends):
        return  # E113
    library = f"libtriton_{backend}.so"
    folders = [model.name, *(f"{model.name}/{version}" for version in model.versions)]
    if any(context.tree.is_file(f"{folder}/{library}") for folder in folders):
        return
    rule, advice = E602, f"the image has: {', '.join(sorted(image.backends))}"
    if image.variant and backend in CATALOGUE[image.release].backends:
        advice = f"{image.tag} has: {', '.join(sorted(image.backends))}; take {image.release}-py3, which has it"
    elif backend == "tensorflow":
        rule, advice = E601, _suggest_commands(image)
    yield rule.report(
        explain_missing_backend(context, model),
        path=model.config_or_directory,
        node=model.place(model.document.one("backend"), model.document.one("platform")) if model.has_config else None,
        help=f"Triton {image.triton} ({image.tag if image.variant else image.release}) has no {backend} backend: "
        + advice,
    )


def _suggest_commands(image: Image) -> str:
    """Return the commands that bring a TensorFlow model to an image without TensorFlow."""
    release = image.tag if image.cpu else image.release
    package = f"tritonforge package REPO --image {release} --tensorflow"
    return (
        f"run {package} onnx, which converts the model and compares it with the original, or {package} python-backend, "
        "for an image of yours with tritonforge's TensorFlow backend (the Dockerfile's stage sagemaker-tensorflow)"
    )
