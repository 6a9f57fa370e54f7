"""Batch transform: objects become records, records requests, answers objects again; on this machine and for SageMaker.

`run` takes a `TransformJob`, places where objects are, and what carries requests to the model; it gives an `Outcome`.
"""

from __future__ import annotations

from tritonforge.transform.asker import Asker, HttpAsker, Reply, ServerLostError
from tritonforge.transform.engine import check, run
from tritonforge.transform.forms import Form
from tritonforge.transform.gathering import RAW, Gathering
from tritonforge.transform.job import (
    DataCapture,
    DataProcessing,
    ModelClient,
    Resources,
    TransformInput,
    TransformJob,
    TransformOutput,
)
from tritonforge.transform.journal import JournalError, forget
from tritonforge.transform.naming import Naming
from tritonforge.transform.outcomes import Failure, Outcome, Progress
from tritonforge.transform.places import Folders, Found, Place, PlaceError
from tritonforge.transform.precedence import Effective, container_environment, resolved

__all__ = [
    "RAW",
    "Asker",
    "DataCapture",
    "DataProcessing",
    "Effective",
    "Failure",
    "Folders",
    "Form",
    "Found",
    "Gathering",
    "HttpAsker",
    "JournalError",
    "ModelClient",
    "Naming",
    "Outcome",
    "Place",
    "PlaceError",
    "Progress",
    "Reply",
    "Resources",
    "ServerLostError",
    "TransformInput",
    "TransformJob",
    "TransformOutput",
    "check",
    "container_environment",
    "forget",
    "resolved",
    "run",
]
