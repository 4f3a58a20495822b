"""Write the numbers of the sent cells as bytes and read them back: features channel by channel, and foreground scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.message.byte_reader import ByteReader, PayloadError
from heal.message.codec import Values
from heal.types import SCORE_FLOOR, Float32, UInt8

_FLOAT_TYPES: dict[Values, str] = {"float32": "<f4", "float16": "<f2"}
_FLOAT16_MAX = 65504.0
# The largest whole number that stands for a feature or a score.
_TOP: dict[Values, int] = {"int8": 255, "int4": 15}


def write_features(values: Values, cells: Float32) -> bytes:
    """Return the bytes of the features (C, n) of the sent cells."""
    if values in _FLOAT_TYPES:
        return _write_floats(values, cells)
    lows, steps = _ranges(values, cells)
    # In int4 all channels share a step: channels that vary little then take few of the 16 values, which zstd compresses well.
    shared = steps if values == "int8" else steps[:1]
    with np.errstate(invalid="ignore", over="ignore"):
        counts = np.rint((cells - lows[:, None]) / np.where(steps > 0, steps, 1)[:, None])
    return b"".join([lows.astype("<f4").tobytes(), shared.astype("<f4").tobytes(), _write_counts(values, counts)])


def read_features(values: Values, reader: ByteReader, channels: int, count: int) -> Float32:
    """Read features (channels, count); PayloadError for a range of a channel that is not finite."""
    [features] = read_channels(values, reader, channels, count, at_once=channels)
    return features


def read_channels(values: Values, reader: ByteReader, channels: int, count: int, at_once: int) -> Iterator[Float32]:
    """Read the features (at most `at_once`, count) of some channels after the other, so that they are never there as a whole.

    Raises:
        PayloadError: a range of a channel is not finite.
    """
    if values in _FLOAT_TYPES:
        stored = reader.take(_FLOAT_TYPES[values], (channels, count))
        yield from (stored[begin : begin + at_once].astype(np.float32, copy=False) for begin in range(0, channels, at_once))
        return
    lows = reader.take("<f4", (channels,))
    steps = reader.take("<f4", (channels if values == "int8" else 1,))
    if not (np.isfinite(lows).all() and np.isfinite(steps).all() and (steps >= 0).all()):
        raise PayloadError("a channel's range is not finite")
    counts = _read_counts(values, reader, channels * count).reshape(channels, count)
    for begin in range(0, channels, at_once):
        part = slice(begin, begin + at_once)
        features: Float32 = counts[part].astype(np.float32)
        with np.errstate(over="ignore"):
            features *= (steps[part] if values == "int8" else steps)[:, None]
            features += lows[part, None]
        yield features


def write_fill(values: Values, fill: Float32) -> bytes:
    """Return the bytes of the fill (C) for cells that are not sent, in no higher precision than the features."""
    return _write_floats("float32" if values == "float32" else "float16", fill)


def read_fill(values: Values, reader: ByteReader, channels: int) -> Float32:
    """Read the fill (channels) for cells that are not sent."""
    return _read_floats("float32" if values == "float32" else "float16", reader, (channels,))


def write_scores(values: Values, scores: Float32) -> bytes:
    """Return the bytes of scores (n). No score above 0 becomes 0, because that would remove its cell from the fusion."""
    if values == "float32":
        return _write_floats(values, scores)
    if values == "float16":
        return _write_floats(values, np.where(scores > 0, np.maximum(scores, np.float32(SCORE_FLOOR)), scores))
    counts = 1 + np.rint(np.clip(scores - SCORE_FLOOR, 0, 1) * (_TOP[values] - 1))
    return _write_counts(values, np.where(scores > 0, counts, 0))


def read_scores(values: Values, reader: ByteReader, count: int) -> Float32:
    """Read the foreground scores (count) of the sent cells; a score of 0 stays exactly 0."""
    if values in _FLOAT_TYPES:
        return _read_floats(values, reader, (count,))
    counts = _read_counts(values, reader, count).astype(np.float32)
    scores: Float32 = (counts - 1) / np.float32(_TOP[values] - 1) + np.float32(SCORE_FLOOR)
    scores[counts == 0] = 0
    return scores


def _ranges(values: Values, cells: Float32) -> tuple[Float32, Float32]:
    """Return the least feature and the step of every channel, (C) each; NaN where a feature is not finite: receivers refuse NaN."""
    if not cells.shape[1]:
        return np.zeros(len(cells), np.float32), np.zeros(len(cells), np.float32)
    lows = cells.min(1)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = (cells.max(1).astype(np.float64) - lows) / _TOP[values]
    if values == "int4":
        steps[:] = steps.max()
    return lows, steps.astype(np.float32)


def _write_floats(values: Values, numbers: Float32) -> bytes:
    if values == "float16":
        numbers = np.clip(numbers, -_FLOAT16_MAX, _FLOAT16_MAX)
    return np.ascontiguousarray(numbers, _FLOAT_TYPES[values]).tobytes()


def _read_floats(values: Values, reader: ByteReader, shape: tuple[int, ...]) -> Float32:
    return reader.take(_FLOAT_TYPES[values], shape).astype(np.float32, copy=False)


def _write_counts(values: Values, counts: npt.NDArray[Any]) -> bytes:
    """Return the bytes of whole numbers: one byte each for int8; for int4 two in a byte, the first in its lower half."""
    whole: UInt8 = np.clip(np.nan_to_num(counts.reshape(-1)), 0, _TOP[values]).astype(np.uint8)
    if values == "int8":
        return whole.tobytes()
    pairs = np.append(whole, np.uint8(0)) if len(whole) % 2 else whole
    packed: UInt8 = pairs[0::2] | pairs[1::2] << np.uint8(4)
    return packed.tobytes()


def _read_counts(values: Values, reader: ByteReader, count: int) -> UInt8:
    if values == "int8":
        return reader.take("u1", (count,))
    pairs = reader.take("u1", (-(-count // 2),))
    return np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)[:count]
