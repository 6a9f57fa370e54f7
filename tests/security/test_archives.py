"""Archives of strangers: small ones that cost much time or memory, and those that only look odd."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.archives import END, FORMS, header, pax
from tests.support.model_archives import FILES, lay
from tritonforge.errors import PackageError
from tritonforge.sagemaker.package import ArchiveLimits, inspect, list_members, read_contents, unpack

#: Seconds of this process's CPU for one small archive; what was quadratic took minutes.
CPU = 4.0
LINK, DIRECTORY = {"type": tarfile.SYMTYPE}, {"type": tarfile.DIRTYPE}


def archive(*parts: bytes) -> io.BytesIO:
    """A tar archive in gzip."""
    return io.BytesIO(gzip.compress(b"".join(parts) + END, 1))


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def test_an_extended_header_of_many_records_takes_linear_time() -> None:
    """A megabyte of records, a few kB in gzip."""
    hostile = archive(pax(b"5 a=\n" * 209_000), header("m/f", b"x"))
    began = cpu()
    assert [member.path for member in list_members(hostile)] == ["m/f"]
    assert cpu() - began < CPU


#: Small archives that would be read for very long: what each holds, and the sentence that ends it.
ENDLESS = {
    "a directory again and again": ([header("d", **DIRECTORY)] * 101, "more than 100 members"),
    "the folder itself again and again": ([header("./", **DIRECTORY)] * 101, "more than 100 members"),
    "extended headers again and again": ([pax(b"6 a=b\n")] * 101, "more than 100 extended headers"),
    "long names again and again": ([header("L", b"m\0", type=b"L")] * 101, "more than 100 extended headers"),
    "records without end": ([pax(b"5 a=\n" * 501), header("m")], "more records than the members"),
    "extended headers of many bytes": ([pax(b"4009 a=%s\n" % (b"x" * 4001))] * 20, "extended headers have more than"),
    "links": ([header(f"l{i}", linkname="m", **LINK) for i in range(51)], "more than 50 links"),
    "long links": ([header(f"l{i}", linkname="m/" * 45, **LINK) for i in range(40)], "more than 3000 bytes"),
    "a directory of broken links behind links": (
        [
            *(header(f"d/{i}", linkname="none", **LINK) for i in range(20)),
            *(header(f"l{i}", linkname="d", **LINK) for i in range(20)),
        ],
        "its links lead to more files",
    ),
    "names that links make long": (
        [
            header(f"{'n' * 90}{i}/{'x' * 9}{j}", linkname=f"../{'n' * 90}{i + 1}", **LINK)
            for i in range(8)
            for j in (0, 1)
        ]
        + [header(f"{'n' * 90}8/f")],
        "its links lead to more files",
    ),
}


@pytest.mark.parametrize(("parts", "sentence"), ENDLESS.values(), ids=ENDLESS)
def test_what_is_repeated_is_counted(parts: list[bytes], sentence: str) -> None:
    """Whatever a header is of, and whatever links make of it: time and memory are bounded by the limits."""
    limits = ArchiveLimits(members=100, names=70_000 if "header" in sentence else 10_000, links=50, link_bytes=3000)
    with pytest.raises(PackageError, match=sentence):
        inspect(archive(*parts), limits=limits)


def test_gzip_members_without_content_are_counted() -> None:
    """Twenty bytes each, and a decompressor for each."""
    with pytest.raises(PackageError, match="more gzip members than a compressor writes"):
        list(list_members(io.BytesIO(gzip.compress(b"") * 100_001 + archive(header("m")).getvalue())))


#: What a program that takes names apart by different rules than ours would put elsewhere.
AMBIGUOUS = {
    "empty name by pax": ([pax(b"8 path=\n"), header("m/f", b"x")], "empty name"),
    "empty name by GNU tar": ([header("L", b"\0", type=b"L"), header("m/f", b"x")], "empty name"),
    "a file with a directory's name": (
        [header("m/f/", b"x", type=tarfile.REGTYPE)],
        "readers interpret it differently",
    ),
    "absolute directory": ([header("/etc", **DIRECTORY)], "absolute name"),
    "the directory above": ([header("..", **DIRECTORY)], r"'\.\.' in its name"),
    "the directory above, absolute": ([header("/..", **DIRECTORY)], "absolute name"),
    "a signed number": ([header("m").replace(b"00000000000", b"-0000000001", 1)], "header is invalid"),
}


@pytest.mark.parametrize(("parts", "sentence"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_readers_do_not_agree_on_is_refused(parts: list[bytes], sentence: str, tmp_path: Path) -> None:
    """And nothing is written."""
    with pytest.raises(PackageError, match=sentence):
        unpack(archive(*parts), tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_what_users_tools_pack_is_read(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    """Both SDKs, tar of Linux and macOS, Python: the same repository comes out of each, without setuid bits."""
    repository = lay(tmp_path / "repository", FILES)
    (repository / "leaf/1/model.py").chmod(0o6755)
    (repository / "leaf/2").symlink_to("1")
    os.link(repository / "leaf/config.pbtxt", repository / "leaf/config.again")
    data = make(repository)
    unpack(io.BytesIO(data), tmp_path / "in")
    assert read_contents(tmp_path / "in").digest == read_contents(repository).digest
    assert (tmp_path / "in/leaf/1/model.py").stat().st_mode & 0o7777 == 0o755
    read = inspect(io.BytesIO(data))
    assert {path for path in read.files if "/._" not in path} == set(read_contents(repository).files)


PIECES = st.lists(
    st.sampled_from(
        [b"5", b"11", b"012", b" ", b"path", b"=", b"\n", b"m/f", b"..", b"size=7", b"GNU.sparse.x", b"\0"]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PIECES, st.sampled_from([b"x", b"g", b"L", b"K", b"X"]))
def test_any_extended_header_is_read_or_refused(content: bytes, kind: bytes) -> None:
    """Whatever it contains."""
    hostile = archive(header("h", content, type=kind), header("m/f", b"x"))
    with contextlib.suppress(PackageError):
        assert all(".." not in member.path.split("/") for member in list_members(hostile))
