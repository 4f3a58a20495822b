"""Training targets: the assignment of anchors to true boxes, and the codes that the heads should predict there.

The rules are exactly HEAL's, because released weights were trained by them: overlap is measured between axis-aligned hulls in
bird's-eye view, with one metre added to every width and height.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from heal.box_corners import YAW, H, L, W, X, Y, Z
from heal.config import config
from heal.detection.boxes import boxes_to_corners, planar_hulls
from heal.errors import UserError

# Added to the widths and heights of hulls: a custom from boxes in pixels, which HEAL keeps for metres.
_PIXEL_M = 1.0
# Stands for the true box of an anchor that has none.
_NO_BOX = torch.iinfo(torch.int64).max


@config
class TargetConfig:
    """Thresholds for positive and negative anchors.

    Attributes:
        positive_iou: an anchor that overlaps a true box by more than this is positive.
        negative_iou: an anchor that overlaps every true box by less than this is background; anchors between are ignored.
    """

    positive_iou: float = 0.6
    negative_iou: float = 0.45

    def __post_init__(self) -> None:
        """Check the order of the thresholds."""
        if not 0.0 < self.negative_iou <= self.positive_iou < 1.0:
            raise UserError(
                f"targets: expected 0 < negative_iou <= positive_iou < 1, got {self.negative_iou} and {self.positive_iou}"
            )


AnyTargets = TypeVar("AnyTargets", bound="Targets")


@dataclass(frozen=True)
class Targets(ABC):
    """The target output of the heads of a base, for one scene or, with a leading dimension, for a batch.

    All fields are tensors, except in `ClassTargets`.
    """

    @property
    @abstractmethod
    def foreground(self) -> Tensor:
        """The cells (..., ny, nx), bool, whose foreground should be 1."""

    @property
    @abstractmethod
    def background(self) -> Tensor:
        """The cells (..., ny, nx), bool, whose foreground should be 0; cells that are neither are ignored."""

    @property
    @abstractmethod
    def positives(self) -> Tensor:
        """The number (B,), int64, of positive anchors or centres of each scene of a batch."""

    @abstractmethod
    def within(self: AnyTargets, cells: Tensor) -> AnyTargets:
        """Return the targets that ask nothing outside of `cells`, bool (..., ny, nx)."""

    @staticmethod
    def stack(parts: Sequence[AnyTargets]) -> AnyTargets:
        """Join the targets of scenes to one batch, in their order."""
        first, *others = parts
        return first.stacked_with(others)

    def stacked_with(self: AnyTargets, others: Sequence[AnyTargets]) -> AnyTargets:
        """Join the targets of this scene and of others to one batch."""
        every = (self, *others)
        return replace(self, **{one.name: torch.stack([getattr(part, one.name) for part in every]) for one in fields(self)})

    def to(self: AnyTargets, device: torch.device | str) -> AnyTargets:
        """Copy the targets to another device."""
        return replace(self, **{one.name: getattr(self, one.name).to(device) for one in fields(self)})


@dataclass(frozen=True)
class ClassTargets(Targets):
    """The targets of several classes.

    Attributes:
        parts: those of each class, by its number.
    """

    parts: tuple[Targets, ...]

    @property
    def foreground(self) -> Tensor:
        """The cells with an object of any class."""
        return torch.stack([part.foreground for part in self.parts]).any(dim=0)

    @property
    def background(self) -> Tensor:
        """The cells that are background to every class."""
        return torch.stack([part.background for part in self.parts]).all(dim=0)

    @property
    def positives(self) -> Tensor:
        """The number (B,) of positive anchors or centres of all classes together."""
        return torch.stack([part.positives for part in self.parts]).sum(dim=0)

    def within(self, cells: Tensor) -> ClassTargets:
        """Return the targets that ask nothing of any class outside of `cells`, bool (..., ny, nx)."""
        return ClassTargets(tuple(part.within(cells) for part in self.parts))

    def stacked_with(self, others: Sequence[ClassTargets]) -> ClassTargets:
        """Join the targets of each class."""
        by_class = zip(*(one.parts for one in (self, *others)), strict=True)
        return ClassTargets(tuple(Targets.stack(parts) for parts in by_class))

    def to(self, device: torch.device | str) -> ClassTargets:
        """Copy the targets to another device."""
        return ClassTargets(tuple(part.to(device) for part in self.parts))


@dataclass(frozen=True)
class AnchorTargets(Targets):
    """The target output of anchor heads, for one scene or, with a leading dimension, for a batch.

    Attributes:
        positive: (..., ny, nx, A) bool, anchors of a true box.
        negative: (..., ny, nx, A) bool, anchors of the background.
        regression: (..., ny, nx, 7A) float32, for every anchor in turn the seven codes of `encode_boxes`; 0 if not positive.
    """

    positive: Tensor
    negative: Tensor
    regression: Tensor

    def __post_init__(self) -> None:
        """Check that the shapes agree."""
        shape = self.positive.shape
        wanted = (*shape[:-1], 7 * shape[-1])
        if self.negative.shape != shape or self.regression.shape != wanted:
            raise ValueError(
                f"AnchorTargets: expected negative {tuple(shape)} and regression {wanted} to go with positive, "
                f"got {tuple(self.negative.shape)} and {tuple(self.regression.shape)}"
            )

    @property
    def foreground(self) -> Tensor:
        """The cells with a positive anchor."""
        return self.positive.any(dim=-1)

    @property
    def background(self) -> Tensor:
        """The cells whose anchors are all negative."""
        return self.negative.all(dim=-1)

    @property
    def positives(self) -> Tensor:
        """The number (B,) of positive anchors of each scene of a batch."""
        return self.positive.flatten(1).sum(dim=1)

    def within(self, cells: Tensor) -> AnchorTargets:
        """Return the targets with no anchor positive or negative outside of `cells`, bool (..., ny, nx)."""
        return replace(self, positive=self.positive & cells[..., None], negative=self.negative & cells[..., None])


def assign_targets(anchors: Tensor, gt_boxes: Tensor, config: TargetConfig) -> AnchorTargets:
    """Assign anchors to true boxes.

    An anchor is positive for the true box that it overlaps by more than `positive_iou`, for the first of several such boxes. The
    anchor that overlaps a true box best (the first in row, column, yaw order) is positive for this box too, unless it is already
    positive for another box.

    Args:
        anchors: (ny, nx, A, 7) on a grid: equal x in a column, equal y in a row, equal sizes and yaws in all cells.
        gt_boxes: (N, 7) in the same frame, metres and radians.
        config: thresholds.

    Returns:
        The targets of one scene, on the device of `anchors`.
    """
    shape = anchors.shape[:3]
    if len(gt_boxes) == 0:
        empty = torch.zeros(shape, dtype=torch.bool, device=anchors.device)
        return AnchorTargets(empty, ~empty, anchors.new_zeros((*shape[:2], shape[2] * 7), dtype=torch.float32))
    iou, index = _overlaps(anchors, gt_boxes)
    owner, best = _owners(iou, index, config.positive_iou, anchors[..., 0].numel())
    negative = torch.ones_like(owner, dtype=torch.bool)
    negative[index[iou >= config.negative_iou]] = False
    negative[best] = False
    positive = owner != _NO_BOX
    regression = torch.zeros(len(owner), 7, device=anchors.device)
    codes = encode_boxes(gt_boxes[owner[positive]].to(anchors.dtype), anchors.reshape(-1, 7)[positive])
    regression[positive] = codes.float()
    return AnchorTargets(positive.view(shape), negative.view(shape), regression.view(*shape[:2], -1))


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Compute the codes of boxes: differences from anchors, both (..., 7); `heal.detection.decode.decode_boxes` is the inverse.

    Returns:
        (..., 7): offsets in x and y in units of the anchor's diagonal, in z in units of its height, logarithms of the ratios of h,
        w and l, and the difference in yaw, not wrapped.
    """
    diagonal = anchors[..., L].hypot(anchors[..., W])
    return torch.stack(
        (
            (boxes[..., X] - anchors[..., X]) / diagonal,
            (boxes[..., Y] - anchors[..., Y]) / diagonal,
            (boxes[..., Z] - anchors[..., Z]) / anchors[..., H],
            (boxes[..., H] / anchors[..., H]).log(),
            (boxes[..., W] / anchors[..., W]).log(),
            (boxes[..., L] / anchors[..., L]).log(),
            boxes[..., YAW] - anchors[..., YAW],
        ),
        dim=-1,
    )


def _overlaps(anchors: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the overlap of each true box with the window of anchors around it, the only anchors that it can overlap.

    Returns:
        iou: (N, K) float32 in row, column, yaw order; 0 where the window crosses the border of the grid.
        index: (N, K) flat indices of the anchors.
    """
    ny, nx, count, _ = anchors.shape
    gt = planar_hulls(boxes_to_corners(gt_boxes.to(anchors.device, torch.float32)))[:, None, None]  # (N, 1, 1, 4)
    along_x = planar_hulls(boxes_to_corners(anchors[0].reshape(-1, 7).float())).view(1, nx, count, 4)
    along_y = planar_hulls(boxes_to_corners(anchors[:, 0].reshape(-1, 7).float())).view(1, ny, count, 4)
    width, gt_x, anchor_x = _common_length(gt[..., 0::2], along_x[..., 0::2])  # (N, nx, A)
    height, gt_y, anchor_y = _common_length(gt[..., 1::2], along_y[..., 1::2])
    columns, width = _window(width)  # (N, wx), (N, wx, A)
    rows, height = _window(height)
    common = height[:, :, None] * width[:, None]  # (N, wy, wx, A)
    # All anchors of one yaw have equal sizes, but their corners are rounded, so each anchor has its own area.
    anchor_area = anchor_x[0][columns][:, None] * anchor_y[0][rows][:, :, None]
    iou = _iou(common, anchor_area, (gt_x * gt_y)[..., None])
    yaw = torch.arange(count, device=anchors.device)
    index = (rows[:, :, None, None] * nx + columns[:, None, :, None]) * count + yaw
    return iou.flatten(1), index.flatten(1)


def _window(common: Tensor) -> tuple[Tensor, Tensor]:
    """Find the range of lines (rows or columns) in which each true box shares some length with an anchor.

    Args:
        common: (N, lines, A) shared length of every box with the anchors of every line.

    Returns:
        lines: (N, K) numbers of the lines, K being the longest range; at the border the last line is repeated to fill a row.
        common: (N, K, A) the shared lengths in these lines, 0 in a repeated line.
    """
    touched = (common > 0).any(dim=2)
    first = touched.int().argmax(dim=1, keepdim=True)
    longest = max(int(touched.sum(dim=1).max()), 1)
    lines = first + torch.arange(longest, device=common.device)
    outside = lines >= common.shape[1]
    lines = lines.clamp(max=common.shape[1] - 1)
    stretch = common.gather(1, lines[..., None].expand(-1, -1, common.shape[2]))
    return lines, stretch.masked_fill(outside[..., None], 0.0)


def _owners(iou: Tensor, index: Tensor, positive_iou: float, anchor_count: int) -> tuple[Tensor, Tensor]:
    """Return the true box of each anchor, or _NO_BOX, and the best anchors of all true boxes that overlap any anchor."""
    box = torch.arange(len(iou), device=iou.device)
    above = iou > positive_iou
    owner = torch.full((anchor_count,), _NO_BOX, device=iou.device)
    owner.scatter_reduce_(0, index[above], box[:, None].expand_as(iou)[above], "amin")
    highest, place = iou.max(dim=1)
    overlapping = highest > 0
    best = index.gather(1, place[:, None]).squeeze(1)[overlapping]
    best_owner = torch.full_like(owner, _NO_BOX).scatter_reduce_(0, best, box[overlapping], "amin")
    return torch.where(owner == _NO_BOX, best_owner, owner), best


def _common_length(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shared length of intervals (..., 2), at least 0, and the length of each; one metre is added to all of them."""
    common = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0]) + _PIXEL_M
    return common.clamp_(min=0), a[..., 1] - a[..., 0] + _PIXEL_M, b[..., 1] - b[..., 0] + _PIXEL_M


def _iou(common: Tensor, area_a: Tensor, area_b: Tensor) -> Tensor:
    return common / (area_a + area_b - common)
