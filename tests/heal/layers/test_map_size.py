"""Ranges are checked against the strides of the networks when settings are read, and the message names ranges that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agent_model import AgentConfig, AgentModel
from heal.alliance import TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.second import SecondConfig
from heal.fusion.pyramid import PyramidConfig
from heal.grid import BevGrid
from heal.layers.backbone import BackboneConfig
from heal.layers.map_size import output_cells
from heal.layers.residual import ResidualStages, Upsample
from heal.tools.export import export_alliance
from heal.tools.import_runs import read_run
from heal.tools.shared.paths import CONFIGS

DEMO = CONFIGS / "demo" / "alliance"
CELL_M = 0.8
SIZED = "range_m in x is 100 m, 125 cells; choose a multiple of 4 cells \\(3.2 m\\), such as 99.2 or 102.4"
SCALES = st.integers(1, 3)


def grid_of(x_cells: int, y_cells: int = 16) -> BevGrid:
    x_m, y_m = x_cells * CELL_M / 2, y_cells * CELL_M / 2
    return BevGrid((-x_m, -y_m, -3.0, x_m, y_m, 1.0), CELL_M)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.lists(SCALES, min_size=1, max_size=3), st.sampled_from([(), (0.5,), (2.0,)]))
def test_sizes_are_those_of_the_layers(cells: int, strides: list[int], further: tuple[float, ...]) -> None:
    enlarge = tuple(float(torch.tensor(strides[: i + 1]).prod()) for i in range(len(strides))) + further
    width = (1,) * len(strides)
    maps = ResidualStages(1, width, strides, width)(torch.zeros(2, 1, cells, cells))
    expected = output_cells(cells, strides, enlarge)
    try:
        joined = Upsample(width, enlarge, width)(maps)
    except RuntimeError:
        assert expected in (None, 0)
    else:
        assert joined.shape[2] == expected
    assert maps[-1].shape[2] == output_cells(cells, strides, ())


def test_a_base_names_the_nearest_ranges_that_fit() -> None:
    with pytest.raises(ConfigError, match=SIZED):
        BaseConfig(grid=grid_of(125))
    with pytest.raises(ConfigError, match=r"range_m in y is 1.6 m, 2 cells; choose a multiple of 4 cells \(3.2 m\), such as 3.2"):
        BaseConfig(grid=grid_of(128, 2))
    BaseConfig(grid=grid_of(124)), BaseConfig(grid=grid_of(128))
    with pytest.raises(ConfigError, match="fit no number of cells"):
        BaseConfig(pyramid=PyramidConfig(upsample_strides=(1, 2, 3)))


def test_the_range_in_a_file_is_checked_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match=f"settings:\n  {SIZED}$"):
        build_config(BaseConfig, {"grid": {"range_m": [-50, -50, -3, 50, 50, 1], "cell_m": CELL_M}}, "settings")


def test_another_range_for_an_alliance_is_checked_before_the_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_bytes((DEMO / "base" / "base.yaml").read_bytes())
    with pytest.raises(ConfigError, match=SIZED):
        load_alliance(tmp_path, (-50, -50, -3, 50, 50, 1))


def test_the_range_of_a_run_folder_is_checked(tmp_path: Path) -> None:
    demo = load_alliance(DEMO)
    pyramid = replace(demo.card.config.pyramid, sharpness=1.0, gate=0.0)  # HEAL has neither
    base_hash = save_base(
        tmp_path / "plain", BaseModel(replace(demo.card.config, pyramid=pyramid, guard=None)), TrainingRecord(agent_types=("m1",))
    )
    m1 = AgentModel(replace(demo.agent_card("m1").config, cell_coverage=False), demo.grid)
    save_agent(tmp_path / "plain", "m1", m1, base_hash, TrainingRecord())
    export_alliance(load_alliance(tmp_path / "plain"), {"m1": "m1"}, tmp_path / "run")
    text = yaml.safe_dump(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    (tmp_path / "run" / "config.yaml").write_text(text.replace("51.2", "50.0"))
    with pytest.raises(ConfigError, match=f"(?s)run .*{SIZED}$"):
        read_run(tmp_path / "run")


SCALED = BackboneConfig(blocks=(1, 1), strides=(2, 2), channels=(8, 8), upsample_strides=(1, 2), upsample_channels=(8, 8))
TWICE = replace(SCALED, strides=(1, 2), upsample_strides=(1, 2))
LIFT = LiftSplatConfig(trunk="resnet18", downsample=8, trunk_stride=16, range_m=(-10.0, -9.6, -10, 10.0, 9.6, 10))
BAD = {
    "point_pillars": (PointPillarsConfig(), SCALED, "x is 12 m, 30 cells; choose a multiple of 4 cells"),
    "second": (SecondConfig(), TWICE, r"x is 12 m, 15 cells; .* 2 cells \(1.6 m\), such as 11.2 or 12.8"),
    "lift_splat": (LIFT, SCALED, r"x is 20 m, 50 cells; .* 4 cells \(1.6 m\), such as 19.2 or 20.8"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_backbone_that_does_not_divide_its_encoders_range_is_refused(kind: str) -> None:
    encoder, backbone, message = BAD[kind]
    with pytest.raises(ConfigError, match=message):
        AgentModel(AgentConfig(encoder=encoder, backbone=backbone), grid_of(15))


def test_a_range_that_fits_runs_through_base_and_agent() -> None:
    grid = grid_of(12, 8)
    base = BaseModel(BaseConfig(grid=grid, in_channels=8, pyramid=PyramidConfig(groups=0, channels=(8, 8, 8))))
    AgentModel(AgentConfig(encoder=SecondConfig(), backbone=TWICE), grid)
    with torch.no_grad():
        head = base.eval()(torch.zeros(1, 8, 8, 12), torch.eye(4, dtype=torch.float64)[None], [1]).head
    assert head.classification.shape == (1, 2, 8, 12)
