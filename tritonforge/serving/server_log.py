"""tritonserver's log, read for what a user needs: progress, why it did not start, which model ended. It does no I/O.

A line is ``E1121 03:14:13.971427 4534 model_lifecycle.cc:642] "failed to load 'm' version 1: Internal: reason"``: a
letter for the severity, the time, the process, the place in Triton's sources, and the message, quoted and escaped
(server 24.10, common/src/logging.cc). Stubs write lines of their own kind between them.

tritonserver 2.51 does not restart the Python process (stub) of a model: it answers 500 for the model, and 200 to health
checks, from then on. So the end of a stub is reported as a `ModelDeath`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tritonforge.serving.server_process import ChildExit, describe_exit

__all__ = ["ModelDeath", "ModelStatus", "explain_crash", "explain_load_failures", "explain_model_death",
           "find_port_in_use", "find_reasons", "find_stub_model", "is_unhealthy", "list_loading_models",
           "parse_progress", "read_model_table"]  # fmt: skip


_LINE: Final = re.compile(r"(?P<severity>[IWEF])\d{4} [\d:.]+ \d+ (?P<place>[\w.]+:\d+)\] ?(?P<message>.*)")
_FAILED: Final = re.compile(r"failed to load '(?P<model>.+?)' version (?P<version>-?\d+): (?P<reason>.+)", re.DOTALL)
_POLL_FAILED: Final = re.compile(r"Poll failed for model directory '(?P<model>.+?)': (?P<reason>.+)", re.DOTALL)
_SOCKET: Final = re.compile(r"Socket '[^']*:(?P<port>\d+)' already in use")
_STUB: Final = re.compile(
    r"pb_stub\.cc:\d+\] +Failed to preinitialize Python stub: (?P<reason>.+?'(?P<path>[^']*)'.*|.+)"
)
_FATAL: Final = re.compile(r"^error: creating server: (?P<reason>.+)|^error: (?P<other>.+)", re.MULTILINE)
_LIBRARY: Final = re.compile(r"error while loading shared libraries: (?P<name>[^:\s]+)")
_CODE: Final = re.compile(
    r"^(Internal|Invalid argument|Not found|Unavailable|Unsupported|Unknown|Already exists|Cancelled)(: | - )"
)
_PYTHON_AT: Final = re.compile(r"\s*\n\s*At:\n.*", re.DOTALL)
_TABLE_ROW: Final = re.compile(
    r"^\| (?P<name>\S.*?) +\| (?P<version>-?\d+|-) +\| (?P<status>READY|UN\w+|LOADING)(?P<rest>.*)\|$"
)

#: Errors that stop nothing: what every machine without a GPU logs, and the errors of requests, which the python backend
#: logs while the start is still waited for (python_backend src/python_be.cc).
_HARMLESS: Final = ("CudaDriverHelper", "CUDA", "cuda", "Failed to process the request(s) for model")


class ModelStatus(NamedTuple):
    """One row of the model table.

    ``state`` is READY, LOADING, UNLOADING or UNAVAILABLE, ``reason`` is why it is not READY.
    """

    name: str
    version: str
    state: str
    reason: str


def parse_progress(line: str) -> str | None:
    """Return a line of the log as a step of the start for a user; None for other lines."""
    match = _LINE.match(line)
    if not match:
        return None
    message = _unquote(match["message"])
    if loading := re.fullmatch(r"loading: (.+):(-?\d+)", message):
        return f"loading {loading[1]} version {loading[2]}"
    if loaded := re.fullmatch(r"successfully loaded '(.+)'", message):
        return f"{loaded[1]} is loaded"
    return None


def find_reasons(log: str) -> list[str]:
    """Return why the server did not start, in Triton's own words without its prefixes; one sentence per model."""
    if missing := _LIBRARY.search(log):
        reason = (
            f"{missing['name']} is missing, which Triton's python backend needs; where this Python came without its "
            "shared library, install that (on Debian and Ubuntu the package libpython3.x of its version)"
        )
        return [reason]
    failures: dict[str, str] = {}
    for stub in _STUB.finditer(log):  # tritonserver waits for it without end
        model = "".join((stub["path"] or "").split("/")[-3:-2])
        failures.setdefault(model, f"model '{model}' did not load: {stub['reason']}" if model else stub["reason"])
    others: list[str] = []
    for severity, message in _split_messages(log):
        if severity not in "EF":
            continue
        for pattern in (_FAILED, _POLL_FAILED):
            if match := pattern.match(message):
                failures.setdefault(
                    match["model"], f"model '{match['model']}' did not load: {_clean_reason(match['reason'])}"
                )
                break
        else:
            if not message.startswith(_HARMLESS) and not any(word in message for word in _HARMLESS):
                others.append(_clean_reason(message))
    if failures:
        # Other errors repeat the failure of a model, except those of ensembles, which have lines of their own.
        return [*failures.values(), *(reason for reason in others if reason.startswith("in ensemble "))]
    if others:
        return others
    return [_clean_reason(match["reason"] or match["other"]) for match in _FATAL.finditer(log)]


def explain_crash(log: str) -> str | None:
    """Return the request that ended a running server, as a sentence; None for any other end.

    Triton 2.51 reads a body of JSON with a length of 32 bits and a sign (server/src/http_server.cc `EVRequestToJson`).
    """
    if "std::length_error" not in log:
        return None
    return (
        "tritonserver ended because of a request whose JSON has 2 GiB or more (std::length_error); send fewer elements "
        "at once, or send tensors in binary form"
    )


def find_stub_model(command: Sequence[str], prefix: str) -> str:
    """Return the model directory in the command line of a stub; "" where it has none.

    ``prefix`` begins the name of the shared memory region, which follows the model's file among the stub's arguments
    (python_backend src/stub_launcher.cc).
    """
    match = re.search(rf"([^/]+)/-?\d+/[^/]* {re.escape(prefix)}", " ".join(command))
    return match[1] if match else ""


def list_loading_models(log: str) -> list[str]:
    """Return the models that began to load and are neither loaded nor failed."""
    steps = [step for line in log.splitlines() if (step := parse_progress(line))]
    begun = dict.fromkeys(match[1] for step in steps if (match := re.fullmatch(r"loading (.+) version -?\d+", step)))
    done = {step.removesuffix(" is loaded") for step in steps}
    failed = {match["model"] for _, message in _split_messages(log) if (match := _FAILED.match(message))}
    return [model for model in begun if model not in done | failed]


def find_port_in_use(log: str) -> int | None:
    """Return the port that tritonserver could not open."""
    match = _SOCKET.search(log)
    return int(match["port"]) if match else None


def read_model_table(log: str) -> list[ModelStatus]:
    """Return the model table that tritonserver prints when it starts."""
    rows = (_TABLE_ROW.match(line) for line in log.splitlines())
    return [ModelStatus(row["name"], row["version"], row["status"], row["rest"].strip(" :")) for row in rows if row]


def _split_messages(log: str) -> Iterator[tuple[str, str]]:
    """Yield severity and message of each entry; lines without a prefix belong to the entry before them."""
    entries: list[tuple[str, list[str]]] = []
    for line in log.splitlines():
        match = _LINE.match(line)
        if match:
            entries.append((match["severity"], [match["message"]]))
        elif entries and entries[-1][1][0].startswith('"') and not entries[-1][1][-1].endswith('"'):
            entries[-1][1].append(line)
    for severity, parts in entries:
        yield severity, _unquote("\n".join(parts))


def _unquote(message: str) -> str:
    message = message.strip()
    if message.startswith('"') and message.endswith('"') and len(message) > 1:
        message = message[1:-1]
        message = re.sub(r"\\([nt\"\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), message)
    return message


def _clean_reason(reason: str) -> str:
    """Return a reason without the status code before it, the Python traceback after it, and line breaks."""
    reason = _PYTHON_AT.sub("", reason.strip())
    reason = _CODE.sub("", reason)
    reason = re.sub(r"^TritonModelException: ", "", reason)
    return re.sub(r"\s*\n\s*", " ", reason).strip(" ;")


#: What tritonserver answers for such a model (python_backend src/python_be.cc).
_UNHEALTHY: Final = re.compile(r"Stub process '.*' is not healthy")
_UNHEALTHY_MODEL: Final = re.compile(r"model '(?P<model>.+)' did not load: Stub process '.*' is not healthy")


@dataclass(frozen=True, slots=True)
class ModelDeath:
    """The end of a model's process while the server ran: ``reason`` is a sentence, ``ended`` is monotonic time."""

    model: str
    reason: str
    ended: float


def explain_model_death(child: ChildExit, prefix: str) -> ModelDeath:
    """Return the death of the model of a stub; ``prefix`` begins the names of the server's shared memory regions."""
    model = find_stub_model(child.command, prefix)
    return ModelDeath(model, f"{_name_model(model)}: its Python process ended {_describe_end(child)}", child.ended)


def is_unhealthy(answer: str) -> bool:
    """Return True if an answer of the server reports that a stub has died."""
    return _UNHEALTHY.search(answer) is not None


def explain_load_failures(child: ChildExit, sentences: Sequence[str], *, log: str, prefix: str) -> list[str]:
    """Return why models did not load if a stub died meanwhile: "not healthy" alone explains nothing.

    ``sentences`` are the server's own reasons, ``log`` is its log.
    """
    specific = [sentence for sentence in sentences if not is_unhealthy(sentence)]
    # The command of a child that ended at once is not known: then the server's sentence has the model, or none has yet.
    unhealthy = [match["model"] for sentence in sentences if (match := _UNHEALTHY_MODEL.match(sentence))]
    model = find_stub_model(child.command, prefix) or " or ".join(unhealthy or list_loading_models(log))
    if any(f"'{model}'" in sentence for sentence in specific):
        return specific
    return [*specific, f"{_name_model(model)} did not load: its Python process ended {_describe_end(child)}"]


def _name_model(model: str) -> str:
    return f"model '{model}'" if model else "a model"


def _describe_end(child: ChildExit) -> str:
    memory = " (the kernel's out-of-memory killer was active)" if child.out_of_memory else ""
    return describe_exit(child.status) + memory
