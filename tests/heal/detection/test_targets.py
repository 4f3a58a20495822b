"""Target assignment against its definition, evaluated naively over all anchors, and against numbers computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.boxes import boxes_to_corners, planar_hulls
from heal.detection.targets import AnchorTargets, TargetConfig, Targets, assign_targets, encode_boxes
from heal.grid import BevGrid
from tests.heal.detection.hulls import hull_iou

GRID = BevGrid((-16.0, -8.0, -3.0, 16.0, 8.0, 1.0), 0.8)
ANCHORS = make_anchors(GRID, AnchorConfig())


def naive(anchors: torch.Tensor, boxes: torch.Tensor, config: TargetConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return positive, negative and true box of every anchor, by a loop over anchors and true boxes."""
    flat = planar_hulls(boxes_to_corners(anchors.reshape(-1, 7).float()))
    iou = hull_iou(flat, planar_hulls(boxes_to_corners(boxes.float())))
    owner = [-1] * len(flat)
    negative = [bool((row < config.negative_iou).all()) for row in iou]
    for gt in range(len(boxes)):
        best = int(iou[:, gt].argmax())
        if iou[best, gt] > 0:
            negative[best] = False
            owner[best] = gt if owner[best] < 0 else owner[best]
    for anchor, row in enumerate(iou):
        above = (row > config.positive_iou).nonzero().flatten()
        if len(above):
            owner[anchor] = int(above[0])
    owners = torch.tensor(owner)
    return owners >= 0, torch.tensor(negative), owners


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([(0.6, 0.45), (0.45, 0.3), (0.3, 0.3)]))
def test_equals_the_full_computation(seed: int, count: int, thresholds: tuple[float, float]) -> None:
    draw = torch.rand(count, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    low = torch.tensor([-19.0, -11.0, -2.0, 1.0, 0.5, 0.8, -math.pi])  # some boxes cross the border, some are wholly outside
    high = torch.tensor([19.0, 11.0, 0.0, 4.0, 3.0, 14.0, math.pi])
    boxes = low + draw * (high - low)
    config = TargetConfig(positive_iou=thresholds[0], negative_iou=thresholds[1])
    targets = assign_targets(ANCHORS, boxes, config)
    positive, negative, owner = naive(ANCHORS, boxes, config)
    assert torch.equal(targets.positive.flatten(), positive)
    assert torch.equal(targets.negative.flatten(), negative)
    codes = targets.regression.view(-1, 7)
    assert torch.equal(codes[positive], encode_boxes(boxes[owner[positive]], ANCHORS.reshape(-1, 7)[positive]).float())
    assert not codes[~positive].any()


def test_hulls_are_compared_with_one_metre_added() -> None:
    a = torch.tensor([[0.0, 0.0, 3.0, 1.0]])
    b = torch.tensor([[0.0, 0.0, 3.0, 1.0], [3.5, 0.0, 6.5, 1.0], [4.0, 0.0, 7.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    # 4 x 2 = 8 each; the second shares (3 - 3.5 + 1) x 2 = 1 of 15; the third touches nothing; the last is 2 x 2 inside 8
    assert hull_iou(a, b)[0].tolist() == pytest.approx([1.0, 1 / 15, 0.0, 0.5])


def test_a_box_like_its_anchor_is_found_and_encoded_as_nothing() -> None:
    targets = assign_targets(ANCHORS, ANCHORS[9, 7, 1][None], TargetConfig())
    assert targets.positive[9, 7, 1]
    assert targets.regression[9, 7].view(2, 7)[1].abs().max() < 1e-6
    assert not (targets.positive & targets.negative).any()
    # a car at right angles, 3.9 by 1.6: common 2.6 x 2.6 of 2 x 12.74 - 6.76
    assert 2.6**2 / (2 * 4.9 * 2.6 - 2.6**2) < 0.45
    assert targets.negative[9, 7, 0]


def test_an_odd_box_still_gets_its_best_anchor() -> None:
    truck = torch.tensor([[0.1, 0.1, 0.0, 3.5, 2.6, 12.0, 0.0]])
    targets = assign_targets(ANCHORS, truck, TargetConfig())
    assert targets.positive.sum() == 1  # all anchors inside the box overlap it equally
    x, y = ANCHORS[targets.positive][0, :2].abs().tolist()
    assert x < 6.1 and y < 1.4


def test_of_two_equal_boxes_the_first_is_meant() -> None:
    box = torch.tensor([[0.0, 0.0, -1.0, 1.56, 1.6, 3.9, 0.0], [0.0, 0.0, -0.5, 1.56, 1.6, 3.9, 0.0]])
    targets = assign_targets(ANCHORS, box, TargetConfig())
    z_code = targets.regression.view(*ANCHORS.shape)[targets.positive][:, 2]
    assert len(z_code) > 1
    assert z_code.abs().max() < 1e-6


def test_nothing_there_means_all_background() -> None:
    for boxes in (torch.zeros(0, 7), torch.tensor([[500.0, 0.0, -1.0, 1.5, 2.0, 4.0, 0.0]])):
        targets = assign_targets(ANCHORS, boxes, TargetConfig())
        assert not targets.positive.any()
        assert targets.negative.all()
        assert targets.regression.shape == (20, 40, 14)
        assert not targets.regression.any()


def test_codes_by_hand() -> None:
    anchor = torch.tensor([0.0, 0.0, -1.0, 2.0, 3.0, 4.0, 0.5])
    box = torch.tensor([5.0, -10.0, 0.0, 2.0 * math.e, 3.0, 4.0 / math.e, 0.0])
    assert encode_boxes(box, anchor).tolist() == pytest.approx([1.0, -2.0, 0.5, 1.0, 0.0, -1.0, -0.5])


def test_stack_and_mismatch() -> None:
    one = assign_targets(ANCHORS, torch.zeros(0, 7), TargetConfig())
    batch = Targets.stack([one, one, one])
    assert batch.positive.shape == (3, 20, 40, 2)
    assert batch.regression.shape == (3, 20, 40, 14)
    with pytest.raises(ValueError, match="regression"):
        AnchorTargets(one.positive, one.negative, one.regression[..., :7])


def test_thresholds_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="negative_iou <= positive_iou"):
        TargetConfig(positive_iou=0.4, negative_iou=0.5)
