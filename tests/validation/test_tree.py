"""Trees: links as the server follows them, and directories read from disk."""

import os
from pathlib import Path

import pytest

from tests.support.rule_repositories import STRATEGY, m
from tests.support.server_oracle import write
from tritonforge.repository.definition import Function, Input, Output, Python
from tritonforge.repository.resolve import resolve
from tritonforge.validation.report import validate
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link
from tritonforge.validation.tree_reader import read_tree


def test_directories_above_an_entry_are_there() -> None:
    """A file brings the directories that it is in."""
    tree = Tree.of({"m/1/model.onnx": b""})
    assert tree.children() == ("m",)
    assert tree.subdirectories("m") == ("1",)
    assert tree.is_file("m/1/model.onnx")
    assert tree.kind("m/2") == "missing"
    assert tree.kind("m/1/../1/model.onnx") == "file"


def test_links_are_followed() -> None:
    """A link inside the tree leads to what it names; one that leads nowhere, or round in a circle, is missing."""
    tree = Tree.of(
        {
            "m/1/a": b"x",
            "m/2": link("1"),
            "n": link("m"),
            "dead": link("m/3"),
            "round": link("round"),
            "up": link("../x"),
        }
    )
    assert tree.is_dir("n/2")
    assert tree.is_file("n/2/a")
    assert tree.children("n") == ("1", "2")
    assert tree.dangling() == ("dead", "round")
    assert tree.leaves("up")
    assert tree.kind("up") == "directory"
    assert not tree.leaves("dead")


def test_a_directory_is_read_with_its_texts(tmp_path: Path) -> None:
    """Configurations, labels and pipelines are read; weights are not."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text('name: "m"')
    (tmp_path / "m" / "labels").write_text("a\nb\n")
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(b"weights")
    (tmp_path / "m" / "1" / "model.dali").write_bytes(b"pipeline")
    (tmp_path / "m" / "2").symlink_to("1")
    (tmp_path / "m" / "3").symlink_to(tmp_path.parent)
    os.mkfifo(tmp_path / "m" / "pipe")
    tree = read_tree(tmp_path)
    contents = {path: entry.content for path, entry in tree.entries.items() if entry.content is not None}
    assert contents == {"m/config.pbtxt": b'name: "m"', "m/labels": b"a\nb\n", "m/1/model.dali": b"pipeline"}
    assert tree.entries["m/1/model.onnx"].size == 7
    assert tree.is_dir("m/2")
    assert tree.entries["m/3"].leads_to == "directory"
    assert tree.entries["m/pipe"].kind == "other"
    assert tree.truncated == ""


def test_a_large_configuration_is_not_read(tmp_path: Path) -> None:
    """Of a configuration of a gigabyte only the size is taken."""
    (tmp_path / "m").mkdir()
    with (tmp_path / "m" / "config.pbtxt").open("wb") as file:
        file.truncate(2**30)
    assert read_tree(tmp_path).entries["m/config.pbtxt"] == Entry("file", 2**30)


def test_a_deep_directory_is_cut(tmp_path: Path) -> None:
    """The depth is bounded, and the tree says so."""
    (tmp_path / "/".join("d" * 40)).mkdir(parents=True)
    tree = read_tree(tmp_path)
    assert tree.truncated
    assert [finding.code for finding in validate(tree) if finding.code == "E127"] == ["E127"]


def test_a_missing_directory_is_the_callers(tmp_path: Path) -> None:
    """The directory itself has to be there."""
    with pytest.raises(FileNotFoundError):
        read_tree(tmp_path / "nothing")


def test_a_resolved_repository_is_a_tree() -> None:
    """What `build` would write is judged before it is written."""
    tensors = {"input": [Input("A", "TYPE_FP32", [4])], "output": [Output("B", "TYPE_FP32", [4])]}
    model = Python("m", artifact=Function(build=dict), max_batch_size=4, **tensors)
    tree = resolve({"m": model}).tree()
    assert tree.entries["m/1"] == DIRECTORY
    assert tree.is_file("m/1/model.py")
    assert validate(tree) == []


def test_absolute_paths_of_configurations_are_looked_at(tmp_path: Path) -> None:
    """A batching library outside the repository is there for the server as it is for the reader."""
    library = tmp_path / "batch.so"
    for name in ("first", "second"):
        write(m(STRATEGY % library), tmp_path / name)
    assert [finding.code for finding in validate(read_tree(tmp_path / "first"))] == ["E293"]
    library.touch()
    tree = read_tree(tmp_path / "second")
    assert tree.external == {str(library): "file"}
    assert validate(tree) == []
    assert [finding.code for finding in validate(tree, image="24.09")] == ["W295"]
