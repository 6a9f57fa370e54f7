"""`make borders`: ask the runtimes themselves whether they load files at and just above the borders that we state.

Each version of ONNX Runtime, OpenVINO, treelite and TensorFlow is installed from PyPI into a directory of its own
(`build/borders`, about 3 GB), loads the files in a process of its own, and its answer is compared with the verdict of
`tritonforge validate --image` for a release with that version. Exits with 1 on any difference. Python 3.11 has wheels
of all versions. ``--torch PYTHON`` also asks the PyTorch of another environment.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import graphdefs  # noqa: E402 - the root is not on the path of a script
from tritonforge.triton import CATALOGUE, model_formats  # noqa: E402
from tritonforge.validation.report import validate  # noqa: E402

BUILD: Final = ROOT / "build" / "borders"
FIXTURES: Final = ROOT / "tests" / "fixtures" / "model_files"

ONNX_RUNTIME: Final = (
    "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.0", "1.22.0", "1.23.2", "1.24.4", "1.27.0", "1.28.0",
)  # fmt: skip
OPENVINO: Final = (
    "2023.0.0", "2023.3.0", "2024.0.0", "2024.4.0", "2024.5.0", "2025.0.0", "2025.1.0", "2025.2.0", "2025.3.0",
    "2025.4.1", "2026.0.0", "2026.1.0", "2026.2.0", "2026.3.0",
)  # fmt: skip
TREELITE: Final = ("3.9.1", "4.0.0", "4.1.2", "4.3.0", "4.4.1", "4.6.1", "4.7.0")
TENSORFLOW: Final = ("2.16.2", "2.18.1")
#: XGBoost below and above its change, and which package has it for the CPU.
XGBOOST: Final = ("3.0.5", "3.1.3", "3.2.0")

IO: Final = 'input [{ name: "A" data_type: TYPE_FP32 dims: [3] }] output [{ name: "B" data_type: TYPE_FP32 dims: [3] }]'
FIL: Final = 'backend: "fil" parameters {{ key: "model_type" value {{ string_value: "{}" }} }}'
UNKNOWN_FIELD: Final = 'parameters { key: "xgboost_allow_unknown_field" value { string_value: "true" } }'

#: Loads files: arguments are pairs of a format and a file; prints a JSON list of error texts, "" for a file that loads.
LOADERS: Final = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

def load_onnx(path):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

def load_openvino(path):
    try:
        from openvino import Core
    except ImportError:
        from openvino.runtime import Core
    with open(path) as file:
        Core().compile_model(Core().read_model(model=file.read().encode(), weights=b""), "CPU")

def load_graphdef(path):
    import tensorflow
    graph = tensorflow.compat.v1.GraphDef()
    with open(path, "rb") as file:
        graph.ParseFromString(file.read())
    tensorflow.graph_util.import_graph_def(graph, name="")

def load_trees(path, kind):
    import treelite
    if kind == "treelite_checkpoint":
        return treelite.Model.deserialize(path)
    if kind == "unknown_field":
        if treelite.__version__ < "4":
            return treelite.Model.load(path, model_format="xgboost_json", allow_unknown_field=True)
        return treelite.frontend.load_xgboost_model(path, allow_unknown_field=True)
    if treelite.__version__ < "4":
        return treelite.Model.load(path, model_format=kind)
    if kind == "lightgbm":
        return treelite.frontend.load_lightgbm_model(path)
    if kind == "xgboost":
        return treelite.frontend.load_xgboost_model_legacy_binary(path)
    if treelite.__version__ < "4.3":
        return treelite.frontend.load_xgboost_model(path)
    return treelite.frontend.load_xgboost_model(path, format_choice=kind[8:].replace("ubj", "ubjson"))

def load_torch(path, kind):
    import torch
    if kind == "torch_aoti":
        return torch._inductor.aoti_load_package(path)
    return torch.jit.load(path)

answers = []
for kind, path in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        if kind in ("onnx", "openvino", "graphdef"):
            globals()["load_" + kind](path)
        elif kind in ("pytorch_libtorch", "torch_aoti"):
            load_torch(path, kind)
        else:
            load_trees(path, kind)
        answers.append("")
    except Exception as error:
        answers.append(" ".join((str(error) or repr(error)).split())[-160:] or "error")
print("ANSWERS" + json.dumps(answers))
"""
#: Makes models with XGBoost, and a checkpoint with treelite.
MAKERS: Final = """
import sys
import numpy
kind, target, source = sys.argv[1:4]
if kind == "xgboost":
    import xgboost
    random = numpy.random.default_rng(1)
    rows = random.random((200, 5), dtype=numpy.float32)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3},
                            xgboost.DMatrix(rows, (rows[:, 0] * 3).astype(int)), 2)
    booster.save_model(target)
else:
    import treelite
    load = treelite.frontend.load_lightgbm_model if treelite.__version__ >= "4" else (
        lambda path: treelite.Model.load(path, model_format="lightgbm"))
    load(source).serialize(target)
"""


class Case(NamedTuple):
    """A file that a runtime loads: the format for `LOADERS`, the configuration, and the path in the version."""

    label: str
    kind: str
    head: str
    name: str
    content: bytes


class Answer(NamedTuple):
    """What a runtime and we say of a case; ``bound`` is True where we state a bound of many versions."""

    runtime: str
    release: str
    case: Case
    error: str
    codes: tuple[str, ...]
    bound: bool = False

    @property
    def is_equal(self) -> bool:
        """True if both refuse or both accept; a bound must not refuse what the runtime accepts."""
        return bool(self.error) == bool(self.codes) or (self.bound and not self.codes)


def install(package: str, version: str, *more: str) -> Path:
    """Install a wheel without its requirements, which this environment has; return its directory."""
    folder = BUILD / f"{package}-{version}"
    if not (folder / "installed").exists():
        Console(stderr=True).print(f"installing {package} {version} ...")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, f"{package}=={version}", *more], check=True)
        (folder / "installed").touch()
    return folder


def run(script: str, folder: Path | None, *arguments: str, python: str = sys.executable) -> str:
    """Run a script with the packages of a directory; return its output."""
    environment = {**os.environ, **({} if folder is None else {"PYTHONPATH": str(folder)})}
    done = subprocess.run(
        [python, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{folder or python}: {done.stderr[-2000:]}")
    return done.stdout


def ask(
    runtime: str, folder: Path | None, cases: list[Case], release: str, *, bound: bool = False,
    python: str = sys.executable,
) -> Iterator[Answer]:  # fmt: skip
    """Yield what a runtime, and our rules for a release that has it, answer about the cases."""
    paths = []
    for number, case in enumerate(cases):
        version = BUILD / "files" / f"{runtime.replace(' ', '-')}-{number}" / "m" / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version.parent / "config.pbtxt").write_text(f'{case.head} {IO} default_model_filename: "{case.name}"\n')
        (version / case.name).write_bytes(case.content)
        paths.append(version / case.name)
    arguments = [text for case, path in zip(cases, paths, strict=True) for text in (case.kind, str(path))]
    output = run(LOADERS, folder, *arguments, python=python)
    errors = json.loads(output.rpartition("ANSWERS")[2])
    for case, path, error in zip(cases, paths, errors, strict=True):
        findings = validate(path.parents[2], image=release)
        codes = tuple(finding.code for finding in findings if re.match("E80|E810", finding.code))
        yield Answer(runtime, release, case, error, codes, bound)


def find_release(column: str, version: str) -> str:
    """Return the last release whose image has the version."""
    return max(release for release, image in CATALOGUE.items() if getattr(image, column) == version)


def make_onnx(*, ir_version: int = 8, opset: int = 13, ml_opset: int = 1) -> bytes:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "AB"]
    graph = helper.make_graph([helper.make_node("Identity", ["A"], ["B"])], "graph", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return model.SerializeToString()


def make_custom_onnx(*, has_function: bool) -> bytes:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own.ops", 1)]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "AB"]
    node = helper.make_node("Mine", ["A"], ["B"], domain="own.ops")
    inner = helper.make_node("Relu", ["x"], ["y"])
    function = helper.make_function("own.ops", "Mine", ["x"], ["y"], [inner], opsets[:1])
    graph = helper.make_graph([node], "graph", tensors[:1], tensors[1:])
    functions = [function] if has_function else []
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    return model.SerializeToString()


def ask_onnx_runtime() -> Iterator[Answer]:
    for version in ONNX_RUNTIME:
        limits = model_formats.find_onnx_limits(version)
        assert limits is not None
        head = 'platform: "onnxruntime_onnx"'
        borders = {"ir_version": limits.ir_version, "opset": limits.opsets[""], "ml_opset": limits.opsets["ai.onnx.ml"]}
        cases = [
            Case(f"{name} {value}", "onnx", head, "model.onnx", make_onnx(**{name: value}))
            for name, border in borders.items()
            for value in (border, border + 1)
        ]
        cases += [
            Case(f"operator of another domain{text}", "onnx", head, "model.onnx", make_custom_onnx(has_function=flag))
            for text, flag in ((", a function", True), ("", False))
        ]
        yield from ask(f"onnxruntime {version}", install("onnxruntime", version), cases,
                       find_release("onnxruntime", version))  # fmt: skip


def ask_openvino() -> Iterator[Answer]:
    text = (FIXTURES / "openvino.xml").read_text().replace("image_node", "image")
    for version in OPENVINO:
        border = model_formats.find_openvino_opset(version)
        assert border is not None
        # Whether OpenVINO has a set is what counts, not whether ReLU is in it. The name of an output of this file is
        # also that of its node, which later versions refuse in IR version 10.
        irs = {f"IR version {number}": re.sub(r' version="11"', f' version="{number}"', text, count=1)
               for number in (9, 10, 11, 12)}  # fmt: skip
        opsets = {f"opset{number}": text.replace('type="ReLU" version="opset1"', f'type="ReLU" version="opset{number}"')
                  for number in (border, border + 1)}  # fmt: skip
        cases = [Case(label, "openvino", 'backend: "openvino"', "model.xml", content.encode())
                 for label, content in {**irs, **opsets}.items()]  # fmt: skip
        folder = install("openvino", version)
        for answer in ask(f"openvino {version}", folder, cases, find_release("openvino", version)):
            is_lacking = "doesn't contain the operation" in answer.error or "tensor names have coll" in answer.error
            yield answer._replace(error="") if is_lacking else answer


def make_trees() -> Mapping[str, tuple[str, bytes]]:
    """Return files of trees by their labels, each with its format."""
    made: dict[str, tuple[str, bytes]] = {"LightGBM": ("lightgbm", (FIXTURES / "lightgbm.txt").read_bytes())}
    folder = BUILD / "made"
    folder.mkdir(parents=True, exist_ok=True)
    for version in XGBOOST:
        package = "xgboost-cpu" if version >= "3.1" else "xgboost"
        for kind in ("json", "ubj"):
            run(MAKERS, install(package, version), "xgboost", str(folder / f"{version}.{kind}"), "")
            made[f"XGBoost {version} {kind}"] = (f"xgboost_{kind}", (folder / f"{version}.{kind}").read_bytes())
    for version in ("3.9.1", "4.0.0", "4.7.0"):
        target = folder / f"{version}.tl"
        run(MAKERS, install_treelite(version), "treelite", str(target), str(FIXTURES / "lightgbm.txt"))
        made[f"treelite {version}"] = ("treelite_checkpoint", target.read_bytes())
    return made


def install_treelite(version: str) -> Path:
    return install("treelite", version, *(["treelite_runtime==3.9.1"] if version == "3.9.1" else []))


def ask_treelite() -> Iterator[Answer]:
    made = make_trees()
    for version in TREELITE:
        release = find_release("treelite", version)
        cases = [
            Case(f"{label} as {stated}", stated, FIL.format(stated), model_formats.FIL_FORMATS[kind], content)
            for label, (kind, content) in made.items()
            for stated in model_formats.FIL_FORMATS
            if version >= "4.3" or stated != "xgboost_ubj"
        ]
        head = f"{FIL.format('xgboost_json')} {UNKNOWN_FIELD}"
        cases += [
            Case(f"{label}, unknown fields", "unknown_field", head, "xgboost.json", content)
            for label, (kind, content) in made.items()
            if kind == "xgboost_json"
        ]
        yield from ask(f"treelite {version}", install_treelite(version), cases, release)


def ask_tensorflow() -> Iterator[Answer]:
    newest = model_formats.NEWEST_TENSORFLOW_GRAPH
    for version in TENSORFLOW:
        cases = [
            Case(f"min_consumer {number}", "graphdef", 'platform: "tensorflow_graphdef"', "model.graphdef",
                 graphdefs.dense_layers([np.zeros((2, 2))], min_consumer=number))
            for number in (1766, 1767, newest, newest + 1)
        ]  # fmt: skip
        is_bound = version != TENSORFLOW[-1]
        yield from ask(f"tensorflow {version}", install("tensorflow-cpu", version), cases, "24.09", bound=is_bound)


def ask_torch(python: str) -> Iterator[Answer]:
    """Ask the PyTorch of another environment; only TorchScript's versions depend on it."""
    newest = model_formats.TORCHSCRIPT_VERSIONS[-1]
    scripted = (FIXTURES / "scripted.pt").read_bytes()
    files = {name: (FIXTURES / name).read_bytes() for name in ("scripted.pt", "weights.pt", "exported.pt2")}
    files |= {f"version {number}": _replace_version(scripted, number) for number in (newest, newest + 1)}
    cases = [Case(label, "pytorch_libtorch", 'platform: "pytorch_libtorch"', "model.pt", content)
             for label, content in files.items()]  # fmt: skip
    cases += [Case(label, "torch_aoti", 'platform: "torch_aoti"', "model.pt2", files[label])
              for label in ("scripted.pt", "weights.pt", "exported.pt2")]  # fmt: skip
    version = run("import torch; print(torch.__version__)", None, python=python).strip()
    yield from ask(f"torch {version}", None, cases, "26.05", python=python)


def _replace_version(archive: bytes, number: int) -> bytes:
    """Return a TorchScript archive with another number in its member ``version``."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(target, "w") as written:
        for name in source.namelist():
            is_version = name.endswith("/version") and "/.data" not in name
            written.writestr(name, f"{number}\n" if is_version else source.read(name))
    return target.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", metavar="PYTHON", help="the interpreter of an environment with PyTorch")
    options = parser.parse_args()
    console = Console(width=160)
    table = Table("runtime", "release", "file", "the runtime", "validate --image", "equal")
    different = total = 0
    parts = [ask_onnx_runtime(), ask_openvino(), ask_treelite(), ask_tensorflow()]
    if options.torch:
        parts.append(ask_torch(options.torch))
    for part in parts:
        for answer in part:
            total += 1
            if not answer.is_equal:
                console.print(answer.runtime, answer.case.label, answer.error or "loads", answer.codes, soft_wrap=True)
            different += not answer.is_equal
            table.add_row(answer.runtime, answer.release, answer.case.label, "refuses" if answer.error else "loads",
                          " ".join(answer.codes) or "-", "yes" if answer.is_equal else "NO")  # fmt: skip
    console.print(table)
    console.print(f"{total} answers, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
