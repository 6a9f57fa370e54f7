"""Golden tests on a real server: record, replay, and the first step that differs."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.command import tritonforge
from tests.support.picture_models import DIGITS, write_repository
from tests.support.python_models import write_model
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.runner import EndpointRunner, RepositoryRunner
from tritonforge.golden_tests.session import open_runner
from tritonforge.golden_tests.suite import CaseResult, Mode, run_case
from tritonforge.inference.client import Client
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server


def picture(seed: int = 0) -> bytes:
    """A PNG of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble with the names of `repos/digits`, without a framework."""
    return write_repository(tmp_path_factory.mktemp("repositories") / "digits", DIGITS)


@pytest.fixture(scope="module")
def runner(repository: Path) -> Iterator[RepositoryRunner]:
    with open_runner(repository) as opened:
        yield opened


def write_case(folder: Path, name: str, document: Any) -> None:
    """Write a case and the pictures that it may use."""
    folder.mkdir(exist_ok=True)
    for seed in range(2):
        (folder / f"{seed}.png").write_bytes(picture(seed))
    (folder / f"{name}.json").write_text(json.dumps(document))


ONE = {"inputs": {"IMAGE": {"file": "0.png"}}}


def run(folder: Path, name: str, runner: RepositoryRunner | EndpointRunner, mode: Mode = "replay") -> CaseResult:
    return run_case(CaseDirectory(folder), name, runner, mode=mode)


@pytest.fixture(scope="module")
def recorded(runner: RepositoryRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with recorded cases."""
    folder = tmp_path_factory.mktemp("cases")
    write_case(folder, "one", ONE)
    write_case(folder, "two", {"inputs": {"IMAGE": {"files": ["0.png", "1.png"]}}})
    for name in ("one", "two"):
        assert run(folder, name, runner, "record").status == "recorded"
    return folder


def test_unchanged_models_pass(recorded: Path, runner: RepositoryRunner) -> None:
    for name in ("one", "two"):
        result = run(recorded, name, runner)
        assert (result.status, result.differences, result.notes) == ("passed", (), ())


def test_a_case_without_a_recording_fails_and_says_how_to_record_it(tmp_path: Path, runner: RepositoryRunner) -> None:
    write_case(tmp_path, "one", ONE)
    result = run(tmp_path, "one", runner)
    assert (result.status, result.headline) == ("failed", "it has no recording; record it with --record")


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of one text in one file of a repository."""

    def apply(repository: Path) -> None:
        path = repository / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return apply


def swap_labels(repository: Path) -> None:
    path = repository / "classify" / "labels.txt"
    labels = path.read_text().split()
    path.write_text("\n".join([labels[1], labels[0], *labels[2:]]) + "\n")


@pytest.mark.parametrize(
    ("change", "step", "pattern"),
    [
        (replace("decode/1/model.py", "/ 255", "/ 254"), "decode", r"decode\.pixels: \d+ of 64 stored elements differ"),
        (
            replace("classify/1/model.py", "self.weights = ", "self.weights = 1.01 * "),
            "classify",
            r"of \d+ elements differ",
        ),
        (swap_labels, "classify", "class 0 is labelled 'one', before it was 'zero'"),
    ],
    ids=["scale", "weights", "labels"],
)
def test_a_change_fails_and_names_the_step(
    recorded: Path, repository: Path, tmp_path: Path, change: Callable[[Path], None], step: str, pattern: str
) -> None:
    changed = shutil.copytree(repository, tmp_path / "digits")
    change(changed)
    with open_runner(changed) as runner:
        for name in ("one", "two"):
            result = run(recorded, name, runner)
            assert result.headline == f"step {step} is the first one that differs"
            lines = [f"{entry.step}.{entry.output}: {entry.sentence}" for entry in result.differences]
            assert re.search(pattern, lines[0]), lines


def test_a_changed_data_flow_is_named(recorded: Path, repository: Path, tmp_path: Path) -> None:
    """A step between the others that changes the pixels is the first that differs."""
    changed = shutil.copytree(repository, tmp_path / "digits")
    write_model(
        changed,
        "darken",
        'max_batch_size: 64 input { name: "x" data_type: TYPE_FP32 dims: [16, 16, 3] }\n'
        'output { name: "y" data_type: TYPE_FP32 dims: [16, 16, 3] }\n',
        """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", request.inputs()[0].as_numpy() / 2)])
                for request in requests]
""",
    )
    step = (
        'step { model_name: "darken" model_version: -1 input_map { key: "x" value: "pixels" } '
        'output_map { key: "y" value: "dark" } }\n  '
    )
    replace(
        "digits/config.pbtxt",
        'step {\n    model_name: "classify"\n    model_version: -1\n    input_map { key: "pixels" value: "pixels" }',
        f'{step}step {{\n    model_name: "classify"\n    model_version: -1\n    '
        'input_map { key: "pixels" value: "dark" }',
    )(changed)
    with open_runner(changed) as runner:
        result = run(recorded, "one", runner)
    assert result.headline == "step darken is the first one that differs"
    sentences = [f"{entry.step}: {entry.sentence}" for entry in result.differences]
    assert sentences[:2] == [
        "darken: the recording has no such step",
        "classify: input pixels takes darken.y, before it took decode.pixels",
    ]


def test_an_update_prints_what_changed_and_records_it(recorded: Path, runner: RepositoryRunner, tmp_path: Path) -> None:
    folder = shutil.copytree(recorded, tmp_path / "cases")
    path = folder / "recorded" / "one.json"
    before = path.read_text()
    document = json.loads(before)
    document["outputs"]["PROBABILITIES"]["values"][0][3] = 0.5
    path.write_text(json.dumps(document))
    result = run(folder, "one", runner)
    assert result.headline == "digits itself differs, and none of its steps"
    updated = run(folder, "one", runner, "update")
    assert updated.status == "updated"
    assert "at [0, 3]: 0.5 before" in updated.differences[0].sentence
    assert path.read_text() == before
    assert run(folder, "one", runner, "update").status == "passed"


def test_changed_inputs_are_not_compared_with_old_answers(
    recorded: Path, runner: RepositoryRunner, tmp_path: Path
) -> None:
    folder = shutil.copytree(recorded, tmp_path / "cases")
    shutil.copyfile(folder / "1.png", folder / "0.png")
    result = run(folder, "one", runner)
    assert result.status == "failed"
    assert result.differences[0].sentence.startswith("input IMAGE changed")
    assert result.differences[0].sentence.endswith("the recording is of other inputs; record it again with --update")


def test_expectations_hold_without_a_recording(runner: RepositoryRunner, recorded: Path, tmp_path: Path) -> None:
    answer = json.loads((recorded / "recorded" / "one.json").read_text())["outputs"]["PROBABILITIES"]
    best = int(np.argmax(answer["values"][0]))
    expected = {"classes": [DIGITS.labels[best]], "value": answer["values"], "absolute": 1e-6}
    write_case(tmp_path, "right", {**ONE, "outputs": {"PROBABILITIES": expected}})
    write_case(tmp_path, "wrong", {**ONE, "outputs": {"PROBABILITIES": {"classes": [9 - best]}}})
    write_case(tmp_path, "step", {**ONE, "steps": {"decode": {"pixels": {"value": {"file": "black.npy"}}}}})
    np.save(tmp_path / "black.npy", np.zeros((1, 16, 16, 3), np.float32))
    assert run(tmp_path, "right", runner).status == "passed"
    wrong = run(tmp_path, "wrong", runner)
    assert wrong.differences[0].sentence == f"row 0: the best classes are [{best}] (expected [{9 - best}])"
    assert run(tmp_path, "wrong", runner, "record").message == "not recorded: it breaks what the case states"
    step = run(tmp_path, "step", runner)
    assert step.headline == "step decode is the first one that differs"
    assert "0 expected" in step.differences[0].sentence


def test_an_expected_error_passes_and_another_one_fails(runner: RepositoryRunner, tmp_path: Path) -> None:
    text = {"inputs": {"IMAGE": {"file": "letter.bin"}}}
    write_case(tmp_path, "letter", {**text, "error": "not an image: dear model"})
    write_case(tmp_path, "other", {**text, "error": "out of memory"})
    write_case(tmp_path, "none", {**ONE, "error": "not an image"})
    write_case(tmp_path, "surprise", text)
    (tmp_path / "letter.bin").write_bytes(b"dear model")
    assert run(tmp_path, "letter", runner).status == "passed"
    assert "got: " in run(tmp_path, "other", runner).differences[0].sentence
    assert run(tmp_path, "none", runner).differences[0].sentence.endswith("and the model answered")
    assert run(tmp_path, "surprise", runner, "record").headline.startswith(
        "not recorded: decode answered with an error: "
    )


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"inputs": {"PICTURE": [1]}}, "one: inputs.PICTURE: digits has no such input (expected IMAGE)"),
        ({"inputs": {"IMAGE": ["a"]}}, "input 'IMAGE': expected UINT8"),
        ({"inputs": {"IMAGE": {"file": "none.png"}}}, "none.png: file not found"),
        (
            {**ONE, "model": "dogs"},
            "one: model: the repository has no model 'dogs' (expected classify, decode, digits)",
        ),
        ({**ONE, "steps": {"resize": {}}}, "one: steps.resize: digits has no such step (expected decode, classify)"),
    ],
)
def test_a_case_that_does_not_fit_the_model_is_invalid(
    runner: RepositoryRunner, tmp_path: Path, document: Any, sentence: str
) -> None:
    write_case(tmp_path, "one", document)
    result = run(tmp_path, "one", runner, "record")
    assert result.status == "invalid"
    assert sentence in result.message


def test_a_link_out_of_the_directory_is_not_sent(runner: RepositoryRunner, tmp_path: Path) -> None:
    write_case(tmp_path / "cases", "one", ONE)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "cases" / "0.png").unlink()
    (tmp_path / "cases" / "0.png").symlink_to(tmp_path / "secret")
    result = run(tmp_path / "cases", "one", runner, "record")
    assert result.message.endswith("0.png: the link leads out of the directory of the cases. Copy the file")


def test_an_endpoint_is_compared_with_the_recorded_answers(recorded: Path, repository: Path, tmp_path: Path) -> None:
    """On Triton's own front end and on SageMaker's, which has no call for metadata and loads the ensemble only."""
    changed = shutil.copytree(repository, tmp_path / "digits")
    swap_labels(changed)
    for folder, status in ((repository, "passed"), (changed, "failed")):
        with Server(folder, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as server:
            for url in (server.sagemaker_url, server.http_url):
                assert url is not None
                with Client(url) as client:
                    results = [run(recorded, name, EndpointRunner(client)) for name in ("one", "two")]
                assert [result.status for result in results] == [status, status]
    assert results[0].differences[0].sentence == "class 0 is labelled 'one', before it was 'zero'"


def test_models_that_answer_by_chance_are_not_recorded(tmp_path: Path) -> None:
    write_model(
        tmp_path / "repository",
        "dice",
        'input { name: "x" data_type: TYPE_FP32 dims: [1] } output { name: "y" data_type: TYPE_FP32 dims: [8] }',
        """
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.random.rand(8).astype(np.float32))])
                for _ in requests]
""",
    )
    write_case(tmp_path / "cases", "one", {"inputs": {"x": [1]}})
    write_case(tmp_path / "cases", "loose", {"inputs": {"x": [1]}, "outputs": {"y": {"absolute": 1}}})
    with open_runner(tmp_path / "repository") as runner:
        result = run(tmp_path / "cases", "one", runner, "record")
        assert result.message.startswith("not recorded: two answers to the same inputs differ")
        assert run(tmp_path / "cases", "loose", runner, "record").status == "recorded"
        assert run(tmp_path / "cases", "loose", runner).status == "passed"


def test_the_command_names_the_step_and_writes_pictures(recorded: Path, repository: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(repository, tmp_path / "digits")
    replace("decode/1/model.py", "np.stack(pictures)", "np.stack(pictures)[..., ::-1]")(changed)
    done = tritonforge(
        *("test", str(changed), "--cases", str(recorded), "-k", "ON", "--report", str(tmp_path / "report"))
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "FAIL one  step decode is the first one that differs"
    assert re.match(r"  decode\.pixels: \d+ of 64 stored elements differ, by up to ", lines[1])
    assert lines[-1] == f"{changed}: 1 failed"
    with Image.open(tmp_path / "report" / "one.decode.pixels.png") as picture:
        assert picture.size == (2 * 16 * 8 + 8, 16 * 8)
    assert np.load(tmp_path / "report" / "one.decode.pixels.npy").shape == (1, 16, 16, 3)
    assert CaseDirectory(recorded).read_failures() == ["one"]
