"""The rules of TensorFlow Serving packages: what each says, where it comes from, a bad and a good example. No I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.validation.rules.catalogue import Rule, advice

__all__ = ["RULES"]

_TOOLKIT: Final = "aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/"
_SERVE: Final = f"{_TOOLKIT}serve.py"
_UTILITIES: Final = f"{_TOOLKIT}tfs_utils.py"
_SERVICE: Final = f"{_TOOLKIT}python_service.py"
_IMAGE: Final = "aws/deep-learning-containers docker/tensorflow/inference/2.20 (Python 3.12, uv.lock)"


def _refused(code: str, summary: str, *, source: str, why: str, bad: str, good: str) -> Rule:
    """A rule without which SageMaker's TensorFlow Serving container does not start."""
    return Rule(
        code=code, severity="error", refused_by="tfs", summary=summary, source=source, why=why, bad=bad, good=good
    )


E701 = _refused(
    "E701",
    "no SavedModel bundles found!",
    source=f"{_UTILITIES} find_models; {_SERVE} _create_tfs_config",
    why="The container serves each folder with a number for its name that has a saved_model.pb in it; the folder above "
    "names the model. It ends when there is none.",
    bad="saved_model.pb, variables/, code/inference.py",
    good="resnet50/1/saved_model.pb, resnet50/1/variables/, code/inference.py",
)
E702 = _refused(
    "E702",
    "the version's folder has no saved_model.pb, and is served all the same",
    source=f"{_UTILITIES} find_model_versions, wait_for_model",
    why="Every folder with a number for its name is named to TensorFlow Serving as a version. One that does not load "
    "keeps the model from being ready, and the container ends when its time is up.",
    bad="resnet50/1/saved_model.pb, resnet50/2/",
    good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb",
)
E703 = _refused(
    "E703",
    "the SavedModel's variables are not whole",
    source="tensorflow/core/util/tensor_bundle (BundleReader): variables.index and every variables.data-?????-of-?????",
    why="A SavedModel keeps its weights in an index and as many files as their names say; without one of them it does "
    "not load.",
    bad="1/variables/variables.index, 1/variables/variables.data-00000-of-00002",
    good="1/variables/variables.index, 1/variables/variables.data-00000-of-00001",
)
E704 = _refused(
    "E704",
    "the file is not Python",
    source=f"{_SERVICE} _import_handlers",
    why="The container's Python service imports the file when it starts, and ends where that fails.",
    bad="def handler(data, context) return data",
    good="def handler(data, context): return data.read(), context.accept_header",
)
E705 = _refused(
    "E705",
    "Handlers are not implemented correctly in user script.",
    source=f"{_SERVICE} _import_handlers",
    why="inference.py defines handler(data, context), or both of input_handler(data, context) and "
    "output_handler(response, context); half of the pair is none.",
    bad="def input_handler(data, context): ...",
    good="def input_handler(data, context): ...\ndef output_handler(response, context): ...",
)
E706 = Rule(
    code="E706",
    severity="error",
    refused_by=None,
    summary="the handler cannot be called as the container calls it",
    source=f"{_SERVICE} _make_handler",
    why="Handlers are plain functions that are given two arguments by position; a coroutine is never awaited. The "
    "container starts, and answers every request with 500.",
    bad="async def handler(data): ...",
    good="def handler(data, context): ...",
)
E707 = _refused(
    "E707",
    "the image has no tensorflow package, and nothing in the package brings it",
    source=_IMAGE,
    why="The container has TensorFlow Serving's program, not Python's tensorflow: the import ends it. To take a "
    "tf.Example apart needs no TensorFlow.",
    bad="import tensorflow as tf\nexample = tf.train.Example.FromString(data.read())",
    good="from tfexample import features   (code/lib/tfexample.py)",
)
E708 = _refused(
    "E708",
    "pip finds no such version for the image's Python 3.12, and the container ends",
    source=f"{_SERVE} _setup_gunicorn; {_IMAGE}; PyPI: TensorFlow 2.16 is the first for Python 3.12",
    why="code/requirements.txt is installed when the container starts; what cannot be installed ends it.",
    bad="code/requirements.txt: tensorflow==1.13.1",
    good="code/requirements.txt: tensorflow-cpu==2.20.0",
)
E709 = _refused(
    "E709",
    "SAGEMAKER_TFS_DEFAULT_MODEL_NAME names no model of the package",
    source=f"{_SERVE} _wait_for_tfs",
    why="The container waits for this model until its time is up, and ends.",
    bad="SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet   resnet50/1/saved_model.pb",
    good="SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet50   resnet50/1/saved_model.pb",
)
E710 = _refused(
    "E710",
    "the variable's value is none that the container takes",
    source=f"{_SERVE} ServiceManager.__init__; {_UTILITIES} create_batching_config",
    why="The container, or TensorFlow Serving, ends over it.",
    bad="SAGEMAKER_TFS_ENABLE_BATCHING=yes",
    good="SAGEMAKER_TFS_ENABLE_BATCHING=true",
)
E711 = _refused(
    "E711",
    "Illegal to list model <m> multiple times in config list",
    source=f"{_UTILITIES} find_models; tensorflow_serving/model_servers/server_core.cc ValidateModelConfigList",
    why="A model is named after its folder alone, wherever that lies, and TensorFlow Serving takes each name once.",
    bad="old/resnet50/1/saved_model.pb, new/resnet50/1/saved_model.pb",
    good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb",
)
W701 = advice(
    "W701",
    "handler is called, and the pair of handlers never is",
    source=f"{_SERVICE} _import_handlers",
    why="Where a file defines handler, the container does not look for input_handler and output_handler.",
    bad="def handler(data, context): ...\ndef input_handler(data, context): ...",
    good="def handler(data, context): ...",
)
W702 = advice(
    "W702",
    "requirements.txt is ignored: code/lib is there",
    source=f"{_SERVE} _setup_gunicorn",
    why="The container installs the requirements only where the package has no code/lib.",
    bad="code/lib/tfexample.py, code/requirements.txt: pillow",
    good="code/lib/tfexample.py, code/lib/PIL/",
)
W703 = advice(
    "W703",
    "the image does not have the module, and nothing in the package brings it",
    source=_IMAGE,
    why="The container has numpy, pandas, scikit-learn, requests, boto3, protobuf and grpc; what else is imported is "
    "installed by code/requirements.txt, or lies in code/lib.",
    bad="from PIL import Image",
    good="from PIL import Image   (code/requirements.txt: pillow)",
)
W704 = advice(
    "W704",
    "code without inference.py turns the conversion of JSON lines and CSV off",
    source=f"{_SERVE} _need_python_service; {_SERVICE} default_handler",
    why="With code/requirements.txt or code/lib the Python service takes the requests, and its own handler posts a "
    "body as it came: CSV becomes an error of TensorFlow Serving's.",
    bad="code/requirements.txt",
    good="code/requirements.txt, code/inference.py",
)
W705 = advice(
    "W705",
    "415 is meant, and the container answers 500: only falcon's HTTP errors keep their status",
    source=f"{_SERVICE} _handle_invocation_post",
    why="Whatever a handler raises is answered with 500 and the exception's text, except falcon.HTTPError, which is "
    "passed on. A client that sees 500 tries again what can never succeed.",
    bad='raise ValueError("Error: 415, Unsupported content type")',
    good='raise falcon.HTTPUnsupportedMediaType(description="application/x-image is taken")',
)
W706 = advice(
    "W706",
    "the package has several models, and which one requests are for is chance",
    source=f"{_SERVE} _create_tfs_config",
    why="A request that names no model goes to the first one that the container's file system lists. "
    "SAGEMAKER_TFS_DEFAULT_MODEL_NAME says which.",
    bad="resnet50/1/, inception/1/",
    good="resnet50/1/, inception/1/   SAGEMAKER_TFS_DEFAULT_MODEL_NAME=resnet50",
)
W707 = advice(
    "W707",
    "two folders have the same number: one of them is served",
    source=f"{_UTILITIES} find_model_versions, which drops leading zeros",
    why="01 and 1 are one version to TensorFlow Serving.",
    bad="resnet50/1/saved_model.pb, resnet50/01/saved_model.pb",
    good="resnet50/1/saved_model.pb, resnet50/2/saved_model.pb",
)
W708 = advice(
    "W708",
    "no request can name the model: tfs-model-name takes letters, digits, '.', '_' and '-'",
    source=f"{_UTILITIES} _TFS_MODEL_NAME_RE",
    why="The container answers 400 to such a name in X-Amzn-SageMaker-Custom-Attributes; only as the default model is "
    "it reached.",
    bad="my model/1/saved_model.pb",
    good="my_model/1/saved_model.pb",
)

RULES: Final = (
    E701,
    E702,
    E703,
    E704,
    E705,
    E706,
    E707,
    E708,
    E709,
    E710,
    E711,
    W701,
    W702,
    W703,
    W704,
    W705,
    W706,
    W707,
    W708,
)
