"""Moving bird's-eye-view maps from their agents' frames into the ego's."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.grid import BevGrid


def normalized_affine(agent_SE3_ego: Tensor, length_x_m: float, length_y_m: float) -> Tensor:
    """The planar part of poses, in the coordinates of `torch.nn.functional.affine_grid` (-1 to 1 across the map).

    Args:
        agent_SE3_ego: (..., 4, 4) float64, maps ego coordinates into the agent's frame.
        length_x_m: metric extent of the map along its columns; it is centred on the agent.
        length_y_m: along its rows.

    Returns:
        (..., 2, 3) float64.
    """
    affine = agent_SE3_ego[..., :2, :][..., [0, 1, 3]].double().clone()
    affine[..., 0, 1] *= length_y_m / length_x_m
    affine[..., 1, 0] *= length_x_m / length_y_m
    affine[..., 0, 2] *= 2 / length_x_m
    affine[..., 1, 2] *= 2 / length_y_m
    return affine


def warp(maps: Tensor, affine: Tensor, align_corners: bool = False) -> Tensor:
    """Sample maps (M, C, ny, nx) through affine transforms (M, 2, 3), bilinearly; zero outside of a map.

    The sampling grid is built in float64, for centimetres matter at a hundred metres, and rounded once, to float32: in half
    precision it would be off by up to half a cell.
    """
    # No float64 on Apple's GPUs; elsewhere the grid is built where it is used.
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device
    grid = F.affine_grid(affine.to(device, torch.float64), list(maps.shape), align_corners=align_corners)
    return _sample(maps, grid.to(maps.device, torch.float32), align_corners)


def warp_to_ego(maps: Tensor, agent_SE3_ego: Tensor, grid: BevGrid) -> Tensor:
    """Maps (M, C, ny, nx) over the whole of `grid`, each in its agent's frame, as the ego would have them."""
    return warp(maps, normalized_affine(agent_SE3_ego, grid.length_x_m, grid.length_y_m))


def affine_rows(agent_SE3_ego: Tensor, grid: BevGrid) -> list[list[float]]:
    """Poses (M, 4, 4) as `normalized_affine` of maps over the whole of `grid`: the six numbers of each, row by row."""
    rows: list[list[float]] = normalized_affine(agent_SE3_ego.cpu(), grid.length_x_m, grid.length_y_m).flatten(1).tolist()
    return rows


@dataclass(frozen=True)
class Window:
    """The part of an ego's map that another agent's map of the same size reaches: rows, columns, and where to look for its cells.

    Attributes:
        rows: of the ego's map.
        columns: of the ego's map.
        grid: (1, rows, columns, 2) float32 places in the agent's map, as `torch.nn.functional.grid_sample` takes them.
    """

    rows: slice
    columns: slice
    grid: Tensor

    @staticmethod
    def of(affine: Sequence[float], ny: int, nx: int, device: torch.device) -> Window:
        """For one of `affine_rows`, and maps with so many cells."""
        a, b, x0, c, d, y0 = affine
        rows, columns = _reach(affine, ny, nx)
        y, x = _centres(ny)[rows, None], _centres(nx)[columns]
        places = torch.empty(1, len(y), len(x), 2)
        # Added in float64 and rounded once, as in `warp`.
        torch.add(b * y + x0, a * x, out=places[0, ..., 0])
        torch.add(d * y + y0, c * x, out=places[0, ..., 1])
        return Window(rows, columns, places.to(device))

    def sample(self, maps: Tensor) -> Tensor:
        """The agent's map (1, C, ny, nx) as the ego would have it, in this window."""
        return _sample(maps, self.grid)


def _reach(affine: Sequence[float], ny: int, nx: int) -> tuple[slice, slice]:
    """Rows and columns around the footprint of a map that is moved through `affine`, row by row; at least one of each."""
    a, b, x0, c, d, y0 = affine
    # Bilinearly, a map reaches half a cell beyond its edge.
    edges = [(x - x0, y - y0) for x in (-1 - 1 / nx, 1 + 1 / nx) for y in (-1 - 1 / ny, 1 + 1 / ny)]
    corners = [((d * x - b * y) / (a * d - b * c), (a * y - c * x) / (a * d - b * c)) for x, y in edges]
    columns, rows = (
        [((place + 1) * n - 1) / 2 for place in axis] for axis, n in zip(zip(*corners, strict=True), (nx, ny), strict=True)
    )
    return _span(rows, ny), _span(columns, nx)


def _span(places: Sequence[float], cells: int) -> slice:
    first = min(max(math.ceil(min(places)), 0), cells - 1)
    return slice(first, max(min(math.floor(max(places)) + 1, cells), first + 1))


@functools.cache
def _centres(cells: int) -> Tensor:
    """(cells,) float64 centres of cells, from -1 to 1 across the map."""
    return (2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1


def _sample(maps: Tensor, grid: Tensor, align_corners: bool = False) -> Tensor:
    sampled = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)
    return sampled.to(maps.dtype)


def coverage_mask(ratio_xy: tuple[float, float], ny: int, nx: int) -> Tensor:
    """(ny, nx) ones where a camera agent's own, smaller grid has said something, zeros elsewhere.

    Args:
        ratio_xy: the shared range over the agent's own, in x and y; at 1 all but two cells at each border are covered.
        ny: rows of the level.
        nx: columns of the level.
    """
    mask = torch.zeros(ny, nx)
    mask[_window(ny, ratio_xy[1]), _window(nx, ratio_xy[0])] = 1.0
    return mask


def _window(cells: int, ratio: float) -> slice:
    """The central cells, less two at each side, where the agent's map was interpolated with nothing."""
    size = cells / ratio - 4
    return slice(max(int(cells // 2 - size // 2), 0), max(int(cells // 2 + size // 2), 0))
