"""Losses against numbers computed by hand."""

import math
from dataclasses import replace

import pytest
import torch

from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig, depth_loss, detection_loss, direction_bins, occupancy_loss, sigmoid_focal_loss
from heal.detection.targets import AnchorTargets
from heal.grid import BevGrid

NY, NX, A = 4, 8, 2
ANCHORS = make_anchors(BevGrid((-4.0, -2.0, -3.0, 4.0, 2.0, 1.0), 1.0), AnchorConfig())
CONFIG = LossConfig()
FOCAL_AT_0 = 0.25 * math.log(2)  # of a logit of 0, before alpha


def zero_head(scenes: int = 1) -> HeadOutput:
    """Return the output of a head that predicts 0 everywhere."""
    return HeadOutput(torch.zeros(scenes, A, NY, NX), torch.zeros(scenes, 7 * A, NY, NX), torch.zeros(scenes, 2 * A, NY, NX))


def one_positive(scenes: int = 1) -> AnchorTargets:
    """Return targets: the anchor of 90 degrees in row 1, column 2 is positive, row 0 is negative, the others are ignored."""
    positive, negative = torch.zeros(2, scenes, NY, NX, A, dtype=torch.bool)
    positive[:, 1, 2, 1] = True
    negative[:, 0] = True
    return AnchorTargets(positive, negative, torch.zeros(scenes, NY, NX, 7 * A))


def random_head(scenes: int, seed: int = 0) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    return HeadOutput(*(torch.randn(part.shape, generator=generator) for part in vars(zero_head(scenes)).values()))


def test_classification_by_hand() -> None:
    loss = detection_loss(zero_head(), one_positive(), CONFIG, ANCHORS)
    assert loss.classification.item() == pytest.approx(2 * 0.25 * FOCAL_AT_0 + 16 * 0.75 * FOCAL_AT_0, rel=1e-6)
    assert loss.regression.item() == 0.0
    assert loss.direction.item() == pytest.approx(0.2 * math.log(2), rel=1e-6)
    assert loss.total.item() == pytest.approx(loss.classification.item() + loss.direction.item(), rel=1e-6)


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([math.log(3.0), math.log(3.0)])  # probability 3/4
    loss = sigmoid_focal_loss(logits, torch.tensor([True, False]), alpha=0.25, gamma=2.0)
    assert loss.tolist() == pytest.approx([0.25 * 0.25**2 * math.log(4 / 3), 0.75 * 0.75**2 * math.log(4)], rel=1e-5)


@pytest.mark.parametrize(
    ("code", "difference", "expected"),
    [(0, 1.0, 1 - 1 / 18), (5, -2.0, 2 - 1 / 18), (3, 0.1, 0.5 * 0.3**2), (6, math.pi, 0.0), (6, math.pi / 2, 1 - 1 / 18)],
)
def test_regression_by_hand(code: int, difference: float, expected: float) -> None:
    head = zero_head()
    head.regression[0, 7 + code, 1, 2] = difference  # the codes of the second anchor follow those of the first
    assert detection_loss(head, one_positive(), CONFIG, ANCHORS).regression.item() == pytest.approx(2 * expected, abs=1e-5)


def test_direction_is_that_of_the_box_not_of_its_anchor() -> None:
    head, targets = zero_head(), one_positive()
    head.direction[0, 2:4, 1, 2] = torch.tensor([5.0, -5.0])  # the second anchor's first bin: 45 to 225 degrees
    assert detection_loss(head, targets, CONFIG, ANCHORS).direction.item() < 1e-4
    targets.regression[0, 1, 2, 13] = -math.pi  # now the box points to -90 degrees
    assert detection_loss(head, targets, CONFIG, ANCHORS).direction.item() == pytest.approx(2.0, rel=1e-3)


def test_direction_bins_by_hand() -> None:
    yaw = torch.tensor([0.0, 0.78, 0.79, math.pi, 3.92, 3.93, -math.pi / 2, 2 * math.pi])
    assert direction_bins(yaw, 2, 0.7853).tolist() == [1, 1, 0, 0, 0, 1, 1, 1]
    assert direction_bins(torch.tensor([0.1, 1.6, 3.2, 4.8]), 4, 0.0).tolist() == [0, 1, 2, 3]


def test_without_positives_all_is_finite_and_boxes_cost_nothing() -> None:
    targets = one_positive()
    targets.positive[:] = False
    head = random_head(1)
    for part in vars(head).values():
        part.requires_grad_()
    loss = detection_loss(head, targets, CONFIG, ANCHORS)
    loss.total.backward()
    assert loss.regression.item() == loss.direction.item() == 0.0
    assert math.isfinite(loss.total.item())
    assert head.classification.grad is not None and bool(head.classification.grad.isfinite().all())


def test_the_output_for_ignored_anchors_does_not_matter() -> None:
    head = random_head(1)
    expected = detection_loss(head, one_positive(), CONFIG, ANCHORS).total
    head.regression[0, :, 3] = float("nan")
    head.direction[0, :, 0] = float("inf")
    assert torch.equal(detection_loss(head, one_positive(), CONFIG, ANCHORS).total, expected)


def test_a_scene_with_few_positives_weighs_no_more_than_one_with_the_least_number() -> None:
    usual = detection_loss(random_head(1), one_positive(), CONFIG, ANCHORS)
    floored = detection_loss(random_head(1), one_positive(), replace(CONFIG, least_positives=4), ANCHORS)
    for name, value in vars(usual).items():  # one positive anchor, divided by four
        assert getattr(floored, name).item() == pytest.approx(value.item() / 4, rel=1e-5)
    targets = one_positive()
    targets.positive[0, 2:, 5] = True
    assert int(targets.positive.sum()) > 4
    enough = detection_loss(random_head(1), targets, replace(CONFIG, least_positives=4), ANCHORS)
    assert torch.equal(enough.total, detection_loss(random_head(1), targets, CONFIG, ANCHORS).total)
    with pytest.raises(ValueError, match="least_positives: expected at least 1, got 0"):
        replace(CONFIG, least_positives=0)


def test_a_batch_is_the_mean_of_its_scenes() -> None:
    head, targets = random_head(2), one_positive(2)
    targets.positive[1, 2:, 5] = True
    together = detection_loss(head, targets, CONFIG, ANCHORS)
    alone = [
        detection_loss(
            HeadOutput(*(part[i : i + 1] for part in vars(head).values())),
            AnchorTargets(*(part[i : i + 1] for part in vars(targets).values())),
            CONFIG,
            ANCHORS,
        )
        for i in range(2)
    ]
    for name, value in vars(together).items():
        assert value.item() == pytest.approx(sum(getattr(one, name).item() for one in alone) / 2, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_head_in_half_precision_is_judged_in_single(dtype: torch.dtype) -> None:
    head = HeadOutput(*(part.to(dtype) for part in vars(random_head(1)).values()))
    exact = HeadOutput(*(part.float() for part in vars(head).values()))
    loss = detection_loss(head, one_positive(), CONFIG, ANCHORS)
    assert loss.total.dtype == torch.float32
    assert torch.equal(loss.total, detection_loss(exact, one_positive(), CONFIG, ANCHORS).total)


def test_double_targets_cost_the_same() -> None:
    head, targets = random_head(1), one_positive()
    double = replace(targets, regression=targets.regression.double())
    expected = detection_loss(head, targets, CONFIG, ANCHORS).total
    assert torch.allclose(detection_loss(head, double, CONFIG, ANCHORS).total, expected, rtol=1e-5)


def occupancy(agents: int = 1) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros(agents, 1, NY // k, NX // k) for k in (1, 2, 4))


def test_occupancy_by_hand() -> None:
    # one foreground cell on every level; background: 8 cells of row 0, then none, as no 2 x 2 cells lie wholly in row 0
    loss = occupancy_loss(occupancy(), one_positive(), CONFIG)
    foreground = 2 * 0.25 * FOCAL_AT_0
    assert loss.item() == pytest.approx(0.4 * (foreground + 8 * 0.75 * FOCAL_AT_0) + (0.2 + 0.1) * foreground, rel=1e-6)


def test_a_cell_is_background_only_if_all_of_it_is() -> None:
    targets = one_positive()
    targets.negative[0, 1, 4:] = True  # rows 0 and 1, columns 4 to 7: two cells of the second level
    targets.negative[0, 1, 5, 0] = False  # one of the two cells has an ignored anchor
    loss = occupancy_loss(occupancy(), targets, LossConfig(occupancy_weights=(0.0, 1.0, 0.0)))
    assert loss.item() == pytest.approx(2 * 0.25 * FOCAL_AT_0 + 0.75 * FOCAL_AT_0, rel=1e-6)


def test_occupancy_is_the_mean_over_agents() -> None:
    assert torch.allclose(
        occupancy_loss(occupancy(3), one_positive(3), CONFIG), occupancy_loss(occupancy(), one_positive(), CONFIG)
    )


def test_a_fusion_of_fewer_levels_uses_the_first_weights() -> None:
    first = occupancy_loss(occupancy()[:1], one_positive(), LossConfig(occupancy_weights=(0.4,)))
    assert torch.equal(occupancy_loss(occupancy()[:1], one_positive(), CONFIG), first)


def test_occupancy_levels_must_fit() -> None:
    with pytest.raises(ValueError, match="for 4 levels"):
        occupancy_loss((*occupancy(), occupancy()[2]), one_positive(), CONFIG)
    with pytest.raises(ValueError, match="at 1/1 of the grid"):
        occupancy_loss((occupancy()[0][:, :, :-1],) * 3, one_positive(), CONFIG)


def test_depth_by_hand() -> None:
    logits, bins = torch.zeros(2, 10, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)
    bins[0, 0, 0] = 5
    focal = 0.25 * 0.9**2 * math.log(10)
    assert depth_loss(logits, bins, CONFIG).item() == pytest.approx(focal, rel=1e-5)
    smooth = depth_loss(logits, bins, LossConfig(smooth_depth=True))  # at the border one neighbour is missing
    assert smooth.item() == pytest.approx(focal * (23 * 1.1 + 1.3) / 24, rel=1e-5)
