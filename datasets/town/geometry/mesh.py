"""Triangle meshes with the properties that sensors need, and the basic shapes of the town."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from heal.datasets.town.geometry.materials import Material
from heal.se3 import transform_points
from heal.types import Float32, Float64

NO_OWNER = -1
_CREASE = 0.6  # cosine: facets that meet at more than 53 degrees keep a sharp edge
Colour = tuple[float, float, float]
_QUAD_TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])
# Signs of (x, y, z) at the corners of a box's six faces, in order around each face, bottom edge first; the last face is the bottom.
_BOX_FACES = np.array(
    [
        [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],
        [[1, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]],
        [[-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]],
        [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],
        [[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
        [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [1, -1, -1]],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True)
class Mesh:
    """A set of triangles.

    Attributes:
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) uint32, indices of vertices.
        texcoord: (V, 2) float32, metres along the surface; on the ground, map coordinates.
        normals: (V, 3) float32, unit vectors; equal at the three corners of a flat face.
        material: (T,) uint8, a `Material`.
        tint: (T, 3) float32, linear RGB in [0, 1].
        style: (T,) uint16, a parameter of the texture: a facade's pattern, or a block's number.
        owner: (T,) int32, id of the triangle's vehicle, or NO_OWNER.
    """

    vertices: Float32
    triangles: npt.NDArray[np.uint32]
    texcoord: Float32
    normals: Float32
    material: npt.NDArray[np.uint8]
    tint: Float32
    style: npt.NDArray[np.uint16]
    owner: npt.NDArray[np.int32]

    def moved(self, world_SE3_mesh: Float64) -> Mesh:
        """Return the mesh moved by a rigid transform (4, 4)."""
        vertices = transform_points(world_SE3_mesh, self.vertices.astype(np.float64)).astype(np.float32)
        normals = (self.normals @ world_SE3_mesh[:3, :3].T).astype(np.float32)
        return replace(self, vertices=vertices, normals=normals)

    def scaled(self, factor: float) -> Mesh:
        """Return the mesh scaled by a factor about the origin."""
        return replace(self, vertices=self.vertices * np.float32(factor))

    def owned_by(self, owner: int) -> Mesh:
        """Return the mesh as a part of the vehicle with id `owner`."""
        return replace(self, owner=np.full(len(self.triangles), owner, np.int32))


def up(height_m: float) -> Float64:
    """Return the upward vector (3,) of a height."""
    return np.array([0.0, 0.0, height_m])


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Join meshes to one mesh; the triangles keep their order."""
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + np.uint32(offset) for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        triangles=np.concatenate(triangles),
        texcoord=np.concatenate([mesh.texcoord for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        material=np.concatenate([mesh.material for mesh in meshes]),
        tint=np.concatenate([mesh.tint for mesh in meshes]),
        style=np.concatenate([mesh.style for mesh in meshes]),
        owner=np.concatenate([mesh.owner for mesh in meshes]),
    )


def quads(
    corners: Float64,
    material: Material,
    tint: Colour | Float64 = (0.5, 0.5, 0.5),
    texcoord: Float64 | None = None,
    normals: Float64 | None = None,
    style: int = 0,
) -> Mesh:
    """Make separate faces of four corners, each of two triangles.

    Args:
        corners: (Q, 4, 3) metres, in order around each face, beginning with the bottom edge.
        material: material of all faces.
        tint: one colour for all faces, or (Q, 3).
        texcoord: (Q, 4, 2) texture coordinates, or None for metres from the first corner.
        normals: (Q, 4, 3) unit vectors, or None for flat faces.
        style: texture parameter of all faces.
    """
    count = len(corners)
    width = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    height = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)
    if texcoord is None:
        zero = np.zeros(count)
        texcoord = np.stack([np.stack([zero, width, width, zero], 1), np.stack([zero, zero, height, height], 1)], axis=2)
    if normals is None:
        flat = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12
        normals = np.repeat(flat[:, None], 4, axis=1)
    triangles = (np.arange(count)[:, None, None] * 4 + _QUAD_TRIANGLES).reshape(-1, 3)
    colours = np.broadcast_to(np.asarray(tint, np.float32), (count, 3))
    return Mesh(
        vertices=corners.reshape(-1, 3).astype(np.float32),
        triangles=triangles.astype(np.uint32),
        texcoord=texcoord.reshape(-1, 2).astype(np.float32),
        normals=normals.reshape(-1, 3).astype(np.float32),
        material=np.full(2 * count, material, np.uint8),
        tint=np.repeat(colours, 2, axis=0),
        style=np.full(2 * count, style, np.uint16),
        owner=np.full(2 * count, NO_OWNER, np.int32),
    )


def box(centre: npt.ArrayLike, size: npt.ArrayLike, material: Material, tint: Colour, yaw: float = 0.0) -> Mesh:
    """Make a box of (x, y, z) `size` metres, turned by `yaw` radians about its centre; it has no bottom face."""
    corners = _BOX_FACES[:5] * np.asarray(size, np.float64) / 2
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return quads(turned + np.asarray(centre, np.float64), material, tint)


def grid_mesh(points: Float64, texcoord: Float64, material: Material, style: int = 0) -> Mesh:
    """Make a smoothly shaded surface through a grid of points (n, m, 3) with texture coordinates (n, m, 2)."""
    across, along = np.gradient(points, axis=0), np.gradient(points, axis=1)
    normals = np.cross(across, along)
    normals *= np.sign(normals[..., 2:]) / (np.linalg.norm(normals, axis=2, keepdims=True) + 1e-12)

    def cells(values: Float64) -> Float64:
        ring = [values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]]
        return np.stack(ring, axis=2).reshape(-1, 4, values.shape[2])

    return quads(cells(points), material, texcoord=cells(texcoord), normals=cells(normals), style=style)


def loft(rings: Float64, material: Material, tint: Colour) -> Mesh:
    """Make a surface over cross-sections, closed at both ends; facets that meet at a blunt angle are shaded smoothly.

    Args:
        rings: (n, k, 3) metres: n cross-sections of k points each, in the same order around.
        material: material of the surface.
        tint: colour of the surface.
    """
    after = np.roll(rings, -1, axis=1)
    faces = np.stack([rings[:-1], after[:-1], after[1:], rings[1:]], axis=2)
    side = quads(faces.reshape(-1, 4, 3), material, tint, normals=_round_normals(faces).reshape(-1, 4, 3))
    return merge([side, _cap(rings[0], material, tint), _cap(rings[-1], material, tint)])


def _round_normals(faces: Float64) -> Float64:
    """Return normals (n, k, 4, 3) at the corners of facets (n, k, 4, 3): the mean over adjacent facets with similar normals."""
    flat = np.cross(faces[:, :, 2] - faces[:, :, 0], faces[:, :, 3] - faces[:, :, 1])
    flat /= np.linalg.norm(flat, axis=2, keepdims=True) + 1e-12
    padded = np.concatenate([flat[:1], flat, flat[-1:]])
    shifted = {(i, j): np.roll(padded[1 + i : len(padded) - 1 + i], -j, axis=1) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    similar = {key: near * ((near * flat).sum(axis=2, keepdims=True) > _CREASE) for key, near in shifted.items()}
    corners = [similar[0, 0] + similar[i, 0] + similar[0, j] + similar[i, j] for i, j in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    total = np.stack(corners, axis=2)
    normals: Float64 = total / (np.linalg.norm(total, axis=3, keepdims=True) + 1e-12)
    return normals


def _cap(ring: Float64, material: Material, tint: Colour) -> Mesh:
    """Make the end face of a loft: a convex polygon (k, 3) as a fan of quads."""
    middle, count = np.arange(1, len(ring) - 1, 2), len(ring)
    fan = np.stack([np.zeros_like(middle), middle, middle + 1, np.minimum(middle + 2, count - 1)], axis=1)
    normal = np.cross(ring[1] - ring[0], ring[2] - ring[0])
    normal = normal / (np.linalg.norm(normal) + 1e-12)
    corners = ring[fan]
    return quads(corners, material, tint, normals=np.broadcast_to(normal, corners.shape))


def cylinder(bottom: npt.ArrayLike, top: npt.ArrayLike, radius: float, material: Material, tint: Colour, sides: int = 8) -> Mesh:
    """Make a cylinder between two points, closed at both ends; the radius is in metres."""
    start, end = np.asarray(bottom, np.float64), np.asarray(top, np.float64)
    axis = (end - start) / np.linalg.norm(end - start)
    helper = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.9 else np.array([0, 1.0, 0])
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    ring = radius * (np.cos(angles) * first + np.sin(angles) * second)
    return loft(np.stack([start + ring, end + ring]), material, tint)


def ellipsoid(centre: npt.ArrayLike, radii: npt.ArrayLike, material: Material, tint: Colour, rng: np.random.Generator) -> Mesh:
    """Make an ellipsoid with random bumps, such as the leaves of a tree; `radii` are three lengths in metres."""
    latitudes = np.radians([-80.0, -45.0, -10.0, 25.0, 55.0, 82.0])
    longitudes = np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 1)
    lat, lon = np.meshgrid(latitudes, longitudes, indexing="ij")
    unit = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=2)
    bumps = rng.uniform(0.78, 1.12, (*lat.shape, 1))
    return loft(unit * bumps * np.asarray(radii, np.float64) + np.asarray(centre, np.float64), material, tint)
