"""Read the arrays of a received payload one by one, and compress or decompress with zstd; received bytes are never trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
# Payloads of at most `_SMALL_BYTES` are compressed harder: a tenth fewer bytes for some milliseconds.
_SMALL_BYTES = 1 << 16
_LEVEL, _SMALL_LEVEL = 9, 19


class PayloadError(ValueError):
    """A payload that does not have the layout that its header describes."""


def aligned(length: int) -> int:
    """Round a length up to a multiple of 64 bytes."""
    return -(-length // ALIGNMENT) * ALIGNMENT


class ByteReader:
    """Reads arrays from bytes, one after the other, without copying them."""

    def __init__(self, content: memoryview) -> None:
        """Start at the first byte."""
        self._content, self._at = content, 0

    def take(self, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the next array, a view of the bytes; PayloadError if there are too few bytes left."""
        item = np.dtype(dtype)
        end = self._at + item.itemsize * math.prod(shape)
        if end > len(self._content):
            raise PayloadError(f"truncated payload: {end} bytes are needed, there are {len(self._content)}")
        array = np.frombuffer(self._content[self._at : end], item).reshape(shape)
        self._at = end
        return array

    def align(self) -> None:
        """Skip the padding up to the next multiple of 64 bytes."""
        self._at = aligned(self._at)

    def finish(self) -> None:
        """Raise PayloadError if any bytes are left."""
        if self._at != len(self._content):
            raise PayloadError(f"payload of {len(self._content)} bytes: expected {self._at}")


def compress(content: bytes) -> bytes:
    """Return one zstd frame of the content, with the length of the content in its header."""
    import zstandard

    level = _SMALL_LEVEL if len(content) <= _SMALL_BYTES else _LEVEL
    return bytes(zstandard.ZstdCompressor(level=level).compress(content))


def decompress(payload: memoryview, content_bytes: int) -> memoryview:
    """Decompress a payload that is one zstd frame.

    Raises:
        PayloadError: the payload is no zstd frame, or not of `content_bytes`; raised before more memory than that is allocated.
    """
    import zstandard

    try:
        claimed = zstandard.get_frame_parameters(payload).content_size
        if claimed != content_bytes:
            raise PayloadError(f"the zstd frame claims to hold {claimed} bytes, the header {content_bytes}")
        return memoryview(zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise PayloadError(f"the payload is no zstd frame: {error}") from error
