"""Fusion weights: the share that each agent's map has in every cell of the fused map, at every scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agent_types import TypesOf, in_range
from heal.alliance import Alliance
from heal.detection.ground_truth import objects_in_frame
from heal.fusion.interface import AgentLevels, Coverage, coverage_of
from heal.se3 import relative_SE3
from heal.tools.analysis.similarity import cells_in_boxes
from heal.types import AgentFrame, BoolMask, Float32, ObjectLabels, SceneSource


@dataclass(frozen=True)
class SceneWeights:
    """The fusion weights of a scene.

    Attributes:
        scene_id: id of the scene.
        agent_ids: its agents, the ego first.
        agent_types: their types.
        weights: per scale (agents, ny, nx), in the ego's frame; in every cell that any agent covers they sum to 1.
        vehicles: (ny, nx) of the finest scale, the cells of labelled vehicles.
    """

    scene_id: str
    agent_ids: tuple[str, ...]
    agent_types: tuple[str, ...]
    weights: tuple[Float32, ...]
    vehicles: BoolMask

    def means(self) -> list[dict[str, object]]:
        """Return for each agent its mean weight at every scale, over all cells and over those of vehicles (None without any)."""
        grid = self.vehicles.shape
        fine = [F.interpolate(torch.from_numpy(part)[None], size=grid)[0].numpy() for part in self.weights]
        on_vehicles = [part[:, self.vehicles].mean(axis=1) if self.vehicles.any() else None for part in fine]
        return [
            {
                "agent": agent_id,
                "type": kind,
                "mean": [round(float(part[place].mean()), 4) for part in self.weights],
                "mean_on_vehicles": [None if part is None else round(float(part[place]), 4) for part in on_vehicles],
            }
            for place, (agent_id, kind) in enumerate(zip(self.agent_ids, self.agent_types, strict=True))
        ]


def scene_weights(alliance: Alliance, source: SceneSource, types_of: TypesOf, tick: int, comm_range_m: float) -> SceneWeights:
    """Compute the fusion weights of the agents of a scene that are in range of its ego.

    The base fuses indicators instead of features: the map of agent k is 1 in channel k and 0 in the others. So the fused channels
    are the weights themselves, whatever the settings of the fusion are. All maps are of the scene's own instant, at measured poses.

    Args:
        alliance: base and agent types.
        source: the scenes.
        types_of: the type of every agent.
        tick: index of the scene.
        comm_range_m: agents further from the ego than this take no part.
    """
    outline = source.outline(tick)
    types = types_of(outline)
    sensors = {name: alliance.agent(types[name]).sensor for name in outline.ego_first if name in types}
    frames = {name: source.agent_frame(tick, name, sensor) for name, sensor in sensors.items()}
    ego = frames[outline.ego_id].world_SE3_agent_measured
    near = [frame for frame in frames.values() if in_range(ego, frame.world_SE3_agent_measured, comm_range_m)]
    levels = [_levels(alliance, types[frame.agent_id], frame) for frame in near]
    pyramid = alliance.base.pyramid
    coverage = [_coverage(alliance, types[frame.agent_id], frame) for frame in near]
    scores = pyramid.scores([torch.cat(parts) for parts in zip(*(part.occupancy for part in levels), strict=True)], coverage)
    poses = torch.from_numpy(np.stack([relative_SE3(frame.world_SE3_agent_measured, ego) for frame in near]))
    trust = torch.tensor([alliance.trust_of(types[frame.agent_id]) for frame in near])
    with torch.no_grad():
        fused = pyramid.fuse_scored([_indicators(part) for part in scores], scores, poses, [len(near)], trust)
    objects = source.scene_objects(tick)
    known = ObjectLabels.union([frame.objects for frame in near]) if objects is None else objects
    truth = objects_in_frame(known, near[0].world_SE3_agent, alliance.grid.range_m)
    return SceneWeights(
        outline.scene_id,
        tuple(frame.agent_id for frame in near),
        tuple(types[frame.agent_id] for frame in near),
        tuple(part[0].numpy() for part in fused),
        cells_in_boxes(truth.corners.double().numpy(), alliance.grid),
    )


def _coverage(alliance: Alliance, name: str, frame: AgentFrame) -> Coverage:
    model = alliance.agent(name)
    return coverage_of(model.coverage, model.covered_blocks(frame))


def covered_cells(alliance: Alliance, name: str, frame: AgentFrame) -> BoolMask:
    """Return the cells (ny, nx) that the sensors of an agent of a type cover: where its map has a weight in the fusion."""
    logits = torch.zeros(1, 1, alliance.grid.ny, alliance.grid.nx)
    [scores] = alliance.base.fusion.scores([logits], [_coverage(alliance, name, frame)])
    covered: BoolMask = (scores[0, 0] > 0).numpy()
    return covered


def _levels(alliance: Alliance, name: str, frame: AgentFrame) -> AgentLevels:
    model = alliance.agent(name)
    with torch.no_grad():
        return alliance.base.trunk(model(model.prepare([frame])))


def _indicators(scores: Tensor) -> Sequence[Tensor]:
    """Return for each of M agents a map (1, M, ny, nx) that is 1 in the agent's own channel."""
    ones = torch.eye(len(scores))[:, :, None, None].expand(-1, -1, *scores.shape[-2:])
    return torch.split(ones.contiguous(), 1)
