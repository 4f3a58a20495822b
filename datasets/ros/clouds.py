"""Point clouds as messages: x, y, z and intensity of float32 when written, every legal layout of fields when read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.intensity import BYTE_TOP, COLOUR_FIELDS, intensity_fields, red_from_rgb, to_unit
from heal.datasets.ros.messages import CLOUD, Messages
from heal.types import Float32

FIELDS = ("x", "y", "z", "intensity")
# By the number that stands for a type in a PointField.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FLOAT32 = 7


def cloud_message(messages: Messages, header: Any, points: Float32) -> Any:
    """Make the message of a cloud (N, 4) float32: x, y, z in metres and intensity, the bytes as they are."""
    fields = [
        messages.make("sensor_msgs/msg/PointField", name=name, offset=4 * number, datatype=_FLOAT32, count=1)
        for number, name in enumerate(FIELDS)
    ]
    data = np.ascontiguousarray(points, "<f4").view(np.uint8).reshape(-1)
    shape = {"height": 1, "width": len(points), "point_step": 16, "row_step": 16 * len(points)}
    return messages.make(CLOUD, header=header, fields=fields, is_bigendian=False, data=data, is_dense=True, **shape)


def intensity_of(message: Any) -> npt.NDArray[Any]:
    """Return the intensities (N,) of a cloud as they are stored, to judge their scale; empty where they need no scale."""
    name = _intensity_name(message)
    if name is None or name in COLOUR_FIELDS:
        return np.empty(0)
    values = _column(message, name)
    return np.empty(0) if values.dtype == np.uint8 else values


def cloud_points(message: Any, top: float | None) -> Float32:
    """Return the points (N, 4) float32 of a message: x, y, z in metres, intensity in [0, 1].

    Points whose x, y or z is not finite are left out, as a sensor marks rays without an echo. Without a field for intensities they
    are 0.

    Args:
        message: the PointCloud2.
        top: the intensity that stands for 1; None if it is not known.

    Raises:
        ValueError: fields x, y, z are missing, the bytes are too few, or intensities are on no known scale.
    """
    columns = [_column(message, axis) for axis in "xyz"]
    points = np.zeros((len(columns[0]), 4), np.float32)
    with np.errstate(over="ignore"):
        points[:, 0], points[:, 1], points[:, 2] = columns
    name = _intensity_name(message)
    if name is not None:
        points[:, 3] = _unit(_column(message, name), name, top)
    finite = np.isfinite(points[:, :3])
    return points if finite.all() else points[finite.all(axis=1)]


def _unit(raw: npt.NDArray[Any], name: str, top: float | None) -> Float32:
    """Return intensities or packed colours (N,) in [0, 1]."""
    if name in COLOUR_FIELDS:
        return red_from_rgb(np.ascontiguousarray(raw))
    scale = BYTE_TOP if raw.dtype == np.uint8 and top is None else top
    if scale is None:
        raise ValueError("the scale of the intensities cannot be known; give --intensity-scale, the value that stands for 1")
    return to_unit(raw, scale)[0]


def _intensity_name(message: Any) -> str | None:
    """Return the field that holds the intensity, as the readers of files choose it; None if there is none."""
    names = intensity_fields([field.name.lower() for field in message.fields])
    return names[0] if names else None


def _column(message: Any, name: str) -> npt.NDArray[Any]:
    """Return the values (N,) of a field, as a view of the message's bytes."""
    field = next((field for field in message.fields if field.name.lower() == name), None)
    if field is None:
        raise ValueError(f"expected a field {name}, got {', '.join(field.name for field in message.fields) or 'none'}")
    if field.datatype not in _TYPES:
        raise ValueError(f"field {name}: expected a type from 1 to 8, got {field.datatype}")
    dtype = np.dtype((">" if message.is_bigendian else "<") + _TYPES[field.datatype])
    rows, row_step, step = message.height, message.row_step, message.point_step
    needed = (rows - 1) * row_step + message.width * step if rows and message.width else 0
    if field.offset + dtype.itemsize > step or len(message.data) < needed or (rows > 1 and row_step < message.width * step):
        raise ValueError(
            f"field {name}: {rows} x {message.width} points of {step} bytes and rows of {row_step} do not fit into "
            f"{len(message.data)} bytes"
        )
    if not needed:
        return np.empty(0, dtype)
    grid = np.ndarray((rows, message.width), dtype, message.data, field.offset, (row_step, step))
    column: npt.NDArray[Any] = grid.reshape(math.prod(grid.shape))
    return column.astype(dtype.newbyteorder("="), copy=False)
