"""Operations: equal to counts by hand, and growing with the number of agents as they should."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.encoders.second import SAME
from heal.sparse.layers import SparseConv
from heal.sparse.sites import SparseMap, make_sparse
from heal.tools.profiling.flops import FrameFlops, TypeFlops, count, frame_flops, sparse_counts, type_flops
from tests.heal.networks import AGENT, BASE, GRID, SECOND, small_scene

NY, NX = 16, 32  # of GRID
LEVELS = ((8, NY * NX), (16, NY * NX // 4))  # channels and cells of the two scales of BASE


def test_what_is_counted_by_hand() -> None:
    maps = torch.randn(1, 4, 6, 10)
    assert count(lambda: nn.Conv2d(4, 5, 3, padding=1)(maps))[0] == 2 * 9 * 4 * 5 * 6 * 10
    assert count(lambda: nn.Linear(7, 3)(torch.randn(11, 7)))[0] == 2 * 7 * 3 * 11
    assert count(lambda: F.grid_sample(maps, torch.zeros(1, 2, 3, 2), align_corners=False))[0] == 8 * 4 * 2 * 3
    assert count(lambda: F.interpolate(maps, size=(12, 20), mode="bilinear"))[0] == 8 * 4 * 12 * 20
    assert count(lambda: torch.zeros(6, 10).addcmul_(maps[0, 0], maps[0, 1]))[0] == 2 * 6 * 10
    bags = torch.zeros(3, dtype=torch.long)
    pooled = count(lambda: F.embedding_bag(bags, torch.randn(5, 4), bags[:1], mode="sum", per_sample_weights=torch.ones(3)))
    assert pooled[0] == 2 * 3 * 4
    assert count(lambda: F.relu(maps))[0] == 0


def test_a_sparse_convolution_counts_its_pairs_of_sites() -> None:
    layer = SparseConv(4, 5, SAME)
    # Two neighbours and a site by itself: each is paired with itself, and the neighbours with each other.
    x = make_sparse(torch.randn(3, 4), torch.tensor([[0, 1, 1, 1], [0, 1, 1, 2], [0, 8, 8, 8]]), (10, 10, 10), 1)
    before: SparseMap = layer(x)
    with sparse_counts(nn.ModuleList([layer])) as counts:
        zeros: SparseMap = layer(x)
    assert counts == [2 * (3 + 2) * 4 * 5]
    assert zeros.features.shape == before.features.shape and not zeros.features.any()
    assert torch.equal(layer(x).features, before.features)  # the layer computes again


def test_second_is_counted_as_torch_counts_its_matrix_products() -> None:
    model = AgentModel(SECOND, GRID).eval()
    frame = small_scene(1).frames[0]
    inputs = model.prepare([frame])
    expected, maps = count(lambda: model.encoder(inputs))
    found = type_flops("m3", model, frame)
    assert found.encoder == expected > 0
    assert found.backbone == count(lambda: model.backbone(maps))[0] and found.aligner == 0
    assert found.total == found.encoder + found.backbone


def test_pillars_are_counted_as_a_product_for_every_point() -> None:
    model, frame = AgentModel(AGENT, GRID).eval(), small_scene(1).frames[0]
    voxels = model.encoder.prepare([frame])
    rows = int(voxels.num_points.sum() + (voxels.num_points < 8).sum())  # the empty slots of a pillar share a row
    assert type_flops("m1", model, frame).encoder == 2 * 10 * 8 * rows


def test_frames_grow_with_the_number_of_agents() -> None:
    types = [TypeFlops("m1", 100, 10, 1), TypeFlops("m2", 2000, 200, 20)]
    alone, two, five = frame_flops(BaseModel(BASE).eval(), types, (1, 2, 5))
    assert (alone.types, two.types, five.types) == (("m1",), ("m1", "m2"), ("m1", "m2", "m1", "m2", "m1"))
    assert (alone.agents, two.agents, five.agents) == (111, 2331, 4773)
    assert (two.trunk, five.trunk) == (2 * alone.trunk, 5 * alone.trunk)
    # A moved map: four products and sums for each value and each score, and one product and sum in the mean.
    moved = sum(8 * (channels + 1) * cells + 2 * channels * cells for channels, cells in LEVELS)
    assert (two.fusion - alone.fusion, five.fusion - alone.fusion) == (2 * moved, 5 * moved)
    # Two convolutions of 16 channels, then 2 scores, 14 codes and 4 direction bins in each cell.
    assert alone.heads == two.heads == five.heads == NY * NX * (2 * 2 * 9 * 16 * 16 + 2 * 16 * (2 + 14 + 4))


def test_the_trunk_of_a_small_base_by_hand() -> None:
    [frame] = frame_flops(BaseModel(BASE).eval(), [TypeFlops("m1", 0, 0, 0)], (1,))
    fine, coarse = NY * NX, NY * NX // 4
    first = 2 * (9 * 8 * 8 + 9 * 8 * 8) * fine
    second = 2 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16) * coarse  # with the shortcut's convolution of one cell
    assert frame.trunk == first + second + 2 * 8 * fine + 2 * 16 * coarse  # and a foreground head at each scale
    # Joining enlarges both scales to eight channels.
    assert frame.fusion == 2 * 8 * 8 * fine + 2 * 16 * 8 * fine


@pytest.mark.parametrize("row", [FrameFlops(("m1",), 1, 20, 300, 4000)])
def test_a_frame_sums_its_parts(row: FrameFlops) -> None:
    assert row.total == 4321
