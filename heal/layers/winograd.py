"""A 3x3 convolution and its gradients by Winograd's algorithm: a quarter of the multiplications, for wide maps on the CPU.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4: F(4x4, 3x3). Every tile of 4x4 outputs
is a product of polynomials: data and kernel are evaluated at 6x6 points (B for the data, G for the kernel), multiplied at each
point, and the product is interpolated (A): Y = A^T [(G g G^T) * (B^T d B)] A.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heal.layers.linear import is_fast, linear

_TILE, _SIDE = 4, 6
# The six points are these and infinity. Rounding errors grow with the powers of the points. Of the sets that were tried, this one,
# which mixes 1/2 and -2, has a quarter of the error of the paper's (0, 1, -1, 2, -2) and a third of the error of
# (0, 1, -1, 1/2, -1/2); F(3x3) is no better.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
# Every power of 1 is 1, so a number added to a tile's product at the point (1, 1) is added to all outputs of the tile: the bias.
_POINT_ONE = _POINTS.index(1.0) * (_SIDE + 1)
# Tiles of a band. At 384 channels they hold 7 MB at the points, so that a band stays in the cache from step to step. With 64
# tiles the matrix products are small, and the convolution takes a twentieth longer; with 512 tiles it takes a tenth longer.
_BAND_TILES = 128
# A convolution with at least so many channels in and out is wide: the algorithm is then twice as fast as the direct convolution.
# At 128 channels both take equally long.
WIDE = 256


def _product_coefficients(roots: list[float]) -> Tensor:
    """Return the coefficients of the product of (x - root) over all roots, lowest power first: (len(roots) + 1,) float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        shifted = F.pad(coefficients, (1, 0))
        shifted[:-1] -= root * coefficients
        coefficients = shifted
    return coefficients


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return the paper's A^T (4, 6), G (6, 3) and B^T (6, 6) in float64, by the Cook-Toom method from the points and infinity."""
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
    """Buffers for a band of tile rows, T = rows * columns tiles. One set of buffers serves all bands of a call.

    Attributes:
        cells: (4 rows + 2, 4 columns + 2, C), the band's input with its border.
        tiles: (6, 6, rows, columns, C), the overlapping tiles of the input.
        points: (36, T, C), the tiles evaluated at the points.
        products: (36, T, out), the products of these values with the kernel.
        outputs: (4, 4, rows, columns, out), the tiles of the result.
    """

    cells: Tensor
    tiles: Tensor
    points: Tensor
    products: Tensor
    outputs: Tensor

    @classmethod
    def of(cls, like: Tensor, columns: int, tile_rows: int, channels: int, out_channels: int) -> _Band:
        """Return buffers of the type and device of `like`; the cells are zeros, the other buffers are uninitialised."""
        rows = min(tile_rows, max(1, _BAND_TILES // columns))
        return cls(
            like.new_zeros(_TILE * rows + 2, _TILE * columns + 2, channels),
            like.new_empty(_SIDE, _SIDE, rows, columns, channels),
            like.new_empty(_SIDE**2, rows * columns, channels),
            like.new_empty(_SIDE**2, rows * columns, out_channels),
            like.new_empty(_TILE, _TILE, rows, columns, out_channels),
        )

    def load(self, image: Tensor, first: int) -> None:
        """Copy the rows of `image` (ny, nx, C) from row `first` on into the cells, zeros outside; cut the cells into tiles."""
        count, (ny, nx, _) = len(self.cells), image.shape
        start, stop = max(first, 0), min(first + count, ny)
        self.cells[: start - first].zero_()
        self.cells[start - first : stop - first, 1 : nx + 1].copy_(image[start:stop])
        self.cells[stop - first :].zero_()
        windows = self.cells.unfold(0, _SIDE, _TILE).unfold(1, _SIDE, _TILE)  # (rows, columns, C, 6, 6)
        self.tiles.copy_(windows.permute(3, 4, 0, 1, 2))

    def take_gradients(self, gradient: Tensor, first: int) -> None:
        """Copy the rows of `gradient` (ny, nx, out) from row `first` on into the outputs, zeros outside of it."""
        rows, columns = self.outputs.shape[2:4]
        nx = gradient.shape[1]
        wanted = gradient[first : first + _TILE * rows]
        wanted = F.pad(wanted, (0, 0, 0, _TILE * columns - nx, 0, _TILE * rows - len(wanted)))
        self.outputs.copy_(wanted.view(rows, _TILE, columns, _TILE, -1).permute(1, 3, 0, 2, 4))

    def store(self, result: Tensor, relu: bool) -> None:
        """Write the output tiles to `result` (4 rows, 4 columns, out), through a ReLU if `relu` is set."""
        outputs = self.outputs.permute(2, 0, 3, 1, 4)
        places = result.view(outputs.shape)
        if relu:
            torch.clamp_min(outputs, 0, out=places)
        else:
            places.copy_(outputs)


@functools.cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Kronecker squares of B^T, A^T and G.

    One product with a square replaces a product for the rows and a product for the columns. It is as fast here, because it reads
    the tiles once.

    Returns:
        (36, 36) from tiles to the points, (16, 36) from the points to outputs, (36, 9) from kernels to the points.
    """
    AT, G, BT = _matrices()
    to_points, from_points, of_kernels = (torch.kron(part, part).to(dtype) for part in (BT, AT, G))
    return to_points, from_points, of_kernels


def kernel_at_points(weight: Tensor) -> Tensor:
    """Evaluate a convolution's weight (out, in, 3, 3) at the points: (36, in, out)."""
    of_kernels = _transforms(weight.dtype)[2]
    return (of_kernels @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(_SIDE**2, weight.shape[1], weight.shape[0])


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Convolve a map, padded with one cell of zeros, without gradients.

    Args:
        x: (N, C, ny, nx); in the channels_last format it is fastest.
        kernel: (36, C, out), from `kernel_at_points`.
        bias: (out,).
        relu: apply a ReLU to the result.

    Returns:
        (N, out, ny, nx) in the channels_last format.

    Raises:
        ValueError: the map has another type or another number of channels than the kernel.
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
            first = _TILE * min(start, tile_rows - rows)  # the last band may repeat rows of the band before it
            band.load(image, first - 1)
            torch.mm(to_points, band.tiles.view(_SIDE**2, -1), out=band.points.view(_SIDE**2, -1))
            _multiply(band.points, kernel, band.products)
            if bias is not None:
                band.products[_POINT_ONE].add_(bias)
            torch.mm(from_points, band.products.view(_SIDE**2, -1), out=band.outputs.view(_TILE**2, -1))
            band.store(image_result[first : first + _TILE * rows], relu)
    # No view where nothing is to be cut off: an in-place operation may then follow, in training too.
    return result if shape[2:] == (ny, nx) else result[:, :, :ny, :nx].contiguous(memory_format=torch.channels_last)


def _multiply(points: Tensor, kernel: Tensor, products: Tensor) -> None:
    """Write the products of points (36, T, C) and kernel (36, C, out) to `products` (36, T, out)."""
    if not is_fast(points, kernel):
        torch.bmm(points, kernel, out=products)
        return
    # One product after another: the library that is fast has none for batches.
    for values, matrix, product in zip(points, kernel, products, strict=True):
        product.copy_(linear(values, matrix.T))


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient (out, in, 3, 3) of a convolution's weight.

    Input tiles and tiles of the result's gradient are multiplied at the points; the sum is transformed back to a kernel.

    Args:
        x: (N, in, ny, nx), the convolution's input.
        gradient: (N, out, ny, nx), gradient of the convolution's result.
    """
    (to_points, from_points, of_kernels), (ny, nx) = _transforms(x.dtype), x.shape[2:]
    tile_rows, columns = -(-ny // _TILE), -(-nx // _TILE)
    band = _Band.of(x, columns, tile_rows, x.shape[1], gradient.shape[1])
    rows = band.tiles.shape[2]
    at_points = x.new_zeros(_SIDE**2, x.shape[1], gradient.shape[1])
    for image, image_gradient in zip(x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), strict=True):
        for start in range(0, tile_rows, rows):
            # Rows beyond the last row add nothing, because their gradient is zero.
            band.load(image, _TILE * start - 1)
            band.take_gradients(image_gradient, _TILE * start)
            torch.mm(to_points, band.tiles.view(_SIDE**2, -1), out=band.points.view(_SIDE**2, -1))
            torch.mm(from_points.T, band.outputs.view(_TILE**2, -1), out=band.products.view(_SIDE**2, -1))
            at_points.baddbmm_(band.points.transpose(1, 2), band.products)
    return (of_kernels.T @ at_points.view(_SIDE**2, -1)).view(3, 3, *at_points.shape[1:]).permute(3, 2, 0, 1).contiguous()


class _Convolution(torch.autograd.Function):
    """The convolution with its gradients, all by Winograd's algorithm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        """Convolve a map with the weight (out, in, 3, 3); see `convolve`."""
        y = convolve(x, kernel_at_points(weight), bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients of input, weight and bias that are needed; None for the others."""
        x, weight, y = ctx.saved_tensors
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        turned = weight.flip(2, 3).transpose(0, 1)
        for_x = convolve(gradient, kernel_at_points(turned), None) if ctx.needs_input_grad[0] else None
        for_weight = weight_gradient(x, gradient) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None


def convolve_with_gradients(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Convolve a map with the weight (out, in, 3, 3) and record the gradients; otherwise the same as `convolve`."""
    y: Tensor = _Convolution.apply(x, weight, bias, relu)
    return y


class WinogradConv2d(nn.Module):
    """A 3x3 convolution with stride 1 and padding 1: by Winograd's algorithm in float32 on a CPU, elsewhere a direct convolution.

    Measured with two threads, in channels_last, with ReLU, over 128 x 256 cells: 384 to 256 channels in 68 ms (oneDNN's direct
    convolution: 165 ms), 256 to 256 channels in 48 ms (112 ms). The largest error is 5e-6 of the largest value (2e-6).
    """

    kernel: Tensor | None

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        """Take over the weight and the bias of a convolution, under the same names, and optionally the ReLU behind it.

        A weight that requires no gradient is evaluated at the points once, here; later changes of such a weight have no effect.

        Raises:
            ValueError: the convolution is not a plain 3x3 convolution, see `is_plain_3x3`.
        """
        super().__init__()
        if not is_plain_3x3(conv):
            raise ValueError(f"Expected a 3x3 convolution: stride 1, padding 1 with zeros, dilation 1, one group; got {conv}")
        self.relu = relu
        self.weight, self.bias = conv.weight, conv.bias
        kernel = None if conv.weight.requires_grad else kernel_at_points(conv.weight)
        # Not persistent: a checkpoint holds the weight, from which the kernel follows.
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, ny, nx) to (N, out, ny, nx), in channels_last where Winograd's algorithm computes it."""
        return self.convolve_part(x, self.bias)

    def convolve_part(self, x: Tensor, bias: Tensor | None, inputs: slice = slice(None), outputs: slice = slice(None)) -> Tensor:
        """Convolve a map with the part of the weight for some input and output channels; arguments as for `convolve_part`."""
        weight = self.weight[outputs, inputs]
        if x.device.type != "cpu" or x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            y = F.conv2d(x, weight, bias, padding=1)
            return F.relu(y, inplace=True) if self.relu else y
        if self.kernel is None or (x.requires_grad and torch.is_grad_enabled()):
            return convolve_with_gradients(x, weight, bias, self.relu)
        kernel = self.kernel[:, inputs, outputs]
        # The matrix of each point has to lie in one piece, without which its product takes far longer.
        return convolve(x, kernel if kernel[0].is_contiguous() else kernel.contiguous(), bias, self.relu)


def convolve_part(
    layer: nn.Conv2d | WinogradConv2d, x: Tensor, inputs: slice, outputs: slice = slice(None), biased: bool = True
) -> Tensor:
    """Convolve a map with the part of a 3x3 layer's weight for some input and output channels.

    The sum over a partition of the input channels, with one bias, is the layer's output. So a part of the input that several
    inputs have in common is convolved once, and one that is known to be zero not at all.

    Args:
        layer: a convolution that `is_plain_3x3`, or what `replace_wide` puts in its place.
        x: (N, inputs, ny, nx).
        inputs: the channels of the layer's input that `x` holds.
        outputs: the wanted channels of the layer's output.
        biased: whether to add the layer's bias.

    Returns:
        (N, outputs, ny, nx).
    """
    bias = layer.bias[outputs] if biased and layer.bias is not None else None
    if isinstance(layer, WinogradConv2d):
        return layer.convolve_part(x, bias, inputs, outputs)
    return F.conv2d(x, layer.weight[outputs, inputs], bias, padding=1)


def is_plain_3x3(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is 3x3 with stride 1, padding 1 with zeros, no dilation and one group."""
    found = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    return found == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def replace_wide(network: nn.Module) -> None:
    """Replace the wide 3x3 convolutions of a network on the CPU by `WinogradConv2d`, in place.

    Inside a plain `Sequential`, a ReLU that follows is computed by the new layer. Weights keep their objects and their names in a
    checkpoint.
    """
    for parent in list(network.modules()):
        # Not `named_children`, which leaves out a layer that is registered twice.
        children = [
            (name, child) for name, child in parent._modules.items() if child is not None and type(child) is not nn.Identity
        ]
        for i, (name, conv) in enumerate(children):
            # No subclasses: timm's, for example, compute their padding themselves.
            if type(conv) is not nn.Conv2d or not is_plain_3x3(conv) or min(conv.in_channels, conv.out_channels) < WIDE:
                continue
            if conv.weight.device.type != "cpu":
                continue
            next_name, following = children[i + 1] if i + 1 < len(children) else ("", None)
            relu = type(parent) is nn.Sequential and isinstance(following, nn.ReLU)
            setattr(parent, name, WinogradConv2d(conv, relu))
            if relu:
                setattr(parent, next_name, nn.Identity())
