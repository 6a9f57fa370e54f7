"""Tests of the rules about packages for SageMaker's TensorFlow Serving containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.checkout import run_tritonforge
from tests.support.rule_findings import Files, codes, list_rules, only
from tritonforge.validation.context import Options
from tritonforge.validation.findings import verdict
from tritonforge.validation.registry import load_rules
from tritonforge.validation.report import run, validate
from tritonforge.validation.rules.tfs_package import find_package_models
from tritonforge.validation.tree import Tree, link

#: The rules under test.
TFS = "[EW]7"
WHOLE: Files = {
    "m/1/saved_model.pb": b"x",
    "m/1/variables/variables.index": b"x",
    "m/1/variables/variables.data-00000-of-00001": b"x",
}
HANDLER = "def handler(data, context):\n    return data.read(), context.accept_header\n"
PAIR = "def input_handler(data, context): ...\n\ndef output_handler(response, context): ...\n"
TWO: Files = {**WHOLE, "n/1/saved_model.pb": b"x"}
SHARDED = {f"m/1/variables/variables.data-0000{part}-of-00002": b"x" for part in (0, 1)}


def with_code(text: str, **files: str) -> Files:
    """A whole package with these handlers, and further files of ``code/``."""
    named = {
        f"code/{name.replace('__', '/').replace('_txt', '.txt').replace('_py', '.py')}": files[name] for name in files
    }
    return {**WHOLE, "code/inference.py": text, **named}


BAD: dict[str, Files] = {
    "E701": {"saved_model.pb": b"x"},
    "E702": {**WHOLE, "m/2/": ""},
    "E703": {path: data for path, data in WHOLE.items() if "data" not in path},
    "E704": with_code("def handler(data, context) return data"),
    "E705": with_code("def input_handler(data, context): ..."),
    "E706": with_code("async def handler(data, context): ..."),
    "E707": with_code(f"import tensorflow as tf\n{HANDLER}"),
    "E708": with_code(HANDLER, requirements_txt="requests\ntensorflow==1.13.1\n"),
    "E711": {**WHOLE, "old/m/1/saved_model.pb": b"x"},
    "W701": with_code(HANDLER + PAIR),
    "W702": with_code(HANDLER, requirements_txt="pillow\n", lib__x_py=""),
    "W703": with_code(f"from PIL import Image\n{HANDLER}"),
    "W704": {**WHOLE, "code/requirements.txt": ""},
    "W705": with_code("def handler(data, context):\n    raise ValueError('Error: {}'.format(415))\n"),
    "W706": TWO,
    "W707": {**WHOLE, "m/01/saved_model.pb": b"x"},
    "W708": {"my model/1/saved_model.pb": b"x"},
}
GOOD: dict[str, list[Files]] = {
    "E701": [WHOLE, {"1538687370/saved_model.pb": b"x"}, {"a/b/1/saved_model.pb": b"x"}],
    "E702": [{**WHOLE, "m/v2/": "", "m/2": b"a file"}],
    "E703": [
        {"m/1/saved_model.pb": b"x"},
        {**SHARDED, "m/1/saved_model.pb": b"x", "m/1/variables/variables.index": b"x"},
    ],
    "E704": [with_code(HANDLER)],
    "E705": [
        with_code(PAIR),
        with_code("from other import handler\n", other_py=HANDLER),
        with_code("from other import *\n", other_py=HANDLER),
        with_code("handler = make()\n"),
        with_code("try:\n    from other import handler\nexcept ImportError:\n    def handler(data, context): ...\n"),
        with_code("if True:\n    def handler(data, context): ...\n"),
        with_code("globals()['handler'] = make()\n"),
        with_code("class handler:\n    def __init__(self, data, context): ...\n"),
    ],
    "E706": [
        with_code("def handler(data, context, other=1, *rest, **named): ...\n"),
        with_code("def handler(*arguments): ...\n"),
        with_code("@decorated\ndef handler(one): ...\n"),
        with_code(f"{HANDLER}\ndef other(one): ...\n"),
    ],
    "E707": [
        with_code(f"import tensorflow\n{HANDLER}", requirements_txt="tensorflow-cpu==2.20.0\n"),
        with_code(f"import tensorflow\n{HANDLER}", lib__tensorflow____init___py=""),
        with_code(f"import tensorflow_serving.apis\n{HANDLER}"),
    ],
    "E708": [
        with_code(
            HANDLER, requirements_txt="# tensorflow==1.13.1\n-r other.txt\ntensorflow>=1.13\ntensorflow==2.16.1\n"
        ),
        with_code(HANDLER, requirements_txt="tensorflow==1.13.1\n", lib__x_py=""),
    ],
    "E711": [{**WHOLE, "old/n/1/saved_model.pb": b"x"}],
    "W701": [with_code(HANDLER), with_code(PAIR)],
    "W702": [with_code(HANDLER, requirements_txt="# nothing\n", lib__x_py="")],
    "W703": [
        with_code(f"import PIL.Image\n{HANDLER}", requirements_txt="Pillow>=10  # images\n"),
        with_code(f"import PIL.Image\n{HANDLER}", lib__PIL____init___py=""),
        with_code(f"import numpy, pandas, sklearn, requests, falcon, grpc, boto3, json, something\n{HANDLER}"),
    ],
    "W704": [with_code(HANDLER, requirements_txt="")],
    "W705": [
        with_code("import falcon\ndef handler(data, context):\n    raise falcon.HTTPError('415')\n"),
        with_code("SIZE = 4150\n" + HANDLER),
    ],
    "W706": [WHOLE],
    "W707": [{**WHOLE, "m/2/saved_model.pb": b"x"}],
    "W708": [{"my_model/1/saved_model.pb": b"x"}],
}
#: What a bad package's neighbourhood cannot avoid: a tensorflow that is installed is a version, too.
BRINGS = {"E708": {"W702"}}


@pytest.mark.parametrize("code", BAD)
def test_the_bad_fixture_gives_exactly_the_rule(code: str) -> None:
    """Each rule's bad package gives its code, at a place of the package, and nothing else."""
    finding = only(TFS, BAD[code])
    rule = load_rules()[code]
    assert (finding.code, finding.severity, finding.refused_by) == (code, rule.severity, rule.refused_by)
    assert finding.message
    assert finding.help
    assert finding.path in ("", *Tree.of(BAD[code]).entries)


@pytest.mark.parametrize("code", GOOD)
def test_the_good_fixtures_do_not_give_the_rule(code: str) -> None:
    """Each rule's good packages are silent about it."""
    for files in GOOD[code]:
        found = codes(TFS, files)
        assert code not in found
        assert set(found) <= {"W702", "W706"} | BRINGS.get(code, set())


def test_every_rule_has_fixtures() -> None:
    """The rules of the catalogue are those tested here; two are of the environment."""
    assert list_rules(TFS) == {*BAD, "E709", "E710"}
    assert set(GOOD) == set(BAD)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"SAGEMAKER_TFS_ENABLE_BATCHING": "yes"},
            [("E710", "SAGEMAKER_TFS_ENABLE_BATCHING must be 'true' or 'false'")],
        ),
        ({"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "x"}, [("E709", "SAGEMAKER_TFS_DEFAULT_MODEL_NAME is 'x', and the pac")]),
        ({"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "m", "SAGEMAKER_TFS_ENABLE_BATCHING": "true"}, []),
        ({"X": "x" * 1025}, [("E408", "")]),
        ({"SAGEMAKER_TRITON_INFERENCE_TYPE": "x", "SAGEMAKER_MULTI_MODEL": "False"}, []),
    ],
)
def test_the_environment_is_judged_by_the_containers_rules(
    environment: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    """Its own variables and CreateModel's limits; what Triton's containers read means nothing here."""
    found = run(Tree.of(WHOLE), Options(environment=environment)).findings
    assert [finding.code for finding in found] == [code for code, _ in expected]
    for finding, (_, beginning) in zip(found, expected, strict=True):
        assert finding.message.startswith(beginning)


def test_a_named_default_model_settles_which_of_several_is_meant() -> None:
    """W706 is about chance; the environment may leave none."""
    assert [finding.code for finding in run(Tree.of(TWO)).findings] == ["W706"]
    assert run(Tree.of(TWO), Options(environment={"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "n"})).findings == ()


def test_a_package_is_judged_by_its_own_rules_alone() -> None:
    """Triton's rules, its images and its flags are for its repositories; a verdict is the container's."""
    assert validate(Tree.of(WHOLE), image="24.09", target="sagemaker", gpus=0) == []
    refused = validate(Tree.of(BAD["E702"]))
    assert (verdict(refused), verdict([])) == ("refused", "loads")
    triton = {"m/config.pbtxt": 'backend: "python"', "m/1/model.py": "x", "m/1/saved_model.pb": b"x"}
    assert not any(finding.code.startswith(("E7", "W7")) for finding in validate(Tree.of(triton)))


def test_a_place_in_the_handlers_is_a_line() -> None:
    """A finding about code points into it."""
    finding = only(TFS, with_code(f"import os\n\nimport tensorflow as tf\n{HANDLER}"))
    assert (finding.path, finding.line, finding.column) == ("code/inference.py", 3, 1)
    finding = only(TFS, with_code("import falcon\n\ndef handler(data): ...\n"))
    assert (finding.code, finding.line) == ("E706", 3)
    assert finding.message == "handler cannot be called with the two arguments data, context"


def test_an_import_that_may_not_happen_is_a_warning() -> None:
    """Inside a function, or where its failure is caught, a missing module need not end the container."""
    guarded = f"try:\n    import tensorflow\nexcept ImportError:\n    tensorflow = None\n{HANDLER}"
    assert only(TFS, with_code(guarded)).code == "W703"
    inside = "def handler(data, context):\n    import tensorflow\n"
    assert only(TFS, with_code(inside)).code == "W703"


def test_tritons_layout_is_recognised_in_a_package() -> None:
    """Where the SavedModel lies as Triton requires it, the help says so."""
    finding = only(TFS, {"m/1/model.savedmodel/saved_model.pb": b"x", "code/inference.py": HANDLER})
    assert finding.code == "E701"
    assert "lies as Triton requires it" in finding.help


def test_a_definition_is_to_be_built_first() -> None:
    """The folder of a definition has handlers, and no SavedModel yet."""
    finding = only(TFS, {"definition.py": "", "code/inference.py": HANDLER})
    assert (finding.code, "build it" in finding.help) == ("E701", True)


def test_links_are_what_they_lead_to() -> None:
    """A version that is a link to a SavedModel is one."""
    files = {**WHOLE, "m/2": link("1")}
    assert codes(TFS, files) == []
    assert [model.versions for model in find_package_models(Tree.of(files))] == [{1: "m/1", 2: "m/2"}]


def test_the_seeds_handlers_give_the_seeds_defects() -> None:
    """What AWS's post does: TensorFlow is imported and pinned to 1.13.1, and 415 is raised as a ValueError."""
    handlers = """
import base64, io, json, requests
import tensorflow as tf
from google.protobuf.json_format import MessageToDict

def input_handler(data, context):
    if context.request_content_type == 'application/x-tfexample':
        return json.dumps({"instances": []})
    else:
        _return_error(415, 'Unsupported content type')

def output_handler(response, context):
    return response.content, context.accept_header

def _return_error(code, message):
    raise ValueError('Error: {}, {}'.format(str(code), message))
"""
    pinned = {**with_code(handlers), "code/requirements.txt": "tensorflow==1.13.1\n"}
    assert codes(TFS, pinned) == ["W705", "E708"]
    assert codes(TFS, with_code(handlers)) == ["E707", "W705"]


@pytest.mark.process
def test_the_command_names_the_container(tmp_path: Path) -> None:
    """`tritonforge validate` of a package: the container's name, and exit code 1 where it refuses."""
    folder = tmp_path / "package"
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "1" / "saved_model.pb").write_bytes(b"x")
    done = run_tritonforge("validate", str(folder))
    assert done.returncode == 0
    loads = "SageMaker's TensorFlow Serving container loads it; 1 model, no findings"
    assert done.stdout == f"{folder}: {loads}\n"
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text("def handler(data, context) return\n")
    done = run_tritonforge("validate", str(folder))
    assert done.returncode == 1
    assert "inference.py:1:1: error E704: the file is not Python" in done.stdout
    assert "SageMaker's TensorFlow Serving container refuses it; 1 model, 1 error" in done.stdout
    asked = run_tritonforge("validate", str(folder), "--with-server")
    assert asked.returncode == 2
    assert "--with-server runs Triton" in asked.stderr


NAMES = st.sampled_from(
    ["m", "1", "01", "code", "lib", "variables", "saved_model.pb", "inference.py", "variables.index"]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = st.binary(max_size=40) | st.sampled_from([link("1"), link(".."), link("m"), link("code"), link("/nowhere")])


@pytest.mark.slow
@given(st.dictionaries(PATHS, ENTRIES, max_size=8), st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_that_a_package_holds_makes_it_raise(files: dict[str, object], code: bytes, required: bytes) -> None:
    """Any names, links, handlers and requirements are findings, or nothing."""
    tree = Tree.of({**files, "code/inference.py": code, "code/requirements.txt": required})  # type: ignore[dict-item]
    for finding in validate(tree):
        assert finding.message


@pytest.mark.parametrize("text", ["-" * 200_000 + "1", "(" * 1000, "\0", "x = '\udcff'", "\ufeffimport os"])
def test_odd_python_is_a_finding(text: str) -> None:
    """What the parser cannot take is E704, and what it takes is judged."""
    files = {**WHOLE, "code/inference.py": text.encode("utf-8", "surrogatepass")}
    assert codes(TFS, files) in (["E704"], ["E705"])
