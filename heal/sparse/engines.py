"""The engines of sparse convolution: our own in torch, right on every device; spconv or spconv-triton where they run on the GPU.

spconv is never used for results on the CPU: there it is right with one thread only, and cannot go backward without a GPU's driver.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heal.sparse.rulebook import Rulebook, rulebook
from heal.sparse.sites import ConvGeometry, Sites, SparseMap


class SparseEngine(Protocol):
    """Anything that can convolve."""

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """One convolution.

        Args:
            x: the map, with features (V, in).
            weight: (out, kz, ky, kx, in), as spconv 2 stores it.
            bias: (out,), added at every site of the output.
            geometry: of the kernel; its edges are those of the weight.

        Returns:
            The map with features (sites of the output, out).
        """
        ...


class TorchEngine:
    """Gather, multiply, scatter, one cell of the kernel after the other: the same sums in the same order in every run."""

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """See `SparseEngine`; it computes in the weight's precision, under autocast too."""
        book = rulebook(x.sites, geometry)
        with torch.autocast(weight.device.type, enabled=False):
            features = _SparseConv.apply(x.features.to(weight.dtype), weight, bias, book)
        return SparseMap(features, book.sites)


class _SparseConv(torch.autograd.Function):
    """The convolution and its gradients, without ever holding all gathered features at once."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, book: Rulebook) -> Tensor:
        """(V, in) to (sites of the output, out)."""
        ctx.save_for_backward(features, weight)
        ctx.book = book
        kernels = weight.flatten(1, 3).permute(1, 2, 0).contiguous().unbind(0)  # of each cell (in, out)
        out = _start(features, kernels, book, bias)
        for move in book.pairs:
            out.index_add_(0, move.target, features.index_select(0, move.source) @ kernels[move.cell])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """The same walk backward."""
        features, weight = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            for_features, for_weight = _gradients(features, weight, grad.contiguous(), ctx.book, ctx.needs_input_grad)
        return for_features, for_weight, grad.sum(0) if ctx.needs_input_grad[2] else None, None


def _start(features: Tensor, kernels: Sequence[Tensor], book: Rulebook, bias: Tensor | None) -> Tensor:
    """What bias and centre alone give: every site feeds itself."""
    if book.centre is None:
        zeros = features.new_zeros(len(book.sites), kernels[0].shape[1])
        return zeros if bias is None else zeros.add_(bias)
    centre = kernels[book.centre]
    return features @ centre if bias is None else torch.addmm(bias, features, centre)


def _gradients(
    features: Tensor, weight: Tensor, grad: Tensor, book: Rulebook, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Of features (V, in) and weight (out, kz, ky, kx, in), as far as they are needed; `grad` is that of the result."""
    kernels = weight.flatten(1, 3).transpose(0, 1).contiguous()  # (cells, out, in)
    for_features = torch.zeros_like(features) if needed[0] else None
    for_kernels = torch.zeros_like(kernels) if needed[1] else None
    if book.centre is not None:
        if for_features is not None:
            torch.mm(grad, kernels[book.centre], out=for_features)
        if for_kernels is not None:
            torch.mm(grad.T, features, out=for_kernels[book.centre])
    for move in book.pairs:
        pulled = grad.index_select(0, move.target)
        if for_features is not None:
            for_features.index_add_(0, move.source, pulled @ kernels[move.cell])
        if for_kernels is not None:
            for_kernels[move.cell].addmm_(pulled.T, features.index_select(0, move.source))
    return for_features, None if for_kernels is None else for_kernels.transpose(0, 1).reshape(weight.shape)


class SpconvEngine:
    """spconv 2 or spconv-triton, which has its interface."""

    def __init__(self, package: str) -> None:
        """Load it, by the name of its package; ImportError if it is not installed."""
        self._library = importlib.import_module(f"{package}.pytorch")
        self._layers: dict[Any, Any] = {}

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """See `SparseEngine`; the sites of the output may come in any order."""
        if len(x.sites) == 0:
            return TorchEngine().convolve(x, weight, bias, geometry)
        layer = self._layer(weight, geometry)
        # Its layers keep nothing for a gradient in eval mode, whether one is wanted or not.
        layer.train(torch.is_grad_enabled())
        key = ("spconv", geometry, layer.training)
        shape, known = list(x.sites.shape_zyx), x.sites.cache.get(key, {})
        coords = x.sites.coords.to(torch.int32)
        tensor = self._library.SparseConvTensor(x.features, coords, shape, x.sites.batch_size, indice_dict=known)
        out = torch.func.functional_call(layer, {"weight": weight}, (tensor,))
        features = out.features if bias is None else out.features + bias
        if geometry.submanifold:
            x.sites.cache[key] = out.indice_dict
            return SparseMap(features, x.sites)
        return SparseMap(features, Sites(out.indices.long(), geometry.output_shape(x.sites.shape_zyx), x.sites.batch_size))

    def _layer(self, weight: Tensor, geometry: ConvGeometry) -> Any:
        """A layer of that shape; its own weight is never used."""
        key = (geometry, weight.shape[0], weight.shape[4])
        if key not in self._layers:
            channels, kernel = (weight.shape[4], weight.shape[0]), list(geometry.kernel)
            self._layers[key] = (
                self._library.SubMConv3d(*channels, kernel, bias=False, indice_key="neighbours")
                if geometry.submanifold
                else self._library.SparseConv3d(*channels, kernel, list(geometry.stride), list(geometry.padding), bias=False)
            )
        return self._layers[key]


@functools.cache
def engine_for(device_type: str) -> SparseEngine:
    """The engine for "cpu", "cuda" or another type of device."""
    if device_type == "cuda":
        if importlib.util.find_spec("spconv_triton"):
            return SpconvEngine("spconv_triton")
        if importlib.util.find_spec("spconv") and not importlib.import_module("spconv.cppconstants").CPU_ONLY_BUILD:
            return SpconvEngine("spconv")
    return TorchEngine()
