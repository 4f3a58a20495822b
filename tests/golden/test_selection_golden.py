"""The choice of the ego, the agent types and the clouds equals the reference's, recorded as plain JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.agent_types import select_agents
from heal.datasets.assignment import Assignment
from heal.datasets.opv2v.source import Opv2vSource
from heal.datasets.pcd import write_pcd
from heal.types import SensorChoice
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.golden.fixture import FOLDER

pytestmark = pytest.mark.golden


def recorded() -> dict[str, Any]:
    path = FOLDER / "tools_and_configs.json"
    if not path.exists():
        pytest.skip(f"no golden fixture {path}; set HEAL_GOLDEN to the folder that has it")
    values: dict[str, Any] = json.loads(path.read_text())["adaptor_eval"]
    return values


def test_egos_and_types_are_chosen_as_recorded() -> None:
    values = recorded()
    assigned = Assignment(values["assignment"])
    for case in values["cases"]:
        mapped = assigned.mapped(case["mapping"])
        modalities = {agent_id: mapped.type_of(case["scenario"], agent_id) for agent_id in case["cav_list"]}
        assert modalities == case["modalities"]
        agents, ego_types = case["cav_list"], case["ego"].split("&")
        # The first agent may stay the ego by its assigned type; another agent may become the ego by its mapped type.
        stays = assigned.type_of(case["scenario"], agents[0]) in ego_types
        candidates = agents if stays else ["nobody", *agents]
        chosen = select_agents(candidates, {} if stays else mapped.of_scenario(case["scenario"]), ego_types, None)
        assert [agent_id for agent_id in chosen if agent_id != "nobody"] == case["reordered"]


def test_clouds_of_the_recorded_lines_are_read(tmp_path: Path) -> None:
    """Check that we read the files that the reference opens for the same number of laser lines."""
    root = write_tree(tmp_path, ("1",), ("000068",))
    source = Opv2vSource(root, "test")
    for name in {name for case in recorded()["cases"] for name in case["lidar_files"].values()}:
        lines = int(name.removesuffix(".pcd").split("_")[-1]) if "_Hetero" in name else 64
        file = tmp_path / Path(name).parts[1] / "test" / "scenario_a" / "1" / Path(name).name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_pcd(file, np.full((lines, 4), 0.5, np.float32))
        scan = source.agent_frame(0, "1", SensorChoice(beams=lines)).lidar
        assert scan is not None and (scan.beams, len(scan.points)) == (lines, lines)
