"""The data of a training job that lie on this machine, read for their digests, and made ready to be sent. An edge.

A manifest that refers to files here is written anew, with the addresses that they will have; its lines are read as a
training job would read them, so that a label that is not there is told before anything is paid for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import DefinitionError, ManifestError
from tritonforge.records.manifest import read_manifest_elements
from tritonforge.sagemaker.client.transfers import Location, compute_digest, read_pieces
from tritonforge.sagemaker.jobs.training.contents import DATA, Content, Part, channel_prefix, manifest_key, object_key
from tritonforge.sagemaker.jobs.training.planning import is_local, local_channels
from tritonforge.training.job.training_job import Channel, S3Data, TrainingJob
from tritonforge.training.manifest import Reference, SelectedAttribute, read_lines, select_attributes
from tritonforge.transform.object_store import LocalStore, StoreError

__all__ = ["Material", "digests_of", "materials"]

#: Files whose digests are computed at once; hashlib lets other threads run meanwhile.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Material:
    """One channel's data: what a plan knows of them, the files by the keys that they will have, and their digests."""

    content: Content
    files: Mapping[str, Path]
    digests: Mapping[str, str]


@contextmanager
def materials(job: TrainingJob, *, bucket: str) -> Iterator[Mapping[str, Material]]:
    """The data of a job's local channels, by channel; manifests that were written anew are there while this lasts.

    Raises:
        DefinitionError: there are none, a manifest is wrong or lists a file that is not there, or a file's name is one
            that S3 does not take.
    """
    with temporary.open_directory("training") as scratch:
        found: dict[str, Material] = {}
        for channel in local_channels(job):
            data = channel.data
            assert data is not None
            try:
                found[channel.name] = _read(channel, data, Path(scratch), bucket)
            except ManifestError as error:
                raise DefinitionError(f"channel {channel.name}: {data.uri}: {error}") from error
            except StoreError as error:
                raise DefinitionError(f"channel {channel.name}: {error}") from error
            except OSError as error:
                where = error.filename or data.uri
                raise DefinitionError(f"channel {channel.name}: {where}: {error.strerror}") from error
        yield found


def _read(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> Material:
    if data.data_type == "AugmentedManifestFile":
        return _augmented(channel, data, scratch, bucket)
    if data.data_type == "ManifestFile":
        return _classic(channel, data, scratch, bucket)
    return _folder(channel, data.uri)


def _folder(channel: Channel, uri: str) -> Material:
    """A folder, whose files go below one prefix, or one file, which goes there too."""
    top = Path(uri)
    above = top if top.is_dir() else top.parent
    files = [Path(each.uri) for each in LocalStore().list(uri)]
    paths = {path.relative_to(above).as_posix(): path for path in files}
    if not paths:
        raise DefinitionError(f"channel {channel.name}: {uri}: the folder is empty; there is nothing to learn from")
    found = dict(zip(paths, digests_of(paths.values()), strict=True))
    prefix, digest = channel_prefix(found)
    part = Part(
        kind=f"data of channel {channel.name}",
        prefix=prefix,
        digest=digest,
        files={_key(prefix + name): path.stat().st_size for name, path in paths.items()},
    )
    return Material(
        Content(key=prefix if top.is_dir() else f"{prefix}{top.name}", parts=(part,)),
        {prefix + name: path for name, path in paths.items()},
        {prefix + name: each for name, each in found.items()},
    )


def _augmented(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> Material:
    """An augmented manifest and the files here that the attributes of the job refer to."""
    manifest = Path(data.uri)
    names = data.attribute_names or ()
    local: dict[str, Path] = {}
    line = None
    with manifest.open("rb") as file:
        for line in read_lines(file):
            for name, each in zip(names, select_attributes(line, names), strict=True):
                if uri := _here(each):
                    path = _beside(manifest, uri)
                    if uri not in local and not path.is_file():
                        raise line.make_error(name, f"there is no file {path}")
                    local[uri] = path
    if line is None:
        raise ManifestError("the manifest is empty")
    if not local:
        return _manifest(channel, manifest, {}, {})
    digests = dict(zip(local, digests_of(local.values()), strict=True))
    keys = {uri: _key(object_key(digests[uri], path.name)) for uri, path in local.items()}
    anew = _anew(channel, manifest, scratch)
    with manifest.open("rb") as file, anew.open("wb") as out:
        for line in read_lines(file):
            attributes = dict(line.attributes)
            for name, each in zip(names, select_attributes(line, names), strict=True):
                if uri := _here(each):
                    attributes[name] = f"s3://{bucket}/{keys[uri]}"
            out.write(type(line)(line.number, attributes).to_bytes())
    return _manifest(
        channel,
        anew,
        {keys[uri]: path for uri, path in local.items()},
        {keys[uri]: digest for uri, digest in digests.items()},
    )


def _classic(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> Material:
    """A classic manifest and the files here that it lists."""
    manifest = Path(data.uri)
    elements: list[Any] = []
    local: dict[str, dict[str, Path]] = {}  # by prefix, then by key
    prefix: str | None = None
    for line, element in read_manifest_elements(read_pieces(manifest)):
        if isinstance(element, dict) and set(element) == {"prefix"} and isinstance(element["prefix"], str):
            prefix = element["prefix"]
        elif not isinstance(element, str) or not element or prefix is None:
            raise ManifestError(
                f'the manifest holds {json.dumps(element):.60}; expected {{"prefix": "..."}}, then keys', line=line
            )
        elif is_local(prefix):
            path = Path(f"{prefix}{element}")  # as jobs of this machine read it
            if ".." in element.split("/") or element.startswith("/") or not path.is_file():
                raise ManifestError(f"there is no file {path}, or it lies outside of the prefix", line=line)
            local.setdefault(prefix, {})[element] = path
        elements.append(element)
    if not elements:
        raise ManifestError("the manifest is empty")
    if not local:
        return _manifest(channel, manifest, {}, {})
    files: dict[str, Path] = {}
    digests: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for each, listed in local.items():
        found = dict(zip(listed, digests_of(listed.values()), strict=True))
        prefixes[each], _ = channel_prefix(found)
        files |= {_key(prefixes[each] + name): path for name, path in listed.items()}
        digests |= {prefixes[each] + name: digest for name, digest in found.items()}
    for element in elements:
        if isinstance(element, dict) and element["prefix"] in prefixes:
            element["prefix"] = f"s3://{bucket}/{prefixes[element['prefix']]}"
    anew = _anew(channel, manifest, scratch)
    anew.write_text(json.dumps(elements, ensure_ascii=False))
    return _manifest(channel, anew, files, digests)


def _manifest(channel: Channel, manifest: Path, files: Mapping[str, Path], digests: Mapping[str, str]) -> Material:
    """A manifest, after the files that it lists: it goes up last, when all that it lists is there."""
    digest = compute_digest(manifest)
    key = _key(manifest_key(digest, manifest.name))
    last = Part(
        kind=f"manifest of channel {channel.name}",
        prefix=key,
        digest=digest.rpartition(":")[2],
        files={key: manifest.stat().st_size},
    )
    listed = Part(
        kind=f"data of channel {channel.name}",
        prefix=DATA,
        digest=channel_prefix(digests)[1],
        files={each: path.stat().st_size for each, path in files.items()},
    )
    return Material(
        Content(key=key, parts=(listed, last) if files else (last,)),
        {**files, key: manifest},
        {**digests, key: digest},
    )


def _here(each: SelectedAttribute) -> str:
    """The path of a file here that is referred to, empty where it is none."""
    return each.uri if isinstance(each, Reference) and is_local(each.uri) else ""


def _beside(manifest: Path, uri: str) -> Path:
    """A path that a manifest names: from the manifest's own folder."""
    return manifest.parent / uri


def _anew(channel: Channel, manifest: Path, scratch: Path) -> Path:
    folder = scratch / channel.name
    folder.mkdir()
    return folder / manifest.name


def digests_of(paths: Iterable[Path]) -> list[str]:
    """The digests of files (``sha256:...``), in their order."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(compute_digest, paths))


def _key(key: str) -> str:
    """The key, where S3 takes it."""
    try:
        key.encode()
        return Location.parse(f"s3://bucket/{key}").key
    except ValueError as error:
        raise DefinitionError(f"{key[-200:]!a}: S3 takes no such name; keys are UTF-8, of 1024 bytes") from error
