"""The transformers in their plainest form: every cell of every agent asks on its own, head by head."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.heal.fusion.naive_forms import NaiveForm, NaiveScene, cells, in_ego_frame

# The vectors of cells by agent, row and column.
Vectors = dict[tuple[int, int, int], Tensor]
# Keys, values, and the numbers (heads,) that are added to the logits.
Key = tuple[Tensor, Tensor, Tensor]


def vectors(maps: Tensor) -> Vectors:
    return {(n, y, x): maps[n, :, y, x] for n in range(len(maps)) for y, x in cells(*maps.shape[2:])}


def as_maps(found: Vectors) -> Tensor:
    """Return maps (N, C, ny, nx)."""
    count, ny, nx = (max(where[axis] for where in found) + 1 for axis in range(3))
    rows = [found[n, y, x] for n in range(count) for y, x in cells(ny, nx)]
    return torch.stack(rows).view(count, ny, nx, -1).movedim(-1, 1)


def each(maps: Vectors, compute: Callable[[Tensor], Tensor]) -> Vectors:
    return {where: compute(vector) for where, vector in maps.items()}


@functools.cache
def neighbours(y: int, x: int, shape: tuple[int, int], size: int, spread: bool) -> list[tuple[int, int, int, int]]:
    """Return row and column of the cells in the window of a cell, and the steps from there to the cell, in cells of the window."""

    def window_and_place(row: int, column: int) -> tuple[tuple[int, int], tuple[int, int]]:
        rows, columns = math.ceil(shape[0] / size), math.ceil(shape[1] / size)
        if spread:
            return (row % rows, column % columns), (row // rows, column // columns)
        return (row // size, column // size), (row % size, column % size)

    window, place = window_and_place(y, x)
    others = [(cell, *window_and_place(*cell)) for cell in cells(*shape)]
    return [(*cell, place[0] - theirs[0], place[1] - theirs[1]) for cell, its_window, theirs in others if its_window == window]


def attention(query: Tensor, given: Iterable[Key], heads: int) -> Tensor:
    """Return the attention of a vector to keys."""
    keys, values, added = (torch.stack(part) for part in zip(*given, strict=True))
    parts = []
    for head, q in enumerate(query.chunk(heads)):
        weights = (keys.chunk(heads, dim=1)[head] @ q / math.sqrt(len(q)) + added[:, head]).exp()
        parts.append(weights @ values.chunk(heads, dim=1)[head] / weights.sum())
    return torch.cat(parts)


def by_heads(matrices: Tensor, vector: Tensor) -> Tensor:
    """Multiply each head of a vector by a matrix: matrices (heads, D, D)."""
    return torch.cat([matrix @ part for matrix, part in zip(matrices, vector.chunk(len(matrices)), strict=True)])


def cobevt(fusion: Any, scene: NaiveScene) -> tuple[Tensor, ...]:
    maps = in_ego_frame(scene, scene.maps[0])
    agents, slots, shape = len(maps), fusion.settings.slots, maps.shape[2:]
    found = vectors(torch.cat([maps, torch.zeros(slots - agents, *maps.shape[1:])]))
    for layer in fusion.layers:
        steps = ((layer.window_attention, layer.window_ffd, False), (layer.grid_attention, layer.grid_ffd, True))
        for step, feed_forward, spread in steps:
            asked = each(each(found, step.norm), step.fn.to_qkv)
            found = {
                (slot, y, x): vector
                + step.fn.to_out(
                    attention(
                        asked[slot, y, x].chunk(3)[0],
                        slot_keys(fusion, scene, step.fn, asked, (slot, y, x), tuple(shape), spread),
                        step.fn.heads,
                    )
                )
                for (slot, y, x), vector in found.items()
            }
            found = each(found, feed_forward)
    weights = [*scene.trust.tolist(), *[1.0] * (slots - agents)]
    mean = (as_maps(found) * torch.tensor(weights)[:, None, None, None]).sum(dim=0, keepdim=True) / sum(weights)
    return (as_maps(each(vectors(mean), fusion.mlp_head))[0],)


def slot_keys(
    fusion: Any, scene: NaiveScene, layer: Any, asked: Vectors, where: tuple[int, int, int], shape: tuple[int, int], spread: bool
) -> Iterable[Key]:
    size, slots = fusion.settings.window, fusion.settings.slots
    table = layer.relative_position_bias_table.weight.view(2 * slots - 1, 2 * size - 1, 2 * size - 1, layer.heads)
    slot, y, x = where
    for agent, trust in enumerate(scene.trust):
        for ky, kx, dy, dx in neighbours(y, x, shape, size, spread):
            _, key, value = asked[agent, ky, kx].chunk(3)
            yield key, value, table[slot - agent + slots - 1, dy + size - 1, dx + size - 1] + trust.log()


def v2xvit(fusion: Any, scene: NaiveScene) -> tuple[Tensor, ...]:
    return (v2xvit_of(fusion, in_ego_frame(scene, scene.maps[0]), scene.trust),)


def v2xvit_of(fusion: Any, maps: Tensor, trust: Tensor) -> Tensor:
    """Return the fused map (C, ny, nx) of maps (N, C, ny, nx) in the ego's frame."""
    found = vectors(maps)
    for blocks, feed_forward in fusion.encoder.layers:
        for agent_step, window_step in blocks.layers:
            found = in_pyramid_windows(among_agents(found, agent_step, trust), window_step)
        found = each(found, feed_forward)
    return as_maps(found)[0]


def among_agents(maps: Vectors, step: Any, trust: Tensor) -> Vectors:
    layer, normed, found = step.fn, each(maps, step.norm), {}
    heads = layer.heads
    keys = each(normed, lambda v: by_heads(layer.relation_att[0], layer.k_linears[0](v)))
    values = each(normed, lambda v: by_heads(layer.relation_msg[0].mT, layer.v_linears[0](v)))
    for (n, y, x), vector in maps.items():
        given = [(keys[m, y, x], values[m, y, x], factor.log().expand(heads)) for m, factor in enumerate(trust)]
        found[n, y, x] = vector + layer.a_linears[0](attention(layer.q_linears[0](normed[n, y, x]), given, heads))
    return found


def in_pyramid_windows(maps: Vectors, step: Any) -> Vectors:
    shape, normed, results = as_maps(maps).shape, each(maps, step.norm), []
    for layer in step.fn.pwmsa:
        size, asked, found = (len(layer.pos_embedding) + 1) // 2, each(normed, layer.to_qkv), {}
        for n, y, x in maps:
            given = []
            for ky, kx, dy, dx in neighbours(y, x, tuple(shape[2:]), size, False):
                _, key, value = asked[n, ky, kx].chunk(3)
                given.append((key, value, layer.pos_embedding[size - 1 - dy, size - 1 - dx].expand(layer.heads)))
            found[n, y, x] = layer.to_out(attention(asked[n, y, x].chunk(3)[0], given, layer.heads))
        results.append(found)
    mean = sum(as_maps(found).mean(dim=(2, 3)) for found in results)
    split = step.fn.split_attn
    weights = split.fc2(F.relu(split.bn1(split.fc1(mean)))).view(len(mean), len(results), -1).softmax(dim=1)
    return {where: maps[where] + sum(weights[where[0], i] * found[where] for i, found in enumerate(results)) for where in maps}


def hmvit(fusion: Any, scene: NaiveScene) -> tuple[Tensor, ...]:
    # The kinds are numbered in the order of the alphabet: camera, lidar.
    kind_of = [{"m1": 1, "m2": 0, "m3": 1}[name] for name in scene.agent_types]
    found = vectors(in_ego_frame(scene, scene.maps[0]))
    for i, step in enumerate(fusion.steps):
        found = graph_step(found, step, kind_of, scene.trust, spread=i % 2 == 1)
    return (as_maps(found)[0],)


def graph_step(maps: Vectors, step: Any, kind_of: Sequence[int], trust: Tensor, spread: bool) -> Vectors:
    layer, shape, found = step.attention, tuple(as_maps(maps).shape[2:]), {}
    size = (math.isqrt(layer.position_bias.shape[1]) + 1) // 2
    table = layer.position_bias.view(layer.heads, 2 * size - 1, 2 * size - 1)

    def typed(vector: Tensor, weights: Any, kind: int) -> Tensor:
        return weights.weight[kind] @ vector + weights.bias[kind]

    def norm(vector: Tensor, weights: Any, kind: int) -> Tensor:
        return F.layer_norm(vector, vector.shape, weights.weight[kind], weights.bias[kind])

    normed = {where: norm(vector, step.attention_norm, kind_of[where[0]]) for where, vector in maps.items()}
    keys, values = (
        {
            (*where, target): by_heads(matrices[kind_of[where[0]], target], typed(vector, weights, kind_of[where[0]]))
            for where, vector in normed.items()
            for target in (0, 1)
        }
        for weights, matrices in ((layer.keys, layer.relation_att), (layer.values, layer.relation_msg))
    )
    for (n, y, x), vector in maps.items():
        kind = kind_of[n]
        given = [
            (keys[m, ky, kx, kind], values[m, ky, kx, kind], table[:, dy + size - 1, dx + size - 1] + factor.log())
            for ky, kx, dy, dx in neighbours(y, x, shape, size, spread)
            for m, factor in enumerate(trust)
        ]
        answer = attention(typed(normed[n, y, x], layer.queries, kind), given, layer.heads)
        mixed = vector + typed(answer, layer.out, kind)
        hidden = F.gelu(typed(norm(mixed, step.feed_norm, kind), step.feed_forward.inner, kind))
        found[n, y, x] = mixed + typed(hidden, step.feed_forward.outer, kind)
    return found


def mpda(fusion: Any, scene: NaiveScene) -> tuple[Tensor, ...]:
    maps = in_ego_frame(scene, scene.maps[0])
    seen = in_ego_frame(scene, scene.scores[0]) > 0
    ego, shape = vectors(maps[:1]), tuple(maps.shape[2:])
    senders = each(vectors(maps[1:]), fusion.resizer)
    for i, step in enumerate(fusion.steps):
        size = (math.isqrt(step.position_bias.shape[1]) + 1) // 2
        table, found = step.position_bias.view(step.heads, 2 * size - 1, 2 * size - 1), {}
        offered = each(each(senders, step.sender_norm), step.to_kv)
        for (n, y, x), vector in senders.items():
            given = [
                (*offered[n, ky, kx].chunk(2), table[:, dy + size - 1, dx + size - 1])
                for ky, kx, dy, dx in neighbours(y, x, shape, size, i % 2 == 1)
            ]
            asked = step.to_q(step.ego_norm(ego[0, y, x]))
            found[n, y, x] = step.feed_forward(vector + step.to_out(attention(asked, given, step.heads)))
        senders = found
    adapted = torch.cat([maps[:1], as_maps(senders) * seen[1:]])
    return (v2xvit_of(fusion.fused_by, adapted, scene.trust),)


FORMS: dict[str, NaiveForm] = {"cobevt": cobevt, "v2xvit": v2xvit, "hmvit": hmvit, "mpda": mpda}
