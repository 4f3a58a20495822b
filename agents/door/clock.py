"""The clock that a door publishes: which tick runs, and the base, split and grid that messages must have; as bytes and back.

Little-endian; docs/message.md describes the layout:

    offset  size  field
    0       4     magic "HCLK"
    4       2     version, 1
    6       1     split: 1 = feature, 2 = pyramid, 3 = boxes, 4 = points
    7       1     state: 1 = no tick has begun, 2 = the tick runs, 3 = the run is over
    8       16    the run's random id
    24      8     tick (unsigned)
    32      8     instant of the tick, ns (signed)
    40      56    grid: x_min, y_min, z_min, x_max, y_max, z_max, cell edge in metres, 7 float64
    96      2     length of the base's hash
    98      ...   base hash, UTF-8
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Literal, get_args

from heal.grid import BevGrid
from heal.types import SPLITS, Split

_MAGIC, _VERSION = b"HCLK", 1
_FIXED = struct.Struct("<4sHBB16sQq7dH")
State = Literal["waits", "runs", "over"]
_STATES: tuple[State, ...] = get_args(State)
RUN_ID_BYTES = 16


class ClockError(ValueError):
    """Bytes that are no clock of this version."""


@dataclass(frozen=True)
class RunFacts:
    """What an agent must know of a run to send messages that the run can use.

    Attributes:
        base_hash: content hash of the run's base.
        split: what agents send.
        grid: of the feature maps.
    """

    base_hash: str
    split: Split
    grid: BevGrid


@dataclass(frozen=True)
class Clock:
    """The clock of a run at one moment.

    Attributes:
        run_id: 16 random bytes, other ones in every run.
        facts: of the run.
        tick: index of the scene that is fused now.
        timestamp_ns: the instant of the scene.
        state: whether the run waits for its first tick, runs, or is over.
    """

    run_id: bytes
    facts: RunFacts
    tick: int = 0
    timestamp_ns: int = 0
    state: State = "waits"

    def to_bytes(self) -> bytes:
        """Return the clock as bytes."""
        facts, base_hash = self.facts, self.facts.base_hash.encode()
        codes = SPLITS.index(facts.split) + 1, _STATES.index(self.state) + 1
        place = self.run_id, self.tick, self.timestamp_ns, *facts.grid.range_m, facts.grid.cell_m
        return _FIXED.pack(_MAGIC, _VERSION, *codes, *place, len(base_hash)) + base_hash

    @staticmethod
    def of(content: bytes) -> Clock:
        """Read a clock.

        Raises:
            ClockError: the bytes are not exactly one clock of this version.
        """
        if len(content) < _FIXED.size:
            raise ClockError(f"clock: expected at least {_FIXED.size} bytes, got {len(content)}")
        magic, version, split, state, run_id, tick, timestamp_ns, *geometry, length = _FIXED.unpack_from(content)
        if (magic, version) != (_MAGIC, _VERSION) or length != len(content) - _FIXED.size:
            raise ClockError(f"clock: expected {_MAGIC!r}, {_VERSION}, got {magic!r}, {version} and {len(content)} bytes")
        if not 1 <= split <= len(SPLITS) or not 1 <= state <= len(_STATES) or not all(map(math.isfinite, geometry)):
            raise ClockError(f"clock: unknown split {split}, state {state} or grid {geometry}")
        try:
            grid, base_hash = BevGrid((*geometry[:6],), geometry[6]), content[_FIXED.size :].decode()
        except ValueError as error:
            raise ClockError(f"clock: {error}") from error
        return Clock(run_id, RunFacts(base_hash, SPLITS[split - 1], grid), tick, timestamp_ns, _STATES[state - 1])
