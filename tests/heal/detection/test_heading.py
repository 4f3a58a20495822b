"""Headings: encoding, direction bins and decoding give back every yaw, also at the bins' borders; errors are over the circle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from heal.box_corners import YAW
from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.boxes import boxes_to_corners
from heal.detection.decode import DecodeConfig, decode_boxes, decode_candidates, settle_yaw
from heal.detection.detections import Detections, GroundTruth
from heal.detection.head import HeadOutput
from heal.detection.heading import HeadingError, heading_error_of
from heal.detection.loss import LossConfig, direction_bins
from heal.detection.targets import TargetConfig, assign_targets, encode_boxes
from heal.grid import BevGrid

OFFSET_RAD = LossConfig().direction_offset_rad
TOLERANCE_RAD = 1e-5
ANCHOR_YAWS = (0.0, math.pi / 2)


def turn_between(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute turn between two yaws, over the full circle."""
    return float(torch.atan2((a - b).sin(), (a - b).cos()).abs().max())


def border_yaws(bins: int) -> Tensor:
    """Return (K,) float64 yaws on the borders of the bins and close by on both sides, in the first turn and in the neighbouring."""
    near = torch.cat((torch.zeros(1), *(sign * 10.0 ** -torch.arange(1.0, 16) for sign in (-1, 1)))).double()
    borders = OFFSET_RAD + 2 * math.pi / bins * torch.arange(-2 * bins, 2 * bins + 1, dtype=torch.float64)
    return (borders[:, None] + near).flatten()


def box_of(yaw: Tensor) -> Tensor:
    """Return a car at the origin with each yaw, (K, 7)."""
    return (
        torch.tensor([0.3, -0.2, -1.0, 1.5, 1.8, 4.2, 0.0], dtype=torch.float64)
        .repeat(len(yaw), 1)
        .index_copy(1, torch.tensor([YAW]), yaw[:, None])
    )


def there_and_back(yaw: Tensor, bins: int, anchor_yaw: float, turns: Tensor) -> Tensor:
    """Encode yaws as the training does and decode them as the detector does, from a regression that is right up to half turns."""
    boxes = box_of(yaw)
    anchors = box_of(torch.full_like(yaw, anchor_yaw))
    codes = encode_boxes(boxes, anchors).float()
    wanted_yaw = codes[:, YAW] + anchors[:, YAW].float()
    logits = torch.nn.functional.one_hot(direction_bins(wanted_yaw, bins, OFFSET_RAD), bins).float()
    # The regression loss is that of the sine, so that a head may regress another turn or half turn.
    codes[:, YAW] += turns.float() * (2 * math.pi / bins)
    return settle_yaw(decode_boxes(codes, anchors.float())[:, YAW], logits, OFFSET_RAD)


@pytest.mark.parametrize("bins", [1, 2, 4])
@pytest.mark.parametrize("anchor_yaw", ANCHOR_YAWS)
def test_yaws_at_the_borders_of_the_bins_are_given_back(bins: int, anchor_yaw: float) -> None:
    yaw = border_yaws(bins)
    assert turn_between(there_and_back(yaw, bins, anchor_yaw, torch.zeros_like(yaw)).double(), yaw) < TOLERANCE_RAD


@settings(max_examples=200, deadline=None)
@given(st.floats(-math.pi, math.pi), st.sampled_from([2, 4]), st.sampled_from(ANCHOR_YAWS))
@example(OFFSET_RAD, 2, 0.0)
@example(OFFSET_RAD - math.pi, 2, math.pi / 2)
def test_any_yaw_is_given_back(value: float, bins: int, anchor_yaw: float) -> None:
    yaw = torch.tensor([value], dtype=torch.float64)
    assert turn_between(there_and_back(yaw, bins, anchor_yaw, torch.zeros(1)).double(), yaw) < TOLERANCE_RAD


@pytest.mark.parametrize("bins", [2, 4])
def test_a_regression_that_is_a_bin_off_is_turned_back(bins: int) -> None:
    sector = 2 * math.pi / bins
    yaw = (OFFSET_RAD + sector * (torch.arange(4 * bins) + 0.5) / 4).double() + 1e-3
    for turns in range(-bins, bins + 1):
        back = there_and_back(yaw, bins, 0.0, torch.full_like(yaw, turns))
        assert turn_between(back.double(), yaw) < TOLERANCE_RAD


@pytest.mark.parametrize("bins", [2, 4])
def test_a_trained_head_gives_back_the_assigned_boxes(bins: int) -> None:
    """A head that outputs its targets exactly is decoded to the true boxes, in both directions of travel."""
    grid, anchor = BevGrid((-8.0, -8.0, -3.0, 8.0, 8.0, 1.0), 1.0), AnchorConfig(length_m=4.2, width_m=1.8)
    anchors = make_anchors(grid, anchor)
    for yaw in border_yaws(bins)[:: 7 if bins == 2 else 13]:
        true = box_of(yaw[None])
        targets = assign_targets(anchors, true, TargetConfig())
        ny, nx, count = targets.positive.shape
        codes = targets.regression.view(ny, nx, count, 7)
        chosen = direction_bins(codes[..., YAW] + anchors[..., YAW].float(), bins, OFFSET_RAD)
        head = HeadOutput(
            torch.where(targets.positive, 10.0, -10.0).permute(2, 0, 1)[None],
            targets.regression.permute(2, 0, 1)[None],
            torch.nn.functional.one_hot(chosen, bins).float().flatten(2).permute(2, 0, 1)[None],
        )
        boxes, *_ = decode_candidates(head, anchors, DecodeConfig())
        assert len(boxes) and turn_between(boxes[:, YAW].double(), yaw) < TOLERANCE_RAD


def cars(yaws_deg: list[float]) -> Tensor:
    """Return the corners of cars with these yaws, 20 m apart."""
    rows = [[20.0 * i, 0.0, -1.0, 1.5, 2.0, 4.0, math.radians(yaw)] for i, yaw in enumerate(yaws_deg)]
    return boxes_to_corners(torch.tensor(rows).reshape(-1, 7))


def error_of(found_deg: list[float], true_deg: list[float]) -> HeadingError:
    detections = Detections.sorted(cars(found_deg), torch.linspace(0.2, 0.9, len(found_deg)))
    return heading_error_of(detections, GroundTruth(cars(true_deg), torch.arange(len(true_deg))), 0.5)


def test_errors_are_absolute_and_over_the_full_circle() -> None:
    error = error_of([170.0, 10.0, -90.0], [-170.0, 190.0, -85.0])
    # 20 degrees across the back, a flip, 5 degrees.
    assert error.matched == 3 and error.mean_deg == pytest.approx((20 + 180 + 5) / 3, abs=1e-3)
    assert error_of([0.0], [0.0]).mean_deg == pytest.approx(0.0, abs=1e-3)


def test_only_found_objects_count_and_without_any_there_is_no_error() -> None:
    error = error_of([0.0, 3.0], [0.0, 3.0, 5.0]) + error_of([90.0], [0.0]) + error_of([], [1.0]) + error_of([1.0], [])
    assert error.matched == 2 and error.mean_deg == pytest.approx(0.0, abs=1e-3)
    assert HeadingError().mean_deg is None
