"""The reference's tools beside the networks: merging of checkpoints, learning rates, anchors of its configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heal.config import load_config, load_yaml
from heal.detection.anchors import AnchorConfig, make_anchors
from heal.grid import BevGrid
from heal.opencood.weights import merge_states
from heal.tools.shared.paths import CONFIGS
from heal.training.config import ScheduleConfig, TrainingConfig, learning_rate
from tests.golden.fixture import FOLDER

FILE = FOLDER / "tools_and_configs.json"
RECORDED: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
SHIPPED = {
    "opv2v/MoreModality/HEAL/stage1/m1_pyramid.yaml": "base.yaml",
    "dairv2x/MoreModality/HEAL/final_infer/m1m2.yaml": "dair.yaml",
}

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not RECORDED, reason=f"no {FILE.name} in {FOLDER}; set HEAL_GOLDEN to the folder that has it"),
]


def test_checkpoints_are_joined_by_the_references_rule() -> None:
    recorded = RECORDED.get("merge_final", {})
    states = [{key: torch.tensor(values) for key, values in state.items()} for state in recorded["inputs_in_order"]]
    merged, differing = merge_states(states)
    assert merged.keys() == recorded["result"].keys()
    for key, values in recorded["result"].items():
        assert torch.equal(merged[key], torch.tensor(values))
    several = [key for key in merged if len({str(state[key]) for state in states if key in state}) > 1]
    assert differing == sorted(several)


def _schedules() -> list[Any]:
    recorded = RECORDED.get("lr_schedule", {})
    return [pytest.param(recorded[name], id=name) for name in recorded if name != "reference"]


@pytest.mark.parametrize("schedule", _schedules())
def test_learning_rates_follow_the_recorded_tables(schedule: dict[str, Any]) -> None:
    rate, milestones, _, epochs = schedule["args"]
    training = ScheduleConfig(epochs=epochs, learning_rate=rate, milestones=tuple(milestones))
    steps = 7
    first = [learning_rate(training, epoch * steps, steps) for epoch in range(epochs)]
    last = [learning_rate(training, epoch * steps + steps - 1, steps) for epoch in range(epochs)]
    np.testing.assert_allclose(first, schedule["lr_per_epoch"], rtol=1e-9)
    assert first == last
    # Stage 2 starts from the base's checkpoint at epoch 1.
    np.testing.assert_allclose(first[1:], schedule["lr_per_epoch_resumed_from_1"], rtol=1e-9)


def _anchor_args() -> list[Any]:
    recorded = RECORDED.get("parsed_anchor_args", {})
    return [pytest.param(values, id=name) for name, values in recorded.items() if isinstance(values, dict)]


@pytest.mark.parametrize("args", _anchor_args())
def test_grids_and_anchors_are_those_of_the_references_configurations(args: dict[str, Any]) -> None:
    grid = BevGrid(tuple(args["cav_lidar_range"]), args["vw"] * args["feature_stride"])
    assert (grid.nx, grid.ny) == (args["W"] // args["feature_stride"], args["H"] // args["feature_stride"])
    config = AnchorConfig(length_m=args["l"], width_m=args["w"], height_m=args["h"], yaws_deg=tuple(args["r"]))
    assert make_anchors(grid, config).shape == (grid.ny, grid.nx, args["num"], 7)


@pytest.mark.parametrize(("name", "shipped"), SHIPPED.items())
def test_shipped_configurations_have_the_references_range_anchors_and_optimiser(name: str, shipped: str) -> None:
    args, settings = RECORDED["parsed_anchor_args"][name], load_config(TrainingConfig, CONFIGS / shipped)
    assert list(settings.base.grid.range_m) == args["cav_lidar_range"]
    anchors = settings.base.anchors
    assert (anchors.length_m, anchors.width_m, anchors.height_m) == (args["l"], args["w"], args["h"])
    assert list(anchors.yaws_deg) == args["r"]
    training = settings.training
    assert [training.adam_epsilon, training.weight_decay] == RECORDED["parsed_anchor_args"][f"{name}#eps,wd"]


def test_small_numbers_without_a_point_are_read_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("optimizer: {args: {eps: 1e-10, weight_decay: 1e-4}}\n")
    read = load_yaml(tmp_path / "config.yaml")["optimizer"]["args"]
    for name, recorded in RECORDED["parsed_anchor_args"].items():
        if name.endswith("#eps,wd"):
            assert [read["eps"], read["weight_decay"]] == recorded
