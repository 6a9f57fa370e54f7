"""The repositories of a deployment on this disk: read, and checked for the image before they go to AWS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonforge import temporary
from tritonforge.errors import DefinitionError, ValidationError
from tritonforge.sagemaker.endpoints.container import build_environment, choose_image
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.package import check_package, find_default_model, read_contents, unpack
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.views import build
from tritonforge.validation.tree_reader import read_tree

__all__ = ["LocalRepository", "check_repositories", "open_repository"]


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository: its folder, the archive that it was unpacked from, if it was, and what a plan knows of it."""

    folder: Path
    content: Content
    archive: Path | None = None


@contextlib.contextmanager
def open_repository(path: Path) -> Iterator[LocalRepository]:
    """A built repository, or an archive of one, which is unpacked for the length of the context.

    Raises:
        DefinitionError: there is neither.
        PackageError: the archive is unsafe or damaged, or the repository cannot be packed.
    """
    if path.is_dir():
        yield LocalRepository(path, _content(path, size=None))
    elif path.is_file():
        with temporary.folder("archive") as parent:
            folder = Path(parent) / "repository"
            unpack(path, folder)
            yield LocalRepository(folder, _content(folder, size=path.stat().st_size), archive=path)
    else:
        raise DefinitionError(f"{path}: there is nothing; give a built repository, a model.tar.gz, or a definition")


def _content(folder: Path, *, size: int | None) -> Content:
    found = read_contents(folder)
    return Content(
        digest=found.digest,
        size=found.size if size is None else size,
        default_model=find_default_model(folder),
        batches=_batches(folder),
        files=found.files,
    )


def _batches(folder: Path) -> bool:
    """Whether a model of the repository collects requests into batches."""
    context = build(read_tree(folder), target="sagemaker")
    return any(
        model.max_batch_size > 1
        and not model.is_ensemble
        and any(model.document.one(name) is not None for name in ("dynamic_batching", "sequence_batching"))
        for model in context.models.values()
    )


def check_repositories(
    deployment: Deployment, repositories: Mapping[str, LocalRepository], *, region: str
) -> list[Finding]:
    """Every finding of every variant's repository for its image, instances and environment; none of them refuses.

    Raises:
        ValidationError: a repository would be refused, or its model ends; ``findings`` has everything that was found.
        DefinitionError: the image is not to be had, or is not for what the repository is.
    """
    found: dict[tuple[str, str], Finding] = {}
    errors = False
    for variant in (*deployment.list_variants(), *deployment.list_shadow_variants()):
        if variant.model_data_url is not None:
            continue
        image = choose_image(variant, region).image
        names = repositories if deployment.multi_model else [variant.repository or ""]
        for name in names:
            material = repositories.get(name)
            if material is None:
                continue
            variables = build_environment(variant, material.content, image, multi_model=deployment.multi_model)
            judged = check_package(
                material.folder,
                image=None if image is None else image.text,
                instance_type=variant.instance_type,
                gpus=None if variant.serverless_config is None else 0,
                environment=variables,
                multi_model=deployment.multi_model,
            )
            _check_kind(material, is_package=judged.is_tfs_package, for_triton=image is not None)
            findings = judged.findings
            for each in findings:
                found[each.code, f"{name}/{each.path}:{each.line}:{each.message}"] = each
                errors = errors or each.severity == "error"
    every = list(found.values())
    if errors:
        refused = [each for each in every if each.severity == "error"]
        listed = "\n".join(f"  {each.code} {each.path}: {each.message}" for each in refused)
        raise ValidationError(
            f"the repository would not run there ({len(refused)} errors); see tritonforge explain CODE:\n{listed}",
            findings=every,
        )
    return every


def _check_kind(material: LocalRepository, *, is_package: bool, for_triton: bool) -> None:
    """Raise DefinitionError where the image is one of the other kind: Triton's, or TensorFlow Serving's."""
    if is_package and for_triton:
        raise DefinitionError(
            f"{material.folder}: this is a package for TensorFlow Serving, which no Triton image takes; give "
            "image='tensorflow-inference:2.19' (--image tensorflow-inference:2.19)"
        )
    if not is_package and not for_triton:
        raise DefinitionError(
            f"{material.folder}: this is a model repository of Triton's, which no TensorFlow Serving image takes; give "
            "image='24.09' (--image 24.09)"
        )
