"""Reading tritonserver's log as reasons, progress and a table."""

from __future__ import annotations

from tritonforge.serving import server_log
from tritonforge.serving.server_process import ChildExit

# ruff: noqa: E501  # lines as tritonserver writes them
LOG = r"""E1121 03:28:58.163476 9430 server.cc:241] "CudaDriverHelper has not been initialized."
I1121 03:28:58.171475 9430 model_lifecycle.cc:472] "loading: my model:3"
[ERROR] [jpeg_parser] Invalid marker
E1121 03:29:00.521239 9430 backend_model.cc:692] "ERROR: Failed to create instance: ValueError: a\n\nAt:\n  /m.py(3)\n"
E1121 03:29:00.521350 9430 model_lifecycle.cc:642] "failed to load 'b' version 1: Internal: ValueError: a \"b\"; c\n\nAt:\n  /m.py(3): f\n"
E1121 03:29:00.529153 9430 model_lifecycle.cc:642] "failed to load 'a' version 1: Internal: TritonModelException: one\ntwo\n\nAt:\n  /m.py(3): i\n"
E1121 03:29:00.529200 9430 model_repository_manager.cc:1358] "Poll failed for model directory 'c': failed to read text proto from /c/config.pbtxt"
E1121 03:29:00.529300 9430 model_repository_manager.cc:614] "Invalid argument: in ensemble e, ensemble tensor x: inconsistent data type"
I1121 03:29:00.529400 9430 model_lifecycle.cc:839] "successfully loaded 'd'"
| Model    | Version | Status                              |
| d        | 1       | READY                               |
| b        | 1       | UNAVAILABLE: Internal: ValueError: a |
error: creating server: Internal - failed to load all models
"""


def test_reasons_are_tritons_without_its_prefixes() -> None:
    """One line a model: no status code, no Python traceback, nothing about CUDA."""
    assert server_log.find_reasons(LOG) == [
        "model 'b' did not load: ValueError: a \"b\"; c",
        "model 'a' did not load: one two",
        "model 'c' did not load: failed to read text proto from /c/config.pbtxt",
        "in ensemble e, ensemble tensor x: inconsistent data type",
    ]
    assert server_log.find_reasons("error: creating server: Internal - failed\n") == ["failed"]
    assert server_log.find_reasons("") == []


def test_an_error_of_a_request_is_no_reason_why_a_server_did_not_start() -> None:
    """A request can come before the start is noticed; the python backend logs its error as one of the server."""
    failed = "Failed to process the request(s) for model 'm_0', message: NotImplementedError: <EMPTY MESSAGE>"
    assert server_log.find_reasons(f'E1129 14:58:01.123456 7 python_be.cc:1916] "{failed}"\n') == []


def test_a_missing_library_is_the_reason_for_all_else() -> None:
    """The stub of the python backend does not start without libpython."""
    stub = "/x/triton_python_backend_stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open"
    (reason,) = server_log.find_reasons(f"{stub} shared object file\n{LOG}")
    assert reason.startswith("libpython3.11.so.1.0 is missing")


def test_progress_and_models_are_read_from_the_log() -> None:
    """Steps of the start as sentences, and the table of models."""
    found = [step for line in LOG.splitlines() if (step := server_log.parse_progress(line))]
    assert found == ["loading my model version 3", "d is loaded"]
    assert server_log.read_model_table(LOG) == [
        ("d", "1", "READY", ""),
        ("b", "1", "UNAVAILABLE", "Internal: ValueError: a"),
    ]


def test_a_port_in_use_is_read_from_the_log() -> None:
    """It is in tritonserver's own sentence."""
    assert (
        server_log.find_port_in_use("failed to start HTTP service: Unavailable - Socket '0.0.0.0:8080' already in use")
        == 8080
    )
    assert server_log.find_port_in_use(LOG) is None


def test_a_request_that_ended_the_server_is_named() -> None:
    """Triton aborts on 2 GiB of JSON; its log has the exception and a stack trace, and no request."""
    log = "terminate called after throwing an instance of 'std::length_error'\n  what():  vector::_M_default_append\n"
    assert "2 GiB or more" in str(server_log.explain_crash(LOG + log))
    assert server_log.explain_crash(LOG) is None


def test_a_stub_that_ended_before_its_command_was_read_is_named_by_the_servers_sentence() -> None:
    child = ChildExit((), pid=-1, status=3, out_of_memory=False, ended=0.0)
    unhealthy = "model 'm' did not load: Stub process 'm_0_0' is not healthy."
    reasons = server_log.explain_load_failures(child, [unhealthy], log="", prefix="p")
    assert reasons == ["model 'm' did not load: its Python process ended with exit status 3"]
