"""A 3x3 convolution and its gradients by Winograd's algorithm: a quarter of the multiplications, for wide maps on the CPU.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4: F(4x4, 3x3). Every tile of 4x4 outputs
is a polynomial product, evaluated at 6x6 points (B for the data, G for the kernel), multiplied there and interpolated (A):
Y = A^T [(G g G^T) * (B^T d B)] A.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TILE, _SIDE = 4, 6
# With infinity the six points. The errors grow with the points' powers: of the sets tried this one, which mixes 1/2 and -2, errs
# a quarter as much as the paper's (0, 1, -1, 2, -2) and a third as much as (0, 1, -1, 1/2, -1/2); F(3x3) is no better.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
# At point 1 every power is 1: what is added to a tile's product there is added to all of its outputs. So for the bias.
_POINT_ONE = _POINTS.index(1.0) * (_SIDE + 1)
# Tiles worked on at once: 7 MB at the points for 384 channels, so that a band goes from step to step within the cache. 64 leave
# the products small, and slower by a twentieth; 512 are slower by a tenth.
_BAND_TILES = 128
# From so many channels in and out on the algorithm is twice as fast as the direct one; at 128 it takes as long.
WIDE = 256


def _product_coefficients(roots: list[float]) -> Tensor:
    """Coefficients of the product of (x - root), lowest power first: (len(roots) + 1,) float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        shifted = F.pad(coefficients, (1, 0))
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
    def of(cls, like: Tensor, columns: int, tile_rows: int, channels: int, out_channels: int) -> _Band:
        """Scratch of the type and device of `like`; the cells are zeros, the rest is undefined."""
        rows = min(tile_rows, max(1, _BAND_TILES // columns))
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

    def take_gradients(self, gradient: Tensor, first: int) -> None:
        """Set the outputs to the rows of `gradient` (ny, nx, out) from `first` on, zero outside."""
        rows, columns = self.outputs.shape[2:4]
        nx = gradient.shape[1]
        wanted = gradient[first : first + _TILE * rows]
        wanted = F.pad(wanted, (0, 0, 0, _TILE * columns - nx, 0, _TILE * rows - len(wanted)))
        self.outputs.copy_(wanted.view(rows, _TILE, columns, _TILE, -1).permute(1, 3, 0, 2, 4))

    def store(self, result: Tensor, relu: bool) -> None:
        """Put the tiles of the result in their places of (4 rows, 4 columns, out)."""
        outputs = self.outputs.permute(2, 0, 3, 1, 4)
        places = result.view(outputs.shape)
        if relu:
            torch.clamp_min(outputs, 0, out=places)
        else:
            places.copy_(outputs)


@functools.cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """To points (36, 36), from points (16, 36), and of kernels (36, 9): the Kronecker squares of B^T, A^T and G.

    One product with the square, not one for rows and one for columns: as fast here, for it reads the tiles once.
    """
    AT, G, BT = _matrices()
    to_points, from_points, of_kernels = (torch.kron(part, part).to(dtype) for part in (BT, AT, G))
    return to_points, from_points, of_kernels


def kernel_at_points(weight: Tensor) -> Tensor:
    """A convolution's weight (out, in, 3, 3) at the points: (36, in, out)."""
    of_kernels = _transforms(weight.dtype)[2]
    return (of_kernels @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(_SIDE**2, weight.shape[1], weight.shape[0])


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """(N, C, ny, nx) to (N, out, ny, nx), channels-last; fastest from channels-last.

    Args:
        x: padded by one cell of zeros.
        kernel: (36, C, out), of `kernel_at_points`.
        bias: (out,).
        relu: what is negative becomes 0.

    Raises:
        ValueError: for input of another type or width than the kernel's.
    """
    _, channels, out_channels = kernel.shape
    if x.dim() != 4 or x.shape[1] != channels or x.dtype != kernel.dtype:
        raise ValueError(f"Expected (N, {channels}, ny, nx) of {kernel.dtype}, got {tuple(x.shape)} of {x.dtype}")
    (to_points, from_points, _), (ny, nx) = _transforms(x.dtype), x.shape[2:]
    tile_rows, columns = -(-ny // _TILE), -(-nx // _TILE)
    band = _Band.of(x, columns, tile_rows, channels, out_channels)
    rows = band.tiles.shape[2]
    shape = len(x), out_channels, _TILE * tile_rows, _TILE * columns
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for image, image_result in zip(x.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1), strict=True):
        for start in range(0, tile_rows, rows):
            first = _TILE * min(start, tile_rows - rows)  # the last band may repeat rows of the one before
            band.load(image, first - 1)
            torch.mm(to_points, band.tiles.view(_SIDE**2, -1), out=band.points.view(_SIDE**2, -1))
            torch.bmm(band.points, kernel, out=band.products)
            if bias is not None:
                band.products[_POINT_ONE].add_(bias)
            torch.mm(from_points, band.products.view(_SIDE**2, -1), out=band.outputs.view(_TILE**2, -1))
            band.store(image_result[first : first + _TILE * rows], relu)
    # No view of it where nothing is to be cut off: whoever comes next may then write into it, in training too.
    return result if shape[2:] == (ny, nx) else result[:, :, :ny, :nx].contiguous(memory_format=torch.channels_last)


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (out, in, 3, 3) of a convolution's weight: the tiles at the points times those of the result's gradient, taken back.

    Args:
        x: (N, in, ny, nx), the convolution's input.
        gradient: (N, out, ny, nx), of its result.
    """
    (to_points, from_points, of_kernels), (ny, nx) = _transforms(x.dtype), x.shape[2:]
    tile_rows, columns = -(-ny // _TILE), -(-nx // _TILE)
    band = _Band.of(x, columns, tile_rows, x.shape[1], gradient.shape[1])
    rows = band.tiles.shape[2]
    at_points = x.new_zeros(_SIDE**2, x.shape[1], gradient.shape[1])
    for image, image_gradient in zip(x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), strict=True):
        for start in range(0, tile_rows, rows):
            # Rows beyond the last count nothing, for their gradient is zero.
            band.load(image, _TILE * start - 1)
            band.take_gradients(image_gradient, _TILE * start)
            torch.mm(to_points, band.tiles.view(_SIDE**2, -1), out=band.points.view(_SIDE**2, -1))
            torch.mm(from_points.T, band.outputs.view(_TILE**2, -1), out=band.products.view(_SIDE**2, -1))
            at_points.baddbmm_(band.points.transpose(1, 2), band.products)
    return (of_kernels.T @ at_points.view(_SIDE**2, -1)).view(3, 3, *at_points.shape[1:]).permute(3, 2, 0, 1).contiguous()


class _Convolution(torch.autograd.Function):
    """The convolution with its gradients, each as a Winograd convolution of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        """As `convolve`, from the weight (out, in, 3, 3)."""
        y = convolve(x, kernel_at_points(weight), bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Of what is wanted."""
        x, weight, y = ctx.saved_tensors
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        turned = weight.flip(2, 3).transpose(0, 1)
        for_x = convolve(gradient, kernel_at_points(turned), None) if ctx.needs_input_grad[0] else None
        for_weight = weight_gradient(x, gradient) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None


def convolve_learning(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """As `convolve`, from the weight (out, in, 3, 3), with gradients."""
    y: Tensor = _Convolution.apply(x, weight, bias, relu)
    return y


class WinogradConv2d(nn.Module):
    """A convolution of 3x3, stride 1, padding 1, by Winograd's algorithm in float32 on a CPU, elsewhere the direct one.

    Measured with two threads, channels-last, with ReLU: 384 to 256 channels over 128 x 256 cells in 68 ms, 165 ms by oneDNN's
    direct convolution; 256 to 256 in 48 ms, not 112. The largest error is 5e-6 of the largest value, 2e-6 by the direct one.
    """

    kernel: Tensor | None

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        """Take over a convolution's own weight and bias, by their names, and the ReLU behind it if wanted.

        A weight that does not learn is taken to its points at once; later changes of it are not seen.

        Raises:
            ValueError: for any other kind of convolution.
        """
        super().__init__()
        if not is_plain_3x3(conv):
            raise ValueError(f"Expected a 3x3 convolution: stride 1, padding 1 with zeros, dilation 1, one group; got {conv}")
        self.relu = relu
        self.weight, self.bias = conv.weight, conv.bias
        kernel = None if conv.weight.requires_grad else kernel_at_points(conv.weight)
        # Not persistent: a checkpoint holds the weight.
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, ny, nx) to (N, out, ny, nx), channels-last."""
        if x.device.type != "cpu" or x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            y = F.conv2d(x, self.weight, self.bias, padding=1)
            return F.relu(y, inplace=True) if self.relu else y
        if self.kernel is None or (x.requires_grad and torch.is_grad_enabled()):
            return convolve_learning(x, self.weight, self.bias, self.relu)
        return convolve(x, self.kernel, self.bias, self.relu)


def is_plain_3x3(conv: nn.Conv2d) -> bool:
    """Whether Winograd's algorithm can do a convolution."""
    found = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    return found == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def replace_wide(network: nn.Module) -> None:
    """Replace the wide 3x3 convolutions of a network that is on the CPU.

    The ReLU that follows is done with them where the parent runs its parts in a row. Weights, and what a checkpoint calls them,
    remain.
    """
    for parent in list(network.modules()):
        children = [child for child in parent.named_children() if type(child[1]) is not nn.Identity]
        for i, (name, conv) in enumerate(children):
            # Not a kind of its own, such as timm's that pads by itself.
            if type(conv) is not nn.Conv2d or not is_plain_3x3(conv) or min(conv.in_channels, conv.out_channels) < WIDE:
                continue
            if conv.weight.device.type != "cpu":
                continue
            next_name, following = children[i + 1] if i + 1 < len(children) else ("", None)
            relu = isinstance(parent, nn.Sequential) and isinstance(following, nn.ReLU)
            setattr(parent, name, WinogradConv2d(conv, relu))
            if relu:
                setattr(parent, next_name, nn.Identity())
