"""What every fusion of the table has to do, whatever its method: a new one is added to `SMALL` and passes the same tests."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from heal.config import ConfigError
from heal.errors import UserError
from heal.fusion.attention import AttentionConfig
from heal.fusion.coalign import CoAlignConfig
from heal.fusion.cobevt import CobevtConfig
from heal.fusion.disconet import DiscoNetConfig
from heal.fusion.ego_only import EgoOnlyConfig
from heal.fusion.hmvit import HmVitConfig
from heal.fusion.interface import Fusion
from heal.fusion.maximum import MaximumConfig
from heal.fusion.mpda import MpdaConfig
from heal.fusion.table import FUSIONS, make_fusion
from heal.fusion.v2vnet import V2VNetConfig
from heal.fusion.v2xvit import V2xVitConfig
from heal.fusion.where2comm import Where2commConfig
from heal.grid import BevGrid
from heal.se3 import pose_to_SE3

GRID = BevGrid((-12.8, -6.4, -3.0, 12.8, 6.4, 1.0), 0.8)
CHANNELS, TYPES = 16, ("m1", "m2", "m1", "m3")
V2XVIT = V2xVitConfig(
    layers=2, heads=2, head_channels=4, windows=(2, 3), window_heads=(4, 2), window_head_channels=(4, 8), hidden=12
)
# Settings of a small network for each fusion, for maps of 16 channels of the agent types m1, m2 and m3. Windows of 3 cells do not
# divide the maps.
SMALL: tuple[Any, ...] = (
    EgoOnlyConfig(),
    MaximumConfig(),
    AttentionConfig(),
    V2VNetConfig(),
    DiscoNetConfig(),
    CoAlignConfig(blocks=(1, 1, 1), channels=(16, 8, 8), upsample_channels=(8, 8, 8)),
    Where2commConfig(heads=4, hidden_channels=24),
    CobevtConfig(layers=1, window=3, head_channels=8, hidden=12),
    V2XVIT,
    HmVitConfig(kinds={"m1": "lidar", "m2": "camera", "m3": "lidar"}, layers=1, window=3, head_channels=8, hidden=12),
    MpdaConfig(fused_by=V2XVIT, window=3, head_channels=8, hidden=12),
)
# The weights that a fusion has only because published checkpoints have them, as "kind.weight".
UNUSED = re.compile(r"^coalign\.resnet\.layer0\.|^(v2xvit|mpda\.fused_by)\..*(prior_feed|_linears\.1\.)")
every_fusion = pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.kind)


def made(settings: Any, training: bool = False) -> Fusion:
    """Return a fusion with random weights, none of which is zero."""
    torch.manual_seed(0)
    fusion = make_fusion(settings, CHANNELS, GRID)
    for weight in fusion.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return fusion.train(training)


def maps(agents: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(agents, CHANNELS, GRID.ny, GRID.nx, generator=generator).relu()


def poses(*places: tuple[float, float, float]) -> Tensor:
    """Return the poses (N, 4, 4) of the ego in the frames of agents, from x and y in metres and yaw in degrees."""
    return torch.stack([torch.from_numpy(pose_to_SE3([x, y, 0.0, 0.0, yaw, 0.0])) for x, y, yaw in places])


NEAR = poses((0, 0, 0), (3.1, -1.7, 20), (-4.2, 1.1, -75), (1.3, 2.9, 170))
FAR = poses((0, 0, 0), (900, 0, 20))


def fused(fusion: Fusion, features: Tensor, agent_SE3_ego: Tensor, *counts: int, **others: Any) -> Tensor:
    """Return the fused map (B, C, ny, nx) of scenes; by default one scene with all agents, whose types are `TYPES`."""
    with torch.no_grad():
        levels = fusion.trunk(features)
        scores = fusion.scores(levels.occupancy)
        settings = {"agent_types": TYPES[: len(features)], **others}
        return fusion.join(fusion.fuse_scored(levels.maps, scores, agent_SE3_ego, counts or (len(features),), **settings))


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max()) + 1e-6


def test_every_fusion_of_the_table_is_tested() -> None:
    assert {type(settings) for settings in SMALL} == set(FUSIONS)


@every_fusion
def test_the_fused_map_lies_on_the_grid_and_is_finite(settings: Any) -> None:
    fusion = made(settings)
    found = fused(fusion, maps(4), NEAR)
    assert found.shape == (1, fusion.out_channels, GRID.ny, GRID.nx)
    assert found.isfinite().all()


@every_fusion
def test_the_order_of_the_senders_does_not_matter(settings: Any) -> None:
    fusion, features, order = made(settings), maps(4), [0, 3, 1, 2]
    types = tuple(TYPES[i] for i in order)
    assert_same(fused(fusion, features[order], NEAR[order], agent_types=types), fused(fusion, features, NEAR))


@every_fusion
def test_scenes_are_fused_each_for_itself(settings: Any) -> None:
    fusion, features = made(settings), maps(4)
    together = fused(fusion, features, torch.cat([NEAR[:3], NEAR[:1]]), 3, 1)
    types = TYPES[3:]
    assert_same(together[:1], fused(fusion, features[:3], NEAR[:3]))
    assert_same(together[1:], fused(fusion, features[3:], NEAR[:1], agent_types=types))


@every_fusion
def test_an_agent_that_sees_nothing_of_the_egos_map_is_as_one_with_an_empty_map(settings: Any) -> None:
    fusion, features = made(settings), maps(2)
    empty = torch.stack([features[0], torch.zeros_like(features[1])])
    assert_same(fused(fusion, features, FAR), fused(fusion, empty, FAR))


@every_fusion
def test_empty_maps_give_a_finite_map(settings: Any) -> None:
    assert fused(made(settings), torch.zeros_like(maps(3)), NEAR[:3]).isfinite().all()


@every_fusion
def test_cells_without_a_score_are_as_cells_outside_of_the_agents_view(settings: Any) -> None:
    fusion, features = made(settings), maps(2)
    with torch.no_grad():
        levels = fusion.trunk(features)
        scores = [level.clone() for level in fusion.scores(levels.occupancy)]
        for level in scores:
            level[1] = 0

        def fuse(parts: list[Tensor]) -> Tensor:
            return fusion.join(fusion.fuse_scored(parts, scores, NEAR[:2], (2,), agent_types=TYPES[:2]))

        noisy = [torch.cat([part[:1], 50 * torch.randn_like(part[1:])]) for part in levels.maps]
        assert_same(fuse(noisy), fuse(list(levels.maps)))


@pytest.mark.parametrize("settings", [part for part in SMALL if part.kind != "v2vnet"], ids=lambda settings: settings.kind)
def test_an_agent_that_sent_no_cell_is_as_one_out_of_view(settings: Any) -> None:
    # The messages of V2VNet end at the border of the sender's map, whatever cells were sent.
    fusion, features = made(settings), maps(2)
    with torch.no_grad():
        levels = fusion.trunk(features)
        scores = [torch.cat([level[:1], torch.zeros_like(level[1:])]) for level in fusion.scores(levels.occupancy)]
        found = fusion.join(fusion.fuse_scored(levels.maps, scores, NEAR[:2], (2,), agent_types=TYPES[:2]))
    assert_same(found, fused(fusion, features, FAR))


@every_fusion
def test_only_the_ratios_of_trust_count(settings: Any) -> None:
    fusion, features = made(settings), maps(3)
    assert_same(fused(fusion, features[:1], NEAR[:1], trust=torch.tensor([0.3])), fused(fusion, features[:1], NEAR[:1]))
    high, low = (fused(fusion, features, NEAR[:3], trust=torch.tensor([1.0, 0.4, 0.8]) * factor) for factor in (1.0, 0.5))
    assert_same(low, high)


@every_fusion
def test_without_any_trust_the_map_is_finite(settings: Any) -> None:
    fusion, features = made(settings), maps(2)
    assert fused(fusion, features, NEAR[:2], trust=torch.zeros(2)).isfinite().all()
    assert fused(fusion, features[:1], NEAR[1:2], trust=torch.zeros(1), ego_first=False).isfinite().all()


@every_fusion
def test_a_half_precision_map_keeps_its_type(settings: Any) -> None:
    fusion = made(settings).bfloat16()
    found = fused(fusion, maps(2).bfloat16(), NEAR[:2])
    assert found.dtype == torch.bfloat16
    assert_same(found.float(), fused(made(settings), maps(2), NEAR[:2]), 0.1)


@every_fusion
def test_all_weights_learn(settings: Any) -> None:
    fusion = made(settings, training=True)
    features = maps(4).requires_grad_()
    levels = fusion.trunk(features)
    joined = fusion.join(fusion.fuse_levels(levels, NEAR, (4,), agent_types=TYPES))
    loss = joined.square().mean() + sum(level.square().mean() for level in levels.occupancy)
    extra = fusion.extra_loss()
    (loss if extra is None else loss + extra).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    without = {name for name, weight in fusion.named_parameters() if weight.grad is None}
    assert without == {name for name in dict(fusion.named_parameters()) if UNUSED.search(f"{settings.kind}.{name}")}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("v2vnet", "iterations", 0),
        ("where2comm", "heads", 0),
        ("cobevt", "slots", 0),
        ("v2xvit", "windows", (2, 0)),
        ("hmvit", "layers", 0),
        ("mpda", "window", 0),
    ],
)
def test_numbers_have_to_be_one_or_more(kind: str, name: str, value: object) -> None:
    settings = next(part for part in SMALL if part.kind == kind)
    with pytest.raises(ConfigError, match=re.escape(f"fusion.{name}: expected 1 or more, got {value}")):
        replace(settings, **{name: value})


def test_the_scales_of_coalign_have_to_agree() -> None:
    with pytest.raises(UserError, match=r"as many entries for each of the scales' settings, got \{'blocks': 2, 'strides': 3"):
        CoAlignConfig(blocks=(1, 1))


@pytest.mark.parametrize("settings", [part for part in SMALL if part.kind != "where2comm"], ids=lambda settings: settings.kind)
def test_a_fusion_without_foreground_scores_one_everywhere(settings: Any) -> None:
    fusion = made(replace(settings, foreground=False))
    levels = fusion.trunk(maps(2))
    assert not fusion.scores_foreground
    assert all(bool((level == 1).all()) for level in fusion.scores(levels.occupancy, [(2.0, 2.0), None]))
