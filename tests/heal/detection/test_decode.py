"""Decoding: the inverse of the targets, and the boxes that are dropped."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal.box_corners import YAW
from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.boxes import limit_period
from heal.detection.decode import DecodeConfig, decode_boxes, decode_candidates, select_boxes, settle_yaw
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.detection.loss import direction_bins
from heal.detection.targets import TargetConfig, assign_targets, encode_boxes
from heal.grid import BevGrid

RANGE_M = (-16.0, -8.0, -3.0, 16.0, 8.0, 1.0)
ANCHORS = make_anchors(BevGrid(RANGE_M, 0.8), AnchorConfig())
CONFIG = DecodeConfig()


def car(x: float, y: float, yaw: float, length: float = 4.2, z: float = -0.9) -> list[float]:
    return [x, y, z, 1.5, 1.8, length, yaw]


def perfect_head(boxes: torch.Tensor, score: float = 0.9) -> HeadOutput:
    """Return the output of a head that predicts its targets exactly."""
    targets = assign_targets(ANCHORS, boxes, TargetConfig())
    logit = math.log(score / (1 - score))
    yaw = targets.regression.view(*ANCHORS.shape)[..., YAW] + ANCHORS[..., YAW]
    direction = torch.nn.functional.one_hot(direction_bins(yaw, 2, CONFIG.direction_offset_rad), 2).float().flatten(2)
    classification = torch.where(targets.positive, logit, -9.0)
    return HeadOutput(*(part.permute(2, 0, 1)[None] for part in (classification, targets.regression, direction)))


def decode(head: HeadOutput, config: DecodeConfig = CONFIG) -> Detections:
    return select_boxes(*decode_candidates(head, ANCHORS, config), config, RANGE_M)


def positions(head: HeadOutput, config: DecodeConfig = CONFIG) -> list[tuple[int, int]]:
    boxes = decode(head, config).boxes
    return sorted((round(x), round(y)) for x, y in boxes[:, :2].tolist())


@given(
    st.tuples(*[st.floats(-50, 50)] * 3, *[st.floats(0.2, 15)] * 3, st.floats(-math.pi, math.pi)),
    st.tuples(*[st.floats(-50, 50)] * 3, *[st.floats(0.5, 5)] * 3, st.floats(-math.pi, math.pi)),
)
def test_decoding_undoes_encoding(box: tuple[float, ...], anchor: tuple[float, ...]) -> None:
    boxes, anchors = torch.tensor([box], dtype=torch.float64), torch.tensor([anchor], dtype=torch.float64)
    assert torch.allclose(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-9)


@pytest.mark.parametrize("degrees", range(-180, 180, 30))
def test_boxes_come_back_with_their_heading(degrees: int) -> None:
    boxes = torch.tensor([car(-9.0, 2.0, math.radians(degrees)), car(8.0, -2.0, math.radians(degrees + 100))])
    found = decode(perfect_head(boxes))
    order = found.boxes[:, 0].argsort()
    assert torch.allclose(found.boxes[order, :YAW], boxes[:, :YAW], atol=1e-4)
    assert limit_period(found.boxes[order, YAW] - boxes[:, YAW]).abs().max() < 1e-4
    assert found.scores.tolist() == pytest.approx([0.9, 0.9], abs=1e-5)


@given(st.floats(-10, 10), st.integers(0, 1), st.floats(-math.pi, math.pi))
def test_the_yaw_moves_by_whole_sectors_into_the_chosen_one(yaw: float, chosen: int, offset_rad: float) -> None:
    direction = torch.nn.functional.one_hot(torch.tensor([chosen]), 2).double()
    before = torch.tensor([yaw], dtype=torch.float64)
    settled = settle_yaw(before, direction, offset_rad)
    # The interval is half open up to the rounding of the last subtraction.
    assert -math.pi - 4e-15 <= settled.item() < math.pi
    assert abs(math.sin(settled.item() - yaw)) < 1e-9
    inside = limit_period(settled - offset_rad - chosen * math.pi, offset=0.0).item()
    assert inside < math.pi + 1e-9 or inside > 2 * math.pi - 1e-9


def test_buses_are_kept_unless_asked_not_to() -> None:
    boxes = torch.tensor([car(-9.0, 0.0, 0.0), car(6.0, 0.0, 0.0, length=12.0)])
    assert positions(perfect_head(boxes)) == [(-9, 0), (6, 0)]
    assert positions(perfect_head(boxes), DecodeConfig(max_extent_m=6.0)) == [(-9, 0)]


def test_heights_and_range() -> None:
    boxes = torch.tensor([car(-9.0, 0.0, 0.0), car(0.0, 0.0, 0.0, z=-2.4), car(14.5, 0.0, 0.0)])  # two reach below -3 or beyond 16
    assert positions(perfect_head(boxes)) == [(-9, 0)]
    assert positions(perfect_head(boxes[:2]), DecodeConfig(z_limits_m=(-1.0, 1.0))) == []


def test_low_scores_and_numbers_that_are_not_finite_are_dropped() -> None:
    head = perfect_head(torch.tensor([car(0.0, 0.0, 0.0)]), score=0.15)
    assert len(decode(head)) == 0
    nonsense = HeadOutput(*(torch.full_like(part, float("nan")) for part in vars(head).values()))
    assert len(decode(nonsense)) == 0
    huge = HeadOutput(*(torch.full_like(part, 500.0) for part in vars(head).values()))
    assert len(decode(huge, DecodeConfig(max_extent_m=None))) == 0


def test_one_scene_at_a_time() -> None:
    head = perfect_head(torch.tensor([car(0.0, 0.0, 0.0)]))
    both = HeadOutput(*(part.repeat(2, 1, 1, 1) for part in vars(head).values()))
    with pytest.raises(ValueError, match="one scene"):
        decode(both)
