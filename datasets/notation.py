"""Convert values as JSON and YAML give them to numbers, text, arrays and poses; ValueError says what was expected and what came."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heal.se3 import pose_to_SE3
from heal.types import Float64, require_SE3, require_shape


def short(value: Any) -> str:
    """Return a value for an error message, in one line and shortened."""
    return " ".join(reprlib.repr(value).split())


def as_mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """Return `value` if it maps keys to values."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected a mapping of keys to values, got {type(value).__name__} {short(value)}")
    return value


def as_mappings(item: str, value: Any) -> Sequence[Mapping[Any, Any]]:
    """Return `value` if it is a list of mappings; `item` is what one of them is called."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of {item}s, got {type(value).__name__} {short(value)}")
    return [as_mapping(f"{item} {index}", entry) for index, entry in enumerate(value)]


def entry_of(name: str, values: Mapping[Any, Any], key: str) -> Any:
    """Return the value of a key."""
    if key not in values:
        raise ValueError(f"{name}: no entry {key!r}")
    return values[key]


def is_blank(value: Any) -> bool:
    """Whether a value says nothing: None, or text without a letter."""
    return value is None or (isinstance(value, str) and not value.strip())


def as_number(name: str, value: Any) -> float:
    """Return a finite number that may be given as text; a blank is 0."""
    if is_blank(value):
        return 0.0
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected a number, got {short(value)}") from error
    if not np.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {number}")
    return number


def as_text(name: str, value: Any) -> str:
    """Return text that may be given as a whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name}: expected text or a whole number, got {short(value)}")
    return str(value).strip()


def as_id(name: str, value: Any) -> int:
    """Return a whole number of 64 bits that may be given as text."""
    try:
        number = int(value)
        whole = not isinstance(value, bool) and (isinstance(value, str) or number == value) and -(2**63) <= number < 2**63
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"{name}: expected a whole number of at most 64 bits as id, got {short(value)}")
    return number


def as_matrix(name: str, values: Any, shape: tuple[int, ...]) -> Float64:
    """Convert nested lists of numbers to a float64 array of `shape` and finite numbers."""
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected numbers in shape {shape}, got {short(values)}") from error
    require_shape(name, matrix, shape)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name}: expected finite numbers, got {short(matrix.tolist())}")
    return matrix


def as_vector(name: str, values: Any, length: int) -> Float64:
    """Convert numbers in any nesting to a flat float64 array of `length` finite numbers."""
    vector = as_any_vector(name, values, length)
    if not np.isfinite(vector).all():
        raise ValueError(f"{name}: expected {length} finite numbers, got {short(values)}")
    return vector


def as_any_vector(name: str, values: Any, length: int) -> Float64:
    """Convert numbers in any nesting to a flat float64 array of `length` numbers, finite or not."""
    try:
        vector = np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        vector = np.zeros(0)
    if len(vector) != length:
        raise ValueError(f"{name}: expected {length} finite numbers, got {short(values)}")
    return vector


def as_SE3(name: str, rotation: Any, translation: Any) -> Float64:
    """Make a 4x4 transform from a 3x3 rotation and three numbers in any nesting; ValueError if it is not rigid or mirrors."""
    matrix = np.eye(4)
    matrix[:3, :3] = as_matrix(f"{name} rotation", rotation, (3, 3))
    matrix[:3, 3] = as_vector(f"{name} translation", translation, 3)
    require_SE3(name, matrix)
    return matrix


def as_pose(name: str, values: Any) -> Float64:
    """Make a 4x4 transform from six numbers (x, y, z in metres; roll, yaw, pitch in degrees) or from a rigid 4x4 matrix."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape == (4, 4):
        require_SE3(name, numbers)
        return numbers
    if numbers.size != 6 or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name}: expected 6 finite numbers (x, y, z, roll, yaw, pitch) or a rigid 4x4 matrix, got {short(values)}"
        )
    return pose_to_SE3(numbers.reshape(-1))
