"""The layout of a TensorFlow Serving package: the SavedModels that SageMaker's container finds in it. No I/O.

The container takes every ``saved_model.pb`` below /opt/ml/model whose folder's name is a number for a version of the
model that the folder above is named after, and has TensorFlow Serving serve all versions of it, by number. Source:
aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/tfs_utils.py `find_models`,
`find_model_versions`; serve.py `ServiceManager`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["CODE", "INFERENCE", "LIBRARY", "REQUIREMENTS", "ROOT_MODEL", "SAVED_MODEL", "ServedModel", "find_models",
           "is_package", "is_tfs_image"]  # fmt: skip

#: The folder of the package's Python, its handlers, what is installed for them, and the modules that come with them.
CODE: Final = "code"
INFERENCE: Final = "code/inference.py"
REQUIREMENTS: Final = "code/requirements.txt"
LIBRARY: Final = "code/lib"

#: The file that makes a folder a SavedModel.
SAVED_MODEL: Final = "saved_model.pb"

#: The name of a model whose versions are at the top of the package: the folder there is /opt/ml/model.
ROOT_MODEL: Final = "model"

#: No file system has longer names.
_NUMBER: Final = re.compile(r"[0-9]{1,255}")
#: Triton's model directories have it, packages for TensorFlow Serving do not.
_TRITON_CONFIG: Final = "config.pbtxt"
_IMAGES: Final = re.compile(r"(^|/)(sagemaker-tensorflow-serving|tensorflow-inference)(-eia|-arm64)?[:@]")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as the container serves it.

    ``name`` is its name in requests, ``folder`` its path in the package ("" for the package itself). ``versions``
    has each version's folder by its number; ``repeated`` are folders that repeat a number (``01`` beside ``1``),
    ``unloadable`` those with a number and no ``saved_model.pb``, which are served all the same, and fail.
    """

    name: str
    folder: str
    versions: Mapping[int, str]
    repeated: tuple[str, ...] = ()
    unloadable: tuple[str, ...] = ()


def find_models(paths: Iterable[str]) -> tuple[ServedModel, ...]:
    """Return the models among the paths of a package, sorted by folder; a path that ends in ``/`` is a directory's.

    >>> find_models(["resnet/1/saved_model.pb", "resnet/1/variables/variables.index"])[0].versions[1]
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
    parents = {folder.rpartition("/")[0] for folder in saved if _NUMBER.fullmatch(folder.rpartition("/")[2])}
    numbered: dict[str, list[str]] = {folder: [] for folder in parents}
    for directory in sorted(directories):
        parent, _, name = directory.rpartition("/")
        if parent in parents and _NUMBER.fullmatch(name):
            numbered[parent].append(directory)
    return tuple(_build_model(folder, numbered[folder], saved) for folder in sorted(parents))


def is_package(paths: Iterable[str]) -> bool:
    """Return True for the paths of a TensorFlow Serving package, valid or not, and False for those of Triton's.

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


def is_tfs_image(image: str) -> bool:
    """Return True if a container image is one of SageMaker's for TensorFlow Serving, by the name of its repository.

    >>> is_tfs_image("763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.20-cpu-py312")
    True
    """
    return _IMAGES.search(image) is not None


def _build_model(folder: str, numbered: list[str], saved: set[str]) -> ServedModel:
    versions: dict[int, str] = {}
    repeated = []
    # A folder without leading zeros comes first: its name is the number itself.
    for directory in sorted(numbered, key=lambda path: (len(path), path)):
        number = int(directory.rpartition("/")[2])
        if number in versions:
            repeated.append(directory)
        else:
            versions[number] = directory
    name = folder.rpartition("/")[2] or ROOT_MODEL
    unloadable = tuple(directory for directory in numbered if directory not in saved)
    return ServedModel(name, folder, MappingProxyType(dict(sorted(versions.items()))), tuple(repeated), unloadable)
