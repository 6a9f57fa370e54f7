"""An earlier training's model, from which a new training starts: its weights, its classes, and what is kept of it."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from network import top_layers

from tritonforge.training.algorithm import ChannelInput, HyperparameterError, InputError

__all__ = ["SETTINGS", "WEIGHTS", "Earlier", "arrays_of"]

#: Where a model repository of this algorithm keeps them.
SETTINGS: Final = "detector/settings.json"
WEIGHTS: Final = "detector/weights.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """``categories`` are the class set, ``names`` what they are called, ``arrays`` the weights by variable path."""

    categories: tuple[int, ...]
    names: Mapping[int, str]
    arrays: Mapping[str, Any]

    @classmethod
    def read(cls, channel: ChannelInput) -> Earlier:
        """The model of a channel: a model.tar.gz, or what was in one.

        Raises:
            InputError: there is no model of this algorithm in it.
        """
        try:
            settings, weights = _members(channel)
            values = json.loads(settings)
            with np.load(io.BytesIO(weights), allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            categories = tuple(int(category) for category in values["categories"])
            names = dict(zip(categories, map(str, values["labels"]), strict=True))
        except (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise InputError(
                f"channel {channel.name} holds no model of this detector: {error}; give the model.tar.gz of an earlier "
                "training"
            ) from error
        return cls(categories, names, arrays)

    def check(self, categories: Sequence[int], reinitialize: str) -> None:
        """Check that what is kept fits the classes of the training data; ``reinitialize`` as in `put_into`.

        Raises:
            HyperparameterError: the head is kept, and the class set is another one.
        """
        if reinitialize == "False" and self.categories != tuple(categories):
            problem = (
                "reinitialize_top_layer is False, but the model of channel model finds "
                f"{_join_categories(self.categories)}, and the training data have {_join_categories(categories)}; "
                "write Auto"
            )
            raise HyperparameterError([problem])

    def put_into(self, network: Any, categories: Sequence[int], reinitialize: str) -> str:
        """Give a new network these weights, and say what was kept; ``reinitialize`` is Auto, True or False.

        Raises:
            InputError: the weights do not fit the network.
        """
        anew = reinitialize == "True" or self.categories != tuple(categories)
        head = {id(variable) for variable in top_layers(network).variables}
        for path, variable in _paths(network).items():
            if anew and id(variable) in head:
                continue
            array = self.arrays.get(path)
            if array is None or array.shape != tuple(variable.shape):
                raise InputError(
                    f"the model of channel model has no {path} of the shape {tuple(variable.shape)}; it is of another "
                    "version of this algorithm"
                )
            variable.assign(array)
        return f"going on from the model of channel model, {'with a new top layer' if anew else 'with its top layer'}"


def arrays_of(network: Any) -> dict[str, Any]:
    """The weights of a network by their variables' paths."""
    return {path: variable.numpy() for path, variable in _paths(network).items()}


def _paths(network: Any) -> dict[str, Any]:
    found = {variable.path: variable for variable in network.variables}
    assert len(found) == len(network.variables)
    return found


def _members(channel: ChannelInput) -> tuple[bytes, bytes]:
    """The two files, out of the archive or beside each other."""
    if (channel.folder / SETTINGS).is_file():
        return (channel.folder / SETTINGS).read_bytes(), (channel.folder / WEIGHTS).read_bytes()
    archives = [path for path in channel.files() if path.name.endswith((".tar.gz", ".tgz", ".tar"))]
    if len(archives) != 1:
        raise ValueError(f"it has {len(archives)} archives, and no {SETTINGS}")
    with tarfile.open(archives[0]) as archive:
        return _member(archive, SETTINGS), _member(archive, WEIGHTS)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    for member in archive:
        if member.isfile() and Path(member.name).as_posix() == name:
            extracted = archive.extractfile(member)
            assert extracted is not None
            return extracted.read()
    raise ValueError(f"the archive has no {name}")


def _join_categories(categories: Sequence[int]) -> str:
    text = ", ".join(map(str, categories[:10]))
    return f"the classes {text}{' ...' if len(categories) > 10 else ''}"
