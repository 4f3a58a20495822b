"""Records the statistics of an agent type's honest maps, from scenes in which all agents are honest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heal.defence.agreement import FEWEST_CELLS, Agreement
from heal.defence.statistics import LevelStatistics, MapStatistics, channel_statistics
from heal.errors import UserError

_FEWEST_MAPS = 20
_MARGIN = 0.8  # the least agreement of honest senders is lowered by this factor
_WEAK = 0.2  # an ego that confirms less of what honest senders claim disputes nobody


class StatisticsRecorder:
    """Collects the statistics of honest maps, one after the other."""

    def __init__(self) -> None:
        """Know no map."""
        self._feature, self._scales = list[Tensor](), list[list[Tensor]]()
        self._agreements = list[Agreement]()

    def add_map(self, feature: Tensor, scales: Sequence[Tensor], scores: Sequence[Tensor]) -> None:
        """Add a map (1, C, ny, nx) with its scales and their scores; a map of which almost nothing is covered is left out."""
        rows = [channel_statistics(level, score) for level, score in zip(scales, scores, strict=True)]
        own = channel_statistics(feature, torch.nn.functional.interpolate(scores[0], feature.shape[-2:]))
        found = [row for row in rows if row is not None]
        if own is not None and len(found) == len(rows):
            self._feature.append(own.cpu())
            self._scales.append([row.cpu() for row in found])

    def add_agreement(self, agreement: Agreement) -> None:
        """Add how an honest sender agrees with an ego of the type."""
        self._agreements.append(agreement)

    def statistics(self) -> MapStatistics:
        """Return what has been recorded.

        Raises:
            UserError: too few maps for limits that honest maps stay within.
        """
        maps = len(self._feature)
        if maps < _FEWEST_MAPS:
            raise UserError(f"statistics: expected at least {_FEWEST_MAPS} maps, better 100 or more, got {maps}; take more scenes")
        return MapStatistics(
            maps=maps,
            feature=LevelStatistics.of(torch.stack(self._feature)),
            scales=tuple(LevelStatistics.of(torch.stack(rows)) for rows in zip(*self._scales, strict=True)),
            least_confirmed=_least([one.confirmed for one in self._agreements if one.claimed >= FEWEST_CELLS]),
            least_noticed=_least([one.noticed for one in self._agreements if one.sure >= FEWEST_CELLS]),
        )


def _least(shares: Sequence[float]) -> float:
    """Return the least share that an honest sender has, with a margin; 0 if that says nothing."""
    least = min(shares, default=0.0) if len(shares) >= _FEWEST_MAPS else 0.0
    return round(_MARGIN * least, 3) if least >= _WEAK else 0.0
