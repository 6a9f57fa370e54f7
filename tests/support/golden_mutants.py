"""Repositories of `repos/` with one thing changed, and the step of the ensemble that a golden test must name for each.

A mutant is a change of the definition's source, or of the built repository. It is built into a copy of the original's
build, so that only what depends on the change is made again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.checkout import ROOT
from tritonforge.building import build

__all__ = ["BASELINES", "MUTANTS", "Mutant", "build_baseline", "build_mutant", "edit_source"]

#: Changes a definition's directory, or a built repository.
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Mutant:
    """One change, and the ``step`` that is the first one to differ.

    ``source`` changes the directory of the definition, ``built`` the built repository.
    """

    repository: str
    name: str
    step: str
    source: Change | None = None
    built: Change | None = None

    def __str__(self) -> str:
        return f"{self.repository}: {self.name}"


def edit_source(file: str, old: str, new: str) -> Change:
    """Return a change of one text, which occurs once, in one file."""

    def change(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
        path.unlink()  # it may be a link to the original
        path.write_text(text.replace(old, new))

    return change


def permute_labels(file: str, order: Callable[[list[str]], list[str]]) -> Change:
    """Return a change of the order of a label file."""

    def change(folder: Path) -> None:
        path = folder / file
        labels = path.read_text().splitlines()
        path.unlink()
        path.write_text("\n".join(order(labels)) + "\n")

    return change


def swap_first(labels: Sequence[str]) -> list[str]:
    """Return the labels with the first two swapped."""
    return [labels[1], labels[0], *labels[2:]]


def reverse(labels: list[str]) -> list[str]:
    """Return the labels in reverse order."""
    return labels[::-1]


def scale_weights(file: str, *, rank: int) -> Change:
    """Return a change of the first large constant of this rank in a GraphDef by 1 %."""

    def change(folder: Path) -> None:
        import numpy as np
        from tensorflow.core.framework import graph_pb2
        from tensorflow.python.framework import tensor_util

        path = folder / file
        graph = graph_pb2.GraphDef.FromString(path.read_bytes())
        for node in graph.node:
            shape = node.attr["value"].tensor.tensor_shape.dim
            if node.op == "Const" and len(shape) == rank and np.prod([dim.size for dim in shape]) > 200:
                values = tensor_util.MakeNdarray(node.attr["value"].tensor) * np.float32(1.01)
                node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(values))
                break
        else:
            raise AssertionError(f"{file}: no constant of rank {rank}")
        path.unlink()
        path.write_bytes(graph.SerializeToString())

    return change


def _list_pipeline_mutants(
    repository: str, step: str, file: str, *, resize: str, more: Mapping[str, tuple[str, str]]
) -> list[Mutant]:
    """Return the mutants of a DALI pipeline; ``resize`` is its call of `fn.resize`."""
    image = re.match(r"fn\.resize\((\w+), ", resize)
    assert image is not None
    arguments = resize.removeprefix(f"fn.resize({image[1]}, ").removesuffix(")")
    smaller = re.sub(r"=(\w+)", r"=\1 - 3", arguments)
    changes = {
        "channel order": ("output_type=types.RGB", "output_type=types.BGR"),
        "resize filter": (resize, f"fn.resize({image[1]}, interp_type=types.INTERP_NN, {arguments})"),
        "resize without antialiasing": (resize, f"fn.resize({image[1]}, antialias=False, {arguments})"),
        "resize size": (resize, f"fn.resize(fn.resize({image[1]}, {smaller}), {arguments})"),
        "mirrored": (resize, f"fn.flip({resize})"),
        **more,
    }
    return [Mutant(repository, name, step, source=edit_source(file, old, new)) for name, (old, new) in changes.items()]


_DIGITS_RESIZE: Final = "fn.resize(decoded, resize_x=SIDE, resize_y=SIDE)"
_NORMALIZE: Final = 'fn.crop_mirror_normalize(resized, dtype=types.FLOAT, output_layout="HWC", mean=MEAN, std=STD)'

MUTANTS: Final[tuple[Mutant, ...]] = (
    *_list_pipeline_mutants(
        "digits",
        "decode",
        "network.py",
        resize=_DIGITS_RESIZE,
        more={
            "mean": ("mean=MEAN, std=STD", "mean=(66.5, 70.0, 77.0), std=STD"),
            "standard deviation": ("mean=MEAN, std=STD", "mean=MEAN, std=(32.0, 16.0, 36.5)"),
            "layout": (_NORMALIZE, f"fn.reshape({_NORMALIZE.replace('HWC', 'CHW')}, shape=[SIDE, SIDE, 3])"),
        },
    ),
    Mutant("digits", "two labels swapped", "classify", built=permute_labels("classify/labels.txt", swap_first)),
    Mutant("digits", "labels reversed", "classify", built=permute_labels("classify/labels.txt", reverse)),
    Mutant("digits", "a kernel by 1 %", "classify", built=scale_weights("classify/1/model.graphdef", rank=4)),
    Mutant("digits", "the last layer by 1 %", "classify", built=scale_weights("classify/1/model.graphdef", rank=2)),
    *_list_pipeline_mutants(
        "inception_v3",
        "dali",
        "network.py",
        resize=_DIGITS_RESIZE,
        more={
            "mean": ("mean=[127.5, 127.5, 127.5]", "mean=[127.0, 127.5, 127.5]"),
            "standard deviation": ("std=[127.5, 127.5, 127.5]", "std=[127.5, 127.5, 128.0]"),
        },
    ),
    Mutant("inception_v3", "labels reversed", "inception_graphdef",
           built=permute_labels("inception_graphdef/inception_labels.txt", reverse)),
    Mutant("inception_v3", "labels shifted by one", "inception_graphdef",
           built=permute_labels("inception_graphdef/inception_labels.txt", lambda labels: [*labels[1:], labels[0]])),
    Mutant("inception_v3", "a kernel by 1 %", "inception_graphdef",
           built=scale_weights("inception_graphdef/1/model.graphdef", rank=4)),
    Mutant("inception_v3", "the last layer by 1 %", "inception_graphdef",
           built=scale_weights("inception_graphdef/1/model.graphdef", rank=2)),
    *_list_pipeline_mutants(
        "detector",
        "decode",
        "graphs.py",
        resize="fn.resize(image, resize_x=side, resize_y=side)",
        more={"scale": ("fn.cast(fn.resize(image, resize_x=side, resize_y=side), dtype=types.FLOAT)",
                        "fn.cast(fn.resize(image, resize_x=side, resize_y=side), dtype=types.FLOAT) * 1.01")},
    ),
    Mutant("detector", "boxes scaled by 1 %", "detector",
           source=edit_source("graphs.py", 'return {"boxes": boxes, ', 'return {"boxes": boxes * 1.01, ')),
    Mutant("detector", "rows before columns", "detector",
           source=edit_source("graphs.py", '{"boxes": boxes, ', '{"boxes": tf.gather(boxes, [1, 0, 3, 2], axis=-1), ')),
    Mutant("detector", "NMS threshold", "postprocess",
           built=edit_source("postprocess/config.pbtxt", 'string_value: "0.5"', 'string_value: "0.7"')),
    Mutant("detector", "two labels swapped", "postprocess", built=permute_labels("postprocess/labels.txt", swap_first)),
    Mutant("detector", "classes counted from 1", "postprocess",
           built=edit_source("postprocess/1/model.py", "len(kept)] = classes", "len(kept)] = classes + 1")),
    Mutant("detector", "corners of boxes swapped", "postprocess",
           built=edit_source("postprocess/1/model.py", "len(kept)] = kept", "len(kept)] = kept[:, [2, 3, 0, 1]]")),
)  # fmt: skip

#: What the originals differ in from `repos/`: the scores of the detector's random weights are low.
BASELINES: Final[Mapping[str, tuple[Change, ...]]] = {
    "digits": (),
    "inception_v3": (),
    "detector": (edit_source("graphs.py", "THRESHOLD: Final = 0.05", "THRESHOLD: Final = 0.0001"),),
}


def build_baseline(name: str, folder: Path, *, built: Path | None = None) -> Path:
    """Build an original into ``folder/name/built``, from its definition in ``folder/name/source``.

    ``built`` is an earlier build to start from.
    """
    source = folder / name / "source"
    shutil.copytree(ROOT / "repos" / name, source, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for change in BASELINES[name]:
        change(source)
    target = folder / name / "built"
    if built is not None:
        _copy_links(built, target)
    build(source, target)
    return target


def build_mutant(mutant: Mutant, folder: Path) -> Path:
    """Build a mutant beside its original in ``folder/NAME`` and return its repository."""
    original = folder / mutant.repository
    source, target = original / "mutant", original / "mutated"
    for old in (source, target):
        shutil.rmtree(old, ignore_errors=True)
    _copy_links(original / "built", target)
    if mutant.source is not None:
        shutil.copytree(original / "source", source)
        mutant.source(source)
        build(source, target)
    if mutant.built is not None:
        mutant.built(target)
    return target


def _copy_links(source: Path, target: Path) -> None:
    """Copy a directory with hard links to its files."""
    shutil.copytree(source, target, copy_function=lambda old, new: Path(new).hardlink_to(old))
