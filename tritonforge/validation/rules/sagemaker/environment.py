"""The environment of a SageMaker Triton container: `CreateModel`'s limits, and what the `serve` script makes of it.

`check_environment` is for whoever knows the environment; a repository alone does not hold it. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge.triton import Image
from tritonforge.triton.changes import SERVE_VARIABLES
from tritonforge.triton.service_limits import ENVIRONMENT_ENTRIES, ENVIRONMENT_KEY, ENVIRONMENT_SIZE, ENVIRONMENT_VALUE
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule

__all__ = ["RULES", "check_environment"]

_SERVE: Final = "triton-inference-server/server docker/sagemaker/serve"
_CREATE_MODEL: Final = "SageMaker API, CreateModel: ContainerDefinition.Environment"

_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")

TOO_MANY: Final = Rule(
    code="E406",
    severity="error",
    refused_by="sagemaker",
    summary="the environment has more than 100 variables, or more than 32 KB in all",
    source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="101 variables",
    good="100 variables",
)
KEY: Final = Rule(
    code="E407",
    severity="error",
    refused_by="sagemaker",
    summary="the variable's name is longer than 1024 or does not match [a-zA-Z_][a-zA-Z0-9_]*",
    source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="SAGEMAKER-TRITON-LOG-INFO=1",
    good="SAGEMAKER_TRITON_LOG_INFO=1",
)
VALUE: Final = Rule(
    code="E408",
    severity="error",
    refused_by="sagemaker",
    summary="the variable's value is longer than 1024",
    source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="SAGEMAKER_TRITON_ADDITIONAL_ARGS=<1025 characters>",
    good="SAGEMAKER_TRITON_ADDITIONAL_ARGS=<1024 characters>",
)
INFERENCE_TYPE: Final = Rule(
    code="E409",
    severity="error",
    refused_by="sagemaker",
    summary="Invalid SAGEMAKER_TRITON_INFERENCE_TYPE '<x>' Must be one of: infer, generate, generate_stream",
    source=_SERVE,
    why="The script ends when the variable has another value.",
    bad="SAGEMAKER_TRITON_INFERENCE_TYPE=stream",
    good="SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream",
)
MULTI_MODEL: Final = Rule(
    code="W406",
    severity="warning",
    refused_by=None,
    summary="SAGEMAKER_MULTI_MODEL is not exactly 'true': serve starts a single model",
    source=_SERVE,
    why="The script compares the value with 'true'; 'True' and '1' start the single-model mode without a word.",
    bad="SAGEMAKER_MULTI_MODEL=True",
    good="SAGEMAKER_MULTI_MODEL=true",
)
NAMESPACING: Final = Rule(
    code="W407",
    severity="warning",
    refused_by=None,
    summary="SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=true leaves namespacing on",
    source=_SERVE,
    why="The value is handed to --model-namespacing as it is, so 'false' disables it and 'true' does not.",
    bad="SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=true",
    good="SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=false",
)
IGNORED: Final = Rule(
    code="W408",
    severity="warning",
    refused_by=None,
    summary="the serve script of the image does not read the variable yet",
    source=_SERVE,
    why="Older scripts ignore variables that later ones read.",
    bad="SAGEMAKER_TRITON_INFERENCE_TYPE=generate   --image 24.09",
    good="SAGEMAKER_TRITON_INFERENCE_TYPE=generate   --image 25.04",
)

RULES: Final = (TOO_MANY, KEY, VALUE, INFERENCE_TYPE, MULTI_MODEL, NAMESPACING, IGNORED)


def check_environment(environment: Mapping[str, str], *, image: Image | None = None) -> Iterator[Finding]:
    """What SageMaker and the image's serve script would say of a container's environment; without I/O.

    SAGEMAKER_TRITON_DEFAULT_MODEL_NAME is judged with the repository (`Context.load`).
    """
    size = sum(len(key) + len(value) for key, value in environment.items())
    if len(environment) > ENVIRONMENT_ENTRIES.value or size > ENVIRONMENT_SIZE.value:
        yield TOO_MANY.finding(
            f"the environment has {len(environment)} variables of {size} characters: at most 100 and 32 KB are allowed",
            path="",
            field="Environment",
        )
    for key, value in sorted(environment.items()):
        field = f"Environment.{key[: ENVIRONMENT_KEY.value]}"
        if not _KEY.fullmatch(key) or len(key) > ENVIRONMENT_KEY.value:
            yield KEY.finding(KEY.summary, path="", field=field, help="use letters, digits and '_'")
        if len(value) > ENVIRONMENT_VALUE.value:
            yield VALUE.finding(
                f"the value of {key} has {len(value)} characters: 1024 are allowed", path="", field=field
            )
        yield from _meaning(key, value, image, field)


def _meaning(key: str, value: str, image: Image | None, field: str) -> Iterator[Finding]:
    known = SERVE_VARIABLES.get(key)
    if image is not None and known is not None and not known.applies_to(image.release):
        yield IGNORED.finding(
            f"the serve script of Triton {image.release} does not read {key}: it is known from {known.first} on",
            path="",
            field=field,
        )
    elif key == "SAGEMAKER_TRITON_INFERENCE_TYPE" and value and value not in _INFERENCE_TYPES:
        yield INFERENCE_TYPE.finding(
            f"Invalid SAGEMAKER_TRITON_INFERENCE_TYPE '{value}' Must be one of: {', '.join(_INFERENCE_TYPES)}",
            path="",
            field=field,
        )
    elif key == "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING" and value == "true":
        yield NAMESPACING.finding(NAMESPACING.summary, path="", field=field, help="to disable it, set it to false")
    if key == "SAGEMAKER_MULTI_MODEL" and value not in ("", "true", "false"):
        yield MULTI_MODEL.finding(
            f"SAGEMAKER_MULTI_MODEL is {value!r} and not 'true': serve starts a single model",
            path="",
            field=field,
            help="set it to true",
        )
