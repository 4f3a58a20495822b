"""Reading a payload piece by piece, and zstd; both trust nothing that was received."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
# Hard compression is worth its time where there is little to compress: a tenth fewer bytes for some milliseconds.
_SMALL_BYTES = 1 << 16
_LEVEL, _LEVEL_OF_SMALL = 9, 19


class PayloadError(ValueError):
    """Bytes that are no payload of the layout that their header describes."""


def aligned(length: int) -> int:
    """The next multiple of 64."""
    return -(-length // ALIGNMENT) * ALIGNMENT


class ByteReader:
    """Takes arrays off bytes, one after the other, without copying them."""

    def __init__(self, content: memoryview) -> None:
        """Start at the first byte."""
        self._content, self._at = content, 0

    def take(self, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The next array; PayloadError if there are too few bytes for it."""
        kind = np.dtype(dtype)
        end = self._at + kind.itemsize * math.prod(shape)
        if end > len(self._content):
            raise PayloadError(f"truncated payload: {end} bytes are needed, there are {len(self._content)}")
        array = np.frombuffer(self._content[self._at : end], kind).reshape(shape)
        self._at = end
        return array

    def align(self) -> None:
        """Go on to the next multiple of 64 bytes."""
        self._at = aligned(self._at)

    def finish(self) -> None:
        """PayloadError if there is anything left."""
        if self._at != len(self._content):
            raise PayloadError(f"payload of {len(self._content)} bytes: expected {self._at}")


def compress(content: bytes) -> bytes:
    """One zstd frame that says how long its content is."""
    import zstandard

    level = _LEVEL_OF_SMALL if len(content) <= _SMALL_BYTES else _LEVEL
    return bytes(zstandard.ZstdCompressor(level=level).compress(content))


def decompress(payload: memoryview, content_bytes: int) -> memoryview:
    """The content of the one zstd frame that `payload` is.

    Raises:
        PayloadError: for anything else, before more than `content_bytes` are allocated.
    """
    import zstandard

    try:
        claimed = zstandard.get_frame_parameters(payload).content_size
        if claimed != content_bytes:
            raise PayloadError(f"the zstd frame claims to hold {claimed} bytes, the header {content_bytes}")
        return memoryview(zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise PayloadError(f"the payload is no zstd frame: {error}") from error
