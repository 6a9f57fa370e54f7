"""The repositories under repos/: their configurations are the committed ones, and the seed's come out exactly."""

from pathlib import Path

import pytest

from tritonforge.repository.definition.loading import load
from tritonforge.repository.model_config import parse_config
from tritonforge.repository.resolve import Content, resolve

REPOS = Path(__file__).parents[2] / "repos"

#: The configurations of AWS' post "Run ensemble ML models on Amazon SageMaker", as published.
SEED = {
    "dali": """
        name: "dali"
        backend: "dali"
        max_batch_size: 256
        input [ { name: "DALI_INPUT_0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
        output [ { name: "DALI_OUTPUT_0" data_type: TYPE_FP32 dims: [ 299, 299, 3 ] } ]
        parameters: [ { key: "num_threads" value: { string_value: "12" } } ]
        """,
    "inception_graphdef": """
        name: "inception_graphdef"
        platform: "tensorflow_graphdef"
        max_batch_size: 256
        input [ { name: "input" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 299, 299, 3 ] } ]
        output [
          {
            name: "InceptionV3/Predictions/Softmax"
            data_type: TYPE_FP32
            dims: [ 1001 ]
            label_filename: "inception_labels.txt"
          }
        ]
        """,
    "ensemble_dali_inception": """
        name: "ensemble_dali_inception"
        platform: "ensemble"
        max_batch_size: 256
        input [ { name: "INPUT" data_type: TYPE_UINT8 dims: [ -1 ] } ]
        output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 1001 ] } ]
        ensemble_scheduling {
          step [
            {
              model_name: "dali"
              model_version: -1
              input_map { key: "DALI_INPUT_0" value: "INPUT" }
              output_map { key: "DALI_OUTPUT_0" value: "preprocessed_image" }
            },
            {
              model_name: "inception_graphdef"
              model_version: -1
              input_map { key: "input" value: "preprocessed_image" }
              output_map { key: "InceptionV3/Predictions/Softmax" value: "OUTPUT" }
            }
          ]
        }
        """,
}


def test_the_seeds_three_configurations_come_out_message_equal() -> None:
    """`repos/inception_v3` is the seed's repository, to the last field."""
    models = {model.name: model.config for model in resolve(load(REPOS / "inception_v3").models).models}
    assert sorted(models) == sorted(SEED)
    for name, text in SEED.items():
        assert models[name] == parse_config(text), name


@pytest.mark.parametrize("definition", sorted(REPOS.glob("*/definition.py")), ids=lambda path: path.parent.name)
def test_committed_configurations_are_what_the_definition_says(definition: Path) -> None:
    """What `tritonforge build --check` holds in CI."""
    found = load(definition)
    configs = resolve(found.models, found.package).configs
    committed = {
        path.relative_to(definition.parent).as_posix(): path.read_text()
        for path in definition.parent.rglob("config.pbtxt")
    }
    assert committed == configs


@pytest.mark.parametrize("definition", sorted(REPOS.glob("*/definition.py")), ids=lambda path: path.parent.name)
def test_label_files_have_a_line_for_each_class(definition: Path) -> None:
    """A label file answers for every index of its output."""
    found = load(definition)
    for model in resolve(found.models, found.package).models:
        for output in model.config.output if model.config is not None else ():
            if output.label_filename:
                source = model.files[f"{model.name}/{output.label_filename}"]
                text = (
                    source.data.decode()
                    if isinstance(source, Content)
                    else (definition.parent / source.path).read_text()
                )
                assert len(text.splitlines()) == output.dims[-1]
