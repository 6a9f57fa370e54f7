"""Hand-written repositories become definitions whose configurations are equal messages."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.imported_definitions import describe_settings, import_and_build, write_and_load
from tests.support.rule_repositories import FIXTURES
from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.repository.definition import Ensemble, Model, Onnx, Python
from tritonforge.repository.definition.loading import load
from tritonforge.repository.model_config import build_config
from tritonforge.repository.repository_import import import_repository
from tritonforge.repository.resolve import resolve
from tritonforge.validation.loaded_config import build_loaded_configs
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link

REPOSITORIES = ("detector", "digits", "digits_examples", "inception_v3", "resnet50")

#: The configurations of "Build a Triton ensemble on SageMaker", as they are written by hand.
SEED = {
    "dali/config.pbtxt": """name: "dali"
backend: "dali"
max_batch_size: 256
input [
  {
    name: "DALI_INPUT_0"
    data_type: TYPE_UINT8
    dims: [ -1 ]
  }
]
output [
  {
    name: "DALI_OUTPUT_0"
    data_type: TYPE_FP32
    dims: [ 299, 299, 3 ]
  }
]
parameters: [
  {
    key: "num_threads"
    value: { string_value: "12" }
  }
]
""",
    "inception_graphdef/config.pbtxt": """name: "inception_graphdef"
platform: "tensorflow_graphdef"
max_batch_size: 256
input [
  {
    name: "input"
    data_type: TYPE_FP32
    format: FORMAT_NHWC
    dims: [ 299, 299, 3 ]
  }
]
output [
  {
    name: "InceptionV3/Predictions/Softmax"
    data_type: TYPE_FP32
    dims: [ 1001 ]
    label_filename: "inception_labels.txt"
  }
]
""",
    "ensemble_dali_inception/config.pbtxt": """name: "ensemble_dali_inception"
platform: "ensemble"
max_batch_size: 256
input [
  {
    name: "INPUT"
    data_type: TYPE_UINT8
    dims: [ -1 ]
  }
]
output [
  {
    name: "OUTPUT"
    data_type: TYPE_FP32
    dims: [ 1001 ]
  }
]
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
    "dali/1/model.dali": "",
    "inception_graphdef/1/model.graphdef": "",
    "inception_graphdef/inception_labels.txt": "",
    "ensemble_dali_inception/1/.gitkeep": "",
}

IO = 'input [{ name: "A" data_type: TYPE_FP32 dims: [4] }] output [{ name: "B" data_type: TYPE_FP32 dims: [4] }] '


def import_files(files: dict[str, Any]) -> Any:
    """Return the import of a repository of these files."""
    return import_repository(Tree.of(files), directory="repository", title="Imported.")


@pytest.mark.parametrize("name", REPOSITORIES)
def test_the_import_of_a_built_definition_is_equal_to_it(name: str, tmp_path: Path) -> None:
    """Every setting and every connection comes back; model files come back as files."""
    original = load(ROOT / "repos" / name).models
    tree = resolve(original).tree()
    models = write_and_load(import_repository(tree, directory="built", title="Imported."), tmp_path)
    assert models.keys() == original.keys()
    for model in original.values():
        assert describe_settings(models[model.name]) == describe_settings(model)


def test_the_hand_written_ensemble_is_equal_to_the_definition_in_repos(tmp_path: Path) -> None:
    models = write_and_load(import_files(SEED), tmp_path)
    original = load(ROOT / "repos" / "inception_v3").models
    assert {name: describe_settings(model) for name, model in models.items()} == {
        name: describe_settings(model) for name, model in original.items()
    }


def test_the_source_is_what_a_person_would_write() -> None:
    imported = import_files(SEED)
    assert imported.notes == ()
    assert (
        imported.text
        == '''"""Imported."""

from tritonforge import TYPE_FP32, TYPE_UINT8, Dali, Ensemble, File, Input, Output, Tensor, TensorFlow

dali = Dali(
    "dali",
    max_batch_size=256,
    input=[Input("DALI_INPUT_0", TYPE_UINT8, [-1])],
    output=[Output("DALI_OUTPUT_0", TYPE_FP32, [299, 299, 3])],
    parameters={"num_threads": 12},
    artifact=File("repository/dali/1/model.dali"),
)

inception_graphdef = TensorFlow(
    "inception_graphdef",
    platform="tensorflow_graphdef",
    max_batch_size=256,
    input=[Input("input", TYPE_FP32, [299, 299, 3], format="FORMAT_NHWC")],
    output=[Output("InceptionV3/Predictions/Softmax", TYPE_FP32, [1001], label_filename="inception_labels.txt")],
    artifact=File("repository/inception_graphdef/1/model.graphdef"),
    files={"inception_labels.txt": File("repository/inception_graphdef/inception_labels.txt")},
)

preprocessed_image = dali(Tensor("INPUT"), to="preprocessed_image")
output = inception_graphdef(preprocessed_image)
ensemble_dali_inception = Ensemble("ensemble_dali_inception", outputs={"OUTPUT": output})
'''
    )


def list_good_trees() -> dict[str, Tree]:
    """Return the good repository of every rule, once for each distinct one."""
    trees: dict[str, Tree] = {}
    seen: set[str] = set()
    for code, fixture in FIXTURES.items():
        if repr(fixture.good) not in seen:
            seen.add(repr(fixture.good))
            trees[code] = Tree.of(fixture.good)
    return trees


@pytest.mark.slow
def test_every_good_repository_of_the_rules_is_imported_as_equal_messages(tmp_path: Path) -> None:
    differing = {}
    refused = {}
    for code, tree in list_good_trees().items():
        imported = import_repository(tree, directory="repository", title="Imported.")
        if imported.problems:
            refused[code] = imported.problems
            continue
        wanted, built = import_and_build(tree, tmp_path / code)
        if wanted != built:
            differing[code] = [name for name in wanted if wanted[name] != built[name]]
    assert differing == {}
    assert refused == {}


@pytest.mark.process
def test_ruff_leaves_the_source_as_it_is(tmp_path: Path) -> None:
    """Formatted as ruff formats it, with the settings of this project."""
    sources = {"seed": import_files(SEED).text, "hostile": import_files(HOSTILE).text, "long": import_files(LONG).text}
    for code, tree in list_good_trees().items():
        text = import_repository(tree, directory="repository", title="Imported.").text
        if text:
            sources[code] = text
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    ruff = Path(sys.executable).with_name("ruff")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for arguments in (["format", "--diff"], ["check", "--select", "F,I"]):
        done = subprocess.run([ruff, *arguments, *settings, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


#: Texts that would be code, or end a line, if they were not escaped.
EVIL = "\\\"); __import__('os').system('touch /tmp/x') #\\r\\nimport os\\u2028 \\\\ \\\"\\\"\\\" \\342\\200\\256"
HOSTILE = {
    "import/config.pbtxt": f'backend: "python" {IO} # x\rimport os\x0cimport sys\u2028raise SystemExit\n'
    f'parameters {{ key: "{EVIL}" value {{ string_value: "{EVIL}" }} }} '
    f'model_repository_agents {{ agents {{ name: "{EVIL}" }} }}',
    "import/1/model.py": "raise SystemExit",
    'import/"""\n+raise SystemExit+"/x': "",
    "__builtins__/config.pbtxt": f'backend: "python" {IO}',
    "__builtins__/1/model.py": "raise SystemExit",
    "Input/config.pbtxt": f'backend: "python" {IO}',
    "Input/1/model.py": "raise SystemExit",
    "input/config.pbtxt": f'backend: "python" {IO}',
    "input/1/model.py": "raise SystemExit",
    "1.2/config.pbtxt": 'platform: "ensemble" input [{ name: "class\\n" data_type: TYPE_FP32 dims: [4] }] '
    'output [{ name: "File" data_type: TYPE_FP32 dims: [4] }] ensemble_scheduling { step [{ model_name: "Input" '
    'model_version: -1 input_map { key: "A" value: "class\\n" } output_map { key: "B" value: "x\\"); y" } }, '
    '{ model_name: "import" input_map { key: "A" value: "x\\"); y" } output_map { key: "B" value: "File" } }] }',
    "1.2/1/.gitkeep": "",
}

#: Values that do not fit on one line.
LONG_INPUTS = ", ".join(f'{{ name: "INPUT_{n}" data_type: TYPE_FP32 dims: [{n + 1}, 224, 224] }}' for n in range(9))
LONG_OUTPUTS = ", ".join(f'{{ name: "{"O" * 150}{n}" data_type: TYPE_FP32 dims: [1] }}' for n in range(2))
LONG = {
    "m/config.pbtxt": f'backend: "onnxruntime" input [{LONG_INPUTS}] output [{LONG_OUTPUTS}] '
    f'cc_model_filenames {{ key: "7.5" value: "{"f" * 200}" }}',
    "m/1/model.onnx": "",
}


def test_nothing_of_a_repository_becomes_code(tmp_path: Path) -> None:
    """Statements are imports, assignments and calls of what tritonforge exports; texts come back as they were."""
    imported = import_files(HOSTILE)
    module = ast.parse(imported.text)
    assert [type(node).__name__ for node in module.body[:2]] == ["Expr", "ImportFrom"]
    assert {type(node) for node in module.body[2:]} == {ast.Assign}
    calls = [node.func for node in ast.walk(module) if isinstance(node, ast.Call)]
    assert all(isinstance(function, ast.Name) for function in calls)
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    assert not names & {"__import__", "os", "sys", "SystemExit", "__builtins__"}
    models = write_and_load(imported, tmp_path)
    assert sorted(models) == ["1.2", "Input", "__builtins__", "import", "input"]
    assert isinstance(models["1.2"], Ensemble)
    wanted, built = import_and_build(Tree.of(HOSTILE), tmp_path / "again")
    assert wanted == built


def test_comments_stay_beside_their_fields() -> None:
    config = """# The licence of the file.
#   Indented.

# The first model.
backend: "python"
max_batch_size: 8  # as the client sends
input [
  # the text
  {
    name: "TEXT"  # UTF-8
    data_type: TYPE_STRING
    dims: [ 1 ]
  }
]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] } ]
dynamic_batching {
  # a millisecond
  max_queue_delay_microseconds: 1000
}
parameters { key: "b" value: { string_value: "#x" } }
parameters { key: "a"  # the first
  value: { string_value: "1.5" } }
"""
    text = import_files({"m/config.pbtxt": config, "m/1/model.py": ""}).text
    assert (
        text.partition("\n\n")[2].partition("\n\n")[2]
        == """# The licence of the file.
#   Indented.

# The first model.
m = Python(
    "m",
    max_batch_size=8,  # as the client sends
    input=[
        # the text
        Input("TEXT", TYPE_STRING, [1]),  # UTF-8
    ],
    output=[Output("OUT", TYPE_FP32, [2])],
    dynamic_batching=DynamicBatching(
        # a millisecond
        max_queue_delay_microseconds=1000,
    ),
    parameters={
        "a": 1.5,  # the first
        "b": "#x",
    },
    artifact=File("repository/m/1/model.py"),
)
"""
    )


def test_a_heading_that_files_share_is_written_once() -> None:
    config = f'# Copyright\n\nbackend: "python" {IO}'
    files = {f"{name}/{path}": text for name in "ab" for path, text in (("config.pbtxt", config), ("1/model.py", ""))}
    assert import_files(files).text.count("Copyright") == 1


def test_the_kind_of_a_model_is_that_of_its_backend(tmp_path: Path) -> None:
    """Platform and backend stay as they are written, also where the server finds them by the file."""
    files = {
        "a/config.pbtxt": IO,
        "a/1/model.onnx": "",
        "b/config.pbtxt": f'platform: "onnxruntime_onnx" {IO}',
        "b/2/model.onnx": "",
        "b/10/model.onnx": "",
        "c/config.pbtxt": f'backend: "fil" {IO}',
        "c/1/xgboost.json": "",
        "d/config.pbtxt": f'backend: "python" default_model_filename: "main.py" {IO}',
        "d/1/main.py": "",
        "d/1/package/part.py": "",
        "e/1/model.onnx": "",
    }
    models = write_and_load(import_files(files), tmp_path)
    kinds = {name: (type(m), m.platform, m.backend) for name, m in models.items() if isinstance(m, Model)}
    assert kinds == {
        "a": (Onnx, "", ""),
        "b": (Onnx, "onnxruntime_onnx", ""),
        "c": (Model, "", "fil"),
        "d": (Python, "", "python"),
        "e": (Onnx, "", ""),
    }
    sources = {name: model.versions for name, model in models.items() if isinstance(model, Model)}
    assert list(sources["b"]) == [2, 10]
    assert sources["c"] == {1: None}
    assert list(models["c"].files) == ["1/xgboost.json"]
    assert list(models["d"].files) == ["1/package/part.py"]


X = {"x/config.pbtxt": f'backend: "identity" {IO}', "x/1/": DIRECTORY}


def step(reads: str, writes: str) -> str:
    """One step over the model "x"."""
    return (
        f'step {{ model_name: "x" model_version: -1 input_map {{ key: "A" value: "{reads}" }} '
        f'output_map {{ key: "B" value: "{writes}" }} }}'
    )


def build_ensemble(steps: str, *, config: str = "", dims: str = "4", output: str = "") -> dict[str, Any]:
    """An ensemble "e" over "x"."""
    text = (
        f'platform: "ensemble" {config} input [{{ name: "I" data_type: TYPE_FP32 dims: [{dims}] }}] '
        f'output [{{ name: "O" data_type: TYPE_FP32 dims: [{dims}] {output} }}] ensemble_scheduling {{ {steps} }}'
    )
    return {**X, "e/config.pbtxt": text, "e/1/": DIRECTORY}


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        (build_ensemble(step("I", "T") + step("T", "O")), 'outputs={"O": o})'),
        (build_ensemble(step("T", "O") + step("I", "T")), "step_order=[o, t]"),
        (build_ensemble(step("I", "O"), dims="-1"), 'input=[Input("I", TYPE_FP32, [-1])]'),
        (build_ensemble(step("I", "O"), output='label_filename: "l.txt"'), 'label_filename="l.txt"'),
        (build_ensemble(step("I", "O"), config='parameters { key: "k" value { string_value: "v" } }'), '{"k": "v"}'),
        (build_ensemble(step("I", "O"), config="optimization { priority: PRIORITY_MAX }"), "optimization {"),
    ],
)
def test_an_ensemble_states_what_its_steps_do_not_give(files: dict[str, Any], stated: str, tmp_path: Path) -> None:
    imported = import_files(files)
    assert stated in imported.text
    assert isinstance(write_and_load(imported, tmp_path)["e"], Ensemble)
    wanted, built = import_and_build(Tree.of(files), tmp_path)
    assert wanted == built
    definitions = load(tmp_path / "definition.py")
    if "label_filename" not in stated:
        assert resolve(definitions.models).configs.keys() == {"e/config.pbtxt", "x/config.pbtxt"}


def test_an_ensemble_that_calls_cannot_express_keeps_its_text_and_the_reason(tmp_path: Path) -> None:
    files = build_ensemble(step("I", "O").replace('"x"', '"gone"'))
    imported = import_files(files)
    assert '# Its steps are protobuf text, since its model "gone" is not in the repository' in imported.text
    assert imported.notes == (
        'e: its steps are in override, since its model "gone" is not in the repository, or has no definition',
    )
    wanted, built = import_and_build(Tree.of(files), tmp_path)
    assert wanted == built


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"m/config.pbtxt": "backend: ", "m/1/": DIRECTORY},
            "m/config.pbtxt:1:10: Expected string, got: ",
        ),
        (
            {"m/config.pbtxt": link("/etc/passwd", leads_to="file"), "m/1/": DIRECTORY},
            "m/config.pbtxt: the link leads out of the repository",
        ),
        (
            {"m/config.pbtxt": IO, "m/1/model.onnx": link("../../../x", leads_to="file")},
            "m/1/model.onnx: the link leads out of the repository",
        ),
        ({"m x/config.pbtxt": IO, "m x/1/model.onnx": ""}, "Model: name is 'm x'"),
        ({"config.pbtxt": IO, "1/model.onnx": ""}, "config.pbtxt is at the top"),
        ({"README.md": ""}, "no models found"),
    ],
)
def test_a_repository_without_a_definition_gives_a_sentence(files: dict[str, Any], sentence: str) -> None:
    imported = import_files(files)
    assert imported.text == ""
    (problem,) = imported.problems
    assert problem.startswith(sentence)


def test_paths_out_of_a_model_are_text_and_no_file_of_a_build(tmp_path: Path) -> None:
    """A build of the definition writes nothing outside of its destination."""
    outside = "../../../outside"
    files = {
        "a/config.pbtxt": f'default_model_filename: "{outside}" backend: "onnxruntime" {IO}',
        "a/1/model.onnx": "",
        "b/config.pbtxt": f'backend: "python" {IO}'.replace('"B"', f'"B" label_filename: "{outside}"'),
        "b/1/model.py": "",
        "c/config.pbtxt": f'backend: "python" {IO} model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "A" value {{ '
        f'data_type: TYPE_FP32 dims: [4] input_data_file: "{outside}" }} }} }}',
        "c/1/model.py": "",
    }
    wanted, built = import_and_build(Tree.of(files), tmp_path)
    assert wanted == built
    resolved = resolve(load(tmp_path / "definition.py").models)
    assert not [path for path in resolved.files if "outside" in path]


def test_placeholders_of_empty_directories_are_not_model_files() -> None:
    imported = import_files({"m/config.pbtxt": f'platform: "onnxruntime_onnx" {IO}', "m/1/.keep": ""})
    assert imported.notes == ("m: 1/model.onnx not found; the build needs it",)
    assert "files=" not in imported.text


def test_missing_files_are_named(tmp_path: Path) -> None:
    """The definition refers to them all the same: weights are often not in version control."""
    imported = import_files(
        {
            "m/config.pbtxt": f'platform: "onnxruntime_onnx" {IO}',
            "docs/a.txt": "",
            "n/config.pbtxt": f'backend: "python" {IO}',
            "n/1/": DIRECTORY,
        }
    )
    assert imported.notes == (
        "docs: left out: it has no config.pbtxt and no version directory",
        "m: 1/model.onnx not found; the build needs it",
        "n: 1/model.py not found; the build needs it",
    )
    assert write_and_load(imported, tmp_path).keys() == {"m", "n"}


def test_a_dali_model_without_a_batch_size_states_it() -> None:
    """Absent, it is the pipeline's; a build always writes it, and 0 means that the model does not batch."""
    imported = import_files({"m/config.pbtxt": f'backend: "dali" {IO}', "m/1/model.dali": ""})
    assert imported.notes[0].startswith("m/config.pbtxt: it has no max_batch_size, and its pipeline was not read.")


def test_what_a_model_file_states_is_stated_as_the_server_has_it(tmp_path: Path) -> None:
    """Else a build, which writes inputs and outputs, would turn off what ONNX Runtime's backend fills in."""
    signature = Signature([TensorSpec("x", "TYPE_FP32", (-1, 3))], [TensorSpec("y", "TYPE_FP32", (-1, 2))])
    files = {
        "m/1/model.onnx": Entry("file", 1, header=OnnxModel(ir_version=8, opsets={"": 17}, signature=signature)),
        "e/config.pbtxt": 'platform: "ensemble" max_batch_size: 4 input { name: "I" data_type: TYPE_FP32 dims: 3 } '
        'output { name: "O" data_type: TYPE_FP32 dims: 2 } ensemble_scheduling { step { model_name: "m" '
        'model_version: -1 input_map { key: "x" value: "I" } output_map { key: "y" value: "O" } } }',
        "e/1/": DIRECTORY,
    }
    tree = Tree.of(files)
    models = write_and_load(import_repository(tree, directory="repository", title="Imported."), tmp_path)
    loaded: Any = build_loaded_configs(build_context(tree))["m"].message
    built: Any = build_config(models["m"])
    assert (built.max_batch_size, list(built.input), list(built.output)) == (
        loaded.max_batch_size,
        list(loaded.input),
        list(loaded.output),
    )
    assert built.HasField("dynamic_batching") == loaded.HasField("dynamic_batching")
    assert isinstance(models["e"], Ensemble)


def test_enum_numbers_without_a_name_are_text(tmp_path: Path) -> None:
    """Protobuf accepts any number."""
    files = {"m/config.pbtxt": IO.replace("TYPE_FP32", "32"), "m/1/model.onnx": ""}
    wanted, built = import_and_build(Tree.of(files), tmp_path)
    assert wanted == built


def test_huge_configurations_take_bounded_time() -> None:
    """Fields with more elements than people write are text; nothing is quadratic."""
    tensors = ", ".join(f'{{ name: "T{n}" data_type: TYPE_FP32 dims: [1] }}' for n in range(5000))
    steps = " ".join(step(f"T{n}", f"U{n}") for n in range(5000))
    config = f'platform: "ensemble" input [{tensors}] ensemble_scheduling {{ {steps} }}'
    imported = import_files({**X, "e/config.pbtxt": config, "e/1/": DIRECTORY})
    assert "it has more than 1000 steps or tensors" in imported.notes[0]
