"""Tests of the rules about KServe, Dynamo and shared memory, and of the table of targets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.rule_findings import Files, codes, find, list_rules, only
from tests.support.rule_repositories import e, x
from tritonforge.errors import DefinitionError
from tritonforge.triton import find_image
from tritonforge.triton.targets import TARGETS, find_storage, find_target, list_versions
from tritonforge.validation.findings import verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree, link

#: The rules under test.
RULES = "[EW]4[567]"
PYTHON = 'backend: "python"'
STEPS = 'platform: "ensemble" ensemble_scheduling { step { model_name: "a" } }'
SEQUENCES = "sequence_batching { }"
BOTH = 'input { name: "A" data_type: TYPE_FP32 dims: [%s] } output { name: "B" data_type: TYPE_FP32 dims: [%s] }'
KSERVE, DYNAMO, OLD_DYNAMO = {"target": "kserve"}, {"target": "dynamo"}, {"target": "dynamo", "target_version": "1.5"}
SAGEMAKER = {"target": "sagemaker"}
S3: dict[str, Any] = {**KSERVE, "storage_uri": "s3://bucket/repository"}
ONE_MEGABYTE = {"SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "1048576"}


def one(config: str = PYTHON, **files: Any) -> Files:
    """The model "a" with one version; ``files`` are further paths in its directory, ``__`` standing for ``/``."""
    more = {f"a/{path.replace('__', '/')}": content for path, content in files.items()}
    return {"a/config.pbtxt": config, "a/1/model.py": "x", **more}


def ensemble(keeper: str) -> Files:
    """An ensemble over "a" whose version directory holds one file."""
    return {**one(), "e/config.pbtxt": STEPS, "e/1/.gitkeep": keeper}


def instances(count: int, *, config: str = "", kind: str = "KIND_CPU") -> Files:
    """A Python model with a number of instances."""
    return one(f"{PYTHON} {config} instance_group {{ count: {count} kind: {kind} }}")


#: A million FP32 elements in and out: 8 MB for each item of a batch.
LARGE = BOTH % ("1048576", "1048576")

BAD: dict[str, tuple[Files, dict[str, Any]]] = {
    "E451": (ensemble(""), S3),
    "W451": (one(), {**KSERVE, "storage_uri": "minio://bucket/repository"}),
    "W452": (ensemble(""), KSERVE),
    "W453": ({**one(), "config.pbtxt": PYTHON}, KSERVE),
    "W454": (one(f"{PYTHON} model_transaction_policy {{ decoupled: true }}"), KSERVE),
    "W455": (one(triton_python_backend_stub="\x7fELF"), KSERVE),
    "W461": (one(f"{PYTHON} input {{ name: 'A' data_type: TYPE_FP16 dims: [4] }}"), OLD_DYNAMO),
    "W462": (one(f"{PYTHON} version_policy {{ all {{ }} }}", **{"2__model.py": "x"}), DYNAMO),
    "W463": (one(f"{PYTHON} {SEQUENCES}"), DYNAMO),
    "W464": (
        one(f"{PYTHON} output {{ name: 'B' data_type: TYPE_FP32 dims: [4] label_filename: 'l' }}", l="x"), OLD_DYNAMO
    ),
    "W471": (instances(5), SAGEMAKER),
    "W472": (instances(1, config=f"max_batch_size: 9 {LARGE}"), {**KSERVE, "image": "24.09"}),
}  # fmt: skip
GOOD: dict[str, tuple[Files, dict[str, Any]]] = {
    "E451": (ensemble("kept\n"), S3),
    "W451": (one(), S3),
    "W452": (ensemble("kept\n"), KSERVE),
    "W453": ({**one(), "README.md": "x"}, KSERVE),
    "W454": (one(f"{PYTHON} model_transaction_policy {{ }}"), KSERVE),
    "W455": (one(triton_python_backend_stub="\x7fELF"), {**KSERVE, "storage_uri": "pvc://claim/repository"}),
    "W461": (BAD["W461"][0], DYNAMO),
    "W462": (one(**{"2__model.py": "x"}), DYNAMO),
    "W463": (one(f"{PYTHON} sequence_batching {{ iterative_sequence: true }}"), DYNAMO),
    "W464": (BAD["W464"][0], DYNAMO),
    "W471": (instances(4), SAGEMAKER),
    "W472": (instances(1, config=f"max_batch_size: 8 {LARGE}"), {**KSERVE, "image": "24.09"}),
}


@pytest.mark.parametrize("code", BAD)
def test_the_bad_fixture_gives_exactly_the_rule(code: str) -> None:
    files, options = BAD[code]
    assert codes(RULES, files, gpus=0, **options) == [code]


@pytest.mark.parametrize("code", GOOD)
def test_the_good_fixture_gives_nothing(code: str) -> None:
    files, options = GOOD[code]
    assert codes(RULES, files, gpus=0, **options) == []


def test_every_rule_has_fixtures() -> None:
    assert list_rules(RULES) == set(BAD) == set(GOOD)


@pytest.mark.parametrize("code", BAD)
def test_triton_alone_is_not_checked_for_a_target(code: str) -> None:
    files, _ = BAD[code]
    assert codes(RULES, files, gpus=0) == []


def test_what_the_download_drops_is_refused_by_kserve_and_not_by_triton() -> None:
    """The verdict stays Triton's; the exit code counts who refuses."""
    finding = only(RULES, ensemble(""), **S3)
    assert (finding.severity, finding.refused_by, finding.path) == ("error", "kserve", "e/1")
    assert finding.message == "the download of s3://bucket/repository drops e/1: no file in it has content"
    loading = {**x(), **e()}
    findings = validate(Tree.of(loading), image="24.09", target="kserve", storage_uri=S3["storage_uri"])
    assert {finding.code for finding in findings if finding.refused_by == "kserve"} == {"E451"}
    assert verdict(findings) == "loads"


@pytest.mark.parametrize(
    ("uri", "keeper", "expected"),
    [
        ("gs://bucket/repository", "", []),
        ("https://account.blob.core.windows.net/container/repository", "", ["E451"]),
        ("pvc://claim/repository", "", []),
        ("oci://registry/repository:1", "", []),
        ("https://example.org/repository.tar.gz", "", []),
    ],
)
def test_the_storage_decides_what_is_dropped(uri: str, keeper: str, expected: list[str]) -> None:
    assert codes(RULES, ensemble(keeper), target="kserve", storage_uri=uri) == expected


def test_object_storage_has_no_empty_directories() -> None:
    """From Google Cloud Storage empty files come along, a directory without any file does not."""
    files = {**one(), "e/config.pbtxt": STEPS, "e/1/": ""}
    assert codes(RULES, files, target="kserve", storage_uri="gs://bucket/repository") == ["E451"]
    assert codes(RULES, files, target="kserve", storage_uri="file:///models") == []


def test_empty_files_are_dropped_from_0_17_on() -> None:
    """What has no file at all is lost before, too: S3 has no directories."""
    for version, expected in (("0.16", []), ("0.17", ["E451"]), ("0.20.0", ["E451"])):
        assert codes(RULES, ensemble(""), **S3, target_version=version) == expected
    nothing = {**one(), "e/config.pbtxt": STEPS, "e/1/": ""}
    assert codes(RULES, nothing, **S3, target_version="0.16") == ["E451"]


def test_a_file_below_the_version_keeps_it() -> None:
    """Files in directories count, files that are not built yet count, and links count as what they lead to."""
    for kept in (
        {"e/1/": "", "e/1/assets/words": "x"},
        {"e/1/weights": Entry("file", size=-1)},
        {"e/1": link("../a/1")},
    ):
        assert codes(RULES, {**one(), "e/config.pbtxt": STEPS, **kept}, **S3) == []


@pytest.mark.parametrize(
    ("uri", "storage"),
    [
        ("s3://bucket", "s3"),
        ("gs://bucket/a", "gcs"),
        ("https://account.blob.core.windows.net/c", "azure blob"),
        ("https://account.z12.blob.storage.azure.net/c", "azure blob"),
        ("https://account.file.core.windows.net/c", "azure file"),
        ("https://example.org/a.zip", "http"),
        ("https://example.org/a.git", "git"),
        ("webhdfs://name/a", "hdfs"),
        ("hf://user/model", "hugging face"),
        ("/mnt/data", "local"),
        ("https://example.org", None),
        ("models/a", None),
        ("", None),
    ],
)
def test_a_storage_uri_is_recognised_as_kserve_does(uri: str, storage: str | None) -> None:
    assert find_storage(uri) == storage


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "refused"), [("ro", True), ("rw", False)])
def test_triton_cannot_give_a_stub_its_permission_where_the_mount_is_read_only(
    tmp_path: Path, mode: str, refused: bool
) -> None:
    """W455 in the server's words: the model's own stub comes without the permission, as from object storage."""
    program = [sys.executable, "-m", "tests.support.read_only_models", str(tmp_path), mode]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *program],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    words = "Failed to give execute permission to triton_python_backend_stub in <repo>/m/triton_python_backend_stub"
    assert [line.partition(" m Error")[0] for line in done.stdout.splitlines()] == [words] * refused


def test_the_image_of_kserves_default_runtime_serves() -> None:
    """Without an image the verdict is that of 23.05, which does not have later fields."""
    files = one(f'{PYTHON} runtime: "x"')
    assert "E603" in {finding.code for finding in find("E", files, target="kserve")}
    assert "E603" not in {finding.code for finding in find("E", files, target="kserve", image="24.09")}


def test_a_provisional_image_of_the_target_is_not_reported() -> None:
    assert codes("W347", one(), target="dynamo") == []
    assert codes("W347", one(), target="dynamo", image="26.09") == ["W347"]


def test_steps_of_an_ensemble_may_use_what_dynamo_does_not_carry() -> None:
    """Clients ask the ensemble; its step's data types, versions and labels are between models."""
    step = BAD["W461"][0]
    assert codes(RULES, {**step, "e/config.pbtxt": STEPS, "e/1/.gitkeep": ""}, **OLD_DYNAMO) == []


def test_targets_and_their_versions() -> None:
    """Every row names an image that is known; an unknown target or version is an error in one sentence."""
    for row in TARGETS:
        assert row.source
        if row.image:
            find_image(row.image)
    assert list_versions("kserve") == ("0.16", "0.17", "0.18", "0.19", "0.20")
    assert find_target("dynamo").version == list_versions("dynamo")[-1]
    assert find_target("dynamo", "1.5.1").version == "1.5"
    for name, version, sentence in (
        ("vertex", None, "target 'vertex' is not known (expected triton, sagemaker, kserve, dynamo)"),
        ("kserve", "0.2", "version '0.2' of KServe is not known (expected 0.16, 0.17, 0.18, 0.19, 0.20)"),
        ("triton", "2.51", "target 'triton' has no version of its own (got '2.51'). Give --image"),
    ):
        with pytest.raises(DefinitionError) as caught:
            find_target(name, version)
        assert str(caught.value) == sentence


def test_two_instances_of_the_default_runtime_of_kserve_fill_the_pod() -> None:
    """Up to release 23.08 a region has 64 MB, which is all that a pod has."""
    assert codes(RULES, instances(1), target="kserve") == []
    finding = only(RULES, instances(2), target="kserve")
    assert finding.message == (
        "2 instances of Python models take 128 MB of shared memory when they start: /dev/shm of KServe has 64 MB"
    )
    assert "emptyDir with medium: Memory and a sizeLimit above 64 MB at /dev/shm" in finding.help
    assert codes(RULES, instances(64), target="kserve", image="23.09") == []
    assert codes(RULES, instances(65), target="kserve", image="23.09") == ["W471"]


def test_the_setting_of_sagemaker_that_fits_is_named() -> None:
    """Five instances of 16 MB do not fit, of 12 MB they do; more than 64 do not fit at all."""
    assert only(RULES, instances(5), **SAGEMAKER).help == "set SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE=12582912"
    assert only(RULES, instances(65), **SAGEMAKER).help == "use fewer instances: 1 MB each is the least"
    assert codes(RULES, instances(5), **SAGEMAKER, environment=ONE_MEGABYTE) == []
    assert codes(RULES, instances(65), **SAGEMAKER, environment=ONE_MEGABYTE) == ["W471"]


def test_the_serve_script_sets_16_mb_from_22_12_on() -> None:
    """Before, an instance has the backend's own 64 MB there, too."""
    assert codes(RULES, instances(2), **SAGEMAKER, image="22.12") == []
    assert codes(RULES, instances(2), **SAGEMAKER, image="22.10") == ["W471"]


@pytest.mark.parametrize(
    "environment",
    [
        {"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--backend-config=python,shm-default-byte-size=1048576"},
        {"SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "lots"},
        {"SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "1"},
        {"SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "9" * 5000},
    ],
)
def test_sizes_that_are_not_known_are_not_checked(environment: dict[str, str]) -> None:
    assert codes(RULES, instances(99), **SAGEMAKER, environment=environment) == []


def test_instances_are_counted_as_the_server_makes_them() -> None:
    """A group on GPUs has instances on each; every loaded version has its own; an unknown host counts once."""
    for kind, gpus, count, expected in (
        ("KIND_GPU", 5, 1, ["W471"]),
        ("KIND_GPU", None, 4, []),
        ("KIND_AUTO", 5, 1, ["W471"]),
        ("KIND_AUTO", 0, 4, []),
        ("KIND_CPU", 5, 4, []),
    ):
        assert codes(RULES, instances(count, kind=kind), **SAGEMAKER, gpus=gpus) == expected
    named = one(f"{PYTHON} instance_group {{ count: 3 kind: KIND_GPU gpus: [0, 1] }}")
    assert codes(RULES, named, **SAGEMAKER, gpus=2) == ["W471"]
    assert codes(RULES, one(), **SAGEMAKER, gpus=5) == ["W471"]
    versions = {**instances(3), "a/2/model.py": "x"}
    config = f"{PYTHON} version_policy {{ all {{ }} }} instance_group {{ count: 3 kind: KIND_CPU }}"
    assert codes(RULES, {**versions, "a/config.pbtxt": config}, **SAGEMAKER, gpus=0) == ["W471"]


def test_only_models_in_stubs_take_shared_memory() -> None:
    """DALI and the other C++ backends have none; a backend added in Python has."""
    dali = {"a/config.pbtxt": 'backend: "dali" instance_group { count: 99 }', "a/1/model.dali": b"x"}
    assert codes(RULES, dali, target="kserve", gpus=0) == []
    saved = {
        "a/config.pbtxt": 'platform: "tensorflow_savedmodel" instance_group { count: 65 kind: KIND_CPU }',
        "a/1/model.savedmodel/saved_model.pb": b"x",
    }
    assert codes(RULES, saved, **SAGEMAKER, image="24.09", gpus=0) == []
    assert codes(RULES, saved, **SAGEMAKER, image="26.05+tensorflow", gpus=0) == ["W471"]


def test_a_full_batch_counts_what_is_certain() -> None:
    """Tensors of variable size, optional inputs and outputs on a GPU count nothing; hostile sizes are a number."""
    for config, gpus, expected in (
        (f"max_batch_size: 9 {LARGE}", 0, ["W472"]),
        (f"max_batch_size: 9 {LARGE}", None, []),
        (f"max_batch_size: 17 {LARGE}", None, ["W472"]),
        (f"max_batch_size: 9 {BOTH % ('-1', '1048576')}", 0, []),
        (f"max_batch_size: 9 {LARGE} model_transaction_policy {{ decoupled: true }}", 0, ["W454"]),
        (f"max_batch_size: 9 {LARGE.replace('dims', 'optional: true dims', 1)}", 0, []),
        (f"max_batch_size: 2147483647 {BOTH % ('9223372036854775807', '4')}", 0, ["W472"]),
        (f"max_batch_size: 2147483647 {BOTH % ('9223372036854775807, 9', '4')}", 0, ["W472"]),
    ):
        assert codes(RULES, one(f"{PYTHON} {config}"), target="kserve", image="24.09", gpus=gpus) == expected


def test_the_figure_of_a_full_batch_and_the_model_that_needs_most_are_named() -> None:
    """Two models: 40 MB and 32 MB do not fit into 64 MB together."""
    files = {
        **one(f"{PYTHON} max_batch_size: 5 {LARGE}"),
        "b/config.pbtxt": f"{PYTHON} max_batch_size: 4 {LARGE}",
        "b/1/model.py": "x",
    }
    finding = only(RULES, files, **SAGEMAKER, gpus=0)
    assert (finding.code, finding.path, finding.field) == ("W472", "a/config.pbtxt", "max_batch_size")
    assert finding.message == (
        "after a full batch of each instance the Python models hold at least 72 MB of shared memory, 40 MB of it a: "
        "/dev/shm of SageMaker has 64 MB"
    )
    assert "SageMaker has no setting for the size of /dev/shm" in finding.help
