"""The command manifest show: it draws labelled images on a contact sheet."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click

from tritonforge.cli.command import Command
from tritonforge.cli.data_set import (
    FORMS,
    DataSet,
    Form,
    ImageStore,
    describe_problem,
    form_option,
    open_data_set,
    read_class_names,
)
from tritonforge.cli.options import EXISTING_FILE, FILE, AwsOptions, add_options, json_option, option
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import format_count, note, steps
from tritonforge.errors import ManifestError, MissingExtraError, TritonForgeError
from tritonforge.files import describe_error, write_file
from tritonforge.training.contact_sheet import Fonts, SheetImage, draw_sheet
from tritonforge.training.manifest import Line, Problem, classify_label, find_labels, parse_line
from tritonforge.training.manifest.labels import (
    SOURCE_ATTRIBUTE,
    Box,
    ImageSize,
    get_metadata,
    list_classes,
    read_label_boxes,
    read_valid_boxes,
)
from tritonforge.training.manifest.labels import (
    read_class_names as read_label_class_names,
)

__all__ = ["show"]

#: Images of a sheet, bytes of an image (Ground Truth accepts 40 MB), and images that are fetched at once.
_MAX_IMAGES: Final = 400
_MAX_SIZE: Final = 64 * 2**20
_THREADS: Final = 8

_SELECTION: Final = "Selection of lines"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A selected line, or the error of parsing it."""

    number: int
    line: Line | None
    error: ManifestError | None = None


@click.command(cls=Command, example="tritonforge manifest show train.manifest -o train.png --sample 40 --images copies")
@click.argument("path", metavar="DATASET")
@option("-o", "--output", type=FILE, required=True, help="The PNG to write.")
@option("--first", type=click.IntRange(1, _MAX_IMAGES), metavar="N", group=_SELECTION,
        help="The first N lines. Default: 12.")  # fmt: skip
@option("--lines", metavar="1,5,9-12", group=_SELECTION, help="These lines.")
@option("--sample", type=click.IntRange(1, _MAX_IMAGES), metavar="N", group=_SELECTION, help="N random lines.")
@option("--seed", type=int, default=0, show_default=True, group=_SELECTION, help="Another seed gives another sample.")
@option("--label", metavar="NAME", help="The label to draw. Default: the only one.")
@option("--images", metavar="DIR", default="", help="The directory of the images; for an augmented manifest, of copies "
        "of them that are read instead of S3.")  # fmt: skip
@option("--class-names", type=EXISTING_FILE, help="Names of classes that DATASET lacks: JSON by number, or one name "
        "per line.")  # fmt: skip
@option("--columns", type=click.IntRange(1, 12), metavar="N", help="The images in a row.")
@option("--font", type=click.Path(exists=True, dir_okay=False), help="A TrueType font for names beyond Latin letters.")
@form_option
@add_options(AwsOptions, "aws")
@json_option
def show(
    path: str,
    output: Path,
    first: int | None,
    lines: str | None,
    sample: int | None,
    seed: int,
    label: str | None,
    images: str,
    class_names: Path | None,
    columns: int | None,
    font: str | None,
    form: Form | None,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Draw a contact sheet: images of DATASET with their boxes and classes, as one PNG.

    Exit code 0: images are drawn, and those that cannot be are marked and reported; 1: no image can be drawn.
    """
    if sum(value is not None for value in (first, lines, sample)) > 1:
        raise click.UsageError("--first, --lines and --sample exclude each other")
    if find_spec("PIL") is None:
        raise MissingExtraError("pillow", extra="local")
    try:
        Fonts(font)(10)
    except TritonForgeError as error:
        raise click.UsageError(f"--font {error}") from error
    data_set = open_data_set(path, form, aws)
    path, images = data_set.path, images or data_set.image_directory
    names = read_class_names(class_names)
    with steps() as progress:
        progress.begin(f"reading {path}, {FORMS[data_set.form]}")
        entries = _select(data_set, images, names, first=first or 12, lines=lines, sample=sample, seed=seed)
        if not entries:
            raise ManifestError(f"{path}: it has none of these lines")
        problems = _check_label(label, entries)
        label = label or _find_label(path, entries)
        progress.begin(f"fetching {format_count(len(entries), 'image')}")
        store = ImageStore(path, images if data_set.form in ("augmented", "classic") else "", aws)
        with ThreadPoolExecutor(_THREADS) as pool:
            fetched = list(pool.map(lambda entry: _fetch(entry, store), entries))
        progress.begin(f"drawing {output}")
        names = {**_collect_class_names(entries, label), **names}
        shots = [_create_shot(entry, label, names, *image) for entry, image in zip(entries, fetched, strict=True)]
        title = f"{Path(path).name}  ·  {label or 'no labels'}  ·  {_describe_lines(entries)}"
        sheet = draw_sheet([shot for shot, _ in shots], title=title, names=names, columns=columns, font=font)
        try:
            write_file(output, sheet.png)
        except OSError as error:
            raise TritonForgeError(f"{output}: cannot write: {describe_error(error)}") from error
    problems += [
        Problem(entry.number, label or "", fault) for entry, (_, fault) in zip(entries, shots, strict=True) if fault
    ]
    for index, fault in sheet.faults:
        problems.append(
            Problem(entries[index].number, SOURCE_ATTRIBUTE if entries[index].line is not None else "", fault)
        )
    problems.sort(key=lambda problem: problem.line or 0)
    if as_json:
        listed = [{"line": problem.line, "attribute": problem.attribute, "what": problem.what} for problem in problems]
        echo_json({"output": str(output), "asked": len(entries), "shown": sheet.shown, "problems": listed})
    else:
        echo(f"{output}: {sheet.shown} of {format_count(len(entries), 'image')}")
    for problem in problems:
        note(describe_problem(path, problem))
    return 0 if sheet.shown else 1


def _select(
    data_set: DataSet,
    images: str,
    names: Mapping[int, str],
    *,
    first: int,
    lines: str | None,
    sample: int | None,
    seed: int,
) -> list[_Entry]:
    """Return the requested lines in their order; other lines are not parsed."""
    if sample is not None:
        start = hashlib.sha256(f"{seed}/".encode())

        def hash_number(item: tuple[int, Any]) -> bytes:
            digest = start.copy()
            digest.update(str(item[0]).encode())
            return digest.digest()

        return [
            _parse_entry(*item)
            for item in sorted(heapq.nsmallest(sample, data_set.texts(images, names), key=hash_number))
        ]
    numbers = _parse_numbers(lines) if lines is not None else range(1, first + 1)
    last = max(numbers)
    entries = []
    for number, text in data_set.texts(images, names):
        if number in numbers:
            entries.append(_parse_entry(number, text))
        if number >= last:
            break
    return entries


def _parse_entry(number: int, text: bytes) -> _Entry:
    try:
        return _Entry(number, parse_line(text, number))
    except ManifestError as error:
        return _Entry(number, None, error)


def _parse_numbers(text: str) -> set[int]:
    """Return the numbers of a list such as 1,5,9-12."""
    numbers: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise click.UsageError(f"--lines {text}: expected numbers and ranges such as 1,5,9-12")
        numbers.update(range(int(low), min(int(high or low), int(low) + _MAX_IMAGES) + 1))
    if len(numbers) > _MAX_IMAGES:
        raise click.UsageError(f"--lines {text}: a sheet has at most {_MAX_IMAGES} images")
    return numbers


def _check_label(label: str | None, entries: Sequence[_Entry]) -> list[Problem]:
    """Return a problem if none of the lines has the given label."""
    lines = [entry.line for entry in entries if entry.line is not None]
    if label is None or not lines or any(label in line.attributes for line in lines):
        return []
    others = ", ".join(dict.fromkeys(name for line in lines for name in find_labels(line)))
    return [Problem(None, label, f"none of these lines has this label; they have {others or 'none'}")]


def _find_label(path: str, entries: Sequence[_Entry]) -> str | None:
    """Return the only label of the lines, preferably with boxes; None if they have none."""
    lines = [entry.line for entry in entries if entry.line is not None]
    for boxes_only in (True, False):
        labels = dict.fromkeys(name for line in lines for name in find_labels(line, "boxes" if boxes_only else None))
        if len(labels) > 1:
            raise click.UsageError(f"{path}: several labels: {', '.join(labels)}; choose one with --label NAME")
        if labels:
            return next(iter(labels))
    return None


def _fetch(entry: _Entry, image_store: ImageStore) -> tuple[bytes | None, str]:
    """Return the bytes of a line's image, or None and the reason."""
    if entry.line is None:
        return None, entry.error.what if entry.error is not None else ""
    uri = entry.line.attributes.get(SOURCE_ATTRIBUTE)
    if not isinstance(uri, str) or not uri:
        return None, f"the line has no {SOURCE_ATTRIBUTE}"
    try:
        store, address = image_store.open(uri)
        if store.find(address) is None:
            return None, f"{address} does not exist"
        data = bytearray()
        for chunk in store.open(address):
            data += chunk
            if len(data) > _MAX_SIZE:
                return None, f"{address} is larger than {_MAX_SIZE >> 20} MB"
        return bytes(data), ""
    except (TritonForgeError, ValueError) as error:
        return None, str(error)


def _create_shot(
    entry: _Entry, label: str | None, names: Mapping[int, str], data: bytes | None, failure: str
) -> tuple[SheetImage, str]:
    """Return the cell of a line and the problem of its label (empty: no problem)."""
    line = entry.line
    if line is None:
        return SheetImage(f"line {entry.number}", failure=failure), ""
    source = line.attributes.get(SOURCE_ATTRIBUTE)
    caption = f"line {entry.number}  ·  {source.rpartition('/')[2] if isinstance(source, str) else '?'}"
    size: ImageSize | None = None
    boxes: tuple[Box, ...] = ()
    fault = ""
    if label is None or label not in line.attributes:
        text = "not labelled"
    elif classify_label(line, label) == "boxes" or isinstance(line.attributes[label], dict):
        size, boxes = read_valid_boxes(line.attributes[label])
        text = _count_boxes(Counter(box.class_id for box in boxes), names)
        try:
            read_label_boxes(line, label)
        except ManifestError as error:
            text = fault = error.what
    else:
        text = _list_classes(line, label, names)
    return SheetImage(caption, text, data, failure, boxes, size, alarming=bool(fault)), fault


def _count_boxes(counts: Counter[int], names: Mapping[int, str]) -> str:
    if not counts:
        return "no boxes"
    return ", ".join(
        f"{names.get(number, number)}{f' x {count}' if count > 1 else ''}" for number, count in counts.most_common()
    )


def _list_classes(line: Line, label: str, names: Mapping[int, str]) -> str:
    """Return the classes of a label without boxes."""
    colours = get_metadata(line, label).get("internal-color-map")
    if isinstance(colours, dict):
        return ", ".join(str(entry.get("class-name")) for entry in colours.values() if isinstance(entry, dict))
    numbers = list_classes(line, label)
    if not numbers:
        return f"{label}: {line.attributes[label]!s:.80}"
    return ", ".join(names.get(number, str(number)) for number in numbers)


def _collect_class_names(entries: Sequence[_Entry], label: str | None) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        if entry.line is not None and label is not None:
            names.update(read_label_class_names(entry.line, label))
    return names


def _describe_lines(entries: Sequence[_Entry]) -> str:
    numbers = [entry.number for entry in entries]
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"lines {numbers[0]} to {numbers[-1]}"
    return f"{len(numbers)} lines" if len(numbers) > 1 else f"line {numbers[0]}"
