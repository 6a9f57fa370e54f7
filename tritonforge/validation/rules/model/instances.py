"""Instance groups of a model, and the labels of its metrics. No I/O.

Source: model_config_utils.cc NormalizeInstanceGroup, ValidateInstanceGroup, GetProfileIndex. What
depends on the host's GPUs is judged only where their number is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Message
from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.model.report import report

__all__ = ["check", "metric_tags"]

#: What C's stoi takes from the front of a text.
_STOI: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
#: What follows the underscore of a label (prometheus-cpp CheckLabelName takes no name that begins with two).
_TAG: Final = re.compile(r"(?!_)[A-Za-z0-9_]*", re.ASCII)


def check(context: Context, view: ModelView) -> Iterator[Finding]:
    """The findings of the instance groups; an ensemble has none."""
    if view.is_ensemble:
        return
    for index, group in enumerate(view.document.messages("instance_group")):
        name = group.text("name") or f"{view.name}_{index}"
        yield from _kind(context, view, group, f"instance group {name} of model {view.name}")
        yield from _profiles(context, view, group, f"instance group {name} of model {view.name}")


def _kind(context: Context, view: ModelView, group: Message, prefix: str) -> Iterator[Finding]:
    kind, gpus = group.text("kind", "KIND_AUTO"), group.integers("gpus")
    node = group.one("kind") or group
    if kind == "KIND_AUTO" and any(gpu < 0 for gpu in gpus):
        kind = "KIND_CPU"
    elif kind == "KIND_AUTO" and context.gpus is not None:
        kind = "KIND_GPU" if context.gpus and all(0 <= gpu < context.gpus for gpu in gpus) else "KIND_CPU"
    if kind in ("KIND_CPU", "KIND_MODEL"):
        if gpus:
            words = f"{prefix} has kind {kind} but specifies one or more GPUs"
            help_ = "leave gpus out, or write kind: KIND_GPU"
            yield report(view, "E260", words, group.one("gpus"), help_)
    elif kind == "KIND_GPU":
        if context.gpus == 0 and not gpus:
            yield report(view, "E261", f"{prefix} has kind KIND_GPU but no GPUs are available", node)
        capability = "6.000000" if context.has(changes.PASCAL) else "7.500000"
        for gpu in group.get("gpus"):
            number = int(str(gpu.value))
            if number < 0 or (context.gpus is not None and number >= context.gpus):
                listed = ", ".join(map(str, range(context.gpus or 0)))
                words = (
                    f"{prefix} specifies invalid or unsupported gpu id {gpu.value}. GPUs with at least the minimum "
                    f"required CUDA compute compatibility of {capability} are: {listed}"
                )
                yield report(view, "E262", words, gpu)
                break
    elif kind != "KIND_AUTO":
        yield report(view, "E266", f"{prefix} has unexpected kind KIND_AUTO", node)


def _profiles(context: Context, view: ModelView, group: Message, prefix: str) -> Iterator[Finding]:
    profiles = group.get("profile")
    if profiles and view.platform != "tensorrt_plan":
        words = (
            f"{prefix} and platform {view.platform}specifies profile field which is only supported for TensorRT models"
        )
        yield report(view, "E263", words, profiles[0])
        return
    for profile in profiles:
        text = str(profile.value)
        found = _STOI.match(text)
        if not text:
            yield report(view, "E264", "profile name must not be empty", profile)
        elif found is None:
            help_ = "write the profile's number as text"
            yield report(view, "E264", f"unable to parse '{text}': stoi", profile, help_)
        elif len(found.group(1)) > 20 or not -(2**31) <= int(found.group(1)) < 2**31:
            words = f"the profile '{text}' does not fit into 32 bits"
            yield report(view, "E265", words, profile, f"{_fatal(context)}write the profile's number as text")
        elif int(found.group(1)) < 0:
            words = (
                f"{prefix} and platform {view.platform} specifies invalid profile {text}. The field should contain the "
                "string representation of a non-negative integer."
            )
            yield report(view, "E264", words, profile)


def metric_tags(context: Context, view: ModelView) -> Iterator[Finding]:
    """The names of the metric tags, which become labels when a version is loaded."""
    for name, entry in view.document.entries("metric_tags").items():
        if not _TAG.fullmatch(name) and view.versions:
            words = f"the metric tag '{name}' is no name for a label of Prometheus: Invalid label name"
            yield report(view, "E294", words, entry.one("key") or entry, f"{_fatal(context)}rename the tag")


def _fatal(context: Context) -> str:
    """What an exception means beyond the model, before the advice: nothing where the server catches it."""
    return "" if context.has(changes.EXCEPTIONS_CAUGHT) else "the server's process dies, so no model is served; "
