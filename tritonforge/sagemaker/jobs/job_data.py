"""The data of jobs, between this machine and S3.

`S3ObjectStore` is S3 as a job on this machine reads and writes it. The rest is for a training job on SageMaker: its
local data are read for a plan, compared with S3, and uploaded. A manifest that refers to local files is rewritten with
their addresses in S3. Its lines are read as a training job reads them, so that a missing label is reported before
anything is paid for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import ConnectError, DefinitionError, DeploymentError, EncodeError, ManifestError
from tritonforge.files import describe_error
from tritonforge.records import Buffer
from tritonforge.records.manifest import read_manifest_elements
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.client.transfers import Location, compute_digest, read_pieces
from tritonforge.sagemaker.endpoints.observation import read_bucket
from tritonforge.sagemaker.endpoints.resources import IncompleteUpload, ObservedBucket
from tritonforge.sagemaker.jobs.training_plan import (
    DATA,
    ChannelContent,
    ContentPart,
    ObservedData,
    build_channel_prefix,
    build_manifest_key,
    build_object_key,
    build_source,
    is_local,
    list_local_channels,
)
from tritonforge.sagemaker.plans.executor import count_bytes
from tritonforge.sagemaker.plans.plan import Progress, Step
from tritonforge.training.job.training_job import Channel, S3Data, TrainingJob
from tritonforge.training.manifest import Reference, read_lines, select_attributes
from tritonforge.transform.object_store import LocalStore, StoredObject, StoreError

__all__ = ["LocalChannel", "S3ObjectStore", "find_bucket_name", "observe_data", "read_local_channels", "upload_part"]

#: S3's codes for a missing bucket.
_NO_BUCKET: Final = frozenset({"404", "NoSuchBucket", "NotFound"})

_CONTENT_TYPE: Final = "application/octet-stream"
_ERRORS: Final = (DeploymentError, ConnectError, EncodeError)


class S3ObjectStore:
    """An `ObjectStore` over a `Store`, by default that of the configured account and region. Safe for several threads.

    An upload carries a checksum that S3 verifies before the object appears; an interrupted download continues where it
    was.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = Store(Session()) if store is None else store

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose address begins with the prefix, in S3's order."""
        try:
            for stored in self._store.list_objects(prefix):
                yield StoredObject(stored.uri, stored.size, stored.etag)
        except _ERRORS as error:
            raise StoreError(f"{prefix}: cannot list: {error}", permanent=True) from error

    def find(self, uri: str) -> StoredObject | None:
        """Return the object at an address, None if it does not exist."""
        try:
            stored = self._store.find(uri)
        except _ERRORS as error:
            raise StoreError(f"{uri}: {error}") from error
        return None if stored is None else StoredObject(stored.uri, stored.size, stored.etag)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Yield the content of an object from a byte on."""
        try:
            download = self._store.get(uri, offset)
            try:
                yield from download
            finally:
                download.close()
        except _ERRORS as error:
            raise StoreError(f"{uri}: cannot read: {error}") from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write an output, replacing an existing one. A file is removed after its upload."""
        try:
            self._store.put(content, uri, content_type=_CONTENT_TYPE)
        except _ERRORS as error:
            is_permanent = isinstance(error, AwsError) and (error.denied or error.code in _NO_BUCKET)
            raise StoreError(f"{uri}: cannot write: {error}", permanent=is_permanent) from error
        if isinstance(content, Path):
            content.unlink(missing_ok=True)

    def check(self, uri: str) -> None:
        """Check that the bucket exists; only the first output shows whether it may be written."""
        try:
            bucket = Location.parse(uri).bucket
            self._store.session.call("s3", "HeadBucket", resource=uri, Bucket=bucket)
        except _ERRORS as error:
            if not isinstance(error, AwsError) or error.code in _NO_BUCKET:
                raise StoreError(f"{uri}: cannot write: {error}", permanent=True) from error


#: Files that are hashed at the same time; hashlib releases the interpreter lock meanwhile.
_HASH_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class LocalChannel:
    """The data of one channel: their content for the plan, and file and digest (``sha256:...``) of every key."""

    content: ChannelContent
    files: Mapping[str, Path]
    digests: Mapping[str, str]


@contextmanager
def read_local_channels(job: TrainingJob, *, bucket: str) -> Iterator[Mapping[str, LocalChannel]]:
    """Read the data of a job's local channels, by channel. Rewritten manifests exist until the context ends.

    Raises:
        DefinitionError: the data are missing, a manifest is invalid or lists a missing file, or S3 does not accept the
            name of a file.
    """
    with temporary.open_directory("training") as scratch:
        channels: dict[str, LocalChannel] = {}
        for channel in list_local_channels(job):
            data = channel.data
            assert data is not None
            try:
                channels[channel.name] = _read_channel(channel, data, Path(scratch), bucket)
            except ManifestError as error:
                raise DefinitionError(f"channel {channel.name}: {data.uri}: {error}") from error
            except StoreError as error:
                raise DefinitionError(f"channel {channel.name}: {error}") from error
            except OSError as error:
                path = error.filename or data.uri
                raise DefinitionError(
                    f"channel {channel.name}: {path}: cannot read: {describe_error(error)}"
                ) from error
        yield channels


def find_bucket_name(session: Session, bucket: str | None) -> str:
    """Return the given bucket, or the name of SageMaker's own bucket of the account and the region."""
    return bucket or f"sagemaker-{session.region}-{session.get_account()}"


def observe_data(
    session: Session, contents: Mapping[str, ChannelContent], *, bucket: str | None = None
) -> ObservedData:
    """Return which of a job's data are in S3. Only reads.

    Raises:
        DeploymentError, ConnectError, EncodeError: as `Session.call`.
    """
    name = find_bucket_name(session, bucket)
    objects: dict[str, int] = {}
    uploads: list[IncompleteUpload] = []
    exists = True
    parts = [part for content in contents.values() for part in content.parts]
    # Files that manifests refer to have a common prefix.
    prefixes = {f"{DATA}objects/" if part.prefix == DATA else part.prefix for part in parts}
    for prefix in sorted(prefixes or {DATA}):
        listed = read_bucket(session, name, prefix, owner=session.get_account() if bucket is None else None)
        exists = exists and listed.exists
        objects |= listed.objects
        uploads += listed.incomplete_uploads
    return ObservedData(
        region=session.region,
        account=session.get_account(),
        bucket=ObservedBucket(
            name=name, folder=DATA, exists=exists, objects=objects, incomplete_uploads=tuple(uploads)
        ),
        is_default=bucket is None,
    )


def upload_part(
    step: Step, session: Session, channels: Mapping[str, LocalChannel], *, account: str, progress: Progress
) -> None:
    """Send an upload step: the files of one part of a channel's data that S3 does not have.

    Raises:
        DeploymentError: a file has changed since it was planned, or S3 rejects it.
    """
    channel, part = next(
        (channel, part)
        for name, channel in channels.items()
        for part in channel.content.parts
        if build_source(name, part) == step.source
    )
    bucket = str(step.request["Bucket"])
    is_default = bucket == f"sagemaker-{session.region}-{account}"
    store = Store(session, bucket_owner=account if is_default else None)
    base = _find_common_prefix(part.files)
    uri = f"s3://{bucket}/{base}"
    sizes = {stored.uri: stored.size for stored in store.list_objects(uri)}
    missing = [key for key, size in part.files.items() if sizes.get(f"s3://{bucket}/{key}") != size]
    paths = [channel.files[key] for key in missing]
    for key, path, digest in zip(missing, paths, _hash_files(paths), strict=True):
        if digest != channel.digests[key]:
            raise DeploymentError(f"{path}: changed since the plan was made. Run the command again")
    store.upload_tree(
        {key.removeprefix(base): channel.files[key] for key in missing},
        uri,
        digests={key.removeprefix(base): channel.digests[key] for key in missing},
        on_progress=count_bytes(progress, step.size),
    )


def _find_common_prefix(keys: Iterable[str]) -> str:
    """Return the longest prefix of all keys that ends with a slash."""
    first, last = min(keys), max(keys)
    length = 0
    while length < len(first) and first[length] == last[length]:
        length += 1
    return first[:length].rpartition("/")[0] + "/"


def _read_channel(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> LocalChannel:
    if data.data_type == "AugmentedManifestFile":
        return _read_augmented_manifest(channel, data, scratch, bucket)
    if data.data_type == "ManifestFile":
        return _read_manifest(channel, data, scratch, bucket)
    return _read_directory(channel, data.uri)


def _read_directory(channel: Channel, uri: str) -> LocalChannel:
    """Read a directory, or a single file, whose files are uploaded below one prefix."""
    top = Path(uri)
    base = top if top.is_dir() else top.parent
    paths = {Path(stored.uri).relative_to(base).as_posix(): Path(stored.uri) for stored in LocalStore().list(uri)}
    if not paths:
        raise DefinitionError(f"channel {channel.name}: {uri}: the directory is empty")
    digests = dict(zip(paths, _hash_files(paths.values()), strict=True))
    prefix, digest = build_channel_prefix(digests)
    part = ContentPart(
        kind=f"data of channel {channel.name}",
        prefix=prefix,
        digest=digest,
        files={_check_key(prefix + name): path.stat().st_size for name, path in paths.items()},
    )
    return LocalChannel(
        ChannelContent(key=prefix if top.is_dir() else f"{prefix}{top.name}", parts=(part,)),
        {prefix + name: path for name, path in paths.items()},
        {prefix + name: digest for name, digest in digests.items()},
    )


def _read_augmented_manifest(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> LocalChannel:
    """Read an augmented manifest and the local files that the attributes of the job refer to."""
    manifest = Path(data.uri)
    names = data.attribute_names or ()
    paths: dict[str, Path] = {}  # by the path as the manifest writes it
    line = None
    with manifest.open("rb") as file:
        for line in read_lines(file):
            for name, value in zip(names, select_attributes(line, names), strict=True):
                if not isinstance(value, Reference) or not is_local(value.uri) or value.uri in paths:
                    continue
                paths[value.uri] = manifest.parent / value.uri
                if not paths[value.uri].is_file():
                    raise line.make_error(name, f"no such file: {paths[value.uri]}")
    if line is None:
        raise ManifestError("the manifest is empty")
    if not paths:
        return _place_manifest(channel, manifest, {}, {})
    digests = dict(zip(paths, _hash_files(paths.values()), strict=True))
    keys = {uri: _check_key(build_object_key(digests[uri], path.name)) for uri, path in paths.items()}
    rewritten = _create_directory(scratch, channel) / manifest.name
    with manifest.open("rb") as file, rewritten.open("wb") as out:
        for line in read_lines(file):
            attributes = dict(line.attributes)
            for name, value in zip(names, select_attributes(line, names), strict=True):
                if isinstance(value, Reference) and value.uri in keys:
                    attributes[name] = f"s3://{bucket}/{keys[value.uri]}"
            out.write(type(line)(line.number, attributes).to_bytes())
    return _place_manifest(
        channel,
        rewritten,
        {keys[uri]: path for uri, path in paths.items()},
        {keys[uri]: digest for uri, digest in digests.items()},
    )


def _read_manifest(channel: Channel, data: S3Data, scratch: Path, bucket: str) -> LocalChannel:
    """Read a manifest of prefixes and keys, and the local files that it lists."""
    manifest = Path(data.uri)
    elements: list[Any] = []
    listed: dict[str, dict[str, Path]] = {}  # local files by prefix, then by key
    prefix: str | None = None
    for line, element in read_manifest_elements(read_pieces(manifest)):
        if isinstance(element, dict) and set(element) == {"prefix"} and isinstance(element["prefix"], str):
            prefix = element["prefix"]
        elif not isinstance(element, str) or not element or prefix is None:
            raise ManifestError(
                f'invalid element of the manifest (expected {{"prefix": "..."}}, then keys, got '
                f"{json.dumps(element):.60})",
                line=line,
            )
        elif is_local(prefix):
            path = Path(f"{prefix}{element}")  # as jobs of this machine read it
            if ".." in element.split("/") or element.startswith("/") or not path.is_file():
                raise ManifestError(f"no such file below the prefix: {path}", line=line)
            listed.setdefault(prefix, {})[element] = path
        elements.append(element)
    if not elements:
        raise ManifestError("the manifest is empty")
    if not listed:
        return _place_manifest(channel, manifest, {}, {})
    files: dict[str, Path] = {}
    digests: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for local_prefix, paths in listed.items():
        hashed = dict(zip(paths, _hash_files(paths.values()), strict=True))
        remote_prefix, _ = build_channel_prefix(hashed)
        prefixes[local_prefix] = remote_prefix
        files |= {_check_key(remote_prefix + name): path for name, path in paths.items()}
        digests |= {remote_prefix + name: digest for name, digest in hashed.items()}
    for element in elements:
        if isinstance(element, dict) and element["prefix"] in prefixes:
            element["prefix"] = f"s3://{bucket}/{prefixes[element['prefix']]}"
    rewritten = _create_directory(scratch, channel) / manifest.name
    rewritten.write_text(json.dumps(elements, ensure_ascii=False))
    return _place_manifest(channel, rewritten, files, digests)


def _place_manifest(
    channel: Channel, manifest: Path, files: Mapping[str, Path], digests: Mapping[str, str]
) -> LocalChannel:
    """Return a manifest after the files that it lists: it is uploaded last."""
    digest = compute_digest(manifest)
    key = _check_key(build_manifest_key(digest, manifest.name))
    last = ContentPart(
        kind=f"manifest of channel {channel.name}",
        prefix=key,
        digest=digest.rpartition(":")[2],
        files={key: manifest.stat().st_size},
    )
    data = ContentPart(
        kind=f"data of channel {channel.name}",
        prefix=DATA,
        digest=build_channel_prefix(digests)[1],
        files={name: path.stat().st_size for name, path in files.items()},
    )
    return LocalChannel(
        ChannelContent(key=key, parts=(data, last) if files else (last,)),
        {**files, key: manifest},
        {**digests, key: digest},
    )


def _create_directory(scratch: Path, channel: Channel) -> Path:
    directory = scratch / channel.name
    directory.mkdir()
    return directory


def _hash_files(paths: Iterable[Path]) -> Sequence[str]:
    """Return the digests of files (``sha256:...``) in their order."""
    with ThreadPoolExecutor(max_workers=_HASH_THREADS) as pool:
        return list(pool.map(compute_digest, paths))


def _check_key(key: str) -> str:
    """Return a key if S3 accepts it, else raise DefinitionError."""
    try:
        key.encode()
        return Location.parse(f"s3://bucket/{key}").key
    except ValueError as error:
        raise DefinitionError(
            f"{key[-200:]!a}: S3 does not accept this name (expected up to 1024 bytes of UTF-8)"
        ) from error
