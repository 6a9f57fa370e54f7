"""The order in which the processes of pytest-xdist run the files of tests, and which files share a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.checkout import ROOT

#: The files that take longest. They are started first, so that no process is left with one of them when the others are
#: done; of the first ones every second mostly waits, so that they do not all compute at the same time.
LONGEST_FIRST = (
    "tuning/test_command.py",
    "end_to_end/test_detector.py",
    "transform/test_local_server.py",
    "end_to_end/test_digits.py",
    "end_to_end/test_documents.py",
    "profiling/test_bottlenecks.py",
    "repository/test_conversion.py",
    "end_to_end/test_detector_learner.py",
    "sagemaker/transform/test_seed.py",
    "serving/test_backends.py",
    "sagemaker/peers/test_sagemaker_sdk.py",
    "sagemaker/client/test_on_emulator.py",
    "emulator/hosting/test_host.py",
    "sagemaker/endpoints/test_interruption.py",
    "serving/test_server.py",
    "validation/test_differential.py",
    "golden_tests/test_suite.py",
    "cli/test_serve_and_infer.py",
    "sagemaker/endpoints/test_deploy_command.py",
    "sagemaker/peers/test_seed_and_notebook.py",
    "sagemaker/peers/test_aws_cli.py",
    "serving/tfs/test_contract.py",
    "cli/test_watch.py",
    "serving/tfs/test_server.py",
    "serving/tfs/test_predictor.py",
    "serving/test_shared_memory.py",
    "serving/test_openvino_backend.py",
    "transform/test_interruption.py",
    "end_to_end/test_resnet50_tfs.py",
    "transform/test_command.py",
)

#: Files that share what takes long to start, by its fixture: one process runs them, one after another. A server; AWS's
#: SDKs; the processes that models are made and converted in, and TensorFlow, which these tests themselves import.
TOGETHER = {
    "digits_server": (
        "end_to_end/test_digits.py",
        "golden_tests/test_digits.py",
        "web_console/test_console_browser.py",
    ),
    "peers": (
        "sagemaker/peers/test_sagemaker_sdk.py",
        "sagemaker/peers/test_aws_cli.py",
        "sagemaker/peers/test_sdk.py",
        "sagemaker/training/test_seeds.py",
        "sagemaker/transform/test_peers.py",
    ),
    "framework_processes": (
        "repository/test_conversion.py",
        "repository/test_artifacts_make.py",
        "repository/test_artifacts_repos.py",
        "repository/test_artifacts_introspect.py",
        "repository/test_artifacts_tensorflow.py",
        "ground/test_records_tensorflow.py",
        "transform/test_digits.py",
    ),
    "zoo": ("serving/test_backends.py", "serving/test_loaded_config.py"),
}

#: Files of a few long tests that share nothing: several processes run them.
APART = ("end_to_end/test_documents.py",)


def find_rank(path: Path) -> int:
    """Return the place of a file in `LONGEST_FIRST`; the number of its files for one that it does not have."""
    return _RANKS.get(path, len(_RANKS))


_RANKS = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST_FIRST)}


def find_scope(nodeid: str) -> str:
    """Return what the tests have in common that one process runs: their file, their group, or the test alone."""
    file = nodeid.partition("::")[0]
    return nodeid if file in _APART else _GROUPS.get(file, file)


_GROUPS = {f"tests/{file}": name for name, files in TOGETHER.items() for file in files}
_APART = {f"tests/{file}" for file in APART}


def make_scheduler(config: Any, log: Any) -> Any:
    """Return a scheduler of ``--dist=loadfile`` that follows `TOGETHER` and `APART`; None for another ``--dist``."""
    from xdist.scheduler import LoadFileScheduling

    class FileScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return find_scope(nodeid)

    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
