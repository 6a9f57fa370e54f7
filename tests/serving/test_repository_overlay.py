"""Which model is asked, and what a machine without GPU is given to serve."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from tritonforge.errors import LaunchError
from tritonforge.serving import loopback, repository_overlay
from tritonforge.serving.server import Server
from tritonforge.triton.schema import ModelConfig, new_model_config


def config(text: str) -> ModelConfig:
    """A ModelConfig of its text."""
    return text_format.Parse(text, new_model_config())


def ensemble(*steps: str) -> ModelConfig:
    """An ensemble of these models."""
    return config(
        'platform: "ensemble" ensemble_scheduling {' + "".join(f'step {{ model_name: "{s}" }}' for s in steps) + "}"
    )


@pytest.mark.parametrize(
    ("configs", "default", "chosen"),
    [
        ({"a": config("")}, None, "a"),
        ({"a": config(""), "b": config("")}, "b", "b"),
        ({"a": config(""), "e": ensemble("a")}, None, "e"),
        ({"a": config(""), "inner": ensemble("a"), "outer": ensemble("inner", "a")}, None, "outer"),
        ({"a": config(""), "b": config("")}, None, None),
        ({"a": config(""), "e": ensemble("a"), "f": ensemble("a")}, None, None),
        ({"a": config("")}, "c", "model 'c' not found in the repository; it has a"),
        ({}, None, "no models found in the repository"),
    ],
)
def test_the_entry_is_given_or_follows(
    configs: dict[str, ModelConfig], default: str | None, chosen: str | None
) -> None:
    """The named model, the only one, or the outermost ensemble; else None."""
    if chosen and " " in chosen:
        with pytest.raises(LaunchError, match=chosen):
            repository_overlay.choose_default_model(configs, default)
    else:
        assert repository_overlay.choose_default_model(configs, default) == chosen


def test_the_candidates_are_the_outermost_ensembles_or_all_models() -> None:
    """What a user chooses from, sorted."""
    models = {"b": config(""), "a": config("")}
    assert repository_overlay.list_default_candidates(models) == ("a", "b")
    assert repository_overlay.list_default_candidates(
        {**models, "f": ensemble("a"), "e": ensemble("f"), "d": ensemble("b")}
    ) == ("d", "e")
    assert repository_overlay.explain_missing_default(["b", "a"]).endswith("choose one with serve --model: a, b")


def test_a_port_that_is_given_twice_is_refused() -> None:
    """Any free port and a front end that is off are never the same."""
    twice = loopback.hold_ports({"sagemaker": 0, "http": 9, "grpc": 9})
    with pytest.raises(LaunchError, match="port 9 is given to both http and grpc; choose another one with"), twice:
        raise AssertionError("held")
    with loopback.hold_ports({"sagemaker": 0, "http": 0, "grpc": None, "metrics": None}) as held:
        assert held["sagemaker"] != held["http"]


def test_a_repository_without_models_is_refused(tmp_path: Path) -> None:
    """The sentence has the path, and what is looked for there."""
    with pytest.raises(LaunchError, match=f"{tmp_path}: no models found"):
        Server(tmp_path)


def test_steps_come_with_their_ensemble() -> None:
    """Through every level, and no other model."""
    configs = {"a": config(""), "b": config(""), "inner": ensemble("a"), "outer": ensemble("inner", "gone")}
    assert set(repository_overlay.select_models(configs, ["outer"])) == {"outer", "inner", "a"}


def test_the_view_moves_gpu_instances_to_the_cpu(tmp_path: Path) -> None:
    """Groups of a GPU, and groups that list GPUs, keep their count; everything else stays as it is."""
    groups = ("kind: KIND_GPU gpus: [ 0, 1 ] count: 3", "kind: KIND_CPU count: 2", "gpus: 0")
    text = 'backend: "x" ' + " ".join(f"instance_group {{ {group} }}" for group in groups)
    folder = tmp_path / "repository" / "gpu" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(text)
    (tmp_path / "repository" / "cpu").mkdir()
    configs = repository_overlay.read_configs(tmp_path / "repository")
    assert {name for name, config in configs.items() if repository_overlay.has_gpu_instances(config)} == {"gpu"}
    texts = repository_overlay.list_rewritten_configs(tmp_path / "repository", configs, to_cpu=True)
    assert set(texts) == {"gpu"}
    made = repository_overlay.write_overlay(tmp_path / "repository", tmp_path / "view", texts)
    moved = repository_overlay.read_configs(made)["gpu"]
    expected = "instance_group { kind: KIND_CPU count: %d }"
    assert moved == config('backend: "x" ' + "".join(expected % count for count in (3, 2, 1)))
    assert (made / "gpu" / "1").samefile(folder)
    assert (made / "cpu").is_dir()
    assert "KIND_GPU" in (folder.parent / "config.pbtxt").read_text()
    repository_overlay.move_to_cpu(tmp_path / "repository")
    assert repository_overlay.read_configs(tmp_path / "repository") == {**configs, "gpu": moved}


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_no_gpus(visible: str) -> None:
    """CUDA_VISIBLE_DEVICES hides all of them."""
    assert not repository_overlay.has_gpu({"CUDA_VISIBLE_DEVICES": visible})
