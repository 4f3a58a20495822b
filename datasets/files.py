"""Read and write JSON, YAML and images; a file that cannot be read raises one error that names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.dataset import DatasetError
from heal.types import Float32, Float64, Sensor, UInt8, require_SE3, require_shape

LIDAR_ONLY: frozenset[Sensor] = frozenset({"lidar"})  # what the readers read by default


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn KeyError, ValueError, TypeError and OSError of the block into a DatasetError that names `path`."""
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
    """Read a JSON file; DatasetError if it is missing or not valid."""
    with errors_naming(path):
        try:
            return json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(path, f"not valid JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file; DatasetError if it is missing or not valid."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with errors_naming(path):
        try:
            return yaml.load(path.read_bytes(), loader)
        except yaml.YAMLError as error:
            raise DatasetError(path, f"not valid YAML: {' '.join(str(error).split())}") from error


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write nested plain values as YAML, with LibYAML's fast dumper if it is installed; make the folder if needed."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    path.write_text(yaml.dump(values, Dumper=dumper, default_flow_style=False), encoding="utf-8")


def read_image(path: Path) -> UInt8:
    """Read an image as (H, W, 3) uint8 RGB."""
    return np.asarray(_read_pixels(path, "RGB"), np.uint8)


def read_depth(path: Path) -> Float32:
    """Read a depth image of OPV2V-H as (H, W) float32 metres; the file stores whole metres from 0 to 255."""
    return read_grey(path).astype(np.float32)


def read_grey(path: Path) -> UInt8:
    """Read an image as (H, W) uint8 grey values."""
    return _read_pixels(path, "L")


def write_image(path: Path, pixels: UInt8) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, compressed for speed and not for size."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=3)


def as_matrix(name: str, values: Any, shape: tuple[int, ...]) -> Float64:
    """Convert nested lists of numbers to a float64 array; ValueError unless it has `shape` and is finite."""
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers in shape {shape}") from error
    require_shape(name, matrix, shape)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name}: expected finite numbers, got {matrix.tolist()}")
    return matrix


def as_SE3(name: str, rotation: Any, translation: Any) -> Float64:
    """Make a 4x4 transform from a 3x3 rotation and three numbers in any nesting; ValueError if it is not rigid."""
    matrix = np.eye(4)
    matrix[:3, :3] = as_matrix(f"{name} rotation", rotation, (3, 3))
    matrix[:3, 3] = as_vector(f"{name} translation", translation, 3)
    require_SE3(name, matrix)
    return matrix


def as_vector(name: str, values: Any, length: int) -> Float64:
    """Convert numbers in any nesting to a flat float64 array; ValueError unless there are `length` finite numbers."""
    try:
        return as_matrix(name, np.asarray(values, np.float64).reshape(-1), (length,))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected {length} finite numbers, got {values!r}") from error


def _read_pixels(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with errors_naming(path), Image.open(path) as image:
        return np.asarray(image.convert(mode))
