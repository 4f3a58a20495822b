"""A base with centre heads: its output, its fast copy, its settings and its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from heal.alliance import TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config, to_plain
from heal.detection.head import HeadOutput
from heal.fusion.maximum import MaximumConfig
from heal.graphs.traceable import base_graphs
from heal.heads.center_targets import CentersConfig
from heal.layers.inference import for_inference
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.settings import resolve_settings
from tests.heal.graphs.test_traceable import require_equal
from tests.heal.networks import BASE, GRID, small_model, with_random_norms

CENTERS = replace(BASE, heads=CentersConfig(channels=8))


def base_of(settings: BaseConfig) -> BaseModel:
    torch.manual_seed(0)
    base = BaseModel(settings)
    with_random_norms(base)
    return base.eval().requires_grad_(False)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.parametrize("fusion", [None, MaximumConfig()], ids=["pyramid", "max"])
def test_output_and_fast_copy(fusion: MaximumConfig | None, exponent: float) -> None:
    base = base_of(replace(CENTERS, fusion=fusion, heads=CentersConfig(channels=8, iou_exponent=exponent)))
    maps = torch.randn(3, 8, GRID.ny, GRID.nx)
    given = (maps, torch.eye(4, dtype=torch.float64).repeat(3, 1, 1), [2, 1])
    head = base(*given).head
    shapes = [tuple(part.shape) for part in vars(head).values()]
    assert shapes == [(2, channels, GRID.ny, GRID.nx) for channels in (1, 7 if exponent else 6, 4)]
    fast = for_inference(base)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.get_submodule("center_head").modules())
    torch.testing.assert_close(vars(fast(*given).head), vars(head), atol=1e-4, rtol=1e-4)


def test_the_predicted_overlap_lowers_the_score() -> None:
    plain, aware = (base_of(replace(CENTERS, heads=CentersConfig(channels=8, iou_exponent=e))) for e in (0.0, 0.25))
    head = HeadOutput(*(torch.zeros(1, channels, GRID.ny, GRID.nx) for channels in (1, 7, 4)))
    head.classification[:], head.regression[:, 6] = -9.0, 0.0
    head.classification[0, 0, 5, 5] = 1.0
    score = torch.tensor(1.0).sigmoid()
    assert torch.equal(plain.detection.candidates(head)[1], score[None])
    torch.testing.assert_close(aware.detection.candidates(head)[1], (score**0.75 * 0.5**0.25)[None])


def test_only_the_highest_of_neighbouring_cells_are_candidates() -> None:
    base = base_of(CENTERS)
    head = HeadOutput(*(torch.full((1, channels, GRID.ny, GRID.nx), -9.0) for channels in (1, 6, 4)))
    head.classification[0, 0, 0, :4] = torch.tensor([2.0, 1.0, 1.5, 0.5])
    head.classification[0, 0, 9, 9] = float("nan")
    boxes, scores, classes = base.detection.candidates(head)
    assert scores.tolist() == torch.tensor([2.0, 1.5]).sigmoid().tolist() and boxes.shape == (2, 7)
    assert classes.tolist() == [0, 0]
    both = HeadOutput(*(part.repeat(2, 1, 1, 1) for part in vars(head).values()))
    with pytest.raises(ValueError, match="heatmap of one scene"):
        base.detection.candidates(both)


def test_graphs_of_a_base_with_centre_heads() -> None:
    graphs = base_graphs(base_of(CENTERS))
    assert len(graphs) == len(base_graphs(base_of(BASE)))
    for graph in graphs:
        require_equal(graph, 2)


def test_settings_come_from_a_section_of_their_own() -> None:
    made = build_config(BaseConfig, {**to_plain(BASE), "heads": {"kind": "centers", "channels": 8}})
    assert made == CENTERS and build_config(BaseConfig, to_plain(made)) == made
    assert build_config(BaseConfig, {"heads": {}}).heads == CentersConfig()
    assert "heads" not in to_plain(BASE, hashed=True) and to_plain(CENTERS, hashed=True)["heads"]["channels"] == 8
    with pytest.raises(ConfigError, match=r"heads: expected one of the kinds centers, got 'centres'; did you mean 'centers'"):
        build_config(BaseConfig, {"heads": {"kind": "centres"}})
    with pytest.raises(ConfigError, match=r"heads.*chanels: unknown key; did you mean 'channels'"):
        build_config(BaseConfig, {"heads": {"chanels": 8}})


def test_a_base_with_centre_heads_is_saved_and_opened(tmp_path: Path) -> None:
    base = BaseModel(CENTERS)
    base_hash = save_base(tmp_path, base, TrainingRecord())
    save_agent(tmp_path, "m1", small_model().agent("m1"), base_hash, TrainingRecord())
    opened = load_alliance(tmp_path)
    assert opened.base.config == CENTERS and opened.base_hash == base_hash and opened.agent_names == ("m1",)
    state = opened.base.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in base.state_dict().items())
    assert {name.split(".")[0] for name in state} == {"pyramid_backbone", "shrink_conv", "center_head"}
    other = BaseModel(replace(CENTERS, heads=CentersConfig(channels=8, min_overlap=0.2)))
    other.load_state_dict(base.state_dict())
    assert save_base(tmp_path / "other", other, TrainingRecord()) != base_hash


def test_the_town_has_a_shipped_configuration_with_centre_heads() -> None:
    anchors, centers = (resolve_settings(CONFIGS / "demo" / f"{name}.yaml", None, []) for name in ("base", "base_centers"))
    assert centers.base.heads == CentersConfig(channels=32)
    assert replace(centers, base=replace(centers.base, heads=None)) == anchors
