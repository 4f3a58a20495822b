"""Seeded damage to valid inputs: to any bytes, to the words and lines of text, and to sealed messages."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

Mutate = Callable[[random.Random, Sequence[bytes]], bytes]
"""Makes an input of a decoder from valid ones."""

MOST_BYTES = 200_000
_WORD = re.compile(rb"[-+]?\d[\w.+-]*|[A-Za-z_]\w*")
_NUMBERS = (-1, 0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_FLOATS = (0.0, -0.0, 1e-45, 1e-310, 0.5, -1.0, 65504.0, 1e30, -1e30, 3e38, 1.7e308, float("inf"), float("-inf"), float("nan"))

# Words that readers of numbers, dates, names and paths trip over, for JSON, YAML, CSV and headers alike.
_WORDS = (
    *(str(number).encode() for number in (*_NUMBERS, -3, 2**70, -(2**63), 4300, 10**6)),
    *b"1e300 -1e300 1e999 1e-320 nan NaN .nan .inf -.inf Infinity 0x10 1_0 1:30:59 0o17 08 1.5".split(),
    *(b"9" * 5000, b"0x" + b"f" * 9000, b"1:" * 500 + b"1", b"1:" * 40 + b"1.5", b"0b" + b"1" * 300, b"x" * 3000),
    *b"""null true ~ '' "" [] {} {"a":1} [null] ["x"] ? - : # ../.. a/b 2024-13-45 2001-02-30 0000-01-01""".split(),
    *(b"2001-02-03 25:61:61", b"9999-12-31 23:59:59.999999 -99:99", b"[1, 2]", b" ", b""),
    *(b"\xff\xfe", b"\x00", b"\xc3\x28", "é€😀".encode(), b"\xef\xbb\xbf", b"\\ud800"),
)
_TAGS = tuple(
    b"""!!int ''|!!float x|!!bool maybe|!!timestamp soon|!!binary $|!!omap {a: 1}|!!set [1]|!!null 1|!!pairs [1]|!other 1
    |&a [*a]|*a|&a|<<: *a|<<: [1]|=|? [1]|!!python/name:os.system|!!python/tuple [1, [2]]
    |!!python/object/apply:numpy.dtype [f8, 0, 1]|!!python/object/apply:numpy.dtype {args: [S999999999]}
    |!!python/object/apply:numpy._core.multiarray.scalar [!!python/object/apply:numpy.dtype [f8], !!binary AAAA]
    |!!python/object/apply:numpy._core.multiarray._reconstruct {args: [1], state: [1, [3], f8, false, x]}""".replace(
        b"\n    ", b""
    ).split(b"|")
)
_OPENERS = ((b"[", b"]"), (b"{a: ", b"}"), (b'{"a": ', b"}"), (b"- ", b""), (b"(", b")"))
# How often a piece is repeated, and how deep brackets nest: large inputs are rare, because they are slow.
_TIMES = (*(1, 2, 30) * 10, 3000)
_DEPTHS = (*(3, 10, 90, 400, 950) * 10, 100_000)


def mutated_bytes(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage one of the seeds as bytes, or make bytes at random once in a while."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(400))
    data = bytearray(rng.choice(seeds))
    for _ in range(_few(rng)):
        rng.choice(_BYTE_CHANGES)(rng, data, seeds)
        del data[MOST_BYTES:]
    return bytes(data)


def mutated_text(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage one of the seeds as text: its words, its lines, its nesting; sometimes its bytes too."""
    data = bytearray(rng.choice(seeds))
    for _ in range(_few(rng)):
        rng.choice(_TEXT_CHANGES if rng.random() < 0.9 else _BYTE_CHANGES)(rng, data, seeds)
        del data[MOST_BYTES:]
    return bytes(data)


def _few(rng: random.Random) -> int:
    return 1 + min(int(rng.expovariate(0.6)), 12)


def _place(rng: random.Random, data: bytearray) -> int:
    """Draw a place in the data; half of the time near its beginning, where headers are."""
    end = len(data) + 1
    return rng.randrange(end if rng.random() < 0.5 else min(end, 300))


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[min(_place(rng, data), len(data) - 1)] ^= 1 << rng.randrange(8)


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.randrange(1, 9))


def _delete(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + int(rng.expovariate(0.1)) + 1]


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Repeat a piece, sometimes thousands of times."""
    at = _place(rng, data)
    piece = bytes(data[at : at + rng.randrange(1, 60)])
    data[at:at] = piece * min(rng.choice(_TIMES), MOST_BYTES // (len(piece) or 1))


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    begin, at = rng.randrange(len(other) + 1), _place(rng, data)
    data[at : at + rng.choice((0, 10, len(data)))] = other[begin : begin + rng.randrange(1, 200)]


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Overwrite bytes by an extreme number of one of the types that binary formats have."""
    kind = rng.choice("BHIQefd")
    if kind in "efd":
        number: float = rng.choice(_FLOATS)
        number = number if kind == "d" or not 65504 < abs(number) < float("inf") else 65504.0
    else:
        number = rng.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(kind))
    at = _place(rng, data)
    data[at : at + struct.calcsize(kind)] = struct.pack(f"<{kind}", number)


def _word(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Replace a word by one that readers trip over."""
    words = list(_WORD.finditer(data))
    begin, end = rng.choice(words).span() if words else (0, 0)
    data[begin:end] = rng.choice(_TAGS if rng.random() < 0.2 else _WORDS)


def _swap(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Put one word of the text in the place of another."""
    words = list(_WORD.finditer(data))
    if words:
        begin, end = rng.choice(words).span()
        data[begin:end] = bytes(rng.choice(words).group())


def _nest(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Put many brackets around a word."""
    words = list(_WORD.finditer(data))
    begin, end = rng.choice(words).span() if words else (0, 0)
    (opener, closer), depth = rng.choice(_OPENERS), rng.choice(_DEPTHS)
    depth = min(depth, MOST_BYTES // (2 * len(opener)))
    data[begin:end] = opener * depth + bytes(data[begin:end]) + closer * depth


def _line(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Delete, move or repeat a line."""
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    copies = rng.choice((0, 1, 1, 2, 40))
    at = rng.randrange(len(lines) + 1)
    lines[at:at] = [line] * copies
    data[:] = b"\n".join(lines)


def _bomb(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Put a value in the place of a word that YAML's aliases double many times, as lists or as merged mappings."""
    depth, merged = rng.choice((3, 12, 26, 60)), rng.random() < 0.5
    first, link = (b"{k: v}", b"{<<: [*b%d, *b%d], k%d: v}") if merged else (b"[1, 1]", b"[*b%d, *b%d, %d]")
    steps = b", ".join([b"&b0 " + first, *(b"&b%d " % n + link % (n - 1, n - 1, n) for n in range(1, depth))])
    words = list(_WORD.finditer(data))
    begin, end = rng.choice(words).span() if words else (0, 0)
    data[begin:end] = b"[" + steps + b"]"


_BYTE_CHANGES = (_flip, _flip, _insert, _delete, _cut, _repeat, _splice, _number, _number)
_TEXT_CHANGES = (_word, _word, _word, _word, _swap, _swap, _line, _line, _nest, _bomb, _splice)
