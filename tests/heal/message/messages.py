"""Small messages of both splits for tests."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from hypothesis import strategies as st

from heal.grid import BevGrid
from heal.message.codec import VALUES, Codec
from heal.message.message import Message
from heal.se3 import pose_to_SE3
from heal.types import Float32, Split

GRID = BevGrid((-3.2, -1.6, -3.0, 3.2, 1.6, 1.0), 0.8)
SPLITS: tuple[Split, ...] = ("feature", "pyramid")

CODECS = st.builds(
    Codec,
    values=st.sampled_from(VALUES),
    min_score=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    budget_bytes=st.none() | st.integers(1, 3000),
    zstd=st.booleans(),
)


def make_message(seed: int = 0, channels: int = 2, split: Split = "feature", scale: float = 1.0) -> Message:
    """Make a message with features of at least zero, like a trunk's, and few high scores; two scales under the pyramid split."""
    rng = np.random.default_rng(seed)
    shapes = [(channels, GRID.ny, GRID.nx), (2 * channels, GRID.ny // 2, GRID.nx // 2)][: 1 if split == "feature" else 2]
    return Message(
        agent_id="vehicle-7",
        agent_type="m1",
        base_hash="0123abcd",
        timestamp_ns=1_700_000_000_123_456_789,
        world_SE3_agent=pose_to_SE3([5, -2, 1, 1, 40, 2]),
        grid=GRID,
        maps=tuple(_positive(scale * rng.standard_normal(shape)) for shape in shapes),
        scores=tuple(_positive(rng.random(shape[1:]) ** 4 + 1e-4) for shape in shapes),
        split=split,
    )


def reseal(damaged: bytearray) -> bytes:
    """Return the bytes with a valid checksum, as a sender of bad content would make them."""
    damaged[12:16] = struct.pack("<I", zlib.crc32(damaged[16:], zlib.crc32(damaged[:12])))
    return bytes(damaged)


def _positive(numbers: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Float32:
    return np.maximum(numbers, 0).astype(np.float32)
