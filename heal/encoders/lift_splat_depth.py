"""Depth of a pixel as a choice among bins, and the bin that a depth image says is the right one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from heal.config import config


@config
class DepthBinsConfig:
    """How distance along the camera's axis is cut into bins; the defaults are the paper's on OPV2V.

    Attributes:
        start_m: of the first bin.
        end_m: of the last bin.
        count: number of bins.
        spacing: "linear" bins grow with the distance (LID), "uniform" ones do not, "log" ones grow in proportion to it.
    """

    start_m: float = 2.0
    end_m: float = 50.0
    count: int = 48
    spacing: Literal["linear", "uniform", "log"] = "linear"

    def __post_init__(self) -> None:
        """Raise ValueError for bins that do not follow each other."""
        if not 0 < self.start_m < self.end_m or self.count < 1:
            raise ValueError(
                f"depth: expected 0 < start_m < end_m and at least one bin, got {self.start_m}, {self.end_m} and {self.count} bins"
            )


@dataclass(frozen=True)
class DepthPrediction:
    """What a camera encoder thinks of depth, and what is right.

    Attributes:
        logits: (M, D, h, w), for every bin.
        bins: (M, h, w) int64, the true bin; None without depth images.
    """

    logits: Tensor
    bins: Tensor | None


def bin_depths(settings: DepthBinsConfig) -> Tensor:
    """(D,) float32, the depth in metres at which each bin begins, where its pixels are put."""
    k = torch.arange(settings.count, dtype=torch.float64)
    start, end, count = settings.start_m, settings.end_m, settings.count
    if settings.spacing == "uniform":
        depths = start + (end - start) / count * k
    elif settings.spacing == "linear":
        depths = start + (end - start) / (count * (count + 1)) * k * (k + 1)
    else:
        depths = (1 + start) * ((1 + end) / (1 + start)) ** (k / count) - 1
    return depths.float()


def depth_to_bins(depth_m: Tensor, settings: DepthBinsConfig, compat_heal: bool = False) -> Tensor:
    """The bin of every depth, int64.

    What is nearer than the first bin counts as in it, what is farther than the last likewise; so does, as farthest, what was not
    measured (zero, negative, not finite).

    Args:
        depth_m: any shape, metres.
        settings: the bins.
        compat_heal: as HEAL does, where what is nearer than the first of linear bins counts as farthest.
    """
    depth = depth_m if compat_heal else depth_m.clamp(min=settings.start_m)
    index = _position(depth.clamp(max=settings.end_m), settings)
    last = settings.count - 1
    far = ~index.isfinite() | (index > last)
    if not compat_heal:
        far |= ~(depth_m > 0)
    return torch.where(far, last, index.clamp(min=0)).long()


def sample_at_features(depth_m: Tensor, downsample: int) -> Tensor:
    """(M, h, w) images to (M, h / downsample, w / downsample): the pixel in the middle of each feature."""
    return depth_m[:, downsample // 2 :: downsample, downsample // 2 :: downsample]


def _position(depth: Tensor, settings: DepthBinsConfig) -> Tensor:
    """Depth in units of bins; its whole part is the bin."""
    start, end, count = settings.start_m, settings.end_m, settings.count
    if settings.spacing == "uniform":
        return (depth - start) / ((end - start) / count)
    if settings.spacing == "linear":
        return -0.5 + 0.5 * torch.sqrt(1 + 8 * (depth - start) / (2 * (end - start) / (count * (count + 1))))
    return count * (torch.log(1 + depth) - math.log(1 + start)) / (math.log(1 + end) - math.log(1 + start))
