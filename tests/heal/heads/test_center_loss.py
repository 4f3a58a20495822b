"""The loss of centre heads by hand, and with heads that predict the overlap of their boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig, occupancy_loss
from heal.grid import BevGrid
from heal.heads.center_loss import center_loss
from heal.heads.center_targets import CenterTargets

GRID = BevGrid((-4.0, -2.0, -3.0, 4.0, 2.0, 1.0), 1.0)
CONFIG = LossConfig()


def head_of(scenes: int = 1, codes: int = 6, seed: int | None = None) -> HeadOutput:
    """Return the output of heads that predict 0 everywhere, or random numbers."""
    parts = [torch.zeros(scenes, channels, GRID.ny, GRID.nx) for channels in (1, codes, 4)]
    if seed is None:
        return HeadOutput(*parts)
    generator = torch.Generator().manual_seed(seed)
    return HeadOutput(*(torch.randn(part.shape, generator=generator) for part in parts))


def one_centre(scenes: int = 1) -> CenterTargets:
    """Return targets: the centre in row 1, column 2, with a neighbour of heat 0.5; row 0 and these cells count."""
    heatmap, (centres, counted) = torch.zeros(scenes, GRID.ny, GRID.nx), torch.zeros(2, scenes, GRID.ny, GRID.nx, dtype=torch.bool)
    heatmap[:, 1, 2:4] = torch.tensor([1.0, 0.5])
    centres[:, 1, 2] = True
    counted[:, 0] = counted[:, 1, 2:4] = True
    regression = torch.zeros(scenes, GRID.ny, GRID.nx, 10)
    regression[:, 1, 2, [7, 9]] = 1.0  # a cube of a metre that points to +x
    return CenterTargets(heatmap, centres, counted, regression, centres, counted & ~centres)


def test_the_parts_by_hand() -> None:
    head = head_of()
    head.regression[0, :, 1, 2] = torch.tensor([0.1, -0.2, 0.3, 0.0, 0.0, 1.0])
    head.direction[0, :, 1, 2] = torch.tensor([0.5, 0.5, -0.25, 0.75])
    loss = center_loss(head, one_centre(), CONFIG, GRID)
    at_0 = 0.25 * math.log(2)  # of a logit of 0
    assert loss.classification.item() == pytest.approx(at_0 * (1 + 0.5**4 + 8), rel=1e-6)
    assert loss.regression.item() == pytest.approx(2 * 1.6, rel=1e-6)
    assert loss.direction.item() == pytest.approx(2 * 1.5, rel=1e-6)
    assert loss.total.item() == pytest.approx(loss.classification.item() + 6.2, rel=1e-6)


def test_the_loss_of_a_cell_by_hand() -> None:
    head, targets = head_of(), one_centre()
    head.classification[0, 0] = -99.0
    head.classification[0, 0, 1, 2] = math.log(3.0)  # a score of 3/4
    assert center_loss(head, targets, CONFIG, GRID).classification.item() == pytest.approx(0.25**2 * math.log(4 / 3), rel=1e-4)
    head.classification[0, 0, 1, 2:4] = torch.tensor([99.0, math.log(3.0)])
    wanted = 0.5**4 * 0.75**2 * math.log(4)
    assert center_loss(head, targets, CONFIG, GRID).classification.item() == pytest.approx(wanted, rel=1e-4)


def test_cells_that_do_not_count_and_codes_elsewhere_do_not_matter() -> None:
    head, targets = head_of(seed=0), one_centre()
    expected = center_loss(head, targets, CONFIG, GRID).total
    head.classification[0, 0, 2:] = 50.0
    head.regression[0, :, 3], head.direction[0, :, 0] = float("nan"), float("inf")
    assert torch.equal(center_loss(head, targets, CONFIG, GRID).total, expected)


def test_a_batch_is_the_mean_of_its_scenes_also_of_an_empty_one() -> None:
    head, targets = head_of(3, 7, seed=1), one_centre(3)
    targets.centres[1] = False
    targets.centres[2, 2, 4:] = True
    for part in vars(head).values():
        part.requires_grad_()
    together = center_loss(head, targets, CONFIG, GRID)
    together.total.backward()
    assert all(part.grad is not None and bool(part.grad.isfinite().all()) for part in vars(head).values())
    alone = [
        center_loss(
            HeadOutput(*(part[i : i + 1] for part in vars(head).values())),
            CenterTargets(*(part[i : i + 1] for part in vars(targets).values())),
            CONFIG,
            GRID,
        )
        for i in range(3)
    ]
    assert alone[1].regression == alone[1].direction == 0.0
    for name, value in vars(together).items():
        assert value.item() == pytest.approx(sum(getattr(one, name).item() for one in alone) / 3, rel=1e-5)


def test_a_scene_with_few_centres_weighs_no_more_than_one_with_the_least_number() -> None:
    usual = center_loss(head_of(1, 7, seed=2), one_centre(), CONFIG, GRID)
    floored = center_loss(head_of(1, 7, seed=2), one_centre(), replace(CONFIG, least_positives=4), GRID)
    for name, value in vars(usual).items():
        assert getattr(floored, name).item() == pytest.approx(value.item() / 4, rel=1e-5)


def test_the_predicted_overlap_is_taught_by_the_overlap_of_the_box() -> None:
    targets, plain, head = one_centre(), head_of(), head_of(codes=7)
    for one in (plain, head):
        one.regression[0, 0, 1, 2], one.direction[0, 1::2, 1, 2] = 0.5, 1.0  # half a metre off: an overlap of a third
    extra = center_loss(head, targets, CONFIG, GRID).total - center_loss(plain, targets, CONFIG, GRID).total
    assert extra.item() == pytest.approx(math.log(2), rel=1e-5)
    head.regression[0, 6, 1, 2] = math.log(0.5)  # a third, as a logit
    best = center_loss(head, targets, CONFIG, GRID).classification
    for other in (-0.1, 0.1):
        head.regression[0, 6, 1, 2] = math.log(0.5) + other
        assert center_loss(head, targets, CONFIG, GRID).classification > best
    head.regression[0, 6, 1, 2].fill_(0.0)
    head.regression[0, 3:6, 1, 2] = 500.0  # a box without end
    assert torch.isfinite(center_loss(head, targets, CONFIG, GRID).classification)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_centre_heads_in_half_precision_are_judged_in_single(dtype: torch.dtype) -> None:
    head = HeadOutput(*(part.to(dtype) for part in vars(head_of(1, 7, seed=3)).values()))
    exact = HeadOutput(*(part.float() for part in vars(head).values()))
    loss = center_loss(head, one_centre(), CONFIG, GRID).total
    assert loss.dtype == torch.float32 and torch.equal(loss, center_loss(exact, one_centre(), CONFIG, GRID).total)


def test_the_foreground_of_agents_is_taught_by_footprints() -> None:
    # one foreground cell; of the nine background cells one is beside it, and eight are in row 0
    maps = (torch.zeros(1, 1, GRID.ny, GRID.nx), torch.zeros(1, 1, GRID.ny // 2, GRID.nx // 2))
    focal = 0.25 * math.log(2)
    loss = occupancy_loss(maps, one_centre(), LossConfig(occupancy_weights=(1.0, 10.0)))
    assert loss.item() == pytest.approx(focal * ((2 * 0.25 + 9 * 0.75) + 10 * 2 * 0.25), rel=1e-6)
