"""Classic manifests: lists of objects without labels, checked, and joined with labels to augmented ones. No I/O.

What they list is read by `tritonforge.records.manifest`, as batch transform reads them. Source: botocore's model of
SageMaker, `S3DataSource.S3Uri`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tritonforge.errors import ManifestError
from tritonforge.records import Buffer
from tritonforge.records.manifest import manifest_elements, manifest_uris, shown
from tritonforge.training.manifest.checking import Problem, problem_of, reference_fault
from tritonforge.training.manifest.labelled import SOURCE
from tritonforge.training.manifest.line import Line
from tritonforge.training.manifest.values import Json

__all__ = ["augmented", "classic_problems", "classic_uris"]

_END: Final = object()


def classic_uris(chunks: Iterable[Buffer]) -> Iterator[str]:
    """The addresses that a classic manifest lists, as its text arrives. Raises ManifestError where it is none."""
    for uri, _ in manifest_uris(chunks):
        yield uri


def classic_problems(chunks: Iterable[Buffer], *, local: bool = False) -> Iterator[Problem]:
    """Everything that is wrong with a classic manifest, each with its line.

    SageMaker wants one prefix, with a bucket, at the beginning: all objects of a manifest lie in one bucket.
    """
    prefix: str | None = None
    count = 0
    try:
        for line, value in manifest_elements(chunks):
            count += 1
            if isinstance(value, dict):
                told = value.get("prefix")
                if set(value) != {"prefix"} or not isinstance(told, str):
                    yield Problem(line, "", f'{shown(value)} is neither a key nor {{"prefix": "s3://bucket/folder/"}}')
                elif count > 1:
                    yield Problem(line, "prefix", "SageMaker reads one prefix, which is the first element")
                else:
                    fault = reference_fault(f"{told}x" if told else told, local=local)
                    if fault:
                        yield Problem(line, "prefix", f"{told!r:.200} is no prefix on S3; expected s3://bucket/folder/")
                prefix = told if isinstance(told, str) else ""
            elif not isinstance(value, str) or not value:
                yield Problem(line, "", f"{shown(value)} is no key; expected the rest of an address, as a text")
            else:
                if count == 1:
                    yield Problem(line, "prefix", 'the manifest must begin with {"prefix": "s3://bucket/folder/"}')
                if len(prefix or "") + len(value) > 1024:
                    yield Problem(line, "", "the address has more than 1024 characters")
    except ManifestError as error:
        yield problem_of(error)
        return
    if not count:
        yield Problem(None, "", "the manifest is empty")
    elif count == 1 and prefix is not None:
        yield Problem(None, "", "the manifest lists no object")


def augmented(
    uris: Iterable[str], labels: Iterable[Json] | Callable[[str], Json], *, label: str = "label"
) -> Iterator[Line]:
    """The lines of an augmented manifest: each address with its label, from a list beside it, or from a function of it.

    Raises ManifestError where the two lists are of different lengths, after what they have together.
    """
    if label == SOURCE:
        raise ManifestError("the label needs a name of its own", attribute=label)
    given = None if callable(labels) else iter(labels)
    number = 0
    for number, uri in enumerate(uris, 1):
        value: Any = labels(uri) if callable(labels) else next(given, _END) if given is not None else _END
        if value is _END:
            raise ManifestError(f"there are {number - 1} labels, and more objects; {uri} has none", attribute=label)
        yield Line(number, {SOURCE: uri, label: value})
    if given is not None and next(given, _END) is not _END:
        raise ManifestError(f"there are more labels than objects, of which there are {number}", attribute=label)
