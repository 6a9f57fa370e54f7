"""What SageMaker itself writes of a transform job: the lines of its data-log, and its captured data. No I/O.

The form of the lines is that of the logs quoted in aws/amazon-sagemaker-examples issue 1620 and
aws/sagemaker-tensorflow-serving-container issue 93; the names of the streams are those of the developer guide, "Log
Amazon SageMaker Events with Amazon CloudWatch"; captured data are manifests, as "Capture data from batch transform job"
of that guide has them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence

from tritonforge.transform.outcomes import Failure
from tritonforge.transform.precedence import Effective

__all__ = ["captured", "failed", "settings", "stream"]

_MB = 2**20


def stream(job: str, instance: str, began: float) -> str:
    """The log stream of an instance's container; that of its data-log is ``/data-log`` behind it.

    >>> stream("seed-0", "i-0a1b", 1700000000.5)
    'seed-0/i-0a1b-1700000000'
    """
    return f"{job}/{instance}-{int(began)}"


def settings(effective: Effective, now: dt.datetime) -> str:
    """The line that a job begins with: the values that it runs with."""
    strategy = "SINGLE_RECORD" if effective.strategy == "SingleRecord" else "MULTI_RECORD"
    payload = 0 if effective.chunked else effective.max_payload // _MB
    return _line(
        f"MaxConcurrentTransforms={effective.max_concurrent}, MaxPayloadInMB={payload}, BatchStrategy={strategy}", now
    )


def failed(failure: Failure, now: dt.datetime) -> Iterator[str]:
    """The lines of an object that has no output; the record is told besides what AWS tells."""
    name = failure.uri.removeprefix("s3://")
    where = "" if failure.record is None else f"record {failure.record}: "
    first, *rest = failure.reason.splitlines() or [""]
    yield _line(f"{name}: {where}{first}", now)
    for each in rest:
        yield _line(f"{name}: {each}", now)


def _line(text: str, now: dt.datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}:[sagemaker logs]: {text}"


def captured(uris: Sequence[str], *, destination: str, kind: str, name: str, now: dt.datetime) -> tuple[str, bytes]:
    """The manifest of a job's inputs or outputs (``kind`` "input", "output"): its address and its content.

    >>> import datetime as dt
    >>> captured(["s3://b/in/a", "s3://b/in/c/d"], destination="s3://k", kind="input", name="n",
    ...          now=dt.datetime(2026, 1, 2, 3))
    ('s3://k/input/2026/01/02/03/n.jsonl', b'[{"prefix": "s3://b/in/"}, "a", "c/d"]')
    """
    prefix = _common(uris)
    document = [{"prefix": prefix}, *(uri.removeprefix(prefix) for uri in uris)]
    return f"{destination.rstrip('/')}/{kind}/{now:%Y/%m/%d/%H}/{name}.jsonl", json.dumps(document).encode()


def _common(uris: Sequence[str]) -> str:
    """The folder that all addresses have in common."""
    first, last = min(uris), max(uris)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:length].rfind("/") + 1]
