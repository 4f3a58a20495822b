"""The networks of an alliance in traceable form: fixed operations, no data-dependent loops, first dimensions of any length.

Each graph computes the same as the networks in evaluation. Its example has the outputs of the original networks, against which
every exported file is checked. Work that depends on the places of points or pixels is left outside: the graphs take pillars and
cells, not clouds and calibrations.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.encoders.coverage import fit_to_grid
from heal.encoders.images import CameraBatch
from heal.encoders.lift_splat import LiftSplat
from heal.encoders.lift_splat_depth import bin_depths
from heal.encoders.lift_splat_pool import cells_of, frustum, frustum_in_agent
from heal.encoders.point_pillars import PointPillars
from heal.encoders.point_rows import PointLayer
from heal.fusion.pyramid import GATED, PyramidConfig
from heal.fusion.warp import normalized_affine
from heal.graphs.examples import features_example, heads_example, images_example, levels_example, maps_example, pillars_example
from heal.types import SCORE_FLOOR


@dataclass(frozen=True)
class Example:
    """Inputs of a graph, and the outputs of the original networks for them."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """A network to export.

    Attributes:
        name: name of the file.
        description: a sentence on the computation, and on the work that is left outside.
        module: from tensors to tensors, in eval mode.
        inputs: names of the inputs.
        outputs: names of the outputs.
        first_dimension: the things that the first dimension of all inputs counts, such as "agents"; their number may vary.
        example: makes random but reproducible inputs, with their outputs, for about as many of these things.
    """

    name: str
    description: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first_dimension: str
    example: Callable[[int], Example]


def agent_graph(name: str, agent: AgentModel) -> Graph:
    """Return the graph of an agent type: from pillars or images to the feature map, or from the map of another encoder on.

    Args:
        name: name of the agent type.
        agent: its network.
    """

    def pillars(count: int) -> Example:
        voxels, feature = pillars_example(agent, count)
        return Example((voxels.points, voxels.coords[:, 1:].contiguous(), voxels.num_points), (feature,))

    def images(count: int) -> Example:
        assert isinstance(agent.encoder, LiftSplat)
        cameras, feature = images_example(agent, count)
        return Example((cameras.images, camera_cells(agent.encoder, cameras)), (feature,))

    def maps(count: int) -> Example:
        encoded, feature = maps_example(agent, count)
        return Example((encoded,), (feature,))

    if isinstance(agent.encoder, PointPillars):
        description = "the pillars of one cloud to its feature map; slots of a pillar beyond num_points must be zero"
        return Graph(name, description, PillarsGraph(agent), ("points", "coords", "num_points"), ("feature",), "pillars", pillars)
    if isinstance(agent.encoder, LiftSplat):
        description = "one agent's images, and the cells into which their pixels fall at every depth, to its feature map"
        return Graph(name, description, CameraGraph(agent), ("images", "cells"), ("feature",), "images", images)
    kind = agent.config.encoder.kind
    description = f"the encoder's map to the feature map; the encoder itself ({kind}) is not in the file"
    return Graph(f"{name}.dense", description, DenseGraph(agent), ("map",), ("feature",), "agents", maps)


def base_graphs(base: BaseModel) -> tuple[Graph, ...]:
    """Return the graphs of a base: the whole base, and its two halves for the pyramid split, trunk and fusion with heads."""

    def whole(count: int) -> Example:
        return Example(features_example(base, count), heads_example(base, count))

    def sender(count: int) -> Example:
        features, _, coverage = features_example(base, count)
        maps, scores = levels_example(base, count)
        return Example((features, coverage), (*maps, *scores))

    def receiver(count: int) -> Example:
        maps, scores = levels_example(base, count)
        return Example((features_example(base, count)[1], *maps, *scores), heads_example(base, count))

    heads = ("classification", "regression", "direction")
    levels = tuple(f"{part}_{i}" for part in ("map", "score") for i in range(len(base.config.pyramid.channels)))
    fused = "one scene's agents, the ego first, to the heads' maps in the ego's frame"
    sent = "feature maps to every scale's maps and foreground scores, as the pyramid split sends them"
    inputs = ("feature", "agent_SE3_ego", "coverage")
    return (
        Graph("base", f"feature maps of {fused}", BaseGraph(base), inputs, heads, "agents", whole),
        Graph("trunk", sent, TrunkGraph(base), ("feature", "coverage"), levels, "agents", sender),
        Graph(
            "fusion",
            f"maps and foreground scores of {fused}",
            FusionGraph(base),
            ("agent_SE3_ego", *levels),
            heads,
            "agents",
            receiver,
        ),
    )


class DenseGraph(nn.Module):
    """Backbone and aligner, from the encoder's map to the feature map."""

    def __init__(self, agent: AgentModel) -> None:
        """Wrap the network of an agent type for export."""
        super().__init__()
        self.agent = agent.eval()

    def forward(self, encoded: Tensor) -> Tensor:
        """Turn an encoder's maps (N, C, any, any) into feature maps (N, C, ny, nx)."""
        aligned: Tensor = self.agent.aligner(self.agent.backbone(encoded))
        return aligned if self.agent.coverage is None else fit_to_grid(aligned, self.agent.grid)


class PillarsGraph(DenseGraph):
    """PointPillars, backbone and aligner; the point layers run over all slots of all pillars, empty slots included."""

    def forward(self, points: Tensor, coords: Tensor, num_points: Tensor) -> Tensor:  # type: ignore[override]
        """Turn the pillars of one cloud into its feature map.

        Args:
            points: (V, P, 4) float32 x, y, z in metres, intensity; zero beyond `num_points`.
            coords: (V, 3) int64 z, y, x of the pillars.
            num_points: (V,) int64, at least 1.

        Returns:
            Feature map (1, C, ny, nx).
        """
        encoder = self.agent.encoder
        assert isinstance(encoder, PointPillars)
        features = _slot_features(encoder, points, coords, num_points)
        pillars = features[:, 0]
        for i, layer in enumerate(encoder.pillar_vfe.pfn_layers):
            assert isinstance(layer, PointLayer)
            if i:
                features = torch.cat([features, pillars[:, None].expand(-1, features.shape[1], -1)], dim=2)
            features = _apply_point_layer(layer, features)
            pillars = features.amax(dim=1)
        _, ny, nx = encoder.voxel_grid.shape_zyx
        place = coords[:, 1] * nx + coords[:, 2]
        canvas = pillars.new_zeros(ny * nx, pillars.shape[1]).index_put((place,), pillars)
        return super().forward(canvas.view(1, ny, nx, -1).permute(0, 3, 1, 2))


def _slot_features(encoder: PointPillars, points: Tensor, coords: Tensor, num_points: Tensor) -> Tensor:
    """Compute the features (V, P, C) of every point as `PointPillars` does; zero in empty slots."""
    xyz, grid = points[..., :3], encoder.voxel_grid
    size, lower = torch.tensor(grid.voxel_m), torch.tensor(grid.range_m[:3])
    mean = xyz.sum(dim=1) / num_points[:, None].to(xyz.dtype)
    centre = coords.flip(1).to(xyz.dtype) * size + (size / 2 + lower)
    parts = [points if encoder.settings.absolute_xyz else points[..., 3:], xyz - mean[:, None], xyz - centre[:, None]]
    if encoder.settings.distance:
        parts.append(xyz.norm(dim=2, keepdim=True))
    filled = torch.arange(points.shape[1]) < num_points[:, None]
    return torch.cat(parts, dim=2) * filled[..., None].to(xyz.dtype)


def _apply_point_layer(layer: PointLayer, features: Tensor) -> Tensor:
    """Run a point layer in evaluation, its norm folded into its weights, on features (..., C)."""
    norm = layer.norm
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.relu(F.linear(features, layer.linear.weight * scale[:, None], norm.bias - norm.running_mean * scale))


class CameraGraph(DenseGraph):
    """Lift-Splat, backbone and aligner, with the cells as input: they depend only on the cameras' places, so they can be kept."""

    def forward(self, images: Tensor, cells: Tensor) -> Tensor:  # type: ignore[override]
        """Turn one agent's images into its feature map.

        Args:
            images: (M, 3, h, w) float32, normalised.
            cells: (M, D, h / s, w / s) int64, row * nx + column in the encoder's own grid; ny * nx for outside. See `camera_cells`.

        Returns:
            Feature map (1, C, ny, nx).
        """
        encoder = self.agent.encoder
        assert isinstance(encoder, LiftSplat)
        features, logits = encoder.camencode(images)
        volume = logits.float().softmax(dim=1)[..., None] * features.float().permute(0, 2, 3, 1)[:, None]  # (M, D, h, w, C)
        ny, nx, width = encoder.own_grid.ny, encoder.own_grid.nx, features.shape[1]
        canvas = volume.new_zeros(ny * nx + 1, width).index_put((cells.flatten(),), volume.reshape(-1, width), accumulate=True)
        return super().forward(canvas[:-1].view(1, ny, nx, width).permute(0, 3, 1, 2))


def camera_cells(encoder: LiftSplat, cameras: CameraBatch) -> Tensor:
    """Return the cell of the encoder's own grid for each pixel at each depth: (M, D, h, w) int64; ny * nx for outside."""
    settings, grid = encoder.settings, encoder.own_grid
    points = frustum_in_agent(frustum(settings.image.size, settings.downsample, bin_depths(settings.depth)), cameras)
    cell, inside = cells_of(points, grid)
    return torch.where(inside, cell[..., 1] * grid.nx + cell[..., 0], grid.ny * grid.nx)


class TrunkGraph(nn.Module):
    """The trunk and the foreground scores of every agent: the sender's half of the pyramid split."""

    def __init__(self, base: BaseModel) -> None:
        """Wrap a trained base for export."""
        super().__init__()
        self.pyramid = deepcopy(base.pyramid).eval()
        del self.pyramid.deblocks  # the fusion's weights: a file contains all weights of its module

    def forward(self, feature: Tensor, coverage: Tensor) -> tuple[Tensor, ...]:
        """Return every scale's maps, then every scale's scores.

        Args:
            feature: (N, C, ny, nx).
            coverage: (N, 2) float64, the grid's range over the range of the agent's sensors, in x and y; 0 if they cover the grid.
        """
        levels = self.pyramid.trunk(feature)
        scores = tuple((logits.sigmoid() + SCORE_FLOOR) * _coverage_mask(coverage, logits) for logits in levels.occupancy)
        return (*levels.maps, *scores)


class FusionGraph(nn.Module):
    """The fusion of one scene and the heads: the receiver's half. All maps are warped at once, over the whole of the ego's map."""

    def __init__(self, base: BaseModel) -> None:
        """Wrap a trained base for export."""
        super().__init__()
        self.upsample, self.base = base.pyramid.deblocks, deepcopy(base).eval()
        del self.base.pyramid_backbone

    def forward(self, agent_SE3_ego: Tensor, *levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the heads' maps (1, ..., ny, nx): classification, regression, direction.

        Args:
            agent_SE3_ego: (N, 4, 4) float64, maps ego coordinates into the agent's frame.
            levels: every scale's maps (N, C, ny, nx), then every scale's scores (N, 1, ny, nx).
        """
        grid, scales = self.base.config.grid, len(levels) // 2
        affine = normalized_affine(agent_SE3_ego, grid.length_x_m, grid.length_y_m)
        pyramid = self.base.config.pyramid
        fused = [_fuse_scale(pyramid, levels[i], levels[scales + i], affine) for i in range(scales)]
        head = self.base.heads(self.upsample(fused))
        return head.classification, head.regression, head.direction


class BaseGraph(nn.Module):
    """The whole base: trunk, fusion and heads."""

    def __init__(self, base: BaseModel) -> None:
        """Wrap a trained base for export."""
        super().__init__()
        self.trunk, self.fusion = TrunkGraph(base), FusionGraph(base)

    def forward(self, feature: Tensor, agent_SE3_ego: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the heads' maps; arguments and outputs as in `TrunkGraph` and `FusionGraph`."""
        heads: tuple[Tensor, Tensor, Tensor] = self.fusion(agent_SE3_ego, *self.trunk(feature, coverage))
        return heads


def _fuse_scale(config: PyramidConfig, maps: Tensor, scores: Tensor, affine: Tensor) -> Tensor:
    """Fuse one scale of a scene as `PyramidFusion` does at a trust of 1: maps (N, C, ny, nx), the ego first, to (1, C, ny, nx)."""
    ny, nx = maps.shape[-2:]
    y, x = ((2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1 for cells in (ny, nx))
    row = affine[:, :, None, None, :]  # (N, 2, 1, 1, 3)
    places = (row[..., 0] * x + row[..., 1] * y[:, None] + row[..., 2]).permute(0, 2, 3, 1).float()
    warped, seen = (F.grid_sample(part, places, align_corners=False) for part in (maps, scores))
    weights = torch.where(seen == 0, torch.zeros_like(seen), (seen * config.sharpness).exp())
    if config.gate:
        held_back = (seen < config.gate) & (torch.arange(seen.shape[0]) > 0)[:, None, None, None]
        weights = torch.where(held_back, weights * GATED, weights)
    total = weights.sum(dim=0, keepdim=True)
    return (warped * (weights / torch.where(total == 0, torch.ones_like(total), total))).sum(dim=0, keepdim=True)


def _coverage_mask(coverage: Tensor, like: Tensor) -> Tensor:
    """Return the mask (N, 1, ny, nx) of `heal.fusion.warp.coverage_mask` for ratios (N, 2)."""
    inside = []
    for cells, ratio in zip(like.shape[-2:], (coverage[:, 1], coverage[:, 0]), strict=True):
        size = cells / torch.where(ratio == 0, torch.full_like(ratio, 1e-6), ratio) - 4
        half, at = torch.floor(size / 2)[:, None], torch.arange(cells, dtype=torch.float64)
        inside.append((at >= cells // 2 - half) & (at < cells // 2 + half))
    rows, columns = inside
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(like.dtype)
