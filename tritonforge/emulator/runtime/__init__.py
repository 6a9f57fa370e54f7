"""SageMaker's runtime: InvokeEndpoint, InvokeEndpointAsync, InvokeEndpointWithResponseStream.

`Runtime` answers `requests.Request` with `requests.Response` from any thread; it asks for a `requests.LiveEndpoint` at
every request, so that a change of weights or variants takes effect with the next one.
"""

from __future__ import annotations

from tritonforge.emulator.runtime.runtime import Runtime

__all__ = ["Runtime"]
