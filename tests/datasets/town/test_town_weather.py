"""Weather and LiDARs by name: rain in clouds and images, night, low sun, and sectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import NO_OWNER, box, merge
from heal.datasets.town.geometry.raycast import RayMesh, RayScene
from heal.datasets.town.sensors.drops import drops_on_lens
from heal.datasets.town.sensors.lamps import KINDS, Lamps, find_lamps, lamp_light
from heal.datasets.town.sensors.lidar import Sweep, cast_sweep, draw_lidar
from heal.datasets.town.sensors.lidar_kinds import LIDARS
from heal.datasets.town.sensors.rain import transmission
from heal.datasets.town.sensors.weather import WEATHERS, draw_weather
from heal.datasets.town.world.kinds import MIXES
from heal.datasets.town.world.vehicles import draw_vehicle, vehicle_mesh


def wall_sweep(rain_mm_h: float) -> Sweep:
    """Return a sweep of 128 lines within walls at 10 m and 60 m, on flat ground, without noise."""
    wall = box((12.0, 0.0, 0.0), (4.0, 12.0, 40.0), Material.WALL, (0.5, 0.5, 0.5)).owned_by(5)
    ground = box((0.0, 0.0, -2.5), (400.0, 400.0, 1.0), Material.ROAD, (0.5, 0.5, 0.5))
    back = box((-62.0, 0.0, 0.0), (4.0, 120.0, 80.0), Material.WALL, (0.5, 0.5, 0.5)).owned_by(6)
    mesh = merge([wall, ground, back])
    preset = replace(town_preset("test"), range_noise_m=(0.0, 0.0), loss_share=(0.0, 0.0))
    unit = draw_lidar("spinning128", preset, np.random.default_rng(0))
    far = box((900.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.METAL, (0.5, 0.5, 0.5))
    scene = RayScene(RayMesh(mesh), RayMesh(far), len(mesh.triangles))
    return cast_sweep(unit, scene, merge([mesh, far]), np.eye(4), np.random.default_rng(1), rain_mm_h)


def test_rain_drops_a_share_of_the_returns_weakens_others_and_adds_near_ones() -> None:
    dry, wet = wall_sweep(0.0), wall_sweep(25.0)
    for owner, distance in ((5, 10.0), (6, 60.0)):
        before, after = (sweep.owner == owner for sweep in (dry, wet))
        expected = float(transmission(np.array([1.1 * distance], np.float32), 25.0)[0])
        assert after.sum() / before.sum() == pytest.approx(expected * 0.99, abs=0.04), f"at {distance} m"
        assert wet.points[after, 3].mean() / dry.points[before, 3].mean() == pytest.approx(expected, abs=0.08)
    away = np.linalg.norm(wet.points[:, :3], axis=1)
    drops = (wet.owner == NO_OWNER) & (away < 1.9)  # nearer than the ground
    assert drops.sum() > 100 and away.min() > 0.79 and (wet.points[drops, 3] < 0.08).all()
    assert np.linalg.norm(dry.points[:, :3], axis=1).min() > 1.99
    assert len(wall_sweep(8.0).points) > len(wet.points), "heavier rain leaves fewer returns"


def test_light_comes_back_through_rain_by_the_formula() -> None:
    # 1.076 * 25 ** 0.67 = 9.30 dB/km; there and back over 100 m: 1.86 dB, a share of 0.652.
    assert float(transmission(np.array([100.0], np.float32), 25.0)[0]) == pytest.approx(0.652, abs=0.002)
    assert float(transmission(np.array([0.0], np.float32), 25.0)[0]) == 1.0


def test_a_sector_lidar_sees_its_sector_alone() -> None:
    town = TownSource("test+lidar=solid_state120+roadside_lidar=roadside120", 2, 1)
    for agent_id, lines in (("1000", 125), ("-1", 128)):
        points = town.sweep(0, agent_id).points
        azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        assert len(points) > 2000 and town.agent(agent_id).lidar.beams == lines
        assert np.abs(azimuth).max() < 61.0 and np.ptp(azimuth) > 96.0


@pytest.mark.parametrize("name", LIDARS)
def test_every_lidar_has_falling_lines_and_even_columns(name: str) -> None:
    elevation, azimuth = LIDARS[name].angles(np.random.default_rng(0))
    assert (np.diff(elevation) < 0).all() and np.ptp(np.diff(azimuth)) < 1e-9
    expected = {"spinning40": 40, "spinning128": 128, "uniform64": 64, "sector300": 300}.get(name, len(elevation))
    assert len(elevation) == expected and np.abs(elevation).max() <= 40.0


def test_equal_seeds_give_equal_drops_and_only_rain_has_them() -> None:
    grey = np.full((60, 80, 3), 0.4, np.float32)
    first, second = (drops_on_lens(grey, 20.0, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert 0.01 < (first != grey).any(axis=2).mean() < 0.6 and first.max() <= 1.0 and (grey == np.float32(0.4)).all()
    rates = {name: draw_weather(np.random.default_rng(0), name).rain_mm_h for name in WEATHERS}
    assert rates.pop("rain") >= 5.0 and set(rates.values()) == {0.0}


def test_lamps_are_found_in_moving_vehicles_and_shine_ahead() -> None:
    car = vehicle_mesh(draw_vehicle(np.random.default_rng(0), MIXES["street"], agent=True))
    lamp = box((0.0, 8.0, 7.0), (0.6, 0.6, 0.12), Material.STREET_LAMP, (0.5, 0.5, 0.5))
    mesh = merge([lamp, car, car])
    street, front, rear = find_lamps(mesh, len(lamp.triangles) + len(car.triangles))
    assert [len(group.position) for group in (street, front, rear)] == [1, 2, 2], "the standing car's lamps are off"
    assert (front.axis[:, 0] > 0.99).all() and (rear.axis[:, 0] < -0.99).all() and street.axis[0, 2] == -1.0
    ahead, behind = np.array([[12.0, 0.0, 0.8]], np.float32), np.array([[-12.0, 0.0, 0.8]], np.float32)
    towards = np.array([[-1.0, 0.0, 0.0]], np.float32)
    assert lamp_light((front,), ahead, towards).sum() > 0.1 and lamp_light((front,), behind, -towards).sum() == 0.0


def test_the_light_of_a_street_lamp_falls_with_the_squared_distance() -> None:
    kind = KINDS[Material.STREET_LAMP]
    lamp = Lamps(kind, np.array([[0.0, 0.0, 7.0]], np.float32), np.array([[0.0, 0.0, -1.0]], np.float32))
    up = np.array([[0.0, 0.0, 1.0]], np.float32)
    below = lamp_light((lamp,), np.array([[0.0, 0.0, 0.0]], np.float32), up)[0]
    np.testing.assert_allclose(below, kind.light / 50.0, rtol=1e-5)  # 1 / (7 ** 2 + 1)
