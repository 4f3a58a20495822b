"""Point Transformer: attention compared with a loop over points and their neighbours, and who counts as a neighbour."""

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.encoders.point_transformer import (
    Neighbours,
    PointTransformer,
    PointTransformerConfig,
    TransformerBlock,
    VectorAttention,
)
from heal.errors import UserError
from heal.sparse.sites import SparseMap, make_sparse
from heal.types import AgentFrame, LidarScan
from tests.heal.encoders.test_every_encoder import frame
from tests.heal.networks import GRID


def places(*cells: tuple[int, int, int]) -> SparseMap:
    """Return points at random places in pillars (cloud, y, x)."""
    coords = torch.tensor([(cloud, 0, y, x) for cloud, y, x in cells])
    return make_sparse(torch.rand(len(cells), 3, generator=torch.Generator().manual_seed(0)), coords, (1, 8, 8), 2)


def one_by_one(layer: VectorAttention, x: Tensor, points: SparseMap, reach: int) -> Tensor:
    """Return what `VectorAttention` computes, from equation 3 of the paper for one point after the other."""
    rows, coords = [], points.sites.coords.tolist()
    for i, (cloud, _, row, column) in enumerate(coords):
        near = [
            j for j, other in enumerate(coords) if other[0] == cloud and max(abs(other[2] - row), abs(other[3] - column)) <= reach
        ]
        place = [layer.place(points.features[i] - points.features[j]) for j in near]
        logits = [layer.weigh(layer.query(x[i]) - layer.key(x[j]) + delta) for j, delta in zip(near, place, strict=True)]
        weight = torch.stack(logits).softmax(dim=0)
        rows.append((weight * torch.stack([layer.value(x[j]) + delta for j, delta in zip(near, place, strict=True)])).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_attention_equals_a_loop_over_neighbours_also_in_its_gradients(window: int) -> None:
    torch.manual_seed(0)
    points = places((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 4, 1), (0, 3, 3), (0, 7, 7), (1, 0, 0), (1, 7, 7), (1, 7, 6))
    layer, x = VectorAttention(6), torch.randn(9, 6, requires_grad=True)
    found = layer(x, Neighbours.of(points, window))
    expected = one_by_one(layer, x, points, window // 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    weights = [x, *layer.parameters()]
    for one, other in zip(*(torch.autograd.grad(out.square().sum(), weights) for out in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_attention_weights_are_shares() -> None:
    neighbours = Neighbours.of(places((0, 0, 0), (0, 0, 1), (0, 5, 5)), 3)
    logits = 200 * torch.randn(len(neighbours.point), 4, generator=torch.Generator().manual_seed(0))
    weight = neighbours.attention(logits)
    torch.testing.assert_close(neighbours.sums(weight), torch.ones(3, 4))
    assert bool((weight[(neighbours.point == 2)] == 1).all())


def test_a_block_adds_to_what_it_is_given() -> None:
    block, x = TransformerBlock(4), torch.randn(2, 4)
    torch.nn.init.zeros_(block.after.weight)
    torch.nn.init.zeros_(block.after.bias)
    assert torch.equal(block(x, Neighbours.of(places((0, 0, 0), (0, 0, 1)), 3)), x)


def test_a_point_is_seen_as_far_as_the_blocks_windows_reach() -> None:
    torch.manual_seed(0)
    encoder = PointTransformer(PointTransformerConfig(channels=8, blocks=2, window=3), GRID).eval()
    row = np.array([[4.2 + 0.4 * i, 0.2, -1.0, 0.5] for i in range(6)], np.float32)

    def map_of(points: np.ndarray) -> Tensor:
        with torch.no_grad():
            maps: Tensor = encoder(encoder.prepare([AgentFrame("0", "vehicle", 0, np.eye(4), np.eye(4), LidarScan(points))]))
        return maps[0, :, 16]

    raised = row.copy()
    raised[0, 2] += 0.5
    changed = (map_of(row) != map_of(raised)).any(0).nonzero()[:, 0].tolist()
    # Column (4.2 + 12.8) / 0.4 = 42 and two pillars further; a cell without points stays zero.
    assert changed == [42, 43, 44]
    assert map_of(row).any(0).nonzero()[:, 0].tolist() == list(range(42, 48))


def test_one_pillar_is_enough_to_train_on() -> None:
    encoder = PointTransformer(PointTransformerConfig(channels=8), GRID).train()
    encoder(encoder.prepare([frame(0, 1)])).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in encoder.parameters())


def test_a_window_needs_a_middle() -> None:
    with pytest.raises(UserError, match="expected an odd window and at least one block, got window=4"):
        PointTransformerConfig(window=4)
