"""Encode maps and scores as the payload of a message, and decode them; docs/message.md describes the bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heal.grid import block_shape
from heal.message.byte_reader import ALIGNMENT, ByteReader, PayloadError, aligned, compress, decompress
from heal.message.cells import CellOrder, fit
from heal.message.codec import Codec, Values
from heal.message.numbers import read_channels, read_features, read_fill, read_scores, write_features, write_fill, write_scores
from heal.types import BoolMask, Float32, Split

# How many features are spread over a map at once: the map of a message from a stranger is large enough to be there only once.
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The layout of a payload, as its header describes it.

    Attributes:
        split: the side of the link on which the trunk runs.
        values: how a number is stored.
        chosen: only some cells are sent; bitmaps mark them.
        zstd: the payload is compressed.
        shapes: (C, ny, nx) of every map.
        content_bytes: length of the payload before compression.
        covered: the maps are followed by the blocks that the sender's sensors cover, under the feature split.
        free: the payload ends with the cells of the finest map that the sender's LiDAR saw to be empty, where maps are sent.
    """

    split: Split
    values: Values
    chosen: bool
    zstd: bool
    shapes: tuple[tuple[int, int, int], ...]
    content_bytes: int = 0
    covered: bool = False
    free: bool = False

    @staticmethod
    def of(maps: Sequence[Float32], split: Split, codec: Codec, covered: bool = False, free: bool = False) -> Layout:
        """Return the layout that a codec gives to maps (C, ny, nx); the length of the content is not known yet."""
        shapes = tuple((level.shape[0], level.shape[1], level.shape[2]) for level in maps)
        return Layout(split, codec.values, codec.chooses_cells, codec.zstd, shapes, covered=covered, free=free)

    def check_lengths(self, payload_bytes: int) -> None:
        """Raise PayloadError if a payload of this length, as sent, cannot have the layout; the payload itself is not needed."""
        if self.content_bytes > self.max_content_bytes:
            raise PayloadError(f"{self.content_bytes} bytes are too many for maps of the shapes {self.shapes}")
        if not self.zstd and payload_bytes != self.content_bytes:
            raise PayloadError(f"expected a payload of {self.content_bytes} bytes, got {payload_bytes}")

    @property
    def is_view(self) -> bool:
        """Whether maps and scores lie in the payload as plain float32, so that a receiver needs no copy."""
        return self.values == "float32" and not self.chosen and not self.zstd

    @property
    def max_content_bytes(self) -> int:
        """The longest possible payload of these shapes: features, ranges or fill, scores and bitmap, padding."""
        return sum(channels * (4 * ny * nx + 8) + 5 * ny * nx + 3 * ALIGNMENT for channels, ny, nx in self.shapes)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of the blocks of the finest map."""
        return block_shape(*self.shapes[0][1:])


@dataclass(frozen=True)
class _Payload:
    """The bytes to send, and the layout that a receiver needs to read them."""

    layout: Layout
    data: bytes

    def __len__(self) -> int:
        return len(self.data)


def encode(
    maps: Sequence[Float32],
    scores: Sequence[Float32],
    split: Split,
    codec: Codec,
    room_bytes: int | None,
    covered: BoolMask | None = None,
    free: BoolMask | None = None,
) -> tuple[Layout, bytes]:
    """Choose cells, store their values, compress.

    Args:
        maps: per scale (C, ny, nx).
        scores: per scale (ny, nx); needed for the pyramid split, and wherever cells are chosen.
        split: the side of the link on which the trunk runs.
        codec: the format of values, the choice of cells, the compression.
        room_bytes: the longest payload wanted; None for no limit.
        covered: (rows, columns) the blocks that the sender's sensors cover, to be sent too.
        free: (ny, nx) the cells of the finest map that the sender's LiDAR saw to be empty, to be sent too.

    Returns:
        The layout for the header, and the bytes of the payload.
    """
    layout = Layout.of(maps, split, codec, covered is not None, free is not None)
    tail = b"".join(np.packbits(mask, bitorder="little").tobytes() for mask in (covered, free) if mask is not None)

    # The usual background, from all cells: where the fill matters, only few cells are sent.
    with np.errstate(invalid="ignore"):
        fills = [np.median(level, (1, 2)) for level in maps] if layout.chosen and split == "feature" else []

    def pack(masks: Sequence[BoolMask | None]) -> _Payload:
        return _packed(layout, _write_levels(layout, maps, scores, fills, masks) + tail)

    if layout.is_view:
        payload = _packed(layout, _write_view([*maps, *(scores if split == "pyramid" else ())]) + tail)
    elif layout.chosen:
        payload = fit(CellOrder.of(scores, [shape[0] for shape in layout.shapes], split, codec.min_score), room_bytes, pack)
    else:
        payload = pack([None] * len(maps))
    return payload.layout, payload.data


@dataclass(frozen=True)
class Decoded:
    """The content of a payload.

    Attributes:
        maps: per scale (C, ny, nx).
        scores: per scale (ny, nx).
        covered: (rows, columns) the covered blocks, if they were sent.
        free: (ny, nx) the free cells of the finest map, if they were sent.
    """

    maps: tuple[Float32, ...]
    scores: tuple[Float32, ...]
    covered: BoolMask | None
    free: BoolMask | None


def decode(layout: Layout, payload: memoryview) -> Decoded:
    """Read the content of a payload.

    Raises:
        PayloadError: the bytes do not have the layout.
    """
    layout.check_lengths(len(payload))
    content = decompress(payload, layout.content_bytes) if layout.zstd else payload
    reader = ByteReader(content)
    maps, scores = _read_view(layout, reader) if layout.is_view else _read_levels(layout, reader)
    covered = _read_mask(reader, *layout.block_shape) if layout.covered else None
    free = _read_mask(reader, *layout.shapes[0][1:]) if layout.free else None
    reader.finish()
    return Decoded(tuple(maps), tuple(scores), covered, free)


def _packed(layout: Layout, content: bytes) -> _Payload:
    return _Payload(replace(layout, content_bytes=len(content)), compress(content) if layout.zstd else content)


def _write_view(arrays: Sequence[Float32]) -> bytes:
    parts = [np.ascontiguousarray(array, "<f4").tobytes() for array in arrays]
    return b"".join(part.ljust(aligned(len(part)), b"\0") for part in parts)


def _read_view(layout: Layout, reader: ByteReader) -> tuple[list[Float32], list[Float32]]:
    scored = [shape[1:] for shape in layout.shapes if layout.split == "pyramid"]
    arrays = []
    for shape in (*layout.shapes, *scored):
        arrays.append(reader.take("<f4", shape))
        reader.align()
    return arrays[: len(layout.shapes)], arrays[len(layout.shapes) :]


def _write_levels(
    layout: Layout, maps: Sequence[Float32], scores: Sequence[Float32], fills: Sequence[Float32], masks: Sequence[BoolMask | None]
) -> bytes:
    """Return the bytes of all scales, one after the other: bitmap, scores or fill, features; a mask of None sends all cells."""
    parts: list[bytes] = []
    for i, (level, mask) in enumerate(zip(maps, masks, strict=True)):
        if mask is not None:
            parts.append(np.packbits(mask, bitorder="little").tobytes())
        if layout.split == "pyramid":
            parts.append(write_scores(layout.values, _cells(scores[i][None], mask)[0]))
        elif mask is not None:
            parts.append(write_fill(layout.values, fills[i]))
        parts.append(write_features(layout.values, _cells(level, mask)))
    return b"".join(parts)


def _cells(level: Float32, mask: BoolMask | None) -> Float32:
    """Return the sent cells (C, n) of a map (C, ny, nx)."""
    return level.reshape(len(level), -1) if mask is None else level[:, mask]


def _read_levels(layout: Layout, reader: ByteReader) -> tuple[list[Float32], list[Float32]]:
    maps, scores = [], []
    for channels, ny, nx in layout.shapes:
        mask = _read_mask(reader, ny, nx) if layout.chosen else None
        count = ny * nx if mask is None else int(mask.sum())
        fill = np.zeros(channels, np.float32)
        if layout.split == "pyramid":
            found = read_scores(layout.values, reader, count)
            scores.append(found.reshape(ny, nx) if mask is None else _spread([found[None]], mask, np.zeros(1, np.float32))[0])
        elif layout.chosen:
            fill = read_fill(layout.values, reader, channels)
        if mask is None:
            maps.append(read_features(layout.values, reader, channels, count).reshape(channels, ny, nx))
        else:
            at_once = max(_NUMBERS_AT_ONCE // (count or 1), 1)
            maps.append(_spread(read_channels(layout.values, reader, channels, count, at_once), mask, fill))
    return maps, scores


def _spread(parts: Iterable[Float32], mask: BoolMask, fill: Float32) -> Float32:
    """Make a map (C, ny, nx) of the sent cells (some of C, n), which come in parts, and the fill (C) for the others."""
    level: Float32 = np.empty((len(fill), *mask.shape), np.float32)
    level[:] = fill[:, None, None]
    begin = 0
    for cells in parts:
        level[begin : begin + len(cells), mask] = cells
        begin += len(cells)
    return level


def _read_mask(reader: ByteReader, ny: int, nx: int) -> BoolMask:
    bits = np.unpackbits(reader.take("u1", (-(-ny * nx // 8),)), bitorder="little")
    return bits[: ny * nx].reshape(ny, nx).astype(np.bool_)
