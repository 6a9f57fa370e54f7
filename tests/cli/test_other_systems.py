"""macOS and Windows: what validates, draws, imports and asks servers runs without the calls that only Linux has.

A Python process without the modules and functions of POSIX runs the commands. `os.name` stays "posix" there, since the
standard library depends on it, and `msvcrt`, Windows' locks, is a stand-in; the real systems run in the job `portable`
of .github/workflows/ci.yml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tritonforge import temporary

#: What a process begins with: POSIX is removed, after the standard library's own modules have loaded.
WINDOWS = """
import ctypes, os, signal, sys, types
import fcntl as REAL_LOCKS
import asyncio, http.client, multiprocessing, pathlib, selectors, shutil, socket, ssl, subprocess, tempfile, threading

for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in dir(os):
    if name.startswith(("O_", "sched_", "set", "get", "W", "P_", "spawn", "posix", "fork")) and name not in (
        "O_RDONLY", "O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT", "O_EXCL", "O_TRUNC", "getcwd", "getcwdb", "getenv",
        "get_exec_path", "get_terminal_size", "getlogin", "getpid", "getppid", "get_inheritable", "set_inheritable",
        "get_handle_inheritable", "PathLike",
    ):
        delattr(os, name)
for name in ("chown", "fchmod", "fchown", "killpg", "lchown", "mkfifo", "mknod", "pread", "preadv", "pwrite", "statvfs",
             "sysconf", "wait", "wait3", "wait4", "nice", "initgroups", "tcgetpgrp", "register_at_fork"):
    delattr(os, name)
for name in ("supports_dir_fd", "supports_fd", "supports_follow_symlinks"):
    setattr(os, name, set())
for name in dir(signal):
    if name.startswith("SIG") and name not in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"):
        delattr(signal, name)
shutil._use_fd_functions = False
if hasattr(shutil, "_rmtree_unsafe"):
    shutil._rmtree_safe_fd = None

REAL_OPEN, REAL_LIBRARY = os.open, ctypes.CDLL

def open_file(path, flags, mode=0o777):  # no dir_fd; and a directory cannot be opened
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return REAL_OPEN(path, flags, mode)

def load_library(name, *arguments, **options):
    if name is None:
        raise TypeError("expected a name")
    return REAL_LIBRARY(name, *arguments, **options)

REAL_STAT = pathlib.Path.stat

def read_status(path, **options):
    if path.parts[:2] == ("/", "proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return REAL_STAT(path, **options)

os.open, ctypes.CDLL, pathlib.Path.stat = open_file, load_library, read_status

def lock(descriptor, mode, size):
    try:
        REAL_LOCKS.flock(descriptor, REAL_LOCKS.LOCK_EX | REAL_LOCKS.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None

sys.modules["msvcrt"] = types.SimpleNamespace(locking=lock, LK_NBLCK=2, LK_UNLCK=0)
"""

#: Runs command lines, one after another, and prints their exit codes as JSON on the last line.
COMMANDS = """
import json
import time

REAL_TIME = time.time
time.time = lambda: REAL_TIME() + 60  # results of directories that changed just now are not kept

from tritonforge.cli.main import main

codes = []
for line in json.loads(sys.argv[1]):
    try:
        main(line)
    except SystemExit as ended:
        codes.append(ended.code)
print(json.dumps(codes))
"""

#: Locks, replaced files and trees, and messages of the wire format.
LIBRARY = """
import numpy as np
from pathlib import Path
from tritonforge.errors import DefinitionError
from tritonforge.files import replace_file, sync_directory, write_file
from tritonforge.inference.wire import decode_request, encode_request
from tritonforge.repository.build_tree import open_tree

folder = Path(sys.argv[1])
for content in (b"first", b"second\\r\\n"):
    write_file(folder / "file", content, mode=0o600)
    assert (folder / "file").read_bytes() == content
try:
    with replace_file(folder / "file") as file:
        file.write(b"third")
        raise ZeroDivisionError
except ZeroDivisionError:
    assert (folder / "file").read_bytes() == content
sync_directory(folder)
for content in (b"a", b"b"):
    with open_tree(folder / "built") as tree:
        tree.write("m/config.pbtxt", content)
        try:
            with open_tree(folder / "built"):
                raise AssertionError("two builds write to one directory")
        except DefinitionError as error:
            assert "another build is writing it" in str(error)
        tree.commit()
    assert (folder / "built/m/config.pbtxt").read_bytes() == content
assert sorted(path.name for path in folder.iterdir()) == ["built", "file"]
payload = encode_request({"x": np.float32([1, 2])})
print(decode_request(payload.body, header_length=payload.header_length))
"""

#: The language server, without its event loop.
LANGUAGE_SERVER = """
from pathlib import Path
from tritonforge.language_server.edited_repository import EditedRepository
from tritonforge.language_server.features import create_server
from tritonforge.language_server.rule_pages import write_page
from tritonforge.validation.context import Options

create_server(Options())
repository = EditedRepository(Path(sys.argv[1]), Options())
repository.read()
repository.set_buffer("m/config.pbtxt", "max_bach_size: 1")
repository.validate()
(fix,) = repository.list_fixes("m/config.pbtxt")
assert fix.replacements[0].text == "max_batch_size"
assert write_page("E213").is_file()
"""

MODEL = 'name: "{name}" backend: "{backend}" max_batch_size: 2\n'
TENSORS = 'input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]'

pytestmark = pytest.mark.process


def run(program: str, argument: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process without POSIX."""
    environment = {**os.environ, "TRITONFORGE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", WINDOWS + program, argument], capture_output=True, text=True, check=False, cwd=ROOT,
        env=environment, timeout=120,
    )  # fmt: skip


def test_the_commands_for_all_systems_run_without_posix(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name, file, backend in (("m", "model.py", "python"), ("n", "model.onnx", "onnxruntime")):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / file).touch()
        wrong = "wrong" if name == "m" else name
        (repository / name / "config.pbtxt").write_text(MODEL.format(name=wrong, backend=backend) + TENSORS)
    (repository / "n/1/model.onnx").write_bytes(b"\x08\x07:\x00")
    lines: list[tuple[int, list[str]]] = [
        (1, ["validate", str(repository)]),
        (1, ["validate", str(repository), "--fix"]),
        (1, ["validate", str(repository), "--format", "sarif"]),
        (0, ["explain", "E213"]),
        (0, ["build", "--check", "repos/digits"]),
        (0, ["graph", str(repository), "-o", str(tmp_path / "x.svg")]),
        (0, ["import", str(repository), "-o", str(tmp_path / "definition.py")]),
        (1, ["infer", "http://127.0.0.1:1", "README.md"]),
    ]
    done = run(COMMANDS, json.dumps([line for _, line in lines]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [code for code, _ in lines], done.stdout + done.stderr
    assert 'name: "m"' in (repository / "m/config.pbtxt").read_text()
    assert "is it running?" in done.stderr
    assert list((tmp_path / "cache/validation").iterdir())


def test_files_trees_and_messages_are_written_without_posix(tmp_path: Path) -> None:
    done = run(LIBRARY, str(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_language_server_runs_without_posix(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").touch()
    done = run(LANGUAGE_SERVER, str(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_temporary_directory_is_made_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_nothing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(temporary, "_read_namespace", read_nothing)
    monkeypatch.setattr(temporary, "_read_start", lambda _: None)
    with temporary.open_directory("build") as folder:
        assert folder.is_dir()
        temporary.sweep([folder.parent])
        assert folder.is_dir()
