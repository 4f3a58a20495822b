"""Reading JSON, YAML and images, so that whatever is wrong with a file ends in one error that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.dataset import DatasetError
from heal.types import Float32, Float64, Sensor, UInt8, require_SE3, require_shape

LIDAR_ONLY: frozenset[Sensor] = frozenset({"lidar"})


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into a DatasetError that names `path`."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(path, "no such file") from error
    except KeyError as error:
        raise DatasetError(path, f"no entry {error}") from error
    except (ValueError, TypeError, OSError) as error:
        raise DatasetError(path, str(error) or type(error).__name__) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; DatasetError if there is none."""
    with naming(path):
        try:
            return json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(path, f"not valid JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; DatasetError if there is none."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with naming(path):
        try:
            return yaml.load(path.read_bytes(), loader)
        except yaml.YAMLError as error:
            raise DatasetError(path, f"not valid YAML: {' '.join(str(error).split())}") from error


def read_image(path: Path) -> UInt8:
    """An image as (H, W, 3) uint8 RGB."""
    return np.asarray(_pixels(path, "RGB"), np.uint8)


def read_depth(path: Path) -> Float32:
    """A depth image as (H, W) float32 metres: OPV2V-H stores whole metres from 0 to 255."""
    return read_grey(path).astype(np.float32)


def read_grey(path: Path) -> UInt8:
    """An image as (H, W) uint8, grey."""
    return _pixels(path, "L")


def as_matrix(name: str, values: Any, shape: tuple[int, ...]) -> Float64:
    """Nested lists of numbers as a float64 array; ValueError unless it has `shape` and is finite."""
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers in shape {shape}") from error
    require_shape(name, matrix, shape)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name}: expected finite numbers, got {matrix.tolist()}")
    return matrix


def as_SE3(name: str, rotation: Any, translation: Any) -> Float64:
    """A rigid transform from a 3x3 rotation and three numbers in any nesting; ValueError if it is not rigid."""
    matrix = np.eye(4)
    matrix[:3, :3] = as_matrix(f"{name} rotation", rotation, (3, 3))
    matrix[:3, 3] = as_vector(f"{name} translation", translation, 3)
    require_SE3(name, matrix)
    return matrix


def as_vector(name: str, values: Any, length: int) -> Float64:
    """Numbers in any nesting as a flat float64 array of `length`; ValueError otherwise."""
    try:
        return as_matrix(name, np.asarray(values, np.float64).reshape(-1), (length,))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected {length} finite numbers, got {values!r}") from error


def _pixels(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with naming(path), Image.open(path) as image:
        return np.asarray(image.convert(mode))
