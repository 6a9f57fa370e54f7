"""A new source is written only if it gives the configurations that were measured."""

from pathlib import Path

import pytest

from tritonforge.building import build_definitions
from tritonforge.repository.definition.loading import load
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.tuning.definition_update import DefinitionUpdate, plan_update, write_update
from tritonforge.tuning.search_space import COUNT, Value

DEFINITION = """from tritonforge import TYPE_FP32, Input, Output, Python

double = Python("double", input=[Input("x", TYPE_FP32, [2])], output=[Output("y", TYPE_FP32, [2])],
                artifact="{artifact}")
"""


def plan(folder: Path, settings: dict[tuple[str, str], Value], *, artifact: str = "double.py") -> DefinitionUpdate:
    """Return the update of a definition to two instances, with these settings."""
    (folder / "models" / "double").mkdir(parents=True)
    definition = folder / "models" / "double" / "definition.py"
    definition.write_text(DEFINITION.format(artifact=artifact))
    (definition.parent / artifact).write_text("class TritonPythonModel: ...\n")
    definitions = load(definition)
    repository = folder / "build"
    build_definitions(definitions, repository)
    wanted = read_configs(repository)
    wanted["double"].instance_group.add(count=2)  # type: ignore[attr-defined]  # a field of the message class made at run time
    return plan_update(definitions, repository, settings, wanted)


@pytest.mark.parametrize("artifact", ["double.py", "../../double.py"])
def test_a_source_that_gives_the_configurations_is_written(tmp_path: Path, artifact: str) -> None:
    update = plan(tmp_path, {("double", COUNT): 2}, artifact=artifact)
    assert update.problem == ""
    write_update(update)
    assert "instance_group=[InstanceGroup(count=2)]" in update.path.read_text()


def test_a_source_that_gives_others_is_not_written(tmp_path: Path) -> None:
    update = plan(tmp_path, {("double", COUNT): 4})
    assert update.problem == "the edited definition gives other settings of double"
    assert not update.can_be_written
