"""Pixels in a form that is read several times as fast as a PNG or a JPEG, with the same values to the last bit.

A packed image holds the difference of every row from the row above, modulo the range of its type, compressed by zstd. The time of
zstd's decompression hardly depends on the level. The row above predicts a pixel well, and rows are added many bytes at a time;
better predictions, from the pixel to the left or from other colours, have to be undone one pixel after the other or once more over
the whole image, which takes longer than the saved bytes are worth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.files import MAX_PIXELS

Pixels = npt.NDArray[Any]
MOST_ROWS = 1 << 14  # of a packed image: each takes as long as a step of Python
_LEVEL = 1
_MOST_BYTES = 4 * MAX_PIXELS


def keep_pixels(pixels: Pixels, *, packed: bool) -> Pixels:
    """Return an image in the form that a cache keeps.

    Args:
        pixels: (H, W) or (H, W, 3), of any unsigned type.
        packed: compress it, unless it has more than `MOST_ROWS` rows.

    Returns:
        The image itself, or (N,) uint8.
    """
    return _pack(pixels) if packed and len(pixels) <= MOST_ROWS else pixels


def kept_pixels(kept: Pixels, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pixels:
    """Return the image that `keep_pixels` was given.

    Args:
        kept: the image, or (N,) uint8.
        shape: shape of the image.
        dtype: type of the image, unsigned.

    Raises:
        ValueError: it is no image of this shape and type; raised before more memory than that of an image is allocated.
    """
    wanted = np.dtype(dtype)
    if kept.ndim == 1 and kept.dtype == np.uint8:
        return _unpack(kept, shape, wanted)
    if kept.shape != shape or kept.dtype != wanted:
        raise ValueError(f"expected pixels {wanted} of shape {shape}, got {kept.dtype} of shape {kept.shape}")
    return kept


def _pack(pixels: Pixels) -> Pixels:
    import zstandard

    differences = pixels.astype(pixels.dtype.newbyteorder("<"))
    differences[1:] -= pixels[:-1]
    return np.frombuffer(zstandard.ZstdCompressor(level=_LEVEL).compress(differences.tobytes()), np.uint8)


def _unpack(packed: Pixels, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Pixels:
    size = math.prod(shape) * dtype.itemsize
    if not (len(shape) in (2, 3) and min(shape) >= 0 and shape[0] <= MOST_ROWS and size <= _MOST_BYTES):
        raise ValueError(f"expected the shape of a packed image, got {shape}")
    differences = np.frombuffer(_decompress(packed, size), dtype.newbyteorder("<")).reshape(shape[0], math.prod(shape[1:]))
    pixels = np.empty(shape, dtype)
    rows = pixels.reshape(differences.shape)
    rows[:1] = differences[:1]
    # numpy's own running sum along the first axis takes up to twenty times as long.
    for above, difference, row in zip(rows, differences[1:], rows[1:], strict=False):
        np.add(above, difference, out=row)
    return pixels


def _decompress(packed: Pixels, size: int) -> bytes:
    """Return the content of a zstd frame of a given size; ValueError for any other bytes."""
    import zstandard

    try:
        claimed = zstandard.get_frame_parameters(packed.data).content_size
        if claimed != size:
            raise ValueError(f"expected an image of {size} bytes, got {claimed}")
        return bytes(zstandard.ZstdDecompressor().decompress(packed.data, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise ValueError(f"not a packed image: {error}") from error
