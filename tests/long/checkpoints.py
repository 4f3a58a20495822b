"""Checkpoints for the fuzzing: valid ones, and damage to them inside the archive, where no checksum hides it from the reader."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from tests.long.mutations import mutated_bytes

_DESCRIPTION = "/data.pkl"
_HUGE = (0, 1, 3, 255, 2**16, 2**24, 2**31 - 1, 2**40, 2**62, -1, -8)


@cache
def valid_checkpoints() -> tuple[bytes, ...]:
    """Return state dicts and training states, in torch's format of today and in its old one."""
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2, 2, 2)).sum().backward()
    optimizer.step()
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5, "shape": torch.Size([1, 2])}
    contents: list[Any] = [OrderedDict(w=torch.arange(8.0), v=torch.ones(2, 2, dtype=torch.float16)), whole]
    return tuple(saved(content, is_zip=is_zip) for is_zip in (True, False) for content in contents)


def saved(content: Any, *, is_zip: bool = True) -> bytes:
    """Return a checkpoint with a content."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def rewritten(data: bytes, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive with other contents of its entries, under right checksums; `edit` takes the name and the content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for info in source.infolist():
            target.writestr(info.filename, edit(info.filename, source.read(info)))
    return buffer.getvalue()


def rebuilt(data: bytes, description: bytes) -> bytes:
    """Return a checkpoint with another description of its content."""
    return rewritten(data, lambda name, content: description if name.endswith(_DESCRIPTION) else content)


def tensor(numbers: int, offset: int, size: Sequence[int], stride: Sequence[int]) -> bytes:
    """Return the description of a tensor of float32 within the numbers that are stored as "0"."""
    name = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu" + _whole(numbers) + b"tQ"
    shape = b"".join(b"(" + b"".join(map(_whole, lengths)) + b"t" for lengths in (size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + name + _whole(offset) + shape + b"\x89ccollections\nOrderedDict\n)RtR"


def _whole(number: int) -> bytes:
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def mutated_checkpoint(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage the description of a checkpoint inside its archive, or any bytes of the file."""
    seed = rng.choice(seeds)
    if not seed.startswith(b"PK") or rng.random() < 0.2:
        return mutated_bytes(rng, [seed])
    if rng.random() < 0.1:
        return rewritten(seed, lambda _, content: content, zipfile.ZIP_DEFLATED)
    if rng.random() < 0.2:
        numbers = [rng.choice((8, 8, *_HUGE)) for _ in range(6)]
        described = tensor(numbers[0], numbers[1] % 9 - 1, numbers[2:4], numbers[4:])
        return rebuilt(seed, b"\x80\2}X\1\0\0\0w" + described * rng.choice((1, 1, 1, 900)) + b"s.")
    return rewritten(seed, lambda name, content: _damaged(rng, name, content))


def _damaged(rng: random.Random, name: str, content: bytes) -> bytes:
    if not name.endswith(_DESCRIPTION) and rng.random() < 0.9:
        return content
    return _with_operations(rng, content) if rng.random() < 0.5 else mutated_bytes(rng, [content])


_PIECES = (
    *(b"cbuiltins\nbytearray\n", b"cbuiltins\nset\n", b"c_codecs\nencode\n", b"ctorch\nSize\n", b"ccollections\nCounter\n"),
    *(b"ctorch.storage\nUntypedStorage\n", b"ctorch\nFloatTensor\n", b"ctorch._utils\n_rebuild_sparse_tensor\n"),
    *(b"cnumpy\ndtype\n", b"cargparse\nNamespace\n", b"cos\nsystem\n", b"X\3\0\0\0hex", b"X\6\0\0\0latin1"),
    *(b"]", b"}", b")", b"(", b"t", b"\x85", b"\x86", b"R", b"b", b"\x81", b"a", b"e", b"s", b"u", b"Q", b"0", b"2", b"\x88"),
    *(
        b"J\xff\xff\xff\x7f",
        b"K\1",
        b"M\0\1",
        b"\x8a\x09" + bytes(8) + b"\1",
        b"G\x7f\xf0" + bytes(6),
        b"q\1",
        b"h\1",
        b"j\0\0\0\xff",
    ),
    *(b"r\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"U\x09", b"\x85" * 3000, b"]" * 3000, b"(h\1h\1tq\1" * 60),
)


def _with_operations(rng: random.Random, content: bytes) -> bytes:
    """Insert operations of a description at random places, or put them in the place of others."""
    data = bytearray(content)
    for _ in range(1 + min(int(rng.expovariate(0.5)), 8)):
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 0, 1, 5))] = b"".join(rng.choices(_PIECES, k=rng.choice((1, 2, 4))))
    return bytes(data)
