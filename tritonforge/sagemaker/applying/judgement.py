"""The judgement of the repositories before they go to AWS: what the image, its `serve` script and Triton refuse."""

from __future__ import annotations

from collections.abc import Mapping

from tritonforge.errors import ValidationError
from tritonforge.repository.findings import Finding
from tritonforge.sagemaker.applying.materials import Material
from tritonforge.sagemaker.deployment.container import choose_image, environment
from tritonforge.sagemaker.deployment.deployment import Deployment
from tritonforge.sagemaker.package import prepare

__all__ = ["judge"]


def judge(deployment: Deployment, materials: Mapping[str, Material], *, region: str) -> list[Finding]:
    """Every finding of every variant's repository for its image, instances and environment; none of them refuses.

    Raises:
        ValidationError: a repository would be refused, or its model ends; ``findings`` has everything that was found.
        DefinitionError: the image is not to be had.
    """
    found: dict[tuple[str, str], Finding] = {}
    errors = False
    for variant in (*deployment.production(), *deployment.shadows()):
        if variant.model_data_url is not None:
            continue
        image = choose_image(variant, region).image
        names = materials if deployment.multi_model else [variant.repository or ""]
        for name in names:
            material = materials.get(name)
            if material is None:
                continue
            variables = environment(variant, material.content, image, multi_model=deployment.multi_model)
            findings = prepare(
                material.folder,
                image=image.text,
                instance_type=variant.instance_type,
                environment=variables,
                multi_model=deployment.multi_model,
            ).findings
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
