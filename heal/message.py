"""The message an agent sends: a header (who, where, when, for which base) and its feature map, to bytes and back.

Layout of format version 1, little-endian; the payload starts on a multiple of 64 bytes:

    offset  size  field
    0       4     magic "HEAL"
    4       2     format version
    6       2     codec of the payload: 1 = float32, channel by channel, row by row
    8       4     length of the header in bytes, padding included
    12      4     CRC-32 of the bytes 0..12 and 16..end
    16      8     length of the payload in bytes
    24      8     timestamp, ns (signed)
    32      128   world_SE3_agent as measured by the sender, 16 float64, row by row
    160     56    grid: x_min, y_min, z_min, x_max, y_max, z_max, cell edge in metres, 7 float64
    216     16    coverage in x and y, 2 float64, zeros for none
    232     12    C, ny, nx
    244     6     lengths of the three strings
    250     ...   agent id, agent type, base hash, UTF-8; zeros up to the payload
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from heal.grid import BevGrid
from heal.types import Float32, Float64, require_SE3, require_shape

MAGIC = b"HEAL"
FORMAT_VERSION = 1
CODEC_FLOAT32 = 1

Buffer: TypeAlias = "bytes | bytearray | memoryview | np.ndarray[tuple[int], np.dtype[np.uint8]]"

_PREAMBLE = struct.Struct("<4sHHII")
_BODY = struct.Struct("<Qq16d7d2d3I3H")
_FIXED_BYTES = _PREAMBLE.size + _BODY.size
_CHECKSUM_AT = 12
_ALIGNMENT = 64
_MAX_STRING_BYTES = 1024


class MessageError(ValueError):
    """Bytes that are no message of this format; the text says what was expected and what came."""


@dataclass(frozen=True, eq=False)
class Message:
    """What an agent sends at one instant.

    Attributes:
        agent_id: the sender.
        agent_type: its type, such as "m1".
        base_hash: content hash of the base that the feature map is aligned to.
        timestamp_ns: when the map was sensed.
        world_SE3_agent: (4, 4) float64, the sender's pose as it measured it.
        grid: the grid of the map, in the sender's frame.
        features: (C, ny, nx) float32 feature map; may be a read-only view of received bytes.
        coverage: the grid's range over the one that the sender's sensors cover, in x and y; None if they cover all of it.
    """

    agent_id: str
    agent_type: str
    base_hash: str
    timestamp_ns: int
    world_SE3_agent: Float64
    grid: BevGrid
    features: Float32
    coverage: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the pose, the strings, and that the map fills the grid."""
        require_SE3("Message.world_SE3_agent", self.world_SE3_agent)
        require_shape("Message.features", self.features, (None, self.grid.ny, self.grid.nx))
        if self.features.dtype != np.float32:
            raise ValueError(f"Message.features: expected float32, got {self.features.dtype}")
        if self.coverage is not None and not all(math.isfinite(ratio) and ratio > 0 for ratio in self.coverage):
            raise ValueError(f"Message.coverage: expected two positive ratios, got {self.coverage}")
        for name, text in (("agent_id", self.agent_id), ("agent_type", self.agent_type), ("base_hash", self.base_hash)):
            if not 0 < len(text.encode()) <= _MAX_STRING_BYTES:
                raise ValueError(f"Message.{name}: expected 1 to {_MAX_STRING_BYTES} bytes of UTF-8, got {len(text.encode())}")

    def to_bytes(self) -> bytes:
        """The message as sent; its size on the link is the length of these bytes."""
        payload = np.ascontiguousarray(self.features, dtype="<f4").reshape(-1).view(np.uint8).data
        strings = [text.encode() for text in (self.agent_id, self.agent_type, self.base_hash)]
        header_bytes = _aligned(_FIXED_BYTES + sum(map(len, strings)))
        body = _BODY.pack(
            payload.nbytes,
            self.timestamp_ns,
            *self.world_SE3_agent.reshape(-1).tolist(),
            *self.grid.range_m,
            self.grid.cell_m,
            *(self.coverage or (0.0, 0.0)),
            *self.features.shape,
            *map(len, strings),
        )
        rest = b"".join([body, *strings]).ljust(header_bytes - _PREAMBLE.size, b"\0")
        start = struct.pack("<4sHHI", MAGIC, FORMAT_VERSION, CODEC_FLOAT32, header_bytes)
        checksum = zlib.crc32(payload, zlib.crc32(rest, zlib.crc32(start)))
        return b"".join([start, struct.pack("<I", checksum), rest, payload])

    @staticmethod
    def from_bytes(buffer: Buffer) -> Message:
        """Read a message without copying its payload: the feature map is a read-only view of `buffer`.

        Raises:
            MessageError: for anything but the exact bytes of a message of this format version.
        """
        view = memoryview(buffer.data if isinstance(buffer, np.ndarray) else buffer).toreadonly().cast("B")
        header_bytes = _check_frame(view)
        payload_bytes, timestamp_ns, *values = _BODY.unpack_from(view, _PREAMBLE.size)
        pose, geometry, covered, shape, lengths = values[:16], values[16:23], values[23:25], values[25:28], values[28:31]
        if payload_bytes != len(view) - header_bytes:
            raise MessageError(
                f"message of {len(view)} bytes: expected a payload of {payload_bytes} after {header_bytes} of header"
            )
        if payload_bytes != 4 * math.prod(shape) or payload_bytes == 0:
            raise MessageError(f"a float32 map of shape {tuple(shape)} does not take {payload_bytes} bytes")
        agent_id, agent_type, base_hash = _strings(view[_FIXED_BYTES:header_bytes], lengths)
        features = np.frombuffer(view, dtype="<f4", offset=header_bytes).reshape(shape)
        try:
            world_SE3_agent = np.array(pose, dtype=np.float64).reshape(4, 4)
            grid, coverage = _grid(geometry), (covered[0], covered[1]) if any(covered) else None
            with np.errstate(over="ignore", invalid="ignore"):
                return Message(agent_id, agent_type, base_hash, timestamp_ns, world_SE3_agent, grid, features, coverage)
        except ValueError as error:
            raise MessageError(f"message of agent {agent_id!r}: {error}") from error


def _check_frame(view: memoryview) -> int:
    """Check length, magic, version, codec and checksum; return the length of the header."""
    if len(view) < _FIXED_BYTES:
        raise MessageError(f"truncated message: expected at least {_FIXED_BYTES} bytes, got {len(view)}")
    magic, version, codec, header_bytes, checksum = _PREAMBLE.unpack_from(view)
    if magic != MAGIC:
        raise MessageError(f"not a message: expected the first bytes {MAGIC!r}, got {magic!r}")
    if version != FORMAT_VERSION:
        raise MessageError(f"message format version {version}: this program reads version {FORMAT_VERSION}")
    if codec != CODEC_FLOAT32:
        raise MessageError(f"unknown payload codec {codec}: this program reads {CODEC_FLOAT32} (float32)")
    if not _FIXED_BYTES <= header_bytes <= len(view) or header_bytes % _ALIGNMENT:
        raise MessageError(f"truncated message: the header claims {header_bytes} bytes of {len(view)}")
    actual = zlib.crc32(view[_CHECKSUM_AT + 4 :], zlib.crc32(view[:_CHECKSUM_AT]))
    if actual != checksum:
        raise MessageError(f"damaged message: checksum {actual:#010x}, expected {checksum:#010x}")
    return int(header_bytes)


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


def _grid(geometry: list[float]) -> BevGrid:
    if not all(map(math.isfinite, geometry)):
        raise ValueError(f"expected a finite grid, got {geometry}")
    x_min, y_min, z_min, x_max, y_max, z_max, cell_m = geometry
    return BevGrid((x_min, y_min, z_min, x_max, y_max, z_max), cell_m)


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT
