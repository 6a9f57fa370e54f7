"""Writing packages: the same bytes from every folder, in the layout of the image, all of it or nothing."""

import gzip
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipapp
import zlib
from pathlib import Path

import pytest

from tests.support.model_archives import FILES, LEAF, lay
from tritonforge.errors import PackageError
from tritonforge.sagemaker.package import inspect, read_contents, write_package
from tritonforge.sagemaker.package.writer import Gzip


def names(archive: Path) -> list[str]:
    """The members' names as another reader sees them."""
    with tarfile.open(archive) as opened:
        return opened.getnames()


def test_the_layout_is_the_images(repository: Path, tmp_path: Path) -> None:
    """Model directories at the top, sorted, without ``./``, and the file that keeps a version directory is there."""
    done = write_package(repository, tmp_path / "model.tar.gz")
    assert names(done.path) == [
        "all",
        "all/1",
        "all/1/.gitkeep",
        "all/config.pbtxt",
        "leaf",
        "leaf/1",
        "leaf/1/model.py",
        "leaf/config.pbtxt",
    ]
    assert done.size == done.path.stat().st_size
    assert done.files == {path: len(content) for path, content in FILES.items()}


@pytest.mark.process
def test_gnu_tar_unpacks_what_was_written(repository: Path, tmp_path: Path) -> None:
    """The image's own `tar` gets the files as they were, without a word."""
    lay(repository, {"leaf/1/" + "long" * 40 + "/" + "name" * 50: b"x" * 3000, "leaf/1/größe": b"1"})
    write_package(repository, tmp_path / "model.tar.gz")
    (tmp_path / "out").mkdir()
    run = subprocess.run(
        ["tar", "xzf", "../model.tar.gz"], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert read_contents(tmp_path / "out").digest == read_contents(repository).digest


def test_the_bytes_do_not_depend_on_where_when_and_by_whom(tmp_path: Path) -> None:
    """Another folder, order of making, day, umask and owner give the same archive."""
    archives = []
    for index, order in enumerate((list(FILES), list(reversed(FILES)))):
        before = os.umask((0o022, 0o077)[index])
        try:
            folder = lay(tmp_path / f"folder {index}", {path: FILES[path] for path in order})
        finally:
            os.umask(before)
        for path in folder.rglob("*"):
            os.utime(path, (index * 86_400, index * 86_400))
            if index and os.getuid() == 0:
                os.chown(path, 12345, 54321)
        archives.append(write_package(folder, tmp_path / f"{index}.tar.gz"))
    first, second = (archive.path.read_bytes() for archive in archives)
    assert first == second
    assert archives[0].digest == archives[1].digest
    with tarfile.open(archives[1].path) as opened:
        received = {
            (getmember.mtime, getmember.uid, getmember.gid, getmember.uname, getmember.gname)
            for getmember in opened.getmembers()
        }
        modes = {(getmember.isdir(), getmember.mode) for getmember in opened.getmembers()}
    assert received == {(0, 0, 0, "", "")}
    assert modes == {(True, 0o755), (False, 0o644)}


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    """Several megabytes of noise, text and zeros, by any number of threads."""
    rng = random.Random(1)
    noise, text = rng.randbytes(1_200_000), " ".join(str(rng.random()) for _ in range(70_000)).encode()
    folder = lay(tmp_path / "r", {"m/config.pbtxt": LEAF, "m/1/a": noise, "m/1/b": text, "m/1/c": bytes(2_000_000)})
    one = write_package(folder, tmp_path / "one.tar.gz", workers=1)
    assert inspect(one.path).digest == one.digest == read_contents(folder).digest
    for workers in (2, 64):
        many = write_package(folder, tmp_path / "many.tar.gz", workers=workers)
        assert one.path.read_bytes() == many.path.read_bytes(), workers


def test_it_is_one_gzip_member_without_name_and_time(repository: Path, tmp_path: Path) -> None:
    """Readers that stop after the first member get everything."""
    data = write_package(repository, tmp_path / "model.tar.gz").path.read_bytes()
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    whole = zlib.decompressobj(31)
    assert whole.decompress(data) == gzip.decompress(data)
    assert whole.eof
    assert whole.unused_data == b""


def test_what_is_compressed_already_does_not_grow(tmp_path: Path) -> None:
    """Four megabytes of noise stay four megabytes, but for tar's headers and 0.02 %."""
    folder = lay(tmp_path / "r", {"m/1/weights.gz": os.urandom(4_000_000)})
    assert write_package(folder, tmp_path / "model.tar.gz").size < 4_000_000 * 1.0002 + 6 * 512


@pytest.mark.parametrize("kind", ["text", "graph", "weights"])
@pytest.mark.process
def test_it_is_no_larger_than_gzips(tmp_path: Path, kind: str) -> None:
    """At most 1.01 times what `tar czf` makes of text, of a small graph, and of weights."""
    rng = random.Random(2)
    source = Path(zipapp.__file__).read_bytes()
    data = {
        "text": b"".join(rng.choice(source.splitlines(keepends=True)) for _ in range(30_000)),
        "graph": source * 2 + rng.randbytes(30_000) + bytes(20_000),
        "weights": b"".join(rng.gauss(0, 1).hex().encode()[4:8] + rng.randbytes(2) for _ in range(150_000)),
    }[kind]
    folder = lay(tmp_path / "r", {"m/1/data": data})
    done = write_package(folder, tmp_path / "ours.tar.gz")
    subprocess.run(["tar", "czf", tmp_path / "gzip.tar.gz", "-C", folder, "m"], check=True)
    assert done.size <= 1.01 * (tmp_path / "gzip.tar.gz").stat().st_size


@pytest.mark.process
def test_a_small_graph_with_weights_is_no_larger_than_gzips(digits: Path, tmp_path: Path) -> None:
    """Of 120 KB, in which a little text lies between weights, the smaller of two compressors is kept."""
    done = write_package(digits, tmp_path / "ours.tar.gz")
    subprocess.run(["tar", "czf", tmp_path / "gzip.tar.gz", "-C", digits, "."], check=True)
    assert done.size <= 1.01 * (tmp_path / "gzip.tar.gz").stat().st_size


def test_blocks_refer_to_what_lies_before_them(tmp_path: Path) -> None:
    """Eight kilobytes of noise, 1500 times: each of the twelve blocks refers to the end of the one before it."""
    folder = lay(tmp_path / "r", {"m/1/data": random.Random(3).randbytes(8_000) * 1500})
    done = write_package(folder, tmp_path / "model.tar.gz")
    assert done.size < 120_000
    assert inspect(done.path).digest == done.digest


def test_an_error_of_the_writing_thread_is_never_lost() -> None:
    """A sink that fails once, and takes everything afterwards, makes no archive."""

    class Sink(io.RawIOBase):
        calls = 0

        def write(self, data: object) -> int:
            self.calls += 1
            if self.calls == 3:
                raise OSError("once")
            return len(data)  # type: ignore[arg-type]  # bytes of one kind or another

    def pack() -> None:
        with Gzip(Sink(), workers=2) as stream:
            stream.write(os.urandom(5_000_000))
            stream.finish()

    with pytest.raises(OSError, match="once"):
        pack()


def test_leftovers_stay_out_and_are_named(repository: Path, tmp_path: Path) -> None:
    """The record, hidden directories, caches and editors' files are not in it, and the caller gets each of them."""
    lay(
        repository,
        {
            ".tritonforge.json": "{}",
            ".git/HEAD": "x",
            ".env": "SECRET=1",
            "leaf/1/__pycache__/model.cpython-311.pyc": b"x",
            "leaf/.DS_Store": b"x",
            "leaf/1/model.py~": b"x",
            "leaf/1/.settings": b"a model may read this",
            "leaf/1/assets/deep/": b"",
            "README.md": "kept",
        },
    )
    done = write_package(repository, tmp_path / "model.tar.gz")
    assert set(done.files) == {*FILES, "leaf/1/.settings", "README.md"}
    assert set(names(done.path)) & {"leaf/1/assets", ".git", "leaf/1/__pycache__"} == set()
    assert done.left_out == (
        ".env",
        ".git/",
        ".tritonforge.json",
        "leaf/.DS_Store",
        "leaf/1/__pycache__/",
        "leaf/1/assets/",
        "leaf/1/assets/deep/",
        "leaf/1/model.py~",
    )


def test_an_empty_version_directory_is_kept(repository: Path, tmp_path: Path) -> None:
    """An ensemble needs one, and the digest differs with it."""
    with_file = read_contents(repository).digest
    (repository / "all/1/.gitkeep").unlink()
    done = write_package(repository, tmp_path / "model.tar.gz")
    assert "all/1" in names(done.path)
    assert done.digest == read_contents(repository).digest == inspect(done.path).digest
    (repository / "all/1").rmdir()
    assert len({with_file, done.digest, read_contents(repository).digest}) == 3


def test_links_inside_become_what_they_lead_to(repository: Path, tmp_path: Path) -> None:
    """Links to files and to directories, and hard links, are plain files; S3 and `serve` know no others."""
    (repository / "leaf/1/copy.py").symlink_to("model.py")
    (repository / "leaf/2").symlink_to("1")
    os.link(repository / "leaf/1/model.py", repository / "leaf/1/hard.py")
    (repository / "second").symlink_to("leaf", target_is_directory=True)
    done = write_package(repository, tmp_path / "model.tar.gz")
    with tarfile.open(done.path) as opened:
        assert {getmember.type for getmember in opened.getmembers()} == {tarfile.DIRTYPE, tarfile.REGTYPE}
    expected = FILES["leaf/1/model.py"]
    assert isinstance(expected, str)
    for path in ("leaf/1/copy.py", "leaf/2/model.py", "leaf/1/hard.py", "second/2/hard.py"):
        assert done.files[path] == len(expected)


def test_a_link_out_is_refused_unless_asked_for(repository: Path, tmp_path: Path) -> None:
    """A package holds nothing from elsewhere by accident."""
    (tmp_path / "weights").write_bytes(b"weights")
    (repository / "leaf/1/weights").symlink_to(tmp_path / "weights")
    with pytest.raises(PackageError, match=r"leaf/1/weights: it is a link out of the repository, to .*--dereference"):
        write_package(repository, tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()
    done = write_package(repository, tmp_path / "model.tar.gz", dereference=True)
    assert done.files["leaf/1/weights"] == 7
    assert done.digest == read_contents(repository, dereference=True).digest


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda at: at.symlink_to("nowhere"), r"odd: it is a link to nothing \(nowhere\)"),
        (lambda at: at.symlink_to("odd"), "odd: it is a link to nothing"),
        (lambda at: at.symlink_to("../.."), "it is a link to a directory that contains it"),
        (lambda at: os.mkfifo(at), "odd: it is neither a file nor a directory"),
        (lambda at: Path(os.fsdecode(os.fsencode(at) + b"\xff")).touch(), "its name is not UTF-8"),
    ],
    ids=["dangling", "circle", "loop", "pipe", "bytes"],
)
def test_what_no_package_can_hold_is_refused(repository: Path, tmp_path: Path, make: object, sentence: str) -> None:
    """One sentence names the file; nothing is written."""
    make(repository / "leaf/1/odd")  # type: ignore[operator]  # a function of a path
    with pytest.raises(PackageError, match=sentence):
        write_package(repository, tmp_path / "model.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_programs_may_be_executed_whatever_their_mode(repository: Path, tmp_path: Path) -> None:
    """The mode follows from the content, so that the digest says everything about the bytes."""
    lay(repository, {"leaf/stub": b"\x7fELF...", "leaf/run.sh": "#!/bin/sh\n", "leaf/text": "x"})
    (repository / "leaf/text").chmod(0o777)
    with tarfile.open(write_package(repository, tmp_path / "model.tar.gz").path) as opened:
        modes = {getmember.name: getmember.mode for getmember in opened.getmembers() if getmember.isfile()}
    assert [modes[path] for path in ("leaf/stub", "leaf/run.sh", "leaf/text")] == [0o755, 0o755, 0o644]


def test_an_archive_inside_of_its_repository_is_refused(repository: Path) -> None:
    """It would hold itself."""
    with pytest.raises(PackageError, match="it lies inside the repository"):
        write_package(repository, repository / "leaf" / "model.tar.gz")


def test_a_file_that_changes_meanwhile_is_noticed(repository: Path, tmp_path: Path) -> None:
    """A file that grows or shrinks while it is read makes no archive."""
    lay(repository, {"leaf/1/weights": bytes(5_000_000)})

    def grow(done: int, total: int) -> None:
        with (repository / "leaf/1/weights").open("ab") as file:
            file.write(b"more")

    with pytest.raises(PackageError, match="leaf/1/weights: it changed while it was packaged"):
        write_package(repository, tmp_path / "model.tar.gz", on_progress=grow)

    def shrink(done: int, total: int) -> None:
        os.truncate(repository / "leaf/1/weights", 10)

    with pytest.raises(PackageError, match="leaf/1/weights: it changed while it was packaged"):
        write_package(repository, tmp_path / "model.tar.gz", on_progress=shrink)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_the_old_archive_stays_until_the_new_one_is_whole(repository: Path, tmp_path: Path) -> None:
    """An error on the way leaves the old bytes and no other file."""
    target = tmp_path / "model.tar.gz"
    target.write_bytes(b"old")

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_package(repository, target, on_progress=fail)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tar.gz", "repository"]
    write_package(repository, target)
    assert inspect(target).digest == read_contents(repository).digest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.process
def test_an_interrupted_one_leaves_nothing(repository: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Even a killed process leaves no part of an archive, under whatever name."""
    with (repository / "leaf/1/weights").open("wb") as file:
        file.truncate(3_000_000_000)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tritonforge.sagemaker.package import write_package\n"
        "def show(done, total):\n    print(done, flush=True)\n"
        "write_package(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=show)\n"
    )
    arguments = [sys.executable, "-c", script, str(repository), str(tmp_path / "model.tar.gz")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 50_000_000:
            pass
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode != 0
    deadline = time.monotonic() + 10
    while [path.name for path in tmp_path.iterdir()] != ["repository"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_without_nameless_files_an_error_leaves_nothing_either(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without O_TMPFILE the part has a name, and is removed."""
    monkeypatch.delattr(os, "O_TMPFILE")
    seen: list[str] = []

    def fail(done: int, total: int) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_package(repository, tmp_path / "model.tar.gz", on_progress=fail)
    assert any(item.endswith(".part") for item in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]
    assert inspect(write_package(repository, tmp_path / "model.tar.gz").path).digest == read_contents(repository).digest


@pytest.mark.parametrize(
    ("destination", "sentence"),
    [("missing/model.tar.gz", "cannot write: No such file"), ("repository", "not a file; name the archive")],
)
def test_a_place_that_cannot_be_written_is_one_sentence(
    repository: Path, tmp_path: Path, destination: str, sentence: str
) -> None:
    """A missing folder, or a folder in the place of the archive."""
    with pytest.raises(PackageError, match=sentence):
        write_package(repository, tmp_path / destination)


@pytest.mark.process
def test_a_full_disk_is_one_sentence(repository: Path, tmp_path: Path) -> None:
    """The error of the thread that writes comes out of `write_package`; a limit on files simulates a full disk."""
    lay(repository, {"leaf/1/weights": os.urandom(30_000_000)})
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom tritonforge.sagemaker.package import write_package\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))\n"
        "write_package(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    arguments = [sys.executable, "-c", script, str(repository), str(tmp_path / "model.tar.gz")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    expected = f"{tmp_path / 'model.tar.gz'}: cannot write: File too large"
    assert done.stderr.splitlines()[-1] == f"tritonforge.errors.PackageError: {expected}"
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.process
def test_memory_does_not_grow_with_the_repository(tmp_path: Path) -> None:
    """Two hundred megabytes of weights take no more than ten megabytes more than ninety."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom tritonforge.sagemaker.package import write_package\n"
        "write_package(Path(sys.argv[1]), Path(sys.argv[2]), workers=16)\n"
        "[peak] = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')]\n"
        "print(int(peak.split()[1]) // 1024)\n"
    )
    peaks = []
    for megabytes in (90, 200):
        folder = lay(tmp_path / str(megabytes), {"m/config.pbtxt": LEAF})
        part = os.urandom(1 << 20)
        with (folder / "m/weights").open("wb") as file:
            for _ in range(megabytes):
                file.write(part)
        arguments = [sys.executable, "-c", script, str(folder), str(tmp_path / "model.tar.gz")]
        peaks.append(int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 100
    assert peaks[1] - peaks[0] < 10


def test_progress_is_reported_in_bytes_of_files(repository: Path, tmp_path: Path) -> None:
    """It ends at the sum of all files, and never goes back."""
    received: list[tuple[int, int]] = []
    done = write_package(repository, tmp_path / "model.tar.gz", on_progress=lambda *item: received.append(item))
    total = sum(done.files.values())
    assert received[-1] == (total, total)
    assert [item for item, _ in received] == sorted(item for item, _ in received)
