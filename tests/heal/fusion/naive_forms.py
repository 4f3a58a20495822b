"""Fusions in their plainest form: loops over agents, cells and neighbours, from the formulas of the papers.

A form takes the fusion, whose weights it uses, and one scene, and returns the fused map of every scale.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heal.fusion.coalign import CoAlign
from heal.fusion.disconet import DiscoNet
from heal.fusion.interface import Fusion
from heal.fusion.v2vnet import V2VNet
from heal.fusion.where2comm import Where2comm
from heal.grid import BevGrid


@dataclass(frozen=True)
class NaiveScene:
    """One scene for a naive form.

    Attributes:
        maps: per scale (N, C, ny, nx), each agent's map in its own frame, the ego first.
        scores: per scale (N, 1, ny, nx), foreground scores in the same frames.
        agent_SE3_ego: (N, 4, 4) float64.
        trust: (N,) factors on the agents' weights.
        agent_types: (N,) names.
        grid: of the finest scale.
    """

    maps: Sequence[Tensor]
    scores: Sequence[Tensor]
    agent_SE3_ego: Tensor
    trust: Tensor
    agent_types: tuple[str, ...]
    grid: BevGrid


NaiveForm = Callable[[Any, NaiveScene], tuple[Tensor, ...]]


def cells(ny: int, nx: int) -> itertools.product[tuple[int, int]]:
    """Return all pairs (row, column) of a map."""
    return itertools.product(range(ny), range(nx))


def moved(level: Tensor, from_SE3_to: Tensor, grid: BevGrid) -> Tensor:
    """Move a map (C, ny, nx) into another frame, cell by cell, with zeros outside: (C, ny, nx)."""
    _, ny, nx = level.shape
    step_x_m, step_y_m, result = grid.length_x_m / nx, grid.length_y_m / ny, torch.zeros_like(level)
    for row, column in cells(ny, nx):
        place = torch.tensor([(column + 0.5) * step_x_m, (row + 0.5) * step_y_m, 0.0, 1.0], dtype=torch.float64)
        place[:2] -= torch.tensor([grid.length_x_m / 2, grid.length_y_m / 2])
        x_m, y_m = (from_SE3_to @ place)[:2].tolist()
        x, y = (x_m + grid.length_x_m / 2) / step_x_m - 0.5, (y_m + grid.length_y_m / 2) / step_y_m - 0.5
        for i, j in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= i < ny and 0 <= j < nx:
                result[:, row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * level[:, i, j]
    return result


def in_ego_frame(scene: NaiveScene, levels: Tensor) -> Tensor:
    """Move maps (N, C, ny, nx) of all agents into the ego's frame."""
    return torch.stack([moved(level, pose, scene.grid) for level, pose in zip(levels, scene.agent_SE3_ego, strict=True)])


def convolved(layer: torch.nn.Conv2d, level: Tensor) -> Tensor:
    """Convolve a map (C, ny, nx) with zeros around it, cell by cell and neighbour by neighbour."""
    _, ny, nx = level.shape
    half, result = layer.kernel_size[0] // 2, torch.zeros(layer.out_channels, ny, nx)
    assert layer.bias is not None
    for row, column in cells(ny, nx):
        result[:, row, column] = layer.bias
        for dy, dx in itertools.product(range(-half, half + 1), repeat=2):
            if 0 <= row + dy < ny and 0 <= column + dx < nx:
                result[:, row, column] += layer.weight[:, :, dy + half, dx + half] @ level[:, row + dy, column + dx]
    return result


def ego_only(fusion: Fusion, scene: NaiveScene) -> tuple[Tensor, ...]:
    return (scene.maps[0][0],)


def greatest(scene: NaiveScene, levels: Tensor) -> Tensor:
    """Return the greatest trusted value of any agent, cell by cell and channel by channel, of one scale."""
    maps, fused = in_ego_frame(scene, levels), torch.zeros_like(levels[0])
    for row, column in cells(*fused.shape[1:]):
        for channel in range(len(fused)):
            values = [float(trust * level[channel, row, column]) for level, trust in zip(maps, scene.trust, strict=True)]
            fused[channel, row, column] = max(values)
    return fused


def f_cooper(fusion: Fusion, scene: NaiveScene) -> tuple[Tensor, ...]:
    return (greatest(scene, scene.maps[0]),)


def attend(scene: NaiveScene, levels: Tensor) -> Tensor:
    """Return the attention of the ego's vector to all agents' vectors, cell by cell, of one scale."""
    maps, fused = in_ego_frame(scene, levels), torch.zeros_like(levels[0])
    for row, column in cells(*fused.shape[1:]):
        vectors = maps[:, :, row, column]
        weights = [
            float(trust) * math.exp(float(vectors[0] @ vector) / math.sqrt(len(vector)))
            for vector, trust in zip(vectors, scene.trust, strict=True)
        ]
        fused[:, row, column] = sum(
            (weight / sum(weights) * vector for weight, vector in zip(weights, vectors, strict=True)), torch.zeros(len(fused))
        )
    return fused


def attfuse(fusion: Fusion, scene: NaiveScene) -> tuple[Tensor, ...]:
    return (attend(scene, scene.maps[0]),)


def coalign(fusion: CoAlign, scene: NaiveScene) -> tuple[Tensor, ...]:
    method = {"attention": attend, "maximum": greatest}[fusion.settings.method]
    return tuple(method(scene, levels) for levels in scene.maps)


def v2vnet(fusion: V2VNet, scene: NaiveScene) -> tuple[Tensor, ...]:
    """All messages of all agents in all iterations, with gates that read the hidden state."""
    poses, unit = scene.agent_SE3_ego, fusion.conv_gru.get_submodule("cell_list.0")
    maps = list(scene.maps[0])
    channels, ones = len(maps[0]), torch.ones_like(maps[0][:1])
    for _ in range(fusion.settings.iterations):
        updated = []
        for reader, own in enumerate(maps):
            messages = []
            for sender, level in enumerate(maps):
                sender_SE3_reader = poses[sender] @ torch.linalg.inv(poses[reader])
                seen, inside = (moved(part, sender_SE3_reader, scene.grid) for part in (level, ones))
                messages.append(convolved(fusion.msg_cnn, torch.cat([seen, own])) * inside * scene.trust[sender])
            joined = torch.stack(messages).amax(0)
            if fusion.settings.aggregation == "mean":
                joined = sum(messages, torch.zeros_like(own)) / scene.trust.sum()
            hidden = torch.zeros_like(own)
            gates = convolved(unit.conv_gates, torch.cat([own, joined, hidden])).sigmoid()
            reset, update = gates[:channels], gates[channels:]
            candidate = convolved(unit.conv_can, torch.cat([own, joined, reset * hidden])).tanh()
            updated.append((1 - update) * hidden + update * candidate)
        maps = updated
    return (torch.einsum("oc,cyx->oyx", fusion.mlp.weight, maps[0]) + fusion.mlp.bias[:, None, None],)


def disconet(fusion: DiscoNet, scene: NaiveScene) -> tuple[Tensor, ...]:
    maps, layers, fused = in_ego_frame(scene, scene.maps[0]), fusion.pixel_weight_layer, torch.zeros_like(scene.maps[0][0])
    for row, column in cells(*fused.shape[1:]):
        vectors, weights = maps[:, :, row, column], []
        for vector, trust in zip(vectors, scene.trust, strict=True):
            x = torch.cat([vector, vectors[0]])[None, :, None, None]
            for i in range(1, 4):
                x = layers.get_submodule(f"bn1_{i}")(layers.get_submodule(f"conv1_{i}")(x)).relu()
            weights.append(float(trust) * math.exp(float(layers.conv1_4(x).relu())))
        for weight, vector in zip(weights, vectors, strict=True):
            fused[:, row, column] += weight / sum(weights) * vector
    return (fused,)


def distance_code(distance_m: float, cell_m: float, channels: int) -> Tensor:
    """Return the code (channels,) of a sensing distance: sines and cosines of its number of cells."""
    angles = [round(distance_m / cell_m) / 10000 ** (2 * i / channels) for i in range(channels // 2)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])


def where2comm(fusion: Where2comm, scene: NaiveScene) -> tuple[Tensor, ...]:
    maps, scores = in_ego_frame(scene, scene.maps[0]), in_ego_frame(scene, scene.scores[0])
    fused, width = torch.zeros_like(maps[0]), len(maps[0]) // fusion.heads
    for row, column in cells(*fused.shape[1:]):
        x_m, y_m = (scene.grid.range_m[i] + (k + 0.5) * scene.grid.cell_m for i, k in ((0, column), (1, row)))
        codes = []
        for pose in scene.agent_SE3_ego:
            own_m = pose @ torch.tensor([x_m, y_m, 0.0, 1.0], dtype=torch.float64)
            codes.append(distance_code(math.hypot(float(own_m[0]), float(own_m[1])), scene.grid.cell_m, len(fused)))
        vectors = [level[:, row, column] for level in maps]
        query = fusion.query.weight @ (vectors[0] + codes[0]) + fusion.query.bias
        keys = [fusion.key.weight @ (v + c) + fusion.key.bias for v, c in zip(vectors, codes, strict=True)]
        confidences = [float(score[0, row, column] * trust) for score, trust in zip(scores, scene.trust, strict=True)]
        mixed = vectors[0].clone()
        for head in range(fusion.heads):
            part = slice(head * width, (head + 1) * width)
            alike = [math.exp(float(query[part] @ key[part]) / math.sqrt(width)) for key in keys]
            alike = [value if confidence else 0.0 for value, confidence in zip(alike, confidences, strict=True)]
            for value, confidence, vector in zip(alike, confidences, vectors, strict=True):
                if confidence:
                    mixed += value / sum(alike) * confidence * vector / fusion.heads
        fused[:, row, column] = mixed + fusion.feed_forward(fusion.norm(mixed))
    return (fused,)


FORMS: dict[str, NaiveForm] = {
    "ego_only": ego_only,
    "f_cooper": f_cooper,
    "attfuse": attfuse,
    "v2vnet": v2vnet,
    "disconet": disconet,
    "coalign": coalign,
    "where2comm": where2comm,
}
