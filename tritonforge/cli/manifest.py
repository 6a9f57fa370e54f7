"""The subcommands of labelled data: manifest check, convert, split, show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from rich.markup import escape

from tritonforge.cli import dataset
from tritonforge.cli.dataset import (
    FORMS,
    Dataset,
    Form,
    LocatedError,
    data_set,
    located,
    plural,
    within,
)
from tritonforge.cli.deployment.flags import place_flags
from tritonforge.cli.gallery import show
from tritonforge.cli.inspection import check
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, steps
from tritonforge.cli.writing import folder_written, written
from tritonforge.errors import ManifestError
from tritonforge.training.manifest import (
    LabelledImage,
    Line,
    Split,
    assign_split,
    build_annotations,
    build_detector_document,
    find_labels,
    read_classic_uris,
    read_labelled_image,
    read_lines,
)
from tritonforge.training.manifest.detection_formats import find_class_gaps
from tritonforge.training.manifest.labels import DEFAULT_LABEL, list_classes
from tritonforge.training.manifest.lines import encode_json

__all__ = ["manifest"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def manifest() -> None:
    """Labelled data as SageMaker reads it: check it, convert it, split it, look at it.

    A data set is an augmented manifest (JSON lines, as Ground Truth writes them), a classic manifest (a JSON array), an
    annotations.json, or a folder of the built-in detector's documents; on this machine or on S3.
    """


manifest.add_command(check)
manifest.add_command(show)


@manifest.command(short_help="Write a data set in another form.")
@click.argument("path", metavar="DATASET")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file, or the new folder.")
@click.option("--to", type=click.Choice(["augmented", "annotations", "detector"]), required=True, help="The new form.")
@dataset.form_flag
@click.option("--images", metavar="PREFIX", default="", help="Where the images lie: what is before their names.")
@click.option(
    "--label", metavar="NAME", help=f"The label's attribute; default: the only one, and {DEFAULT_LABEL} in a new file."
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Labels for a classic manifest, one a line in its order: .csv (label, or key,label), or JSON lines.",
)
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names of classes that DATASET does not tell: JSON by number, or one a line.",
)
@click.option(
    "--write-class-names",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the names of classes to this file, as annotations.json has no room for them.",
)
@dataset.report_flag
@place_flags
def convert(
    path: str,
    output: Path,
    to: str,
    form: Form | None,
    images: str,
    label: str | None,
    labels: Path | None,
    class_names: Path | None,
    write_class_names: Path | None,
    report: str,
    **flags: Any,
) -> int:
    """Write DATASET in another form; what is wrong with it ends the work, and nothing is written.

    annotations.json and the detector's documents name images without a folder: --images says what their addresses
    begin with, and is taken off again on the way back.
    """
    found = data_set(path, form, flags)
    if (labels is not None) and (found.form, to) != ("classic", "augmented"):
        raise click.UsageError("--labels go with a classic manifest that becomes an augmented one")
    if found.form == "classic" and to != "augmented":
        raise click.UsageError(f"{path} is a classic manifest, which has no boxes; make it augmented")
    if found.form in ("annotations", "detector") and to == "augmented" and not images:
        raise click.UsageError("say where the images lie: --images s3://bucket/folder")
    names = dataset.class_names_of(class_names)
    tally = _Tally(names)
    with steps() as progress:
        progress.begin(f"converting {path}, {FORMS[found.form]}, to {FORMS[_as_form(to)]}")
        if to == "augmented":
            with written(output) as file:
                for line in _augmented(found, progress, images=images, label=label, labels=labels, names=names):
                    file.write(line.to_bytes())
                    tally.line(line)
        else:
            pictures = tally.images(_pictures(found, progress, tally, images=images, label=label, names=names))
            folder = images if found.form == "augmented" else ""
            if to == "annotations":
                document = next(within(path, (build_annotations(each, folder=folder) for each in (pictures,))))
                with written(output) as file:
                    file.write(encode_json(document) + b"\n")
            else:
                with folder_written(output) as write:
                    for image in pictures:
                        write(*next(within(path, (build_detector_document(each, folder=folder) for each in (image,)))))
        if write_class_names is not None:
            with written(write_class_names) as file:
                file.write(json.dumps({str(key): tally.names[key] for key in sorted(tally.names)}).encode() + b"\n")
    _tell_conversion(tally, output, to, report)
    return 0


@manifest.command(short_help="Split into lines to learn from and lines to be judged on.")
@click.argument("path", metavar="MANIFEST")
@click.option("--train", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Lines to learn from.")
@click.option(
    "--validation", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Lines to be judged on."
)
@click.option(
    "--fraction", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Of lines, for validation."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one gives another split.")
@click.option("--by", default="source-ref", show_default=True, metavar="NAME", help="The attribute that decides.")
@dataset.report_flag
@place_flags
def split(
    path: str, train: Path, validation: Path, fraction: float, seed: int, by: str, report: str, **flags: Any
) -> int:
    """Split an augmented manifest into lines to learn from and lines to be judged on; each stays as it is.

    The side of a line follows from a hash of its source-ref and the seed, so that an image is on the same side in every
    manifest that it is in.
    """
    if train.absolute() == validation.absolute():
        raise click.UsageError("--train and --validation must be two files")
    found = data_set(path, "augmented", flags)
    sides: dict[Split, Counter[str]] = {"train": Counter(), "validation": Counter()}
    counts: Counter[Split] = Counter()
    with steps() as progress, written(train) as learnt, written(validation) as judged:
        progress.begin(f"splitting {path}")
        for line in within(path, read_lines(found.chunks(progress))):
            chosen = next(within(path, (assign_split(each, fraction=fraction, seed=seed, by=by) for each in (line,))))
            (learnt if chosen == "train" else judged).write(line.text + b"\n")
            counts[chosen] += 1
            for name in find_labels(line):
                sides[chosen].update(f"{name}: class {each}" for each in set(list_classes(line, name)))
        if not counts:
            raise LocatedError(f"{path}: the manifest is empty")
    total = sum(counts.values())
    share = counts["validation"] / total
    lonely = sorted(set(sides["train"]) ^ set(sides["validation"])) if fraction not in (0, 1) else []
    if report == "json":
        told = {"train": counts["train"], "validation": counts["validation"], "asked": fraction, "fraction": share}
        echo(json.dumps({**told, "seed": seed, "by": by, "on_one_side_only": lonely}, indent=2))
    else:
        echo(f"{train}: {plural(counts['train'], 'line')}")
        echo(f"{validation}: {plural(counts['validation'], 'line')}, {share:.1%} of all (asked: {fraction:.1%})")
    for each in lonely[:20]:
        place = "train" if each in sides["train"] else "validation"
        err.print(f"[yellow]note:[/yellow] {escape(each)} is on lines of {place} only")
    return 0


class _Tally:
    """What went through a conversion."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.count = 0
        self.boxes = 0
        self.left_out = 0
        self.classes: set[int] = set()
        self.names = dict(names)

    def line(self, line: Line) -> None:
        self.count += 1
        for name in find_labels(line, "boxes"):
            found = list_classes(line, name)
            self.boxes += len(found)
            self.classes.update(found)

    def images(self, images: Iterable[LabelledImage]) -> Iterator[LabelledImage]:
        for image in images:
            self.count += 1
            self.boxes += len(image.boxes.boxes)
            self.classes.update(box.class_id for box in image.boxes.boxes)
            self.names.update(image.names)
            yield image


def _augmented(
    found: Dataset, progress: Steps, *, images: str, label: str | None, labels: Path | None, names: Mapping[int, str]
) -> Iterator[Line]:
    if found.form == "classic" and labels is not None:
        uris = within(found.path, read_classic_uris(found.chunks(progress)))
        yield from within(found.path, dataset.joined(uris, labels, label or "label"))
    else:
        yield from found.lines(progress, folder=images, names=names, label=label or DEFAULT_LABEL)


def _pictures(
    found: Dataset, progress: Steps, tally: _Tally, *, images: str, label: str | None, names: Mapping[int, str]
) -> Iterator[LabelledImage]:
    """The labelled images of a data set; lines without the label are counted, and left out."""
    if found.form != "augmented":
        yield from found.images(images, names)
        return
    chosen = label
    for line in found.lines(progress, names=names):
        if chosen is None:
            chosen = the_label(found.path, line)
        image = None
        if chosen is not None:
            try:
                image = read_labelled_image(line, chosen)
            except ManifestError as error:
                hint = f"; tritonforge manifest check {found.path} lists everything"
                raise located(found.path, error, hint) from error
        if image is None:
            tally.left_out += 1
        else:
            yield LabelledImage(image.source, image.boxes, {**names, **image.names})
    if chosen is None or not tally.count:
        what = f"no line has the label {chosen}" if chosen else "no line has a label with boxes"
        raise LocatedError(f"{found.path}: {what}")


def the_label(path: str, line: Line) -> str | None:
    """The one label with boxes of a line, None where it has none."""
    found = list(find_labels(line, "boxes"))
    if len(found) > 1:
        raise click.UsageError(
            f"{path}:{line.number}: there are the labels {', '.join(found)}; say which: --label NAME"
        )
    return found[0] if found else None


def _tell_conversion(tally: _Tally, output: Path, to: str, report: str) -> None:
    notes = []
    if tally.left_out:
        notes.append(f"left out: {plural(tally.left_out, 'line')} without the label")
    missing = find_class_gaps(tally.classes) if to == "detector" else []
    if missing:
        notes.append(
            "the built-in detector wants classes numbered from 0 without gaps; "
            f"of {', '.join(map(str, missing))} there is no box"
        )
    unnamed = sorted(tally.classes - set(tally.names)) if to == "detector" else []
    if unnamed:
        notes.append(f"classes without a name: {', '.join(map(str, unnamed[:20]))} (--class-names tells them)")
    if report == "json":
        told = {"output": str(output), "images": tally.count, "boxes": tally.boxes, "left_out": tally.left_out}
        echo(json.dumps({**told, "classes": sorted(tally.classes), "notes": notes}, indent=2))
    else:
        echo(f"{output}: {plural(tally.count, 'image')}, {plural(tally.boxes, 'box', 'boxes')}")
    for note in notes:
        err.print(f"[yellow]note:[/yellow] {escape(note)}")


def _as_form(to: str) -> Form:
    return next(each for each in get_args(Form) if each == to)
