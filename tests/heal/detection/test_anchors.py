"""Anchors stand on the centres of the cells."""

import math

import pytest
import torch

from heal.detection.anchors import AnchorConfig, make_anchors, spread_anchors
from heal.grid import BevGrid

GRID = BevGrid((-4.0, -2.0, -3.0, 4.0, 2.0, 1.0), 1.0)


def test_anchors_by_hand() -> None:
    anchors = make_anchors(GRID, AnchorConfig())
    assert anchors.shape == (4, 8, 2, 7)
    assert anchors.dtype == torch.float64
    assert anchors[0, 0, 0].tolist() == [-3.5, -1.5, -1.0, 1.56, 1.6, 3.9, 0.0]
    assert anchors[3, 7, 1].tolist() == [3.5, 1.5, -1.0, 1.56, 1.6, 3.9, math.pi / 2]
    assert anchors[1, :, 0, 0].tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    assert anchors[:, 1, 0, 1].tolist() == [-1.5, -0.5, 0.5, 1.5]


def test_the_margin_moves_the_outermost_anchors() -> None:
    anchors = spread_anchors(GRID.range_m, (GRID.ny, GRID.nx), AnchorConfig(), margin_m=0.25)
    assert anchors[0, 0, 0, :2].tolist() == [-3.75, -1.75]
    assert anchors[-1, -1, 0, :2].tolist() == [3.75, 1.75]
    assert torch.equal(make_anchors(GRID, AnchorConfig(margin_m=0.25)), anchors)


@pytest.mark.parametrize("yaws_deg", [(0.0,), (0.0, 45.0, 90.0)])
def test_any_number_of_yaws(yaws_deg: tuple[float, ...]) -> None:
    anchors = make_anchors(GRID, AnchorConfig(yaws_deg=yaws_deg))
    assert anchors[2, 3, :, 6].tolist() == pytest.approx([math.radians(yaw) for yaw in yaws_deg])
