"""Images for the fuzzing: valid ones of every kind, and damage to the chunks of a PNG under checksums that are right again."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from heal.datasets.files import MAX_PIXELS
from tests.long.mutations import mutated_bytes

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers of a pixel by the type of colour of a PNG."""

_EDGES = (0, 1, 7, 30, 2896, 2897, 10_000, 60_000, 2**16, 2**24, 2**31 - 1, 2**32 - 1)
_TEXTS = (b"", b"nan", b"-1", b"1e999", b"0.5", b"9" * 5000, b"\xff", b"0x1", b"1_0")
_PIECE = 1 << 20


@cache
def valid_images() -> tuple[bytes, ...]:
    """Return images of every mode that PNG and JPEG have."""
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    modes = ("1", "L", "LA", "P", "RGB", "RGBA")
    pictures = [Image.fromarray(colours).convert(mode) for mode in modes]
    pngs = [_saved(picture, "png") for picture in pictures] + [*valid_depths()]
    jpegs = [Image.fromarray(colours).convert(mode) for mode in ("L", "RGB", "CMYK")]
    whole = [_saved(picture, "jpeg", progressive=progressive, exif=exif) for picture in jpegs for progressive in (False, True)]
    return (*pngs, *whole, png(20, 30, 16, 2), png(9, 5, 8, 3, interlaced=True))


@cache
def valid_depths() -> tuple[bytes, ...]:
    """Return depth images of 8 and of 16 bits."""
    step = PngInfo()
    step.add_text("depth_step_m", "0.05")
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109
    return _saved(Image.fromarray(deep.astype(np.uint8)), "png"), _saved(Image.fromarray(deep), "png", pnginfo=step)


def _saved(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


@cache
def png(width: int, height: int, bits: int, colour: int, *, interlaced: bool = False) -> bytes:
    """Return a PNG of zeros with the costliest filter; an interlaced one has more rows than it needs."""
    row = b"\4" + bytes(-(-width * bits * _CHANNELS[colour] // 8))
    packer, rows = zlib.compressobj(1), height * (2 if interlaced else 1)
    at_once = max(_PIECE // len(row), 1)
    content = b"".join(packer.compress(row * min(at_once, rows - begin)) for begin in range(0, rows, at_once)) + packer.flush()
    head = struct.pack(">2I5B", width, height, bits, colour, 0, 0, interlaced)
    palette = [(b"PLTE", bytes(768))] if colour == 3 else []
    step = [(b"tEXt", b"depth_step_m\x000.5")]
    return _joined([(b"IHDR", head), *palette, *step, (b"IDAT", content), (b"IEND", b"")])


def mutated_image(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage an image: the chunks of a PNG, the scans and sizes of a JPEG, or any bytes; make the largest images at times."""
    if rng.random() < 0.02:
        return _bomb(rng)
    seed = rng.choice(seeds)
    if rng.random() < 0.2:
        return mutated_bytes(rng, [seed])
    return _mutated_png(rng, seed) if seed.startswith(_SIGNATURE) else _mutated_jpeg(rng, seed)


def _bomb(rng: random.Random) -> bytes:
    """Make one of the largest images that are read, or one that claims to be a little larger."""
    edge = int(MAX_PIXELS**0.5) + rng.choice((0, 0, 0, 1))
    kinds: list[Callable[[], bytes]] = [partial(png, edge, edge, 16, colour) for colour in (0, 2, 4, 6)]
    kinds += [partial(png, edge, edge, 8, colour, interlaced=interlaced) for colour in (2, 3, 6) for interlaced in (False, True)]
    kinds += [partial(png, edge, edge, 1, 0), partial(png, MAX_PIXELS, 1, 8, 2), partial(png, 1, MAX_PIXELS, 8, 2)]
    kinds += [partial(_scans, edge, mode, rng.choice((1, 45))) for mode in ("L", "RGB", "CMYK")]
    return rng.choice(kinds)()


@cache
def _flat(edge: int, mode: str) -> bytes:
    return _saved(Image.new(mode, (edge, edge)), "jpeg", progressive=True, subsampling=0)


def _scans(edge: int, mode: str, count: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    data = _flat(edge, mode)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + data[-2:]


def _mutated_png(rng: random.Random, data: bytes) -> bytes:
    chunks = [*_chunks(data)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(chunks))
        kind, content = chunks[at]
        if kind == b"IHDR" and len(content) == 13:
            chunks[at] = kind, _other_head(rng, content)
        elif kind == b"IDAT" and rng.random() < 0.7:
            chunks[at] = kind, zlib.compress(mutated_bytes(rng, [_rows(content)]), 1)
        elif rng.random() < 0.5:
            chunks.insert(at, _odd_chunk(rng))
        else:
            chunks[at] = rng.choice((kind, b"IDAT", b"PLTE", b"tRNS")), mutated_bytes(rng, [content])
    return _joined(chunks)


def _rows(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, _PIECE)
    except zlib.error:
        return content


def _other_head(rng: random.Random, content: bytes) -> bytes:
    fields = [*struct.unpack(">2I5B", content)]
    place = rng.randrange(7)
    fields[place] = rng.choice(_EDGES) if place < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))
    return struct.pack(">2I5B", *fields)


def _odd_chunk(rng: random.Random) -> tuple[bytes, bytes]:
    """Make a chunk that readers of PNG look into: texts that are bombs, a step of depth, a profile, EXIF, an animation."""
    bomb = zlib.compress(bytes(rng.choice((10, 10**6, 10**7))), 1)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", rng.choice((1, 65535)), 0x011A, rng.randrange(14), rng.choice(_EDGES), 8)
    choices = [
        (b"zTXt", b"a\0\0" + bomb),
        (b"iTXt", b"a\0\1\0\0\0" + bomb),
        (b"iCCP", b"a\0\0" + bomb),
        (b"tEXt", b"depth_step_m\0" + rng.choice(_TEXTS)),
        (b"eXIf", exif + rng.randbytes(30)),
        (b"acTL", struct.pack(">2I", rng.choice(_EDGES), 0)),
        (b"pHYs", struct.pack(">2IB", rng.choice(_EDGES), 0, 1)),
        (b"gAMA", struct.pack(">I", 0)),
    ]
    return rng.choice(choices)


def _mutated_jpeg(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        at = data.rfind(b"\xff\xda")
        return data[:-2] + data[at:-2] * rng.choice((1, 5, 99, 300)) + data[-2:]
    if rng.random() < 0.5:
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        size = struct.pack(">2H", *(rng.choice(_EDGES) & 0xFFFF for _ in range(2)))
        return data[: frame + 5] + size + data[frame + 9 :]
    return mutated_bytes(rng, [data])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(data):
        [length] = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def _joined(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks
    ]
    return _SIGNATURE + b"".join(parts)
