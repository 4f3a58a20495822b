"""Read and write JSON, YAML and images; a file that cannot be read raises one error that names the file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.errors import UserError
from heal.safe_yaml import read_safely
from heal.types import Float32, Sensor, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

LIDAR_ONLY: frozenset[Sensor] = frozenset({"lidar"})  # what the readers read by default
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 1 << 23  # of an image; 4K has 8.3 million
_FORMATS = ("PNG", "JPEG")  # Pillow knows some forty others, and starts a program for one of them
_MAX_SCANS, _SCAN = 50, b"\xff\xda"  # of a JPEG; some bytes are a scan, which takes the time of a look at every pixel
PNG_COMPRESSION = 3  # for speed, not for size
JPEG_QUALITY = 95
METADATA_ENDINGS = (".yaml", ".json")
WHOLE_METRES = 1.0  # the step of OPV2V-H's depth images, in metres
FINEST_DEPTH_M = 0.01  # 65535 steps of it still reach 655 m
_DEPTH_STEP = "depth_step_m"  # text entry of a depth image of 16 bits: the metres that a grey value of 1 stands for


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
            return read_safely(path.read_bytes())
        except yaml.YAMLError as error:
            raise DatasetError(path, f"not valid YAML: {' '.join(str(error).split())}") from error


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
    """Read a depth image as (H, W) float32 metres.

    OPV2V-H stores whole metres from 0 to 255 as grey values of 8 bits. Grey values of 16 bits are multiples of the step that the
    file itself names, as `write_depth` writes them; a file of 16 bits that names no step is refused.
    """
    with _opened_image(path) as image:
        if image.mode == "L":
            return np.asarray(image).astype(np.float32)
        if not _has_16_bits(image):
            raise ValueError(f"expected 8-bit grey values (mode L), got mode {image.mode}")
        depth_m: Float32 = np.multiply(np.asarray(image), _depth_step(image), dtype=np.float64).astype(np.float32)
        return depth_m


def _depth_step(image: Image) -> float:
    """Return the metres that a grey value of 1 stands for, as a depth image names them; ValueError if it does not."""
    named = image.info.get(_DEPTH_STEP)
    if named is None:
        raise ValueError(f"expected 8-bit grey values (mode L), got mode {image.mode} without the text entry {_DEPTH_STEP}")
    try:
        step_m = float(named)
    except (TypeError, ValueError):
        raise ValueError(f"expected a step of depth in metres as the text entry {_DEPTH_STEP}, got {named!r}") from None
    require_depth_step(step_m)
    return step_m


def write_depth(path: Path, depth_m: Float32, step_m: float = WHOLE_METRES) -> None:
    """Write depths (H, W) in metres as PNG, each rounded to a multiple of `step_m`; greater depths become the greatest multiple.

    Whole metres are written as OPV2V-H has them: as 8-bit grey values, up to 255 m. Multiples of a finer step are written as 16-bit
    grey values with the text entry `depth_step_m`, the step in metres.
    """
    from PIL.Image import fromarray
    from PIL.PngImagePlugin import PngInfo

    require_depth_step(step_m)
    if step_m == WHOLE_METRES:
        write_image(path, np.clip(np.rint(depth_m), 0, 255).astype(np.uint8))
        return
    steps, entries = np.clip(np.rint(depth_m.astype(np.float64) / step_m), 0, 65535).astype(np.uint16), PngInfo()
    entries.add_text(_DEPTH_STEP, repr(float(step_m)))
    fromarray(steps).save(path, compress_level=PNG_COMPRESSION, pnginfo=entries)


def require_depth_step(step_m: float) -> None:
    """Raise UserError if depth cannot be written in multiples of `step_m` metres."""
    if not FINEST_DEPTH_M <= step_m <= WHOLE_METRES:
        raise UserError(f"expected a step of depth from {FINEST_DEPTH_M:g} to {WHOLE_METRES:g} m, got {step_m:g}")


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

    Image.fromarray(pixels).save(path, compress_level=PNG_COMPRESSION)


def decode_image(content: bytes) -> UInt8:
    """Return the pixels (H, W, 3) uint8 RGB of a PNG or JPEG in memory; ValueError or OSError if it is damaged."""
    with _image_in(content) as image:
        return np.asarray(_in_bytes(image).convert("RGB"), np.uint8)


def encode_image(pixels: UInt8, form: Literal["png", "jpeg"]) -> bytes:
    """Return an image (H, W, 3) uint8 RGB as PNG, which loses nothing, or as JPEG of quality 95."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, compress_level=PNG_COMPRESSION, quality=JPEG_QUALITY)
    return content.getvalue()


def _read_pixels(path: Path, mode: str) -> UInt8:
    """Read an image in a mode of Pillow; DatasetError if it is missing, damaged or too large."""
    with _opened_image(path) as image:
        return np.asarray(_in_bytes(image).convert(mode))


@contextmanager
def _opened_image(path: Path) -> Iterator[Image]:
    """Open an image; a missing or damaged file, and a ValueError of the block, become a DatasetError that names it."""
    with errors_naming(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise DatasetError(path, missing_cause(path)) from error
        with _image_in(content) as image:
            yield image


@contextmanager
def _image_in(content: bytes) -> Iterator[Image]:
    """Open an image in memory; ValueError or OSError if it is damaged."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _require_bounded(image, content)
            yield image
    except UnidentifiedImageError as error:
        problem = f"cannot identify image file, expected {' or '.join(_FORMATS)}"
        raise ValueError(f"not a readable image: {problem}") from error
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image: {error}") from error


def _require_bounded(image: Image, content: bytes) -> None:
    """Raise ValueError for an image, opened from `content`, that takes far more time or memory than those of cameras."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    # Within a scan a marker's first byte is never followed by another marker's second one, so that none is counted too much.
    if image.format != "PNG" and (scans := content.count(_SCAN)) > _MAX_SCANS:
        raise ValueError(f"expected at most {_MAX_SCANS} scans, got {scans}")


def _has_16_bits(image: Image) -> bool:
    """Whether an image has grey values of 16 bits; older versions of Pillow read them as 32 bits."""
    return image.mode.startswith("I")


def _in_bytes(image: Image) -> Image:
    """Return an image with 8 bits a channel. Pillow would cut off all values above 255."""
    from PIL.Image import fromarray

    if not _has_16_bits(image):
        return image
    # Rounded up, so that no mark of a visibility map becomes 0.
    values = np.asarray(image).astype(np.uint32)
    values += 256
    values //= 257
    return fromarray(values.astype(np.uint8))
