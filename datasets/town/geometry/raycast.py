"""Cast rays into triangle meshes with Open3D.

The returned triangle numbers index the merged mesh of the town: the standing triangles first, then the moving ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.town.geometry.mesh import Mesh
from heal.errors import UserError, require_package
from heal.types import Float32, Int64


@dataclass(frozen=True)
class Hits:
    """First hits of N rays.

    Attributes:
        distance: (N,) distance in lengths of the ray's direction; inf without a hit.
        triangle: (N,) number of the triangle; -1 without a hit.
        barycentric: (N, 2) weights of the triangle's second and third corner.
    """

    distance: Float32
    triangle: Int64
    barycentric: Float32


class RayMesh:
    """A mesh prepared for ray casting; preparing 100k triangles takes about 50 ms."""

    def __init__(self, mesh: Mesh) -> None:
        """Build the search tree over the triangles of a mesh; UserError if Open3D, which does it, cannot be loaded."""
        require_package("open3d", "town", "the town")
        self._scene = _open3d().t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(_tensor(mesh.vertices), _tensor(mesh.triangles))

    def cast(self, rays: Float32) -> dict[str, Any]:
        """Return the first hits of rays (N, 6), origin and direction: Open3D's arrays t_hit, primitive_ids and primitive_uvs."""
        found: dict[str, Any] = self._scene.cast_rays(_tensor(rays), nthreads=1)
        return {key: found[key].numpy() for key in ("t_hit", "primitive_ids", "primitive_uvs")}

    def blocked(self, rays: Float32) -> npt.NDArray[np.bool_]:
        """Return whether anything lies on each of the rays (N, 6), as (N,)."""
        found = self._scene.test_occlusions(_tensor(rays), nthreads=1)
        return np.asarray(found.numpy(), dtype=np.bool_)


@dataclass(frozen=True)
class RayScene:
    """The triangles of a town at one tick, prepared for ray casting.

    Attributes:
        standing: the triangles that do not move, prepared once for a town.
        moving: the moving vehicles, prepared for each tick.
        standing_count: number of triangles in `standing`.
    """

    standing: RayMesh
    moving: RayMesh
    standing_count: int

    def cast(self, rays: Float32) -> Hits:
        """Return the first hits of rays (N, 6), origin and direction, in either mesh."""
        still, moved = self.standing.cast(rays), self.moving.cast(rays)
        distance = still["t_hit"]
        triangle = still["primitive_ids"].astype(np.int64)
        triangle[~np.isfinite(distance)] = -1
        barycentric = still["primitive_uvs"]
        closer = np.flatnonzero(moved["t_hit"] < distance)
        distance[closer] = moved["t_hit"][closer]
        triangle[closer] = moved["primitive_ids"][closer].astype(np.int64) + self.standing_count
        barycentric[closer] = moved["primitive_uvs"][closer]
        return Hits(distance, triangle, barycentric)

    def blocked(self, rays: Float32) -> npt.NDArray[np.bool_]:
        """Return whether anything of either mesh lies on each of the rays (N, 6), as (N,)."""
        return self.standing.blocked(rays) | self.moving.blocked(rays)


def _tensor(array: npt.NDArray[Any]) -> Any:
    return _open3d().core.Tensor.from_numpy(np.ascontiguousarray(array))


def _open3d() -> Any:
    """Import Open3D; UserError if a system library that its wheel needs is missing, as on many servers."""
    try:
        import open3d
    except ImportError as error:
        raise UserError(
            f"the town needs Open3D, and Open3D needs a system library: {error}; on Debian or Ubuntu: "
            "sudo apt-get install libusb-1.0-0 libgl1 libgomp1 libx11-6"
        ) from error
    return open3d
