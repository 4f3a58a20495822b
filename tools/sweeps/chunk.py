"""One chunk of a sweep: all its runs side by side over the same ticks, so that everything is sensed and encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.spec import LinkSpec
from heal.agents.records import MessageCounts, TickResult
from heal.alliance import Alliance, load_alliance
from heal.datasets.noise import SensorNoise
from heal.detection.metrics import ApAccumulator
from heal.tools.shared.type_argument import parse_types
from heal.tools.simulate import open_source
from heal.tools.sweeps.conditions import Condition
from heal.tools.sweeps.memo import RememberingAlliance, RememberingSource
from heal.types import SceneSource


@dataclass(frozen=True)
class Chunk:
    """Consecutive ticks of one town, or of a folder.

    Attributes:
        alliance: folder.
        source: "town", or a folder of scenes.
        preset: kind of town.
        split: of the source.
        seed: of the town, of links and noise.
        ticks: which scenes.
        types: agent types as on the command line.
    """

    alliance: Path
    source: str
    preset: str
    split: str | None
    seed: int
    ticks: range
    types: str | None


@dataclass
class Tally:
    """What a run of a sweep adds up to; tallies of chunks are merged."""

    ap: ApAccumulator = field(default_factory=ApAccumulator)
    counts: MessageCounts = field(default_factory=MessageCounts)
    held: int = 0

    def add(self, result: TickResult) -> None:
        """Add a tick."""
        self.ap.add_match(result.match)
        self.counts = self.counts + result.counts
        self.held += len(result.held)

    def merge(self, other: Tally) -> None:
        """Add another chunk's."""
        self.ap.merge(other.ap)
        self.counts, self.held = self.counts + other.counts, self.held + other.held


def run_chunk(chunk: Chunk, conditions: Sequence[Condition]) -> list[Tally]:
    """Run a chunk under every condition; its tallies in their order."""
    torch.set_num_threads(1)
    alliance = load_alliance(chunk.alliance).for_inference()
    source = open_source(chunk.source, chunk.preset, chunk.split, chunk.ticks.stop, chunk.seed)
    remembering = RememberingAlliance(alliance), RememberingSource(source)
    tallies = [Tally() for _ in conditions]
    runs = [_run(chunk, condition, alliance, *remembering) for condition in conditions]
    for results in zip(*runs, strict=True):
        for tally, result in zip(tallies, results, strict=True):
            tally.add(result)
    return tallies


def _run(
    chunk: Chunk, condition: Condition, alliance: Alliance, networks: RememberingAlliance, source: SceneSource
) -> Iterator[TickResult]:
    noisy = SensorNoise.parse(condition.noise).around(source, chunk.seed)
    network = LinkSpec.parse(condition.link).network(chunk.seed)
    runtime = LocalRuntime(networks, noisy, parse_types(chunk.types, alliance, source), network, condition.options)
    return runtime.run(chunk.ticks)
