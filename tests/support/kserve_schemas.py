"""Objects held against KServe's CRDs: the structural schema of the API server, with unknown fields refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kubernetes"
KSERVE_VERSIONS = ("v0.16.0", "v0.20.0")
CHART = FIXTURES / "k8s-onprem.tgz"


@lru_cache(maxsize=1)
def read_crds() -> Mapping[str, list[dict[str, Any]]]:
    """Return the CustomResourceDefinitions of the fixture, by the version of KServe."""
    crds: Mapping[str, list[dict[str, Any]]] = json.loads(
        gzip.decompress((FIXTURES / "kserve_crds.json.gz").read_bytes())
    )["crds"]
    return crds


def list_violations(version: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return what the API server would refuse in a manifest, by the CRD of its kind and version."""
    for crd in read_crds()[version]:
        for served in crd["spec"]["versions"]:
            if (manifest["kind"], manifest["apiVersion"]) == (
                crd["spec"]["names"]["kind"],
                f"{crd['spec']['group']}/{served['name']}",
            ):
                schema = _close(served["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                return [
                    f"{'.'.join(map(str, error.path))}: {error.message}"
                    for error in Draft202012Validator(schema).iter_errors(dict(manifest))
                ]
    raise AssertionError(f"no CRD for {manifest['kind']} {manifest['apiVersion']}")


def _close(schema: Any) -> Any:
    """Return an OpenAPI v3 schema as JSON Schema in which objects with properties have no others."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(_convert(schema))
    if "properties" in closed and "additionalProperties" not in closed:
        closed["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return closed


def _convert(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name == "properties":
            yield name, {member: _close(part) for member, part in value.items()}
        elif name in ("items", "additionalProperties", "not"):
            yield name, _close(value)
        elif name in ("type", "required", "enum", "pattern", "minimum", "maximum", "maxItems", "minItems", "maxLength",
                      "minLength", "format"):  # fmt: skip
            yield name, value
        elif name in ("anyOf", "oneOf", "allOf"):
            yield name, [_convert_part(part) for part in value]


def _convert_part(schema: dict[str, Any]) -> dict[str, Any]:
    return dict(_convert(schema))  # a part adds to its object, whose members it need not repeat
