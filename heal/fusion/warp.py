"""Moving bird's-eye-view maps from their agents' frames into the ego's frame."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.grid import BevGrid

# A gather reads the channels of a cell as a whole, which pays off from this number of channels on.
_GATHERED_CHANNELS = 16
# The identity in the form of `affine_rows`, and the tolerance, as a share of the map, within which a pose counts as the identity.
_IDENTITY_AFFINE, _TOLERANCE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1e-9


def normalized_affine(agent_SE3_ego: Tensor, length_x_m: float, length_y_m: float) -> Tensor:
    """Return the planar part of poses in the coordinates of `torch.nn.functional.affine_grid` (-1 to 1 across the map).

    Args:
        agent_SE3_ego: (..., 4, 4) float64, maps ego coordinates into the agent's frame.
        length_x_m: extent of the map in x; the map is centred on the agent.
        length_y_m: extent of the map in y.

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
    """Sample maps (M, C, ny, nx) through affine transforms (M, 2, 3), bilinearly, with zeros outside of a map.

    The sampling grid is built in float64, because centimetres matter at a hundred metres, and rounded once, to float32. In half
    precision, the grid would be off by up to half a cell.
    """
    # Apple's GPUs have no float64; on other devices the grid is built on the device itself.
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device
    grid = F.affine_grid(affine.to(device, torch.float64), list(maps.shape), align_corners=align_corners)
    return _sample(maps, grid.to(maps.device, torch.float32), align_corners)


def warp_to_ego(maps: Tensor, agent_SE3_ego: Tensor, grid: BevGrid) -> Tensor:
    """Move maps (M, C, ny, nx), which cover the whole of `grid` in their agents' frames, into the ego's frame."""
    return warp(maps, normalized_affine(agent_SE3_ego, grid.length_x_m, grid.length_y_m))


def affine_rows(agent_SE3_ego: Tensor, grid: BevGrid) -> list[list[float]]:
    """Return `normalized_affine` of poses (M, 4, 4) for maps that cover the whole of `grid`: M times six numbers, row by row."""
    rows: list[list[float]] = normalized_affine(agent_SE3_ego.cpu(), grid.length_x_m, grid.length_y_m).flatten(1).tolist()
    return rows


def is_identity(affine: Sequence[float]) -> bool:
    """Return whether an entry of `affine_rows` moves a map by less than a billionth of its edge."""
    return all(abs(a - b) < _TOLERANCE for a, b in zip(affine, _IDENTITY_AFFINE, strict=True))


@dataclass(frozen=True)
class Window:
    """The part of the ego's map that an agent's map of the same size reaches, and where its cells lie in the agent's map.

    Attributes:
        rows: rows of the ego's map.
        columns: columns of the ego's map.
        grid: (1, rows, columns, 2) float32 places of the cells in the agent's map, as `torch.nn.functional.grid_sample` takes them.
    """

    rows: slice
    columns: slice
    grid: Tensor

    @staticmethod
    def of(affine: Sequence[float], ny: int, nx: int, device: torch.device) -> Window:
        """Find the window of an agent.

        Args:
            affine: the agent's pose, one entry of `affine_rows`.
            ny: rows of both maps.
            nx: columns of both maps.
            device: of the window's grid.
        """
        a, b, x0, c, d, y0 = affine
        rows, columns = _reached_part(affine, ny, nx)
        y, x = _centres(ny)[rows, None], _centres(nx)[columns]
        places = torch.empty(1, len(y), len(x), 2)
        # The sum is computed in float64 and rounded once, as in `warp`.
        torch.add(b * y + x0, a * x, out=places[0, ..., 0])
        torch.add(d * y + y0, c * x, out=places[0, ..., 1])
        return Window(rows, columns, places.to(device))

    def sample(self, maps: Tensor) -> Tensor:
        """Sample the agent's map (1, C, ny, nx) at this window's cells: (1, C, rows, columns)."""
        if not _is_gathered(maps) or not maps.is_contiguous(memory_format=torch.channels_last):
            return _sample(maps, self.grid)
        (_, channels, ny, nx), (_, rows, columns, _) = maps.shape, self.grid.shape
        index, weight = _corners(self.grid[0], ny, nx)
        cells = maps[0].permute(1, 2, 0).reshape(-1, channels).float()
        found = F.embedding_bag(index, cells, per_sample_weights=weight, mode="sum").to(maps.dtype)
        return found.view(1, rows, columns, channels).permute(0, 3, 1, 2)


def gatherable(maps: Tensor) -> Tensor:
    """Return maps (N, C, ny, nx) in the memory format in which `Window.sample` takes the least time.

    Without gradients on a CPU this is channels_last: each cell's channels are read as a whole, in a quarter of the time, and the
    result is channels_last too, as convolutions want it.
    """
    return maps.contiguous(memory_format=torch.channels_last) if _is_gathered(maps) else maps


def _is_gathered(maps: Tensor) -> bool:
    """Return whether maps in channels_last are gathered by whole cells."""
    learns = maps.requires_grad and torch.is_grad_enabled()
    return not learns and maps.device.type == "cpu" and maps.shape[1] >= _GATHERED_CHANNELS


def _corners(grid: Tensor, ny: int, nx: int) -> tuple[Tensor, Tensor]:
    """Return the four cells of a map around each place of a grid (rows, columns, 2), and their weights; 0 outside of the map.

    Returns:
        (rows * columns, 4) int32 numbers of cells, counted along the rows of the map, and (rows * columns, 4) float32.
    """
    size = torch.tensor([nx, ny], dtype=torch.float32)
    places = ((grid + 1) * size - 1) / 2
    low = places.floor()
    part = places - low
    cells, weights = torch.stack([low, low + 1], dim=-2), torch.stack([1 - part, part], dim=-2)  # (rows, columns, 2, x and y)
    weights *= (cells >= 0) & (cells < size)
    cells = torch.minimum(cells.clamp_min(0), size - 1).int()
    index = cells[..., :, None, 1] * nx + cells[..., None, :, 0]
    return index.view(-1, 4), (weights[..., :, None, 1] * weights[..., None, :, 0]).view(-1, 4)


def _reached_part(affine: Sequence[float], ny: int, nx: int) -> tuple[slice, slice]:
    """Return the rows and columns of the ego's map that an agent's map reaches; at least one of each."""
    a, b, x0, c, d, y0 = affine
    # With bilinear sampling, a map reaches half a cell beyond its edge.
    edges = [(x - x0, y - y0) for x in (-1 - 1 / nx, 1 + 1 / nx) for y in (-1 - 1 / ny, 1 + 1 / ny)]
    corners = [((d * x - b * y) / (a * d - b * c), (a * y - c * x) / (a * d - b * c)) for x, y in edges]
    columns, rows = (
        [((place + 1) * n - 1) / 2 for place in axis] for axis, n in zip(zip(*corners, strict=True), (nx, ny), strict=True)
    )
    return _span(rows, ny), _span(columns, nx)


def _span(places: Sequence[float], cells: int) -> slice:
    """Return the slice of `cells` cells between the least and the greatest of the places, in cells; at least one cell."""
    first = min(max(math.ceil(min(places)), 0), cells - 1)
    return slice(first, max(min(math.floor(max(places)) + 1, cells), first + 1))


@functools.cache
def _centres(cells: int) -> Tensor:
    """Return the centres (cells,) float64 of cells, in coordinates from -1 to 1 across the map."""
    return (2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1


def _sample(maps: Tensor, grid: Tensor, align_corners: bool = False) -> Tensor:
    """Sample maps bilinearly in float32, with zeros outside of a map; the result has the type of the maps."""
    sampled = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)
    return sampled.to(maps.dtype)


def coverage_mask(ratio_xy: tuple[float, float], ny: int, nx: int) -> Tensor:
    """Return (ny, nx) ones where the own range of an agent's encoder covers the map, zeros elsewhere.

    Args:
        ratio_xy: the alliance's range divided by the encoder's own range, in x and y; at a ratio of 1 all cells but two at each
            border are covered.
        ny: rows of the map.
        nx: columns of the map.
    """
    mask = torch.zeros(ny, nx)
    mask[_covered_cells(ny, ratio_xy[1]), _covered_cells(nx, ratio_xy[0])] = 1.0
    return mask


def _covered_cells(cells: int, ratio: float) -> slice:
    """Return the central cells that an encoder's own range covers, without the two at each border: these mix with zeros outside."""
    size = cells / ratio - 4
    return slice(max(int(cells // 2 - size // 2), 0), max(int(cells // 2 + size // 2), 0))
