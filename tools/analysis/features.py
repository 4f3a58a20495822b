"""Features of several agent types at the same place: every type encodes the sensors of one agent, the ego of each scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from heal.alliance import Alliance
from heal.detection.ground_truth import agent_ground_truth
from heal.seeding import keyed_generator
from heal.tools.analysis.similarity import cells_in_boxes
from heal.tools.analysis.weights import covered_cells
from heal.types import AgentFrame, Float64, SceneSource

CELLS_PER_SCENE = 1024


@dataclass(frozen=True)
class TypeFeatures:
    """The aligned features of some agent types at the same cells of several scenes, which the sensors of all types cover.

    Attributes:
        types: names of the types.
        foreground: per type (N, C), at the cells of labelled vehicles.
        everywhere: per type (M, C), at cells drawn from all of them.
    """

    types: tuple[str, ...]
    foreground: tuple[Float64, ...]
    everywhere: tuple[Float64, ...]


def type_features(alliance: Alliance, types: Sequence[str], source: SceneSource, ticks: Iterable[int], seed: int) -> TypeFeatures:
    """Encode the egos of scenes by every type, and collect their features before the base's trunk.

    Args:
        alliance: with the types.
        types: names of the types; the labels are those of the first one's sensors.
        source: the scenes; every ego must have the sensors of every type, as in the built-in town.
        ticks: indices of the scenes.
        seed: of the cells that are drawn.
    """
    foreground, everywhere = [list[Float64]() for _ in types], [list[Float64]() for _ in types]
    for tick in ticks:
        ego_id = source.outline(tick).ego_id
        frames = [source.agent_frame(tick, ego_id, alliance.agent(name).sensor) for name in types]
        covered = np.all([covered_cells(alliance, name, frame) for name, frame in zip(types, frames, strict=True)], axis=0)
        truth = agent_ground_truth(frames[0], alliance.grid.range_m)
        vehicles = np.flatnonzero(covered & cells_in_boxes(truth.corners.double().numpy(), alliance.grid))
        drawn = keyed_generator(seed, "cells", tick).permutation(np.flatnonzero(covered))[:CELLS_PER_SCENE]
        for place, (name, frame) in enumerate(zip(types, frames, strict=True)):
            features = _encode(alliance, name, frame)
            foreground[place].append(features[vehicles])
            everywhere[place].append(features[drawn])
    joined = [tuple(np.concatenate(parts) for parts in kind) for kind in (foreground, everywhere)]
    return TypeFeatures(tuple(types), *joined)


def _encode(alliance: Alliance, name: str, frame: AgentFrame) -> Float64:
    """Return the aligned features (ny nx, C) of one agent."""
    model = alliance.agent(name)
    with torch.no_grad():
        features = model(model.prepare([frame]))[0]
    flat: Float64 = features.flatten(1).T.double().numpy()
    return flat
