"""Early fusion in training: a drawn scene of several agents becomes one of its ego alone, with the joint cloud of all agents."""

from __future__ import annotations

from dataclasses import replace

from heal.detection.label_filters import without_vehicle_at
from heal.encoders.joint_cloud import with_joint_cloud
from heal.training.drawing import DrawnScene
from heal.types import Scene


def joined(drawn: DrawnScene) -> DrawnScene:
    """Return a scene of its ego alone, which has the points of all agents and has to find all objects of the scene.

    Clouds are moved by the measured poses, as in a run. The ego keeps its agent type. Its own vehicle is not among the objects that
    it has to find in its map; whether it is among those of the scene is for `training.include_ego` to decide.
    """
    scene, (ego, *others) = drawn.scene, drawn.scene.ego_first
    labels = without_vehicle_at(scene.objects, ego.world_SE3_agent)
    frame = replace(with_joint_cloud(ego, others), objects=labels)
    alone = Scene(replace(scene.outline, agent_ids=(ego.agent_id,)), (frame,), scene.objects)
    return DrawnScene(alone, {ego.agent_id: drawn.agent_types[ego.agent_id]}, of_union=False)
