"""The statistics of an agent type's honest maps, and how far a map lies outside of them; no threshold has to be known by a sender.

For every channel of the feature map and of each scale of the trunk, the mean, the standard deviation and the maximum over the
covered cells are recorded: their middle and half their range over honest maps. A map that is amplified, negated, blank or made of
noise lies far outside in many channels, and some of its scales do even where the map itself is close (docs/lying_senders.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heal.config import ConfigError, config

NAMES = ("mean", "spread", "maximum")
"""The statistics of a channel, in the order of the rows of `channel_statistics`."""

MOST_EXCESS = 3.0
"""The largest distance of any statistic from its middle, in half ranges of honest maps; honest maps of unseen towns reach 1.9."""

MOST_MEAN_EXCESS = 1.2
"""The largest root mean square of the distances of a scale's means and spreads; honest maps of unseen towns reach 0.9."""

_FEWEST_CELLS = 64  # a map of which less is covered has no statistics
_DIGITS = 4
_SLACK = 0.05  # a half range is widened by this share of the median of its row, so that constant channels are not exact


@config
class LevelStatistics:
    """The statistics of a feature map or of one scale; each row has a number for every channel, as text, so that a record is short.

    Attributes:
        middle: rows of the middles of `NAMES` over honest maps.
        half_range: rows of half the ranges.
    """

    middle: tuple[str, ...]
    half_range: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise ConfigError for rows that are no numbers, or not of one length."""
        rows = [*self.middle, *self.half_range]
        if len(self.middle) != len(NAMES) or len(self.half_range) != len(NAMES) or len({len(row.split()) for row in rows}) != 1:
            raise ConfigError(f"statistics: expected {len(NAMES)} rows of as many middles as half ranges, one for every channel")
        try:
            finite = bool(self.middles.isfinite().all()) and bool((self.half_ranges > 0).all())
        except ValueError as error:
            raise ConfigError(f"statistics: expected numbers: {error}") from error
        if not finite:
            raise ConfigError("statistics: expected finite middles, and half ranges above 0")

    @cached_property
    def middles(self) -> Tensor:
        """The middles (3, C) float32, in the order of `NAMES`."""
        return _numbers(self.middle)

    @cached_property
    def half_ranges(self) -> Tensor:
        """Half the ranges (3, C) float32, in the order of `NAMES`."""
        return _numbers(self.half_range)

    @staticmethod
    def of(rows: Tensor) -> LevelStatistics:
        """Return the statistics of honest maps from `channel_statistics` of each, (maps, 3, C)."""
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        half = (high - low) / 2
        half = half + _SLACK * half.median(dim=1, keepdim=True).values.clamp_min(1e-6)
        return LevelStatistics(middle=_texts((low + high) / 2), half_range=_texts(half))


@config
class MapStatistics:
    """The statistics of an agent type's honest maps.

    Attributes:
        maps: number of maps from which they are taken.
        feature: of the feature map.
        scales: of the scales of the trunk, the finest first.
        least_confirmed: an ego of the type confirms at least this share of what an honest sender claims (`heal.defence.agreement`);
            0 for an ego that sees too little to dispute anything.
        least_noticed: an honest sender notices at least this share of what an ego of the type is sure of; 0 as before.
    """

    maps: int
    feature: LevelStatistics
    scales: tuple[LevelStatistics, ...]
    least_confirmed: float = 0.0
    least_noticed: float = 0.0


@dataclass(frozen=True)
class Excess:
    """How far a map lies outside of the statistics of its type.

    Attributes:
        most: the largest distance of a statistic, in half ranges.
        mean: the root mean square over all channels' means and spreads.
        where: the statistic and the channel of the largest distance.
    """

    most: float
    mean: float
    where: str

    @property
    def is_too_large(self) -> bool:
        """Whether the map is not that of an honest sender."""
        return not (self.most <= MOST_EXCESS and self.mean <= MOST_MEAN_EXCESS)

    def __str__(self) -> str:
        """Describe the excess in a few words."""
        return (
            f"{self.where} is {self.most:.1f} half ranges of honest maps from their middle, allowed are {MOST_EXCESS:g}; "
            f"the root mean square is {self.mean:.2f}, allowed is {MOST_MEAN_EXCESS:g}"
        )


def channel_statistics(level: Tensor, score: Tensor) -> Tensor | None:
    """Return the mean, standard deviation and maximum of each channel over the covered cells, (3, C) float32.

    Args:
        level: (1, C, ny, nx) a feature map or a scale.
        score: (1, 1, ny, nx) foreground scores, 0 in cells that are not covered.

    Returns:
        None if almost no cell is covered.
    """
    covered = level[0][:, score[0, 0] != 0].float()  # a score that is no number hides no cell
    if covered.shape[1] < _FEWEST_CELLS:
        return None
    spread, mean = torch.std_mean(covered, dim=1)
    return torch.stack([mean, spread, covered.amax(dim=1)])


def excess_of(statistics: LevelStatistics, level: Tensor, score: Tensor, *, whole: bool = True) -> Excess | None:
    """Return how far a map lies outside of the statistics of its type; None if almost nothing of it is covered.

    Args:
        statistics: of the same map or scale.
        level: (1, C, ny, nx).
        score: (1, 1, ny, nx), as for `channel_statistics`.
        whole: whether all cells were sent; otherwise the maxima alone are compared, from above.
    """
    rows = channel_statistics(level, score)
    if rows is None:
        return None
    distance = (rows.cpu() - statistics.middles) / statistics.half_ranges
    distance[2].clamp_min_(0)  # a smaller maximum is that of an emptier street
    compared = distance.abs() if whole else distance.abs() * torch.tensor([[0.0], [0.0], [1.0]])
    place = int(torch.nan_to_num(compared, nan=torch.inf).argmax())
    row, channel = divmod(place, compared.shape[1])
    return Excess(
        float(compared[row, channel]), float(compared[:2].square().mean().sqrt()), f"the {NAMES[row]} of channel {channel}"
    )


def _numbers(rows: Sequence[str]) -> Tensor:
    return torch.tensor([[float(number) for number in row.split()] for row in rows])


def _texts(rows: Tensor) -> tuple[str, ...]:
    return tuple(" ".join(f"{number:.{_DIGITS}g}" for number in row.tolist()) for row in rows)
