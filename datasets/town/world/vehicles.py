"""Vehicles, cyclists and pedestrians: drawing one, and its mesh.

The frame has x forward and z up. Its origin is on the ground under the middle of the box of the label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Colour, Mesh, box, cylinder, loft, merge, quads
from heal.datasets.town.world.kinds import PEDESTRIAN, VehicleKind, VehicleMix
from heal.datasets.town.world.people import CLOTHES, cyclist_mesh, fitted, pedestrian_mesh
from heal.types import Float64

DARK: Colour = (0.03, 0.03, 0.035)
GLASS: Colour = (0.04, 0.05, 0.06)
_PERSON_MARGIN_M = 0.05  # from a person's body to the sides of the label's box


_PAINTS: tuple[Colour, ...] = (
    (0.80, 0.80, 0.80),
    (0.75, 0.76, 0.78),
    (0.45, 0.46, 0.48),
    (0.16, 0.17, 0.18),
    (0.03, 0.03, 0.035),
    (0.42, 0.03, 0.03),
    (0.04, 0.10, 0.35),
    (0.05, 0.20, 0.22),
    (0.50, 0.42, 0.28),
    (0.55, 0.22, 0.03),
)


@dataclass(frozen=True)
class VehicleSpec:
    """One vehicle or person: the kind, the label's sizes and the body's distance from them in metres, and the paint or coat."""

    kind: VehicleKind
    length_m: float
    width_m: float
    height_m: float
    paint: Colour
    margin_m: float = 0.0

    @property
    def size_m(self) -> Float64:
        """Length, width and height (3,) in metres."""
        return np.array([self.length_m, self.width_m, self.height_m])

    @property
    def body(self) -> VehicleSpec:
        """The vehicle with the sizes of its body; the mirrors reach a little further to the sides."""
        m = self.margin_m
        return replace(self, length_m=self.length_m - 2 * m, width_m=self.width_m - 2 * m, height_m=self.height_m - m / 2)


def draw_vehicle(rng: np.random.Generator, mix: VehicleMix, agent: bool = False, small: bool = False) -> VehicleSpec:
    """Draw a vehicle.

    Args:
        rng: random numbers.
        mix: the kinds of vehicles.
        agent: draw only kinds that can carry sensors.
        small: draw only kinds that fit a parking place.
    """
    kinds = [kind for kind in mix.kinds if (kind.can_carry_sensors or not agent) and (not small or _can_park(kind))]
    shares = np.array([kind.share for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    paint = np.clip(np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.8, 1.2), 0.01, 0.9)
    sizes = [float(rng.uniform(*span)) for span in (kind.length_m, kind.width_m, kind.height_m)]
    colour = float(paint[0]), float(paint[1]), float(paint[2])
    return VehicleSpec(kind, sizes[0], sizes[1], sizes[2], colour, mix.margin_m)


def _can_park(kind: VehicleKind) -> bool:
    return kind.is_vehicle and kind.length_m[1] <= 6.0


def draw_pedestrian(rng: np.random.Generator) -> VehicleSpec:
    """Draw a pedestrian."""
    sizes = [float(rng.uniform(*span)) for span in (PEDESTRIAN.length_m, PEDESTRIAN.width_m, PEDESTRIAN.height_m)]
    return VehicleSpec(PEDESTRIAN, sizes[0], sizes[1], sizes[2], CLOTHES[int(rng.integers(len(CLOTHES)))], _PERSON_MARGIN_M)


def vehicle_mesh(spec: VehicleSpec) -> Mesh:
    """Make the mesh of a vehicle or person in its own frame."""
    if not spec.kind.is_vehicle:
        return _person_mesh(spec)
    spec = spec.body
    if spec.kind.name == "bus":
        parts = _bus(spec)
    elif spec.kind.name == "truck":
        parts = _truck(spec)
    else:
        parts = [_deck(spec), *_cabin(spec), *_lamps(spec, _deck_height(spec, 0.012), _deck_height(spec, 0.985))]
    return merge([*parts, *_wheels(spec)])


def _person_mesh(spec: VehicleSpec) -> Mesh:
    """Make the mesh of a cyclist or a pedestrian; equal sizes give equal meshes."""
    rng = np.random.default_rng(round(1e6 * spec.height_m))
    legs = CLOTHES[int(rng.integers(len(CLOTHES)))]
    size = spec.size_m - [2 * _PERSON_MARGIN_M, 2 * _PERSON_MARGIN_M, _PERSON_MARGIN_M / 2]
    if spec.kind.object_type == "cyclist":
        return fitted(cyclist_mesh(0.03, spec.paint, legs, rng), size)
    return fitted(pedestrian_mesh(spec.height_m, 0.0, (spec.length_m - 0.4) / 2, spec.paint, legs, rng), size)


def _deck_height(spec: VehicleSpec, position: float) -> float:
    """Return the height in metres of the lower body at a position in [0, 1] from front to rear."""
    places, heights = zip(*spec.kind.deck, strict=True)
    return float(np.interp(position, places, heights)) * spec.height_m


def _ring(x: float, half_width: float, bottom: float, top: float, chamfer: float) -> Float64:
    """Return a cross-section (8, 3) at `x`: a rectangle with cut corners."""
    low, c = min(0.08, 0.2 * (top - bottom)), min(chamfer, 0.4 * (top - bottom))
    y = half_width
    points = [
        (-y + low, bottom),
        (y - low, bottom),
        (y, bottom + low),
        (y, top - c),
        (y - 0.7 * c, top),
        (-y + 0.7 * c, top),
        (-y, top - c),
        (-y, bottom + low),
    ]
    return np.array([(x, *point) for point in points])


def _deck(spec: VehicleSpec) -> Mesh:
    """Make the lower body, from bumper to bumper."""
    rings = []
    for place, height in spec.kind.deck:
        end = min(place, 1 - place)
        taper = 1.0 - 0.10 * max(0.0, 1 - end / 0.06) ** 2
        x = (0.5 - place) * spec.length_m
        rings.append(_ring(x, spec.width_m / 2 * taper, 0.20 + 0.10 * max(0.0, 1 - end / 0.08), height * spec.height_m, 0.14))
    body = loft(np.array(rings), Material.PAINT, spec.paint)
    sill = box((0, 0, 0.22), (0.86 * spec.length_m, 0.97 * spec.width_m, 0.14), Material.TRIM, DARK)
    return merge([body, sill])


def _cabin(spec: VehicleSpec) -> list[Mesh]:
    """Make the cabin: four leaning sides with windows, a slightly arched roof, and the mirrors."""
    assert spec.kind.cabin is not None
    foot_front, roof_front, roof_rear, foot_rear = ((0.5 - place) * spec.length_m for place in spec.kind.cabin)
    lower = _deck_height(spec, sum(spec.kind.cabin) / 4) - 0.04
    half, half_top = spec.width_m / 2 * 0.96, spec.width_m / 2 * 0.76
    foot = _rectangle(foot_front, foot_rear, half, lower)
    roof = _rectangle(roof_front, roof_rear, half_top, spec.height_m - 0.03)
    middle = roof.mean(axis=0) * [1, 1, 0] + [0, 0, spec.height_m]
    crown = middle + 0.8 * (roof - middle) * [1, 1, 0]
    # Windscreen, right side, rear window, left side: each from corner to next corner.
    sides = [np.stack([foot[a], foot[b], roof[b], roof[a]]) for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))]
    edges = [np.stack([roof[a], roof[b], crown[b], crown[a]]) for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))]
    shell = quads(np.array([*sides, *edges, crown]), Material.PAINT, spec.paint)
    return [shell, *_windows(sides, spec), *_mirrors(foot_front, half, lower, spec)]


def _rectangle(front: float, rear: float, half_width: float, z: float) -> Float64:
    """Return the corners (4, 3) of a horizontal rectangle: front left, front right, rear right, rear left."""
    return np.array([(front, -half_width, z), (front, half_width, z), (rear, half_width, z), (rear, -half_width, z)])


def _windows(sides: list[Float64], spec: VehicleSpec) -> list[Mesh]:
    """Make the panes a centimetre outside the cabin's faces: windscreen, rear window, and panes between pillars on either side."""
    solid_rear = spec.kind.name == "van" and spec.paint[0] > 0.4
    panes = [_pane(sides[0], 0.05, 0.95, 0.08, 0.93)]
    if not solid_rear:
        panes.append(_pane(sides[2], 0.07, 0.93, 0.15, 0.9))
    splits = (0.05, 0.47, 0.52, 0.94) if spec.kind.name != "suv" else (0.05, 0.36, 0.40, 0.68, 0.72, 0.94)
    for face, mirrored in ((sides[1], False), (sides[3], True)):
        for start, end in zip(splits[::2], splits[1::2], strict=True):
            if solid_rear and start > 0.4:
                continue
            a, b = (1 - end, 1 - start) if mirrored else (start, end)
            panes.append(_pane(face, a, b, 0.12, 0.88))
    return [quads(np.array(panes), Material.GLASS, GLASS)]


def _pane(face: Float64, left: float, right: float, low: float, high: float) -> Float64:
    """Return a part (4, 3) of a face (4, 3), given by shares of the face's width and height, 12 mm in front of the face."""
    bottom, top = face[1] - face[0], face[2] - face[3]

    def point(s: float, t: float) -> Float64:
        return np.asarray((face[0] + s * bottom) * (1 - t) + (face[3] + s * top) * t)

    normal = np.cross(face[2] - face[0], face[3] - face[1])
    normal = normal / np.linalg.norm(normal)
    outward = normal if normal @ (face.mean(axis=0) - [0, 0, face[:, 2].min()]) > 0 else -normal
    pane: Float64 = np.stack([point(left, low), point(right, low), point(right, high), point(left, high)]) + 0.012 * outward
    return pane


def _mirrors(x: float, half: float, z: float, spec: VehicleSpec) -> list[Mesh]:
    return [box((x - 0.35, side * (half + 0.08), z + 0.12), (0.14, 0.2, 0.14), Material.PAINT, spec.paint) for side in (-1, 1)]


def _lamps(spec: VehicleSpec, front_top: float, rear_top: float) -> list[Mesh]:
    """Make head and tail lamps, number plates and grilles; `front_top` and `rear_top` are heights of the body's ends in metres."""
    x, w = spec.length_m / 2, spec.width_m
    parts = []
    for side in (-1, 1):
        parts.append(
            box((x - 0.06, side * 0.34 * w, front_top - 0.10), (0.16, 0.22 * w, 0.13), Material.LAMP_FRONT, (0.9, 0.9, 0.85))
        )
        parts.append(
            box((-x + 0.06, side * 0.35 * w, rear_top - 0.10), (0.16, 0.20 * w, 0.16), Material.LAMP_REAR, (0.6, 0.02, 0.02))
        )
    parts.append(box((x - 0.015, 0, 0.52), (0.05, 0.50, 0.12), Material.PLATE, (0.9, 0.9, 0.9)))
    parts.append(box((-x + 0.015, 0, 0.62), (0.05, 0.50, 0.12), Material.PLATE, (0.9, 0.9, 0.9)))
    parts.append(box((x - 0.03, 0, 0.36), (0.08, 0.62 * w, 0.16), Material.TRIM, DARK))
    parts.append(box((-x + 0.03, 0, 0.32), (0.08, 0.8 * w, 0.14), Material.TRIM, DARK))
    return parts


def _wheels(spec: VehicleSpec) -> list[Mesh]:
    radius = 0.48 if spec.length_m > 6.0 else 0.33 + 0.05 * (spec.height_m > 1.6)
    overhang = 0.18 if spec.length_m < 6.0 else 0.2
    wheels = []
    for x in ((0.5 - overhang) * spec.length_m, (-0.5 + overhang) * spec.length_m):
        for side in (-1.0, 1.0):
            pose = np.diag([side, side, 1.0, 1.0])
            pose[:3, 3] = [x, side * (spec.width_m / 2 - 0.11), radius]
            wheels.append(_wheel(radius).moved(pose))
    return wheels


@lru_cache
def _wheel(radius: float) -> Mesh:
    """Make a wheel at the origin whose outer side is at y = +0.12."""
    tyre = cylinder((0, -0.12, 0), (0, 0.12, 0), radius, Material.TYRE, (0.02, 0.02, 0.02), 14)
    return merge([tyre, cylinder((0, 0, 0), (0, 0.128, 0), 0.58 * radius, Material.HUB, (0.30, 0.30, 0.32), 10)])


def _bus(spec: VehicleSpec) -> list[Mesh]:
    x, half = spec.length_m / 2, spec.width_m / 2
    rings = [
        _ring(place, half * taper, 0.3, spec.height_m * rise, 0.18)
        for place, taper, rise in ((x, 0.96, 0.97), (x - 0.15, 1, 1), (-x + 0.15, 1, 1), (-x, 0.96, 0.97))
    ]
    low, high = 0.42 * spec.height_m, 0.86 * spec.height_m
    panes = [_upright_pane(x, half, -0.9 * half, 0.9 * half, low - 0.3, high, front=True)]
    count = int(spec.length_m // 1.5)
    for side in (-1, 1):
        for n in range(count):
            start = x - 0.5 - (n + 0.04) * (spec.length_m - 1.0) / count
            end = start - 0.92 * (spec.length_m - 1.0) / count
            y = side * (half + 0.012)
            panes.append(np.array([(start, y, low), (end, y, low), (end, y, high), (start, y, high)]))
    return [
        loft(np.array(rings), Material.PAINT, spec.paint),
        quads(np.array(panes), Material.GLASS, GLASS),
        *_lamps(spec, 0.34 * spec.height_m, 0.34 * spec.height_m),
    ]


def _truck(spec: VehicleSpec) -> list[Mesh]:
    """Make a cab, and a cargo box that is wider and higher."""
    x, half, cab = spec.length_m / 2, spec.width_m / 2, 1.9
    cab_top = min(2.5, 0.85 * spec.height_m)
    rings = [
        _ring(place, 0.94 * half * taper, 0.35, top, 0.15)
        for place, taper, top in (
            (x, 0.95, 0.52 * cab_top),
            (x - 0.1, 1, 0.6 * cab_top),
            (x - 0.35, 1, cab_top),
            (x - cab, 1, cab_top),
        )
    ]
    low, high = 0.58 * cab_top, 0.9 * cab_top
    screen = np.array(
        [(x - 0.1, -0.8 * half, low), (x - 0.1, 0.8 * half, low), (x - 0.28, 0.78 * half, high), (x - 0.28, -0.78 * half, high)]
    )
    panes = [screen + np.array([0.03, 0, 0.01])]
    panes += [
        np.array([(x - 0.45, y, low), (x - 1.4, y, low), (x - 1.4, y, high), (x - 0.5, y, high)])
        for y in (-0.95 * half, 0.95 * half)
    ]
    body_length = spec.length_m - cab - 0.15
    body = box(
        (-x + body_length / 2, 0, (0.95 + spec.height_m) / 2),
        (body_length, spec.width_m, spec.height_m - 0.95),
        Material.PAINT,
        (0.75, 0.75, 0.72),
    )
    chassis = box((0, 0, 0.75), (spec.length_m - 0.3, 0.8 * spec.width_m, 0.4), Material.TRIM, DARK)
    return [
        loft(np.array(rings), Material.PAINT, spec.paint),
        quads(np.array(panes), Material.GLASS, GLASS),
        body,
        chassis,
        *_lamps(spec, 0.42 * cab_top, 0.95),
    ]


def _upright_pane(x: float, half: float, left: float, right: float, low: float, high: float, front: bool) -> Float64:
    place = x + 0.012 if front else -x - 0.012
    return np.array([(place, left, low), (place, right, low), (place - 0.02, right, high), (place - 0.02, left, high)])
