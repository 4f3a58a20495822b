"""Messages for the fuzzing: valid ones of every split and codec, and damage to them under a checksum that is right again."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from heal.message.codec import VALUES, Codec
from heal.message.header import FORMAT_VERSION
from heal.types import MAP_SPLITS, SPLITS, Split
from tests.heal.message.messages import make_message, reseal
from tests.heal.message.test_items import message as item_message
from tests.long.mutations import mutated_bytes

_CODECS = [f"{values}{cells}{zstd}" for values in VALUES for cells in ("", ",score:0.3") for zstd in ("", ",zstd")]
_FLAGS_AT, _COUNT_AT, _SHAPES_AT = 240, 241, 248
_SOME_CELLS, _ZSTD = 1, 2
# Offset and struct code of the header's fields, those of the first shape included.
_FIELDS = (
    *((4, "H"), (6, "B"), (7, "B"), (8, "I"), (16, "Q"), (24, "q"), (232, "Q"), (240, "B"), (241, "B")),
    *((offset, "d") for offset in range(32, 232, 8)),
    *((offset, "H") for offset in (242, 244, 246)),
    *((offset, "I") for offset in (248, 252, 256)),
)
_WHOLE = (0, 1, 2, 3, 4, 7, 8, 9, 15, 64, 255, 1024, 4096, 65535, 2**20, 2**22, 2**24, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_REAL = (0.0, -0.0, 1.0, -1.0, 1e-310, 1e-3, 0.5, 3.0, 1e3, 1e7, 1.0001e7, 1e30, 1e308, -1e308, float("inf"), float("nan"))
_FEATURES = np.array([0, 1, -1, 1e-40, 3, 1e2, 6e4, 7e4, 1e6, 1e10, 1e20, 1e30, -1e30, 3.4e38, np.inf, np.nan], "<f4")


_PIECE = 1 << 20


@cache
def valid_messages() -> tuple[bytes, ...]:
    """Return a message of every split and codec, and maps with free cells."""
    maps = [make_message(split=split).to_bytes(Codec.parse(text)) for split in MAP_SPLITS for text in _CODECS]
    seen = [replace(make_message(split=split), free=np.ones((4, 8), np.bool_)) for split in MAP_SPLITS]
    maps += [message.to_bytes(Codec.parse(text)) for message in seen for text in ("float32", "int8,zstd")]
    splits: tuple[Split, ...] = ("boxes", "points")
    items = [item_message(split).to_bytes(Codec.parse(text)) for split in splits for text in ("float32", "float16,zstd")]
    return (*maps, *items)


def mutated_message(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage a message: most of the time its fields and numbers, under right lengths and checksum; else any of its bytes."""
    if rng.random() < 0.1:
        return mutated_bytes(rng, seeds)
    data = bytearray(rng.choice(seeds))
    is_bomb = rng.random() < 0.01
    header, payload = _parts(_bomb(rng, data) if is_bomb else data)
    if rng.random() < 0.6 and not is_bomb:
        payload = _damaged_payload(rng, header, payload)
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if rng.random() < 0.7 else 0):
        _set_field(rng, header)
    if rng.random() < 0.1:
        header = bytearray(mutated_bytes(rng, [bytes(header)])).ljust(len(header), b"\0")[: len(header)]
    return reseal(header + payload)


def mutated_sender(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Change what a sender says and not how: most of the results are messages that a node can read, with extreme content."""
    if rng.random() < 0.3:
        return mutated_message(rng, seeds)
    header, payload = _parts(bytearray(rng.choice(seeds)))
    if rng.random() < 0.3:
        offset = rng.choice((*range(32, 160, 8), 24, 216, 224))
        _change(rng, header, offset, "q" if offset == 24 else "d")
    for _ in range(rng.choice((0, 1, 1, 3))):
        payload = _damaged_payload(rng, header, payload, keeps_length=True)
    return reseal(header + payload)


def _parts(data: bytearray) -> tuple[bytearray, bytearray]:
    """Return header and payload."""
    [length] = struct.unpack_from("<I", data, 8)
    return data[:length], data[length:]


def _damaged_payload(rng: random.Random, header: bytearray, payload: bytearray, *, keeps_length: bool = False) -> bytearray:
    """Change numbers of a payload, inside its compression if it has one, and write its lengths into the header."""
    zstd = header[_FLAGS_AT] & _ZSTD
    content = bytearray(_decompressed(payload)) if zstd else payload
    if keeps_length or rng.random() < 0.7:
        _set_numbers(rng, content)
    else:
        content = bytearray(mutated_bytes(rng, [bytes(content)]))
    sent = bytearray(_compressed(bytes(content))) if zstd else content
    if keeps_length or rng.random() < 0.9:
        struct.pack_into("<Q", header, 16, len(sent))
        struct.pack_into("<Q", header, 232, len(content))
    return sent


def _set_numbers(rng: random.Random, content: bytearray) -> None:
    """Overwrite a stretch of a payload by one extreme number, in the format that the message may have."""
    kind = rng.choice(("<f4", "<f4", "<f2", "u1"))
    with np.errstate(all="ignore"):
        number = np.asarray(rng.choice(_FEATURES) if kind != "u1" else rng.randrange(256), kind).tobytes()
    places = len(content) // len(number)
    if places:
        begin, count = rng.randrange(places), rng.choice((1, 1, 8, 64, places))
        end = min(begin + count, places)
        content[begin * len(number) : end * len(number)] = number * (end - begin)


def _set_field(rng: random.Random, header: bytearray) -> None:
    """Overwrite a field of the header by an extreme number, or change it a little."""
    _change(rng, header, *rng.choice(_FIELDS))


def _change(rng: random.Random, header: bytearray, offset: int, kind: str) -> None:
    if offset + struct.calcsize(kind) > len(header):
        return
    if kind == "d":
        [old] = struct.unpack_from("<d", header, offset)
        struct.pack_into("<d", header, offset, rng.choice((*_REAL, old + 0.1, old * 1.01, -old)))
        return
    if kind == "q":
        [old] = struct.unpack_from("<q", header, offset)
        steps = (0, 1, 10**8, -(10**8), 4 * 10**8, 2**62)
        struct.pack_into("<q", header, offset, max(min(old + rng.choice(steps), 2**63 - 1), -(2**63)))
        return
    small = rng.random() < 0.5
    number = rng.randrange(10) if small else rng.choice(_WHOLE)
    struct.pack_into(f"<{kind}", header, offset, number % 2 ** (8 * struct.calcsize(kind)))


def _bomb(rng: random.Random, data: bytearray) -> bytearray:
    """Make a small message that declares large maps, with a payload of zeros of the right length; bitmaps mark no cell, or all."""
    split, values = rng.choice(SPLITS), rng.choice(VALUES)
    header, _ = _parts(data)
    (channels, ny, nx), grid = rng.choice(_LARGE[split])
    number_bits = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}[values]
    has_bitmap = split in ("feature", "pyramid") and rng.random() < 0.8
    cells = 0 if has_bitmap and rng.random() < 0.5 else ny * nx
    bitmap_bytes = -(-ny * nx // 8) if has_bitmap else 0
    content_bytes = bitmap_bytes + _numbers_bytes(split, number_bits, channels, cells, has_bitmap)
    payload = _even(bitmap_bytes if cells else 0, content_bytes)
    struct.pack_into("<4sHBB", header, 0, b"HEAL", FORMAT_VERSION, SPLITS.index(split) + 1, VALUES.index(values) + 1)
    struct.pack_into("<Q", header, 16, len(payload))
    struct.pack_into("<7d", header, 160, -grid[0], -grid[1], -3.0, grid[0], grid[1], 1.0, 0.8)
    struct.pack_into("<QBB", header, 232, content_bytes, _ZSTD | (_SOME_CELLS if has_bitmap else 0), 1)
    struct.pack_into("<3I", header, _SHAPES_AT, channels, ny, nx)
    return header + payload


def _numbers_bytes(split: Split, bits: int, channels: int, cells: int, has_bitmap: bool) -> int:
    """Return the length before compression of what follows the bitmap of a map: fill or scores, ranges, features."""
    ranges = {8: 8 * channels, 4: 4 * channels + 4}.get(bits, 0)
    fill = channels * (4 if bits == 32 else 2) if split == "feature" and has_bitmap else 0
    scores = -(-cells * bits // 8) if split == "pyramid" else 0
    return fill + scores + ranges + -(-cells * channels * bits // 8)


# Shapes up to the most numbers that a header may declare, and half the edges of their grids in metres.
_LARGE: dict[Split, list[tuple[tuple[int, int, int], tuple[float, float]]]] = {
    "feature": [((16, 1024, 1024), (409.6, 409.6)), ((1, 4096, 4096), (1638.4, 1638.4)), ((2**16, 16, 16), (6.4, 6.4))],
    "pyramid": [((16, 1024, 1024), (1.6, 1.6)), ((1, 4096, 4096), (1.6, 1.6)), ((1, 1, 2**23), (1.6, 1.6))],
    "boxes": [((8, 1, 2**21), (1.6, 1.6)), ((8, 1, 2**17), (1.6, 1.6))],
    "points": [((4, 1, 2**22), (1.6, 1.6)), ((4, 1, 2**18), (1.6, 1.6))],
}


@cache
def _even(ones: int, length: int) -> bytes:
    """Return the zstd frame of bytes with all bits set and zeros behind them, made piecewise: the fuzzing limits its own memory."""
    import zstandard

    writer = zstandard.ZstdCompressor(level=1).compressobj(size=length)
    runs = [(b"\xff", ones), (b"\0", length - ones)]
    pieces = [writer.compress(byte * min(_PIECE, count - begin)) for byte, count in runs for begin in range(0, count, _PIECE)]
    return b"".join([*pieces, writer.flush()])


def _compressed(content: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor(level=1).compress(content))


def _decompressed(payload: bytes | bytearray) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdDecompressor().decompress(bytes(payload)))
