"""The plan of a deployment to a cluster: what a server-side apply would change, its text and its JSON. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge.kubernetes.field_support import ClusterTarget
from tritonforge.kubernetes.yaml_text import format_yaml
from tritonforge.sagemaker.plans.plan import Change, mask_secrets

__all__ = [
    "ClusterPlan",
    "ManifestStep",
    "StepAction",
    "UploadStep",
    "compare_manifests",
    "mask_manifest",
    "render_plan",
    "to_document",
]

StepAction: TypeAlias = Literal["create", "update", "none", "write", "delete"]

_SIGNS: Final = {"create": "+", "update": "~", "none": " ", "write": "+", "delete": "-"}
#: Objects of an upload that the text of a plan lists; its document has all.
_LISTED: Final = 20
#: The version of the JSON document, raised when the meaning of a member changes.
_FORMAT: Final = 1
_VARIABLE: Final = re.compile(r"\.env\[(?P<name>[^\]]+)\]\.value")
#: What the API server keeps of an object by itself.
_SERVERS: Final = frozenset({"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"})


@dataclass(frozen=True, slots=True)
class ManifestStep:
    """One manifest, and what applying it does: ``write`` where no cluster was asked.

    ``changes`` are the fields that differ, as the API server would store them.
    """

    action: StepAction
    manifest: Mapping[str, Any]
    changes: Sequence[Change] = ()

    @property
    def kind(self) -> str:
        """The kind of the object; "values" for those of a chart."""
        return str(self.manifest.get("kind", "values"))

    @property
    def name(self) -> str:
        """The name of the object."""
        return str(self.manifest.get("metadata", {}).get("name", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStep:
    """What the upload of a repository does: keys below the address, sorted.

    ``sent`` has the sizes in bytes of the files that S3 lacks. ``removed`` are objects of earlier uploads that the
    repository no longer has. ``foreign`` objects were not uploaded by tritonforge, and stay.
    """

    uri: str
    sent: Mapping[str, int]
    unchanged: int = 0
    removed: Sequence[str] = ()
    foreign: Sequence[str] = ()

    @property
    def has_changes(self) -> bool:
        """True if S3 lacks a file, or has an object of an earlier upload."""
        return bool(self.sent or self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """The manifests of a deployment, or the values of a chart, or the objects that a removal deletes.

    ``server`` is the address of the API server that was asked, None if none was. ``upload`` comes before the manifests;
    None where the repository is not uploaded. ``notes`` are sentences for the user.
    """

    target: ClusterTarget
    name: str
    namespace: str
    digest: str
    steps: Sequence[ManifestStep]
    server: str | None = None
    upload: UploadStep | None = None
    notes: Sequence[str] = ()

    @property
    def has_changes(self) -> bool:
        """True if applying it changes something, or if no cluster was asked."""
        is_uploaded = self.upload is not None and self.upload.has_changes
        return is_uploaded or any(step.action != "none" for step in self.steps)

    @property
    def manifests(self) -> list[Mapping[str, Any]]:
        """The manifests in the order in which they are applied."""
        return [step.manifest for step in self.steps]


def compare_manifests(stored: Mapping[str, Any], applied: Mapping[str, Any]) -> list[Change]:
    """Return the fields that differ between an object as it is stored and as it would be, sorted by their paths."""
    old, new = dict(_flatten(stored)), dict(_flatten(applied))
    return [
        Change(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if _differ(path, old, new)
    ]


def _differ(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return (path in old) != (path in new) or old[path] != new[path]


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of an object; members of a list with names are found by them, as the API server merges them."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            if (path == "metadata" and name in _SERVERS) or (not path and name == "status"):
                continue
            yield from _flatten(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            key = item["name"] if isinstance(item, Mapping) and "name" in item else index
            yield from _flatten(item, f"{path}[{key}]")
    else:
        yield path, value


def mask_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest for display: values of variables whose names mark them as secret are masked."""
    return {name: _mask(value) for name, value in manifest.items()}


def _mask(value: Any) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str) and "value" in value:
            return {**value, "value": _mask_variable(value["name"], value["value"])}
        return {name: _mask(item) for name, item in value.items()}
    return [_mask(item) for item in value] if isinstance(value, list | tuple) else value


def _mask_variable(name: str, value: Any) -> Any:
    return mask_secrets({"Environment": {name: value}})["Environment"][name]


def _mask_change(change: Change) -> Change:
    match = _VARIABLE.search(change.field)
    if match is None:
        return change
    old, new = (None if value is None else _mask_variable(match["name"], value) for value in (change.old, change.new))
    return Change(change.field, old, new)


def render_plan(plan: ClusterPlan) -> list[str]:
    """Return the lines of a plan: what is created (+) and changed (~), with every new manifest in full."""
    place = "" if plan.server is None else f" on {plan.server}"
    lines = [f"{plan.name} in namespace {plan.namespace}{place}"]
    if plan.upload is not None:
        lines += ["", *_render_upload(plan.upload)]
    for step in plan.steps:
        lines += ["", *_render_step(step)]
    if plan.notes:
        lines += ["", *(f"note: {note}" for note in plan.notes)]
    if plan.server is None:
        return [*lines, "", f"Plan: {len(plan.steps)} to write; no cluster was asked."]
    if not plan.has_changes:
        return [*lines, "", "Nothing to do: the cluster has everything." if plan.steps else "Nothing to do."]
    created, updated, deleted = (
        sum(step.action == action for step in plan.steps) for action in ("create", "update", "delete")
    )
    counts = f"{created} to create, {updated} to change, {deleted} to delete"
    if plan.upload is not None:
        counts += f"; {len(plan.upload.sent)} files to upload, {len(plan.upload.removed)} to remove"
    return [*lines, "", f"Plan: {counts}."]


def _render_upload(upload: UploadStep) -> Iterator[str]:
    sign = " " if not upload.has_changes else "~" if upload.unchanged or upload.removed else "+"
    size = sum(upload.sent.values())
    yield f"  {sign} repository {upload.uri}: {size:,} bytes to upload, {upload.unchanged} files unchanged"
    lines = [
        *(f"      + {key}, {size:,} bytes" for key, size in upload.sent.items()),
        *(f"      - {key}" for key in upload.removed),
        *(f"        {key}, which tritonforge did not upload, stays; the pods download it" for key in upload.foreign),
    ]
    yield from lines[:_LISTED]
    if len(lines) > _LISTED:
        yield f"      and {len(lines) - _LISTED} more"


def _render_step(step: ManifestStep) -> Iterator[str]:
    yield f"  {_SIGNS[step.action]} {step.kind} {step.name}".rstrip()
    for change in map(_mask_change, step.changes):
        old, new = (
            "(none)" if value is None else json.dumps(value, ensure_ascii=False) for value in (change.old, change.new)
        )
        yield f"      {change.field}: {old} -> {new}"
    if step.action in ("create", "write"):
        yield from (f"      {line}" for line in format_yaml(mask_manifest(step.manifest)).splitlines())


def to_document(plan: ClusterPlan) -> dict[str, Any]:
    """Return the plan as a document: ``format`` 1, with every manifest except for secrets."""
    return {
        "format": _FORMAT,
        "target": plan.target,
        "name": plan.name,
        "namespace": plan.namespace,
        "server": plan.server,
        "digests": {"": plan.digest} if plan.digest else {},
        "changes": plan.has_changes,
        "steps": [
            {
                "action": step.action,
                "kind": step.kind,
                "name": step.name,
                "changes": [
                    {"field": change.field, "old": change.old, "new": change.new}
                    for change in map(_mask_change, step.changes)
                ],
                "manifest": mask_manifest(step.manifest),
            }
            for step in plan.steps
        ],
        "upload": None if plan.upload is None else _describe_upload(plan.upload),
        "notes": list(plan.notes),
    }


def _describe_upload(upload: UploadStep) -> dict[str, Any]:
    return {
        "uri": upload.uri,
        "sent": dict(upload.sent),
        "unchanged": upload.unchanged,
        "removed": list(upload.removed),
        "foreign": list(upload.foreign),
    }
