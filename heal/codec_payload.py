"""Maps and scores to the bytes after a message's header, and back; docs/message.md describes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.codec import Codec, Split, Values
from heal.codec_cells import CellOrder, Mask, fit
from heal.types import Float32

ALIGNMENT = 64
_SCORE_FLOOR = 1e-4
_FLOAT16_MAX = 65504.0
_ZSTD_LEVEL = 9

Array = npt.NDArray[Any]


class PayloadError(ValueError):
    """Bytes that are no payload of their layout."""


@dataclass(frozen=True)
class Layout:
    """What a header says of the payload.

    Attributes:
        split: where the trunk computes.
        values: how a number is stored.
        chosen: only some cells are sent, and bitmaps say which.
        zstd: the payload is compressed.
        shapes: (C, ny, nx) of every map.
        content_bytes: length of the payload before compression.
    """

    split: Split
    values: Values
    chosen: bool
    zstd: bool
    shapes: tuple[tuple[int, int, int], ...]
    content_bytes: int

    @property
    def is_view(self) -> bool:
        """Maps and scores lie in the payload as they are."""
        return self.values == "float32" and not self.chosen and not self.zstd

    @property
    def max_content_bytes(self) -> int:
        """No payload of these shapes is longer."""
        return sum(channels * (4 * ny * nx + 16) + 5 * ny * nx + 2 * ALIGNMENT for channels, ny, nx in self.shapes)


def encode(
    maps: Sequence[Float32], scores: Sequence[Float32], split: Split, codec: Codec, room_bytes: int | None
) -> tuple[Layout, bytes]:
    """Choose cells, store their values, compress.

    Args:
        maps: per scale (C, ny, nx).
        scores: per scale (ny, nx); needed for the pyramid, and wherever cells are chosen.
        split: where the trunk computes.
        codec: how to write.
        room_bytes: the payload is to be no longer, if possible.
    """
    shapes = tuple((level.shape[0], level.shape[1], level.shape[2]) for level in maps)
    layout = Layout(split, codec.values, codec.chooses_cells, codec.zstd, shapes, 0)
    if layout.is_view:
        content = _join_aligned([*maps, *(scores if split == "pyramid" else ())])
        return _sized(layout, content), content
    if not layout.chosen:
        content = _content(layout, maps, scores, [np.ones(shape[1:], np.bool_) for shape in shapes])
        return _sized(layout, content), _compressed(layout, content)
    sizes: dict[int, int] = {}

    def attempt(masks: tuple[Mask, ...]) -> bytes:
        content = _content(layout, maps, scores, masks)
        payload = _compressed(layout, content)
        sizes[id(payload)] = len(content)
        kept.append(payload)
        return payload

    kept: list[bytes] = []
    payload = fit(CellOrder.of(scores, codec.min_score), room_bytes, attempt)
    return Layout(split, codec.values, True, codec.zstd, shapes, sizes[id(payload)]), payload


def _sized(layout: Layout, content: bytes) -> Layout:
    return Layout(layout.split, layout.values, layout.chosen, layout.zstd, layout.shapes, len(content))


def _join_aligned(arrays: Sequence[Float32]) -> bytes:
    parts = [np.ascontiguousarray(array, "<f4").tobytes() for array in arrays]
    return b"".join(part.ljust(aligned(len(part)), b"\0") for part in parts)


def _compressed(layout: Layout, content: bytes) -> bytes:
    if not layout.zstd:
        return content
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(content)


def _content(layout: Layout, maps: Sequence[Float32], scores: Sequence[Float32], masks: Sequence[Mask]) -> bytes:
    parts: list[bytes] = []
    for i, (level, mask) in enumerate(zip(maps, masks, strict=True)):
        if layout.chosen:
            parts.append(np.packbits(mask.reshape(-1), bitorder="little").tobytes())
        if layout.split == "pyramid":
            parts.append(_write_scores(layout.values, scores[i][mask]))
        elif layout.chosen:
            parts.append(_fill(level, mask).astype("<f4").tobytes())
        parts.append(_write_values(layout.values, level[:, mask]))
    return b"".join(parts)


def _fill(level: Float32, mask: Mask) -> Float32:
    rest = level[:, ~mask]
    return rest.mean(1, dtype=np.float64).astype(np.float32) if rest.shape[1] else np.zeros(len(level), np.float32)


def _write_scores(values: Values, scores: Float32) -> bytes:
    if values == "float32":
        return scores.astype("<f4").tobytes()
    if values == "float16":
        return np.where(scores > 0, np.maximum(scores, _SCORE_FLOOR), 0).astype("<f2").tobytes()
    steps = 1 + np.rint(np.clip(scores - _SCORE_FLOOR, 0, 1) * 254)
    return np.where(scores > 0, steps, 0).astype(np.uint8).tobytes()


def _write_values(values: Values, cells: Float32) -> bytes:
    if values == "float32":
        return cells.astype("<f4").tobytes()
    if values == "float16":
        return np.clip(cells, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2").tobytes()
    if not cells.size:
        return np.zeros((2, len(cells)), "<f4").tobytes()
    low, high = cells.min(1), cells.max(1)
    step = ((high.astype(np.float64) - low) / 255).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        counted = np.rint((cells.astype(np.float64) - low[:, None]) / np.where(step > 0, step, 1)[:, None])
        counted = np.clip(np.nan_to_num(counted), 0, 255).astype(np.uint8)
    return np.stack([low, step]).astype("<f4").tobytes() + counted.tobytes()


def decode(layout: Layout, payload: memoryview) -> tuple[tuple[Float32, ...], tuple[Float32, ...]]:
    """Maps and scores; PayloadError for anything that `encode` does not write."""
    if layout.content_bytes > layout.max_content_bytes:
        raise PayloadError(
            f"{layout.content_bytes} bytes are claimed, but maps of {layout.shapes} take at most {layout.max_content_bytes}"
        )
    content = _decompressed(layout, payload)
    if len(content) != layout.content_bytes:
        raise PayloadError(f"expected a payload of {layout.content_bytes} bytes, got {len(content)}")
    reader = _Reader(content)
    result = _read_view(layout, reader) if layout.is_view else _read_levels(layout, reader)
    reader.finish()
    return result


def _decompressed(layout: Layout, payload: memoryview) -> memoryview:
    if not layout.zstd:
        return payload
    import zstandard

    try:
        if zstandard.get_frame_parameters(payload).content_size != layout.content_bytes:
            raise PayloadError(f"the compressed payload does not hold the {layout.content_bytes} bytes that the header claims")
        return memoryview(zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise PayloadError(f"the payload cannot be decompressed: {error}") from error


class _Reader:
    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def take(self, dtype: str, shape: tuple[int, ...]) -> Array:
        kind = np.dtype(dtype)
        length = kind.itemsize * math.prod(shape)
        if self._at + length > len(self._content):
            raise PayloadError(f"truncated payload: {self._at + length} bytes are needed, there are {len(self._content)}")
        array = np.frombuffer(self._content[self._at : self._at + length], kind).reshape(shape)
        self._at += length
        return array

    def align(self) -> None:
        self._at = aligned(self._at)

    def finish(self) -> None:
        if self._at != len(self._content):
            raise PayloadError(f"payload of {len(self._content)} bytes: expected {self._at}")


def _read_view(layout: Layout, reader: _Reader) -> tuple[tuple[Float32, ...], tuple[Float32, ...]]:
    wanted = [*layout.shapes, *(shape[1:] for shape in layout.shapes if layout.split == "pyramid")]
    arrays = []
    for shape in wanted:
        arrays.append(reader.take("<f4", shape))
        reader.align()
    count = len(layout.shapes)
    return tuple(arrays[:count]), tuple(arrays[count:])


def _read_levels(layout: Layout, reader: _Reader) -> tuple[tuple[Float32, ...], tuple[Float32, ...]]:
    maps, scores = [], []
    for channels, ny, nx in layout.shapes:
        mask = _read_mask(layout, reader, ny, nx)
        count = int(mask.sum())
        level = np.zeros((channels, ny, nx), np.float32)
        if layout.split == "pyramid":
            found = np.zeros((ny, nx), np.float32)
            found[mask] = _read_scores(layout.values, reader, count)
            scores.append(found)
        elif layout.chosen:
            level[:] = reader.take("<f4", (channels,))[:, None, None]
        level[:, mask] = _read_values(layout.values, reader, channels, count)
        maps.append(level)
    return tuple(maps), tuple(scores)


def _read_mask(layout: Layout, reader: _Reader, ny: int, nx: int) -> Mask:
    if not layout.chosen:
        return np.ones((ny, nx), np.bool_)
    bits = np.unpackbits(reader.take("u1", (-(-ny * nx // 8),)), bitorder="little")
    return bits[: ny * nx].reshape(ny, nx).astype(np.bool_)


def _read_scores(values: Values, reader: _Reader, count: int) -> Float32:
    if values == "int8":
        steps = reader.take("u1", (count,)).astype(np.float32)
        return np.where(steps > 0, (steps - 1) / np.float32(254) + np.float32(_SCORE_FLOOR), np.float32(0)).astype(np.float32)
    return reader.take("<f4" if values == "float32" else "<f2", (count,)).astype(np.float32)


def _read_values(values: Values, reader: _Reader, channels: int, count: int) -> Float32:
    if values != "int8":
        return reader.take("<f4" if values == "float32" else "<f2", (channels, count)).astype(np.float32)
    low, step = reader.take("<f4", (2, channels))
    if not (np.isfinite(low).all() and np.isfinite(step).all()):
        raise PayloadError("a channel's range is not finite")
    return reader.take("u1", (channels, count)).astype(np.float32) * step[:, None] + low[:, None]


def aligned(length: int) -> int:
    """The next multiple of 64."""
    return -(-length // ALIGNMENT) * ALIGNMENT
