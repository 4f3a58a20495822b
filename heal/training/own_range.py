"""Agent types learn only what they can see: labels, targets and losses end at the own range of a type's encoder.

As in HEAL, whose agent types each have a range of their own in training. A camera type that maps 12.8 m around it would otherwise
be asked for all vehicles of the alliance's range, most of which lie where its map is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from heal.agent_model import AgentConfig
from heal.base_model import BaseConfig
from heal.detection.label_filters import objects_within
from heal.errors import UserError
from heal.grid import BevGrid, Range
from heal.types import Float64, ObjectLabels, Scene

RING_M = 6.4
"""Width of the empty surroundings of a map in training: the trunk's convolutions then see the zeros that surround it in a run."""


def own_range(agent: AgentConfig, grid: BevGrid) -> Range | None:
    """Return the range in which a type learns: its encoder's own within the grid's; None if the encoder covers all of the grid."""
    coverage = agent.coverage(grid)
    if coverage is None or max(coverage) <= 1:
        return None
    x_m, y_m = (edge / max(ratio, 1.0) for edge, ratio in zip(grid.range_m[3:5], coverage, strict=True))
    return (-x_m, -y_m, grid.range_m[2], x_m, y_m, grid.range_m[5])


def with_z_margin(range_m: Range, margin_m: float) -> Range:
    """Return a range that is higher by `margin_m` metres, at the bottom and at the top."""
    return (*range_m[:2], range_m[2] - margin_m, *range_m[3:5], range_m[5] + margin_m)


def cropped_grid(agent: AgentConfig, base: BaseConfig, limit_m: tuple[float, float] | None = None) -> BevGrid:
    """Return the grid on which a type is aligned to a frozen base: its own range and a ring around it, within the base's grid.

    Convolutions over the rest of the base's grid would see nothing, and cost most of the time.

    Args:
        agent: the type.
        base: the base.
        limit_m: half edges in x and y at which the grid ends, whatever the type maps beyond; None for the base's.

    Raises:
        UserError: the limit is beyond the base's range.
    """
    grid, own, most = base.grid, own_range(agent, base.grid), base.grid.range_m[3:5]
    if limit_m is not None:
        if limit_m[0] > most[0] or limit_m[1] > most[1]:
            raise UserError(f"training.range_m: expected at most {most[0]:g} x {most[1]:g} m, the base's range, got {limit_m}")
        most = limit_m
    x_m, y_m = most
    if own is not None:
        unit_m = math.prod(base.fused_by.strides) * grid.cell_m
        x_m, y_m = (
            min(round(math.ceil((edge + RING_M) / unit_m - 1e-6) * unit_m, 6), end)
            for edge, end in zip(own[3:5], most, strict=True)
        )
    return replace(grid, range_m=(-x_m, -y_m, grid.range_m[2], x_m, y_m, grid.range_m[5]))


def validated_range(agents: Mapping[str, AgentConfig], grid: BevGrid, max_agents: int) -> Range:
    """Return the range in which detections are validated: that of a type whose agents are alone, else the grid's."""
    ranges = [own_range(agent, grid) for agent in agents.values()]
    own = ranges[0] if len(ranges) == 1 and max_agents == 1 else None
    return own or grid.range_m


def limit_labels(scene: Scene, ranges: Mapping[str, Range | None], of_union: bool) -> Scene:
    """Drop the labels of every agent outside of its own range, and the objects of the scene that no agent can see then.

    Args:
        scene: the scene.
        ranges: agent id -> own range; None for an agent without one.
        of_union: whether the objects of the scene are the union of its agents' labels; otherwise they have a file of their own, and
            those within the own range of any agent are kept.
    """
    if all(part is None for part in ranges.values()):
        return scene
    frames = tuple(
        replace(frame, objects=_objects_in(frame.objects, frame.world_SE3_agent, ranges[frame.agent_id])) for frame in scene.frames
    )
    parts = [
        frame.objects if of_union else _objects_in(scene.objects, frame.world_SE3_agent, ranges[frame.agent_id]) for frame in frames
    ]
    return replace(scene, frames=frames, objects=_among(scene.objects, ObjectLabels.union(parts)))


def _among(objects: ObjectLabels, shown: ObjectLabels) -> ObjectLabels:
    """Return the objects that are still shown; labels that the scene no longer asks for stay out of it."""
    keep = np.isin(objects.ids, shown.ids)
    return objects.select(keep)


def _objects_in(objects: ObjectLabels, world_SE3_agent: Float64, range_m: Range | None) -> ObjectLabels:
    return objects if range_m is None else objects_within(objects, world_SE3_agent, range_m)


def cells_within(grid: BevGrid, range_m: Range) -> Tensor:
    """Return which cells (ny, nx) of a grid have their middle inside a range, bool."""
    x, y = grid.centres_m
    rows, columns = (y > range_m[1]) & (y < range_m[4]), (x > range_m[0]) & (x < range_m[3])
    return torch.from_numpy(rows[:, None] & columns)
