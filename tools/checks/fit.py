"""Warnings in one line where a data set and an alliance do not fit: range, heights and unit of its clouds, and its distances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from heal.agent_types import TypesOf
from heal.agents.options import RunOptions
from heal.alliance import Alliance
from heal.datasets.damage import Reads
from heal.datasets.dataset import DatasetError
from heal.tools.checks.ranges import nearest_range
from heal.tools.shared.sources import sensors_of
from heal.types import AgentFrame, BoolMask, Float32, SceneSource

# In the town the range of the demo holds 88 % and more of an agent's points, and its heights 60 % and more of those.
_LEAST_IN_RANGE, _LEAST_IN_HEIGHTS = 0.75, 0.5
_FEW = 0.05  # of the points lie so near to the sensor where their unit is not the metre
_COVERED = 95  # percentile of the points that a proposed range reaches


@dataclass(frozen=True)
class DataFit:
    """What a run assumes about its data.

    Attributes:
        alliance: the networks, on the range of the run.
        options: of the run.
        range_chosen: whether the user has chosen the range, which then needs no warning.
        range_option: whether the command has the option --range-m.
    """

    alliance: Alliance
    options: RunOptions
    range_chosen: bool = False
    range_option: bool = False

    def warn(self, source: SceneSource, scenes: Sequence[int], types_of: TypesOf) -> None:
        """Look at a few scenes, and print a line on the standard error output for everything that does not fit."""
        console = Console(stderr=True, soft_wrap=True)
        for text in self.warnings(source, scenes, types_of):
            console.print(f"warning: {text}", markup=False, highlight=False)

    def warnings(self, source: SceneSource, scenes: Sequence[int], types_of: TypesOf) -> list[str]:
        """Return a sentence for everything that does not fit in the first, middle and last scene, with what mends it."""
        looked_at = sorted({scenes[0], scenes[len(scenes) // 2], scenes[-1]}) if scenes else []
        reads = sensors_of(self.alliance, types_of, self.options)
        of_scene = [list(_frames(source, scene, reads)) for scene in looked_at]
        found = [self._about_range(of_scene), self._about_heights(of_scene), self._about_distances(of_scene)]
        return [text for text in found if text]

    def _about_range(self, of_scene: Sequence[Sequence[AgentFrame]]) -> str:
        shares = {frame.agent_id: (self._in_range(points).mean(), points) for frame, points in _clouds(of_scene)}
        if not shares or self.range_chosen:
            return ""
        agent_id, (share, points) = min(shares.items(), key=lambda item: item[1][0])
        grid = self.alliance.grid
        size = f"{grid.length_x_m:g} x {grid.length_y_m:g} m"
        found = f"{share:.0%} of the LiDAR points of agent {agent_id} lie in the alliance's range of {size}"
        if share < _FEW:
            return f"{found}; expected coordinates in metres"
        return f"{found}; {self._range_remedy(points)}" if share < _LEAST_IN_RANGE else ""

    def _range_remedy(self, points: Float32) -> str:
        """Return how a run gets a range that reaches most of some points (N, 3 or more), and no less than the alliance's own."""
        low, high = self.alliance.grid.range_m[:3], self.alliance.grid.range_m[3:]
        x_m, y_m = (max(float(np.percentile(np.abs(points[:, axis]), _COVERED)), high[axis]) for axis in (0, 1))
        near = nearest_range(self.alliance.card.config, (-x_m, -y_m, low[2], x_m, y_m, high[2]))
        edges = [f"{edge:g}" for edge in near]
        if self.range_option:
            return f"--range-m {' '.join(edges)} covers more"
        return f"`heal train base --init {self.alliance.path} --set base.grid.range_m=[{','.join(edges)}]` fits them"

    def _about_heights(self, of_scene: Sequence[Sequence[AgentFrame]]) -> str:
        grid = self.alliance.sensed_grid
        low, high = grid.range_m[2], grid.range_m[5]
        shares = {
            frame.agent_id: float(((near[:, 2] >= low) & (near[:, 2] <= high)).mean())
            for frame, points in _clouds(of_scene)
            if len(near := points[self._in_range(points)])
        }
        agent_id = min(shares, key=shares.__getitem__, default="")
        if not shares or shares[agent_id] >= _LEAST_IN_HEIGHTS:
            return ""
        return (
            f"{shares[agent_id]:.0%} of the LiDAR points of agent {agent_id} lie at the heights of the alliance, {low:g} to "
            f"{high:g} m from the sensor; `heal train base --init {self.alliance.path}` with other heights in "
            "base.grid.range_m fits them"
        )

    def _about_distances(self, of_scene: Sequence[Sequence[AgentFrame]]) -> str:
        """Say that all other agents are beyond the range of communication in all scenes; the ego is the first agent of each.

        Nothing is said where no other agent is to take part, or where regions need none near the ego.
        """
        options = self.options
        places = [[frame.world_SE3_agent_measured[:2, 3] for frame in frames] for frames in of_scene]
        distances = [float(np.linalg.norm(place - ego)) for ego, *others in (each for each in places if each) for place in others]
        if options.agents == 1 or not distances or min(distances) <= options.ego_range_m:
            return ""
        farthest_m = 10 * np.ceil(max(distances) / 10)
        return (
            f"no other agent is within --comm-range-m {options.comm_range_m:g} of the ego in the {len(of_scene)} scenes that were "
            f"looked at, the nearest is {min(distances):.0f} m away; --comm-range-m {farthest_m:.0f} "
            "reaches all"
        )

    def _in_range(self, points: Float32) -> BoolMask:
        """Return which of some points (N, 3 or more) lie in the range in x and y, as (N,)."""
        high = self.alliance.grid.range_m[3:5]
        inside: BoolMask = np.all(np.abs(points[:, :2]) <= np.array(high), axis=1)
        return inside


def _frames(source: SceneSource, scene: int, reads: Reads) -> Iterator[AgentFrame]:
    """Read the frames of a scene's agents, the ego's first; none of a scene in which a file is damaged: its turn comes later."""
    try:
        outline = source.outline(scene)
        choices = dict(reads(outline))
        frames = [source.agent_frame(scene, name, choices[name]) for name in outline.ego_first if name in choices]
    except DatasetError:
        return
    yield from frames


def _clouds(of_scene: Sequence[Sequence[AgentFrame]]) -> Iterator[tuple[AgentFrame, Float32]]:
    """Return the frames with LiDAR points, and the points."""
    for frame in (frame for frames in of_scene for frame in frames):
        if frame.lidar is not None and len(frame.lidar.points):
            yield frame, frame.lidar.points
