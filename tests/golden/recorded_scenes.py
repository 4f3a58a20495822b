"""Access to scenes that the reference read from the recorded folder tree, and to the same scenes by our reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from heal.agent_types import in_range, select_agents
from heal.datasets.assignment import Assignment, read_assignment
from heal.datasets.open import open_dataset
from heal.types import ObjectLabels, Scene, SensorChoice
from tests.golden.fixture import Fixture

Array = npt.NDArray[Any]
# Settings that the runs of the in-order inference make themselves.
IN_ORDER_RANGE_M, IN_ORDER_EGO = 180.0, "m1"


@dataclass(frozen=True)
class RecordedScene:
    """One scene of one run of the reference's data set."""

    fixture: Fixture
    arrays: Any
    run: str
    index: int

    @property
    def change(self) -> dict[str, Any]:
        """Return the settings of the run that differ from the other runs' settings."""
        change: dict[str, Any] = self.fixture.meta["runs"][self.run]["change"]
        return change

    @property
    def tree(self) -> Path:
        return self.fixture.path.parent / "mini_tree"

    def has(self, name: str) -> bool:
        return f"{self.run}/{self.index}/{name}" in self.arrays.files

    def array(self, name: str) -> Array:
        array: Array = self.arrays[f"{self.run}/{self.index}/{name}"]
        return array

    def plain(self, name: str) -> Any:
        return json.loads(str(self.array(f"{name}#json")))

    def sparse(self, name: str) -> Array:
        """Return labels, recorded as indices and values of the non-zero elements, or as indices of the zeros among ones."""
        found = np.zeros(self.array(f"{name}_shape"))
        if self.has(f"{name}_zero_index"):
            found.flat[:] = 1.0
            found.flat[self.array(f"{name}_zero_index")] = 0.0
        else:
            found.flat[self.array(f"{name}_nz_index")] = self.array(f"{name}_nz_value")
        return found

    def boxes(self, name: str, suffix: str = "", row: int = 0) -> Array:
        """Return the recorded boxes (N, 7) of one agent or scene."""
        mask = self.array(f"{name}object_bbx_mask{suffix}")[row] > 0
        boxes: Array = self.array(f"{name}object_bbx_center{suffix}")[row][mask]
        return boxes

    @property
    def assignment(self) -> Assignment:
        return read_assignment(self.tree / ("assignment_in_order.json" if "infer" in self.change else "assignment.json"))

    @property
    def ego_types(self) -> list[str]:
        types: list[str] = self.change["heter"]["ego_modality"].split("&") if "heter" in self.change else [IN_ORDER_EGO]
        return types

    def sees_by_camera(self, agent_type: str) -> bool:
        """Whether labels of this agent type are cut to the cameras' view; the data set for visualisation never cuts them."""
        setting = self.fixture.config["heter"]["modality_setting"]
        return "infer" not in self.change and bool(setting[agent_type]["sensor_type"] == "camera")


def recorded_scenes(fixture: Fixture, fused: bool) -> Iterator[RecordedScene]:
    arrays = fixture.arrays
    for run, description in fixture.meta["runs"].items():
        for index in range(description["len"]):
            recorded = RecordedScene(fixture, arrays, run, index)
            if recorded.has("ego/cav_id_list#json") == fused:
                yield recorded


def scene_of(recorded: RecordedScene, cameras: bool = False) -> tuple[Scene, dict[str, str]]:
    """Read the same scene by our reader: the agents that take part, the ego first, and their types.

    Every agent is read as its type wants it: its number of laser lines, and the labels that the reference gives such a type.
    """
    config = recorded.fixture.config
    source = open_dataset(recorded.tree, "test", max_agents=99)
    outline = source.outline(recorded.index)
    types = recorded.assignment.of_scenario(outline.scene_id.split("/")[0])
    limit = config["train_params"]["max_cav"]
    agents = select_agents(outline.agent_ids, types, recorded.ego_types, limit)
    beams = config["heter"]["lidar_channels_dict"]
    frames = {}
    for agent_id in agents:
        # The set of single agents decides once, by the ego's type, whether labels are what cameras see.
        kind = recorded.ego_types[0] if "late" in recorded.change else types[agent_id]
        labels: Literal["lidar", "camera"] = "camera" if recorded.sees_by_camera(kind) else "lidar"
        choice = SensorChoice(
            lidar=not cameras, beams=beams.get(types[agent_id], 64), cameras=cameras, depth=cameras, labels=labels
        )
        frames[agent_id] = source.agent_frame(recorded.index, agent_id, choice)
    comm_range_m = IN_ORDER_RANGE_M if "infer" in recorded.change else config["comm_range"]
    ego = frames[agents[0]].world_SE3_agent_measured
    near = tuple(agent_id for agent_id in agents if in_range(ego, frames[agent_id].world_SE3_agent_measured, comm_range_m))
    near = tuple(agent_id for agent_id in near if types[agent_id] in config["heter"]["modality_setting"])
    chosen = tuple(frames[agent_id] for agent_id in near)
    outline = replace(outline, ego_id=near[0], agent_ids=near, world_SE3_ego=chosen[0].world_SE3_agent)
    scene = Scene(outline, chosen, ObjectLabels.union([frame.objects for frame in chosen]))
    return scene, {agent_id: types[agent_id] for agent_id in near}
