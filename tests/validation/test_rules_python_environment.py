"""The rules about the environments of Python models, on archives made by tarfile; and the real backend's verdicts."""

import io
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from tests.support.python_rule_models import ECHO, IO
from tests.support.rule_findings import list_rules
from tests.support.server_oracle import Oracle
from tritonforge.model_files import python_environment
from tritonforge.model_files.python_environment import read_environment
from tritonforge.validation.report import validate
from tritonforge.validation.tree_reader import read_tree

Mode = Literal["w:gz", "w:bz2", "w:xz", "w:"]

WHOLE = ("bin/activate", "lib/python3.10/os.py", "lib/python3.10/site-packages/numpy/__init__.py")


def pack(names: Sequence[str], mode: Mode = "w:gz", form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return an archive of small files with these names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=form) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 700
            archive.addfile(member, io.BytesIO(b"x" * 700))
    return stream.getvalue()


def build(folder: Path, archive: bytes | None, *, source: str = ECHO, name: str = "env.tar.gz") -> Path:
    """Write a repository of one model with this archive as its environment."""
    (folder / "m/1").mkdir(parents=True)
    parameter = (
        f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{name}" }} }}'
    )
    (folder / "m/config.pbtxt").write_text(f"{IO}{parameter}\n")
    (folder / "m/1/model.py").write_text(source)
    if archive is not None:
        (folder / "m" / name).write_bytes(archive)
    return folder


def list_codes(folder: Path, image: str | None = "24.09") -> list[str]:
    """Return the codes of the rules about Python models that a repository breaks."""
    return [finding.code for finding in validate(folder, image=image) if finding.code in list_rules("[EW]8[345]")]


@pytest.mark.parametrize(
    ("archive", "image", "codes"),
    [
        (pack(WHOLE), "24.09", []),
        (pack(WHOLE, "w:"), "24.09", []),
        (pack([f"./{name}" for name in WHOLE]), "24.09", []),
        (pack([*WHOLE, "lib/" + "deep/" * 40 + "file"]), "24.09", []),
        (pack([*WHOLE, "lib/" + "deep/" * 40 + "file"], form=tarfile.PAX_FORMAT), "24.09", []),
        (pack([f"myenv/{name}" for name in WHOLE]), "24.09", ["E843"]),
        (pack(WHOLE), "25.04", ["W845"]),
        (pack(WHOLE), None, []),
        (pack(WHOLE, "w:bz2"), "24.09", ["E844"]),
        (pack(WHOLE, "w:xz"), "24.09", ["E844"]),
        (b"PK\x03\x04", "24.09", ["E844"]),
        (pack(WHOLE)[:-40], "24.09", ["E844"]),
        (pack(WHOLE, "w:")[:1200], "24.09", ["E844"]),
    ],
)
def test_an_environment_is_checked(tmp_path: Path, archive: bytes, image: str | None, codes: list[str]) -> None:
    """Format, bin/activate and the version of Python."""
    assert list_codes(build(tmp_path, archive), image) == codes


def test_an_environment_without_an_imported_package_is_reported(tmp_path: Path) -> None:
    """Only packages that no image has, and only where all of the environment is known."""
    source = f"import torch\nimport unheard_of\n{ECHO}"
    assert list_codes(build(tmp_path / "a", pack(WHOLE), source=source)) == ["E842"]
    torch = "lib/python3.10/site-packages/torch/__init__.py"
    assert list_codes(build(tmp_path / "b", pack([*WHOLE, torch]), source=source)) == []
    other = "lib/python3.10/site-packages/more.pth"
    assert list_codes(build(tmp_path / "c", pack([*WHOLE, other]), source=source)) == []


def test_a_directory_is_an_environment_too(tmp_path: Path) -> None:
    """The backend takes a directory as it is."""
    build(tmp_path, None, name="env")
    (tmp_path / "m/env/lib/python3.9").mkdir(parents=True)
    assert list_codes(tmp_path) == ["E843", "W845"]
    (tmp_path / "m/env/bin").mkdir()
    (tmp_path / "m/env/bin/activate").write_text("")
    (tmp_path / "m/triton_python_backend_stub").write_text("")
    assert list_codes(tmp_path) == []


def test_an_archive_is_read_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the bounds is unknown, and nothing is concluded from it; a link is not followed."""
    monkeypatch.setattr(python_environment, "MAXIMAL_UNPACKED", 4096)
    monkeypatch.setattr(python_environment, "_CHUNK", 1024)
    noise = random.Random(1).randbytes(700)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number in range(20):
            member = tarfile.TarInfo(f"lib/python3.9/{number}")
            member.size = len(noise)
            archive.addfile(member, io.BytesIO(noise))
    assert list_codes(build(tmp_path / "a", stream.getvalue())) == ["W845"]
    environment = read_environment([pack(WHOLE)[:100]], is_whole=False)
    assert (environment.is_complete, environment.problem) == (False, "")
    build(tmp_path / "b", None)
    (tmp_path / "b/m/env.tar.gz").symlink_to("/dev/zero")
    assert list_codes(tmp_path / "b") == []


def test_a_damaged_archive_is_a_result(tmp_path: Path) -> None:
    """Random changes of archives: no exception, and no name that is not text."""
    chance = random.Random(2)
    for mode in ("w:", "w:gz"):
        whole = pack(WHOLE, mode)  # type: ignore[arg-type]
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            cut = chance.randrange(1, len(data))
            environment = read_environment([bytes(data[:cut]), bytes(data[cut:])])
            assert environment.problem.isprintable()
    assert read_environment([]).problem == ""
    huge = bytearray(pack(WHOLE, "w:"))
    huge[124:136] = b"\xff" + b"\x7f" * 11
    assert read_environment([bytes(huge)]).problem
    assert read_tree(tmp_path).entries == {}


@pytest.mark.server
@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (pack(WHOLE, "w:bz2"), "archive_read_open_filename() failed."),
        (pack(WHOLE)[:-40], "archive_read_open_filename() failed."),
        (pack([f"myenv/{name}" for name in WHOLE]), "/bin/activate does not exist."),
    ],
    ids=["bzip2", "truncated", "in a directory"],
)
def test_the_python_backend_refuses_the_environment(tmp_path: Path, archive: bytes, sentence: str) -> None:
    """The real backend's words; what it extracts is removed when it ends."""
    (tmp_path / "oracle").mkdir()
    oracle = Oracle(tmp_path / "oracle", real=("python",))
    folder = build(tmp_path / "files", archive)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    heard = oracle.judge(files, seconds=60)
    assert not heard.loads
    assert sentence in " ".join(heard.sentences)
    assert len(list_codes(folder)) == 1
