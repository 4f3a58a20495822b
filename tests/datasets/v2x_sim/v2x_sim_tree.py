"""Write scenes as V2X-Sim's folder tree, with every table and key that nuScenes' schema documents."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heal.se3 import inverse_SE3, quaternions_to_SE3
from heal.types import AgentFrame, Float64, Scene
from tests.datasets.town_truth import box_pose, quaternion

VERSION = "v2.0"
INTRINSIC = [[40.0, 0.0, 32.0], [0.0, 40.0, 18.0], [0.0, 0.0, 1.0]]
# The mounting of a camera that looks ahead: x right, y down, z forward, as nuScenes gives it.
AHEAD = {"translation": [1.5, 0.0, 1.4], "rotation": [0.5, -0.5, 0.5, -0.5]}
LEVEL = {"translation": [0.1, -0.2, 1.8], "rotation": [1.0, 0.0, 0.0, 0.0]}
TO_THE_RIGHT = {"translation": [0.9, 0.0, 1.8], "rotation": [0.5**0.5, 0.0, 0.0, -(0.5**0.5)]}  # the LiDAR's y axis looks ahead


def mounting(values: Mapping[str, Sequence[float]]) -> Float64:
    return quaternions_to_SE3(np.array(values["translation"]), np.array(values["rotation"]))


def pose_values(pose: Float64) -> dict[str, list[float]]:
    return {"translation": pose[:3, 3].tolist(), "rotation": quaternion(pose)}


class Tree:
    """Tables that grow scene by scene; `write` writes them all."""

    def __init__(self, root: Path, lidar: Mapping[str, Sequence[float]] = LEVEL) -> None:
        self.root, self.lidar = root, lidar
        self.tables: dict[str, list[dict[str, Any]]] = {
            "log": [{"token": "log0", "logfile": "", "vehicle": "", "date_captured": "2022-06-01", "location": "Town05"}],
            "map": [{"token": "map0", "log_tokens": ["log0"], "category": "semantic_prior", "filename": "maps/town05.png"}],
            "attribute": [],
            "visibility": [{"token": "1", "level": "v80-100", "description": "{visible}"}],
            **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")},
            **{name: [] for name in ("sample_annotation", "instance", "category")},
        }
        self._tokens = (f"{number:032x}" for number in itertools.count(1))
        self._named: dict[tuple[str, str], str] = {}

    def add(self, table: str, **values: Any) -> str:
        token = next(self._tokens)
        self.tables[table].append({"token": token, **values})
        return token

    def once(self, table: str, key: str, **values: Any) -> str:
        """Add a record unless one of this key is there; return its token."""
        if (table, key) not in self._named:
            self._named[table, key] = self.add(table, **values)
        return self._named[table, key]

    def add_recording(self, name: str, number: int, scenes: Sequence[Scene], step: int = 1) -> None:
        """Add the scenes of a recording; their times are numbers of frames, as in V2X-Sim."""
        token = self.add("scene", name=name, description="", log_token="log0", nbr_samples=len(scenes))
        samples = [self._add_sample(token, number, 6 + step * place, scene) for place, scene in enumerate(scenes)]
        for row, before, after in zip(self.tables["sample"][-len(samples) :], ["", *samples], [*samples[1:], ""], strict=False):
            row.update(prev=before, next=after)
        self.tables["scene"][-1].update(first_sample_token=samples[0], last_sample_token=samples[-1])

    def _add_sample(self, scene_token: str, number: int, frame: int, scene: Scene) -> str:
        sample = self.add("sample", timestamp=frame, scene_token=scene_token)
        for agent in scene.frames:
            self._add_agent(sample, number, frame, agent)
        for object_id, corners in zip(scene.objects.ids, scene.objects.world_corners, strict=True):
            self.add_label(sample, f"{number} {object_id}", "vehicle.audi.tt", *box_pose(corners))
        return sample

    def add_label(self, sample: str, name: str, category: str, pose: Float64, size_lwh: Sequence[float]) -> None:
        """Add a label of a pose in the world, and of a length, a width and a height."""
        kind = self.once("category", category, name=category, description="", index=0)
        links = {"nbr_annotations": 1, "first_annotation_token": "", "last_annotation_token": ""}
        instance = self.once("instance", name, category_token=kind, **links)
        length, width, height = size_lwh
        self.add(
            "sample_annotation",
            sample_token=sample,
            instance_token=instance,
            attribute_tokens=[],
            visibility_token="1",
            size=[width, length, height],
            num_lidar_pts=0,
            num_radar_pts=0,
            prev="",
            next="",
            **pose_values(pose),
        )

    def _add_agent(self, sample: str, number: int, frame: int, agent: AgentFrame) -> None:
        agent_number = 0 if agent.kind == "roadside" else int(agent.agent_id) - 999
        forwards = np.eye(4)
        forwards[:3, 3] = self.lidar["translation"]
        ego_pose = agent.world_SE3_agent @ inverse_SE3(forwards)
        assert agent.lidar is not None
        rows = np.zeros((len(agent.lidar.points), 5), np.float32)
        rows[:, :3] = agent.lidar.points[:, :3] @ mounting(self.lidar)[:3, :3]
        rows[:, 3], rows[:, 4] = agent.lidar.points[:, 3], np.arange(len(rows)) % 32
        lidar = self._recorded(sample, f"LIDAR_TOP_id_{agent_number}", number, frame, ego_pose, self.lidar, ".pcd.bin")
        lidar.write_bytes(rows.tobytes())
        image = self._recorded(sample, f"CAM_FRONT_id_{agent_number}", number, frame, ego_pose, AHEAD, ".png")
        Image.fromarray(np.full((36, 64, 3), 40 * agent_number + frame, np.uint8)).save(image)
        self._recorded(sample, f"SEG_CAM_FRONT_id_{agent_number}", number, frame, ego_pose, AHEAD, ".png")  # no file: is not read

    def _recorded(
        self, sample: str, channel: str, number: int, frame: int, pose: Float64, mounted: Mapping[str, Any], ending: str
    ) -> Path:
        """Add a recording of a sensor, and return the place of its file."""
        is_lidar = channel.startswith("LIDAR")
        sensor = self.once("sensor", channel, channel=channel, modality="lidar" if is_lidar else "camera")
        intrinsic = [] if is_lidar else INTRINSIC
        calibrated = self.once("calibrated_sensor", channel, sensor_token=sensor, camera_intrinsic=intrinsic, **mounted)
        path = self.root / "sweeps" / channel / f"scene_{number}_{frame:06d}{ending}"
        self.add(
            "sample_data",
            sample_token=sample,
            ego_pose_token=self.add("ego_pose", timestamp=frame, **pose_values(pose)),
            calibrated_sensor_token=calibrated,
            filename=path.relative_to(self.root).as_posix(),
            fileformat="pcd" if is_lidar else "png",
            width=0 if is_lidar else 64,
            height=0 if is_lidar else 36,
            timestamp=frame,
            is_key_frame=True,
            prev="",
            next="",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, version: str = VERSION) -> Path:
        folder = self.root / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(records, indent=0))
        return self.root
