"""One inference at a container, for synchronous and asynchronous requests alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tritonforge.emulator.hosting.definitions import ContainerGoneError, ContainerTimeoutError, TargetModelError
from tritonforge.emulator.requests import Answer, Container, Response
from tritonforge.emulator.runtime import refusals

__all__ = ["CUSTOM_ATTRIBUTES", "ask"]

CUSTOM_ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"


def ask(
    container: Container, body: bytes, headers: Mapping[str, str], *, target_model: str, timeout: float
) -> Answer | Response:
    """The container's answer, errors of its own included; a Response where SageMaker itself refuses.

    ``headers`` are those that SageMaker passes on.
    """
    try:
        if target_model:
            return container.invoke_model(target_model, body, headers, timeout=timeout)
        return container.invoke(body, headers, timeout=timeout)
    except ContainerTimeoutError as error:
        return refusals.timed_out(error.container)
    except TimeoutError:
        return refusals.timed_out()
    except TargetModelError as error:
        return refusals.refused(str(error), code=error.code, status=error.status)
    except ContainerGoneError as error:
        if error.in_flight:
            sentence = f"The connection to container {error.container} was closed before it answered."
            return Answer(0, {}, sentence.encode(), error.container)
        # AWS's sentence while no instance of a variant is healthy, as quoted in public forums.
        return refusals.refused(
            "A transient exception occurred while retrieving variant instances. Please try again later.",
            code="ServiceUnavailable",
            status=503,
        )
