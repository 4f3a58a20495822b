"""Rays of a LiDAR in leaves: crowns and hedges are clouds of leaves, which reflect a ray somewhere inside or let it pass."""

from __future__ import annotations

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh
from heal.datasets.town.geometry.raycast import Hits, RayScene
from heal.types import Float32, Int64

_SURFACES = 6  # of leaves that a ray passes; the last one reflects it
_STEP_M = 0.005  # a ray goes on this far behind a surface that it passed


def cast_through_leaves(hits: Hits, scene: RayScene, mesh: Mesh, rays: Float32, leaf_m: float, rng: np.random.Generator) -> Hits:
    """Return where rays are reflected that enter leaves: after an exponentially distributed way, or at a surface behind the leaves.

    The space behind a surface of leaves that faces the ray is full of leaves up to the next surface; behind a surface that faces
    away it is empty.

    Args:
        hits: the first hits of the rays.
        scene: the triangles, prepared for ray casting.
        mesh: the triangles of `scene`.
        rays: (N, 6) origin and unit direction.
        leaf_m: mean way in leaves in metres.
        rng: random numbers; every ray draws the same number of them.
    """
    ways = leaf_m * rng.standard_exponential((_SURFACES, len(rays)), np.float32)
    distance, triangle, barycentric = hits.distance.copy(), hits.triangle.copy(), hits.barycentric.copy()
    inside = np.arange(len(rays))
    for way in ways:
        inside = inside[(triangle[inside] >= 0) & (mesh.material[triangle[inside]] == Material.LEAF)]
        if len(inside) == 0:
            break
        onward = rays[inside].copy()
        onward[:, :3] += onward[:, 3:] * (distance[inside] + _STEP_M)[:, None]
        behind = scene.cast(onward)
        entering = _faces(mesh, triangle[inside], onward[:, 3:])
        reflected = entering & (way[inside] < behind.distance)
        distance[inside[reflected]] += way[inside[reflected]]
        passing = inside[~reflected]
        distance[passing] += _STEP_M + behind.distance[~reflected]
        triangle[passing], barycentric[passing] = behind.triangle[~reflected], behind.barycentric[~reflected]
        inside = passing
    return Hits(distance, triangle, barycentric)


def _faces(mesh: Mesh, triangle: Int64, direction: Float32) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether triangles face rays of directions (N, 3), as (N,)."""
    normal = mesh.normals[mesh.triangles[triangle, 0]]
    return np.asarray(np.einsum("nd,nd->n", normal, direction) < 0)
