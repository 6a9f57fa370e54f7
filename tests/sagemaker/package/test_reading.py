"""Reading archives of strangers: every trick has its sentence, every honest form its files."""

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.model_archives import member, pack_members, read_files, tar
from tritonforge.errors import PackageError
from tritonforge.sagemaker.package import (
    ArchiveLimits,
    Member,
    inspect,
    list_members,
    read_contents,
    unpack,
    write_package,
)

Members = list[tuple[tarfile.TarInfo, bytes]]

LINK, HARD = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}

#: What is refused: the members, and the words that name the one and say why.
REFUSED = {
    "traversal": ([member("../evil", b"x")], r"\.\./evil: it has '\.\.' in its name"),
    "traversal below": ([member("m/../../evil", b"x")], r"m/\.\./\.\./evil: it has '\.\.' in its name"),
    "absolute": ([member("/etc/evil", b"x")], "/etc/evil: it has an absolute name"),
    "long absolute": ([member("/" + "e" * 200, b"x")], "it has an absolute name"),
    "link out": (
        [member("m/l", linkname="../../etc", **LINK)],
        r"m/l: it is a link to \.\./\.\./etc, out of the directory",
    ),
    "absolute link": (
        [member("l", linkname="/etc/passwd", **LINK)],
        "l: it is a link to the absolute path /etc/passwd",
    ),
    "link that may leave": (
        [member("d", linkname=".", **LINK), member("l", linkname="d/../x", **LINK)],
        r"l: it is a link to d/\.\./x, which may lead out",
    ),
    "file under a link": (
        [member("l", linkname="m", **LINK), member("l/f", b"x")],
        "l/f: it lies under l, which is a link, not a directory",
    ),
    "link over a directory": (
        [member("m/f", b"x"), member("m", linkname="x", **LINK)],
        "m: two members have this name",
    ),
    "hard link out": ([member("h", linkname="../../etc/passwd", **HARD)], "h: the file that it is a hard link to has"),
    "absolute hard link": (
        [member("h", linkname="/etc/passwd", **HARD)],
        "h: the file that it is a hard link to has an",
    ),
    "hard link ahead": (
        [member("h", linkname="f", **HARD), member("f", b"x")],
        "h: it is a hard link to f, which is not an earlier file",
    ),
    "hard link to a link": (
        [member("l", linkname="f", **LINK), member("h", linkname="l", **HARD)],
        "h: it is a hard link to l, which is not an earlier file",
    ),
    "device": ([member("sda", type=tarfile.BLKTYPE)], "sda: it is a device"),
    "character device": ([member("tty", type=tarfile.CHRTYPE)], "tty: it is a device"),
    "pipe": ([member("p", type=tarfile.FIFOTYPE)], "p: it is a pipe"),
    "unknown kind": ([member("v", type=b"V")], "v: it is of a kind that readers interpret differently"),
    "two files": ([member("m/f", b"1"), member("m/f", b"2")], "m/f: two members have this name, a file and a file"),
    "two files in other words": ([member("m/f", b"1"), member("./m//f", b"2")], "two members have this name"),
    "file where a directory is": (
        [member("m/f", b"1"), member("m", b"2")],
        "m: two members have this name, a directory",
    ),
    "directory where a file is": (
        [member("m", b"1"), member("m/f", b"2")],
        "m/f: it lies under m, which is a file, not a directory",
    ),
    "directory over a file": ([member("m", b"1"), member("m", type=tarfile.DIRTYPE)], "m: two members have this name"),
    "the folder itself": ([member("./", b"x")], "it has the name of the root directory"),
    "name of bytes": ([member("n\udcff", b"x")], "has a name that is not UTF-8"),
    "long name": ([member("n" * 256, b"x")], "it has a longer name than Linux allows"),
    "deep": ([member("d/" * 40 + "f", b"x")], "it lies more than 32 directories deep"),
    "directory with content": ([member("d", bytes(512), type=tarfile.DIRTYPE)], "d: it has content, but is not a file"),
    "terminal escapes": ([member("../\x1b]0;x\x07", b"x")], r"'\.\./\\x1b\]0;x\\x07': it has"),
}


@pytest.mark.parametrize(("members", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_would_do_harm_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], sentence: str, tmp_path: Path
) -> None:
    """By `list_members`, `inspect` and `unpack` alike; nothing stays in the folder, nothing lies outside of it."""
    for read in (lambda file: list(list_members(file)), inspect, lambda file: unpack(file, tmp_path / "in")):
        with pytest.raises(PackageError, match=sentence):
            read(pack_members(*members))
    assert list(tmp_path.iterdir()) == []


def spoiled(data: bytes, at: int, byte: int) -> bytes:
    """The data with one byte replaced."""
    return data[:at] + bytes([byte]) + data[at + 1 :]


GOOD = tar(member("m/config.pbtxt", b"x" * 700), member("m/1/weights", bytes(range(256)) * 40))
PAX = tar(member("m/" + "n" * 150, b"x"))

#: What is damaged: the bytes of the archive, and the words that say so.
DAMAGED = {
    "nothing": (b"", "not a gzip file"),
    "a plain tar": (GOOD, "not a gzip file"),
    "a zip": (b"PK\x03\x04" + bytes(100), "not a gzip file"),
    "cut in the deflate stream": (gzip.compress(GOOD)[:-300], "it ends in the middle"),
    "cut in the trailer": (gzip.compress(GOOD)[:-3], "it ends in the middle"),
    "wrong checksum": (spoiled(gzip.compress(GOOD), -8, 0), "it is damaged"),
    "wrong block": (
        spoiled(gzip.compress(GOOD), 40, 255),
        "it is damaged|it ends in the middle|no header|header is invalid",
    ),
    "cut within a header": (gzip.compress(GOOD[:300]), "it ends within a header"),
    "cut within a file": (gzip.compress(GOOD[:900]), "m/config.pbtxt: it ends in the middle"),
    "no tar": (gzip.compress(b"text" * 500), "a header is invalid"),
    "rubbish behind": (gzip.compress(GOOD) + b"rubbish", "data that is not gzip follows"),
    "a second tar behind": (gzip.compress(GOOD + GOOD), "something follows the end of the archive"),
    "a second tar.gz behind": (gzip.compress(GOOD) * 2, "something follows the end of the archive"),
    "pax header cut": (gzip.compress(PAX[:600]), "it ends within an extended header"),
    "pax header alone": (gzip.compress(PAX[:1024]), "an extended header has no member"),
    "pax header wrong": (gzip.compress(PAX.replace(b" path=m", b" path m")), "an extended header is wrong"),
    "pax length wrong": (gzip.compress(PAX[:512] + spoiled(PAX[512:], 0, ord("9"))), "an extended header is wrong"),
}


@pytest.mark.parametrize(("data", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_refused(data: bytes, sentence: str, tmp_path: Path) -> None:
    """A cut or a spoiled archive never passes for a smaller one."""
    with pytest.raises(PackageError, match=sentence):
        unpack(io.BytesIO(data), tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """At every byte of a small archive, whichever part it falls into."""
    data = gzip.compress(GOOD)
    for length in range(len(data)):
        with pytest.raises(PackageError):
            unpack(io.BytesIO(data[:length]), tmp_path / "in")
    unpack(io.BytesIO(data), tmp_path / "in")


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            ArchiveLimits(size=1_000_000),
            "zeros: it has 5000000 bytes; the limit is 1000000|it unpacks to more than 1000000",
        ),
        (ArchiveLimits(ratio=100, ratio_from=1 << 20), "it unpacks to more than 100 times its own size"),
        (ArchiveLimits(members=2), "it has more than 2 members"),
        (ArchiveLimits(names=10), "its members' names have more than 10 bytes"),
        (ArchiveLimits(depth=1), "it lies more than 1 directories deep"),
    ],
    ids=["size", "ratio", "members", "names", "depth"],
)
def test_bombs_are_refused(limits: ArchiveLimits, sentence: str, tmp_path: Path) -> None:
    """Whatever makes the small large: bytes, their ratio, the number, the names, the depth."""
    bomb = pack_members(member("m/1/zeros", bytes(5_000_000)), member("m/config.pbtxt"))
    with pytest.raises(PackageError, match=sentence):
        unpack(bomb, tmp_path / "in", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_a_small_total_of_large_claims_is_refused(tmp_path: Path) -> None:
    """Many files below the limit are above it together."""
    many = [member(f"m/{index}", bytes(300_000)) for index in range(10)]
    with pytest.raises(PackageError, match="it unpacks to more than 1000000 bytes"):
        unpack(pack_members(*many), tmp_path / "in", limits=ArchiveLimits(size=1_000_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_large_extended_header_is_refused_unread(kind: bytes) -> None:
    """Readers hold it in memory at once."""
    with pytest.raises(PackageError, match="an extended header has 50000000 bytes"):
        list(list_members(pack_members(member("x", bytes(50_000_000), type=kind))))


def test_a_sparse_file_and_a_global_name_are_refused() -> None:
    """What readers expand or name differently."""
    with pytest.raises(PackageError, match="sparse"):
        list(list_members(pack_members(member("s", b"x", pax_headers={"GNU.sparse.major": "1"}))))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "x"}) as archive:
        archive.addfile(*member("m"))
    with pytest.raises(PackageError, match="a global header names or sizes members"):
        list(list_members(io.BytesIO(gzip.compress(stream.getvalue()))))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_come_out(form: int, tmp_path: Path) -> None:
    """Of pax and of GNU tar, for files and for the targets of links."""
    name = "/".join(["part" * 10] * 6)
    members = [member(name, b"content"), member("link", linkname=name, **LINK), member("hard", linkname=name, **HARD)]
    unpack(pack_members(*members, form=form), tmp_path / "in")
    assert (tmp_path / "in" / name).read_bytes() == b"content"
    assert (tmp_path / "in/link").read_bytes() == b"content"
    assert (tmp_path / "in/hard").samefile(tmp_path / "in" / name)


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
@pytest.mark.process
def test_what_tar_packs_comes_out(form: str, repository: Path, tmp_path: Path) -> None:
    """Every format of GNU tar, packed as the public notebooks do it, with ``./`` before every name."""
    (repository / "leaf/2").symlink_to("1")
    subprocess.run(["tar", f"--format={form}", "-C", repository, "-czf", tmp_path / "t.tar.gz", "."], check=True)
    unpack(tmp_path / "t.tar.gz", tmp_path / "in")
    assert read_files(tmp_path / "in") == read_files(repository)
    assert (tmp_path / "in/leaf/2").is_symlink()
    digest = read_contents(repository).digest
    assert inspect(tmp_path / "t.tar.gz").digest == digest == read_contents(tmp_path / "in").digest


def test_several_gzip_members_are_one_archive(repository: Path, tmp_path: Path) -> None:
    """As parallel compressors write them, with an empty member between and zeros behind."""
    archive = tmp_path / "one.tar.gz"
    write_package(repository, archive)
    data = gzip.decompress(archive.read_bytes())
    parts = [gzip.compress(data[at : at + 700]) for at in range(0, len(data), 700)]
    unpack(io.BytesIO(gzip.compress(b"").join(parts) + bytes(1000)), tmp_path / "in")
    assert read_contents(tmp_path / "in").digest == read_contents(repository).digest


def test_a_round_trip_keeps_everything(repository: Path, tmp_path: Path) -> None:
    """What was packed comes out, programs as programs; packed again it has the same bytes."""
    (repository / "leaf/run.sh").write_text("#!/bin/sh\n")
    first = write_package(repository, tmp_path / "first.tar.gz")
    unpack(first.path, tmp_path / "in")
    assert (tmp_path / "in/leaf/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "in/leaf/config.pbtxt").stat().st_mode & 0o777 == 0o644
    second = write_package(tmp_path / "in", tmp_path / "second.tar.gz")
    assert second.path.read_bytes() == first.path.read_bytes()


def test_a_stream_is_read_piece_by_piece(repository: Path, tmp_path: Path) -> None:
    """The body of an S3 object cannot seek, and gives fewer bytes than asked for."""
    data = write_package(repository, tmp_path / "model.tar.gz").path.read_bytes()

    class Body:
        def __init__(self) -> None:
            self._rest = data

        def read(self, size: int, /) -> bytes:
            given, self._rest = self._rest[: min(size, 7)], self._rest[min(size, 7) :]
            return given

    unpack(Body(), tmp_path / "in")
    assert read_contents(tmp_path / "in").digest == read_contents(repository).digest
    assert inspect(Body()).size == len(data)


def test_members_are_what_they_are() -> None:
    """Paths without ``./``, kinds, sizes, targets, and who may be executed."""
    archive = pack_members(
        member("./", type=tarfile.DIRTYPE),
        member("./m/", type=tarfile.DIRTYPE),
        member("./m/run", b"#!", mode=0o700),
        member("m/again", linkname="./m/run", **HARD),
        member("m/link", linkname="run", **LINK),
    )
    assert list(list_members(archive)) == [
        Member("m", "directory"),
        Member("m/run", "file", 2, executable=True),
        Member("m/again", "hardlink", target="m/run"),
        Member("m/link", "link", target="run"),
    ]


def test_links_inside_are_unpacked_and_count_as_what_they_lead_to(tmp_path: Path) -> None:
    """The digest is that of the unpacked folder, and of its package."""
    archive = pack_members(
        member("m/1/weights", b"w"),
        member("m/2", linkname="1", **LINK),
        member("m/3/hard", linkname="m/1/weights", **HARD),
        member("n/1", linkname="../m/2", **LINK),
        member("nowhere", linkname="m/none", **LINK),
        member("e/1", type=tarfile.DIRTYPE),
        member("e/1/deep/deeper", type=tarfile.DIRTYPE),
    )
    read = inspect(archive)
    assert read.files == {f"{path}": 1 for path in ("m/1/weights", "m/2/weights", "m/3/hard", "n/1/weights")}
    archive.seek(0)
    unpack(archive, tmp_path / "in")
    assert (tmp_path / "in/n/1/weights").read_bytes() == b"w"
    (tmp_path / "in/nowhere").unlink()
    assert read_contents(tmp_path / "in").digest == read.digest


def test_links_that_hold_themselves_are_refused_when_counted() -> None:
    """A digest over them would have no end."""
    with pytest.raises(PackageError, match="it is a link to a directory that contains it"):
        inspect(pack_members(member("m/1/x", b"x"), member("m/1/up", linkname="..", **LINK)))


def test_links_that_multiply_are_refused_when_counted() -> None:
    """Twenty directories with ten links each to the next are 10^20 files."""
    members = [member("d20/f", b"x")]
    members += [member(f"d{n}/{i}", linkname=f"../d{n + 1}", **LINK) for n in range(20) for i in range(10)]
    with pytest.raises(PackageError, match="its links lead to more files than the limits of an archive allow"):
        inspect(pack_members(*members), limits=ArchiveLimits(members=1000))


def test_a_folder_with_something_in_it_is_refused(repository: Path, tmp_path: Path) -> None:
    """Unpacking over something could write through its links; an empty one is filled, and emptied by an error."""
    archive = write_package(repository, tmp_path / "model.tar.gz").path
    with pytest.raises(PackageError, match="not empty; an archive is unpacked"):
        unpack(archive, repository)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackageError):
        unpack(io.BytesIO(archive.read_bytes()[:-20]), tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    unpack(archive, tmp_path / "empty")
    assert read_contents(tmp_path / "empty").digest == read_contents(repository).digest


def test_a_missing_archive_is_one_sentence(tmp_path: Path) -> None:
    """And a folder in its place."""
    with pytest.raises(PackageError, match="none: cannot read: No such file"):
        unpack(tmp_path / "none", tmp_path / "in")
    with pytest.raises(PackageError, match="cannot read: Is a directory"):
        inspect(tmp_path)


@pytest.mark.process
def test_reading_takes_bounded_memory(tmp_path: Path) -> None:
    """Half a gigabyte of zeros is unpacked and inspected in less than a hundred megabytes."""
    repository = tmp_path / "r"
    (repository / "m/1").mkdir(parents=True)
    with (repository / "m/1/zeros").open("wb") as file:
        file.truncate(500_000_000)
    write_package(repository, tmp_path / "model.tar.gz")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from tritonforge.sagemaker.package import ArchiveLimits, inspect, unpack\n"
        "archive, limits = Path(sys.argv[1]), ArchiveLimits(ratio=2000)\n"
        "inspect(archive, limits=limits)\n"
        "unpack(archive, Path(sys.argv[2]), limits=limits)\n"
        "[peak] = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')]\n"
        "print(int(peak.split()[1]) // 1024)\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "model.tar.gz"), str(tmp_path / "in")]
    assert int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout) < 100
