"""The image network of Lift-Splat: a published trunk from timm, a neck that merges the trunk's scales, and two heads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import ConfigError
from heal.encoders.trunk_weights import PACKAGED_TRUNK, packaged_weights, read_weights


class PretrainedWeightsError(RuntimeError):
    """A trunk's published weights are not available; the message says why, and that training starts from random weights."""


class _TimmModel(Protocol):
    """The part of a timm network's interface that is used here."""

    feature_info: Any
    pretrained_cfg: dict[str, Any]

    def prune_intermediate_layers(self, indices: list[int], prune_norm: bool, prune_head: bool) -> list[int]: ...

    def forward_intermediates(
        self, x: Tensor, indices: list[int], *, stop_early: bool, intermediates_only: bool
    ) -> list[Tensor]: ...


class ImageTrunk(nn.Module):
    """A timm network whose layers behind the coarsest used scale are removed."""

    def __init__(self, name: str, strides: tuple[int, int], drop_path: float, norm_momentum: float, classifier: bool) -> None:
        """Make the trunk with random weights.

        Args:
            name: name of the network in timm.
            strides: strides of the finest and of the coarsest scale that are used.
            drop_path: probability with which the last block is left out in training; it falls to zero at the first block.
            norm_momentum: momentum of the batch norms.
            classifier: keep the layers behind the coarsest scale, whose output is not used.

        Raises:
            ConfigError: timm has no such network, or the network has no such scales.
        """
        super().__init__()
        self.name = name
        net = _make_timm(name, drop_path)
        self.indices, self.channels = _used_scales(name, net, strides)
        if not classifier:
            cast(_TimmModel, net).prune_intermediate_layers(list(self.indices), prune_norm=False, prune_head=True)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
        self.net = net

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (M, 3, H, W) to the maps (M, C, h, w) of all used scales, the finest first."""
        net = cast(_TimmModel, self.net)
        return net.forward_intermediates(images, list(self.indices), stop_early=True, intermediates_only=True)

    def folding_example(self) -> Tensor:
        """Return an image (1, 3, H, W) in double precision, by which a faster form of the network is checked."""
        settings = cast(_TimmModel, self.net).pretrained_cfg
        height, width = settings["input_size"][1:] if settings.get("fixed_input_size") else (64, 64)
        ramp = torch.linspace(0.0, 100.0, 3 * height * width, dtype=torch.float64, device=next(self.parameters()).device)
        return ramp.sin().reshape(1, 3, height, width)

    def load_pretrained(self, source: str) -> None:
        """Load published weights.

        Args:
            source: `imagenet` for the weights of an installed package where there is one for the network, else for the weights that
                timm publishes; `timm` for the weights that timm publishes; or a file with weights.

        Raises:
            PretrainedWeightsError: the weights that timm publishes are not available.
            ConfigError: the package is not installed, or the file does not fit.
        """
        own = self.net.state_dict()
        if source == "imagenet" and self.name == PACKAGED_TRUNK:
            weights = read_weights(packaged_weights(), own)
        elif source in ("imagenet", "timm"):
            weights = self._timm_weights(own)
        else:
            weights = read_weights(Path(source), own)
        self.net.load_state_dict(weights)

    def _timm_weights(self, own: Iterable[str]) -> dict[str, Tensor]:
        """Return the weights of the given names that timm publishes; PretrainedWeightsError if they are not available."""
        import timm

        try:
            published = timm.create_model(self.name, pretrained=True).state_dict()
        except Exception as error:
            raise PretrainedWeightsError(
                f"the published weights of {self.name} cannot be loaded ({type(error).__name__}: {error}), so the images' network "
                "starts from random ones and learns more slowly; fetch them once on a machine with internet (timm keeps them "
                "in $HF_HOME), or set encoder.pretrained=false"
            ) from error
        return {key: published[key] for key in own}


class _Merge(nn.Module):
    """Layers that enlarge a coarse map to the size of the next finer map, join both and mix them by two convolutions."""

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
    """Trunk, neck and heads: from images to a feature and a distribution over depths for every patch of pixels."""

    def __init__(self, trunk: ImageTrunk, neck_channels: int, channels: int, depth_bins: int) -> None:
        """Make neck and heads for a trunk.

        The neck's modules are named up1, up2, ..., from the coarsest scale on; a trunk with a single scale needs no neck.

        Args:
            trunk: the trunk.
            neck_channels: channels of the merged maps.
            channels: channels of the features.
            depth_bins: number of depth bins.
        """
        super().__init__()
        self.trunk = trunk
        *finer, width = trunk.channels
        for i, skip in enumerate(reversed(finer)):
            self.add_module(f"up{i + 1}", _Merge(width + skip, neck_channels))
            width = neck_channels
        self.depth_head = nn.Conv2d(width, depth_bins, 1)
        self.image_head = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (M, 3, H, W) to features (M, C, h, w) and depth logits (M, D, h, w)."""
        x = self.merged(images)
        return self.image_head(x), self.depth_head(x)

    def merged(self, images: Tensor) -> Tensor:
        """Merge all scales of the trunk at the size of the finest; both heads read the result (M, C, h, w)."""
        *finer, x = self.trunk(images)
        for i, skip in enumerate(reversed(finer)):
            x = self.get_submodule(f"up{i + 1}")(x, skip)
        merged: Tensor = x
        return merged


def _make_timm(name: str, drop_path: float) -> nn.Module:
    """Make a timm network with random weights; ConfigError if timm is missing or cannot make such a network."""
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


def _used_scales(name: str, net: nn.Module, strides: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of the network's scales between two strides, and their channels; ConfigError if it lacks a stride."""
    info = cast(_TimmModel, net).feature_info
    at = {int(scale["reduction"]): i for i, scale in enumerate(info)}
    if not all(stride in at for stride in strides) or strides[0] > strides[1]:
        raise ConfigError(f"encoder: {name} has maps at strides {sorted(at)}, but downsample and trunk_stride are {strides}")
    used = sorted((stride, i) for stride, i in at.items() if strides[0] <= stride <= strides[1])
    return tuple(i for _, i in used), tuple(int(info[i]["num_chs"]) for _, i in used)
