"""Rays into triangles: the one place that uses Open3D.

Triangle numbers that are returned index the mesh that holds both what stands and what moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.town.geometry.mesh import Mesh
from heal.types import Float32, Int64


@dataclass(frozen=True)
class Hits:
    """What N rays hit.

    Attributes:
        distance: (N,) float32 in lengths of the ray's direction, inf where nothing was hit.
        triangle: (N,) int64, -1 where nothing was hit.
        barycentric: (N, 2) float32, weights of the triangle's second and third corner.
    """

    distance: Float32
    triangle: Int64
    barycentric: Float32


class RayMesh:
    """A mesh prepared for rays; costs some 50 ms for 100k triangles."""

    def __init__(self, mesh: Mesh) -> None:
        """Build the search tree."""
        import open3d as o3d

        self._scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(_tensor(mesh.vertices), _tensor(mesh.triangles))

    def cast(self, rays: Float32, threads: int = 1) -> dict[str, Any]:
        """First hits of rays (N, 6): origin, direction."""
        found: dict[str, Any] = self._scene.cast_rays(_tensor(rays), nthreads=threads)
        return {key: found[key].numpy() for key in ("t_hit", "primitive_ids", "primitive_uvs")}

    def blocked(self, rays: Float32, threads: int = 1) -> npt.NDArray[np.bool_]:
        """(N,) whether anything lies on the rays."""
        found = self._scene.test_occlusions(_tensor(rays), nthreads=threads)
        return np.asarray(found.numpy(), dtype=np.bool_)


@dataclass(frozen=True)
class RayScene:
    """What stands (built once for a town) and what moves (built anew at each tick), `standing_count` triangles in the former."""

    standing: RayMesh
    moving: RayMesh
    standing_count: int

    def cast(self, rays: Float32, threads: int = 1) -> Hits:
        """First hits of rays (N, 6) in either."""
        still, moved = self.standing.cast(rays, threads), self.moving.cast(rays, threads)
        distance = still["t_hit"]
        triangle = still["primitive_ids"].astype(np.int64)
        triangle[~np.isfinite(distance)] = -1
        barycentric = still["primitive_uvs"]
        closer = np.flatnonzero(moved["t_hit"] < distance)
        distance[closer] = moved["t_hit"][closer]
        triangle[closer] = moved["primitive_ids"][closer].astype(np.int64) + self.standing_count
        barycentric[closer] = moved["primitive_uvs"][closer]
        return Hits(distance, triangle, barycentric)

    def blocked(self, rays: Float32, threads: int = 1) -> npt.NDArray[np.bool_]:
        """(N,) whether anything lies on the rays (N, 6)."""
        return self.standing.blocked(rays, threads) | self.moving.blocked(rays, threads)


def _tensor(array: npt.NDArray[Any]) -> Any:
    import open3d as o3d

    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(array))
