"""The depth of a pixel as one of several bins, and the true bins from a depth image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from heal.config import config
from heal.errors import UserError


@config
class DepthBinsConfig:
    """The division of the distance along the camera's axis into bins; the defaults are the paper's on OPV2V.

    Attributes:
        start_m: where the first bin begins.
        end_m: where the last bin ends.
        count: number of bins.
        spacing: "uniform" bins have equal lengths; the lengths of "linear" bins grow by a constant from bin to bin (LID), those of
            "log" bins by a constant factor.
    """

    start_m: float = 2.0
    end_m: float = 50.0
    count: int = 48
    spacing: Literal["linear", "uniform", "log"] = "linear"

    def __post_init__(self) -> None:
        """Raise ValueError unless 0 < start_m < end_m and there is a bin."""
        if not 0 < self.start_m < self.end_m or self.count < 1:
            raise UserError(
                f"depth: expected 0 < start_m < end_m and at least one bin, got {self.start_m}, {self.end_m} and {self.count} bins"
            )


@dataclass(frozen=True)
class DepthPrediction:
    """The depths that a camera encoder predicts, and the true ones.

    Attributes:
        logits: (M, D, h, w), a logit for each of the D bins.
        bins: (M, h, w) int64, the true bin; None without depth images.
    """

    logits: Tensor
    bins: Tensor | None


def bin_depths(settings: DepthBinsConfig) -> Tensor:
    """Return (D,) float32, the depth in metres at which each bin begins; a pixel in a bin is placed at this depth."""
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
    """Return the bin of every depth, int64.

    A depth nearer than the first bin falls into the first bin. A depth beyond the last bin, or without a measurement (zero,
    negative, not finite), falls into the last bin.

    Args:
        depth_m: any shape, metres.
        settings: the bins.
        compat_heal: follow HEAL, which puts a depth nearer than the first bin into the last bin where bins are linear.
    """
    depth = depth_m if compat_heal else depth_m.clamp(min=settings.start_m)
    index = _depth_in_bins(depth.clamp(max=settings.end_m), settings)
    last = settings.count - 1
    far = ~index.isfinite() | (index > last)
    if not compat_heal:
        far |= ~(depth_m > 0)
    return torch.where(far, last, index.clamp(min=0)).long()


def sample_at_features(depth_m: Tensor, downsample: int) -> Tensor:
    """Sample depth images (M, h, w) at the pixel in the middle of each feature: (M, h / downsample, w / downsample)."""
    return depth_m[:, downsample // 2 :: downsample, downsample // 2 :: downsample]


def _depth_in_bins(depth: Tensor, settings: DepthBinsConfig) -> Tensor:
    """Return depths in units of bins; the whole part is the bin."""
    start, end, count = settings.start_m, settings.end_m, settings.count
    if settings.spacing == "uniform":
        return (depth - start) / ((end - start) / count)
    if settings.spacing == "linear":
        return -0.5 + 0.5 * torch.sqrt(1 + 8 * (depth - start) / (2 * (end - start) / (count * (count + 1))))
    return count * (torch.log(1 + depth) - math.log(1 + start)) / (math.log(1 + end) - math.log(1 + start))
