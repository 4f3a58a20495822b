"""The clock of a door as bytes, and back; docs/message.md describes the layout."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import get_args

import pytest

from heal.agents.door.clock import Clock, ClockError, RunFacts, State
from heal.grid import BevGrid

GRID = BevGrid((-12.8, -25.6, -3.0, 12.8, 25.6, 1.0), 0.8)
CLOCK = Clock(bytes(range(16)), RunFacts("f00d" * 16, "pyramid", GRID), 7, -700_000_000, "runs")


def test_a_clock_is_read_as_it_was_written() -> None:
    for state in get_args(State):
        clock = replace(CLOCK, state=state)
        assert Clock.of(clock.to_bytes()) == clock


def test_the_layout_is_that_of_the_page() -> None:
    content = CLOCK.to_bytes()
    assert content[:8] == b"HCLK\x01\x00\x02\x02" and content[8:24] == bytes(range(16))
    assert struct.unpack_from("<Qq", content, 24) == (7, -700_000_000)
    assert struct.unpack_from("<7d", content, 40) == (*GRID.range_m, 0.8)
    assert struct.unpack_from("<H", content, 96) == (64,) and content[98:] == b"f00d" * 16


def test_any_bytes_are_a_clock_or_the_named_error() -> None:
    draw, content = random.Random(3), CLOCK.to_bytes()
    with pytest.raises(ClockError, match="at least 98 bytes"):
        Clock.of(content[:97])
    for _ in range(20_000):
        mutated = bytearray(content)
        for _ in range(draw.randrange(1, 5)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        try:
            read = Clock.of(bytes(mutated[: draw.randrange(100, 170)]))
        except ClockError:
            continue
        assert read.tick >= 0
