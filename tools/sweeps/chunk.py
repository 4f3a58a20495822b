"""One chunk of a sweep: runs under all conditions, side by side, so that each frame is sensed and encoded only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageCounts
from heal.agents.network.spec import LinkSpec
from heal.agents.records import TickResult
from heal.agents.truth import TruthRule
from heal.alliance import read_base_card
from heal.datasets.noise import SensorNoise
from heal.detection.classes import VEHICLE
from heal.detection.metrics import ApAccumulator
from heal.grid import Range
from heal.measures.matches import SceneMatch, SceneMatches
from heal.tools.checks.ranges import open_on_range
from heal.tools.shared.ready_score import ReadyScore
from heal.tools.shared.scoring import GuardSums
from heal.tools.shared.sources import ReadOptions, open_source
from heal.tools.shared.type_argument import parse_types, split_names, with_egos
from heal.tools.sweeps.conditions import Condition
from heal.tools.sweeps.lies import LIES
from heal.tools.sweeps.lying import LieMemory, LyingRuntime, Shared
from heal.tools.sweeps.memo import MemoAlliance, MemoSource
from heal.types import SceneSource


@dataclass(frozen=True)
class Chunk:
    """Consecutive ticks of one town, or of a data set.

    Attributes:
        alliance: alliance folder.
        source: "town", or a folder of scenes.
        preset: kind of town.
        split: split of the source; None for its default.
        seed: of the town, of links and noise.
        ticks: indices of the scenes.
        types: agent types as given to `--types`.
        range_m: evaluated range as given to `--range-m`; None for that of the alliance.
        ego_type: types of the egos as given to `--ego-type`.
        ground_truth: rule of DAIR-V2X-C's ground truth, "joint" or "merged".
        device: device of the networks.
    """

    alliance: Path
    source: str
    preset: str
    split: str | None
    seed: int
    ticks: range
    types: str | None
    range_m: Range | None = None
    ego_type: str | None = None
    ground_truth: str = "joint"
    device: str = "cpu"

    def open_source(self, ticks: int | None, *, quiet: bool = False) -> SceneSource:
        """Open the scenes, in the town at most `ticks`; the summary of a data set is printed unless `quiet`."""
        reading = ReadOptions.of("stop", None, ground_truth=self.ground_truth, every_agent=bool(self.ego_type))
        reading = replace(reading, classes=read_base_card(self.alliance).config.object_classes)
        return open_source(self.source, self.preset, self.split, ticks, self.seed, reading, quiet=quiet)


@dataclass
class RunTotals:
    """The sums over the ticks of one run of a sweep; the totals of several chunks can be merged.

    Attributes:
        ap: accumulator of AP.
        ready: accumulator of AP at the instants at which the results are ready.
        counts: messages over links.
        rejected: messages that the fusion node has rejected, those of earlier ticks too.
        held: number of older maps that the fusion node used in place of late or lost ones.
        ages_ms: ages in their tick of all fused maps that had come over a link.
        ready_ages_ms: ages of the same maps at the instants at which the results are ready.
        guard: what became of the ego's confident boxes.
        scenes: the matches of all ticks, for every measure.
        class_names: names of the classes of the base, by their numbers, as the ticks tell them.
    """

    ap: ApAccumulator = field(default_factory=ApAccumulator)
    ready: ApAccumulator = field(default_factory=ApAccumulator)
    counts: MessageCounts = field(default_factory=MessageCounts)
    rejected: int = 0
    held: int = 0
    ages_ms: list[float] = field(default_factory=list)
    ready_ages_ms: list[float] = field(default_factory=list)
    guard: GuardSums = field(default_factory=GuardSums)
    scenes: list[SceneMatch] = field(default_factory=list)
    class_names: tuple[str, ...] = (VEHICLE,)

    def add(self, result: TickResult) -> None:
        """Add a tick, except to `ready`: only the ticks after it tell its truth when ready."""
        self.class_names = result.class_names
        self.ap.add_match(result.match)
        self.counts = self.counts + result.counts
        self.rejected += result.counts.rejected + len(result.late_rejections)
        self.held += len(result.held)
        self.ages_ms += result.map_ages_ms
        self.ready_ages_ms += [age_ms + result.wait_ms for age_ms in result.map_ages_ms]
        self.scenes.append(SceneMatch.of(result.scene_id, result.matches, result.detections, result.ground_truth))
        if result.guard is not None:
            self.guard.add(result.guard)

    def merge(self, other: RunTotals) -> None:
        """Add the totals of the same run over another chunk."""
        self.class_names = other.class_names if other.scenes else self.class_names
        self.ap.merge(other.ap)
        self.ready.merge(other.ready)
        self.counts, self.held = self.counts + other.counts, self.held + other.held
        self.rejected += other.rejected
        self.ages_ms += other.ages_ms
        self.ready_ages_ms += other.ready_ages_ms
        self.scenes += other.scenes
        self.guard.merge(other.guard)

    def matches(self) -> SceneMatches:
        """Return the matches of all scenes."""
        return SceneMatches.of(self.scenes, class_names=self.class_names)


def run_chunk(chunk: Chunk, conditions: Sequence[Condition]) -> list[RunTotals]:
    """Run a chunk under every condition, on one thread; return the totals in the order of the conditions."""
    torch.set_num_threads(1)
    plain = open_on_range(chunk.alliance, chunk.range_m)
    alliance, shared = plain.for_inference(), Shared(chunk.seed, plain.base.fusion.trunk, LieMemory(2 * len(LIES)))
    source, egos = chunk.open_source(chunk.ticks.stop, quiet=True), split_names(chunk.ego_type)
    types_of = parse_types(chunk.types, alliance, source, egos)
    networks, memo_source = MemoAlliance(alliance), MemoSource(with_egos(source, types_of, egos))
    runs = [_start_run(chunk, condition, networks, memo_source, types_of, shared) for condition in conditions]
    scores = [ReadyScore(TruthRule.of(condition.options, alliance.grid.range_m)) for condition in conditions]
    totals = [RunTotals(ready=score.ap) for score in scores]
    for results in zip(*runs, strict=True):
        for total, score, result in zip(totals, scores, results, strict=True):
            total.add(result)
            score.add(result)
    return totals


def _start_run(
    chunk: Chunk, condition: Condition, networks: MemoAlliance, source: MemoSource, types_of: TypesOf, shared: Shared
) -> Iterator[TickResult]:
    """Return the ticks of one run, each computed when it is asked for."""
    scenes = SensorNoise.parse(condition.noise).around(source, chunk.seed)
    network = LinkSpec.parse(condition.link).network(chunk.seed)
    run = networks, scenes, types_of, network, condition.options
    if condition.liars is None:
        return LocalRuntime(*run, device=chunk.device).run(chunk.ticks)
    liars = replace(condition.liars, turn=chunk.seed + chunk.ticks.start)
    return LyingRuntime(*run, device=chunk.device).lying(liars, shared).run(chunk.ticks)
