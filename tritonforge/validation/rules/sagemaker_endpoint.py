"""A SageMaker endpoint: the environment of its container, and an archive on a multi-model endpoint. No I/O.

The rules about multi-model endpoints are advice: a single-model endpoint takes the same archive without complaint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.triton import Image
from tritonforge.triton.changes import SERVE_VARIABLES
from tritonforge.triton.service_limits import ENVIRONMENT_ENTRIES, ENVIRONMENT_KEY, ENVIRONMENT_SIZE, ENVIRONMENT_VALUE
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check

_CREATE_MODEL: Final = "SageMaker API, CreateModel: ContainerDefinition.Environment"
_SERVE: Final = "triton-inference-server/server docker/sagemaker/serve"
_SOURCE: Final = "server/src/sagemaker_server.cc, the model of a repository that POST /models registers"

# fmt: off
E406 = define_error("E406", "the environment has more than 100 variables, or more than 32 KB in all",
    refused_by="sagemaker", source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="101 variables", good="100 variables")
E407 = define_error("E407", "the variable's name is longer than 1024 or does not match [a-zA-Z_][a-zA-Z0-9_]*",
    refused_by="sagemaker", source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="SAGEMAKER-TRITON-LOG-INFO=1", good="SAGEMAKER_TRITON_LOG_INFO=1")
E408 = define_error("E408", "the variable's value is longer than 1024",
    refused_by="sagemaker", source=_CREATE_MODEL,
    why="CreateModel refuses such a request; boto3 does not check it before.",
    bad="SAGEMAKER_TRITON_ADDITIONAL_ARGS=<1025 characters>", good="SAGEMAKER_TRITON_ADDITIONAL_ARGS=<1024 characters>")
E409 = define_error("E409", "Invalid SAGEMAKER_TRITON_INFERENCE_TYPE '<x>' Must be one of: infer, generate, "
                            "generate_stream",
    refused_by="sagemaker", source=_SERVE,
    why="The script ends when the variable has another value.",
    bad="SAGEMAKER_TRITON_INFERENCE_TYPE=stream", good="SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream")
W406 = define_advice("W406", "SAGEMAKER_MULTI_MODEL is not exactly 'true': serve starts a single model",
    source=_SERVE,
    why="The script compares the value with 'true'; 'True' and '1' start the single-model mode without a word.",
    bad="SAGEMAKER_MULTI_MODEL=True", good="SAGEMAKER_MULTI_MODEL=true")
W407 = define_advice("W407", "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=true leaves namespacing on",
    source=_SERVE,
    why="The value is handed to --model-namespacing as it is, so 'false' disables it and 'true' does not.",
    bad="SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=true", good="SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING=false")
W408 = define_advice("W408", "the serve script of the image does not read the variable yet",
    source=_SERVE,
    why="Older scripts ignore variables that later ones read.",
    bad="SAGEMAKER_TRITON_INFERENCE_TYPE=generate   --image 24.09",
    good="SAGEMAKER_TRITON_INFERENCE_TYPE=generate   --image 25.04")
W409 = define_advice("W409", 'a multi-model endpoint finds the ensemble only by the text platform: "ensemble"',
    source=_SOURCE,
    why="The front end searches the text of each config.pbtxt. A blank before the colon or single quotes are the "
        "same to Triton, but then the endpoint serves some other model of the archive.",
    bad="platform : 'ensemble'", good='platform: "ensemble"')
W410 = define_advice("W410", "a multi-model endpoint takes the model for an ensemble: its text has platform: "
                             '"ensemble"',
    source=_SOURCE,
    why="The front end searches the text, comments and strings too, and serves the model that it finds first.",
    bad='# not platform: "ensemble"', good="# not an ensemble")
W411 = define_advice("W411", "a multi-model endpoint serves one of several ensembles of an archive, which one is "
                             "not defined",
    source=_SOURCE,
    why="The front end takes the first ensemble in the order of the directory, which differs between file systems.",
    bad="ensemble_a/, ensemble_b/, classifier/", good="ensemble_a/, classifier/")
W412 = define_advice("W412", "multi-model endpoints refuse decoupled models",
    source=_SOURCE,
    why="A request of a multi-model endpoint has one response.",
    bad="model_transaction_policy { decoupled: true }", good="model_transaction_policy { decoupled: false }")
# fmt: on

#: The rules of the front end of multi-model endpoints.
MULTI_MODEL_RULES: Final = (W409, W410, W411, W412)

_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")
#: How the front end recognises the ensemble of an archive, in the text of each configuration.
_DETECTED: Final = re.compile(rb'platform:(\s)*"ensemble"')


@register_check(Stage.LOADED, E406, E407, E408)
@register_check(Stage.PACKAGE, E406, E407, E408)
def check_create_model(context: Context) -> Iterator[Finding]:
    """Check the container's environment against the limits of CreateModel."""
    environment = context.options.environment or {}
    size = sum(len(key) + len(value) for key, value in environment.items())
    if len(environment) > ENVIRONMENT_ENTRIES.value or size > ENVIRONMENT_SIZE.value:
        yield E406.report(
            f"the environment has {len(environment)} variables of {size} characters: at most 100 and 32 KB are allowed",
            path="",
            field="Environment",
        )
    for key, value in sorted(environment.items()):
        field = f"Environment.{key[: ENVIRONMENT_KEY.value]}"
        if not _KEY.fullmatch(key) or len(key) > ENVIRONMENT_KEY.value:
            yield E407.report(E407.sentence, path="", field=field, help="use letters, digits and '_'")
        if len(value) > ENVIRONMENT_VALUE.value:
            message = f"the value of {key} has {len(value)} characters: 1024 are allowed"
            yield E408.report(message, path="", field=field)


@register_check(Stage.LOADED, E409, W406, W407, W408)
def check_serve_variables(context: Context) -> Iterator[Finding]:
    """Check the values of the container's environment that the image's serve script reads."""
    for key, value in sorted((context.options.environment or {}).items()):
        yield from _check_variable(key, value, context.image, f"Environment.{key[: ENVIRONMENT_KEY.value]}")


def _check_variable(key: str, value: str, image: Image | None, field: str) -> Iterator[Finding]:
    known = SERVE_VARIABLES.get(key)
    if image is not None and known is not None and not known.applies_to(image.release):
        yield W408.report(
            f"the serve script of Triton {image.release} does not read {key}: it is known from {known.first} on",
            path="",
            field=field,
        )
    elif key == "SAGEMAKER_TRITON_INFERENCE_TYPE" and value and value not in _INFERENCE_TYPES:
        yield E409.report(
            f"Invalid SAGEMAKER_TRITON_INFERENCE_TYPE '{value}' Must be one of: {', '.join(_INFERENCE_TYPES)}",
            path="",
            field=field,
        )
    elif key == "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING" and value == "true":
        yield W407.report(W407.sentence, path="", field=field, help="to disable it, set it to false")
    if key == "SAGEMAKER_MULTI_MODEL" and value not in ("", "true", "false"):
        yield W406.report(
            f"SAGEMAKER_MULTI_MODEL is {value!r} and not 'true': serve starts a single model",
            path="",
            field=field,
            help="set it to true",
        )


@register_check(Stage.LOADED, *MULTI_MODEL_RULES)
def check_multi_model(context: Context) -> Iterator[Finding]:
    """Check which model a multi-model endpoint would serve."""
    if context.options.target != "sagemaker" or context.tree.is_file("config.pbtxt"):
        return
    detected = {
        name: is_detected_as_ensemble(context, model) for name, model in context.models.items() if model.has_config
    }
    alone = len(context.tree.subdirectories()) == 1
    for name, is_detected in detected.items():
        model = context.models[name]
        platform = model.document.one("platform")
        if model.is_ensemble and not is_detected and not alone:
            yield W409.report(
                W409.sentence,
                path=model.config_path,
                node=model.place(platform),
                help='write exactly: platform: "ensemble"',
            )
        if is_detected and not model.is_ensemble and model.parsed:
            yield W410.report(
                W410.sentence,
                path=model.config_path,
                node=model.place(platform),
                help="change the comment or the text that holds these words",
            )
        if model.decoupled:
            policy = model.document.one("model_transaction_policy")
            yield W412.report(W412.sentence, path=model.config_path, node=model.place(policy))
    ensembles = [name for name, is_detected in detected.items() if is_detected and context.models[name].is_ensemble]
    if len(ensembles) > 1:
        yield W411.report(
            f"a multi-model endpoint serves one of the ensembles {', '.join(ensembles[:20])}, which one is not defined",
            path="",
            help="give each ensemble an archive of its own",
        )


def is_detected_as_ensemble(context: Context, model: ModelView) -> bool:
    """Return True if Triton's front end takes the model for an ensemble: it searches the configuration's text."""
    entry = context.tree.entry(model.config_path)
    return entry is not None and entry.content is not None and _DETECTED.search(entry.content) is not None
