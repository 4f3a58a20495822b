"""The plausibility of what a sender says about itself: poses and coverages that are legal in a message, but not in the world."""

from __future__ import annotations

import math

import numpy as np

from heal.message.items import CLASS
from heal.message.message import Message
from heal.types import MAP_SPLITS, Float64

MAX_TILT_DEG = 30.0
"""The largest angle between an agent's z axis and the world's: the steepest roads rise by 20 degrees, and LiDARs stand upright."""

MAX_POSITION_M = 1e7
"""The largest coordinate of a position in x, y and z; UTM coordinates are below."""

COVERAGE_RANGE = (1e-2, 1e3)
"""The least and the largest coverage: sensors that reach a hundred times as far as the grid, and a thousandth of the grid."""

MAX_FEATURE = 65504.0
"""The largest feature, up or down: float16's largest number, to which codecs cut. Those of trained networks stay far below.

Larger ones are finite, but their products in the trunk and in the heads are not.
"""

_TOLERANCE = 1e-3


def implausible_pose(world_SE3_agent: Float64) -> str | None:
    """Return why a pose (4, 4) cannot be that of a vehicle or of a roadside unit in the world; None for a plausible pose.

    Between two plausible poses, both the distance and the tilt are bounded. So the planar part of one pose relative to another,
    through which maps are moved, is never singular.
    """
    if not (np.abs(world_SE3_agent[:3, 3]) <= MAX_POSITION_M).all():
        return f"its position is {world_SE3_agent[:3, 3].tolist()} m, allowed are {MAX_POSITION_M:g} m in each direction"
    rotation = world_SE3_agent[:3, :3]
    if not (np.abs(rotation) <= 1 + _TOLERANCE).all() or np.abs(rotation @ rotation.T - np.eye(3)).max() > _TOLERANCE:
        return "its axes are not of length 1 and perpendicular to each other"
    if np.linalg.det(rotation) < 0:
        return "its axes are left-handed: the determinant of the rotation is -1, expected +1"
    tilt_deg = math.degrees(math.acos(min(max(float(rotation[2, 2]), -1.0), 1.0)))
    return f"it is tilted by {tilt_deg:.0f} degrees, allowed are {MAX_TILT_DEG:g}" if tilt_deg > MAX_TILT_DEG else None


def implausible_coverage(coverage: tuple[float, float] | None) -> str | None:
    """Return why no sensors have a coverage (see `Message.coverage`); None for a plausible coverage."""
    least, most = COVERAGE_RANGE
    if coverage is None or all(least <= ratio <= most for ratio in coverage):
        return None
    return f"the grid's range is {coverage} times that of its sensors, allowed are {least:g} to {most:g}"


def unusable_numbers(message: Message, classes: int) -> tuple[str, str] | None:
    """Return the reason and the detail of a message's rejection if nothing can be computed with its numbers; None if it can.

    Args:
        message: as it was read.
        classes: number of classes of the receiver's base.
    """
    ends = [float(end) for part in message.maps if part.size for end in (part.min(), part.max())]
    if not all(map(math.isfinite, ends)):
        return "not finite", f"what it sends ({message.split}) holds infinities or NaN"
    largest = max(map(abs, ends), default=0.0)
    if message.split in MAP_SPLITS and largest > MAX_FEATURE:
        return "out of bounds", f"its largest feature is {largest:.3g}, allowed are {MAX_FEATURE:g} up or down"
    highest = int(message.maps[0][CLASS:].max(initial=0)) if message.split == "boxes" else 0
    if highest >= classes:
        return "other classes", f"a box is of class {highest}, allowed are 0 to {classes - 1}"
    return None
