"""The engines of sparse convolution: our own in torch, correct on every device; spconv or spconv-triton on a GPU.

spconv is never used for results on the CPU: there, its results are correct with one thread only, and its backward pass needs a
GPU's driver.
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
    """The interface of an engine."""

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """Convolve a sparse map.

        Args:
            x: the map, with features (V, in).
            weight: (out, kz, ky, kx, in), the layout of spconv 2.
            bias: (out,), added at every site of the output.
            geometry: the kernel, whose edges are those of the weight.

        Returns:
            The map with features (sites of the output, out).
        """
        ...


class TorchEngine:
    """An engine that gathers, multiplies and scatters, one kernel cell after another: every run sums in the same order."""

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """Convolve a map, see `SparseEngine`; the precision is that of the weight, under autocast too."""
        rules = rulebook(x.sites, geometry)
        with torch.autocast(weight.device.type, enabled=False):
            features = _SparseConv.apply(x.features.to(weight.dtype), weight, bias, rules)
        return SparseMap(features, rules.sites)


class _SparseConv(torch.autograd.Function):
    """The convolution and its gradients. The gathered features of all kernel cells are never in memory at once."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, rules: Rulebook) -> Tensor:
        """Map features (V, in) to (sites of the output, out)."""
        ctx.save_for_backward(features, weight)
        ctx.rules = rules
        kernels = weight.flatten(1, 3).permute(1, 2, 0).contiguous().unbind(0)  # (in, out) of each cell
        out = _from_bias_and_centre(features, kernels, rules, bias)
        for pairs in rules.pairs:
            out.index_add_(0, pairs.target, features.index_select(0, pairs.source) @ kernels[pairs.cell])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients of features, weight and bias that are needed; None for the others."""
        features, weight = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            for_features, for_weight = _gradients(features, weight, grad.contiguous(), ctx.rules, ctx.needs_input_grad)
        return for_features, for_weight, grad.sum(0) if ctx.needs_input_grad[2] else None, None


def _from_bias_and_centre(features: Tensor, kernels: Sequence[Tensor], rules: Rulebook, bias: Tensor | None) -> Tensor:
    """Return the output of the bias and of the kernel's centre, which connects every site with itself."""
    if rules.centre is None:
        zeros = features.new_zeros(len(rules.sites), kernels[0].shape[1])
        return zeros if bias is None else zeros.add_(bias)
    centre = kernels[rules.centre]
    return features @ centre if bias is None else torch.addmm(bias, features, centre)


def _gradients(
    features: Tensor, weight: Tensor, grad: Tensor, rules: Rulebook, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the features and of the weight that are needed; None for the other.

    Args:
        features: (V, in).
        weight: (out, kz, ky, kx, in).
        grad: (sites of the output, out), gradient of the result.
        rules: of the convolution.
        needed: whether the gradients of features and weight are needed.
    """
    kernels = weight.flatten(1, 3).transpose(0, 1).contiguous()  # (cells, out, in)
    for_features = torch.zeros_like(features) if needed[0] else None
    for_kernels = torch.zeros_like(kernels) if needed[1] else None
    if rules.centre is not None:
        if for_features is not None:
            torch.mm(grad, kernels[rules.centre], out=for_features)
        if for_kernels is not None:
            torch.mm(grad.T, features, out=for_kernels[rules.centre])
    for pairs in rules.pairs:
        gathered = grad.index_select(0, pairs.target)
        if for_features is not None:
            for_features.index_add_(0, pairs.source, gathered @ kernels[pairs.cell])
        if for_kernels is not None:
            for_kernels[pairs.cell].addmm_(gathered.T, features.index_select(0, pairs.source))
    return for_features, None if for_kernels is None else for_kernels.transpose(0, 1).reshape(weight.shape)


class SpconvEngine:
    """An engine that calls spconv 2 or spconv-triton; both have one interface."""

    def __init__(self, package: str) -> None:
        """Import the package by its name; ImportError if it is not installed."""
        self._library = importlib.import_module(f"{package}.pytorch")
        self._layers: dict[Any, Any] = {}

    def convolve(self, x: SparseMap, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> SparseMap:
        """Convolve a map, see `SparseEngine`; the sites of the output are in any order."""
        if len(x.sites) == 0:
            return TorchEngine().convolve(x, weight, bias, geometry)
        layer = self._layer(weight, geometry)
        # In eval mode, a layer of spconv keeps nothing for the gradient, even where gradients are recorded.
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
        """Return a layer of spconv for the weight's shape and the kernel; the layer's own weight is never used."""
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
    """Return the engine for a type of device: "cpu", "cuda" or another."""
    if device_type == "cuda":
        if importlib.util.find_spec("spconv_triton"):
            return SpconvEngine("spconv_triton")
        if importlib.util.find_spec("spconv") and not importlib.import_module("spconv.cppconstants").CPU_ONLY_BUILD:
            return SpconvEngine("spconv")
    return TorchEngine()
