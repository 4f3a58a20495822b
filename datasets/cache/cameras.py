"""Camera views, and the depth images that belong to them, as entries of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from heal.datasets.cache.entry_file import Entry
from heal.datasets.cache.kept import EntryCodec, require_kinds
from heal.datasets.cache.pixels import Pixels, keep_pixels, kept_pixels
from heal.types import CameraView, Float32

Views = tuple[CameraView, ...]
Depths = tuple[Float32 | None, ...]
_WHOLE_METRES = np.arange(256, dtype=np.float32)


def view_codec(*, packed: bool) -> EntryCodec[Views]:
    """Return the conversion of an agent's views, without depth, whose images are packed or kept as they are; it reads both."""
    return EntryCodec("images", partial(_pack_views, packed=packed), _unpack_views)


def depth_codec(*, packed: bool) -> EntryCodec[Depths]:
    """Return the conversion of the depth images (H, W) in metres of an agent's views, packed or kept as they are; it reads both.

    Whole metres up to 255, as OPV2V-H has them, are kept as bytes. Another image is kept as its different depths, of which images
    of 16 bits have at most 65536, and the number of each pixel's.
    """
    return EntryCodec("depth", partial(_pack_depths, packed=packed), _unpack_depths)


def _pack_views(views: Views, packed: bool) -> Entry:
    values = {"names": [view.name for view in views], "sizes": [view.image.shape[:2] for view in views]}
    parts = ((view.intrinsic, view.agent_SE3_camera, keep_pixels(view.image, packed=packed)) for view in views)
    return Entry(values, tuple(array for part in parts for array in part))


def _unpack_views(entry: Entry) -> Views:
    require_kinds(entry.values, names=list, sizes=list)
    names, sizes = entry.values["names"], _sizes(entry.values["sizes"])
    views = zip(names, sizes, entry.arrays[::3], entry.arrays[1::3], entry.arrays[2::3], strict=True)
    _require_arrays(entry, 3 * len(names))
    return tuple(_unpack_view(*view) for view in views)


def _unpack_view(name: Any, size: tuple[int, int], intrinsic: Pixels, pose: Pixels, image: Pixels) -> CameraView:
    if not isinstance(name, str) or intrinsic.dtype != np.float64 or pose.dtype != np.float64:
        raise TypeError(f"expected a camera's name and float64, got {name}, {intrinsic.dtype} and {pose.dtype}")
    if not np.isfinite(intrinsic).all():
        raise ValueError("a camera matrix is not finite")
    # Copies, because a view of the entry's bytes would keep all of them in memory.
    return CameraView(name, kept_pixels(image, (*size, 3), np.uint8), intrinsic.copy(), pose.copy())


def _pack_depths(depths: Depths, packed: bool) -> Entry:
    arrays = (array for depth_m in depths if depth_m is not None for array in _pack_depth(depth_m, packed))
    return Entry({"sizes": [None if depth_m is None else depth_m.shape for depth_m in depths]}, tuple(arrays))


def _pack_depth(depth_m: Float32, packed: bool) -> tuple[Pixels, Pixels]:
    # As bits, because zeros of both signs are equal as numbers.
    bits, indices = np.unique(np.ascontiguousarray(depth_m).view(np.uint32), return_inverse=True)
    table = bits.view(np.float32)
    if np.isin(bits, _WHOLE_METRES.view(np.uint32)).all():
        return table[:0], keep_pixels(depth_m.astype(np.uint8), packed=packed)
    return table, keep_pixels(indices.reshape(depth_m.shape).astype(_index_type(len(table))), packed=packed)


def _unpack_depths(entry: Entry) -> Depths:
    require_kinds(entry.values, sizes=list)
    there = [size is not None for size in entry.values["sizes"]]
    sizes = _sizes([size for size in entry.values["sizes"] if size is not None])
    _require_arrays(entry, 2 * len(sizes))
    found = map(_unpack_depth, sizes, entry.arrays[::2], entry.arrays[1::2])
    return tuple(next(found) if each else None for each in there)


def _unpack_depth(size: tuple[int, int], table: Pixels, kept: Pixels) -> Float32:
    if table.dtype != np.float32 or table.ndim != 1 or not np.isfinite(table).all():
        raise ValueError(f"expected finite depths (N,) float32, got {table.dtype} of shape {table.shape}")
    if not len(table):
        return kept_pixels(kept, size, np.uint8).astype(np.float32)
    depth_m: Float32 = table.take(kept_pixels(kept, size, _index_type(len(table))))
    return depth_m


def _index_type(count: int) -> np.dtype[Any]:
    """Return the smallest type of the indices of a table, which is not empty."""
    return np.min_scalar_type(count - 1)


def _sizes(values: Sequence[Any]) -> list[tuple[int, int]]:
    """Return heights and widths; TypeError or ValueError for something else."""
    sizes = [(height, width) for height, width in values]
    if not all(type(length) is int for size in sizes for length in size):
        raise TypeError(f"expected heights and widths of images, got {sizes}")
    return sizes


def _require_arrays(entry: Entry, count: int) -> None:
    if len(entry.arrays) != count:
        raise ValueError(f"expected {count} arrays, got {len(entry.arrays)}")
