"""The metadata of one agent and frame of a town, with the keys of OPV2V's YAML files."""

from __future__ import annotations

from typing import Any

from heal.datasets.town.source import TownSource, agent_pose
from heal.datasets.town.town import FIRST_ID, TownState
from heal.se3 import SE3_to_pose, inverse_SE3
from heal.types import Float64

_KMH = 3.6


def frame_metadata(source: TownSource, index: int, agent_id: str) -> dict[str, Any]:
    """Return the content of an agent's `<stamp>.yaml` in scene `index`."""
    agent, state = source.agent(agent_id), source.state(index)
    world_SE3_lidar = agent_pose(agent, state)
    body = world_SE3_lidar if agent.vehicle is None else state.world_SE3_vehicles[agent.vehicle]
    speed = 0.0 if agent.vehicle is None else float(state.speed[agent.vehicle])
    return {
        "RSU": agent.kind == "roadside",
        **_cameras(source, index, agent_id, world_SE3_lidar),
        "ego_speed": speed * _KMH,
        "lidar_pose": SE3_to_pose(world_SE3_lidar).tolist(),
        "plan_trajectory": [],
        "predicted_ego_pos": SE3_to_pose(body).tolist(),
        "true_ego_pos": SE3_to_pose(body).tolist(),
        "vehicles": {number: _object(source, state, number) for number in sorted(source.hits(index, agent_id))},
    }


def _object(source: TownSource, state: TownState, number: int) -> dict[str, Any]:
    """Return a labelled object, with its type where a town has others than vehicles.

    OPV2V's readers add `center` to `location`, so `center` is in world axes.
    """
    pose = state.world_SE3_vehicles[number - FIRST_ID]
    half = source.town.specs[number - FIRST_ID].size_m / 2
    six = SE3_to_pose(pose)
    return {
        "angle": six[3:].tolist(),
        "center": (pose[:3, 2] * half[2]).tolist(),
        "extent": half.tolist(),
        "location": six[:3].tolist(),
        **({"obj_type": source.type_of(number)} if source.preset.names_classes else {}),
        "speed": float(state.speed[number - FIRST_ID]) * _KMH,
    }


def _cameras(source: TownSource, index: int, agent_id: str, world_SE3_lidar: Float64) -> dict[str, Any]:
    """Return the cameras; `extrinsic` maps LiDAR coordinates to camera coordinates, both x forward, y right, z up."""
    intrinsic = source.preset.intrinsic_of(source.agent(agent_id).kind).tolist()
    return {
        f"camera{number}": {
            "cords": SE3_to_pose(pose).tolist(),
            "extrinsic": (inverse_SE3(pose) @ world_SE3_lidar).tolist(),
            "intrinsic": intrinsic,
        }
        for number, pose in enumerate(source.camera_poses(index, agent_id))
    }
