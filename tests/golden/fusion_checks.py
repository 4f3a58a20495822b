"""The fusions of one scale give the reference's recorded outputs with the recorded weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heal.fusion.attention import AttentionConfig
from heal.fusion.cobevt import CobevtConfig
from heal.fusion.disconet import DiscoNetConfig
from heal.fusion.maximum import MaximumConfig
from heal.fusion.table import make_fusion
from heal.fusion.v2vnet import V2VNetConfig
from heal.fusion.v2xvit import V2xVitConfig
from heal.grid import BevGrid
from tests.golden.fixture import Fixture, assert_close


def _recorded_poses(fixture: Fixture, counts: list[int], grid: BevGrid) -> Tensor:
    """Return (M, 4, 4) poses whose normalised planar parts are the recorded ones from the egos to the agents."""
    affine = fixture.tensor("affine")
    rows = torch.cat([affine[scene, 0, :count] for scene, count in enumerate(counts)])
    poses = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    x_m, y_m = grid.length_x_m, grid.length_y_m
    poses[:, :2, :2] = rows[:, :, :2] * torch.tensor([[1, x_m / y_m], [y_m / x_m, 1]])
    poses[:, :2, 3] = rows[:, :, 2] * torch.tensor([x_m / 2, y_m / 2])
    return poses


def check_map_fusion(fixture: Fixture, settings: Any, x: Tensor, prefix: str = "") -> None:
    counts = fixture.input("record_len").tolist()
    ny, nx = x.shape[-2:]
    grid = BevGrid((-nx / 2, -ny / 2, -3.0, nx / 2, ny / 2, 1.0), 1.0)
    model = make_fusion(settings, x.shape[1], grid)
    fixture.load_weights(model, lambda name: prefix + name)
    with torch.no_grad():
        model.eval()
        [fused] = model.fuse_levels(model.trunk(x), _recorded_poses(fixture, counts, grid), counts)
        assert_close(model.join([fused]), fixture.expected("y"))


def check_maximum(fixture: Fixture) -> None:
    check_map_fusion(fixture, MaximumConfig(foreground=False), fixture.tensor("x"))


def check_attention(fixture: Fixture) -> None:
    check_map_fusion(fixture, AttentionConfig(foreground=False), fixture.tensor("x"))


def check_v2vnet(fixture: Fixture) -> None:
    check_map_fusion(fixture, V2VNetConfig(foreground=False), fixture.tensor("x"))


def check_disconet(fixture: Fixture) -> None:
    check_map_fusion(fixture, DiscoNetConfig(foreground=False), fixture.tensor("x"))


def check_cobevt(fixture: Fixture) -> None:
    [args] = fixture.config["args"]
    settings = CobevtConfig(
        foreground=False,
        slots=args["agent_size"],
        order="given",
        layers=args["depth"],
        window=args["window_size"],
        head_channels=args["dim_head"],
        hidden=args["mlp_dim"],
    )
    check_map_fusion(fixture, settings, fixture.tensor("x"))


def check_v2xvit(fixture: Fixture) -> None:
    encoder = fixture.config["encoder"]
    agents, windows = encoder["cav_att_config"], encoder["pwindow_att_config"]
    settings = V2xVitConfig(
        foreground=False,
        layers=encoder["depth"],
        blocks=encoder["num_blocks"],
        heads=agents["heads"],
        head_channels=agents["dim_head"],
        windows=tuple(windows["window_size"]),
        window_heads=tuple(windows["heads"]),
        window_head_channels=tuple(windows["dim_head"]),
        hidden=encoder["feed_forward"]["mlp_dim"],
    )
    check_map_fusion(fixture, settings, fixture.tensor("x_f32"), "fusion_net.")
