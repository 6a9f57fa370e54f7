"""The subcommand of packages: package."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
from rich.markup import escape

from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, human_bytes, out, steps
from tritonforge.errors import PackageError
from tritonforge.escaping import terminal_line
from tritonforge.sagemaker import package as packages

if TYPE_CHECKING:
    from tritonforge.repository.conversion import Conversion

__all__ = ["package"]

_DEFAULT_OUTPUT: Final = Path("model.tar.gz")
#: How many names a line lists.
_LISTED: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the package is meant for, as the options say it."""

    image: str | None
    instance_type: str | None
    environment: Mapping[str, str] | None
    default_model: str | None
    multi_model: bool

    def as_arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class _Place:
    """Which S3 is meant; what is None, boto3 finds itself."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None


@click.command()
@click.argument("source", metavar="REPOSITORY", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The archive; default model.tar.gz.")
@click.option("--image", metavar="TAG", help="The server image that is to take it: 24.09, or a whole image URI.")
@click.option("--tensorflow", type=click.Choice(["onnx", "python-backend"]), help="For an image without TensorFlow: "
              "convert such models to ONNX, or use your own image with the backend in it.")  # fmt: skip
@click.option("--instance-type", metavar="ML.TYPE", help="The SageMaker instance type that it is meant for.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the container.")
@click.option("--default-model", metavar="NAME", help="The model that is asked; default: the one that no other uses.")
@click.option("--multi-model", is_flag=True, help="It is meant for a multi-model endpoint.")
@click.option("--tfs", is_flag=True, help="It is meant for a TensorFlow Serving container: SavedModels and code/.")
@click.option("--dereference", is_flag=True, help="Take what links lead to outside of the repository, too.")
@click.option("--uncompressed", metavar="S3://...", help="Put the files below this prefix instead of into an archive.")
@click.option("--prune", is_flag=True, help="With --uncompressed: remove what else lies below the prefix.")
@click.option("--region", metavar="NAME", help="With --uncompressed: the region; else as boto3 finds it.")
@click.option("--endpoint-url", metavar="URL", help="With --uncompressed: in place of AWS's own address.")
@click.option("--profile", metavar="NAME", help="With --uncompressed: the profile in ~/.aws/config.")
@click.option("--inspect", "inspecting", is_flag=True, help="REPOSITORY is an archive (- for standard input): show it.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def package(
    source: Path,
    output: Path | None,
    image: str | None,
    tensorflow: str | None,
    instance_type: str | None,
    variables: tuple[str, ...],
    default_model: str | None,
    multi_model: bool,
    tfs: bool,
    dereference: bool,
    uncompressed: str | None,
    prune: bool,
    region: str | None,
    endpoint_url: str | None,
    profile: str | None,
    inspecting: bool,
    form: str,
) -> int:
    """Pack a built or hand-written model repository as SageMaker's model.tar.gz: the same bytes every time.

    It is judged for the image first; what is refused is not written, and the exit code is 1. The digest is of the
    sorted paths and contents, as `tritonforge build` prints it, not of the archive.
    """
    place = _Place(region, endpoint_url, profile)
    _check_options(
        {
            "--inspect": inspecting and bool(output or uncompressed or dereference or tensorflow),
            "--uncompressed": uncompressed is not None and bool(output or multi_model),
            "--prune, --region, --endpoint-url or --profile": not uncompressed and (prune or place != _Place()),
            "--default-model": default_model is not None and multi_model,
            "--tfs": tfs and bool(image or tensorflow or multi_model or default_model),
        }
    )
    if tensorflow is not None and image is None:
        raise click.UsageError("--tensorflow needs --image: for which image?")
    asked = _Asked(
        image=f"{image}+tensorflow" if tensorflow == "python-backend" else image,
        instance_type=instance_type,
        environment=_environment(variables),
        default_model=default_model,
        multi_model=multi_model,
    )
    if inspecting:
        return _inspect(source, asked, form)
    conversion = _converted(source, image, form) if tensorflow == "onnx" and image is not None else None
    repository = source if conversion is None else conversion.repository
    judgement = packages.check_package(repository, dereference=dereference, **asked.as_arguments())
    if judgement.refused:
        echo(_findings(repository, judgement, form))
        return 1
    _check_kind(repository, judgement, tfs=tfs, image=image)
    if uncompressed is not None:
        told = _put(repository, uncompressed, place, prune=prune, dereference=dereference)
    else:
        told = _write(repository, output or _DEFAULT_OUTPUT, dereference=dereference)
    _report(repository, {"image": asked.image, **told}, judgement, conversion, form)
    return 0


def _check_options(wrong: Mapping[str, bool]) -> None:
    for options, is_wrong in wrong.items():
        if is_wrong:
            raise click.UsageError(f"{options} does not go with the other options that are given")


def _check_kind(repository: Path, judgement: packages.PackageReport, *, tfs: bool, image: str | None) -> None:
    """Raise where one kind of package was asked for and the folder is the other."""
    if tfs and not judgement.is_tfs_package:
        raise PackageError(
            f"{repository}: --tfs: no <model>/<version>/saved_model.pb lies here without a config.pbtxt beside it; "
            "this is a model repository of Triton's"
        )
    if judgement.is_tfs_package and image is not None:
        raise PackageError(
            f"{repository}: this is a package for a TensorFlow Serving container, which no Triton image takes; give "
            "--tfs in place of --image"
        )


def _environment(variables: Sequence[str]) -> dict[str, str] | None:
    wrong = [each for each in variables if "=" not in each]
    if wrong:
        raise click.UsageError(f"--env {wrong[0]}: write NAME=VALUE")
    return {name: value for name, _, value in (each.partition("=") for each in variables)} if variables else None


def _findings(repository: Path, judgement: packages.PackageReport, form: str) -> str:
    """The report of `tritonforge validate`."""
    from tritonforge.cli.reports import FORMATS, Judged

    found = judgement.judged
    judged = Judged(str(repository), found.findings, found.models, found.texts, is_tfs_package=judgement.is_tfs_package)
    return FORMATS[form]([judged])


def _write(repository: Path, destination: Path, *, dereference: bool) -> dict[str, Any]:
    with steps() as progress:
        progress.begin(f"packing {repository}")
        done = packages.write_package(repository, destination, dereference=dereference, progress=progress.moved)
    return {
        "package": str(destination),
        "digest": done.digest,
        "size": done.size,
        "files": dict(done.files),
        "left_out": list(done.left_out),
    }


def _put(repository: Path, uri: str, place: _Place, *, prune: bool, dereference: bool) -> dict[str, Any]:
    """Put the files below a prefix of S3. Nothing else may lie there: SageMaker takes it into the model folder."""
    from tritonforge.sagemaker.client.session import Session
    from tritonforge.sagemaker.client.store import Store

    files = dict(packages.list_objects(repository, dereference=dereference))
    prefix = f"{uri.rstrip('/')}/"
    connected = Session(region_name=place.region, endpoint_url=place.endpoint_url, profile_name=place.profile)
    with connected as session, steps() as progress:
        store = Store(session)
        progress.begin(f"reading {repository}")
        held = packages.read_contents(repository, dereference=dereference, progress=progress.moved)
        digests = {path: f"sha256:{sha256}" for path, sha256 in held.hashes.items()}
        stale = store.compare_tree(files, prefix, digests=digests).stale
        if stale and not prune:
            raise click.ClickException(
                f"{prefix}: SageMaker would put into the model folder what else lies there: {_listed(stale)}; give a "
                "prefix of its own, or --prune to remove it"
            )
        progress.begin(f"uploading to {prefix}")
        done, total = 0, held.size

        def moved(size: int) -> None:
            nonlocal done
            done += size
            progress.moved(done, total)

        told = store.upload_tree(files, prefix, digests=digests, prune=prune, progress=moved)
    return {
        "uri": prefix,
        "model_data_source": {
            "S3DataSource": {"S3Uri": prefix, "S3DataType": "S3Prefix", "CompressionType": "None"},
        },
        "digest": held.digest,
        "size": held.size,
        "sent": told.sent,
        "removed": list(told.removed),
        "files": dict(held.files),
        "left_out": list(held.left_out),
    }


def _converted(repository: Path, image: str, form: str) -> Conversion:
    """The repository beside this one, with each TensorFlow model as an ONNX model."""
    from tritonforge.repository.conversion import converted

    packages.check_repository(repository)
    destination = repository.resolve().with_name(f"{repository.resolve().name}-onnx")
    with steps() as progress:
        conversion = converted(repository, destination, image=image, progress=progress)
    if form == "text":
        for each in conversion.models:  # its notes were told while it worked
            err.print(each.sentence, markup=False)
    return conversion


def _report(
    repository: Path,
    told: Mapping[str, Any],
    judgement: packages.PackageReport,
    conversion: Conversion | None,
    form: str,
) -> None:
    if form == "json":
        document = {
            "repository": str(repository),
            **told,
            "default_model": judgement.default_model,
            "environment": dict(judgement.environment),
            "idle_models": list(judgement.idle),
            "findings": [asdict(each) for each in judgement.findings],
        }
        if conversion is not None:
            document["conversion"] = {
                "models": [each.to_json() for each in conversion.models],
                "notes": list(conversion.notes),
            }
        echo(json.dumps(document, indent=2))
        return
    if judgement.findings:
        err.print(_findings(repository, judgement, "text"), markup=False)
    for line in _notes(told, judgement):
        err.print(f"[yellow]note:[/yellow] {escape(line)}")
    model = judgement.default_model
    if model:
        environment = " ".join(f"{name}={value}" for name, value in judgement.environment.items())
        out.print(f"  {model} answers  {environment}".rstrip(), markup=False)
    unpacked = human_bytes(sum(told["files"].values()))
    where = told.get("package") or told["uri"]
    out.print(f"packed {where}  {human_bytes(told['size'])} of {unpacked}  {told['digest']}", markup=False)


def _notes(told: Mapping[str, Any], judgement: packages.PackageReport) -> Iterator[str]:
    if "+" in (told["image"] or ""):
        yield f"it is meant for an image of your own, {told['image']}: the Dockerfile's stage sagemaker-tensorflow"
    if told["left_out"]:
        yield f"left out: {_listed(told['left_out'])}"
    if judgement.idle:
        yield f"in it, but not loaded, since {judgement.default_model} does not use it: {_listed(judgement.idle)}"
    if told.get("removed"):
        yield f"removed: {_listed(told['removed'])}"


def _listed(names: Sequence[str]) -> str:
    shown = terminal_line(", ".join(names[:_LISTED]))
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _inspect(source: Path, asked: _Asked, form: str) -> int:
    """Show what an archive holds, and judge it where it is said for which image."""
    archive: BinaryIO | Path = sys.stdin.buffer if str(source) == "-" else source
    found = packages.inspect(archive)
    judgement = packages.check_tree(found.tree, **asked.as_arguments())
    findings = judgement.findings if asked.image is not None else ()
    refused = bool(findings) and judgement.refused
    if form == "json":
        document: dict[str, Any] = {
            "archive": str(source),
            "size": found.size,
            "digest": found.digest,
            "default_model": judgement.default_model,
            "members": [asdict(each) for each in found.members],
            "files": dict(found.files),
        }
        if asked.image is not None:
            document |= {
                "verdict": "refused" if refused else judgement.judged.verdict,
                "findings": [asdict(each) for each in findings],
            }
        echo(json.dumps(document, indent=2))
        return 1 if refused else 0
    for member in found.members:
        out.print(f"  {_line(member)}", markup=False)
    out.print(
        f"{source}  {human_bytes(found.size)} of {human_bytes(sum(found.files.values()))}  {found.digest}", markup=False
    )
    out.print(f"default model: {judgement.default_model or 'not clear from the archive'}", markup=False)
    if asked.image is not None:
        echo(_findings(source, judgement, "text"))
    return 1 if refused else 0


def _line(member: packages.Member) -> str:
    """One member, whose name is chosen by a stranger."""
    path = terminal_line(member.path)
    if member.kind == "directory":
        return f"{path}/"
    if member.kind == "file":
        return f"{path}{' *' if member.executable else ''}  {human_bytes(member.size)}"
    target = terminal_line(member.target)
    return f"{path} {'->' if member.kind == 'link' else '='} {target}"
