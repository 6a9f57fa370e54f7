"""What a file of decision trees states about itself: XGBoost (JSON, UBJSON, its old binary), LightGBM, treelite.

These are the formats of Triton's FIL backend. Sources: xgboost doc/tutorials/saving_model.rst and src/learner.cc,
LightGBM src/boosting/gbdt_model_text.cpp, treelite src/serializer.cc. XGBoost writes the header last, LightGBM and
treelite first; the trees between are skipped.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tritonforge.model_files.source import ModelFileError, Source, UnknownHeaderError

__all__ = ["TreeFormat", "TreeModel", "read_tree_model"]

#: Names of FIL's parameter ``model_type``.
TreeFormat: TypeAlias = Literal["xgboost", "xgboost_json", "xgboost_ubj", "lightgbm", "treelite_checkpoint"]

_END: Final = 64 * 1024
#: Bytes that begin XGBoost's old binary format since version 0.9.
_OLD_XGBOOST: Final = b"binf"
_UBJ_START: Final = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{"
_UBJ_INTEGERS: Final = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_JSON_END: Final = re.compile(
    rb'"learner_model_param":(\{[^{}]*\}),"objective":(\{(?:[^{}]|\{[^{}]*\})*\})\s*\}\s*,\s*"version":(\[[\d,\s]*\])\s*\}\s*$'
)


@dataclass(frozen=True, slots=True)
class TreeModel:
    """A tree model's header.

    ``version`` is the version of the library that wrote an XGBoost or treelite file, and of the format of LightGBM
    (``v4``); "" where it is not stated. ``features`` is the number of inputs of a row; ``classes`` the number of
    classes (1 for regression and for binary classification); either is None where it is not stated.
    """

    format: TreeFormat
    version: str = ""
    features: int | None = None
    classes: int | None = None
    objective: str = ""


def read_tree_model(source: Source) -> TreeModel:
    """Read the header of a tree model, whichever of the formats it has.

    A header in an order that XGBoost itself does not write gives a TreeModel without version, features and classes.

    Raises:
        ModelFileError: the file ends within its header.
        UnknownHeaderError: it has none of the formats; old binary models of XGBoost have no mark of their own.
    """
    start = source.read_at(0, min(source.size, 64))
    if start.startswith(_UBJ_START):
        return _read_ubj(source)
    if start.lstrip()[:1] == b"{":
        return _read_json(source)
    if re.match(rb"tree\s*\n", start):
        return _read_lightgbm(source)
    if start.startswith(_OLD_XGBOOST):
        return TreeModel("xgboost")
    if len(start) >= 24 and start[12] in (1, 2, 3) and start[13] in (1, 2, 3):
        return _read_treelite(source)
    raise UnknownHeaderError("this is not a tree model of XGBoost, LightGBM or treelite")


def _read_end(source: Source) -> bytes:
    size = min(source.size, _END)
    return source.read_at(source.size - size, size)


def _read_json(source: Source) -> TreeModel:
    if b'"learner"' not in source.read_at(0, min(source.size, 4096)):
        raise UnknownHeaderError("this is not a model of XGBoost: it is JSON without a learner")
    end = _read_end(source)
    if not end.rstrip().endswith(b"}"):
        raise ModelFileError("this is not a model of XGBoost: its JSON does not end with a closing brace")
    match = _JSON_END.search(end)
    if match is None:
        return TreeModel("xgboost_json")
    try:
        parameters, objective, version = (json.loads(group) for group in match.groups())
        return TreeModel(
            "xgboost_json",
            ".".join(map(str, version)),
            _to_count(parameters.get("num_feature")),
            max(_to_count(parameters.get("num_class")) or 1, 1),
            str(objective.get("name", "")),
        )
    except (ValueError, RecursionError):
        return TreeModel("xgboost_json")


def _read_ubj(source: Source) -> TreeModel:
    end = _read_end(source)
    place = end.rfind(b"\x13learner_model_param{")
    if place < 0:
        return TreeModel("xgboost_ubj")
    parameters = end[place:]
    version = re.search(rb"\x07version\[#L.{7}\x03((?:i.|U.|I..|l.{4}|L.{8}){3})\}?$", parameters, re.DOTALL)
    return TreeModel(
        "xgboost_ubj",
        ".".join(map(str, _read_ubj_integers(version[1]))) if version else "",
        _to_count(_find_ubj_string(parameters, b"num_feature")),
        max(_to_count(_find_ubj_string(parameters, b"num_class")) or 1, 1),
        _find_ubj_string(parameters, b"name"),
    )


def _find_ubj_string(data: bytes, key: bytes) -> str:
    """Return the string with a key; XGBoost writes each length as an int64."""
    marker = struct.pack(">q", len(key)) + key + b"SL"
    place = data.find(marker)
    if place < 0 or place + len(marker) + 8 > len(data):
        return ""
    start = place + len(marker) + 8
    (length,) = struct.unpack_from(">q", data, start - 8)
    return data[start : start + max(min(length, 1000), 0)].decode("utf-8", "replace")


def _read_ubj_integers(data: bytes) -> list[int]:
    numbers, place = [], 0
    while place < len(data):
        layout = _UBJ_INTEGERS[data[place : place + 1]]
        numbers.append(struct.unpack_from(layout, data, place + 1)[0])
        place += 1 + struct.calcsize(layout)
    return numbers


def _read_lightgbm(source: Source) -> TreeModel:
    text = source.read_at(0, min(source.size, _END)).decode("utf-8", "replace")
    header = text.partition("\n\n")[0]
    values = dict(line.split("=", 1) for line in header.splitlines() if "=" in line)
    last_feature = _to_count(values.get("max_feature_idx"))
    if "version" not in values or last_feature is None:
        raise UnknownHeaderError("this is not a model of LightGBM: its header has no version or no max_feature_idx")
    return TreeModel(
        "lightgbm",
        values["version"].strip(),
        last_feature + 1,
        max(_to_count(values.get("num_class")) or 1, 1),
        values.get("objective", "").partition(" ")[0],
    )


def _read_treelite(source: Source) -> TreeModel:
    major, minor, patch = source.unpack("<3i", 0)
    if not (3 <= major < 100 and 0 <= minor < 1000 and 0 <= patch < 1000):
        raise UnknownHeaderError("this is not a checkpoint of treelite: it does not begin with a version")
    (features,) = source.unpack("<i", 22)  # after three versions, two types and the number of trees
    classes = None
    if major >= 4:  # then a task, a flag, the number of targets, and an array with the classes of each target
        targets, length, first = source.unpack("<iQi", 28)
        classes = first if targets >= 1 and length >= 1 and first > 0 else None
    return TreeModel("treelite_checkpoint", f"{major}.{minor}.{patch}", features if features > 0 else None, classes)


def _to_count(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isdecimal() and len(text) < 10 else None
