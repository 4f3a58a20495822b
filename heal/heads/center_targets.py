"""Targets of centre heads: labelled boxes come in, and a heatmap with a peak at each centre and the codes of the boxes go out.

Yin et al., "Center-based 3D Object Detection and Tracking", CVPR 2021, section 4; the radius of a peak is that of Law and Deng,
"CornerNet", ECCV 2018, section 3.2.

Beside the sine and the cosine of the yaw there are those of twice the yaw, which the paper does not have: where front and rear of a
vehicle are not told apart, the first two average to zero, but the other two still tell the axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from heal.box_corners import YAW, H, L, W, X, Y, Z
from heal.config import config
from heal.detection.boxes import limit_period
from heal.detection.targets import Targets
from heal.errors import UserError
from heal.grid import BevGrid

# Stands for the box of a cell in which no centre lies.
_NO_BOX = torch.iinfo(torch.int64).max


@config
class CentersConfig:
    """Settings of centre heads; the defaults are those of CenterPoint.

    Attributes:
        kind: "centers".
        channels: of the layers between the shrunk map and the outputs.
        min_overlap: a box that is shifted by the radius of its peak still overlaps the true one by this IoU.
        least_radius: the least radius of a peak, cells.
        iou_exponent: with a number e above 0 the heads also predict the overlap of each box with the true one, and a box's score is
            score^(1 - e) * IoU^e (Hu et al., "AFDetV2", AAAI 2022, section 3.3). 0 for the score of the heatmap alone.
    """

    kind: Literal["centers"] = "centers"
    channels: int = 64
    min_overlap: float = 0.1
    least_radius: int = 2
    iou_exponent: float = 0.0

    def __post_init__(self) -> None:
        """Check that the settings are in their ranges."""
        if not (self.channels >= 1 and self.least_radius >= 0):
            raise UserError(f"heads: expected channels of 1 or more and a least_radius of 0 or more, got {self}")
        if not (0 < self.min_overlap < 1 and 0 <= self.iou_exponent < 1):
            raise UserError(f"heads: expected 0 < min_overlap < 1 and 0 <= iou_exponent < 1, got {self}")

    @property
    def predicts_iou(self) -> bool:
        """Whether the heads predict the overlap of their boxes with the true ones."""
        return self.iou_exponent > 0


@dataclass(frozen=True)
class CenterTargets(Targets):
    """The target output of centre heads, for one scene or, with a leading dimension, for a batch.

    Attributes:
        heatmap: (..., ny, nx) float32 in [0, 1]: 1 in the cell of each centre, falling around it like a Gaussian.
        centres: (..., ny, nx) bool, the cells of the centres.
        counted: (..., ny, nx) bool, the cells whose score enters the loss.
        regression: (..., ny, nx, 10) float32, the codes of `encode_centers`; 0 where no centre is.
        covered: (..., ny, nx) bool, foreground: the cells of centres, and those whose middle lies in the footprint of a box.
        free: (..., ny, nx) bool, background: cells that no footprint reaches. Cells on the edge of a footprint are neither.
    """

    heatmap: Tensor
    centres: Tensor
    counted: Tensor
    regression: Tensor
    covered: Tensor
    free: Tensor

    @property
    def foreground(self) -> Tensor:
        """The cells of vehicles, bool (..., ny, nx)."""
        return self.covered

    @property
    def background(self) -> Tensor:
        """The cells of free ground, bool (..., ny, nx)."""
        return self.free

    @property
    def positives(self) -> Tensor:
        """The number (B,) of centres of each scene of a batch."""
        return self.centres.flatten(1).sum(dim=1)

    def within(self, cells: Tensor) -> CenterTargets:
        """Return the targets that ask nothing outside of `cells`, bool (..., ny, nx)."""
        kept = {name: getattr(self, name) & cells for name in ("centres", "counted", "covered", "free")}
        return replace(self, **kept)


def center_targets(gt_boxes: Tensor, grid: BevGrid, settings: CentersConfig) -> CenterTargets:
    """Make the targets of one scene.

    A vehicle whose centre is beyond the grid is not asked for. Of vehicles whose centres share a cell, the first one's box is asked
    for.

    Args:
        gt_boxes: (N, 7) in the grid's frame, metres and radians.
        grid: of the heads' maps.
        settings: the least overlap and the least radius of peaks.

    Returns:
        The targets, on the device of the boxes.
    """
    shape, size = (grid.ny, grid.nx), grid.ny * grid.nx
    boxes, cells = _on_grid(gt_boxes.double(), grid)
    place = cells[:, 1] * grid.nx + cells[:, 0]
    regression = torch.zeros(size, 10, device=boxes.device)
    owner = torch.full((size,), _NO_BOX, device=boxes.device)
    owner.scatter_reduce_(0, place, torch.arange(len(boxes), device=boxes.device), "amin")
    centres = owner != _NO_BOX
    regression[centres] = encode_centers(boxes, cells, grid)[owner[centres]].float()
    heatmap, covered, reached = _drawn(boxes, cells, grid, settings)
    covered[place] = True
    maps = (heatmap, centres, torch.ones_like(centres), regression, covered, ~reached)
    return CenterTargets(*(part.view(*shape, *part.shape[1:]) for part in maps))


def encode_centers(boxes: Tensor, cells: Tensor, grid: BevGrid) -> Tensor:
    """Compute the codes of boxes (N, 7) in cells (N, 2), column and row; `decode_centers` is the inverse.

    Returns:
        (N, 10): the centre's offset from the middle of its cell in x and y, cells; z, metres; logarithms of h, w and l in metres;
        sine and cosine of the yaw, sine and cosine of twice the yaw.
    """
    offset = _in_cells(boxes, grid) - cells - 0.5
    yaw = boxes[:, YAW, None]
    return torch.cat((offset, boxes[:, Z:H], boxes[:, H:YAW].log(), yaw.sin(), yaw.cos(), (2 * yaw).sin(), (2 * yaw).cos()), dim=1)


def decode_centers(codes: Tensor, cells: Tensor, grid: BevGrid) -> Tensor:
    """Compute boxes (N, 7), yaw in [-pi, pi), from codes (N, 10) in cells (N, 2), column and row.

    The yaw is the axis that the last two codes tell, in the direction that the two before them tell.
    """
    place_m = (cells + 0.5 + codes[:, :2]) * grid.cell_m + codes.new_tensor(grid.range_m[:2])
    sine, cosine, axis = codes[:, 6:7], codes[:, 7:8], torch.atan2(codes[:, 8:9], codes[:, 9:10]) / 2
    yaw = limit_period(axis.where(sine * axis.sin() + cosine * axis.cos() >= 0, axis + math.pi))
    return torch.cat((place_m, codes[:, Z:H], codes[:, H:YAW].exp(), yaw), dim=1)


def peak_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """Return how far both corners of axis-aligned boxes (N,) may move until the overlap with the true box falls to `min_overlap`.

    The corners may move so that the box is shifted, shrinks or grows; the radius is the least of the three.
    """
    edges, area = length + width, length * width
    shifted = (edges - (edges**2 - 4 * area * (1 - min_overlap) / (1 + min_overlap)).sqrt()) / 2
    shrunk = (edges - (edges**2 - 4 * area * (1 - min_overlap)).sqrt()) / 4
    grown = ((edges**2 + 4 * area * (1 - min_overlap) / min_overlap).sqrt() - edges) / 4
    return torch.minimum(torch.minimum(shifted, shrunk), grown)


def _on_grid(boxes: Tensor, grid: BevGrid) -> tuple[Tensor, Tensor]:
    """Return the boxes whose centre is on the grid, and the columns and rows (N, 2) int64 of their cells."""
    cells = _in_cells(boxes, grid).floor()
    inside = ((cells >= 0) & (cells < cells.new_tensor((grid.nx, grid.ny)))).all(dim=1)
    return boxes[inside], cells[inside].long()


def _in_cells(boxes: Tensor, grid: BevGrid) -> Tensor:
    """Return the centres (N, 2) in x and y, counted in cells from the corner of the grid."""
    return (boxes[:, :Z] - boxes.new_tensor(grid.range_m[:2])) / grid.cell_m


def _drawn(boxes: Tensor, cells: Tensor, grid: BevGrid, settings: CentersConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Draw boxes into flat maps (ny * nx,): the heatmap, the cells whose middle is in a footprint, the cells that one reaches.

    Only the windows around the boxes are computed.
    """
    radius = peak_radius(boxes[:, L] / grid.cell_m, boxes[:, W] / grid.cell_m, settings.min_overlap).floor()
    radius = radius.clamp(min=settings.least_radius)[:, None, None]
    margin_m = grid.cell_m * math.sqrt(0.5)
    longest_m = float(boxes[:, L].hypot(boxes[:, W]).max()) / 2 + margin_m if len(boxes) else 0.0
    half = max(math.ceil(longest_m / grid.cell_m) + 1, int(radius.max()) if len(boxes) else 0)
    step = torch.arange(-half, half + 1, device=boxes.device)
    column, row = cells[:, 0, None, None] + step, cells[:, 1, None, None] + step[:, None]  # (N, 1, K), (N, K, 1)
    on_grid = (column >= 0) & (column < grid.nx) & (row >= 0) & (row < grid.ny)  # (N, K, K)
    index = row * grid.nx + column
    peak = torch.exp(-(step**2 + step[:, None] ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
    peak = peak * ((step.abs() <= radius) & (step[:, None].abs() <= radius))
    heatmap = torch.zeros(grid.ny * grid.nx, device=boxes.device)
    heatmap.scatter_reduce_(0, index[on_grid], peak.float()[on_grid], "amax")
    beyond_m = _beyond_footprint(boxes, column, row, grid)
    covered, reached = (torch.zeros(grid.ny * grid.nx, dtype=torch.bool, device=boxes.device) for _ in range(2))
    covered[index[on_grid & (beyond_m <= 0)]] = True
    reached[index[on_grid & (beyond_m <= margin_m)]] = True
    return heatmap, covered, reached


def _beyond_footprint(boxes: Tensor, column: Tensor, row: Tensor, grid: BevGrid) -> Tensor:
    """Return how far the middles of cells lie beyond the edges of each box, along or across it, metres: (N, K, K)."""
    x = (column + 0.5) * grid.cell_m + grid.range_m[0] - boxes[:, X, None, None]
    y = (row + 0.5) * grid.cell_m + grid.range_m[1] - boxes[:, Y, None, None]
    cos, sin = boxes[:, YAW, None, None].cos(), boxes[:, YAW, None, None].sin()
    along = (x * cos + y * sin).abs() - boxes[:, L, None, None] / 2
    across = (y * cos - x * sin).abs() - boxes[:, W, None, None] / 2
    return torch.maximum(along, across)
