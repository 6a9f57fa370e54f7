"""Which repositories tritonserver loads without completing their configurations, and what is written into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.rule_findings import pipeline
from tritonforge.serving.config_completion import complete_configs
from tritonforge.validation.tree import Tree, link

INPUT = 'input { name: "IMAGE" data_type: TYPE_UINT8 dims: [-1] }'
OUTPUT = 'output { name: "OUT" data_type: TYPE_FP32 dims: [224, 224, 3] }'
PYTHON = f'backend: "python" max_batch_size: 8 {INPUT} {OUTPUT}'
STEP = 'step { model_name: "m" input_map { key: "IMAGE" value: "IMAGE" } output_map { key: "OUT" value: "OUT" } }'
CODE = "import os\n\n\nclass TritonPythonModel:\n    def execute(self, requests): ...\n"
PIPELINE = pipeline(outputs=(("images", "TYPE_FP32", 3),))
MODEL: Mapping[str, Any] = {"m/config.pbtxt": PYTHON, "m/1/model.py": CODE}


def complete(files: Mapping[str, Any], **options: Any) -> Any:
    """The completed configurations of all models."""
    tree = Tree.of(files)
    return complete_configs(tree, tree.subdirectories(), **options)


def test_a_complete_repository_is_served_as_it_is() -> None:
    tensors = f'{INPUT} output {{ name: "OUT" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }}'
    graph = f'platform: "tensorflow_graphdef" max_batch_size: 8 {tensors}'
    files = {"g/config.pbtxt": graph, "g/1/model.graphdef": b"", "g/labels.txt": "a\n"}
    ensemble = f'platform: "ensemble" max_batch_size: 8 ensemble_scheduling {{ {STEP} }} {INPUT} {OUTPUT}'
    assert complete({**MODEL, **files, "e/config.pbtxt": ensemble, "e/1/": ""}) == {}


def test_what_dali_adds_to_every_configuration_is_written_into_it() -> None:
    config = f'backend: "dali" max_batch_size: 8 {INPUT} {OUTPUT}'
    completed = complete({"d/config.pbtxt": config, "d/1/model.dali": PIPELINE, **MODEL})
    assert list(completed) == ["d"]
    assert completed["d"].input[0].allow_ragged_batch
    assert completed["d"].HasField("dynamic_batching")
    whole = config.replace("dims: [-1]", "dims: [-1] allow_ragged_batch: true") + " dynamic_batching {}"
    assert complete({"d/config.pbtxt": whole, "d/1/model.dali": PIPELINE}) == {}


BASE = "from missing import Base\n\n\nclass TritonPythonModel(Base): ...\n"
LARGER = "    @staticmethod\n    def auto_complete_config(config):\n        return config.set_max_batch_size(9)\n"


@pytest.mark.parametrize(
    "files",
    [
        {"m/config.pbtxt": None},
        {"m/config.pbtxt": PYTHON.replace("OUT", "Ä")},
        {"m/config.pbtxt": PYTHON.replace("OUT", r"\117UT")},
        {"m/config.pbtxt": PYTHON + " no_field: 1"},
        {"m/config.pbtxt": PYTHON + ' runtime: "model.py"'},
        {"m/config.pbtxt": PYTHON + ' model_repository_agents { agents { name: "checksum" } }'},
        {"m/config.pbtxt": PYTHON.replace("TYPE_FP32", "TYPE_INVALID")},
        {"m/config.pbtxt": PYTHON.replace("dims: [224, 224, 3]", "")},
        {"m/config.pbtxt": PYTHON.replace("dims: [224, 224, 3]", "dims: 0")},
        {"m/config.pbtxt": PYTHON.replace("dims: [224, 224, 3]", "dims: [4] reshape { shape: [5] }")},
        {"m/config.pbtxt": PYTHON.replace("dims: [-1]", "dims: [-1] format: FORMAT_NHWC")},
        {"m/config.pbtxt": PYTHON.replace("dims: [224, 224, 3]", 'dims: [3] label_filename: "missing.txt"')},
        {"m/config.pbtxt": PYTHON.replace("python", "unknown")},
        {"m/config.pbtxt": PYTHON + " version_policy { all {} }", "m/2/model.py": CODE},
        {"m/config.pbtxt": f'backend: "openvino" {INPUT} {OUTPUT}', "m/1/model.xml": "<net/>"},
        {"m/config.pbtxt": f'backend: "dali" {INPUT} {OUTPUT}', "m/1/model.dali": PIPELINE},
        {"m/config.pbtxt": PYTHON.replace("python", "dali"), "m/1/model.dali": pipeline()},
        {"m/1/model.py": None},
        {"m/1/model.py": link("/elsewhere/model.py", leads_to="file")},
        {"m/1/model.py": CODE + LARGER},
        {"m/1/model.py": BASE},
        {"m/1/model.py": CODE + 'setattr(TritonPythonModel, "auto_complete" + "_config", print)'},
        {"m/1/model.py": 'exec(open("other.py").read())'},
        {"m/1/model.py": "TritonPythonModel = object"},
        {"m/libtriton_python.so": b""},
        {"new/1/model.py": CODE},
    ],
)  # fmt: skip
def test_one_doubtful_model_leaves_completion_to_the_server(files: Mapping[str, Any]) -> None:
    whole = {"plain/config.pbtxt": PYTHON, "plain/1/model.py": CODE, **MODEL}
    assert complete(whole) == {}
    assert complete({path: text for path, text in {**whole, **files}.items() if text is not None}) is None


def test_stand_ins_of_all_backends_complete_nothing() -> None:
    config = PYTHON.replace("python", "unknown")
    assert complete({"m/config.pbtxt": config, "m/1/model.py": CODE + LARGER}, is_stand_in=True) == {}
    assert complete({"m/1/model.py": CODE}, is_stand_in=True) is None
