"""The commands manifest convert and manifest split."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from tritonforge.cli.command import Command
from tritonforge.cli.data_set import (
    FORMS,
    DataSet,
    Form,
    LocatedError,
    form_option,
    join_labels,
    locate,
    open_data_set,
    read_class_names,
    with_path,
)
from tritonforge.cli.options import (
    EXISTING_FILE,
    FILE,
    NEW_PATH,
    SAGEMAKER,
    AwsOptions,
    add_options,
    json_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import Steps, format_count, note, steps
from tritonforge.errors import ManifestError, TritonForgeError
from tritonforge.files import describe_error, replace_file
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

__all__ = ["convert", "split"]


@click.command(
    cls=Command,
    example="tritonforge manifest convert annotations.json --to augmented --images s3://bucket/images "
    "-o train.manifest",
)
@click.argument("path", metavar="DATASET")
@option("-o", "--output", type=NEW_PATH, required=True, help="The file or new directory to write.")
@option("--to", type=click.Choice(["augmented", "annotations", "detector"]), required=True, help="The new form.")
@form_option
@option("--images", metavar="PREFIX", default="", help="The prefix of the names of the images.")
@option("--label", metavar="NAME", help=f"The label attribute. Default: the only one; {DEFAULT_LABEL} in a new file.")
@option("--labels", type=EXISTING_FILE, help="Labels for a classic manifest, one per line in its order: .csv (label, "
        "or key,label) or JSON lines.")  # fmt: skip
@option("--class-names", type=EXISTING_FILE, help="Names of classes that DATASET lacks: JSON by number, or one name "
        "per line.")  # fmt: skip
@option("--write-class-names", type=FILE, help="Write the names of classes to this file; annotations.json cannot store "
        "them.")  # fmt: skip
@add_options(AwsOptions, "aws")
@json_option
def convert(
    path: str,
    output: Path,
    to: Form,
    form: Form | None,
    images: str,
    label: str | None,
    labels: Path | None,
    class_names: Path | None,
    write_class_names: Path | None,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Write DATASET in another form; an invalid DATASET stops the conversion and nothing is written.

    annotations.json and the detector's documents name images without a directory: --images is added to their names, and
    removed in the other direction.
    """
    if not path.startswith("s3://"):
        reject_options("applies to data on S3", group=SAGEMAKER)
    data_set = open_data_set(path, form, aws)
    if labels is not None and (data_set.form, to) != ("classic", "augmented"):
        raise click.UsageError("--labels applies to a classic manifest with --to augmented")
    if data_set.form == "classic" and to != "augmented":
        raise click.UsageError(f"{path} is a classic manifest, which has no boxes; use --to augmented")
    if data_set.form in ("annotations", "detector") and to == "augmented" and not images:
        raise click.UsageError("--to augmented needs the prefix of the images: --images s3://bucket/prefix")
    names = read_class_names(class_names)
    tally = _Tally(names)
    with steps() as progress:
        progress.begin(f"converting {path}, {FORMS[data_set.form]}, to {FORMS[to]}")
        if to == "augmented":
            with _replace(output) as write_output:
                for line in _convert_to_lines(
                    data_set, progress, images=images, label=label, labels=labels, names=names
                ):
                    write_output(line.to_bytes())
                    tally.add_line(line)
        else:
            labelled_images = tally.count_images(
                _read_images(data_set, progress, tally, images=images, label=label, names=names)
            )
            folder = images if data_set.form == "augmented" else ""
            if to == "annotations":
                with _name_file(path):
                    document = build_annotations(labelled_images, folder=folder)
                with _replace(output) as write_output:
                    write_output(encode_json(document) + b"\n")
            else:
                with _create_directory(output) as write_document:
                    for image in labelled_images:
                        with _name_file(path):
                            name, content = build_detector_document(image, folder=folder)
                        write_document(name, content)
        if write_class_names is not None:
            with _replace(write_class_names) as write_names:
                write_names(json.dumps({str(key): tally.names[key] for key in sorted(tally.names)}).encode() + b"\n")
    _report_conversion(tally, output, to, as_json=as_json)
    return 0


@click.command(
    cls=Command,
    example="tritonforge manifest split all.manifest --train train.manifest --validation validation.manifest",
)
@click.argument("path", metavar="MANIFEST")
@option("--train", type=FILE, required=True, help="The file for the training lines.")
@option("--validation", type=FILE, required=True, help="The file for the validation lines.")
@option("--fraction", type=click.FloatRange(0, 1), default=0.2, show_default=True,
        help="The share of validation lines.")  # fmt: skip
@option("--seed", type=int, default=0, show_default=True, help="Another seed gives another split.")
@option("--by", default="source-ref", show_default=True, metavar="NAME", help="The attribute that decides the side.")
@add_options(AwsOptions, "aws")
@json_option
def split(
    path: str,
    train: Path,
    validation: Path,
    fraction: float,
    seed: int,
    by: str,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Split an augmented manifest into training and validation lines; the lines do not change.

    The side of a line follows from a hash of its source-ref and the seed, so an image is on the same side in every
    manifest.
    """
    if train.absolute() == validation.absolute():
        raise click.UsageError("--train and --validation must be two files")
    if not path.startswith("s3://"):
        reject_options("applies to data on S3", group=SAGEMAKER)
    data_set = open_data_set(path, "augmented", aws)
    classes: dict[Split, Counter[str]] = {"train": Counter(), "validation": Counter()}
    counts: Counter[Split] = Counter()
    with steps() as progress, _replace(train) as write_train, _replace(validation) as write_validation:
        progress.begin(f"splitting {path}")
        for line in with_path(path, read_lines(data_set.chunks(progress))):
            with _name_file(path):
                chosen = assign_split(line, fraction=fraction, seed=seed, by=by)
            (write_train if chosen == "train" else write_validation)(line.text + b"\n")
            counts[chosen] += 1
            for name in find_labels(line):
                classes[chosen].update(f"{name}: class {number}" for number in set(list_classes(line, name)))
        if not counts:
            raise LocatedError(f"{path}: the manifest is empty")
    total = sum(counts.values())
    share = counts["validation"] / total
    one_sided = sorted(set(classes["train"]) ^ set(classes["validation"])) if fraction not in (0, 1) else []
    if as_json:
        document = {
            "train": counts["train"],
            "validation": counts["validation"],
            "asked": fraction,
            "fraction": share,
            "seed": seed,
            "by": by,
            "on_one_side_only": one_sided,
        }
        echo_json(document)
    else:
        echo(f"{train}: {format_count(counts['train'], 'line')}")
        requested = f"{share:.1%} of all (requested: {fraction:.1%})"
        echo(f"{validation}: {format_count(counts['validation'], 'line')}, {requested}")
    for name in one_sided[:20]:
        note(f"{name} is on lines of {'train' if name in classes['train'] else 'validation'} only")
    return 0


@contextmanager
def _name_file(path: str) -> Iterator[None]:
    """Add the file to the message of a ManifestError."""
    try:
        yield
    except ManifestError as error:
        raise locate(path, error) from error


@contextmanager
def _replace(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yield what writes to a file that `replace_file` replaces. Raises TritonForgeError that names the file."""
    with _name_target(path), replace_file(path) as file:

        def write(content: bytes) -> None:
            with _name_target(path):
                file.write(content)

        yield write


@contextmanager
def _create_directory(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Create a directory that appears when it is complete; yield what writes a file in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise click.UsageError(f"{path} already exists (expected a new or empty directory)")
    with _name_target(path):
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:100]}."))

        def write(name: str, content: bytes) -> None:
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with target.open("xb") as file:
                    file.write(content)
            except FileExistsError as error:
                raise ManifestError(f"two images map to the document {name}") from error

        try:
            yield write
            partial.chmod(0o755)
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
            partial.replace(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _name_target(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TritonForgeError(f"{path}: cannot write: {describe_error(error)}") from error


class _Tally:
    """Counts of a conversion."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.count = 0
        self.boxes = 0
        self.left_out = 0
        self.classes: set[int] = set()
        self.names = dict(names)

    def add_line(self, line: Line) -> None:
        self.count += 1
        for name in find_labels(line, "boxes"):
            numbers = list_classes(line, name)
            self.boxes += len(numbers)
            self.classes.update(numbers)

    def count_images(self, images: Iterable[LabelledImage]) -> Iterator[LabelledImage]:
        for image in images:
            self.count += 1
            self.boxes += len(image.boxes.boxes)
            self.classes.update(box.class_id for box in image.boxes.boxes)
            self.names.update(image.names)
            yield image


def _convert_to_lines(
    data_set: DataSet, progress: Steps, *, images: str, label: str | None, labels: Path | None, names: Mapping[int, str]
) -> Iterator[Line]:
    if data_set.form == "classic" and labels is not None:
        uris = with_path(data_set.path, read_classic_uris(data_set.chunks(progress)))
        yield from with_path(data_set.path, join_labels(uris, labels, label or "label"))
    else:
        yield from data_set.lines(progress, folder=images, names=names, label=label or DEFAULT_LABEL)


def _read_images(
    data_set: DataSet, progress: Steps, tally: _Tally, *, images: str, label: str | None, names: Mapping[int, str]
) -> Iterator[LabelledImage]:
    """Yield the read_labelled_image images of a data set; lines without the label are counted and skipped."""
    if data_set.form != "augmented":
        yield from data_set.images(images, names)
        return
    chosen = label
    for line in data_set.lines(progress, names=names):
        if chosen is None:
            chosen = _choose_label(data_set.path, line)
        image = None
        if chosen is not None:
            try:
                image = read_labelled_image(line, chosen)
            except ManifestError as error:
                hint = f"; tritonforge manifest check {data_set.path} lists all problems"
                raise locate(data_set.path, error, hint) from error
        if image is None:
            tally.left_out += 1
        else:
            yield LabelledImage(image.source, image.boxes, {**names, **image.names})
    if chosen is None or not tally.count:
        what = f"no line has the label {chosen}" if chosen else "no line has a label with boxes"
        raise LocatedError(f"{data_set.path}: {what}")


def _choose_label(path: str, line: Line) -> str | None:
    """Return the only label with boxes of a line, None if it has none. Raises click.UsageError for several."""
    labels = list(find_labels(line, "boxes"))
    if len(labels) > 1:
        raise click.UsageError(
            f"{path}:{line.number}: several labels: {', '.join(labels)}; choose one with --label NAME"
        )
    return labels[0] if labels else None


def _report_conversion(tally: _Tally, output: Path, to: str, *, as_json: bool) -> None:
    notes = []
    if tally.left_out:
        notes.append(f"skipped: {format_count(tally.left_out, 'line')} without the label")
    missing = find_class_gaps(tally.classes) if to == "detector" else []
    if missing:
        notes.append(
            "the built-in detector needs classes numbered from 0 without gaps; "
            f"no box of class {', '.join(map(str, missing))}"
        )
    unnamed = sorted(tally.classes - set(tally.names)) if to == "detector" else []
    if unnamed:
        notes.append(f"classes without a name: {', '.join(map(str, unnamed[:20]))} (set them with --class-names)")
    if as_json:
        counts = {"images": tally.count, "boxes": tally.boxes, "left_out": tally.left_out}
        echo_json({"output": str(output), **counts, "classes": sorted(tally.classes), "notes": notes})
    else:
        echo(f"{output}: {format_count(tally.count, 'image')}, {format_count(tally.boxes, 'box', 'boxes')}")
    for sentence in notes:
        note(sentence)
