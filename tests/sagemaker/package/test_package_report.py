"""The report on a package: what will be in it, its findings, and the environment that it needs."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.graphdefs import dense_layers
from tests.support.model_archives import ENSEMBLE, FILES, LEAF, lay
from tritonforge.errors import PackageError
from tritonforge.inference.client import Client
from tritonforge.sagemaker.package import (
    DEFAULT_MODEL,
    PackageReport,
    check_package,
    check_tree,
    find_default_model,
    inspect,
    unpack,
    write_package,
)
from tritonforge.serving.server import Server

DOUBLE = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", tensor.inputs()[0].as_numpy() * 2)]) for tensor in requests
        ]
"""
OTHER = {"other/config.pbtxt": LEAF.replace("leaf", "other"), "other/1/model.py": ""}


def codes(judgement: PackageReport) -> list[str]:
    """The codes of what was found."""
    return [finding.code for finding in judgement.findings]


def test_an_ensemble_is_the_default_model(repository: Path) -> None:
    """It is named in the environment, and with that nothing is refused."""
    judgement = check_package(repository, image="24.09")
    assert judgement.default_model == "all" == find_default_model(repository)
    assert judgement.environment == {DEFAULT_MODEL: "all"}
    assert not judgement.is_refused
    assert codes(judgement) == []
    assert judgement.idle == ()


def test_a_single_model_is_the_default_model(tmp_path: Path) -> None:
    """Whatever it is."""
    lay(tmp_path / "r", {"m/config.pbtxt": LEAF.replace("leaf", "m"), "m/1/model.py": ""})
    assert find_default_model(tmp_path / "r") == "m"


def test_the_only_outermost_ensemble_is_meant_as_in_serve(repository: Path) -> None:
    """A model beside it that nothing uses is in the archive, and is reported as idle."""
    lay(repository, OTHER)
    judgement = check_package(repository, image="24.09")
    assert (judgement.default_model, judgement.idle, judgement.is_refused) == ("all", ("other",), False)


def test_two_models_that_nothing_uses_are_refused(tmp_path: Path) -> None:
    """In the words of `serve`; naming one of them helps."""
    lay(tmp_path / "r", {**OTHER, "leaf/config.pbtxt": LEAF, "leaf/1/model.py": ""})
    judgement = check_package(tmp_path / "r")
    assert (judgement.default_model, codes(judgement), judgement.is_refused) == (None, ["E403"], True)
    chosen = check_package(tmp_path / "r", default_model="leaf")
    assert (chosen.environment, chosen.idle, chosen.is_refused) == ({DEFAULT_MODEL: "leaf"}, ("other",), False)
    assert codes(check_package(tmp_path / "r", default_model="none")) == ["E112", "E404"]


def test_an_environment_that_is_not_in_the_package_is_refused(repository: Path) -> None:
    """EXECUTION_ENV_PATH names an archive; there is nothing around a package on SageMaker."""
    config = repository / "leaf" / "config.pbtxt"
    parameter = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "%s" } }'
    text = config.read_text()
    for path in ("$$TRITON_MODEL_DIRECTORY/env.tar.gz", "$$TRITON_MODEL_DIRECTORY/../../env.tar.gz"):
        config.write_text(text + parameter % path)
        judgement = check_package(repository, image="24.09")
        assert judgement.is_refused
        assert codes(judgement) == ["E295"]
    (repository / "leaf" / "env.tar.gz").touch()
    config.write_text(text + parameter % "$$TRITON_MODEL_DIRECTORY/env.tar.gz")
    assert codes(check_package(repository, image="24.09")) == []


def test_what_is_left_out_is_not_judged(repository: Path) -> None:
    """`serve` counts hidden directories and caches, which the package has not."""
    lay(repository, {".git/HEAD": "x", "__pycache__/a.pyc": "x"})
    judgement = check_package(repository, image="24.09")
    assert codes(judgement) == []
    assert judgement.left_out == (".git/", "__pycache__/")


def test_links_are_judged_as_what_they_become(repository: Path) -> None:
    """`serve` does not count links to directories, and the package has directories in their place."""
    (repository / "leaf").rename(repository.parent / "elsewhere")
    lay(repository, {".models/": ""})
    (repository.parent / "elsewhere").rename(repository / ".models/leaf")
    (repository / "leaf").symlink_to(".models/leaf")
    assert codes(check_package(repository, image="24.09")) == []


def test_it_is_judged_for_the_image_and_the_instance(repository: Path) -> None:
    """A TensorFlow model in an image without it is refused, and both ways out are named."""
    lay(repository, {"leaf/config.pbtxt": LEAF.replace('backend: "python"', 'platform: "tensorflow_graphdef"')})
    (repository / "leaf/1/model.py").unlink()
    (repository / "leaf/1/model.graphdef").write_bytes(dense_layers([np.eye(3)]))
    assert not check_package(repository, image="24.09").is_refused
    refused = check_package(repository, image="26.05")
    [finding] = [finding for finding in refused.findings if finding.code == "E601"]
    assert refused.is_refused
    assert "--tensorflow onnx" in finding.help
    assert "--tensorflow python-backend" in finding.help
    assert not check_package(repository, image="26.05+tensorflow").is_refused
    assert "E605" in codes(check_package(repository, image="26.05+tensorflow", instance_type="ml.p3.2xlarge"))


def test_an_archive_is_judged_as_its_repository(repository: Path, tmp_path: Path) -> None:
    """What `inspect` reads has the findings of what was written, and of the unpacked folder."""
    lay(repository, {"all/config.pbtxt": ENSEMBLE.replace("TYPE_FP32", "TYPE_FP16", 1)})
    before = check_package(repository, image="24.09")
    archive = write_package(repository, tmp_path / "model.tar.gz").path
    assert codes(before) != []
    assert check_tree(inspect(archive).tree, image="24.09").findings == before.findings
    unpack(archive, tmp_path / "in")
    assert check_package(tmp_path / "in", image="24.09").findings == before.findings


@pytest.mark.parametrize("path", ["definition.py", ""])
def test_a_definition_is_to_be_built_first(tmp_path: Path, path: str) -> None:
    """The sentence holds the command."""
    lay(tmp_path / "digits", {"definition.py": "", "leaf/config.pbtxt": LEAF})
    with pytest.raises(PackageError, match=r"this is a definition; build it first: tritonforge build .*build/digits"):
        check_package(tmp_path / "digits" / path)


def test_an_archive_instead_of_a_repository_is_reported(repository: Path, tmp_path: Path) -> None:
    """The sentence names --inspect."""
    archive = write_package(repository, tmp_path / "model.tar.gz").path
    with pytest.raises(PackageError, match="this is a file; give a model repository, or --inspect"):
        check_package(archive)


def test_a_multi_model_archive_of_an_ensemble_serves_it(repository: Path) -> None:
    """The front end finds it by its text; nothing needs to be in the environment."""
    judgement = check_package(repository, image="24.09", multi_model=True)
    assert (judgement.default_model, dict(judgement.environment), codes(judgement)) == ("all", {}, [])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"all/config.pbtxt": ENSEMBLE.replace('platform: "', 'platform : "')}, {"W409", "W411"}),
        ({"leaf/config.pbtxt": f'# not platform: "ensemble"\n{LEAF}'}, {"W410", "W411"}),
        ({"two/config.pbtxt": ENSEMBLE.replace('"all"', '"two"'), "two/1/.gitkeep": ""}, {"W411"}),
        ({"leaf/config.pbtxt": f"{LEAF}model_transaction_policy {{ decoupled: true }}\n"}, {"W412"}),
    ],
    ids=["undetected", "mistaken", "ambiguous", "decoupled"],
)
def test_what_the_front_end_mistakes_is_refused_there(
    repository: Path, files: dict[str, str | bytes], expected: set[str]
) -> None:
    """For a single model these are warnings at most; on a multi-model endpoint another model would answer."""
    lay(repository, files)
    judgement = check_package(repository, image="24.09", multi_model=True)
    refused = {finding.code for finding in judgement.findings if finding.refused_by == "sagemaker"}
    assert refused >= expected
    assert judgement.is_refused


def test_several_models_without_an_ensemble_are_refused_in_one_multi_model_archive(tmp_path: Path) -> None:
    """Which of them answers follows from the file system."""
    lay(tmp_path / "r", {**OTHER, "leaf/config.pbtxt": LEAF, "leaf/1/model.py": ""})
    judgement = check_package(tmp_path / "r", multi_model=True)
    [finding] = judgement.findings
    assert finding.message == "a multi-model endpoint serves one of leaf, other, which one is not defined"
    assert (judgement.is_refused, judgement.default_model) == (True, None)


def test_a_model_at_the_top_is_an_archive_of_a_multi_model_endpoint(tmp_path: Path) -> None:
    """There the archive may be the inside of a model; a single-model endpoint refuses it."""
    lay(tmp_path / "m", {"config.pbtxt": LEAF, "1/model.py": "", "2/model.py": ""})
    assert codes(check_package(tmp_path / "m", image="24.09", multi_model=True)) == []
    assert "E401" in codes(check_package(tmp_path / "m", image="24.09"))
    lay(tmp_path / "m", {"config.pbtxt": LEAF.replace("TYPE_FP32", "TYPE_FP33", 1)})
    wrong = check_package(tmp_path / "m", multi_model=True)
    assert wrong.is_refused
    assert {finding.path for finding in wrong.findings} == {"config.pbtxt"}
    assert set(wrong.validation.texts) == {"config.pbtxt"}


@pytest.mark.server
def test_what_comes_out_of_a_package_is_served(repository: Path, tmp_path: Path) -> None:
    """A real server loads the unpacked archive, and the default model of the report answers."""
    lay(repository, {"leaf/1/model.py": DOUBLE})
    unpack(write_package(repository, tmp_path / "model.tar.gz").path, tmp_path / "in")
    ports = {"sagemaker_port": 0, "http_port": None, "grpc_port": None, "metrics_port": None}
    with Server(tmp_path / "in", default_model=find_default_model(repository), **ports) as server:
        assert {model.state for model in server.models()} == {"READY"}
        with Client(str(server.sagemaker_url)) as client:
            assert client.infer({"I": np.array([[1, 2]], "f4")})["O"].tolist() == [[2, 4]]


def test_files_of_the_fixture_are_those_that_are_judged(repository: Path) -> None:
    """The texts that findings point into come with the judgement."""
    assert set(check_package(repository).validation.models) == {path.partition("/")[0] for path in FILES}


def test_a_host_without_gpus_refuses_what_needs_one(tmp_path: Path) -> None:
    """As a serverless endpoint has none; with the instance type unknown it is not refused."""
    needs_gpu = LEAF.replace("leaf", "m") + "instance_group { kind: KIND_GPU }\n"
    lay(tmp_path / "r", {"m/config.pbtxt": needs_gpu, "m/1/model.py": ""})
    assert check_package(tmp_path / "r", image="24.09", gpus=0).is_refused
    assert not check_package(tmp_path / "r", image="24.09").is_refused
