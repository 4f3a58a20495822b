"""The encoders in their plain form, with our weights: padded pillars, a neighbour search in every sparse layer, whole volumes."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.agent_model import AgentModel
from heal.encoders.coverage import fit_to_grid
from heal.encoders.images import CameraBatch
from heal.encoders.lift_splat import LiftSplat
from heal.encoders.lift_splat_depth import bin_depths
from heal.encoders.point_pillars import PointPillars
from heal.encoders.point_rows import PointLayer
from heal.encoders.second import Second
from heal.encoders.voxelize import Voxels
from heal.sparse.layers import SparseConv, SparseLayer
from heal.sparse.sites import ConvGeometry, Triple


def encode(model: AgentModel, inputs: Any) -> Tensor:
    """Compute the same as `model(inputs)` in eval mode.

    Args:
        model: network of one agent type, with a PointPillars, Second or LiftSplat encoder.
        inputs: encoder input of one or more agents, the result of `model.prepare`.

    Returns:
        (agents, C, ny, nx) aligned feature maps, each in the agent's frame.

    Raises:
        ValueError: if the encoder has no plain form.
    """
    encoder = model.encoder
    if isinstance(encoder, PointPillars):
        maps = point_pillars(encoder, inputs)
    elif isinstance(encoder, Second):
        maps = second(encoder, inputs)
    elif isinstance(encoder, LiftSplat):
        maps = lift_splat(encoder, inputs)
    else:
        raise ValueError(f"expected PointPillars, Second or LiftSplat, got {type(encoder).__name__}")
    aligned: Tensor = model.aligner(model.backbone(maps))
    return aligned if model.coverage is None else fit_to_grid(aligned, model.grid)


def point_pillars(encoder: PointPillars, voxels: Voxels) -> Tensor:
    """Encode pillars with all their slots. Empty slots are zeros and count in the statistics of the batch norm.

    Returns:
        (clouds, C, ny, nx) feature maps, each in the agent's frame.
    """
    x = _slots(encoder, voxels)
    for i, layer in enumerate(encoder.pillar_vfe.pfn_layers):
        assert isinstance(layer, PointLayer)
        if i:
            x = torch.cat([x, x.amax(dim=1, keepdim=True).expand_as(x)], dim=2)
        x = F.relu(layer.norm(layer.linear(x).permute(0, 2, 1)).permute(0, 2, 1))
    pillars = x.amax(dim=1)
    _, ny, nx = encoder.voxel_grid.shape_zyx
    canvases = []
    for cloud in range(voxels.batch_size):
        own = voxels.coords[:, 0] == cloud
        canvas = pillars.new_zeros(pillars.shape[1], ny * nx)
        canvas[:, voxels.coords[own, 2] * nx + voxels.coords[own, 3]] = pillars[own].t()
        canvases.append(canvas.view(-1, ny, nx))
    return torch.stack(canvases)


def _slots(encoder: PointPillars, voxels: Voxels) -> Tensor:
    """Compute the features of all slots: the point, its offsets from the pillar's mean and centre, and its distance to the sensor.

    Returns:
        (V, P, F) for V pillars with P slots. The encoder's settings decide whether x, y, z and the distance are among the F
        features. Empty slots are zeros.
    """
    grid, xyz = encoder.voxel_grid, voxels.points[:, :, :3]
    mean = xyz.sum(dim=1, keepdim=True) / voxels.num_points.view(-1, 1, 1)
    size, lower = xyz.new_tensor(grid.voxel_m), xyz.new_tensor(grid.range_m[:3])
    centre = voxels.coords[:, [3, 2, 1]] * size + size / 2 + lower
    parts = [voxels.points if encoder.settings.absolute_xyz else voxels.points[:, :, 3:], xyz - mean, xyz - centre[:, None]]
    if encoder.settings.distance:
        parts.append(xyz.norm(dim=2, keepdim=True))
    slots = torch.arange(voxels.points.shape[1], device=xyz.device)
    return torch.cat(parts, dim=2) * (slots < voxels.num_points[:, None])[:, :, None]


def second(encoder: Second, voxels: Voxels) -> Tensor:
    """Encode voxels with one sparse layer after the other. Every layer searches the neighbours of its sites anew.

    Returns:
        (clouds, C * nz, ny, nx) feature maps, each in the agent's frame.
    """
    features = voxels.points.sum(dim=1) / voxels.num_points[:, None]
    coords, shape = voxels.coords, encoder.shape_zyx
    for layer in encoder.spconv_block.modules():
        if isinstance(layer, SparseLayer):
            features, coords, shape = _sparse_layer(layer, features, coords, shape)
    cloud, z, y, x = coords.unbind(1)
    dense = features.new_zeros(voxels.batch_size, features.shape[1], *shape)
    dense[cloud, :, z, y, x] = features
    return dense.flatten(1, 2)


def _sparse_layer(layer: SparseLayer, features: Tensor, coords: Tensor, shape: Triple) -> tuple[Tensor, Tensor, Triple]:
    """Apply a sparse convolution, a batch norm and a ReLU.

    Args:
        layer: the layer, whose weights are used.
        features: (V, in) features of the input sites.
        coords: (V, 4) int64 cloud, z, y, x of the input sites.
        shape: number of cells of the input grid in z, y, x.

    Returns:
        Features (W, out), coordinates (W, 4) and grid shape of the output.
    """
    conv, norm = layer[0], layer[1]
    assert isinstance(conv, SparseConv) and isinstance(norm, nn.BatchNorm1d)
    geometry = conv.geometry
    out_shape = geometry.output_shape(shape)
    out_coords = coords if geometry.submanifold else _reached(coords, geometry, out_shape)
    keys, order = _keys(coords, shape).sort()
    out = features.new_zeros(len(out_coords), conv.weight.shape[0])
    for cell in itertools.product(range(geometry.kernel[0]), range(geometry.kernel[1]), range(geometry.kernel[2])):
        source, target = _pairs(keys, order, out_coords, geometry, cell, shape)
        out.index_add_(0, target, features[source] @ conv.weight[:, cell[0], cell[1], cell[2]].t())
    return F.relu(norm(out)), out_coords, out_shape


def _pairs(
    keys: Tensor, order: Tensor, out_coords: Tensor, geometry: ConvGeometry, cell: Triple, shape: Triple
) -> tuple[Tensor, Tensor]:
    """Find the K pairs of an input site and an output site that one cell of the kernel connects.

    Args:
        keys: (V,) sorted keys of the input sites.
        order: (V,) indices of the input sites in the order of `keys`.
        out_coords: (W, 4) int64 cloud, z, y, x of the output sites.
        geometry: kernel of the convolution.
        cell: position in the kernel in z, y, x.
        shape: number of cells of the input grid in z, y, x.

    Returns:
        Indices of the input sites (K,) and of the output sites (K,).
    """
    stride, padding = geometry.stride, geometry.padding
    if geometry.submanifold:
        stride, padding = (1, 1, 1), (geometry.kernel[0] // 2, geometry.kernel[1] // 2, geometry.kernel[2] // 2)
    wanted = out_coords.clone()
    for axis in range(3):
        wanted[:, 1 + axis] = out_coords[:, 1 + axis] * stride[axis] - padding[axis] + cell[axis]
    inside = _inside(wanted, shape)
    wanted_keys = _keys(wanted, shape)
    place = torch.searchsorted(keys, wanted_keys).clamp(max=max(len(keys) - 1, 0))
    target = (inside & (keys[place] == wanted_keys)).nonzero()[:, 0] if len(keys) else place
    return order[place[target]], target


def _reached(coords: Tensor, geometry: ConvGeometry, out_shape: Triple) -> Tensor:
    """Return the output sites (W, 4), each once, that the kernel reaches from at least one input site (V, 4)."""
    found = []
    for cell in itertools.product(*(range(edge) for edge in geometry.kernel)):
        shifted = coords + coords.new_tensor([0, *(geometry.padding[axis] - cell[axis] for axis in range(3))])
        stride = coords.new_tensor([1, *geometry.stride])
        target = torch.div(shifted, stride, rounding_mode="floor")
        fits = (target * stride == shifted).all(dim=1) & _inside(target, out_shape)
        found.append(target[fits])
    once: Tensor = torch.unique(torch.cat(found), dim=0)
    return once


def _keys(coords: Tensor, shape: Triple) -> Tensor:
    """Number the cells (V, 4) cloud, z, y, x of a grid of a given shape: a unique key (V,) for each cell."""
    cloud, z, y, x = coords.unbind(1)
    return ((cloud * shape[0] + z) * shape[1] + y) * shape[2] + x


def _inside(coords: Tensor, shape: Triple) -> Tensor:
    """Return (V,) bool: whether each cell (V, 4) cloud, z, y, x lies in a grid of a given shape."""
    zyx = coords[:, 1:]
    return ((zyx >= 0) & (zyx < zyx.new_tensor(shape))).all(dim=1)


def lift_splat(encoder: LiftSplat, cameras: CameraBatch) -> Tensor:
    """Encode camera images: place every feature at every depth, and add it to the cell that it falls into.

    Returns:
        (agents, C, ny, nx) feature maps, each in the agent's frame.
    """
    features, logits = encoder.camencode(cameras.images)
    volume: Tensor = features[:, :, None] * logits.softmax(dim=1)[:, None]  # (M, C, D, h, w)
    grid = encoder.own_grid
    step = volume.new_tensor([grid.cell_m, grid.cell_m, grid.range_m[5] - grid.range_m[2]])
    first_middle = volume.new_tensor([low + length / 2 for low, length in zip(grid.range_m[:3], step.tolist(), strict=True)])
    cells = ((_points(encoder, cameras) - (first_middle - step / 2)) / step).long()  # (M, D, h, w, 3), towards zero
    x, y, z = cells.unbind(-1)
    inside = (x >= 0) & (x < grid.nx) & (y >= 0) & (y < grid.ny) & (z == 0)
    agent = cameras.agent[:, None, None, None].expand_as(x)
    row = ((agent * grid.ny + y) * grid.nx + x)[inside]
    maps: Tensor = volume.new_zeros(cameras.agents * grid.ny * grid.nx, volume.shape[1])
    maps.index_add_(0, row, volume.permute(0, 2, 3, 4, 1)[inside])
    return maps.view(cameras.agents, grid.ny, grid.nx, -1).permute(0, 3, 1, 2).contiguous()


def _points(encoder: LiftSplat, cameras: CameraBatch) -> Tensor:
    """Return (M, D, h, w, 3): the position of each feature at each of D depths, in metres in the agent's frame."""
    (height, width), reduction = encoder.settings.image.size, encoder.settings.downsample
    depths = bin_depths(encoder.settings.depth)
    axes = (depths, torch.linspace(0, height - 1, height // reduction), torch.linspace(0, width - 1, width // reduction))
    depth, y, x = (axis.to(cameras.images) for axis in torch.meshgrid(*axes, indexing="ij"))
    resized_pixel = torch.stack([x, y], dim=-1)[None, ..., None]  # (1, D, h, w, 2, 1)
    turn, shift = cameras.shown_from_image[:, :, :2], cameras.shown_from_image[:, :, 2]
    pixel = torch.inverse(turn)[:, None, None, None] @ (resized_pixel - shift[:, None, None, None, :, None])
    depth = depth[None, ..., None, None].expand(len(pixel), -1, -1, -1, 1, 1)
    ray = torch.cat([pixel * depth, depth], dim=-2)
    rotation, translation = cameras.agent_SE3_camera[:, :3, :3], cameras.agent_SE3_camera[:, :3, 3]
    combined = rotation @ torch.inverse(cameras.intrinsic)
    return (combined[:, None, None, None] @ ray)[..., 0] + translation[:, None, None, None]
