"""Definitions to a repository: completeness, and the files of each model."""

import pytest

from tritonforge import TYPE_FP32, Ensemble, File, Input, Output, Python, Tensor
from tritonforge.errors import DefinitionError
from tritonforge.repository.resolve import BuiltArtifact, Content, LocalFile, resolve
from tritonforge.validation.tree import GITKEEP_TEXT


def leaf(name: str = "leaf", **named: object) -> Python:
    """A complete model."""
    fields = {"input": [Input("x", TYPE_FP32, [1])], "output": [Output("y", TYPE_FP32, [1])], **named}
    return Python(name, artifact=File(path="model.py"), **fields)  # type: ignore[arg-type]  # a test's shorthand


def test_paths_are_sorted_and_each_has_its_source() -> None:
    """Models by name, files by path."""
    model = leaf(output=[Output("y", TYPE_FP32, [1], label_filename="l.txt")], files={"a/b": b"c"})
    ensemble = Ensemble("all", outputs={"O": model(Tensor("I"))})
    repository = resolve({"leaf": model, "all": ensemble})
    assert list(repository.files) == [
        "all/1/.gitkeep",
        "all/config.pbtxt",
        "leaf/1",
        "leaf/a/b",
        "leaf/config.pbtxt",
        "leaf/l.txt",
    ]
    assert repository.files["all/1/.gitkeep"] == Content(GITKEEP_TEXT)
    assert repository.files["leaf/1"] == BuiltArtifact(model, 1)
    assert repository.files["leaf/l.txt"] == LocalFile("l.txt")


def test_an_ensemble_brings_the_models_it_uses() -> None:
    """Resolving an ensemble alone gives its models too, of any depth."""
    inner = Ensemble("inner", outputs={"O": leaf()(Tensor("I"))})
    outer = Ensemble("outer", outputs={"O": inner(Tensor("I"))})
    assert [model.name for model in resolve({"outer": outer}).models] == ["inner", "leaf", "outer"]


def test_completed_models_reach_nested_ensembles() -> None:
    """What introspection filled in decides the types of every ensemble above."""
    open_ = leaf(input=[Input("x")], output=[Output("y")])
    inner = Ensemble("inner", outputs={"O": open_(Tensor("I"))})
    outer = Ensemble("outer", outputs={"O": inner(Tensor("I"))})
    with pytest.raises(DefinitionError, match="leaf: input \"x\" must specify 'data_type'"):
        resolve({"outer": outer})
    configs = resolve({"outer": outer, "leaf": leaf()}).configs
    assert 'name: "I"\n  data_type: TYPE_FP32\n  dims: [1]' in configs["outer/config.pbtxt"]


def test_two_sources_for_one_path_are_refused() -> None:
    """A file cannot be two things."""
    model = leaf(output=[Output("y", TYPE_FP32, [1], label_filename="l.txt", labels=["a"])], files={"l.txt": b"o"})
    with pytest.raises(DefinitionError, match=r"leaf: two sources map to l.txt"):
        resolve({"leaf": model})


def test_files_name_the_source_of_a_label_file() -> None:
    """Without ``labels``, a label file may be anywhere beside the definition."""
    model = leaf(output=[Output("y", TYPE_FP32, [1], label_filename="l.txt")], files={"l.txt": File("names/l.txt")})
    assert resolve({"leaf": model}).files["leaf/l.txt"] == LocalFile("names/l.txt")
