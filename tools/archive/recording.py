"""Records the statistics of agent types' honest maps into an alliance, from scenes of the town or of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from rich.console import Console
from torch import Tensor

from heal.agent_types import in_range
from heal.alliance import Alliance
from heal.atomic_write import replacing
from heal.config import save_config
from heal.defence.agreement import agreement
from heal.defence.recording import StatisticsRecorder
from heal.defence.statistics import MapStatistics
from heal.fusion.interface import coverage_of
from heal.se3 import relative_SE3
from heal.tools.shared.scoring import spread_evenly
from heal.tools.shared.sources import TOWN, ReadOptions, open_source
from heal.tools.terminal.progress import track
from heal.types import AgentFrame, Float64, SceneSource

COMM_RANGE_M = 70.0
Scene = tuple[Callable[[], SceneSource], int]
"""What opens a source of scenes, and the number of one of them."""


@dataclass(frozen=True)
class _HonestMap:
    """The map of an agent with its scales (1, C, ny, nx), their scores (1, 1, ny, nx), and its pose."""

    feature: Tensor
    scales: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    world_SE3_agent: Float64


def record_statistics(alliance: Alliance, name: str, beside: str, scenes: Sequence[Scene], console: Console) -> MapStatistics:
    """Return the statistics of a type's honest maps, and write them into its agent.yaml.

    Args:
        alliance: with the type.
        name: of the type.
        beside: another type, whose honest senders an ego of the type must not dispute either; it may be the same.
        scenes: in which all agents in range have the type, and once more all but the ego the other one.
        console: shows the progress.
    """
    recorder = StatisticsRecorder()
    for open_scenes, index in track(scenes, f"maps of {name}", len(scenes), console, transient=True):
        source = open_scenes()
        frames = list(_frames(source, index, alliance, name))
        own = [_honest_map(alliance, name, frame) for frame in frames]
        for honest in own:
            recorder.add_map(honest.feature, honest.scales, honest.scores)
        others = (
            [] if beside == name else [_honest_map(alliance, beside, frame) for frame in _frames(source, index, alliance, beside)]
        )
        for sender in (*own[1:], *others[1:]):
            agent_SE3_ego = relative_SE3(sender.world_SE3_agent, own[0].world_SE3_agent)
            recorder.add_agreement(agreement(own[0].scores[0], sender.scores[0], agent_SE3_ego, alliance.grid))
    statistics = recorder.statistics()
    with replacing(alliance.path / name / "agent.yaml") as temporary:
        save_config(replace(alliance.agent_card(name), statistics=statistics), temporary)
    return statistics


def scenes_to_record(source: str, presets: Sequence[str], towns: int, seed: int) -> list[Scene]:
    """Return one instant of each of so many towns, of the presets in turn, or so many scenes of a folder, spread over it."""
    reading = ReadOptions()
    if source == TOWN:
        places = [(presets[i % len(presets)], None, 1, seed + i) for i in range(towns)]
        return [(partial(open_source, TOWN, *place, reading, quiet=True), 0) for place in places]
    opened = open_source(source, presets[0], None, None, seed, reading)
    return [(lambda: opened, index) for index in spread_evenly(range(len(opened)), towns)]


def _frames(source: SceneSource, index: int, alliance: Alliance, name: str) -> Iterator[AgentFrame]:
    """Yield the frames of the ego and of all agents in its range, as a type senses them."""
    sensor = alliance.agent(name).sensor
    ego_id, *others = source.outline(index).ego_first
    ego = source.agent_frame(index, ego_id, sensor)
    yield ego
    for agent_id in others:
        frame = source.agent_frame(index, agent_id, sensor)
        if in_range(ego.world_SE3_agent, frame.world_SE3_agent, COMM_RANGE_M):
            yield frame


def _honest_map(alliance: Alliance, name: str, frame: AgentFrame) -> _HonestMap:
    network = alliance.agent(name)
    with torch.no_grad():
        feature = network(network.prepare([frame])).float().contiguous()
        levels = alliance.trunk.trunk(feature)
        scores = alliance.trunk.scores(levels.occupancy, [coverage_of(network.coverage, network.covered_blocks(frame))])
    return _HonestMap(feature, levels.maps, scores, frame.world_SE3_agent)
