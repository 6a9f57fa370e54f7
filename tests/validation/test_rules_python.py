"""The rules about Python models: each case's verdict here and, marked `server`, that of the real python backend."""

import ast
import importlib
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.python_rule_models import (
    DECOUPLED,
    ECHO,
    HEAD,
    IO,
    LOADED,
    ONES,
    REQUESTED,
    Case,
    build_files,
    write_completion,
    write_execute,
    write_method,
    write_request,
)
from tests.support.rule_findings import codes, find, list_rules, only
from tests.support.server_oracle import Oracle
from tritonforge.triton import find_image, python_packages
from tritonforge.triton.registries import is_published
from tritonforge.validation.context import Options
from tritonforge.validation.model_views import build_context
from tritonforge.validation.python_module import explain_call
from tritonforge.validation.python_source import GRAMMAR, find_source_error
from tritonforge.validation.tree import Entry, Tree

RULES = "[EW]8[345]"


def build_model(source: str, config: str = IO, **files: str) -> dict[str, str]:
    """One model; ``files`` are further ones in its directory, ``__`` for ``/`` and ``_dot_`` for a dot."""
    more = {f"m/{path.replace('__', '/').replace('_dot_', '.')}": text for path, text in files.items()}
    return {"m/config.pbtxt": config, "m/1/model.py": source, **more}


@pytest.mark.parametrize("name", sorted(LOADED))
def test_a_model_that_the_backend_refuses_is_refused_in_its_words(name: str) -> None:
    """The rule and the message of each model that loads or does not."""
    case = LOADED[name]
    findings = find(f"{RULES}|E244", build_files({name: case}))
    assert {finding.code for finding in findings} == ({case.code} if case.code else set())
    for finding in findings[:1]:
        expected = case.message.replace("{name}", name).replace("\\", "")
        assert finding.message == expected or not case.message
        assert finding.line is not None
        assert finding.column is not None


@pytest.mark.parametrize("name", sorted(REQUESTED))
def test_a_model_whose_requests_fail_is_reported(name: str) -> None:
    """The rule of each model that loads and fails, and nothing where it answers."""
    case = REQUESTED[name]
    findings = find(RULES, build_files({name: case, **{key: REQUESTED[key] for key in ("echo", "streams")}}))
    assert [finding.code for finding in findings] == ([case.code] if case.code else [])
    for finding in findings:
        assert case.code[0] == "W" or case.message.partition(": __init__")[0] in finding.message
        assert finding.refused_by is None
        assert finding.help


@pytest.mark.server
def test_the_python_backend_loads_what_we_do_not_refuse(tmp_path: Path) -> None:
    """Verdict and message of every model, in one start of the real server."""
    oracle = Oracle(tmp_path, real=("python",))
    heard = oracle.judge_many(
        {f"q{name}q": build_files({f"q{name}q": case}) for name, case in LOADED.items()}, seconds=300
    )
    answers = {
        name: [sentence.partition("\\n\\nAt:")[0] for sentence in heard[f"q{name}q"].sentences] for name in LOADED
    }
    expected = {
        name: [case.message.replace("{name}", f"q{name}q")] if case.code[:1] == "E" else []
        for name, case in LOADED.items()
    }
    assert answers == expected


@pytest.mark.server
def test_the_python_backend_fails_requests_as_we_report(tmp_path: Path) -> None:
    """The answer of every model that loads, in one start of the real server."""
    oracle = Oracle(tmp_path, real=("python",))
    body = {"inputs": [{"name": "A", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    wrong = {}
    with oracle.serving(build_files(REQUESTED), seconds=120) as url:
        for name, case in REQUESTED.items():
            request = urllib.request.Request(f"{url}/v2/models/{name}/infer", json.dumps(body).encode())
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    status, text = response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                status, text = error.code, json.loads(error.read())["error"]
            if name != "streams" and ((status == 500) != (case.code[:1] == "E") or case.message not in text):
                wrong[name] = (status, text)
    assert wrong == {}


def test_every_rule_about_python_models_has_a_case() -> None:
    """What no case here breaks is broken in a test of its own."""
    of_cases = {case.code for case in (*LOADED.values(), *REQUESTED.values())}
    own_tests = {"E841", "E842", "E843", "E844", "E852", "E855", "W845", "W851"}
    assert list_rules(RULES) - of_cases == own_tests


SIGNATURES = ["", "a", "a, b", "a, b, c", "a, b=1", "*a", "a, *, k", "a, b, *, k, l=1", "a, /, b", "a, b=1, c=2, **k"]


@pytest.mark.parametrize("given", range(5))
@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_call_is_explained_in_pythons_words(signature: str, given: int) -> None:
    """The message is that of the TypeError that Python itself raises."""
    source = f"class T:\n    def f({signature}): ..."
    names: dict[str, type] = {}
    exec(source, names)
    problem = ""
    try:
        names["T"].f(*range(given))  # type: ignore[attr-defined]
    except TypeError as error:
        problem = str(error)
    function = ast.parse(source).body[0].body[0]  # type: ignore[attr-defined]
    assert explain_call(function, "T.f", given) == problem


def test_the_table_of_the_standard_library_is_that_of_this_python() -> None:
    """What the table states of the running version is so."""
    version = sys.version_info[:2]
    for table in (python_packages._ADDED, python_packages._REMOVED):
        for names in table.values():
            for module, listed in names.items():
                if python_packages.is_missing_module(module, version):
                    continue
                for name in listed.split():
                    is_there = hasattr(importlib.import_module(module), name)
                    assert is_there != python_packages.is_missing_name(module, name, version), (module, name)
    for module in python_packages._MODULES:
        assert (module in sys.stdlib_module_names) != python_packages.is_missing_module(module, version)


@pytest.mark.parametrize(
    ("statement", "image", "codes_"),
    [
        ("import torch", "24.09", ["E841"]),
        ("from PIL import Image", "nvcr.io/nvidia/tritonserver:25.04-py3", ["E841"]),
        ("import torch", "registry.example/tritonserver:25.04-py3", []),
        ("import torch", "24.09-vllm-python-py3", []),
        ("import torch", "24.09+torch", []),
        ("import torch", None, []),
        ("import requests, yaml, scipy, unheard_of", "24.09", []),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", "24.09", []),
        ("def load():\n    import torch", "24.09", []),
        ("import sys\nsys.path.insert(0, '/opt/packages')\nimport torch", "24.09", []),
        ("import os\nos.system('pip install torch')\nimport torch", "24.09", []),
        ("import logging\nlog = logging.getLogger('m')\nimport torch", "24.09", ["E841"]),
        ("import tomllib", "24.10", ["E840"]),
        ("import tomllib", "24.11", []),
        ("import imp", "24.10", []),
        ("import imp", "25.04", ["E840"]),
        ("import distutils.util", "25.04", []),
        ("from typing import Self", "24.09", ["E840"]),
        ("from typing import Self", "25.04", []),
        ("from collections import Mapping", "24.09", ["E840"]),
        ("from typing import Self", "21.08", []),
    ],
)
def test_an_import_is_checked_against_the_image(statement: str, image: str | None, codes_: list[str]) -> None:
    """Modules that the image's Python lacks; nothing where the image is not one that NVIDIA publishes."""
    assert codes(RULES, build_model(f"{statement}\n{ECHO}"), image=image) == codes_


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"1__helper_dot_py": "x = 1"}, []),
        ({"helper_dot_py": "x = 1"}, []),
        ({"1__helper_dot_py": "y = 1"}, ["E840"]),
        ({"1__helper_dot_py": "from other import *"}, []),
        ({"1__helper_dot_py": "import torch\nx = 1"}, ["E841"]),
        ({"1__helper_dot_py": "from .sibling import x"}, ["E840"]),
        ({"1__helper__x_dot_py": ""}, []),
        ({"1__helper__init_dot_so": ""}, []),
        ({}, []),
    ],
)
def test_files_beside_a_model_are_followed(files: dict[str, str], expected: list[str]) -> None:
    """``from helper import x`` is looked for in the version's and the model's directory."""
    assert codes(RULES, build_model(f"from helper import x\n{ECHO}", **files), image="24.09") == expected


def test_an_environment_of_the_models_own_has_its_own_packages() -> None:
    """Nothing is concluded from the image where the model names an environment or has a stub."""
    source = f"import torch\nfrom typing import Self\n{ECHO}"
    parameter = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/opt/env" } }'
    assert codes(RULES, build_model(source, IO + parameter), image="24.09") == []
    assert codes(RULES, build_model(source, triton_python_backend_stub=""), image="24.09") == []


@pytest.mark.parametrize(
    "source",
    [
        "from somewhere import *\n",
        "globals()['TritonPythonModel'] = object\n",
        "from somewhere import TritonPythonModel\n",
        "if True:\n    class TritonPythonModel: ...\n",
        "class TritonPythonModel(somewhere.Base): ...\n",
        "@decorate\nclass TritonPythonModel: ...\n",
        "class TritonPythonModel:\n    if True:\n        def execute(self): ...\n",
        "class TritonPythonModel:\n    execute = 1\n",
        "class TritonPythonModel:\n    def __getattr__(self, name): ...\n",
        "class TritonPythonModel:\n    def initialize(self, args): self.execute = print\n",
        "class TritonPythonModel:\n    @wrap\n    def execute(self): ...\n",
        "class TritonPythonModel(metaclass=M):\n    def __init__(self, a): ...\n    def execute(self, requests): ...\n",
        "def __getattr__(name): ...\n",
        "import sys\nsys.modules[__name__] = object\n",
    ],
)
def test_what_running_the_code_may_change_is_not_judged(source: str) -> None:
    """Star imports, decorators, unknown base classes, assignments: nothing is reported."""
    assert codes(RULES, build_model(source)) == []


def test_functions_of_base_classes_are_checked() -> None:
    """A base class of the file, or of one beside it, has the class's functions."""
    base = "class Base:\n    def initialize(self): ...\n    def execute(self, requests): ...\n"
    derived = "class TritonPythonModel(Base): ...\n"
    assert only(RULES, build_model(base + derived)).message.startswith("TypeError: Base.initialize() takes 1")
    finding = only(RULES, build_model("from base import Base\n" + derived, base_dot_py=base))
    assert (finding.code, finding.path) == ("E832", "m/base.py")
    assert codes(RULES, build_model("class Base: ...\n" + derived)) == ["E835"]


@pytest.mark.parametrize(
    "body",
    [
        "x = pb_utils.get_input_tensor_by_name(request, 'X')\n    if x is not None:\n        x.as_numpy()",
        "if self.other:\n        pb_utils.get_input_tensor_by_name(request, 'X').as_numpy()",
        "x = pb_utils.get_input_tensor_by_name(request, 'X').as_numpy() if self.other else None",
        "if self.other:\n        continue\n    pb_utils.get_input_tensor_by_name(request, 'X').as_numpy()",
        "try:\n        pb_utils.get_input_tensor_by_name(request, 'X').as_numpy()\n    except AttributeError: pass",
        "pb_utils.get_input_tensor_by_name(request, name).as_numpy()",
        "pb_utils.get_input_tensor_by_name(other, 'X').as_numpy()",
        "pb_utils.get_input_tensor_by_name(request, 'A').as_numpy()",
    ],
)
def test_an_input_that_may_be_absent_is_not_reported(body: str) -> None:
    """Only what every request reaches, and what fails where the input is None."""
    assert codes(RULES, build_model(write_execute(f"for request in requests:\n    {body}\nreturn []"))) == []


def test_control_inputs_states_and_batch_tensors_are_inputs() -> None:
    """Names that the configuration has in other places are known."""
    config = (
        f'{IO} max_batch_size: 4 sequence_batching {{ control_input [{{ name: "START" control [{{ kind: '
        'CONTROL_SEQUENCE_START fp32_false_true: [0, 1] }] }] state [{ input_name: "S" output_name: "T" '
        "data_type: TYPE_FP32 dims: [1] }] }"
    )
    reads = "\n".join(
        f"pb_utils.get_input_tensor_by_name(requests[0], '{name}').as_numpy()" for name in ("START", "S", "A", "Q")
    )
    source = write_execute(f"{reads}\nreturn [pb_utils.InferenceResponse([pb_utils.Tensor('T', {ONES})])]")
    assert [finding.message[-3:] for finding in find(RULES, build_model(source, config))] == ["'Q'"]


ENSEMBLE = (
    'platform: "ensemble" input [{ name: "I" data_type: TYPE_FP32 dims: [1] }] '
    'output [{ name: "O" data_type: TYPE_FP32 dims: [1] }] ensemble_scheduling { step [%s] }'
)
STEP = '{ model_name: "%s" model_version: -1 input_map { key: "A" value: "%s" } output_map { key: "B" value: "%s" } }'


def test_a_model_that_only_code_names_is_not_loaded_on_sagemaker() -> None:
    """An endpoint loads the default model and the models of its steps (deep-learning-containers issue 3299)."""
    files = build_files({"a": Case(IO, write_request("b")), "b": Case(IO, ECHO)})
    assert codes(RULES, files) == []
    finding = only(RULES, files, target="sagemaker")
    assert finding.code == "E852"
    assert 'pb_utils.load_model(model_name="b")' in finding.help
    assert codes(RULES, files, target="sagemaker", environment={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "a"}) == ["E852"]
    more = {"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--load-model=b"}
    assert codes(RULES, files, target="sagemaker", environment=more) == []
    assert codes(RULES, files, load_models=["a"]) == ["E852"]
    ensemble = {"e/config.pbtxt": ENSEMBLE % f"{STEP % ('a', 'I', 'T')}, {STEP % ('b', 'T', 'O')}", "e/1/.gitkeep": ""}
    assert codes(RULES, files | ensemble, target="sagemaker") == []
    loading = write_request("b") + "\n    def initialize(self, args):\n        pb_utils.load_model(model_name='b')\n"
    assert codes(RULES, files | {"a/1/model.py": loading}, target="sagemaker") == []


def test_requests_that_lead_back_to_their_sender_are_reported() -> None:
    """Certain circles are errors; those that a condition may prevent are advice; an ensemble may be a part of one."""
    certain = build_files({"a": Case(IO, write_request("b")), "b": Case(IO, write_request("a"))})
    assert codes(RULES, certain) == ["E855", "E855"]
    conditional = (
        write_request("a")
        .replace("        answer", "        if self.again:\n          answer")
        .replace("if answer.has", "  if answer.has")
        .replace("    raise", "      raise")
    )
    assert codes(RULES, build_files({"a": Case(IO, conditional)})) == ["W851"]
    through = build_files({"a": Case(IO, write_request("e", output="O", tensor="I"))})
    through |= {"e/config.pbtxt": ENSEMBLE % STEP % ("a", "I", "O"), "e/1/.gitkeep": ""}
    assert codes(RULES, through) == ["E855"]


def test_a_completed_configuration_is_used() -> None:
    """What auto_complete_config sets is the model's configuration: for its own code, for ensembles, for requests."""
    completion = (
        "config.add_input({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [1]})\n"
        "config.add_output({'name': 'B', 'data_type': 'TYPE_INT32', 'dims': [1]})\n"
        "config.set_max_batch_size(0)\nreturn config"
    )
    files = {"m/config.pbtxt": 'backend: "python"', "m/1/model.py": write_completion(completion)}
    view = build_context(Tree.of(files)).models["m"]
    assert [(tensor.name, tensor.data_type, tensor.dims) for tensor in (*view.inputs, *view.outputs)] == [
        ("A", "TYPE_FP32", (1,)),
        ("B", "TYPE_INT32", (1,)),
    ]
    assert (view.completes, view.is_completed, view.max_batch_size) == (False, True, 0)
    ensemble = {"e/config.pbtxt": ENSEMBLE % STEP % ("m", "I", "O"), "e/1/.gitkeep": ""}
    assert "inconsistent data type: TYPE_FP32 is inferred from model e while TYPE_INT32 is inferred from model m" in (
        " ".join(finding.message for finding in find("E3", files | ensemble))
    )
    unknown = completion.replace("'TYPE_INT32'", "choose()")
    view = build_context(Tree.of({**files, "m/1/model.py": write_completion(unknown)})).models["m"]
    assert (view.completes, view.is_completed) == (True, False)
    assert build_context(Tree.of(files), Options(auto_complete=False)).models["m"].inputs == ()


def test_a_configuration_is_completed_in_bounded_time() -> None:
    """Loops in loops, and lists that grow while they are read, end as unknown."""
    loops = "".join(f"{'    ' * depth}for i{depth} in many:\n" for depth in range(10)) + "    " * 10 + "pass\n"
    for body in (
        f"many = [{'1, ' * 100}]\n{loops}return config",
        "x = [1]\nfor y in x:\n    x.append(x)\nreturn config",
    ):
        view = build_context(Tree.of(build_model(write_completion(body)))).models["m"]
        assert view.completes or view.is_completed


@pytest.mark.parametrize(
    ("source", "first"),
    [
        ("x = a[*b]\n", (3, 11)),
        ("x = a[(*b,)]\n", (3, 8)),
        ("def f(*args: *Ts): ...\n", (3, 11)),
        ("x = f'{a['b']}'\n", (3, 12)),
        ("x = f'{a[\"b\"]}'\n", (3, 8)),
        ('x = f"""{a["b"]}"""\n', (3, 8)),
        ("x = f'{\"\\n\".join(a)}'\n", (3, 12)),
        ("x = f'{a}\\n' + f'{b}' + '\\n'\n", (3, 8)),
        ('x = f"""{\n a # c\n}"""\n', (3, 12)),
        ("try: ...\nexcept* ValueError: ...\n", (3, 11)),
        ("type X = int\n", (3, 12)),
    ],
)
def test_syntax_that_is_newer_than_the_image_is_refused(source: str, first: tuple[int, int]) -> None:
    """`ast.parse` takes some of it whatever version it is asked for."""
    if first > GRAMMAR:
        pytest.skip("this Python does not take it itself")
    for version in ((3, 10), (3, 12)):
        if version <= GRAMMAR:
            assert (find_source_error(source.encode(), version=version) is None) == (version >= first)


HOSTILE = [
    b"\x00",
    b"\xff\xfe" + "x".encode("utf-16-le"),
    b"# -*- coding: utf-16 -*-\n",
    b"# coding: nonsense\nimport x\n",
    b"\xef\xbb\xbf# coding: latin-1\nx = 1\n",
    b"# coding: utf-8\nx = '\xff'\n",
    b"(" * 100_000,
    b"-" * 100_000 + b"1",
    b"x = " + b"a." * 50_000 + b"b",
    b"x = " + b"a(" * 150 + b")" * 150,
    b"x = " + b"1+" * 50_000 + b"1",
    b"if 1:\n" + b"".join(b" " * depth + b"if 1:\n" for depth in range(1, 95)) + b" " * 95 + b"x\n",
    b"class TritonPythonModel(TritonPythonModel): ...\n",
    b"from .model import *\nfrom model import x\nimport model\n",
    b"import " + b"a." * 20_000 + b"b\n",
    b"x = 1\n" * 20_000,
    b"class TritonPythonModel:\n" + b"    def execute(self): ...\n" * 2_000,
    b"class TritonPythonModel:\n    def execute(self, requests):\n" + b"        a = a\n" * 5_000,
    "class TritonPythonModel:\n    def f\u0131(self): \U0001f600\n".encode(),
    b"import \x1b[31mred\n",
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_code_is_a_finding_or_nothing(number: int) -> None:
    """Deep nesting, null bytes, encodings, names of escape sequences, circles: no exception, in bounded time."""
    for finding in find(".", {"m/config.pbtxt": IO, "m/1/model.py": HOSTILE[number]}, image="24.09"):
        assert finding.message.isprintable()


@pytest.mark.parametrize(
    "tensor",
    [
        "{}",
        "{1: 2}",
        "{'name': []}",
        "{'name': {}, 'data_type': 1, 'dims': {}}",
        "{'name': 'a\\x1b\"\\n', 'data_type': 'TYPE_FP32', 'dims': [1]}",
        "{'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [9**9, True]}",
        "dict(name='X')",
        "[1]",
    ],
)
def test_a_completion_of_hostile_values_is_unknown(tensor: str) -> None:
    """Values of the wrong types, names with quotes and escapes: a finding or nothing."""
    for finding in find(".", build_model(write_completion(f"config.add_input({tensor})\nreturn config"))):
        assert finding.message.isprintable()


def test_the_python_of_an_image_is_known() -> None:
    """3.10 up to 24.10, 3.12 from 24.11 on; trtllm-python followed a release later; none before 23.12."""
    tags = ("23.10", "23.12", "24.10", "24.11", "24.11-trtllm-python-py3", "24.12-trtllm-python-py3", "26.05")
    assert [find_image(tag).python for tag in tags] == [None, "3.10", "3.10", "3.12", "3.10", "3.12", "3.12"]
    assert not is_published("763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3")
    assert not is_published("123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3")


def test_packages_of_aws_images_are_unknown() -> None:
    """AWS does not document what it adds to the images of SageMaker."""
    files = build_model(f"import torch\n{ECHO}")
    assert codes("E841", files, image="24.09") == ["E841"]
    assert codes("E841", files, image="24.09", target="sagemaker") == []
    address = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
    assert not is_published(address)
    assert codes("E841", files, image=address) == []


def test_a_file_that_raises_has_another_message_than_a_missing_class() -> None:
    assert codes("E830", build_model("x = 1")) == ["E830"]
    assert codes("E830", build_model("raise RuntimeError('the weights are missing')")) == []


def test_a_decoupled_model_that_returns_responses_is_reported() -> None:
    """A return in a condition may be meant for another configuration."""
    assert codes(RULES, build_model(ECHO, IO + DECOUPLED)) == ["E837"]
    shared = write_execute("if self.decoupled:\n    return None\nelse:\n    return []")
    assert codes(RULES, build_model(shared, IO + DECOUPLED)) == []
    assert codes(RULES, build_model(write_method("x = 1"))) == []
    assert (
        codes(RULES, build_model(f"{HEAD}class TritonPythonModel:\n    def execute(self, r):\n        yield 1\n")) == []
    )
    assert codes(RULES, {"m/config.pbtxt": IO, "m/1/model.py": Entry("file", 10**9)}) == []
