"""One agent's frame of the town as OPV2V's files have it: the metadata's keys, YAML and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.town.agents import TownAgent
from heal.datasets.town.source import TownSource, agent_pose, camera_poses
from heal.datasets.town.town import FIRST_ID, TownState
from heal.se3 import SE3_to_pose, inverse_SE3

_KMH = 3.6


def frame_metadata(source: TownSource, index: int, agent_id: str) -> dict[str, Any]:
    """The content of an agent's `<stamp>.yaml`."""
    agent, state = source.agent(agent_id), source.state(index)
    world_SE3_lidar = agent_pose(agent, state)
    body = world_SE3_lidar if agent.vehicle is None else state.world_SE3_vehicles[agent.vehicle]
    speed = 0.0 if agent.vehicle is None else float(state.speed[agent.vehicle])
    return {
        "RSU": agent.kind == "roadside",
        **_cameras(source, agent, state),
        "ego_speed": speed * _KMH,
        "lidar_pose": SE3_to_pose(world_SE3_lidar).tolist(),
        "plan_trajectory": [],
        "predicted_ego_pos": SE3_to_pose(body).tolist(),
        "true_ego_pos": SE3_to_pose(body).tolist(),
        "vehicles": {number: _vehicle(source, state, number) for number in sorted(source.hits(index, agent_id))},
    }


def _vehicle(source: TownSource, state: TownState, number: int) -> dict[str, Any]:
    """A labelled vehicle; `center` leads from `location` to the box's middle in world axes: OPV2V's readers simply add the two."""
    pose = state.world_SE3_vehicles[number - FIRST_ID]
    half = source.town.specs[number - FIRST_ID].size_m / 2
    six = SE3_to_pose(pose)
    return {
        "angle": six[3:].tolist(),
        "center": (pose[:3, 2] * half[2]).tolist(),
        "extent": half.tolist(),
        "location": six[:3].tolist(),
        "speed": float(state.speed[number - FIRST_ID]) * _KMH,
    }


def _cameras(source: TownSource, agent: TownAgent, state: TownState) -> dict[str, Any]:
    """The cameras' poses; `extrinsic` maps LiDAR coordinates into the camera's, both x forward, y right, z up."""
    world_SE3_lidar = agent_pose(agent, state)
    intrinsic = source.preset.intrinsic.tolist()
    return {
        f"camera{number}": {
            "cords": SE3_to_pose(pose).tolist(),
            "extrinsic": (inverse_SE3(pose) @ world_SE3_lidar).tolist(),
            "intrinsic": intrinsic,
        }
        for number, pose in enumerate(camera_poses(agent, state))
    }


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write nested plain values as YAML, with the fast dumper where there is one."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    path.write_text(yaml.dump(values, Dumper=dumper, default_flow_style=False), encoding="utf-8")


def write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, fast rather than small."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=3)
