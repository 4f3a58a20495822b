"""The peaks of an agent's foreground scores, which are the places at which it sees vehicles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from heal.grid import BevGrid
from heal.types import Float64


@dataclass(frozen=True)
class PoseCorrectionConfig:
    """Constants of the search for peaks and of the correction. Spreads are standard deviations in x and in y.

    The spreads of the peaks' places were measured on agents of the built-in town, with LiDARs and with cameras. They do not depend
    on the agent type: a type that is less certain gives lower scores.

    Attributes:
        min_score: least foreground score of a peak.
        window_m: a peak is the highest cell within this distance in x and in y; its place is the centroid of the scores there.
        max_peaks: number of peaks of an agent; the highest are kept.
        sharp_m: spread of the place of a peak with score 1.
        vague_m: the amount by which the spread is greater at score 0; it falls linearly with the score.
        reach_m: peaks that are farther apart than this in x or in y, by the measured poses, do not belong to one vehicle.
        scales_m: expected distance between two peaks of one vehicle, in each round of the search.
        spread_m: spread of the poses' errors, during the search.
        spreads_m: spreads of the poses' errors between which the final estimate averages.
        deg_per_m: spread of the error in yaw for a spread of one metre in x and in y.
        min_shared: an agent takes part if the log-likelihood ratio of its peaks, being the peaks of other agents against lying
            near them by chance, is at least this; so an agent that sends noise moves no other agent.
        min_log_odds: poses are corrected if the log-likelihood ratio of the peaks, with errors against without, is at least this.
    """

    min_score: float = 0.2
    window_m: float = 1.6
    max_peaks: int = 40
    sharp_m: float = 0.15
    vague_m: float = 1.0
    reach_m: float = 5.0
    scales_m: tuple[float, ...] = (1.6, 1.3, 1.0, 0.7, 0.5, 0.5)
    spread_m: float = 0.8
    spreads_m: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
    deg_per_m: float = 1.0
    min_shared: float = 1.0
    min_log_odds: float = 3.0


DEFAULT = PoseCorrectionConfig()


@dataclass(frozen=True)
class Peaks:
    """The places at which an agent sees vehicles.

    Attributes:
        places_m: (N, 2) float64 x and y in the agent's frame.
        scores: (N,) float64 in [0, 1].
    """

    places_m: Float64
    scores: Float64


def find_peaks(scores: Tensor, grid: BevGrid, config: PoseCorrectionConfig = DEFAULT) -> Peaks:
    """Find the peaks of a foreground map (1, 1, ny, nx) that covers the whole of `grid`; the highest comes first."""
    heights = scores[0, 0].detach().cpu().double().numpy()
    ny, nx = heights.shape
    cell_m = np.array([grid.length_x_m / nx, grid.length_y_m / ny])
    half = max(1, round(config.window_m / float(cell_m.max())))
    padded = np.zeros((ny + 2 * half, nx + 2 * half))
    padded[half:-half, half:-half] = np.minimum(heights, 1.0)
    cells = np.flatnonzero(padded >= config.min_score)
    step = np.arange(-half, half + 1)
    windows = padded.ravel()[cells[:, None] + (step[:, None] * padded.shape[1] + step).ravel()]
    # Of equal scores in a window the first is the peak; scores that were sent with few bits are often equal.
    highest = np.flatnonzero(windows.argmax(axis=1) == step.size**2 // 2)
    highest = highest[np.argsort(-padded.ravel()[cells[highest]], kind="stable")][: config.max_peaks]
    rows, columns = np.divmod(cells[highest], padded.shape[1])
    # The centroid is weighted by the squares of the scores, which keeps neighbouring vehicles out.
    squares = windows[highest].reshape(-1, step.size, step.size) ** 2
    off_x, off_y = (squares.sum(axis=axis) @ step / squares.sum(axis=(1, 2)) for axis in (1, 2))
    places = np.stack([columns + off_x, rows + off_y], axis=1) - half + 0.5 - np.array([nx, ny]) / 2
    return Peaks(places * cell_m, padded[rows, columns])
