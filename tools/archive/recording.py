"""Records the statistics of agent types' honest maps, from scenes of the town or of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from rich.console import Console
from torch import Tensor

from heal.agent_model import AgentModel
from heal.agent_types import in_range
from heal.alliance import Alliance
from heal.atomic_write import replacing
from heal.base_model import BaseModel
from heal.config import save_config
from heal.defence.agreement import agreement
from heal.defence.recording import StatisticsRecorder
from heal.defence.statistics import MapStatistics
from heal.fusion.interface import coverage_of
from heal.se3 import relative_SE3
from heal.tools.shared.scoring import spread_evenly
from heal.tools.shared.sources import TOWN, ReadOptions, open_source
from heal.tools.sweeps.memo import MemoSource
from heal.tools.terminal.progress import track
from heal.types import AgentFrame, Float64, SceneSource, SensorChoice

COMM_RANGE_M = 70.0
Scene = tuple[Callable[[], SceneSource], int]
"""What opens a source of scenes, and the number of one of them."""


@dataclass(frozen=True)
class _Foreground:
    """The foreground scores (1, 1, ny, nx) of an agent's finest scale, and its pose."""

    scores: Tensor
    world_SE3_agent: Float64


class HonestMaps:
    """Collects the statistics of agent types' honest maps, from scenes in which all agents in range have the same type."""

    def __init__(
        self, base: BaseModel, networks: Mapping[str, AgentModel], beside: str, comm_range_m: float = COMM_RANGE_M
    ) -> None:
        """Know no map yet.

        Args:
            base: the base that the types are aligned to, in eval mode.
            networks: the types by name, on the base's grid and in eval mode.
            beside: the one of them whose honest senders the egos of the other types must not dispute either.
            comm_range_m: how far from the ego other agents send to it.
        """
        self._base, self._networks, self._beside, self._comm_range_m = base, networks, beside, comm_range_m
        self._recorders = {name: StatisticsRecorder() for name in networks}

    def add(self, source: SceneSource, index: int) -> None:
        """Add a scene: the maps of its agents with each type in turn, and how these agree with the ego's.

        Raises:
            DatasetError: the sensor data of a type cannot be read; the types that come before it have been added.
        """
        scene = MemoSource(source)  # types with equal sensors share the frames
        seen = {name: self._add_maps(name, scene, index) for name in self._networks}
        for name, (ego, *_) in seen.items():
            if name != self._beside:
                self._add_agreements(name, ego, seen[self._beside][1:])

    def statistics(self, name: str) -> MapStatistics:
        """Return the statistics of a type; UserError if too few of its maps were added."""
        return self._recorders[name].statistics()

    def _add_maps(self, name: str, source: SceneSource, index: int) -> list[_Foreground]:
        """Add the maps of a scene whose agents all have one type, and return the foreground of each agent, the ego first."""
        network = self._networks[name]
        frames = list(self._frames(source, index, network.sensor))
        ego, *others = [self._add_map(name, network, frame) for frame in frames]
        self._add_agreements(name, ego, others)
        return [ego, *others]

    def _add_map(self, name: str, network: AgentModel, frame: AgentFrame) -> _Foreground:
        fusion = self._base.fusion
        with torch.no_grad():
            feature = network(network.prepare([frame])).float().contiguous()
            levels = fusion.trunk(feature)
            scores = fusion.scores(levels.occupancy, [coverage_of(network.coverage, network.covered_blocks(frame))])
        self._recorders[name].add_map(feature, levels.maps, scores)
        return _Foreground(scores[0], frame.world_SE3_agent)

    def _add_agreements(self, name: str, ego: _Foreground, senders: Sequence[_Foreground]) -> None:
        for sender in senders:
            agent_SE3_ego = relative_SE3(sender.world_SE3_agent, ego.world_SE3_agent)
            found = agreement(ego.scores, sender.scores, agent_SE3_ego, self._base.config.grid)
            self._recorders[name].add_agreement(found)

    def _frames(self, source: SceneSource, index: int, sensor: SensorChoice) -> Iterator[AgentFrame]:
        """Yield the frames of the ego and of all agents in its range, with the sensor data of a type."""
        ego_id, *others = source.outline(index).ego_first
        ego = source.agent_frame(index, ego_id, sensor)
        yield ego
        for agent_id in others:
            frame = source.agent_frame(index, agent_id, sensor)
            if in_range(ego.world_SE3_agent, frame.world_SE3_agent, self._comm_range_m):
                yield frame


def record_statistics(
    alliance: Alliance, names: Sequence[str], beside: str, scenes: Sequence[Scene], console: Console
) -> dict[str, MapStatistics]:
    """Return the statistics of types' honest maps by type, and write those of each into its agent.yaml.

    Args:
        alliance: with the types, for inference.
        names: of the types.
        beside: another type, whose honest senders an ego of the types must not dispute either; it may be one of them.
        scenes: from which all types are recorded.
        console: shows the progress.

    Raises:
        UserError: too few maps; the types before have been written.
    """
    maps = HonestMaps(alliance.base, {name: alliance.agent(name) for name in (*names, beside)}, beside)
    for open_scenes, index in track(scenes, f"maps of {', '.join(names)}", len(scenes), console, transient=True):
        maps.add(open_scenes(), index)
    found = {}
    for name in names:
        found[name] = maps.statistics(name)
        with replacing(alliance.path / name / "agent.yaml") as temporary:
            save_config(replace(alliance.agent_card(name), statistics=found[name]), temporary)
    return found


def scenes_to_record(source: str, presets: Sequence[str], towns: int, seed: int) -> list[Scene]:
    """Return one instant of each of so many towns, of the presets in turn, or so many scenes of a folder, spread over it."""
    reading = ReadOptions()
    if source == TOWN:
        places = [(presets[i % len(presets)], None, 1, seed + i) for i in range(towns)]
        return [(partial(open_source, TOWN, *place, reading, quiet=True), 0) for place in places]
    opened = open_source(source, presets[0], None, None, seed, reading)
    return [(lambda: opened, index) for index in spread_evenly(range(len(opened)), towns)]
