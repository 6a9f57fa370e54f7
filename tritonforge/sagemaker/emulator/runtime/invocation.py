"""One inference at a container, for synchronous and asynchronous requests alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tritonforge.sagemaker.emulator.hosting.definitions import ContainerGoneError, TargetModelError
from tritonforge.sagemaker.emulator.requests import Answer, LiveVariant, Response
from tritonforge.sagemaker.emulator.runtime import refusals

__all__ = ["CUSTOM_ATTRIBUTES", "ask"]

CUSTOM_ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"


def ask(
    variant: LiveVariant, body: bytes, headers: Mapping[str, str], *, target_model: str, timeout: float
) -> Answer | Response:
    """The container's answer, errors of its own included; a Response where SageMaker itself refuses.

    ``headers`` are those that SageMaker passes on.
    """
    try:
        if target_model:
            return variant.container.invoke_model(target_model, body, headers, timeout=timeout)
        return variant.container.invoke(body, headers, timeout=timeout)
    except TimeoutError:
        return refusals.timed_out()
    except TargetModelError as error:
        return refusals.refused(str(error), code=error.code, status=error.status)
    except ContainerGoneError as error:
        if error.in_flight:
            return Answer(0, {}, b"The connection to container primary was closed before it answered.")
        # AWS's sentence while no instance of a variant is healthy, as quoted in public forums.
        return refusals.refused(
            "A transient exception occurred while retrieving variant instances. Please try again later.",
            code="ServiceUnavailable",
            status=503,
        )
