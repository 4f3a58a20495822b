"""A 3x3 convolution by Winograd's algorithm: a quarter of the multiplications, for the head's wide maps on the CPU.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4: F(4x4, 3x3). Every tile of 4x4 outputs
is a polynomial product, evaluated at 6x6 points (B for the data, G for the kernel), multiplied there and interpolated (A):
Y = A^T [(G g G^T) * (B^T d B)] A.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_TILE, _SIDE = 4, 6
# With infinity the six points. The errors grow with the points' powers: of the sets tried this one, which mixes 1/2 and -2, errs
# a quarter as much as the paper's (0, 1, -1, 2, -2) and a third as much as (0, 1, -1, 1/2, -1/2); F(3x3) is no better.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
# At point 1 every power is 1: what is added to a tile's product there is added to all of its outputs. So for the bias.
_POINT_ONE = _POINTS.index(1.0) * (_SIDE + 1)
# Tiles worked on at once: 7 MB at the points for 384 channels, so that a band goes from step to step within the cache. 64 leave
# the products small, and slower by a twentieth; 512 are slower by a tenth.
_BAND_TILES = 128


def _product_coefficients(roots: list[float]) -> Tensor:
    """Coefficients of the product of (x - root), lowest power first: (len(roots) + 1,) float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        shifted = nn.functional.pad(coefficients, (1, 0))
        shifted[:-1] -= root * coefficients
        coefficients = shifted
    return coefficients


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """The paper's A^T (4, 6), G (6, 3) and B^T (6, 6) in float64, by Cook and Toom from the points and infinity."""
    AT, G, BT = (torch.zeros(n, m, dtype=torch.float64) for n, m in ((_TILE, _SIDE), (_SIDE, 3), (_SIDE, _SIDE)))
    for i, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        powers = point ** torch.arange(_SIDE, dtype=torch.float64)
        AT[:, i] = powers[:_TILE]
        BT[i, :-1] = _product_coefficients(others)
        G[i] = powers[:3] / (BT[i] @ powers)
    AT[-1, -1] = G[-1, -1] = 1
    BT[-1] = _product_coefficients(list(_POINTS))
    return AT, G, BT


@dataclass(frozen=True)
class _Band:
    """Scratch for a band of tile rows, T = rows * columns tiles; filled anew for every band.

    Attributes:
        cells: (4 rows + 2, 4 columns + 2, C) the band's input with its border.
        tiles: (6, 6, rows, columns, C) the overlapping tiles of it.
        points: (36, T, C) the tiles at the points.
        products: (36, T, out) their products with the kernel.
        outputs: (4, 4, rows, columns, out) the tiles of the result.
    """

    cells: Tensor
    tiles: Tensor
    points: Tensor
    products: Tensor
    outputs: Tensor

    @classmethod
    def of(cls, like: Tensor, rows: int, columns: int, channels: int, out_channels: int) -> _Band:
        """Scratch of the type and device of `like`; the cells are zeros, the rest is undefined."""
        return cls(
            like.new_zeros(_TILE * rows + 2, _TILE * columns + 2, channels),
            like.new_empty(_SIDE, _SIDE, rows, columns, channels),
            like.new_empty(_SIDE**2, rows * columns, channels),
            like.new_empty(_SIDE**2, rows * columns, out_channels),
            like.new_empty(_TILE, _TILE, rows, columns, out_channels),
        )

    def load(self, image: Tensor, first: int) -> None:
        """Set the cells to the rows of `image` (ny, nx, C) from `first` on, zero outside, and cut them into tiles."""
        count, (ny, nx, _) = len(self.cells), image.shape
        start, stop = max(first, 0), min(first + count, ny)
        self.cells[: start - first].zero_()
        self.cells[start - first : stop - first, 1 : nx + 1].copy_(image[start:stop])
        self.cells[stop - first :].zero_()
        windows = self.cells.unfold(0, _SIDE, _TILE).unfold(1, _SIDE, _TILE)  # (rows, columns, C, 6, 6)
        self.tiles.copy_(windows.permute(3, 4, 0, 1, 2))

    def store(self, result: Tensor, relu: bool) -> None:
        """Put the tiles of the result in their places of (4 rows, 4 columns, out)."""
        outputs = self.outputs.permute(2, 0, 3, 1, 4)
        places = result.view(outputs.shape)
        if relu:
            torch.clamp_min(outputs, 0, out=places)
        else:
            places.copy_(outputs)


class WinogradConv2d(nn.Module):
    """A `Conv2d` of 3x3, stride 1, padding 1, for inference, with the ReLU after it if wanted.

    Measured with two threads, channels-last, with ReLU: 384 to 256 channels over 128 x 256 cells in 68 ms, 165 ms by oneDNN's
    direct convolution; 256 to 256 in 48 ms, not 112. The largest error is 5e-6 of the largest value, 2e-6 by the direct one.
    """

    kernel: Tensor
    bias: Tensor
    to_points: Tensor
    from_points: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        """Transform the convolution's present weights; later changes of them are not seen.

        Raises:
            ValueError: for any other kind of convolution.
        """
        super().__init__()
        found = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
        if found != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"):
            raise ValueError(f"Expected a 3x3 convolution: stride 1, padding 1 with zeros, dilation 1, one group; got {conv}")
        self.relu = relu
        AT, G, BT = _matrices()
        weight = conv.weight.detach()
        kernel = torch.einsum("ai,bj,ocij->abco", G.to(weight.device), G.to(weight.device), weight.double()).flatten(0, 1)
        bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        # Not persistent: a checkpoint holds the convolution that this was made from.
        self.register_buffer("kernel", kernel.to(weight.dtype).contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        # One product with the Kronecker square, not one for rows and one for columns: as fast here, for it reads the tiles once.
        self.register_buffer("to_points", torch.kron(BT, BT).to(weight), persistent=False)
        self.register_buffer("from_points", torch.kron(AT, AT).to(weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx) to (N, out, ny, nx), channels-last; fastest from channels-last.

        Raises:
            ValueError: for input of another type or width than the kernel's, or input that needs a gradient.
        """
        self._check(x)
        ny, nx = x.shape[2:]
        _, channels, out_channels = self.kernel.shape
        tile_rows, columns = -(-ny // _TILE), -(-nx // _TILE)
        rows = min(tile_rows, max(1, _BAND_TILES // columns))
        band = _Band.of(x, rows, columns, channels, out_channels)
        result = x.new_empty(len(x), _TILE * tile_rows, _TILE * columns, out_channels)
        for image, image_result in zip(x.permute(0, 2, 3, 1), result, strict=True):
            for start in range(0, tile_rows, rows):
                first = _TILE * min(start, tile_rows - rows)  # the last band may repeat rows of the one before
                band.load(image, first - 1)
                self._convolve(band)
                band.store(image_result[first : first + _TILE * rows], self.relu)
        return result[:, :ny, :nx].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def _check(self, x: Tensor) -> None:
        channels, dtype = self.kernel.shape[1], self.kernel.dtype
        if x.dim() != 4 or x.shape[1] != channels or x.dtype != dtype:
            raise ValueError(f"Expected (N, {channels}, ny, nx) of {dtype}, got {tuple(x.shape)} of {x.dtype}")
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError("WinogradConv2d gives no gradient: train with the Conv2d, or call it under torch.no_grad()")

    def _convolve(self, band: _Band) -> None:
        torch.mm(self.to_points, band.tiles.view(_SIDE**2, -1), out=band.points.view(_SIDE**2, -1))
        torch.bmm(band.points, self.kernel, out=band.products)
        band.products[_POINT_ONE].add_(self.bias)
        torch.mm(self.from_points, band.products.view(_SIDE**2, -1), out=band.outputs.view(_TILE**2, -1))
