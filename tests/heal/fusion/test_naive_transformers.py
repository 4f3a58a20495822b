"""Each transformer gives what its definition gives when it is written with loops over agents, cells and heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.fusion.cobevt import CobevtConfig
from heal.fusion.hmvit import HmVitConfig
from heal.fusion.map_fusion import MapFusion, SceneMaps
from heal.fusion.maximum import MaximumConfig
from heal.fusion.mpda import MpdaConfig
from heal.fusion.table import make_fusion
from heal.fusion.v2xvit import V2xVitConfig
from heal.grid import BevGrid

# Neither edge is a multiple of the windows' edge, so every padding is tried.
NY, NX, C, HEADS, W = 3, 5, 4, 2, 2
GRID = BevGrid((-2.0, -1.2, -3.0, 2.0, 1.2, 1.0), 0.8)
CELLS = [(y, x) for y in range(NY) for x in range(NX)]
TYPES = ("m1", "m2", "m3")
TRUST = torch.tensor([1.0, 0.4, 0.7])
Maps = dict[tuple[int, int, int], Tensor]


def made(settings: Any) -> MapFusion:
    torch.manual_seed(0)
    fusion = make_fusion(settings, C, GRID)
    for weight in fusion.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    assert isinstance(fusion, MapFusion)
    return fusion.eval()


def scene() -> SceneMaps:
    maps = torch.randn(3, C, NY, NX, generator=torch.Generator().manual_seed(1))
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 2.0, 5.0])
    ones = torch.ones(3, 1, NY, NX)
    return SceneMaps(maps, ones, ones, tuple(maps.split(1)), poses, TRUST, TYPES, GRID)


def vectors(maps: Tensor) -> Maps:
    return {(n, y, x): maps[n, :, y, x] for n in range(len(maps)) for y, x in CELLS}


def as_map(found: Maps) -> Tensor:
    return torch.stack([torch.stack([found[0, y, x] for x in range(NX)], dim=-1) for y in range(NY)], dim=-2)[None]


def place(y: int, x: int, size: int, spread: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the window of a cell, and the cell's place in it."""
    if spread:
        rows, columns = math.ceil(NY / size), math.ceil(NX / size)
        return (y % rows, x % columns), (y // rows, x // columns)
    return (y // size, x // size), (y % size, x % size)


def neighbours(y: int, x: int, size: int, spread: bool) -> Iterable[tuple[tuple[int, int], int, int]]:
    """Return the cells in the window of a cell, each with the step from it to the cell, in rows and columns of the window."""
    window, (row, column) = place(y, x, size, spread)
    for other in CELLS:
        theirs, (their_row, their_column) = place(*other, size, spread)
        if theirs == window:
            yield other, row - their_row, column - their_column


def attention(query: Tensor, keys: Sequence[tuple[Tensor, Tensor, Tensor]], heads: int = HEADS) -> Tensor:
    """Return the attention of a vector to keys, each with its value and the numbers (heads,) that are added to its logits."""
    parts = []
    for head, q in enumerate(query.chunk(heads)):
        weights = [math.exp(q @ key.chunk(heads)[head] / math.sqrt(len(q)) + bias[head]) for key, _, bias in keys]
        mixed = [weight * value.chunk(heads)[head] for weight, (_, value, _) in zip(weights, keys, strict=True)]
        parts.append(torch.stack(mixed).sum(dim=0) / sum(weights))
    return torch.cat(parts)


def each(maps: Maps, compute: Callable[..., Tensor]) -> Maps:
    return {where: compute(vector) for where, vector in maps.items()}


def assert_naive(fusion: MapFusion, expected: Tensor) -> None:
    with torch.no_grad():
        found = fusion.fuse_scene(scene())
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max()) + 1e-6


@torch.no_grad()
def test_cobevt() -> None:
    fusion: Any = made(CobevtConfig(slots=4, layers=1, window=W, head_channels=C // HEADS, hidden=6, foreground=False))
    [layer], maps = fusion.layers, vectors(torch.cat([scene().maps, torch.zeros(1, C, NY, NX)]))
    steps = ((layer.window_attention, layer.window_ffd, False), (layer.grid_attention, layer.grid_ffd, True))
    for step, feed_forward, spread in steps:
        table = step.fn.relative_position_bias_table.weight.view(7, 2 * W - 1, 2 * W - 1, HEADS)
        qkv = each(maps, lambda v, step=step: step.fn.to_qkv(step.norm(v)))
        for (slot, y, x), vector in list(maps.items()):
            keys = []
            for (ky, kx), dy, dx in neighbours(y, x, W, spread):
                for agent in range(3):
                    _, key, value = qkv[agent, ky, kx].chunk(3)
                    keys.append((key, value, table[slot - agent + 3, dy + W - 1, dx + W - 1] + TRUST[agent].log()))
            maps[slot, y, x] = vector + step.fn.to_out(attention(qkv[slot, y, x].chunk(3)[0], keys))
        maps = each(maps, feed_forward)
    weights = [*TRUST.tolist(), 1.0]
    mean = {(0, y, x): sum(weights[n] * maps[n, y, x] for n in range(4)) / sum(weights) for y, x in CELLS}
    assert_naive(fusion, as_map(each(mean, fusion.mlp_head)))


@torch.no_grad()
def test_v2xvit() -> None:
    settings = V2xVitConfig(
        layers=2, heads=2, head_channels=3, windows=(2, 3), window_heads=(2, 1), window_head_channels=(2, 5), hidden=6
    )
    fusion: Any = made(settings)
    maps = vectors(scene().maps)
    for [block], feed_forward in ((layer[0].layers, layer[1]) for layer in fusion.encoder.layers):
        maps = each(in_pyramid_windows(among_agents(maps, block[0]), block[1]), feed_forward)
    assert_naive(fusion, as_map(maps))


def among_agents(maps: Maps, step: Any) -> Maps:
    layer, normed, found = step.fn, each(maps, step.norm), {}

    def by_relation(vector: Tensor, linear: Any, matrices: Tensor, turned: bool) -> Tensor:
        parts = zip(linear(vector).chunk(2), matrices, strict=True)
        return torch.cat([matrix @ part if turned else part @ matrix for part, matrix in parts])

    for (n, y, x), vector in maps.items():
        keys = [
            (
                by_relation(normed[m, y, x], layer.k_linears[0], layer.relation_att[0], turned=True),
                by_relation(normed[m, y, x], layer.v_linears[0], layer.relation_msg[0], turned=False),
                TRUST[m].log().expand(2),
            )
            for m in range(3)
        ]
        found[n, y, x] = vector + layer.a_linears[0](attention(layer.q_linears[0](normed[n, y, x]), keys))
    return found


def in_pyramid_windows(maps: Maps, step: Any) -> Maps:
    normed, results = each(maps, step.norm), []
    for layer in step.fn.pwmsa:
        size, qkv, found = (layer.pos_embedding.shape[0] + 1) // 2, each(normed, layer.to_qkv), {}
        for n, y, x in maps:
            keys = []
            for (ky, kx), dy, dx in neighbours(y, x, size, spread=False):
                _, key, value = qkv[n, ky, kx].chunk(3)
                keys.append((key, value, layer.pos_embedding[size - 1 - dy, size - 1 - dx].expand(layer.heads)))
            found[n, y, x] = layer.to_out(attention(qkv[n, y, x].chunk(3)[0], keys, layer.heads))
        results.append(found)
    mean = {n: sum(found[n, y, x] for found in results for y, x in CELLS) / len(CELLS) for n in range(3)}
    split = step.fn.split_attn
    weights = {n: split.fc2(F.relu(split.bn1(split.fc1(mean[n])))).view(len(results), C).softmax(dim=0) for n in mean}
    return {where: maps[where] + sum(weights[where[0]][i] * found[where] for i, found in enumerate(results)) for where in maps}


@torch.no_grad()
def test_hmvit() -> None:
    kinds = {"m1": "lidar", "m2": "camera", "m3": "lidar"}
    fusion: Any = made(HmVitConfig(kinds=kinds, layers=1, window=W, head_channels=C // HEADS, hidden=6))
    maps, kind_of = vectors(scene().maps), (1, 0, 1)  # The kinds are numbered in the order of the alphabet.
    for step, spread in zip(fusion.steps, (False, True), strict=True):
        maps = graph_step(maps, step, kind_of, spread)
    assert_naive(fusion, as_map(maps))


def graph_step(maps: Maps, step: Any, kind_of: Sequence[int], spread: bool) -> Maps:
    layer, found = step.attention, {}

    def typed(vector: Tensor, weights: Any, n: int) -> Tensor:
        return weights.weight[kind_of[n]] @ vector + weights.bias[kind_of[n]]

    def norm(vector: Tensor, weights: Any, n: int) -> Tensor:
        return F.layer_norm(vector, (C,), weights.weight[kind_of[n]], weights.bias[kind_of[n]])

    def related(vector: Tensor, weights: Any, matrices: Tensor, source: int, target: int) -> Tensor:
        parts = zip(typed(vector, weights, source).chunk(HEADS), matrices[kind_of[source], kind_of[target]], strict=True)
        return torch.cat([matrix @ part for part, matrix in parts])

    table = layer.position_bias.view(HEADS, 2 * W - 1, 2 * W - 1)
    normed = {where: norm(vector, step.attention_norm, where[0]) for where, vector in maps.items()}
    for (n, y, x), vector in maps.items():
        keys = []
        for (ky, kx), dy, dx in neighbours(y, x, W, spread):
            for m in range(3):
                key = related(normed[m, ky, kx], layer.keys, layer.relation_att, m, n)
                value = related(normed[m, ky, kx], layer.values, layer.relation_msg, m, n)
                keys.append((key, value, table[:, dy + W - 1, dx + W - 1] + TRUST[m].log()))
        mixed = vector + typed(attention(typed(normed[n, y, x], layer.queries, n), keys), layer.out, n)
        hidden = F.gelu(typed(norm(mixed, step.feed_norm, n), step.feed_forward.inner, n))
        found[n, y, x] = mixed + typed(hidden, step.feed_forward.outer, n)
    return found


@torch.no_grad()
def test_mpda() -> None:
    fusion: Any = made(MpdaConfig(fused_by=MaximumConfig(), window=W, head_channels=C // HEADS, hidden=6))
    ego, *_ = scene().maps
    maps = {where: vector if where[0] == 0 else fusion.resizer(vector) for where, vector in vectors(scene().maps).items()}
    for step, spread in zip(fusion.steps, (False, True), strict=True):
        table, found = step.position_bias.view(HEADS, 2 * W - 1, 2 * W - 1), {}
        for (n, y, x), vector in maps.items():
            keys = []
            for (ky, kx), dy, dx in neighbours(y, x, W, spread):
                key, value = step.to_kv(step.sender_norm(maps[n, ky, kx])).chunk(2)
                keys.append((key, value, table[:, dy + W - 1, dx + W - 1]))
            asked = step.to_q(step.ego_norm(ego[:, y, x]))
            found[n, y, x] = vector if n == 0 else step.feed_forward(vector + step.to_out(attention(asked, keys)))
        maps = found
    greatest = {(0, y, x): torch.stack([TRUST[n] * maps[n, y, x] for n in range(3)]).amax(dim=0) for y, x in CELLS}
    assert_naive(fusion, as_map(greatest))
