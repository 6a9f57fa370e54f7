"""Batch transform on this machine: objects become records, records become requests, responses become outputs.

`run` takes a `TransformJob`, the stores of its input and output, and the client of the model; it returns an `Outcome`.
"""

from __future__ import annotations

from tritonforge.transform.engine import check, run
from tritonforge.transform.job import (
    DataCapture,
    DataProcessing,
    EffectiveSettings,
    ModelClientConfig,
    Resources,
    TransformInput,
    TransformJob,
    TransformOutput,
    build_container_environment,
    resolve_settings,
)
from tritonforge.transform.journal import JournalError, remove_progress
from tritonforge.transform.model_client import HttpModelClient, ModelClient, Reply, ServerLostError
from tritonforge.transform.object_store import LocalStore, ObjectStore, OutputNaming, StoredObject, StoreError
from tritonforge.transform.output_formats import OutputFormat
from tritonforge.transform.request_coalescer import RAW, RequestCoalescer
from tritonforge.transform.run_state import Failure, Outcome, Progress

__all__ = [
    "RAW",
    "DataCapture",
    "DataProcessing",
    "EffectiveSettings",
    "Failure",
    "HttpModelClient",
    "JournalError",
    "LocalStore",
    "ModelClient",
    "ModelClientConfig",
    "ObjectStore",
    "Outcome",
    "OutputFormat",
    "OutputNaming",
    "Progress",
    "Reply",
    "RequestCoalescer",
    "Resources",
    "ServerLostError",
    "StoreError",
    "StoredObject",
    "TransformInput",
    "TransformJob",
    "TransformOutput",
    "build_container_environment",
    "check",
    "remove_progress",
    "resolve_settings",
    "run",
]
