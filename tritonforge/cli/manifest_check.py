"""The command manifest check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli.command import Command
from tritonforge.cli.data_set import (
    FORMS,
    DataSet,
    Form,
    ImageStore,
    LocatedError,
    describe_problem,
    form_option,
    open_data_set,
)
from tritonforge.cli.options import SAGEMAKER, AwsOptions, add_options, json_option, option, reject_options
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, format_count, out, steps
from tritonforge.errors import ManifestError, TritonForgeError
from tritonforge.escaping import escape_line
from tritonforge.training.manifest import (
    ManifestCheck,
    Problem,
    check_annotations,
    check_attribute_names,
    check_classic_manifest,
    check_detector_document,
    parse_line,
)
from tritonforge.training.manifest.checking import LabelCount

__all__ = ["check"]

#: Problems that the JSON report lists; the count includes all.
_LISTED: Final = 10_000

#: Problems that are printed as text.
_PRINTED: Final = 100

#: Objects that are requested at once, and objects of a batch, whose answers are awaited together.
_THREADS: Final = 16
_BATCH: Final = 1024


@click.command(
    cls=Command,
    example="""\
tritonforge manifest check train.manifest --attributes source-ref,boxes
tritonforge manifest check s3://bucket/train.manifest --objects""",
)
@click.argument("path", metavar="DATASET")
@option("--attributes", metavar="A,B,...", help="The AttributeNames of a job: every line must have them.")
@option("--local", is_flag=True, help="Accept paths of this machine as references.")
@option("--objects", is_flag=True, help="Check that every referenced object exists.")
@option("--images", metavar="DIR", default="", help="With --objects: the directory of the images or of copies of them.")
@form_option
@add_options(AwsOptions, "aws")
@json_option
def check(
    path: str,
    attributes: str | None,
    local: bool,
    objects: bool,
    images: str,
    form: Form | None,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """List everything that is invalid in DATASET, as path:line: attribute: what.

    Exit code 0: no problems; 1: problems; 2: it cannot be read, or invalid usage.
    """
    names = check_attribute_names(attributes.split(",")) if attributes else ()
    if images and not objects:
        raise click.UsageError("--images needs --objects")
    if not path.startswith("s3://") and not objects:
        reject_options("applies to data on S3 and to --objects", group=SAGEMAKER)
    data_set = open_data_set(path, form, aws)
    path = data_set.path
    if names and data_set.form != "augmented":
        raise click.UsageError(f"--attributes needs an augmented manifest; {path} is {FORMS[data_set.form]}")
    listed: list[dict[str, Any]] = []
    count = 0
    with steps() as progress:
        progress.begin(f"checking {path}, {FORMS[data_set.form]}")
        work = None
        problems: Iterator[tuple[str, Problem]]
        if data_set.form == "augmented":
            work = ManifestCheck(data_set.chunks(progress), names=names, local=local)
            problems = ((path, problem) for problem in work)
        else:
            problems = _find_problems(data_set, local, progress)
        if objects:
            store = images or data_set.image_directory
            problems = chain(problems, _find_missing_objects(data_set, store, progress, aws))
        for file, problem in problems:
            count += 1
            if as_json and count <= _LISTED:
                listed.append(
                    {"path": file, "line": problem.line, "attribute": problem.attribute, "what": problem.what}
                )
            elif not as_json and count <= _PRINTED:
                echo(escape_line(describe_problem(file, problem)))
    if as_json:
        document: dict[str, Any] = {"path": path, "form": data_set.form, "problems": count}
        if work is not None:
            labels = {name: _label_to_json(label) for name, label in work.labels.items()}
            document |= {"lines": work.lines, "labels": labels}
        echo(json.dumps({**document, "listed": listed}, indent=2, ensure_ascii=False))
        return 1 if count else 0
    if work is not None:
        out.print(escape(f"{path}: {format_count(work.lines, 'line')}{_summarize_labels(work.labels)}"))
    if count > _PRINTED:
        more = format_count(count - _PRINTED, "problem")
        out.print(f"[dim]... and {more} more (--format json lists {_LISTED:,})[/dim]")
    verdict = f"[red]{format_count(count, 'problem')}[/red]" if count else "[green]no problems[/green]"
    out.print(f"{escape(path)}: {verdict}")
    return 1 if count else 0


def _find_problems(data_set: DataSet, local: bool, progress: Steps) -> Iterator[tuple[str, Problem]]:
    """Yield the problems of another form than an augmented manifest, with their files."""
    if data_set.form == "classic":
        yield from (
            (data_set.path, problem) for problem in check_classic_manifest(data_set.chunks(progress), local=local)
        )
    elif data_set.form == "annotations":
        yield from ((data_set.path, problem) for problem in check_annotations(data_set.read()))
    else:
        count = 0
        for count, (path, document) in enumerate(data_set.documents(), 1):
            progress.detail(f"{count:,} documents")
            yield from ((path, problem) for problem in check_detector_document(document))
        if not count:
            raise LocatedError(f"{data_set.path}: no .json document in it")


def _find_missing_objects(
    data_set: DataSet, images: str, progress: Steps, aws: AwsOptions
) -> Iterator[tuple[str, Problem]]:
    """Yield the references to objects that do not exist; lines that cannot be parsed are reported before."""
    progress.begin("checking its objects")
    image_store = ImageStore(data_set.path, images if data_set.form in ("augmented", "classic") else "", aws)

    def check_reference(reference: tuple[int, str, str]) -> Problem | None:
        number, name, uri = reference
        try:
            store, address = image_store.open(uri)
            return None if store.find(address) is not None else Problem(number, name, f"{address} does not exist")
        except (TritonForgeError, ValueError) as error:
            return Problem(number, name, str(error))

    references = _list_references(data_set, images)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(references, _BATCH)):
            progress.detail(f"line {batch[-1][0]:,}")
            yield from ((data_set.path, problem) for problem in pool.map(check_reference, batch) if problem is not None)


def _list_references(data_set: DataSet, images: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, attribute and address of each reference of a data set."""
    for number, text in data_set.texts(images, {}):
        try:
            attributes = parse_line(text, number).attributes
        except ManifestError:
            continue
        for name, value in attributes.items():
            if name.endswith("-ref") and isinstance(value, str) and value:
                yield number, name, value


def _label_to_json(count: LabelCount) -> dict[str, Any]:
    names = {number: name for number, (name, _) in count.names.items()}
    classes = {
        str(number): {"name": names.get(number), "count": many} for number, many in sorted(count.classes.items())
    }
    return {"kind": count.kind, "lines": count.lines, "classes": classes}


def _summarize_labels(labels: Mapping[str, LabelCount]) -> str:
    parts = []
    for name, count in labels.items():
        shown = [
            f"{count.names[number][0] if number in count.names else number} {many:,}"
            for number, many in count.classes.most_common(12)
        ]
        more = [f"{len(count.classes) - 12} more"] if len(count.classes) > 12 else []
        classes = f" ({', '.join(chain(shown, more))})" if shown else ""
        parts.append(f"{name}: {count.kind} on {format_count(count.lines, 'line')}{classes}")
    return "".join(f"; {part}" for part in parts)
