"""The layout of a TensorFlow Serving package: the SavedModels that SageMaker's container finds in it. No I/O.

The container takes every ``saved_model.pb`` below /opt/ml/model whose folder's name is a number for a version of the
model that the folder above is named after, and tells TensorFlow Serving to serve all versions of it, by number. Source:
aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/tfs_utils.py `find_models`,
`find_model_versions`; serve.py `ServiceManager`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = [
    "CODE",
    "INFERENCE",
    "LIBRARY",
    "REQUIREMENTS",
    "ROOT_MODEL",
    "SAVED_MODEL",
    "ServedModel",
    "find",
    "is_package",
    "serves_packages",
]

#: The folder of the package's Python, its handlers, what is installed for them, and the modules that come with them.
CODE: Final = "code"
INFERENCE: Final = "code/inference.py"
REQUIREMENTS: Final = "code/requirements.txt"
LIBRARY: Final = "code/lib"

#: The file that makes a folder a SavedModel.
SAVED_MODEL: Final = "saved_model.pb"

#: What a model is called whose versions lie at the top of the package: the folder there is /opt/ml/model.
ROOT_MODEL: Final = "model"

#: No file system has longer names.
_NUMBER: Final = re.compile(r"[0-9]{1,255}")
#: What Triton's model directories have and packages for TensorFlow Serving have not.
_TRITON_CONFIG: Final = "config.pbtxt"
_IMAGES: Final = re.compile(r"(^|/)(sagemaker-tensorflow-serving|tensorflow-inference)(-eia|-arm64)?[:@]")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as the container serves it.

    ``name`` is what requests call it by, ``folder`` its path in the package ("" for the package itself). ``versions``
    has each version's folder by its number; ``repeated`` are folders that give a number once more (``01`` beside
    ``1``), ``unloadable`` those with a number and no ``saved_model.pb``, which are served, and fail, all the same.
    """

    name: str
    folder: str
    versions: Mapping[int, str]
    repeated: tuple[str, ...] = ()
    unloadable: tuple[str, ...] = ()


def find(paths: Iterable[str]) -> tuple[ServedModel, ...]:
    """The models among the paths of a package, sorted by folder; a path that ends in ``/`` is a directory's.

    >>> find(["resnet/1/saved_model.pb", "resnet/1/variables/variables.index"])[0].versions[1]
    'resnet/1'
    """
    directories: set[str] = set()
    saved: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == SAVED_MODEL:
            saved.add(folder)
        while folder and folder not in directories:
            directories.add(folder)
            folder = folder.rpartition("/")[0]
    found = {folder.rpartition("/")[0] for folder in saved if _NUMBER.fullmatch(folder.rpartition("/")[2])}
    numbered: dict[str, list[str]] = {folder: [] for folder in found}
    for directory in sorted(directories):
        parent, _, name = directory.rpartition("/")
        if parent in found and _NUMBER.fullmatch(name):
            numbered[parent].append(directory)
    return tuple(_model(folder, numbered[folder], saved) for folder in sorted(found))


def is_package(paths: Iterable[str]) -> bool:
    """Whether these are the paths of a TensorFlow Serving package, well made or not, and of no Triton repository.

    A package has SavedModels in numbered folders, or handlers in ``code/inference.py``, or is a bare SavedModel. A
    folder with a ``config.pbtxt`` in it or in one of its folders is Triton's, whatever else it holds.
    """
    package = False
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == _TRITON_CONFIG and "/" not in folder:
            return False
        if name == SAVED_MODEL:
            package |= not folder or _NUMBER.fullmatch(folder.rpartition("/")[2]) is not None
        package |= path == INFERENCE
    return package


def serves_packages(image: str) -> bool:
    """Whether a container image is one of SageMaker's for TensorFlow Serving, by the name of its repository.

    >>> serves_packages("763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.20-cpu-py312")
    True
    """
    return _IMAGES.search(image) is not None


def _model(folder: str, numbered: list[str], saved: set[str]) -> ServedModel:
    versions: dict[int, str] = {}
    repeated = []
    # A folder without leading zeros comes first, as it is the one that bears the number's own name.
    for directory in sorted(numbered, key=lambda each: (len(each), each)):
        number = int(directory.rpartition("/")[2])
        if number in versions:
            repeated.append(directory)
        else:
            versions[number] = directory
    name = folder.rpartition("/")[2] or ROOT_MODEL
    unloadable = tuple(each for each in numbered if each not in saved)
    return ServedModel(name, folder, MappingProxyType(dict(sorted(versions.items()))), tuple(repeated), unloadable)
