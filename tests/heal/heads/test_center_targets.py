"""Targets of centre heads against a naive form and by hand; boxes come back from their targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heal.box_corners import YAW, L, W
from heal.detection.boxes import limit_period
from heal.detection.decode import DecodeConfig
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.errors import UserError
from heal.grid import BevGrid
from heal.heads.center_heads import CenterHeads
from heal.heads.center_targets import (
    CentersConfig,
    CenterTargets,
    center_targets,
    decode_centers,
    encode_centers,
    peak_radius,
)

GRID = BevGrid((-12.8, -6.4, -3.0, 12.8, 6.4, 1.0), 0.8)
SETTINGS = CentersConfig()
EVERYWHERE = (-99.0,) * 3 + (99.0,) * 3


def car(x: float, y: float, yaw: float = 0.0, length: float = 4.2, width: float = 1.8) -> list[float]:
    return [x, y, -0.9, 1.5, width, length, yaw]


def targets_of(*boxes: list[float]) -> CenterTargets:
    return center_targets(torch.tensor(boxes).reshape(-1, 7), GRID, SETTINGS)


def perfect_head(targets: CenterTargets) -> HeadOutput:
    """Return the output of heads that predict their targets exactly."""
    codes = targets.regression.permute(2, 0, 1)[None]
    return HeadOutput(targets.heatmap.logit(1e-6)[None, None], codes[:, :6], codes[:, 6:])


def found_in(head: HeadOutput, nms_iou: float = 0.15) -> Detections:
    return CenterHeads(GRID, DecodeConfig(score_threshold=0.9, nms_iou=nms_iou), SETTINGS).decode(head, EVERYWHERE)


def naive_maps(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return heatmap, foreground and background, cell by cell and box by box."""
    heatmap, foreground, background = torch.zeros(GRID.ny, GRID.nx), *torch.zeros(2, GRID.ny, GRID.nx, dtype=torch.bool)
    xs, ys = GRID.centres_m
    for row in range(GRID.ny):
        for column in range(GRID.nx):
            beyond = [math.inf]
            for box in boxes.double().tolist():
                centre = [math.floor((box[i] - GRID.range_m[i]) / GRID.cell_m) for i in (0, 1)]
                if not (0 <= centre[0] < GRID.nx and 0 <= centre[1] < GRID.ny):
                    continue
                radius = max(2, math.floor(naive_radius(box[L] / GRID.cell_m, box[W] / GRID.cell_m, 0.1)))
                away = (column - centre[0], row - centre[1])
                if max(map(abs, away)) <= radius:
                    spread = (2 * radius + 1) / 6
                    peak = math.exp(-(away[0] ** 2 + away[1] ** 2) / (2 * spread**2))
                    heatmap[row, column] = max(heatmap[row, column].item(), peak)
                x, y = xs[column] - box[0], ys[row] - box[1]
                cos, sin = math.cos(box[YAW]), math.sin(box[YAW])
                beyond.append(max(abs(x * cos + y * sin) - box[L] / 2, abs(y * cos - x * sin) - box[W] / 2))
                foreground[row, column] |= away == (0, 0)
            foreground[row, column] |= bool(min(beyond) <= 0)
            background[row, column] = bool(min(beyond) > GRID.cell_m / math.sqrt(2))
    return heatmap, foreground, background


def naive_radius(length: float, width: float, overlap: float) -> float:
    """Search for the largest shift of both corners at which all three displaced boxes still overlap the true one enough."""
    low, high = 0.0, min(length, width)
    for _ in range(60):
        r = (low + high) / 2
        common = (length - r) * (width - r)
        shifted = common / (2 * length * width - common)
        shrunk = max(length - 2 * r, 0) * max(width - 2 * r, 0) / (length * width)
        grown = length * width / ((length + 2 * r) * (width + 2 * r))
        low, high = (r, high) if min(shifted, shrunk, grown) >= overlap else (low, r)
    return low


@given(st.floats(1.0, 30.0), st.floats(1.0, 10.0), st.floats(0.05, 0.9))
def test_the_radius_is_the_largest_shift_that_keeps_the_overlap(length: float, width: float, overlap: float) -> None:
    found = peak_radius(torch.tensor([length]).double(), torch.tensor([width]).double(), overlap)
    assert found.item() == pytest.approx(naive_radius(length, width, overlap), abs=1e-6)


def test_targets_are_those_of_the_naive_form() -> None:
    rng = np.random.default_rng(0)
    low, high = (-14, -8, -1, 1, 0.6, 0.6, -4), (14, 8, 0, 3, 4, 15, 4)  # some centres are beyond the grid
    boxes = torch.from_numpy(rng.uniform(low, high, (12, 7))).float()
    targets = center_targets(boxes, GRID, SETTINGS)
    heatmap, foreground, background = naive_maps(boxes)
    torch.testing.assert_close(targets.heatmap, heatmap, atol=1e-6, rtol=0)
    assert torch.equal(targets.foreground, foreground) and torch.equal(targets.background, background)
    assert targets.counted.all() and not (targets.foreground & targets.background).any()
    assert 0 < targets.centres.sum() < 12 and torch.equal(targets.centres, targets.heatmap == 1)


@settings(deadline=None)
@given(st.floats(-math.pi, math.pi), st.floats(0, 0.79), st.floats(0, 0.79))
def test_boxes_come_back_from_their_targets(yaw: float, off_x: float, off_y: float) -> None:
    boxes = torch.tensor([car(-7.0 + off_x, 0.5 + off_y, yaw), car(4.0 + off_y, -0.4 + off_x, yaw + 2.0, 9.0, 2.5)])
    found = found_in(perfect_head(center_targets(boxes, GRID, SETTINGS)))
    order = found.boxes[:, 0].argsort()
    assert torch.allclose(found.boxes[order, :YAW], boxes[:, :YAW], atol=1e-4)
    assert limit_period(found.boxes[order, YAW] - boxes[:, YAW]).abs().max() < 1e-4


def test_yaws_are_from_minus_pi_up_to_pi() -> None:
    yaws = torch.tensor([math.pi, -math.pi, 3.0 + 2 * math.pi, -math.pi / 2, 0.0])
    boxes = torch.tensor([car(0.1, 0.1, yaw) for yaw in yaws.tolist()])
    cells = torch.tensor([[16, 8]] * len(boxes))
    codes = encode_centers(boxes, cells, GRID)
    found = decode_centers(codes, cells, GRID)[:, YAW]
    assert (found >= -math.pi).all() and (found < math.pi).all()
    assert limit_period(found - yaws).abs().max() < 1e-5
    codes[:, 6:8] *= -0.01  # the direction that the front has decides, however small
    assert limit_period(decode_centers(codes, cells, GRID)[:, YAW] - yaws - math.pi).abs().max() < 1e-5


def test_a_heading_that_is_not_known_leaves_the_axis() -> None:
    head = perfect_head(targets_of(car(0.1, 0.1, 1.0)))
    head.direction[0, :2] = 0.0
    assert found_in(head).boxes[0, YAW].item() == pytest.approx(1.0, abs=1e-4)


def test_vehicles_on_the_border_of_the_grid() -> None:
    on, beyond = [car(-12.79, -6.39), car(12.79, 6.39)], [car(12.8, 0.0), car(0.0, 6.4), car(-12.81, 0.0)]
    targets = targets_of(*on, *beyond)
    assert targets.centres.nonzero().tolist() == [[0, 0], [GRID.ny - 1, GRID.nx - 1]]
    assert torch.equal(targets.heatmap, targets_of(*on).heatmap) and torch.equal(targets.foreground, targets_of(*on).foreground)
    found = found_in(perfect_head(targets)).boxes
    assert sorted(found[:, 0].tolist()) == pytest.approx([-12.79, 12.79], abs=1e-4)


def test_of_two_vehicles_in_one_cell_the_first_is_asked_for() -> None:
    first, second = car(0.1, 0.1, 1.0), car(0.6, 0.7, -2.0, 9.0)
    for boxes in ((first, second), (second, first)):
        targets = targets_of(*boxes)
        assert targets.centres.sum() == 1
        assert found_in(perfect_head(targets)).boxes[0].tolist() == pytest.approx(boxes[0], abs=1e-4)
        assert torch.equal(targets.foreground, targets_of(first).foreground | targets_of(second).foreground)


def test_vehicles_in_neighbouring_cells_are_two_peaks() -> None:
    boxes = [car(0.4, 0.4, math.pi / 2, 0.7, 0.7), car(1.2, 0.4, math.pi / 2, 0.7, 0.7)]
    assert len(found_in(perfect_head(targets_of(*boxes)))) == 2


def test_without_vehicles_all_is_background() -> None:
    targets = targets_of()
    assert not targets.heatmap.any() and not targets.centres.any() and not targets.foreground.any()
    assert targets.background.all() and targets.counted.all() and not targets.regression.any()
    assert len(found_in(perfect_head(targets))) == 0


def test_nothing_is_asked_for_outside_of_chosen_cells() -> None:
    targets = targets_of(car(-6.0, 0.0), car(6.0, 0.0))
    left = torch.zeros(GRID.ny, GRID.nx, dtype=torch.bool)
    left[:, : GRID.nx // 2] = True
    kept = targets.within(left)
    assert kept.centres.sum() == 1 and torch.equal(kept.counted, left) and not kept.foreground[:, GRID.nx // 2 :].any()
    assert torch.equal(kept.foreground, targets.foreground & left) and torch.equal(kept.background, targets.background & left)
    batch = CenterTargets.stack([targets, kept, targets_of()])
    assert batch.centres.sum(dim=(1, 2)).tolist() == [2, 1, 0] and batch.regression.shape == (3, GRID.ny, GRID.nx, 10)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"least_radius": -1}, {"min_overlap": 1.0}, {"iou_exponent": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"^heads: expected .* got CentersConfig"):
        CentersConfig(**wrong)  # type: ignore[arg-type]
