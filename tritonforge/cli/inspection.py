"""The subcommand that finds what is wrong with labelled data: manifest check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli import dataset
from tritonforge.cli.dataset import FORMS, Dataset, Form, LocatedError, data_set, plural, where
from tritonforge.cli.deployment.flags import place_flags
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, out, steps
from tritonforge.errors import ManifestError, TritonForgeError
from tritonforge.escaping import terminal_line
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

#: Problems that the JSON report lists; the count has all.
_LISTED: Final = 10_000

#: Problems that are printed; whoever wants more of them asks for JSON.
_SHOWN: Final = 100

#: Objects that are looked for at once, and those of which the answers are waited for together.
_LOOKING: Final = 16
_BATCH: Final = 1024


@click.command(short_help="Say everything that is wrong with a data set.")
@click.argument("path", metavar="DATASET")
@click.option("--attributes", metavar="A,B,...", help="AttributeNames of a job: every line must have them.")
@click.option("--local", is_flag=True, help="References may be paths of this machine.")
@click.option("--objects", is_flag=True, help="Look whether every object that is named is there, too.")
@click.option("--images", metavar="FOLDER", default="", help="With --objects: where the images, or copies, lie.")
@dataset.form_flag
@dataset.report_flag
@place_flags
def check(
    path: str,
    attributes: str | None,
    local: bool,
    objects: bool,
    images: str,
    form: Form | None,
    report: str,
    **flags: Any,
) -> int:
    """Say everything that is wrong with DATASET: path:line: attribute: what.

    Exit code 0: nothing is wrong; 1: something is; 2: it cannot be read, or the command is wrong.
    """
    names = check_attribute_names(attributes.split(",")) if attributes else ()
    if images and not objects:
        raise click.UsageError("--images says where --objects looks; give both")
    found = data_set(path, form, flags)
    path = found.path
    if names and found.form != "augmented":
        raise click.UsageError(f"--attributes are those of an augmented manifest; {path} is {FORMS[found.form]}")
    listed: list[dict[str, Any]] = []
    count = 0
    with steps() as progress:
        progress.begin(f"checking {path}, {FORMS[found.form]}")
        work = ManifestCheck(found.chunks(progress), names=names, local=local) if found.form == "augmented" else None
        problems = ((path, each) for each in work) if work is not None else _problems(found, local, progress)
        if objects:
            problems = chain(problems, _missing(found, images or found.pictures(), progress, flags))
        for file, problem in problems:
            count += 1
            if report == "text":
                if count <= _SHOWN:
                    echo(terminal_line(where(file, problem)))
            elif count <= _LISTED:
                told = {"line": problem.line, "attribute": problem.attribute, "what": problem.what}
                listed.append({"path": file, **told})
    if report == "json":
        body: dict[str, Any] = {"path": path, "form": found.form, "problems": count}
        if work is not None:
            body |= {"lines": work.lines, "labels": {name: _counted(each) for name, each in work.labels.items()}}
        echo(json.dumps({**body, "listed": listed}, indent=2, ensure_ascii=False))
        return 1 if count else 0
    if work is not None:
        out.print(escape(f"{path}: {plural(work.lines, 'line')}{_summary(work.labels)}"))
    if count > _SHOWN:
        out.print(f"[dim]... and {plural(count - _SHOWN, 'problem')} more (--format json lists {_LISTED:,})[/dim]")
    verdict = f"[red]{plural(count, 'problem')}[/red]" if count else "[green]no problems[/green]"
    out.print(f"{escape(path)}: {verdict}")
    return 1 if count else 0


def _problems(found: Dataset, local: bool, progress: Steps) -> Iterator[tuple[str, Problem]]:
    """The problems of what is no augmented manifest, each with its file."""
    if found.form == "classic":
        yield from ((found.path, each) for each in check_classic_manifest(found.chunks(progress), local=local))
    elif found.form == "annotations":
        yield from ((found.path, each) for each in check_annotations(found.whole()))
    else:
        count = 0
        for count, (path, document) in enumerate(found.documents(), 1):
            progress.detail(f"{count:,} documents")
            yield from ((path, each) for each in check_detector_document(document))
        if not count:
            raise LocatedError(f"{found.path}: there is no .json document in it")


def _missing(found: Dataset, images: str, progress: Steps, flags: Mapping[str, Any]) -> Iterator[tuple[str, Problem]]:
    """The objects that are named and not there; lines that cannot be read were told before."""
    progress.begin("looking for its objects")
    places = dataset.Places(found.path, images if found.form in ("augmented", "classic") else "", flags)

    def look(named: tuple[int, str, str]) -> Problem | None:
        number, name, uri = named
        try:
            place, address = places.open(uri)
            return None if place.find(address) is not None else Problem(number, name, f"{address} is not there")
        except (TritonForgeError, ValueError) as error:
            return Problem(number, name, str(error))

    named = _references(found, images)
    with ThreadPoolExecutor(_LOOKING) as pool:
        while some := list(islice(named, _BATCH)):
            progress.detail(f"line {some[-1][0]:,}")
            yield from ((found.path, problem) for problem in pool.map(look, some) if problem is not None)


def _references(found: Dataset, images: str) -> Iterator[tuple[int, str, str]]:
    """The addresses that a data set names: line, attribute, address."""
    for number, text in found.texts(images, {}):
        try:
            attributes = parse_line(text, number).attributes
        except ManifestError:
            continue
        for name, value in attributes.items():
            if name.endswith("-ref") and isinstance(value, str) and value:
                yield number, name, value


def _counted(count: LabelCount) -> dict[str, Any]:
    names = {number: name for number, (name, _) in count.names.items()}
    classes = {
        str(number): {"name": names.get(number), "count": many} for number, many in sorted(count.classes.items())
    }
    return {"kind": count.kind, "lines": count.lines, "classes": classes}


def _summary(labels: Mapping[str, LabelCount]) -> str:
    parts = []
    for name, count in labels.items():
        shown = [
            f"{count.names[number][0] if number in count.names else number} {many:,}"
            for number, many in count.classes.most_common(12)
        ]
        more = [f"{len(count.classes) - 12} more"] if len(count.classes) > 12 else []
        what = f" ({', '.join(chain(shown, more))})" if shown else ""
        parts.append(f"{name}: {count.kind} on {plural(count.lines, 'line')}{what}")
    return "".join(f"; {part}" for part in parts)
