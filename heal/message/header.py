"""The header of a message: sender, time, pose, base, grid and the layout of the payload. It is read before the payload is decoded.

The header of format version 2, little-endian; docs/message.md describes what follows it, byte by byte:

    offset  size  field
    0       4     magic "HEAL"
    4       2     format version
    6       1     split: 1 = feature, 2 = pyramid, 3 = boxes, 4 = points
    7       1     values: 1 = float32, 2 = float16, 3 = int8, 4 = int4
    8       4     length of the header in bytes, padding included
    12      4     CRC-32 of the bytes 0..12 and 16..end
    16      8     length of the payload in bytes, as sent
    24      8     timestamp, ns (signed)
    32      128   world_SE3_agent as measured by the sender, 16 float64, row by row
    160     56    grid: x_min, y_min, z_min, x_max, y_max, z_max, cell edge in metres, 7 float64
    216     16    coverage in x and y, 2 float64, zeros for none
    232     8     length of the payload in bytes before compression
    240     1     flags: 1 = only some cells are sent, 2 = the payload is compressed with zstd, 4 = covered blocks are sent,
                  8 = the map is a compressor's, 16 = free cells are sent
    241     1     number of maps, L
    242     6     lengths of the three strings
    248     12 L  C, ny, nx of every map; of a list of items: numbers of an item, 1, number of items
    ...     ...   agent id, agent type, base hash, UTF-8; with flag 8 the compressor's SHA-256; zeros up to a multiple of 64 bytes,
                  where the payload starts
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from heal.grid import MAX_CELLS, BevGrid
from heal.message.byte_reader import PayloadError, aligned
from heal.message.codec import VALUES, Values
from heal.message.items import ITEM_NUMBERS, require_items
from heal.message.payload import Layout
from heal.types import MAP_SPLITS, SPLITS, Float64, Split, require_SE3

try:
    # The same checksum in a seventh of the time. With zlib it was a fifth of the time that a message costs its receiver.
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

MAGIC = b"HEAL"
FORMAT_VERSION = 2

Buffer: TypeAlias = "bytes | bytearray | memoryview | np.ndarray[tuple[int], np.dtype[np.uint8]]"
Shape: TypeAlias = tuple[int, int, int]

_PREAMBLE = struct.Struct("<4sHBBII")
_BODY = struct.Struct("<Qq16d7d2dQBB3H")
_SHAPE = struct.Struct("<3I")
_FIXED_BYTES = _PREAMBLE.size + _BODY.size
_CHECKSUM_AT = 12
_SOME_CELLS, _ZSTD, _COVERED, _COMPRESSOR, _FREE = 1, 2, 4, 8, 16
_COMPRESSOR_HASH_BYTES = 32
_MAX_STRING_BYTES = 1024
MAX_MAPS = 8
# 64 MiB of float32; the paper's largest pyramid has 3.7 million numbers. The limits bound the memory that a few bytes can claim:
# of a map of which no cell is sent, scores and masks are made besides the numbers, and of items several copies.
MAX_NUMBERS = 1 << 24
MAX_ITEMS = 1 << 20


class MessageError(ValueError):
    """Bytes that are no message of this format; the text names the expected and the received content."""


@dataclass(frozen=True, eq=False)
class MessageOrigin:
    """The origin of feature maps: their sender, time, pose and grid, and the base that they belong to.

    Attributes:
        agent_id: the sender.
        agent_type: its type, such as "m1".
        base_hash: content hash of the base that the maps are aligned to.
        timestamp_ns: the time of the measurements.
        world_SE3_agent: (4, 4) float64, the pose that the sender measured.
        grid: the grid of the finest map, in the sender's frame.
        coverage: the grid's range divided by the range of the sender's sensors, in x and y; None if the sensors cover the grid.
        compressor: content hash of the compressor whose encoder has made the map, 64 hexadecimal digits; "" for a plain map.
    """

    agent_id: str
    agent_type: str
    base_hash: str
    timestamp_ns: int
    world_SE3_agent: Float64
    grid: BevGrid
    coverage: tuple[float, float] | None = field(default=None, kw_only=True)
    compressor: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        """Check the pose, the coverage and the strings."""
        require_SE3("Message.world_SE3_agent", self.world_SE3_agent)
        if self.coverage is not None and not all(math.isfinite(ratio) and ratio > 0 for ratio in self.coverage):
            raise ValueError(f"Message.coverage: expected two positive ratios, got {self.coverage}")
        for name in ("agent_id", "agent_type", "base_hash"):
            if not 0 < (length := len(getattr(self, name).encode())) <= _MAX_STRING_BYTES:
                raise ValueError(f"Message.{name}: expected 1 to {_MAX_STRING_BYTES} bytes of UTF-8, got {length}")
        if self.compressor and not re.fullmatch("[0-9a-f]{64}", self.compressor):
            raise ValueError(f"Message.compressor: expected a SHA-256 of 64 hexadecimal digits, got {self.compressor!r}")


@dataclass(frozen=True, eq=False)
class Header(MessageOrigin):
    """Everything that a message says without its payload.

    Attributes:
        layout: of the payload, with the split and the shapes of all maps.
    """

    layout: Layout

    @property
    def length_bytes(self) -> int:
        """Length of the header in bytes, padding included."""
        strings = sum(len(text.encode()) for text in (self.agent_id, self.agent_type, self.base_hash))
        strings += len(self.compressor) // 2
        return aligned(_FIXED_BYTES + _SHAPE.size * len(self.layout.shapes) + strings)

    @property
    def _flags(self) -> int:
        layout = self.layout
        flags = _SOME_CELLS * layout.chosen | _ZSTD * layout.zstd | _COVERED * layout.covered | _FREE * layout.free
        return flags | _COMPRESSOR * bool(self.compressor)

    def to_bytes(self, payload: bytes) -> bytes:
        """Return the bytes of the whole message: this header, with the checksum, and its payload."""
        layout, header_bytes = self.layout, self.length_bytes
        strings = [text.encode() for text in (self.agent_id, self.agent_type, self.base_hash)]
        body = _BODY.pack(
            len(payload),
            self.timestamp_ns,
            *self.world_SE3_agent.reshape(-1).tolist(),
            *self.grid.range_m,
            self.grid.cell_m,
            *(self.coverage or (0.0, 0.0)),
            layout.content_bytes,
            self._flags,
            len(layout.shapes),
            *map(len, strings),
        )
        shapes = [_SHAPE.pack(*shape) for shape in layout.shapes]
        rest = b"".join([body, *shapes, *strings, bytes.fromhex(self.compressor)]).ljust(header_bytes - _PREAMBLE.size, b"\0")
        codes = SPLITS.index(layout.split) + 1, VALUES.index(layout.values) + 1
        start = struct.pack("<4sHBBI", MAGIC, FORMAT_VERSION, *codes, header_bytes)
        checksum = crc32(payload, crc32(rest, crc32(start)))
        return b"".join([start, struct.pack("<I", checksum), rest, payload])


@dataclass(frozen=True, eq=False)
class UnreadMessage:
    """A received message whose header has been read and whose payload has not.

    Attributes:
        header: the header.
        payload: the bytes of the payload, read-only; nothing is known of them but their length and their checksum.
    """

    header: Header
    payload: memoryview

    @staticmethod
    def of(buffer: Buffer) -> UnreadMessage:
        """Check the frame of a message and read its header; nothing is allocated for maps.

        Raises:
            MessageError: `buffer` does not begin with a header of this format version, its checksum is wrong, or its length is not
                that of the payload that the header describes.
        """
        view = byte_view(buffer)
        split, values, header_bytes = _check_frame(view)
        payload_bytes, timestamp_ns, *numbers = _BODY.unpack_from(view, _PREAMBLE.size)
        pose, geometry, covered = numbers[:16], numbers[16:23], numbers[23:25]
        content_bytes, flags, count, *lengths = numbers[25:]
        if payload_bytes != len(view) - header_bytes:
            raise MessageError(
                f"message of {len(view)} bytes: expected a payload of {payload_bytes} after {header_bytes} of header"
            )
        _check_flags(flags, split)
        shapes = _shapes(view[_FIXED_BYTES:header_bytes], count, may_be_empty=split in ITEM_NUMBERS)
        tail = view[_FIXED_BYTES + _SHAPE.size * count : header_bytes]
        agent_id, agent_type, base_hash = _strings(tail, lengths)
        compressor = _compressor_hash(tail[sum(lengths) :]) if flags & _COMPRESSOR else ""
        some, packed, covered_sent, free_sent = (bool(flags & flag) for flag in (_SOME_CELLS, _ZSTD, _COVERED, _FREE))
        layout = Layout(split, values, some, packed, shapes, content_bytes, covered_sent, free_sent)
        try:
            layout.check_lengths(payload_bytes)
            require_items(layout)
            world_SE3_agent = np.array(pose, dtype=np.float64).reshape(4, 4)
            grid, coverage = _grid(geometry), (covered[0], covered[1]) if any(covered) else None
            with np.errstate(over="ignore", invalid="ignore"):
                origin = agent_id, agent_type, base_hash, timestamp_ns, world_SE3_agent, grid
                header = Header(*origin, layout, coverage=coverage, compressor=compressor)
        except (PayloadError, ValueError, OverflowError) as error:
            raise MessageError(f"message of agent {agent_id!r}: {error}") from error
        return UnreadMessage(header, view[header_bytes:])


def byte_view(buffer: Buffer) -> memoryview:
    """Return received bytes as a read-only view, without copying them."""
    return memoryview(buffer.data if isinstance(buffer, np.ndarray) else buffer).toreadonly().cast("B")


def _check_frame(view: memoryview) -> tuple[Split, Values, int]:
    """Check length, magic, version, codes and checksum; return split, values and the length of the header."""
    if len(view) < _FIXED_BYTES:
        raise MessageError(f"truncated message: expected at least {_FIXED_BYTES} bytes, got {len(view)}")
    magic, version, split, values, header_bytes, checksum = _PREAMBLE.unpack_from(view)
    if magic != MAGIC:
        raise MessageError(f"not a message: expected the first bytes {MAGIC!r}, got {magic!r}")
    if version != FORMAT_VERSION:
        raise MessageError(f"message format version {version}: this program reads version {FORMAT_VERSION}")
    if not (1 <= split <= len(SPLITS) and 1 <= values <= len(VALUES)):
        raise MessageError(f"unknown split {split} or values {values}: this program reads {SPLITS} and {VALUES}, from 1 on")
    if not _FIXED_BYTES <= header_bytes <= len(view) or header_bytes != aligned(header_bytes):
        raise MessageError(f"truncated message: the header claims {header_bytes} bytes of {len(view)}")
    actual = crc32(view[_CHECKSUM_AT + 4 :], crc32(view[:_CHECKSUM_AT]))
    if actual != checksum:
        raise MessageError(f"damaged message: checksum {actual:#010x}, expected {checksum:#010x}")
    return SPLITS[split - 1], VALUES[values - 1], int(header_bytes)


def _check_flags(flags: int, split: Split) -> None:
    known = _SOME_CELLS | _ZSTD | (_FREE if split in MAP_SPLITS else 0) | (_COVERED | _COMPRESSOR if split == "feature" else 0)
    if flags & ~known:
        raise MessageError(
            f"unknown flags {flags:#x}: this program reads {_SOME_CELLS} (cells), {_ZSTD} (zstd), where maps are sent {_FREE} "
            f"(free cells) and, under the feature split, {_COVERED} (covered blocks) and {_COMPRESSOR} (compressor)"
        )


def _shapes(tail: memoryview, count: int, *, may_be_empty: bool) -> tuple[Shape, ...]:
    if not 1 <= count <= MAX_MAPS or count * _SHAPE.size > len(tail):
        raise MessageError(f"expected 1 to {MAX_MAPS} maps with their shapes in the header, got {count} in {len(tail)} bytes")
    shapes = tuple(_SHAPE.unpack_from(tail, i * _SHAPE.size) for i in range(count))
    is_empty = not may_be_empty and any(0 in shape for shape in shapes)
    most_cells = MAX_ITEMS if may_be_empty else MAX_CELLS
    if is_empty or sum(map(math.prod, shapes)) > MAX_NUMBERS or any(ny * nx > most_cells for _, ny, nx in shapes):
        raise MessageError(
            f"maps of the shapes {shapes}: expected none empty, at most {most_cells} cells or items in each, and at most "
            f"{MAX_NUMBERS} numbers together"
        )
    return shapes


def _strings(tail: memoryview, lengths: list[int]) -> list[str]:
    if sum(lengths) > len(tail):
        raise MessageError(f"header strings of {lengths} bytes do not fit into the {len(tail)} bytes left for them")
    texts, start = [], 0
    for length in lengths:
        try:
            texts.append(bytes(tail[start : start + length]).decode())
        except UnicodeDecodeError as error:
            raise MessageError(f"a header string is not UTF-8: {error}") from error
        start += length
    return texts


def _compressor_hash(tail: memoryview) -> str:
    if len(tail) < _COMPRESSOR_HASH_BYTES:
        raise MessageError(f"the {_COMPRESSOR_HASH_BYTES} bytes of a compressor's hash do not fit into the {len(tail)} bytes left")
    return tail[:_COMPRESSOR_HASH_BYTES].hex()


def _grid(geometry: list[float]) -> BevGrid:
    if not all(map(math.isfinite, geometry)):
        raise ValueError(f"expected a finite grid, got {geometry}")
    x_min, y_min, z_min, x_max, y_max, z_max, cell_m = geometry
    return BevGrid((x_min, y_min, z_min, x_max, y_max, z_max), cell_m)
