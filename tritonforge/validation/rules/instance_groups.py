"""Instance groups of a model, and the labels of its metrics. No I/O.

Source: model_config_utils.cc NormalizeInstanceGroup, ValidateInstanceGroup, GetProfileIndex. What depends on the host's
GPUs is checked only where their number is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Message
from tritonforge.triton import changes
from tritonforge.triton.backends import BACKENDS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check

_GROUP: Final = "model_config_utils.cc ValidateInstanceGroup"

# fmt: off
E260 = define_error("E260", "instance group <g> of model <m> has kind KIND_CPU but specifies one or more GPUs",
    source=_GROUP,
    why="Only KIND_GPU takes gpus; KIND_AUTO becomes KIND_CPU on a host without them.",
    bad="instance_group [{ kind: KIND_CPU gpus: [0] }]", good="instance_group [{ kind: KIND_GPU gpus: [0] }]")
E261 = define_error("E261", "instance group <g> of model <m> has kind KIND_GPU but no GPUs are available",
    source=_GROUP,
    why="The host has no GPU.",
    bad="instance_group [{ kind: KIND_GPU }]", good="instance_group [{ kind: KIND_AUTO }]")
E262 = define_error("E262", "instance group <g> of model <m> specifies invalid or unsupported gpu id <i>.",
    source=_GROUP,
    why="The host has fewer GPUs.",
    bad="gpus: [8]", good="gpus: [0]")
E263 = define_error("E263", "instance group <g> of model <m> and platform <p>specifies profile field which is only "
                            "supported for TensorRT models",
    source=_GROUP,
    why="Optimisation profiles are TensorRT's.",
    bad='platform: "onnxruntime_onnx" instance_group [{ profile: ["0"] }]',
    good='platform: "tensorrt_plan" instance_group [{ profile: ["0"] }]')
E264 = define_error("E264", "unable to parse '<profile>': stoi",
    source="model_config_utils.cc GetProfileIndex",
    why="A profile is the number of one, as text.",
    bad='profile: ["fast"]', good='profile: ["0"]')
E265 = define_error("E265", "the profile's number overflows: the server's process dies",
    source="model_config_utils.cc GetProfileIndex (an uncaught std::out_of_range of stoi)",
    why="Triton converts it to a 32-bit integer and aborts; every model goes down with it.",
    bad='profile: ["99999999999"]', good='profile: ["0"]')
E266 = define_error("E266", "instance group <g> of model <m> has unexpected kind KIND_AUTO",
    source=_GROUP,
    why="The kind is a number that the enum does not have.",
    bad="kind: 9", good="kind: KIND_CPU")
E294 = define_error("E294", "the metric tag's name is not a label of Prometheus: the server's process dies",
    source="metric_model_reporter.cc GetMetricLabels (an uncaught std::invalid_argument of prometheus-cpp)",
    why="Tags become labels with an underscore before them: letters, digits and underscores, and no underscore first.",
    bad='metric_tags { key: "a-b" value: "c" }', good='metric_tags { key: "a_b" value: "c" }')
E296 = define_error("E296", "unknown Execution Accelerator '<name>' is requested",
    source="onnxruntime_backend onnxruntime.cc ModelState::LoadModel",
    why="ONNX Runtime on the CPU has one accelerator; those of the GPU are listed in gpu_execution_accelerator.",
    bad='cpu_execution_accelerator [{ name: "tensorrt" }]', good='cpu_execution_accelerator [{ name: "openvino" }]')
E604 = define_error("E604", "instance group <g> of model <m> has kind KIND_GPU but server does not support GPUs",
    source="core model_config_utils.cc ValidateInstanceGroup",
    why="The images whose tag ends in -cpu serve on the CPU.",
    bad="instance_group { kind: KIND_GPU }   --image 24.09-py3-cpu",
    good="instance_group { kind: KIND_CPU }   --image 24.09-py3-cpu")
W311 = define_advice("W311", "gpus without a kind: a host without these GPUs refuses the model",
    source="model_config_utils.cc NormalizeInstanceGroup: KIND_AUTO becomes KIND_CPU and keeps gpus",
    why="On a host without one of these GPUs the group becomes KIND_CPU, which may not have gpus.",
    bad="instance_group [{ gpus: [0] }]", good="instance_group [{ kind: KIND_GPU gpus: [0] }]")
# fmt: on

#: What C's stoi takes from the front of a text.
_STOI: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
#: What follows the underscore of a label (prometheus-cpp CheckLabelName takes no name that begins with two).
_TAG: Final = re.compile(r"(?!_)[A-Za-z0-9_]*", re.ASCII)


@register_check(Stage.INSTANCES, E260, E261, E262, E263, E264, E265, E266)
def check_instance_groups(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the instance groups; an ensemble has none."""
    if model.is_ensemble:
        return
    for index, group in enumerate(model.document.messages("instance_group")):
        name = group.text("name") or f"{model.name}_{index}"
        yield from _check_kind(context, model, group, f"instance group {name} of model {model.name}")
        yield from _check_profiles(context, model, group, f"instance group {name} of model {model.name}")


def _check_kind(context: Context, model: ModelView, group: Message, prefix: str) -> Iterator[Finding]:
    kind, gpus = group.text("kind", "KIND_AUTO"), group.integers("gpus")
    node = group.one("kind") or group
    if kind == "KIND_AUTO" and any(gpu < 0 for gpu in gpus):
        kind = "KIND_CPU"
    elif kind == "KIND_AUTO" and context.options.gpus is not None:
        kind = (
            "KIND_GPU" if context.options.gpus and all(0 <= gpu < context.options.gpus for gpu in gpus) else "KIND_CPU"
        )
    if kind in ("KIND_CPU", "KIND_MODEL"):
        if gpus:
            message = f"{prefix} has kind {kind} but specifies one or more GPUs"
            advice = "leave gpus out, or write kind: KIND_GPU"
            yield E260.report_in(model, message, group.one("gpus"), advice)
    elif kind == "KIND_GPU":
        if context.options.gpus == 0 and not gpus:
            yield E261.report_in(model, f"{prefix} has kind KIND_GPU but no GPUs are available", node)
        capability = "6.000000" if context.has(changes.PASCAL) else "7.500000"
        for gpu in group.get("gpus"):
            number = int(str(gpu.value))
            if number < 0 or (context.options.gpus is not None and number >= context.options.gpus):
                listed = ", ".join(map(str, range(context.options.gpus or 0)))
                message = (
                    f"{prefix} specifies invalid or unsupported gpu id {gpu.value}. GPUs with at least the minimum "
                    f"required CUDA compute compatibility of {capability} are: {listed}"
                )
                yield E262.report_in(model, message, gpu)
                break
    elif kind != "KIND_AUTO":
        yield E266.report_in(model, f"{prefix} has unexpected kind KIND_AUTO", node)


def _check_profiles(context: Context, model: ModelView, group: Message, prefix: str) -> Iterator[Finding]:
    profiles = group.get("profile")
    if profiles and model.platform != BACKENDS["tensorrt"].platform:
        message = (
            f"{prefix} and platform {model.platform}specifies profile field which is only supported for TensorRT models"
        )
        yield E263.report_in(model, message, profiles[0])
        return
    for profile in profiles:
        text = str(profile.value)
        number = _STOI.match(text)
        if not text:
            yield E264.report_in(model, "profile name must not be empty", profile)
        elif number is None:
            advice = "write the profile's number as text"
            yield E264.report_in(model, f"unable to parse '{text}': stoi", profile, advice)
        elif len(number.group(1)) > 20 or not -(2**31) <= int(number.group(1)) < 2**31:
            message = f"the profile '{text}' does not fit into 32 bits"
            yield E265.report_in(
                model, message, profile, f"{_describe_exception(context)}write the profile's number as text"
            )
        elif int(number.group(1)) < 0:
            message = (
                f"{prefix} and platform {model.platform} specifies invalid profile {text}. The field should contain "
                "the string representation of a non-negative integer."
            )
            yield E264.report_in(model, message, profile)


@register_check(Stage.INSTANCES, E294)
def check_metric_tags(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the names of the metric tags, which become labels when a version is loaded."""
    for name, entry in model.document.entries("metric_tags").items():
        if not _TAG.fullmatch(name) and model.versions:
            message = f"the metric tag '{name}' cannot be a label of Prometheus: Invalid label name"
            yield E294.report_in(
                model, message, entry.one("key") or entry, f"{_describe_exception(context)}rename the tag"
            )


def _describe_exception(context: Context) -> str:
    """Return what an exception means beyond the model, to begin a help with; "" where the server catches it."""
    return "" if context.has(changes.EXCEPTIONS_CAUGHT) else "the server's process dies, so no model is served; "


@register_check(Stage.LOADED, E604, W311)
def check_gpus(context: Context) -> Iterator[Finding]:
    """Find groups for GPUs on an image without them, and groups whose kind depends on the host's unknown GPUs."""
    if context.options.gpus is not None:
        return
    for model in context.models.values():
        for group in model.document.messages("instance_group") if model.parsed else ():
            kind, name = group.text("kind", "KIND_AUTO"), group.text("name") or f"{model.name}_{group.index}"
            if kind == "KIND_GPU" and context.image is not None and context.image.cpu:
                yield E604.report(
                    f"instance group {name} of model {model.name} has kind KIND_GPU but server does not support GPUs",
                    path=model.config_path,
                    node=group.one("kind"),
                    help=f"use KIND_CPU or leave the kind out, or the image {context.image.release}-py3",
                )
            elif kind == "KIND_AUTO" and group.get("gpus"):
                message = "this instance group has gpus and no kind: a host without these GPUs refuses the model"
                yield W311.report(message, path=model.config_path, node=group.one("gpus"), help="write kind: KIND_GPU")


@register_check(Stage.INSTANCES, E296)
def check_accelerators(_: Context, model: ModelView) -> Iterator[Finding]:
    """Check the accelerators that the ONNX Runtime backend is to use on the CPU; those of the GPU are many."""
    if model.backend != "onnxruntime" or model.document.text("runtime") not in ("", "libtriton_onnxruntime.so"):
        return
    optimization = model.document.message("optimization")
    accelerators = optimization.message("execution_accelerators") if optimization is not None else None
    for accelerator in accelerators.messages("cpu_execution_accelerator") if accelerators is not None else ():
        name = accelerator.text("name")
        if name != "openvino":
            message = f"unknown Execution Accelerator '{name}' is requested"
            yield E296.report_in(model, message, accelerator.one("name") or accelerator, 'the only one is "openvino"')
