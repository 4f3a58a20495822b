"""Draw a scene for training: the ego, the other agents, their types, the errors of their poses, and the objects to detect.

In HEAL's protocol the agents of a scene are shuffled, the first is the ego, and the next ones in range take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heal.agent_types import draw_types, in_range
from heal.detection.ground_truth import merge_by_iou
from heal.errors import UserError
from heal.training.config import ScheduleConfig
from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline, SceneSource, SensorChoice, is_roadside_name


@dataclass(frozen=True)
class DrawnScene:
    """A scene for training.

    Attributes:
        scene: the scene with the drawn agents.
        agent_types: agent id -> the drawn agent type.
        of_union: whether the objects of the scene are the union of its agents' labels; otherwise they have a file of their own, or
            are merged by their overlap.
        noisy: ids of the agents whose feature maps are to be noise.
        misplaced: ids of the agents whose measured pose is wrong.
    """

    scene: Scene
    agent_types: Mapping[str, str]
    of_union: bool
    noisy: frozenset[str] = frozenset()
    misplaced: frozenset[str] = frozenset()


def draw_max_agents(training: ScheduleConfig, rng: np.random.Generator) -> int:
    """Draw the largest number of agents of a scene: one number per batch, so that replicas take about equal time."""
    return 1 + int(rng.integers(training.max_agents)) if training.random_agents else training.max_agents


def agents_in_training(outline: SceneOutline, training: ScheduleConfig) -> list[str]:
    """Return the ids of a scene's agents that take part in a training, by `training.agents_of`."""
    if training.agents_of == "any":
        return list(outline.agent_ids)
    if training.agents_of == "ego":
        return [outline.ego_id]
    return [name for name in outline.agent_ids if (training.agents_of == "roadside") == is_roadside_name(name)]


def draw_scene(
    source: SceneSource,
    index: int,
    max_agents: int,
    sensors: Mapping[str, SensorChoice],
    training: ScheduleConfig,
    rng: np.random.Generator,
) -> DrawnScene:
    """Draw the ego, the other agents, the agent types and the errors of poses of a scene; only drawn agents' sensors are read.

    Args:
        source: the source of the scene.
        index: number of the scene.
        max_agents: number of agents at most; all of them are within `training.comm_range_m` of the ego by their measured poses.
        sensors: by agent type, the sensor data to read. Every agent is given one of these types.
        training: the choice of the ego, the types' probabilities, the errors of poses, the range and the rule of ground truth.
        rng: the random generator.
    """
    outline, (of_types, of_poses) = source.outline(index), rng.spawn(2)
    ids = _shuffled(outline, training, rng)
    shares = training.type_weights or dict.fromkeys(sensors, 1.0)
    types = draw_types(ids, training.ego_types or tuple(sensors), shares, of_types)

    def read(agent_id: str) -> AgentFrame:
        frame = source.agent_frame(index, agent_id, sensors[types[agent_id]])
        return frame if training.pose_error.is_zero else training.pose_error.around(frame, of_poses)

    frames, others = [read(ids[0])], map(read, ids[1:])
    while len(frames) < max_agents and (frame := next(others, None)) is not None:
        if in_range(frames[0].world_SE3_agent_measured, frame.world_SE3_agent_measured, training.comm_range_m):
            frames.append(frame)
    objects, of_union = _objects(source, index, outline, frames, training)
    chosen = tuple(frame.agent_id for frame in frames)
    drawn = SceneOutline(outline.scene_id, outline.timestamp_ns, ids[0], chosen, frames[0].world_SE3_agent)
    return DrawnScene(Scene(drawn, tuple(frames), objects), {agent_id: types[agent_id] for agent_id in chosen}, of_union)


def _shuffled(outline: SceneOutline, training: ScheduleConfig, rng: np.random.Generator) -> list[str]:
    """Return the ids of the agents in training in a random order, the ego's first.

    A roadside unit that comes first goes to the end, behind all vehicles and other units, unless it may be the ego.
    """
    candidates = agents_in_training(outline, training)
    if not candidates:
        raise UserError(f"scene {outline.scene_id} has no agent of training.agents_of={training.agents_of}: {outline.agent_ids}")
    ids = [candidates[i] for i in rng.permutation(len(candidates))]
    if not training.random_ego and outline.ego_id in ids:
        return [outline.ego_id, *(agent_id for agent_id in ids if agent_id != outline.ego_id)]
    if training.ego_of == "any" or outline.roadside_ego:
        return ids
    first = next((i for i, agent_id in enumerate(ids) if not is_roadside_name(agent_id)), 0)
    return ids[first:] + ids[:first]


def _objects(
    source: SceneSource, index: int, outline: SceneOutline, frames: Sequence[AgentFrame], training: ScheduleConfig
) -> tuple[ObjectLabels, bool]:
    """Return the objects of a drawn scene, the ego's frame first, and whether they are the union of the frames' labels.

    The labels of a scene as a whole count where all of its agents are drawn; otherwise the labels of the drawn agents.
    """
    labels = [frame.objects for frame in frames]
    if training.ground_truth == "merged":
        return merge_by_iou(labels, frames[0].world_SE3_agent), False
    everybody = outline.labelled_as_whole and len(frames) == len(outline.agent_ids)
    whole = source.scene_objects(index) if everybody else None
    return (ObjectLabels.union(labels), True) if whole is None else (whole, False)
