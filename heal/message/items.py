"""Messages that hold a list of items in place of maps, the boxes or the points of an agent: the numbers of an item, and checks.

The list is one map (numbers, 1, items), so that header, codecs and payload are those of maps. There may be no item.
"""

from __future__ import annotations

import numpy as np

from heal.box_corners import H, L, W
from heal.detection.classes import MOST_CLASSES
from heal.message.byte_reader import PayloadError
from heal.message.payload import Layout
from heal.types import Float32, Split

# Numbers of an item. A box is x, y, z, h, w, l, yaw (`heal.box_corners`), its score, and its class where the base has several; a
# point is x, y, z and its intensity.
ITEM_NUMBERS: dict[Split, tuple[int, ...]] = {"boxes": (8, 9), "points": (4,)}
# The farthest place of an item and the longest edge of a box. Beyond, the overlaps of boxes would overflow.
LARGEST_M = 1e4
_FLOATS = ("float32", "float16")
SCORE, CLASS, _INTENSITY = 7, 8, 3


def require_items(layout: Layout) -> None:
    """Check a layout of boxes or of points; there is nothing to check of a layout of maps.

    Raises:
        PayloadError: it has other shapes than one list, chooses cells, or does not store floats.
    """
    numbers = ITEM_NUMBERS.get(layout.split)
    if numbers is None:
        return
    if len(layout.shapes) != 1 or layout.shapes[0][0] not in numbers or layout.shapes[0][1] != 1:
        known = " or ".join(map(str, numbers))
        raise PayloadError(f"{layout.split}: expected one list ({known}, 1, any), got the shapes {layout.shapes}")
    if layout.chosen or layout.values not in _FLOATS:
        raise PayloadError(f"{layout.split}: expected all items, as {' or '.join(_FLOATS)}, got {layout.values}")


def require_points(points: Float32) -> None:
    """Raise ValueError for points (4, 1, N) that no LiDAR has; NaN is left to the reader."""
    with np.errstate(invalid="ignore"):
        wrong = (np.abs(points[:_INTENSITY]) > LARGEST_M).any(axis=0) | (points[_INTENSITY] < 0) | (points[_INTENSITY] > 1)
    if wrong.any():
        raise ValueError(
            f"Message.maps: expected points within {LARGEST_M:g} m with intensities from 0 to 1, got {int(wrong.sum())} others"
        )


def numbers_of_box(classes: int) -> int:
    """Return the numbers of a box in messages for a base with so many classes."""
    return CLASS + 1 if classes > 1 else CLASS


def require_boxes(boxes: Float32) -> None:
    """Raise ValueError for boxes (8 or 9, 1, K) that cannot be; NaN is left to the reader."""
    lengths, edges, scores, classes = boxes[:SCORE], boxes[[H, W, L]], boxes[SCORE], boxes[CLASS:]
    with np.errstate(invalid="ignore"):
        wrong = (np.abs(lengths) > LARGEST_M).any(axis=0) | (edges < 0).any(axis=0) | (scores < 0) | (scores > 1)
        wrong |= ((classes < 0) | (classes >= MOST_CLASSES) | ((classes != np.rint(classes)) & ~np.isnan(classes))).any(axis=0)
    if wrong.any():
        raise ValueError(
            f"Message.maps: expected boxes within {LARGEST_M:g} m, with edges of 0 or more, scores from 0 to 1 and whole classes "
            f"from 0 to {MOST_CLASSES - 1}, got {int(wrong.sum())} others"
        )
