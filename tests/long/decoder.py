"""What is fuzzed: a decoder with its valid inputs, damage to them, and the one error that it may raise."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.long.mutations import Mutate

_numbers = itertools.count()


@dataclass(frozen=True)
class Decoder:
    """A decoder under test.

    Attributes:
        decode: reads any bytes; it returns how they were taken, such as "accepted", or raises `error`.
        error: the one error that it may raise; None for none.
        seeds: valid inputs.
        mutate: damages them.
    """

    decode: Callable[[bytes], str]
    error: type[Exception] | None
    seeds: Sequence[bytes]
    mutate: Mutate

    def input(self, seed: str, index: int) -> bytes:
        """Return input `index` of a seed: the same bytes whenever and wherever it is made."""
        return self.mutate(random.Random(f"{seed}/{index}"), self.seeds)

    def take(self, data: bytes) -> str:
        """Decode an input and return how it was taken: as `decode` says, or the class of its named error."""
        if self.error is None:
            return self.decode(data)
        try:
            return self.decode(data)
        except self.error as error:
            if not str(error):
                raise AssertionError(f"{type(error).__name__} without a text") from error
            return type(error).__name__


def of_file(
    folder: Path, ending: str, read: Callable[[Path], Any], error: type[Exception], seeds: Sequence[bytes], mutate: Mutate
) -> Decoder:
    """A decoder of files; each input is a new file, because some readers remember files."""

    def decode(data: bytes) -> str:
        path = folder / f"{next(_numbers)}{ending}"
        path.write_bytes(data)
        try:
            read(path)
        finally:
            path.unlink()
        return "accepted"

    return Decoder(decode, error, seeds, mutate)


def one_of(
    paths: Sequence[Path],
    read: Callable[[], str],
    error: type[Exception] | None,
    mutate: Mutate,
    seal: Callable[[int, bytes], bytes] = lambda place, data: data,
) -> Decoder:
    """A decoder that reads several files, of which an input replaces one: the one that its first byte stands for.

    `seal` may write a right checksum into the content of a file.
    """
    valid = [path.read_bytes() for path in paths]

    def decode(data: bytes) -> str:
        place = (data[0] if data else 0) % len(paths)
        paths[place].write_bytes(seal(place, data[1:]))
        try:
            return read()
        finally:
            paths[place].write_bytes(valid[place])

    return Decoder(decode, error, [bytes([place]) + data for place, data in enumerate(valid)], mutate)
