"""Read and write JSON, YAML and images; a file that cannot be read raises one error that names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.numpy_yaml import add_numpy_constructors
from heal.types import Float32, Sensor, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

LIDAR_ONLY: frozenset[Sensor] = frozenset({"lidar"})  # what the readers read by default
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
METADATA_ENDINGS = (".yaml", ".json")


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn errors of the block that the content of a file can cause, and errors of the disk, into a DatasetError naming `path`."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(path, "no such file") from error
    except KeyError as error:
        raise DatasetError(path, f"no entry {error}") from error
    except RecursionError as error:
        raise DatasetError(path, "its values are nested too deeply") from error
    except OSError as error:
        raise DatasetError(path, error.strerror or str(error) or type(error).__name__) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise DatasetError(path, str(error) or type(error).__name__) from error


def read_json(path: Path) -> Any:
    """Read a JSON file; DatasetError if it is missing or not valid."""
    with errors_naming(path):
        try:
            return json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(path, f"not valid JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file, numpy values in it as plain ones; DatasetError if it is missing or not valid."""
    import yaml

    with errors_naming(path):
        try:
            return yaml.load(path.read_bytes(), _yaml_loader())
        except yaml.YAMLError as error:
            raise DatasetError(path, f"not valid YAML: {' '.join(str(error).split())}") from error


@cache
def _yaml_loader() -> Any:
    """Return LibYAML's fast safe loader if it is installed, with constructors for numpy values."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    add_numpy_constructors(Loader)
    return Loader


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write nested plain values as YAML, with LibYAML's fast dumper if it is installed; make the folder if needed."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    path.write_text(yaml.dump(values, Dumper=dumper, default_flow_style=False), encoding="utf-8")


def read_image(path: Path) -> UInt8:
    """Read an image of 8 or 16 bits a channel as (H, W, 3) uint8 RGB."""
    return np.asarray(_read_pixels(path, "RGB"), np.uint8)


def read_depth(path: Path) -> Float32:
    """Read a depth image of OPV2V-H as (H, W) float32 metres; the file stores whole metres from 0 to 255 as 8-bit grey values."""
    return _read_pixels(path, "L", only="L").astype(np.float32)


def read_grey(path: Path) -> UInt8:
    """Read an image of 8 or 16 bits as (H, W) uint8 grey values."""
    return _read_pixels(path, "L")


def find_file(path: Path, endings: Sequence[str]) -> Path:
    """Return `path` or, if only that exists, the file beside it that differs in the ending alone: one of `endings`, in any case."""
    if path.exists():
        return path
    others = (path.with_suffix(spelled) for ending in endings for spelled in (ending, ending.upper()))
    return next((other for other in others if other.exists()), path)


def missing_cause(path: Path) -> str:
    """Return that a file is missing, and which files of the same name with other endings are there instead."""
    there = sorted(other.name for other in path.parent.iterdir() if other.stem == path.stem) if path.parent.is_dir() else []
    there = [name for name in there if not name.endswith(METADATA_ENDINGS)]
    return f"no such file; {', '.join(there)} is there" if there else "no such file"


def write_image(path: Path, pixels: UInt8) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, compressed for speed and not for size."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=3)


def _read_pixels(path: Path, mode: str, only: str | None = None) -> UInt8:
    """Read an image in a mode of Pillow; DatasetError if it is missing, damaged, too deep, or not stored in the mode `only`."""
    from PIL import Image

    with errors_naming(path):
        try:
            with Image.open(path) as image:
                if only not in (None, image.mode):
                    raise ValueError(f"expected 8-bit grey values (mode {only}), got mode {image.mode}")
                return np.asarray(_in_bytes(image).convert(mode))
        except FileNotFoundError as error:
            raise DatasetError(path, missing_cause(path)) from error
        except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DatasetError(path, f"not a readable image: {error}") from error


def _in_bytes(image: Image) -> Image:
    """Return an image with 8 bits a channel; ValueError if it has more than 16. Pillow would cut off all values above 255."""
    from PIL.Image import fromarray

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Rounded up, so that no mark of a visibility map becomes 0.
        return fromarray((-(-np.asarray(image).astype(np.int64) // 257)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"expected 8 or 16 bits a channel, got 32 (mode {image.mode})")
    return image
