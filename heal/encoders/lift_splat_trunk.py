"""The image network of Lift-Splat: a published trunk from timm, a neck that brings its scales together, and two heads."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import ConfigError


class PretrainedWeightsError(RuntimeError):
    """A trunk's published weights cannot be had; the message says why, and that training goes without."""


class _TimmModel(Protocol):
    """What is used of a timm network."""

    feature_info: Any

    def prune_intermediate_layers(self, indices: list[int], prune_norm: bool, prune_head: bool) -> list[int]: ...

    def forward_intermediates(
        self, x: Tensor, indices: list[int], *, stop_early: bool, intermediates_only: bool
    ) -> list[Tensor]: ...


class ImageTrunk(nn.Module):
    """A timm network, cut off behind the coarsest scale that is used."""

    def __init__(self, name: str, strides: tuple[int, int], drop_path: float, norm_momentum: float, classifier: bool) -> None:
        """Make it, with random weights.

        Args:
            name: of the network in timm.
            strides: of the finest and of the coarsest scale.
            drop_path: share of blocks that are left out in training, growing from nothing at the first to this at the last.
            norm_momentum: of the batch norms.
            classifier: keep the layers behind the coarsest scale, which nothing reads.

        Raises:
            ConfigError: timm has no such network, or the network no such scales.
        """
        super().__init__()
        self.name = name
        net = _make_timm(name, drop_path)
        self.indices, self.channels = _scales(name, net, strides)
        if not classifier:
            cast(_TimmModel, net).prune_intermediate_layers(list(self.indices), prune_norm=False, prune_head=True)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
        self.net = net

    def forward(self, images: Tensor) -> list[Tensor]:
        """(M, 3, H, W) to maps (M, C, h, w), the finest first."""
        net = cast(_TimmModel, self.net)
        return net.forward_intermediates(images, list(self.indices), stop_early=True, intermediates_only=True)

    def load_pretrained(self) -> None:
        """Load the weights that timm publishes for the network; PretrainedWeightsError if they cannot be had."""
        import timm

        try:
            published = timm.create_model(self.name, pretrained=True).state_dict()
        except Exception as error:
            raise PretrainedWeightsError(
                f"the published weights of {self.name} cannot be loaded ({type(error).__name__}: {error}), so the images' network "
                "starts from random ones and learns more slowly; fetch them once on a machine with internet (timm keeps them "
                "in $HF_HOME), or set encoder.pretrained=false"
            ) from error
        own = self.net.state_dict()
        self.net.load_state_dict({key: published[key] for key in own})


class _Merge(nn.Module):
    """A coarse map is enlarged to the next finer one, joined to it and mixed with it."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (in_channels, channels):
            layers += [nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        mixed: Tensor = self.conv(torch.cat([fine, enlarged], dim=1))
        return mixed


class ImageNetwork(nn.Module):
    """From images to a feature for every patch of pixels and how likely it is at every depth."""

    def __init__(self, trunk: ImageTrunk, neck_channels: int, channels: int, depth_bins: int) -> None:
        """The neck's modules are up1, up2, ..., from the coarsest scale on; with a single scale there is none."""
        super().__init__()
        self.trunk = trunk
        *finer, width = trunk.channels
        for i, skip in enumerate(reversed(finer)):
            self.add_module(f"up{i + 1}", _Merge(width + skip, neck_channels))
            width = neck_channels
        self.depth_head = nn.Conv2d(width, depth_bins, 1)
        self.image_head = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, H, W) to features (M, C, h, w) and depth logits (M, D, h, w)."""
        x = self.merged(images)
        return self.image_head(x), self.depth_head(x)

    def merged(self, images: Tensor) -> Tensor:
        """What both heads read: all scales of the trunk at the size of the finest."""
        *finer, x = self.trunk(images)
        for i, skip in enumerate(reversed(finer)):
            x = self.get_submodule(f"up{i + 1}")(x, skip)
        merged: Tensor = x
        return merged


def _make_timm(name: str, drop_path: float) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"encoder.trunk={name} comes from timm, which is not installed: pip install timm") from error
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError) as error:
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8]) or "see timm.list_models()"
        raise ConfigError(
            f"encoder.trunk={name} with drop_path={drop_path}: timm cannot make it: {error}; it has {near}"
        ) from error
    if not all(hasattr(net, method) for method in ("prune_intermediate_layers", "forward_intermediates")):
        raise ConfigError(f"encoder.trunk={name}: timm gives no maps at several scales of this network; take another")
    return net


def _scales(name: str, net: nn.Module, strides: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of the network's scales lie between two strides, and their channels."""
    info = cast(_TimmModel, net).feature_info
    at = {int(scale["reduction"]): i for i, scale in enumerate(info)}
    if not all(stride in at for stride in strides) or strides[0] > strides[1]:
        raise ConfigError(f"encoder: {name} has maps at strides {sorted(at)}, but downsample and trunk_stride are {strides}")
    used = sorted((stride, i) for stride, i in at.items() if strides[0] <= stride <= strides[1])
    return tuple(i for _, i in used), tuple(int(info[i]["num_chs"]) for _, i in used)
