"""The rules of a repository's layout: what each says, where it comes from, a bad and a good example. No I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.validation.rules.catalogue import Rule, advice, refused

__all__ = ["RULES"]

_POLL: Final = "model_repository_manager.cc Poll, InitializeModelInfo"
_VERSIONS: Final = "model_lifecycle.cc VersionsToLoad"

E101 = refused(
    "E101",
    "failed to poll model repository '<repo>': failed to stat file <path>",
    source="model_repository_manager.cc Poll, filesystem/implementations/local.h IsDirectory",
    why="In model control mode NONE the server looks at every entry of the repository; a link to nothing stops it.",
    bad="repository/old -> /nowhere",
    good="repository/ holds model directories only",
)
E102 = refused(
    "E102",
    "failed to stat file <path>",
    source=_POLL,
    why="The server looks at every entry of a model's directory; a link to nothing fails the model.",
    bad="m/assets -> /nowhere",
    good="m/assets/",
)
E103 = refused(
    "E103",
    "the configuration is a directory: the server's process dies",
    source="filesystem/implementations/local.h ReadTextFile (an uncaught std::length_error)",
    why="Triton reads the directory as a file of absurd length and aborts; every model goes down with it.",
    bad="m/config.pbtxt/",
    good="m/config.pbtxt",
)
E104 = refused(
    "E104",
    "unexpected directory name '<dir>' for model '<name>', directory name must equal model name",
    source=_POLL,
    why="A model is found by its directory; the name in the configuration may be left out, but not differ.",
    bad='resnet/config.pbtxt: name: "resnet50"',
    good='resnet/config.pbtxt: name: "resnet"',
)
E105 = refused(
    "E105",
    "at least one version must be available under the version policy of model '<m>'",
    source=_VERSIONS,
    why="A model is loaded by version, and an ensemble is too, though its version directory stays empty.",
    bad="m/config.pbtxt",
    good="m/config.pbtxt and m/1/",
)
E106 = refused(
    "E106",
    "the version directory's number overflows: the server's process dies",
    source=f"{_VERSIONS} (an uncaught std::out_of_range of stoll)",
    why="Triton converts the name to a 64-bit integer and aborts; every model goes down with it.",
    bad="m/99999999999999999999/",
    good="m/1/",
)
E107 = refused(
    "E107",
    "failed to open text file for read <path>: No such file or directory",
    source=_POLL,
    why="With --disable-auto-complete-config every model needs a configuration file.",
    bad="m/1/model.onnx",
    good="m/config.pbtxt and m/1/model.onnx",
)
E108 = refused(
    "E108",
    "Invalid model name: Could not determine backend for model '<m>' with no backend in model configuration.",
    source="model_config_utils.cc AutoCompleteBackendFields",
    why="Without backend and platform the server looks for a file it knows in the model's first directory.",
    bad='m/config.pbtxt: name: "m"',
    good='m/config.pbtxt: name: "m" backend: "python"',
)
E109 = refused(
    "E109",
    "failed to open text file for read <path>: <why>",
    source="filesystem/implementations/local.h ReadTextFile",
    why="The server cannot read what the reader of this repository cannot read.",
    bad="m/config.pbtxt (mode 000)",
    good="m/config.pbtxt (mode 644)",
)
E110 = refused(
    "E110",
    "failed to open text file for read <model>/<label_filename>: No such file or directory",
    source="model.cc Model::Init, label_provider.cc AddLabels",
    why="Label files lie in the model's directory, not in the version's.",
    bad='output { label_filename: "labels.txt" } and m/1/labels.txt',
    good='output { label_filename: "labels.txt" } and m/labels.txt',
)
E111 = refused(
    "E111",
    "label_filename names a directory: the server's process dies",
    source="filesystem/implementations/local.h ReadTextFile (an uncaught std::length_error)",
    why="Triton reads the directory as a file of absurd length and aborts; every model goes down with it.",
    bad='output { label_filename: "labels" } and m/labels/',
    good='output { label_filename: "labels.txt" } and m/labels.txt',
)
E112 = refused(
    "E112",
    "failed to poll model '<m>': model not found in any model repository.",
    source="model_repository_manager.cc PollModels",
    why="In explicit model control mode each model that is named has to be there.",
    bad="--load-model=resnet without resnet/",
    good="--load-model=resnet with resnet/",
)
E113 = refused(
    "E113",
    "unable to find backend library for backend '<b>', try specifying runtime on the model configuration.",
    source="backend_model.cc ResolveBackendPaths",
    why="A backend is libtriton_<backend>.so in the version's, the model's or the server's backend directory.",
    bad='backend: "onnx"',
    good='backend: "onnxruntime"',
)
E114 = refused(
    "E114",
    "unable to find backend library '<runtime>' for model '<m>', searched: <directories>",
    source="backend_model.cc ResolveBackendPaths",
    why="runtime names the file of the backend's library; it is searched where backends lie.",
    bad='backend: "onnxruntime" runtime: "onnx.so"',
    good='backend: "onnxruntime" runtime: "libtriton_onnxruntime.so"',
)
E115 = refused(
    "E115",
    (
        "backend library name '<runtime>' escapes backend directory '<d>', for model '<m>', check "
        "model config runtime field"
    ),
    source="backend_model.cc ResolveBackendPaths",
    why="The library has to lie below the backend's directory.",
    bad='runtime: "../identity/libtriton_identity.so"',
    good='runtime: "libtriton_onnxruntime.so"',
)
E116 = refused(
    "E116",
    "model configuration is not provided for model '<m>'",
    source="model.cc Model::Init (NOT_FOUND)",
    why="Without a configuration file the backend has to fill in everything, and this one cannot.",
    bad="x.identity/1/",
    good="x.identity/config.pbtxt and x.identity/1/",
)
E117 = refused(
    "E117",
    "multiple label files for '<o>'",
    source="label_provider.cc AddLabels (INTERNAL)",
    why="Labels are kept by the output's name, so two outputs of one name cannot both have labels.",
    bad='output [{ name: "B" label_filename: "l" }, { name: "B" label_filename: "l" }]',
    good='output [{ name: "B" label_filename: "l" }, { name: "C" label_filename: "l" }]',
)
W101 = advice(
    "W101",
    "a link leads out of the repository",
    source="SageMaker: model.tar.gz carries the link, not what it leads to; Triton follows it",
    why="The repository works on this machine only.",
    bad="m/1 -> ../../weights",
    good="m/1/",
)
W102 = advice(
    "W102",
    "the server takes '<d>' for version <n>, and the backend opens <model>/<n>/, which is another directory",
    source=f"{_VERSIONS}: stoll takes the number at the front of a name",
    why="`1abc` counts as version 1; the core takes it, but the backend finds no model there.",
    bad="m/1abc/",
    good="m/1/",
)
W103 = advice(
    "W103",
    "ignore version directory '<d>'",
    source=_VERSIONS,
    why="The server loads nothing from there; it says so only in its log.",
    bad="m/v1/",
    good="m/1/",
)
W104 = advice(
    "W104",
    "version <v> is specified for model '<m>', but the version directory is not present",
    source=_VERSIONS,
    why="The server logs it and loads the other versions.",
    bad="version_policy { specific { versions: [1, 2] } } with m/1/ only",
    good="version_policy { specific { versions: [1] } }",
)
W105 = advice(
    "W105",
    "unable to find '<path>' for model instance '<m>'",
    source="onnxruntime.cc, tensorflow.cc, pb_stub.cc: what each backend opens in the version's directory",
    why="The file may be added later (weights are seldom committed), but the model does not load without it.",
    bad='platform: "onnxruntime_onnx" with m/1/ empty',
    good="m/1/model.onnx",
)
W106 = advice(
    "W106",
    "the version directory of an ensemble is empty: git and many archivers drop it",
    source=f"{_VERSIONS}: an ensemble needs a version directory; git keeps no empty directories",
    why="After a checkout the ensemble has no version and does not load.",
    bad="ensemble/1/",
    good="ensemble/1/.gitkeep",
)
W107 = advice(
    "W107",
    "the server looks for the model's file in '<d>' only, the first directory of the model",
    source="model_config_utils.cc AutoCompleteBackendFields",
    why="A directory that sorts before the version hides it when platform and backend are left out.",
    bad="m/assets/ and m/version_1/model.onnx",
    good='backend: "onnxruntime" in m/config.pbtxt',
)
E122 = refused(
    "E122",
    "Python model file not found in '<path>'",
    source="python_backend pb_stub.cc ModelContext::Init",
    why="The python backend's process ends before it starts, and the server waits for it.",
    bad='backend: "python" with m/1/ empty',
    good="m/1/model.py",
)
E123 = refused(
    "E123",
    "SyntaxError: <what> (model.py, line <n>)",
    source="python_backend pb_stub.cc ModelContext::StubSetup (Python's own words, which differ by its version)",
    why="The python backend imports the file when it loads the model.",
    bad="def execute(self, requests",
    good="def execute(self, requests):",
)
E125 = refused(
    "E125",
    "<path> is a directory, which the <b> backend opens as a file",
    source="tensorflow.cc, libtorch.cc, openvino.cc, the TensorRT backend's instance_state.cc, pb_stub.cc",
    why="A SavedModel is a directory, and an ONNX model may be one that holds model.onnx; all other models are files.",
    bad="m/1/model.plan/",
    good="m/1/model.plan",
)
E127 = Rule(
    code="E127",
    severity="error",
    refused_by=None,
    summary="not judged: <path> <why it was not read>",
    source="tritonforge: bounds on what is read",
    why="Validation reads a bounded number of regular files and bytes, and follows no link out of the repository. The "
    "verdict on what it did not read is not known.",
    bad="a repository of a million files; a configuration of a gigabyte; m/ -> ../store/m",
    good="a repository that holds models only",
)
W109 = advice(
    "W109",
    "the server does not read this configuration",
    source="model_repository_manager.cc InitializeModelInfo: it opens <model>/config.pbtxt",
    why="Another spelling, or a place inside of the version, is not looked at.",
    bad="m/1/config.pbtxt",
    good="m/config.pbtxt",
)
W110 = advice(
    "W110",
    "SyntaxError: <what> (model.py, line <n>); Python <version> of the image may take it",
    source="tritonforge: only the grammar of the Python that runs it is known",
    why="The model runs on another Python than tritonforge, which may know newer syntax.",
    bad="m/1/model.py with syntax of Python 3.12, judged on Python 3.10 for an image with 3.12",
    good="run tritonforge on a Python that is as new as the image's",
)

RULES: Final[tuple[Rule, ...]] = (
    E101, E102, E103, E104, E105, E106, E107, E108, E109, E110, E111, E112, E113, E114, E115, E116, E117, E122, E123,
    E125, E127, W101, W102, W103, W104, W105, W106, W107, W109, W110,
)  # fmt: skip
