"""Any bytes give members or PackageError, and nothing outside of the folder is ever written.

TRITONFORGE_FUZZ=10 tries ten times as many archives.
"""

import contextlib
import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.support.model_archives import member, tar
from tritonforge.errors import PackageError
from tritonforge.sagemaker.package import ArchiveLimits, inspect, list_members, read_contents, unpack, write_package

#: How many times as many examples are tried.
TIMES = int(os.environ.get("TRITONFORGE_FUZZ", "1"))

LIMITS = ArchiveLimits(size=1 << 20, members=50, names=4096, header=8192, depth=8)
#: Steps of hostile names: what leads up, away, nowhere, and to what other members are called.
STEPS = st.sampled_from(["..", ".", "", *"abcdefghi" * 3, "\n", "é", "x" * 120, "\udcff"])
NAMES = st.lists(STEPS, min_size=1, max_size=4).map("/".join)
KINDS = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"Q"]
KINDS += [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE]
WITHOUT_CONTENT = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)


def any_member(name: str, kind: bytes, link: str, content: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    """A member that `tarfile` can write, whatever a reader makes of it."""
    return member(name, b"" if kind in WITHOUT_CONTENT else content, type=kind, linkname=link, mode=mode)


MEMBERS = st.builds(
    any_member,
    NAMES,
    st.sampled_from([*KINDS, *[tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE] * 6]),
    st.one_of(NAMES, st.just("/etc/passwd"), NAMES.map("/".__add__)),
    st.binary(max_size=600),
    st.sampled_from([0o644, 0o755, 0o4755, 0]),
)
FORMS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@contextlib.contextmanager
def guarded() -> Iterator[Path]:
    """A folder to unpack into, with a file beside it and in the place above that must stay as they are."""
    with tempfile.TemporaryDirectory() as above:
        place = Path(above) / "place"
        place.mkdir()
        (Path(above) / "a").write_bytes(b"untouched")
        (place / "a").write_bytes(b"untouched")
        yield place / "in"
        assert sorted(path.name for path in Path(above).iterdir()) == ["a", "place"]
        assert {path.name for path in place.iterdir()} <= {"a", "in"}
        assert {(Path(above) / "a").read_bytes(), (place / "a").read_bytes()} == {b"untouched"}
        assert (place / "a").stat().st_nlink == 1
        root = os.path.realpath(place / "in")
        for folder, directories, files in os.walk(root):
            for name in (*directories, *files):
                led = os.path.realpath(Path(folder) / name)
                assert led == root or led.startswith(f"{root}/"), f"{name} leads to {led}"
                assert Path(folder, name).lstat().st_mode & 0o6000 == 0


def check(data: bytes) -> bool:
    """Check that all readers accept the archive, or all reject it with the same message; return whether they accept."""
    with guarded() as folder:
        message = find_error(lambda: list(list_members(io.BytesIO(data), limits=LIMITS)))
        assert find_error(lambda: unpack(io.BytesIO(data), folder, limits=LIMITS)) == message
        assert folder.exists() == (message is None)
        inspected = find_error(lambda: inspect(io.BytesIO(data), limits=LIMITS))
        assert message is None or inspected == message
    assert message is None or (len(message) < 1000 and "\x1b" not in message)
    return message is None


def find_error(read: Callable[[], object]) -> str | None:
    """Return the message of the PackageError that a reader raises, or None if it raises none."""
    try:
        read()
    except PackageError as error:
        return str(error)
    return None


def is_readable(data: bytes) -> bool:
    return find_error(lambda: list(list_members(io.BytesIO(data), limits=LIMITS))) is None


def pack(members: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes | None:
    """Return an archive of the members, or None if `tarfile` cannot write one of them."""
    try:
        return tar(*members, form=form)
    except (UnicodeEncodeError, ValueError):
        return None


def correct_checksums(data: bytes) -> bytes:
    """Correct the checksum of every header, so that a reader gets as far as the fields."""
    fixed = bytearray(data)
    for at in range(0, len(fixed) - 511, 512):
        block = fixed[at : at + 512]
        if block.strip(b"\0"):
            block[148:156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(fixed)


@settings(max_examples=60 * TIMES, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    """Bytes as they are, as a deflate stream, and as a tar archive."""
    check(data)
    check(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + data)
    check(gzip.compress(data, 1))
    check(gzip.compress(correct_checksums(data.ljust(512, b"\0")), 1))


@pytest.mark.slow
@settings(max_examples=100 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MEMBERS, max_size=12), FORMS)
def test_any_members(members: list[tuple[tarfile.TarInfo, bytes]], form: int) -> None:
    """Any names, links and kinds: all members together, and the largest archive of them that is accepted."""
    accepted: list[tuple[tarfile.TarInfo, bytes]] = []
    for entry in members:
        plain = pack([*accepted, entry], form)
        if plain is not None and is_readable(gzip.compress(plain, 1)):
            accepted.append(entry)
    assert check(gzip.compress(tar(*accepted, form=form), 1))
    plain = pack(members, form)
    if plain is not None:
        check(gzip.compress(plain, 1))


@pytest.mark.slow
@settings(max_examples=100 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MEMBERS, min_size=1, max_size=4), FORMS, st.data())
def test_any_spoiled_archive(members: list[tuple[tarfile.TarInfo, bytes]], form: int, data: st.DataObject) -> None:
    """Archives in which bytes were replaced, before and after the compression."""
    packed = pack(members, form)
    if packed is None:
        reject()
    plain = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 4))):
        plain[data.draw(st.integers(0, min(len(plain), 4096) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        plain = bytearray(correct_checksums(bytes(plain)))
    archive = bytearray(gzip.compress(bytes(plain), 1))
    check(bytes(archive))
    archive[data.draw(st.integers(0, len(archive) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check(bytes(archive))


@pytest.mark.slow
@settings(max_examples=20 * TIMES, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "é", "n" * 101, "-", "with blank"]), min_size=2, max_size=4).map("/".join),
        st.binary(max_size=2000),
        max_size=6,
    ),
    st.integers(1, 3000),
)
def test_any_repository_comes_back(files: dict[str, bytes], cut: int) -> None:
    """What was written is read as it was, from one gzip member and from many."""
    with tempfile.TemporaryDirectory() as above:
        root = Path(above) / "r"
        root.mkdir()
        for path, content in files.items():
            if not any(other != path and other.startswith(f"{path}/") for other in files):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
        done = write_package(root, Path(above) / "model.tar.gz")
        whole = zlib.decompress(done.path.read_bytes(), 31)
        many = b"".join(gzip.compress(whole[at : at + cut], 1) for at in range(0, len(whole), cut))
        for index, data in enumerate((done.path.read_bytes(), many)):
            unpack(io.BytesIO(data), Path(above) / str(index))
            assert read_contents(Path(above) / str(index)).digest == done.digest == read_contents(root).digest
            assert inspect(io.BytesIO(data)).files == done.files
