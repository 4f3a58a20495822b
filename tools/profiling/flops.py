"""Floating-point operations of the networks, for an agent of each type and for frames with more and more agents.

A multiplication and an addition count as two. Counted are convolutions, matrix products, bilinear sampling and weighted sums; not
norms, activations, maxima and softmaxes. Operations are those of the direct convolutions, whatever algorithm computes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.sparse.layers import SparseConv
from heal.sparse.rulebook import rulebook
from heal.sparse.sites import SparseMap
from heal.tools.benches.flop_formulas import FAST_LAYERS
from heal.types import AgentFrame

Result = TypeVar("Result")


@dataclass(frozen=True)
class TypeFlops:
    """The operations for one agent of a type, by part of its network."""

    name: str
    encoder: int
    backbone: int
    aligner: int

    @property
    def total(self) -> int:
        """Operations of the whole network."""
        return self.encoder + self.backbone + self.aligner


@dataclass(frozen=True)
class FrameFlops:
    """The operations for one frame, from sensor data to the output of the heads.

    Attributes:
        types: the type of each agent.
        agents: in the networks of all agents.
        trunk: in the base's trunk, for all agents.
        fusion: moving all maps into the ego's frame, their weighted sum, and joining the scales. Every map reaches all of the
            ego's map, which is the most that fusion can cost. A single agent's map is not moved.
        heads: shrink layers and heads.
    """

    types: tuple[str, ...]
    agents: int
    trunk: int
    fusion: int
    heads: int

    @property
    def total(self) -> int:
        """Operations of the whole frame."""
        return self.agents + self.trunk + self.fusion + self.heads


def type_flops(name: str, model: AgentModel, frame: AgentFrame) -> TypeFlops:
    """Count the operations for an agent of a type with the sensor data of a frame."""
    inputs = model.prepare([frame])
    with sparse_counts(model.encoder) as sparse:
        encoder, maps = count(lambda: model.encoder(inputs))
    backbone, features = count(lambda: model.backbone(maps))
    aligner, _ = count(lambda: model.aligner(features))
    return TypeFlops(name, encoder + sum(sparse), backbone, aligner)


def frame_flops(base: BaseModel, types: Sequence[TypeFlops], numbers: Sequence[int]) -> tuple[FrameFlops, ...]:
    """Count the operations for frames with several numbers of agents, which have the given types in turn."""
    grid, pyramid, rows = base.config.grid, base.fusion, list[FrameFlops]()
    trunk, levels = count(lambda: base.trunk(torch.zeros(1, base.config.in_channels, grid.ny, grid.nx)))
    scores = pyramid.scores(levels.occupancy)

    def fuse(agents: int) -> Tensor:
        maps, all_scores = ([[level] * agents for level in part] for part in (levels.maps, scores))
        names = [part.name for part in itertools.islice(itertools.cycle(types), agents)]
        poses = torch.eye(4, dtype=torch.float64).expand(agents, 4, 4)
        return base.fuse_scored(maps, all_scores, poses, [agents], agent_types=names)

    for agents in numbers:
        chosen = tuple(itertools.islice(itertools.cycle(types), agents))
        fusion, joined = count(partial(fuse, agents))
        heads, _ = count(partial(base.heads, joined))
        encoding = sum(part.total for part in chosen)
        rows.append(FrameFlops(tuple(part.name for part in chosen), encoding, agents * trunk, fusion, heads))
    return tuple(rows)


def count(call: Callable[[], Result]) -> tuple[int, Result]:
    """Return the number of operations in a call, and its result."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        result = call()
    return int(counter.get_total_flops()), result


@contextmanager
def sparse_counts(network: nn.Module) -> Iterator[list[int]]:
    """Count the sparse convolutions of a network from their rulebooks, instead of computing them; their maps are zero meanwhile.

    The number of operations depends on the sites alone. Computed, these convolutions are thousands of small matrix products, which
    torch's counter slows down a hundredfold.

    Yields:
        A list that takes the operations of each sparse convolution.
    """
    counts, layers = list[int](), [part for part in network.modules() if isinstance(part, SparseConv)]
    for layer in layers:
        layer.forward = partial(_count_sparse, layer, counts)  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        for layer in layers:
            del layer.forward


def _count_sparse(layer: SparseConv, counts: list[int], x: SparseMap, *_: Tensor) -> SparseMap:
    """Note the operations of a sparse convolution, and return a map of zeros at the sites of its output."""
    rules, out_channels = rulebook(x.sites, layer.geometry), len(layer.weight)
    pairs = sum(len(part.source) for part in rules.pairs) + (0 if rules.centre is None else len(rules.sites))
    counts.append(2 * pairs * x.features.shape[1] * out_channels)
    return SparseMap(x.features.new_zeros(len(rules.sites), out_channels), rules.sites)


def _bilinear(*_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Return the operations of bilinear sampling: each value is the weighted sum of four."""
    return 8 * prod(out_shape)


def _multiply_add(*_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * prod(out_shape)


def _sum_in_bags(table: Sequence[int], indices: Sequence[int], *_: Any, **__: Any) -> int:
    """Return the operations of Lift-Splat's pooling: a weighted sum of rows of a table (R, C) that are named by indices (N,)."""
    return 2 * indices[0] * table[1]


_ATEN = torch.ops.aten
# What torch does not count by itself.
_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.grid_sampler_2d: _bilinear,
    _ATEN.upsample_bilinear2d: _bilinear,
    _ATEN.addcmul_: _multiply_add,
    _ATEN._embedding_bag: _sum_in_bags,
    _ATEN._embedding_bag_forward_only: _sum_in_bags,
    **FAST_LAYERS,
}
