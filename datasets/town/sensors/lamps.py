"""Lamps at night: the street lamps and the lamps of moving vehicles, found in the mesh, and their light on surfaces.

Their light passes through obstacles: it reaches so few metres that its missing shadows are hardly seen, and shadow rays of every
lamp would take longer than the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh
from heal.datasets.town.sensors.patterns import float32_triple
from heal.datasets.town.sensors.rows import put_rows, take_rows, tinted
from heal.types import Float32, Int64

_BOX_TRIANGLES = 10  # of a lamp, which is a box without a bottom face
_FRONT_FACE, _REAR_FACE = 0, 4  # numbers of the first triangle of these faces of a box


@dataclass(frozen=True)
class LampKind:
    """A kind of lamp.

    Attributes:
        light: (3,) linear RGB on a surface that faces the lamp at one metre.
        glow: (3,) linear RGB of the lamp itself.
        reach_m: distance beyond which its light is left out.
        power: exponent of the beam: the light falls with the cosine from the beam's axis to this power.
        least_cosine: a surface that the light grazes is lit as if the cosine of light and normal were at least this: it is rough.
    """

    light: Float32
    glow: Float32
    reach_m: float
    power: float
    least_cosine: float


KINDS: dict[Material, LampKind] = {
    Material.STREET_LAMP: LampKind(float32_triple(14.0, 10.2, 6.2), float32_triple(3.0, 2.4, 1.6), 26.0, 1.0, 0.0),
    Material.LAMP_FRONT: LampKind(float32_triple(6.5, 6.4, 6.0), float32_triple(4.0, 3.9, 3.6), 40.0, 10.0, 0.10),
    Material.LAMP_REAR: LampKind(float32_triple(0.22, 0.012, 0.012), float32_triple(0.9, 0.03, 0.03), 6.0, 1.0, 0.1),
}


@dataclass(frozen=True)
class Lamps:
    """The burning lamps of one kind.

    Attributes:
        kind: the kind.
        position: (L, 3) metres in the world frame.
        axis: (L, 3) unit vectors along which the beams are brightest.
    """

    kind: LampKind
    position: Float32
    axis: Float32

    def near(self, eye: Float32, within_m: float) -> Lamps:
        """Return the lamps whose light reaches places within a distance of `eye` (3,)."""
        close = np.linalg.norm(self.position - eye, axis=1) < within_m + self.kind.reach_m
        return Lamps(self.kind, self.position[close], self.axis[close])


def find_lamps(mesh: Mesh, standing_count: int) -> tuple[Lamps, ...]:
    """Find the lamps in a mesh whose first `standing_count` triangles stand still: parked vehicles have their lamps off."""
    moving = np.arange(len(mesh.material)) >= standing_count
    found = []
    for material, kind in KINDS.items():
        of_boxes = np.flatnonzero((mesh.material == material) & (moving | (material == Material.STREET_LAMP)))
        boxes = of_boxes.reshape(-1, _BOX_TRIANGLES)
        middle = mesh.vertices[mesh.triangles[boxes]].mean(axis=(1, 2))
        found.append(Lamps(kind, middle, _axes(mesh, boxes, material)))
    return tuple(found)


def _axes(mesh: Mesh, boxes: Int64, material: Material) -> Float32:
    """Return the axes (L, 3) of the beams: down from a street lamp, ahead from a head lamp, back from a tail lamp."""
    if material == Material.STREET_LAMP:
        return np.tile(float32_triple(0.0, 0.0, -1.0), (len(boxes), 1))
    face = _FRONT_FACE if material == Material.LAMP_FRONT else _REAR_FACE
    axis = mesh.normals[mesh.triangles[boxes[:, face], 0]] - float32_triple(0.0, 0.0, 0.03)
    unit: Float32 = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    return unit


def lamp_light(lamps: tuple[Lamps, ...], position: Float32, normal: Float32) -> Float32:
    """Return the light (N, 3) of lamps on surfaces at positions (N, 3) with unit normals (N, 3)."""
    light = np.zeros(position.shape, np.float32, order="F")
    for group in lamps:
        for place, axis in zip(group.position, group.axis, strict=True):
            x, y, z = (place[k] - position[:, k] for k in range(3))
            squared = x * x + y * y + z * z
            near = np.flatnonzero(squared < group.kind.reach_m**2)
            towards = np.stack([x[near], y[near], z[near]], axis=1) / np.sqrt(squared[near])[:, None]
            facing = np.einsum("nd,nd->n", towards, take_rows(normal, near))
            in_beam = np.clip(-(towards @ axis), 0.0, 1.0) ** np.float32(group.kind.power)
            lit = np.where(facing > -0.05, np.maximum(facing, np.float32(group.kind.least_cosine)), 0.0)
            strength = lit * in_beam / (squared[near] + 1.0)
            put_rows(light, near, take_rows(light, near) + tinted(strength.astype(np.float32), group.kind.light))
    return light


def lamp_glow(mesh: Mesh, triangle: Int64, standing_count: int) -> Float32:
    """Return the light (N, 3) that triangles send out themselves."""
    material, moving = mesh.material[triangle], triangle >= standing_count
    glow = np.zeros((len(triangle), 3), np.float32, order="F")
    for kind, lamp in KINDS.items():
        burning = np.flatnonzero((material == kind) & (moving | (kind == Material.STREET_LAMP)))
        put_rows(glow, burning, tinted(np.ones(len(burning), np.float32), lamp.glow))
    return glow
