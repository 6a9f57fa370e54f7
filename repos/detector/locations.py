"""Where the network looks: the locations of its three levels, and which box each of them is to find. numpy only.

A level with stride s has a location at the middle of each s x s square of the input picture. A box belongs to the level
that fits the longer of its sides, and there to the locations near its middle; where boxes meet, the smallest one has
the location. Source of the scheme: FCOS (Tian et al., 2019), sections 3.1 and 3.2, with centre sampling.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

__all__ = ["STRIDES", "assign", "centres", "count"]

#: Pixels of the input between two locations of a level.
STRIDES: Final = (8, 16, 32)

#: A level finds boxes whose longer side is at most this many strides; the last level finds all that are larger.
_REACH: Final = 6

#: A box is found by the locations that are at most this many strides from its middle, and inside it.
_RADIUS: Final = 1.5


def centres(side: int) -> tuple[Any, Any]:
    """The locations of all levels for a square input: [n, 2] as x, y in pixels, and each one's stride: [n]."""
    points, strides = [], []
    for stride in STRIDES:
        ticks = (np.arange(side // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(ticks, ticks, indexing="ij")
        points.append(np.stack([x.ravel(), y.ravel()], axis=-1))
        strides.append(np.full(len(points[-1]), stride, np.float32))
    return np.concatenate(points), np.concatenate(strides)


def count(side: int) -> int:
    """How many locations there are."""
    return sum((side // stride) ** 2 for stride in STRIDES)


def assign(boxes: Any, classes: Any, side: int) -> tuple[Any, Any]:
    """What each location is to answer for one picture.

    ``boxes`` are [k, 4] as xmin, ymin, xmax, ymax in pixels of the input, ``classes`` [k] numbers from 0. Gives the
    class of each location (int32 [n], -1 where there is nothing) and its box (float32 [n, 4], pixels; zeros there).
    """
    points, strides = centres(side)
    wanted = np.full(len(points), -1, np.int32)
    targets = np.zeros((len(points), 4), np.float32)
    if not len(boxes):
        return wanted, targets
    boxes = np.asarray(boxes, np.float32)
    sizes = boxes[:, 2:] - boxes[:, :2]
    longest = sizes.max(axis=1)
    level = np.searchsorted(np.asarray(STRIDES[:-1], np.float32) * _REACH, longest)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    # The largest first: the smaller ones, which come later, take what they share.
    for index in np.argsort(-sizes.prod(axis=1), kind="stable"):
        stride = STRIDES[level[index]]
        near = np.abs(points - middles[index]).max(axis=1) <= _RADIUS * stride
        inside = ((points > boxes[index, :2]) & (points < boxes[index, 2:])).all(axis=1)
        found = near & inside & (strides == stride)
        if not found.any():  # thinner than the distance of two locations: the nearest one has it
            distance = np.where(strides == stride, np.abs(points - middles[index]).max(axis=1), np.inf)
            found = distance == distance.min()
        wanted[found] = classes[index]
        targets[found] = boxes[index]
    return wanted, targets
