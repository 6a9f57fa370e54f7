"""The subcommand that draws labelled data: manifest show."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli import dataset
from tritonforge.cli.dataset import FORMS, Dataset, Form, data_set, plural, where
from tritonforge.cli.deployment.flags import place_flags
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, steps
from tritonforge.cli.writing import written
from tritonforge.errors import ManifestError, TritonForgeError
from tritonforge.training.contact_sheet import Fonts, SheetImage, draw_sheet
from tritonforge.training.manifest import Line, Problem, classify_label, find_labels, parse_line
from tritonforge.training.manifest.labels import (
    SOURCE_ATTRIBUTE,
    Box,
    ImageSize,
    get_metadata,
    list_classes,
    read_class_names,
    read_label_boxes,
    read_valid_boxes,
)

__all__ = ["show"]

#: Pictures of a sheet at most, bytes of a picture, and pictures that are fetched at once. Ground Truth takes 40 MB.
_MOST: Final = 400
_LARGEST: Final = 64 * 2**20
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class _Entry:
    """A chosen line, or why it cannot be read."""

    number: int
    line: Line | None
    error: ManifestError | None = None


@click.command(short_help="Draw pictures with their boxes and classes, as one PNG.")
@click.argument("path", metavar="DATASET")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The PNG to write."
)
@click.option("--first", type=click.IntRange(1, _MOST), metavar="N", help="The first N lines; default 12.")
@click.option("--lines", "wanted", metavar="1,5,9-12", help="These lines.")
@click.option("--sample", type=click.IntRange(1, _MOST), metavar="N", help="N lines from everywhere.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one gives another sample.")
@click.option("--label", metavar="NAME", help="The label to draw; default: the only one.")
@click.option(
    "--images",
    metavar="FOLDER",
    default="",
    help="Where the images lie. For an augmented manifest: a copy of them here, in place of S3.",
)
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names of classes that DATASET does not tell: JSON by number, or one a line.",
)
@click.option("--columns", type=click.IntRange(1, 12), metavar="N", help="Pictures in a row.")
@click.option(
    "--font", type=click.Path(exists=True, dir_okay=False), help="A TrueType font, for names beyond Latin letters."
)
@dataset.form_flag
@dataset.report_flag
@place_flags
def show(
    path: str,
    output: Path,
    first: int | None,
    wanted: str | None,
    sample: int | None,
    seed: int,
    label: str | None,
    images: str,
    class_names: Path | None,
    columns: int | None,
    font: str | None,
    form: Form | None,
    report: str,
    **flags: Any,
) -> int:
    """Draw a contact sheet: pictures of DATASET with their boxes and classes, as one PNG.

    Exit code 0: pictures were drawn, and those that cannot be are shown and told; 1: not one could be.
    """
    if sum(each is not None for each in (first, wanted, sample)) > 1:
        raise click.UsageError("--first, --lines and --sample: choose one")
    _check_font(font)
    found = data_set(path, form, flags)
    path, images = found.path, images or found.pictures()
    given = dataset.class_names_of(class_names)
    with steps() as progress:
        progress.begin(f"reading {path}, {FORMS[found.form]}")
        chosen = _chosen(found, images, given, first=first or 12, wanted=wanted, sample=sample, seed=seed)
        if not chosen:
            raise ManifestError(f"{path}: there is no such line in it")
        unknown = _unknown(label, chosen)
        label = label or _the_label(path, chosen)
        progress.begin(f"fetching {plural(len(chosen), 'picture')}")
        copies = images if found.form in ("augmented", "classic") else ""
        places = dataset.Places(path, copies, flags)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pictures = list(pool.map(lambda entry: _fetched(entry, places), chosen))
        progress.begin(f"drawing {output}")
        names = {**_names(chosen, label), **given}
        shots = [_shot(entry, label, names, *each) for entry, each in zip(chosen, pictures, strict=True)]
        title = f"{Path(path).name}  ·  {label or 'no labels'}  ·  {_which(chosen)}"
        sheet = draw_sheet([shot for shot, _ in shots], title=title, names=names, columns=columns, font=font)
        with written(output) as file:
            file.write(sheet.png)
    faults: list[Problem] = [
        *unknown,
        *(Problem(entry.number, label or "", told) for entry, (_, told) in zip(chosen, shots, strict=True) if told),
        *(
            Problem(chosen[index].number, SOURCE_ATTRIBUTE if chosen[index].line is not None else "", told)
            for index, told in sheet.faults
        ),
    ]
    faults.sort(key=lambda each: each.line or 0)
    _tell(path, output, len(chosen), sheet.shown, faults, report)
    return 0 if sheet.shown else 1


def _check_font(font: str | None) -> None:
    try:
        Fonts(font)(10)
    except TritonForgeError as error:
        raise click.UsageError(f"--font {error}") from error


def _tell(path: str, output: Path, asked: int, shown: int, faults: Sequence[Problem], report: str) -> None:
    if report == "json":
        listed = [{"line": each.line, "attribute": each.attribute, "what": each.what} for each in faults]
        echo(json.dumps({"output": str(output), "asked": asked, "shown": shown, "problems": listed}, indent=2))
    else:
        echo(f"{output}: {shown} of {asked} pictures")
    for each in faults:
        err.print(f"[yellow]note:[/yellow] {escape(where(path, each))}")


def _chosen(
    found: Dataset,
    images: str,
    names: Mapping[int, str],
    *,
    first: int,
    wanted: str | None,
    sample: int | None,
    seed: int,
) -> list[_Entry]:
    """The lines that were asked for, in their order; lines that are not asked for are not parsed."""
    if sample is not None:
        start = hashlib.sha256(f"{seed}/".encode())

        def place(item: tuple[int, Any]) -> bytes:
            digest = start.copy()
            digest.update(str(item[0]).encode())
            return digest.digest()

        return [_entry(*each) for each in sorted(heapq.nsmallest(sample, found.texts(images, names), key=place))]
    numbers = _numbers(wanted) if wanted is not None else range(1, first + 1)
    last = max(numbers)
    entries = []
    for number, each in found.texts(images, names):
        if number in numbers:
            entries.append(_entry(number, each))
        if number >= last:
            break
    return entries


def _entry(number: int, text: bytes) -> _Entry:
    try:
        return _Entry(number, parse_line(text, number))
    except ManifestError as error:
        return _Entry(number, None, error)


def _numbers(text: str) -> set[int]:
    """The numbers that a list like 1,5,9-12 names."""
    numbers: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise click.UsageError(f"--lines {text}: write numbers and ranges, like 1,5,9-12")
        numbers.update(range(int(low), min(int(high or low), int(low) + _MOST) + 1))
    if len(numbers) > _MOST:
        raise click.UsageError(f"--lines {text}: at most {_MOST} pictures go on a sheet")
    return numbers


def _unknown(label: str | None, entries: Sequence[_Entry]) -> list[Problem]:
    """What is wrong with the name of a label that was given: none of the lines has it."""
    lines = [entry.line for entry in entries if entry.line is not None]
    if label is None or not lines or any(label in line.attributes for line in lines):
        return []
    others = ", ".join(dict.fromkeys(name for line in lines for name in find_labels(line)))
    return [Problem(None, label, f"none of these lines has this label; they have {others or 'none'}")]


def _the_label(path: str, entries: Sequence[_Entry]) -> str | None:
    """The one label that the lines have; boxes before any other kind."""
    lines = [entry.line for entry in entries if entry.line is not None]
    for wanted in ("boxes", None):
        found = dict.fromkeys(name for line in lines for name in find_labels(line, "boxes" if wanted else None))
        if len(found) > 1:
            raise click.UsageError(f"{path} has the labels {', '.join(found)}; say which: --label NAME")
        if found:
            return next(iter(found))
    return None


def _fetched(entry: _Entry, places: dataset.Places) -> tuple[bytes | None, str]:
    """The bytes of a line's picture, or why there are none."""
    if entry.line is None:
        return None, entry.error.what if entry.error is not None else ""
    uri = entry.line.attributes.get(SOURCE_ATTRIBUTE)
    if not isinstance(uri, str) or not uri:
        return None, f"the line has no {SOURCE_ATTRIBUTE}"
    try:
        place, address = places.open(uri)
        if place.find(address) is None:
            return None, f"{address} is not there"
        data = bytearray()
        for chunk in place.open(address):
            data += chunk
            if len(data) > _LARGEST:
                return None, f"{address} is larger than {_LARGEST >> 20} MB"
        return bytes(data), ""
    except (TritonForgeError, ValueError) as error:
        return None, str(error)


def _shot(
    entry: _Entry, label: str | None, names: Mapping[int, str], data: bytes | None, failure: str
) -> tuple[SheetImage, str]:
    """The cell of a line, and what is wrong with its label."""
    line = entry.line
    if line is None:
        return SheetImage(f"line {entry.number}", failure=failure), ""
    source = line.attributes.get(SOURCE_ATTRIBUTE)
    caption = f"line {entry.number}  ·  {source.rpartition('/')[2] if isinstance(source, str) else '?'}"
    size: ImageSize | None = None
    boxes: tuple[Box, ...] = ()
    told = ""
    if label is None or label not in line.attributes:
        note = "not labelled"
    elif classify_label(line, label) == "boxes" or isinstance(line.attributes[label], dict):
        size, boxes = read_valid_boxes(line.attributes[label])
        note = _note(Counter(box.class_id for box in boxes), names)
        try:
            read_label_boxes(line, label)
        except ManifestError as error:
            note = told = error.what
    else:
        note = _classes(line, label, names)
    return SheetImage(caption, note, data, failure, boxes, size, alarming=bool(told)), told


def _note(counts: Counter[int], names: Mapping[int, str]) -> str:
    if not counts:
        return "no boxes"
    return ", ".join(
        f"{names.get(number, number)}{f' x {count}' if count > 1 else ''}" for number, count in counts.most_common()
    )


def _classes(line: Line, label: str, names: Mapping[int, str]) -> str:
    """What a label without boxes says."""
    colours = get_metadata(line, label).get("internal-color-map")
    if isinstance(colours, dict):
        return ", ".join(str(each.get("class-name")) for each in colours.values() if isinstance(each, dict))
    numbers = list_classes(line, label)
    if not numbers:
        return f"{label}: {line.attributes[label]!s:.80}"
    return ", ".join(names.get(number, str(number)) for number in numbers)


def _names(entries: Sequence[_Entry], label: str | None) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in entries:
        if entry.line is not None and label is not None:
            found.update(read_class_names(entry.line, label))
    return found


def _which(entries: Sequence[_Entry]) -> str:
    numbers = [entry.number for entry in entries]
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"lines {numbers[0]} to {numbers[-1]}"
    return f"{len(numbers)} lines" if len(numbers) > 1 else f"line {numbers[0]}"
