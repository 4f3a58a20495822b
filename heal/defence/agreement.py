"""Whether the vehicles that a sender claims are those that the ego sees: what a wrong pose, a foreign map or erased vehicles break.

The ego trusts its own sensors alone: whatever several senders agree on, a lie of all of them is compared with what the ego sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.fusion.warp import Window, affine_rows
from heal.grid import BevGrid
from heal.types import Float64

CLAIMED, CONFIRMED = 0.5, 0.2
"""Scores above which an agent claims a vehicle, and confirms what another agent claims."""

SURE, NOTICED = 0.7, 0.1
"""Scores above which the ego is sure of a vehicle, and a sender has noticed one that the ego is sure of."""

FEWEST_CELLS = 15
"""Cells of vehicles that have to be compared: about two vehicles on a grid with cells of 0.8 m."""

TOLERATED_UNCONFIRMED, TOLERATED_UNNOTICED = 2, 4
"""Cells by which an honest sender may stay below the least agreement: with few cells in common, a share says little. A vehicle that
only the ego sees, behind a corner, is no lie, and leaving it out does little harm."""

REACH_M = 1.6
"""How far apart two agents may place a vehicle: errors of poses, and the way of a vehicle during a delay."""

_EDGE_CELLS = 2  # from the border of what an agent covers


@dataclass(frozen=True)
class Agreement:
    """How a sender's foreground agrees with the ego's where both cover the ground.

    Attributes:
        claimed: cells of vehicles that the sender claims where the ego's sensors reach.
        confirmed: share of them near foreground of the ego; 1 without any.
        sure: cells of vehicles that the ego is sure of where the sender's sensors reach.
        noticed: share of them near foreground of the sender; 1 without any.
    """

    claimed: int
    confirmed: float
    sure: int
    noticed: float

    def problem(self, least_confirmed: float, least_noticed: float) -> str | None:
        """Return why a sender is disputed by the ego; None if it is not, or if there is too little to compare."""
        if _is_below(self.confirmed, least_confirmed, self.claimed, TOLERATED_UNCONFIRMED):
            return f"the ego confirms {self.confirmed:.0%} of the vehicles that it claims, expected at least {least_confirmed:.0%}"
        if _is_below(self.noticed, least_noticed, self.sure, TOLERATED_UNNOTICED):
            return (
                f"it has noticed {self.noticed:.0%} of the vehicles that the ego is sure of, expected at least {least_noticed:.0%}"
            )
        return None


def _is_below(share: float, least: float, cells: int, tolerated: int) -> bool:
    """Return whether a share of so many cells is below the least one by more than some cells; few cells tell nothing."""
    return cells >= FEWEST_CELLS and (least - share) * cells > tolerated


def agreement(ego: Tensor, sender: Tensor, agent_SE3_ego: Float64, grid: BevGrid) -> Agreement:
    """Compare the foreground of a sender with that of the ego.

    Args:
        ego: (1, 1, ny, nx) the ego's scores of the finest scale; 0 where its sensors do not reach.
        sender: (1, 1, ny, nx) the sender's, in its own frame.
        agent_SE3_ego: (4, 4) float64, maps ego coordinates into the sender's frame.
        grid: of the maps.
    """
    moved, reach = moved_map(sender, agent_SE3_ego, grid), max(round(REACH_M / grid.cell_m), 1)
    claimed, sure = (moved > CLAIMED) & _covered(ego), (ego > SURE) & _covered(moved)
    return Agreement(
        int(claimed.sum()),
        _share(_grown(ego, reach) > CONFIRMED, claimed),
        int(sure.sum()),
        _share(_grown(moved, reach) > NOTICED, sure),
    )


def moved_map(score: Tensor, agent_SE3_ego: Float64, grid: BevGrid) -> Tensor:
    """Return an agent's scores (1, 1, ny, nx) in the ego's frame; 0 where its map does not reach."""
    [affine] = affine_rows(torch.from_numpy(agent_SE3_ego)[None], grid)
    window = Window.of(affine, score.shape[-2], score.shape[-1], score.device)
    moved = torch.zeros_like(score)
    moved[..., window.rows, window.columns] = window.sample(score)
    return moved


def _grown(score: Tensor, cells: int) -> Tensor:
    """Return the largest value within some cells around each cell."""
    return F.max_pool2d(score, 2 * cells + 1, 1, cells)


def _covered(score: Tensor) -> Tensor:
    """Return where an agent's sensors cover the ground all around."""
    return _grown((score == 0).float(), _EDGE_CELLS) == 0


def _share(kept: Tensor, among: Tensor) -> float:
    return float((kept & among).sum()) / max(int(among.sum()), 1) if bool(among.any()) else 1.0
