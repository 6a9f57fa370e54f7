"""The oracle: what the real tritonserver says to a repository, with stand-in backends that load no weights.

With a C compiler the stand-ins are libraries of fifteen lines and a verdict takes a tenth of a second; without one they
are python-based backends, which start a process for each model.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tritonforge.cli.validation import select_core_findings
from tritonforge.serving import installation
from tritonforge.validation.findings import verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree

#: What the server puts before a sentence.
PREFIXES = re.compile(
    r"^(ERROR: Failed to create instance: )?"
    r"(Poll failed for model directory '[^']*': |failed to load model '[^']*': "
    r"|failed to load '[^']*' version -?\d+: )?"
    r"((Invalid argument|Internal|Not found): )?"
)

STAND_INS = ("dali", "identity", "onnxruntime", "openvino", "python", "pytorch", "tensorflow", "tensorrt")

_C = """
#include <stddef.h>
#include <stdint.h>
extern void* TRITONBACKEND_ResponseNew(void** response, void* request);
extern void* TRITONBACKEND_ResponseSend(void* response, uint32_t flags, void* error);
extern void* TRITONBACKEND_RequestRelease(void* request, uint32_t flags);
void* TRITONBACKEND_ModelInstanceExecute(void* instance, void** requests, const uint32_t count) {
  for (uint32_t each = 0; each < count; each++) {
    void* response;
    if (TRITONBACKEND_ResponseNew(&response, requests[each]) == NULL)
      TRITONBACKEND_ResponseSend(response, 1, NULL);
    TRITONBACKEND_RequestRelease(requests[each], 1);
  }
  return NULL;
}
"""

_PYTHON = """
import triton_python_backend_utils as utils


class TritonPythonModel:
    def execute(self, requests):
        return [utils.InferenceResponse(output_tensors=[]) for _ in requests]
"""

#: A line of the server's log that is an error, without its head; harmless ones about a missing CUDA are let be.
_ERROR = re.compile(r"^E\d{4} \S+ \d+ [^\]]+\] \"?(?P<words>.*?)\"?$")
_REFUSED = "error: creating server"
_SAID = re.compile(r"(Poll failed|failed to load|failed to poll|Invalid argument|Internal|Not found)")


class Heard(NamedTuple):
    """The verdict of the server, its sentences without their prefixes, and its log."""

    loads: bool
    sentences: tuple[str, ...]
    log: str


class Oracle:
    """A prepared tritonserver that judges one repository after the other."""

    def __init__(self, folder: Path, *, real: Sequence[str] = ()) -> None:
        """``real`` names backends that are not stand-ins."""
        self.real = real
        self._found = installation.find_installation()
        self._folder = folder
        self._backends = installation.prepare_folder(self._found, folder)
        self.fast = shutil.which("cc") is not None
        for name in STAND_INS:
            if name not in real:
                self._stand_in(name)

    def _stand_in(self, name: str) -> None:
        """Put an empty backend in the place of the real one."""
        place = self._backends / name
        if not self.fast and name == "python":
            return
        if place.is_symlink():
            place.unlink()
        place.mkdir(exist_ok=True)
        if self.fast:
            source = self._folder / "stand_in.c"
            source.write_text(_C)
            library = self._folder / "stand_in.so"
            if not library.is_file():
                command = ["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(source)]
                subprocess.run(command, check=True, capture_output=True)
            shutil.copy(library, place / f"libtriton_{name}.so")
        else:
            (place / "model.py").write_text(_PYTHON)

    def judge(self, files: Mapping[str, Any], *arguments: str, seconds: float = 20) -> Heard:
        """What the server says to a repository of these files; it is ended as soon as it has spoken."""
        repository = self._folder / "repository"
        shutil.rmtree(repository, ignore_errors=True)
        write(files, repository)
        return self.listen(repository, *arguments, seconds=seconds)

    def listen(self, repository: Path, *arguments: str, seconds: float = 20) -> Heard:
        """What the server says to a repository that is there already."""
        server, log = self._start(repository, "--allow-http=false", *arguments)
        try:
            loads, text = self._wait(server, log, seconds)
        finally:
            server.terminate() if not self.fast else server.kill()
            server.wait()
        text = text.replace(str(repository), "<repo>").replace(str(self._backends), "<backends>")
        sentences = [PREFIXES.sub("", line).strip() for line in errors(text) if _SAID.match(line)]
        return Heard(
            loads, tuple(dict.fromkeys(line for line in sentences if "failed to load all models" not in line)), text
        )

    def judge_many(
        self, cases: Mapping[str, Mapping[str, Any]], *arguments: str, seconds: float = 60
    ) -> dict[str, Heard]:
        """What the server says to many repositories in one start, by what the names of their models begin with.

        There is no answer where one of them takes the process down, or a sentence names the models of none.
        """
        repository = self._folder / "repository"
        shutil.rmtree(repository, ignore_errors=True)
        for number, files in enumerate(cases.values()):
            write(files, repository, fresh=not number)
        server, log = self._start(repository, "--allow-http=false", "--exit-on-error=false", *arguments)
        try:
            end = time.monotonic() + seconds
            while "exit_timeout" not in log.read_text(errors="replace"):
                if server.poll() is not None or time.monotonic() > end:
                    return {}
                time.sleep(0.01)
        finally:
            server.kill()
            server.wait()
        text = log.read_text(errors="replace")
        text = text.replace(str(repository), "<repo>").replace(str(self._backends), "<backends>")
        sentences: dict[str, list[str]] = {name: [] for name in cases}
        for line in errors(text):
            if _SAID.match(line) and "failed to load all models" not in line:
                owners = [name for name in cases if name in line]
                if len(owners) != 1:
                    return {}
                sentences[owners[0]].append(PREFIXES.sub("", line).strip())
        return {name: Heard(not lines, tuple(dict.fromkeys(lines)), "") for name, lines in sentences.items()}

    def _start(self, repository: Path, *arguments: str) -> "tuple[subprocess.Popen[bytes], Path]":
        """Start the server on a repository; its process and its log."""
        command = [
            str(self._found.program), f"--model-repository={repository}", f"--backend-directory={self._backends}",
            "--allow-grpc=false", "--allow-metrics=false", "--allow-gpu-metrics=false", *arguments,
        ]  # fmt: skip
        environment = installation.build_environment(self._found, self._folder, os.environ)
        log = self._folder / "log"
        with log.open("wb") as output:
            work = self._folder / "work"
            work.mkdir(exist_ok=True)
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=work), log

    @contextmanager
    def serving(self, files: Mapping[str, Any], *, seconds: float = 30) -> Iterator[str]:
        """The address of a server that answers requests to these models; its stand-ins answer without outputs."""
        repository = self._folder / "served"
        write(files, repository)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server, log = self._start(repository, "--http-address=127.0.0.1", f"--http-port={port}")
        try:
            end = time.monotonic() + seconds
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > end:
                    raise TimeoutError(f"tritonserver does not serve:\n{log.read_text(errors='replace')}")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()

    def _wait(self, server: "subprocess.Popen[bytes]", log: Path, seconds: float) -> tuple[bool, str]:
        """Wait until the server has printed its options (it loads) or has ended (it does not)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = server.poll() is not None
            text = log.read_text(errors="replace")
            if ended:
                return False, text
            refused = _REFUSED in text or any(_SAID.match(line) for line in _all_errors(text))
            if "exit_timeout" in text and not refused:
                time.sleep(0.02)  # the end of a server that refuses everything follows at once
                return server.poll() is None and _REFUSED not in log.read_text(errors="replace"), text
            time.sleep(0.005)
        raise TimeoutError(f"tritonserver reported nothing in {seconds} seconds:\n{text}")


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def errors(log: str) -> list[str]:
    """The errors in a log whose words do not depend on the machine's GPUs."""
    return [words for words in _all_errors(log) if "CUDA" not in words and "Cuda" not in words]


def _all_errors(log: str) -> list[str]:
    return [match["words"] for line in log.splitlines() if (match := _ERROR.match(line))]


def write(files: Mapping[str, Any], folder: Path, *, fresh: bool = True) -> None:
    """Write a repository to disk, or add one to another."""
    folder.mkdir(parents=True, exist_ok=not fresh)
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Entry) and content.kind == "link":
            place.symlink_to(content.target)
        elif isinstance(content, Entry) or path.endswith("/"):
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))


def arguments(options: Mapping[str, Any]) -> Sequence[str]:
    """The server's flags for the options of `validate`."""
    flags = [] if options.get("auto_complete", True) else ["--disable-auto-complete-config"]
    if options.get("load_models") is not None:
        flags += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in options["load_models"])]
    if options.get("model_config_name"):
        flags.append(f"--model-config-name={options['model_config_name']}")
    return flags


#: The names of the inputs that a request has.
_GIVEN = re.compile(r"(?<=Got input\(s\) \[)[^]]*")


def find_difference(oracle: Oracle, files: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return what differs between the server and us; "" when nothing does."""
    heard = oracle.judge(files, *arguments(options))
    findings = validate(Tree.of(files), **options)
    if "python" not in oracle.real:
        findings = select_core_findings(findings)
    if any("unable to load shared library" in sentence for sentence in heard.sentences):
        return ""  # the libraries of these repositories are empty files
    if (verdict(findings) == "loads") != heard.loads:
        return f"the server {'loads' if heard.loads else 'refuses'} it {heard.sentences}, we found {findings}"
    lost = {_sort_inputs(sentence) for sentence in heard.sentences} - {
        _sort_inputs(finding.message.strip()) for finding in findings
    }
    return f"the server reports {lost}, we found {findings}" if lost and not heard.loads else ""


def _sort_inputs(sentence: str) -> str:
    """Return a sentence with the names of a request's inputs sorted: the server has them in a hash table's order."""
    return _GIVEN.sub(lambda match: ",".join(sorted(match[0].split(","))), sentence)
