"""LiDARs of the town: the directions of their rays, and the range and intensity of the returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heal.datasets.town.geometry.materials import LOST_SHARE, REFLECTIVITY, Material
from heal.datasets.town.geometry.mesh import NO_OWNER, Mesh
from heal.datasets.town.geometry.raycast import RayScene
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.sensors.leaves import cast_through_leaves
from heal.datasets.town.sensors.lidar_kinds import LIDARS
from heal.datasets.town.sensors.rain import Returns, returns_in_rain
from heal.types import Float32, Float64, Int64, UInt8


@dataclass(frozen=True)
class LidarUnit:
    """The LiDAR of one agent.

    Attributes:
        elevation_deg: (B,) elevation of each laser line, the topmost line first.
        azimuth_deg: (A,) azimuth of each column, increasing from x to y.
        skew_deg: (B,) angle to add to the azimuths of a line.
        range_m: largest distance.
        noise_m: standard deviation of the distance.
        loss_share: share of the returns lost at random.
        gain: factor on the intensity.
        gamma: exponent on the intensity.
        speckle: standard deviation of the intensity's logarithm from point to point.
        leaf_m: mean length of a ray's way into leaves before it is reflected; 0 for solid crowns and hedges.
    """

    elevation_deg: Float64
    azimuth_deg: Float64
    skew_deg: Float64
    range_m: float
    noise_m: float
    loss_share: float
    gain: float
    gamma: float
    speckle: float = 0.0
    leaf_m: float = 0.0

    @property
    def beams(self) -> int:
        """Number of laser lines."""
        return len(self.elevation_deg)

    @cached_property
    def directions(self) -> Float32:
        """Unit vectors (B * A, 3) of all rays in the sensor's frame, line by line."""
        azimuth = np.radians(self.azimuth_deg[None] + self.skew_deg[:, None])
        elevation = np.radians(np.broadcast_to(self.elevation_deg[:, None], azimuth.shape))
        flat = np.cos(elevation)
        rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)
        return rays.reshape(-1, 3).astype(np.float32)


@dataclass(frozen=True)
class Sweep:
    """The points of one LiDAR sweep.

    Attributes:
        points: (N, 4) float32 x, y, z in metres in the sensor's frame, intensity in [0, 1].
        line: (N,) number of the laser line.
        owner: (N,) id of the vehicle that was hit, or NO_OWNER.
    """

    points: Float32
    line: Int64
    owner: Int64

    def thinned(self, beams: int, lines: int) -> Float32:
        """Return the points of `lines` evenly chosen laser lines out of `beams`; all points if `lines` is at least `beams`."""
        if lines >= beams:
            return self.points
        chosen = np.unique(np.round(np.linspace(0, beams - 1, lines)).astype(np.int64))
        return self.points[np.isin(self.line, chosen)]

    def hits(self) -> dict[int, int]:
        """Return the number of points on each vehicle that was hit, by id."""
        ids, counts = np.unique(self.owner[self.owner != NO_OWNER], return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def draw_lidar(name: str, preset: TownPreset, rng: np.random.Generator) -> LidarUnit:
    """Draw a LiDAR of a kind in LIDARS, with its own noise and scale of intensities; ValueError for an unknown name."""
    if name not in LIDARS:
        raise ValueError(f"unknown LiDAR {name!r}; there are {', '.join(LIDARS)}")
    elevation, azimuth = LIDARS[name].angles(rng)
    columns_apart = float(azimuth[1] - azimuth[0])
    return LidarUnit(
        elevation_deg=elevation,
        azimuth_deg=azimuth,
        skew_deg=rng.uniform(0, columns_apart, len(elevation)),
        range_m=LIDARS[name].range_m,
        noise_m=float(rng.uniform(*preset.range_noise_m)),
        loss_share=float(rng.uniform(*preset.loss_share)),
        gain=float(np.exp(rng.uniform(*np.log(preset.gain)))),
        gamma=float(rng.uniform(*preset.gamma)),
        speckle=preset.speckle,
        leaf_m=preset.leaf_m,
    )


def cast_sweep(
    unit: LidarUnit,
    scene: RayScene,
    mesh: Mesh,
    world_SE3_sensor: Float64,
    rng: np.random.Generator,
    rain_mm_h: float = 0.0,
) -> Sweep:
    """Cast all rays of a LiDAR into the scene and measure the returns.

    Args:
        unit: the LiDAR.
        scene: the triangles, prepared for ray casting.
        mesh: the triangles of `scene`, standing and moving.
        world_SE3_sensor: (4, 4) pose of the LiDAR.
        rng: random numbers for noise and losses; every ray draws the same number of them, with or without a hit.
        rain_mm_h: rate of the rain; 0 for dry weather.
    """
    rays = np.empty((len(unit.directions), 6), np.float32)
    rays[:, :3] = world_SE3_sensor[:3, 3]
    rays[:, 3:] = unit.directions @ world_SE3_sensor[:3, :3].T.astype(np.float32)
    hits = scene.cast(rays)
    chance = rng.random(len(rays), np.float32)
    spread = rng.standard_normal(len(rays), np.float32)
    if unit.leaf_m > 0:
        hits = cast_through_leaves(hits, scene, mesh, rays, unit.leaf_m, rng)
    ray = np.flatnonzero(hits.distance < unit.range_m)
    triangle, distance = hits.triangle[ray], hits.distance[ray]
    material = mesh.material[triangle]
    facing = _facing(mesh, triangle, rays[ray, 3:])
    kept = chance[ray] > _loss_probability(unit, material, facing, distance)
    ray, triangle, distance, material, facing = ray[kept], triangle[kept], distance[kept], material[kept], facing[kept]
    measured = distance + unit.noise_m * spread[ray]
    intensity = _intensity(unit, mesh, triangle, material, facing, distance) * (1 + 0.1 * (chance[ray] - 0.5))
    if unit.speckle > 0:
        intensity *= np.exp(unit.speckle * rng.standard_normal(len(unit.directions), np.float32)[ray])
    returns = Returns(ray, measured, intensity, mesh.owner[triangle].astype(np.int64))
    if rain_mm_h > 0:
        returns = returns_in_rain(returns, material, facing, hits.distance, rain_mm_h, rng)
    return _sweep_of(unit, returns)


def _sweep_of(unit: LidarUnit, returns: Returns) -> Sweep:
    """Turn returns into points in the sensor's frame."""
    shown = np.clip(returns.intensity, 0, 1)[:, None]
    points = np.concatenate([unit.directions[returns.ray] * returns.distance[:, None], shown], axis=1)
    return Sweep(points.astype(np.float32), returns.ray // len(unit.azimuth_deg), returns.owner)


def _facing(mesh: Mesh, triangle: Int64, direction: Float32) -> Float32:
    """Return the absolute cosine (N,) between ray and surface normal; 1 for a ray perpendicular to the surface."""
    normal = mesh.normals[mesh.triangles[triangle, 0]]
    facing: Float32 = np.abs(np.einsum("nd,nd->n", normal, direction))
    return facing


def _loss_probability(unit: LidarUnit, material: UInt8, facing: Float32, distance: Float32) -> Float32:
    """Return the probability (N,) that a return is not detected; it is high for glass and for grazed, dark and far surfaces."""
    far = np.clip(distance / 120.0, 0.0, 1.5)
    weak = np.clip(1.0 - REFLECTIVITY[material] * (0.3 + facing) * 4.0, 0.0, 1.0) * far * far
    grazing = 0.5 * np.clip(1.0 - facing / 0.04, 0.0, 1.0)
    lost: Float32 = np.minimum(LOST_SHARE[material] + unit.loss_share + 0.6 * weak + grazing, 0.97).astype(np.float32)
    return lost


def _intensity(
    unit: LidarUnit,
    mesh: Mesh,
    triangle: Int64,
    material: UInt8,
    facing: Float32,
    distance: Float32,
) -> Float32:
    """Return the measured intensity (N,) before it is clipped at 1."""
    reflectivity = REFLECTIVITY[material].copy()
    painted = np.flatnonzero(material == Material.PAINT)
    reflectivity[painted] *= 0.3 + 0.9 * mesh.tint[triangle[painted]].mean(axis=1)
    returned = reflectivity * (0.35 + 0.65 * facing) * np.exp(-distance / 160.0)
    intensity: Float32 = (unit.gain * returned**unit.gamma).astype(np.float32)
    return intensity
