"""Features of several agent types in two dimensions: by their principal components, or by t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from heal.errors import UserError, require_package
from heal.seeding import keyed_generator
from heal.types import Float64

Kind = Literal["pca", "tsne"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# t-SNE compares all pairs of points.
MOST_POINTS = 400
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Projection:
    """Points in two dimensions.

    Attributes:
        kind: how they were found.
        points: per agent type (N, 2).
        explained: the shares of the variance in both directions, for principal components.
    """

    kind: Kind
    points: tuple[Float64, ...]
    explained: tuple[float, float] | None


def require_kind(kind: str) -> Kind:
    """Return the kind of projection of a name; UserError if there is none, or if its package is not installed."""
    if kind not in KINDS:
        raise UserError(f"--projection {kind}: expected one of {', '.join(KINDS)}")
    if kind == "tsne":
        require_package("sklearn", "analysis", "--projection tsne")
    return kind


def project(features: Sequence[Float64], kind: Kind, seed: int) -> Projection | None:
    """Project the features (N, C) of several types at the same N cells, of which some are drawn if there are many.

    Returns:
        The projection; None with fewer than three points.
    """
    cells = len(features[0])
    drawn = keyed_generator(seed, "projected").permutation(cells)[:MOST_POINTS]
    joined = np.concatenate([part[drawn] for part in features])
    if len(joined) < 3:
        return None
    points, explained = _components(joined) if kind == "pca" else (_neighbours(joined, seed), None)
    return Projection(kind, tuple(np.split(points, len(features))), explained)


def _components(features: Float64) -> tuple[Float64, tuple[float, float]]:
    """Return the coordinates (N, 2) along the two directions of the largest variance, and their shares of it."""
    centred = features - features.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    points = np.zeros((len(features), 2))
    width = min(2, len(sizes))
    points[:, :width] = left[:, :width] * sizes[:width]
    first, second = [*shares[:2].tolist(), 0.0][:2]
    return points, (first, second)


def _neighbours(features: Float64, seed: int) -> Float64:
    """Return coordinates (N, 2) that keep neighbours together."""
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    points: Float64 = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    return points.astype(np.float64)
