"""The command package."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    FILE,
    SAGEMAKER,
    AwsOptions,
    add_options,
    json_option,
    name_value_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import err, human_bytes, list_names, note, out, steps
from tritonforge.errors import PackageError
from tritonforge.escaping import escape_line
from tritonforge.sagemaker import package as packages

if TYPE_CHECKING:
    from tritonforge.repository.onnx_conversion import Conversion

__all__ = ["package"]

_DEFAULT_OUTPUT: Final = Path("model.tar.gz")
_TARGET: Final = "Target options"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """What the package is for, as the options state it."""

    image: str | None
    instance_type: str | None
    environment: Mapping[str, str] | None
    default_model: str | None
    multi_model: bool

    def to_arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@click.command(
    cls=Command,
    example="""\
tritonforge package build/digits --image 24.09 -o digits.tar.gz
tritonforge package build/digits --image 24.09 --uncompressed s3://bucket/digits
tritonforge package digits.tar.gz --inspect""",
)
@click.argument("source", metavar="REPOSITORY", type=click.Path(path_type=Path, exists=True, allow_dash=True))
@option("-o", "--output", type=FILE, help="The archive. Default: model.tar.gz.")
@option("--model", metavar="NAME", help="The model that serves requests. Default: the one that no other model uses.")
@option("--multi-model", is_flag=True, help="Pack for a multi-model endpoint.")
@option("--tfs", is_flag=True, help="Pack for a TensorFlow Serving container: SavedModels and code/.")
@option("--dereference", is_flag=True, help="Include the targets of links that lead out of the repository.")
@option("--inspect", is_flag=True, help="REPOSITORY is an archive (- for standard input): list its content.")
@option("--image", metavar="TAG", group=_TARGET, help="The server image: 24.09, or an image URI.")
@option("--tensorflow", type=click.Choice(["onnx", "python-backend"]), group=_TARGET,
        help="For an image without TensorFlow: convert its models to ONNX, or use an image of your own with the "
        "backend.")  # fmt: skip
@option("--instance-type", metavar="ML.TYPE", group=_TARGET, help="The SageMaker instance type.")
@name_value_option("--env", "environment", group=_TARGET, help="A variable of the container.")
@option("--uncompressed", metavar="S3://...", group=SAGEMAKER, help="Upload the files below this prefix instead of "
        "writing an archive. The options below apply to it.")  # fmt: skip
@option("--prune", is_flag=True, group=SAGEMAKER, help="Delete all other objects below the prefix.")
@add_options(AwsOptions, "aws")
@json_option
def package(
    source: Path,
    output: Path | None,
    model: str | None,
    multi_model: bool,
    tfs: bool,
    dereference: bool,
    inspect: bool,
    image: str | None,
    tensorflow: str | None,
    instance_type: str | None,
    environment: dict[str, str],
    uncompressed: str | None,
    prune: bool,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Pack a built or hand-written model repository as SageMaker's model.tar.gz: the same bytes every time.

    It is validated for the image first; if that is refused nothing is written and the exit code is 1. The digest covers
    the sorted paths and contents, as `tritonforge build` prints it, not the archive.
    """
    if inspect:
        names = ["output", "uncompressed", "dereference", "tensorflow", "prune", "tfs"]
        reject_options("does not apply to --inspect", names=names)
    if uncompressed is None:
        reject_options("needs --uncompressed", group=SAGEMAKER)
    else:
        reject_options("does not apply to --uncompressed", names=["output", "multi_model"])
    if multi_model:
        reject_options("does not apply to --multi-model", names=["model"])
    if tfs:
        reject_options("does not apply to --tfs", names=["image", "tensorflow", "multi_model", "model"])
    if tensorflow is not None and image is None:
        raise click.UsageError("--tensorflow needs --image")
    if str(source) == "-" and not inspect:
        raise click.UsageError("- (standard input) needs --inspect")
    target = _Target(
        image=f"{image}+tensorflow" if tensorflow == "python-backend" else image,
        instance_type=instance_type,
        environment=environment or None,
        default_model=model,
        multi_model=multi_model,
    )
    if inspect:
        return _inspect(source, target, as_json=as_json)
    conversion = None
    if tensorflow == "onnx" and image is not None:
        conversion = _convert(source, image, prints_models=not as_json)
    repository = source if conversion is None else conversion.repository
    report = packages.check_package(repository, dereference=dereference, **target.to_arguments())
    if report.is_refused:
        echo(_render_findings(repository, report, "json" if as_json else "text"))
        return 1
    _check_kind(repository, report, tfs=tfs, image=image)
    if uncompressed is not None:
        result = _upload(repository, uncompressed, aws, prune=prune, dereference=dereference)
    else:
        result = _write(repository, output or _DEFAULT_OUTPUT, dereference=dereference)
    _report(repository, {"image": target.image, **result}, report, conversion, as_json=as_json)
    return 0


def _check_kind(repository: Path, report: packages.PackageReport, *, tfs: bool, image: str | None) -> None:
    """Raise PackageError if the directory is not the requested kind of package."""
    if tfs and not report.is_tfs_package:
        raise PackageError(
            f"{repository}: --tfs: expected <model>/<version>/saved_model.pb without a config.pbtxt, got a Triton "
            "model repository"
        )
    if report.is_tfs_package and image is not None:
        raise PackageError(
            f"{repository}: a package for a TensorFlow Serving container, which no Triton image accepts; use "
            "--tfs instead of --image"
        )


def _render_findings(repository: Path, report: packages.PackageReport, output_format: str) -> str:
    """Render the report of `tritonforge validate`."""
    from tritonforge.cli.reports import FORMATS, RepositoryReport

    result = report.validation
    rendered = RepositoryReport(
        str(repository), result.findings, result.models, result.texts, is_tfs_package=report.is_tfs_package
    )
    return FORMATS[output_format]([rendered])


def _write(repository: Path, destination: Path, *, dereference: bool) -> dict[str, Any]:
    with steps() as progress:
        progress.begin(f"packing {repository}")
        done = packages.write_package(repository, destination, dereference=dereference, on_progress=progress.show_bytes)
    return {
        "package": str(destination),
        "digest": done.digest,
        "size": done.size,
        "files": dict(done.files),
        "left_out": list(done.left_out),
    }


def _upload(repository: Path, uri: str, aws: AwsOptions, *, prune: bool, dereference: bool) -> dict[str, Any]:
    """Upload the files below a prefix of S3. SageMaker copies everything below it, so other objects are refused."""
    from tritonforge.sagemaker.client.session import Session
    from tritonforge.sagemaker.client.store import Store

    files = dict(packages.list_objects(repository, dereference=dereference))
    prefix = f"{uri.rstrip('/')}/"
    with Session(**aws.session_arguments) as session, steps() as progress:
        store = Store(session)
        progress.begin(f"reading {repository}")
        content = packages.read_contents(repository, dereference=dereference, on_progress=progress.show_bytes)
        digests = {path: f"sha256:{sha256}" for path, sha256 in content.hashes.items()}
        stale = store.compare_tree(files, prefix, digests=digests).stale
        if stale and not prune:
            raise click.ClickException(
                f"{prefix}: other objects are below this prefix, which SageMaker would copy into the model directory: "
                f"{list_names(stale)}; choose another prefix, or delete them with --prune"
            )
        progress.begin(f"uploading to {prefix}")
        done, total = 0, content.size

        def on_progress(size: int) -> None:
            nonlocal done
            done += size
            progress.show_bytes(done, total)

        uploaded = store.upload_tree(files, prefix, digests=digests, prune=prune, on_progress=on_progress)
    return {
        "uri": prefix,
        "model_data_source": {
            "S3DataSource": {"S3Uri": prefix, "S3DataType": "S3Prefix", "CompressionType": "None"},
        },
        "digest": content.digest,
        "size": content.size,
        "sent": uploaded.sent,
        "removed": list(uploaded.removed),
        "files": dict(content.files),
        "left_out": list(content.left_out),
    }


def _convert(repository: Path, image: str, *, prints_models: bool) -> Conversion:
    """Write a repository beside this one in which each TensorFlow model is an ONNX model."""
    from tritonforge.repository.onnx_converter import convert_repository

    packages.check_repository(repository)
    destination = repository.resolve().with_name(f"{repository.resolve().name}-onnx")
    with steps() as progress:
        conversion = convert_repository(repository, destination, image=image, on_progress=progress.on_build)
    if prints_models:
        for model in conversion.models:
            err.print(model.sentence, markup=False)
    return conversion


def _report(
    repository: Path,
    result: Mapping[str, Any],
    report: packages.PackageReport,
    conversion: Conversion | None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        document = {
            "repository": str(repository),
            **result,
            "default_model": report.default_model,
            "environment": dict(report.environment),
            "idle_models": list(report.idle),
            "findings": [asdict(finding) for finding in report.findings],
        }
        if conversion is not None:
            document["conversion"] = {
                "models": [model.to_json() for model in conversion.models],
                "notes": list(conversion.notes),
            }
        echo_json(document)
        return
    if report.findings:
        err.print(_render_findings(repository, report, "text"), markup=False)
    for sentence in _list_notes(result, report):
        note(sentence)
    model = report.default_model
    if model:
        environment = " ".join(f"{name}={value}" for name, value in report.environment.items())
        out.print(f"  default model: {model}  {environment}".rstrip(), markup=False)
    unpacked = human_bytes(sum(result["files"].values()))
    where = result.get("package") or result["uri"]
    out.print(f"packed {where}  {human_bytes(result['size'])} of {unpacked}  {result['digest']}", markup=False)


def _list_notes(result: Mapping[str, Any], report: packages.PackageReport) -> Iterator[str]:
    if "+" in (result["image"] or ""):
        yield f"packed for an image of your own, {result['image']}: the Dockerfile's stage sagemaker-tensorflow"
    if result["left_out"]:
        yield f"left out: {list_names(result['left_out'])}"
    if report.idle:
        yield f"included but not loaded, since {report.default_model} does not use it: {list_names(report.idle)}"
    if result.get("removed"):
        yield f"removed: {list_names(result['removed'])}"


def _inspect(source: Path, target: _Target, *, as_json: bool) -> int:
    """Print what an archive contains, and validate it if an image is given."""
    archive: BinaryIO | Path = sys.stdin.buffer if str(source) == "-" else source
    inspection = packages.inspect(archive)
    report = packages.check_tree(inspection.tree, **target.to_arguments())
    findings = report.findings if target.image is not None else ()
    is_refused = bool(findings) and report.is_refused
    if as_json:
        document: dict[str, Any] = {
            "archive": str(source),
            "size": inspection.size,
            "digest": inspection.digest,
            "default_model": report.default_model,
            "members": [asdict(member) for member in inspection.members],
            "files": dict(inspection.files),
        }
        if target.image is not None:
            document |= {
                "verdict": "refused" if is_refused else report.validation.verdict,
                "findings": [asdict(finding) for finding in findings],
            }
        echo_json(document)
        return 1 if is_refused else 0
    unpacked = human_bytes(sum(inspection.files.values()))
    for member in inspection.members:
        out.print(f"  {_format_member(member)}", markup=False)
    out.print(f"{source}  {human_bytes(inspection.size)} of {unpacked}  {inspection.digest}", markup=False)
    out.print(f"default model: {report.default_model or 'not determined by the archive'}", markup=False)
    if target.image is not None:
        echo(_render_findings(source, report, "text"))
    return 1 if is_refused else 0


def _format_member(member: packages.Member) -> str:
    path = escape_line(member.path)
    if member.kind == "directory":
        return f"{path}/"
    if member.kind == "file":
        return f"{path}{' *' if member.executable else ''}  {human_bytes(member.size)}"
    target = escape_line(member.target)
    return f"{path} {'->' if member.kind == 'link' else '='} {target}"
