"""Town as real recordings are: rays enter leaves, labels are larger than bodies, and vehicles show which end is the front."""

from dataclasses import replace

import numpy as np
import pytest

from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import box, merge
from heal.datasets.town.geometry.raycast import RayMesh, RayScene
from heal.datasets.town.sensors.leaves import cast_through_leaves
from heal.datasets.town.sensors.lidar import cast_sweep, draw_lidar
from heal.datasets.town.world.blocks import make_blocks
from heal.datasets.town.world.kinds import MIXES
from heal.datasets.town.world.planting import make_planting
from heal.datasets.town.world.streets import make_map
from heal.datasets.town.world.vehicles import VehicleSpec, draw_vehicle, vehicle_mesh

FAR = box((500.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.METAL, (0.5, 0.5, 0.5))


def hedge_and_wall(hedge_m: float = 2.0):
    """Return a hedge from x = 10 on, a wall at x = 20, and rays along x from the origin."""
    hedge = box((10.0 + hedge_m / 2, 0.0, 0.0), (hedge_m, 8.0, 4.0), Material.LEAF, (0.1, 0.2, 0.1))
    mesh = merge([hedge, box((20.5, 0.0, 0.0), (1.0, 8.0, 4.0), Material.WALL, (0.5, 0.5, 0.5)), FAR])
    scene = RayScene(RayMesh(mesh), RayMesh(FAR), len(mesh.triangles))
    rays = np.zeros((4000, 6), np.float32)
    rays[:, 1], rays[:, 2], rays[:, 3] = np.linspace(-2.0, 2.1, len(rays)), np.linspace(-1.0, 1.1, len(rays)), 1.0
    return mesh, scene, rays


def test_rays_are_reflected_inside_a_hedge_or_pass_to_the_wall_behind_it():
    mesh, scene, rays = hedge_and_wall()
    hits = cast_through_leaves(scene.cast(rays), scene, mesh, rays, 1.0, np.random.default_rng(0))
    leaf = mesh.material[hits.triangle] == Material.LEAF
    assert (hits.distance[leaf] > 10.0).all() and (hits.distance[leaf] < 12.0).all()
    np.testing.assert_allclose(hits.distance[~leaf], 20.0, atol=1e-3)
    assert (mesh.material[hits.triangle[~leaf]] == Material.WALL).all()
    assert np.mean(~leaf) == pytest.approx(np.exp(-2.0), abs=0.02), "the share that passes two mean ways of leaves"
    half = (hits.distance[leaf] < 10.0 + np.log(2.0)).mean()
    assert half == pytest.approx(0.5 / (1 - np.exp(-2.0)), abs=0.03)


def test_rays_beside_leaves_are_what_they_were():
    mesh, scene, rays = hedge_and_wall()
    rays[:, 1] += 100.0
    before = scene.cast(rays)
    after = cast_through_leaves(before, scene, mesh, rays, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(before.distance, after.distance)
    np.testing.assert_array_equal(before.triangle, after.triangle)


def test_returns_of_a_sweep_lie_within_leaves_only_if_the_preset_says_so():
    preset, rng = replace(town_preset("test"), range_noise_m=(0.0, 0.0), loss_share=(0.0, 0.0)), np.random.default_rng(0)
    unit = draw_lidar("coarse16", preset, rng)
    mesh, scene, _ = hedge_and_wall()
    behind = {}
    for leaf_m in (0.0, 0.8):
        points = cast_sweep(replace(unit, leaf_m=leaf_m), scene, mesh, np.eye(4), np.random.default_rng(1)).points
        front = points[np.abs(points[:, 1]) < 2.0]
        behind[leaf_m] = ((front[:, 0] > 10.05) & (front[:, 0] < 12.0)).mean()
    assert behind[0.0] == 0.0 and behind[0.8] > 0.5


def test_speckle_spreads_intensities_and_nothing_else():
    unit = draw_lidar("coarse16", town_preset("test"), np.random.default_rng(0))
    mesh, scene, _ = hedge_and_wall()
    plain, noisy = (
        cast_sweep(replace(unit, speckle=speckle), scene, mesh, np.eye(4), np.random.default_rng(1)).points
        for speckle in (0.0, 0.3)
    )
    np.testing.assert_array_equal(plain[:, :3], noisy[:, :3])
    inside = (noisy[:, 3] < 1.0) & (plain[:, 3] > 0)
    assert np.log(noisy[inside, 3] / plain[inside, 3]).std() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("name", ["street", "crossing"])
def test_labels_are_larger_than_bodies_and_hold_them(name):
    mix = MIXES[name]
    for seed in range(20):
        spec = draw_vehicle(np.random.default_rng(seed), mix)
        vertices = vehicle_mesh(spec).vertices
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        half = spec.size_m / 2
        assert half[0] - 0.06 - mix.margin_m <= high[0] <= half[0] - mix.margin_m + 0.08
        assert -half[0] + mix.margin_m - 0.08 <= low[0] <= -half[0] + 0.06 + mix.margin_m
        body = np.sort(np.abs(vertices[:, 1]))[int(0.9 * len(vertices))]
        assert body <= half[1] - mix.margin_m + 0.03
        assert high[2] <= spec.height_m


def profile(spec: VehicleSpec, place: float) -> float:
    """Return the height of a vehicle at a place from its front, as a share of its height: what a ray from above meets."""
    mesh = vehicle_mesh(spec)
    rays = np.array([[(0.5 - place) * spec.length_m, 0.2, 10.0, 0.0, 0.0, -1.0]], np.float32)
    return float(10.0 - RayMesh(mesh).cast(rays)["t_hit"][0]) / spec.height_m


@pytest.mark.parametrize("name", ["street", "crossing"])
def test_vehicles_show_which_end_is_the_front(name):
    kinds = {kind.name: kind for kind in MIXES[name].kinds}
    for kind in ("compact", "sedan", "suv", "van"):
        made = kinds[kind]
        spec = VehicleSpec(made, *(sum(span) / 2 for span in (made.length_m, made.width_m, made.height_m)), (0.5, 0.5, 0.5), 0.1)
        assert profile(spec, 0.1) < profile(spec, 0.9) - 0.1, "the front is lower than the rear"
    plain = next(kind for kind in MIXES["plain"].kinds if kind.name == "sedan")
    spec = VehicleSpec(plain, 4.6, 1.85, 1.46, (0.5, 0.5, 0.5))
    assert profile(spec, 0.1) > profile(spec, 0.9) - 0.1, "the plain sedan hardly differs"


def test_the_crossing_has_one_camera_that_looks_ahead_and_wide_images():
    source = TownSource("crossing", 1, 1)
    width, height = source.preset.image_px
    assert width / height == pytest.approx(1920 / 1080)
    for agent in source.town.agents:
        poses = agent.carrier_SE3_cameras
        assert poses.shape == (1, 4, 4)
        forward = poses[0] @ [1.0, 0.0, 0.0, 0.0]
        assert forward @ agent.carrier_SE3_agent[:, 0] > 0.98, "the camera looks where the agent looks"
    unit = source.town.agents[-1]
    pitch = np.degrees(np.arcsin(unit.carrier_SE3_cameras[0, 2, 0]))
    assert -13 < pitch < -7 and unit.carrier_SE3_cameras[0, 2, 3] > 6.0


def test_belts_and_railings_stand_at_the_crossing_and_not_in_the_demo():
    preset = replace(town_preset("crossing"), belt_share=1.0, railing_share=1.0)
    town = make_map(preset, np.random.default_rng(0))
    blocks = make_blocks(town, preset, np.random.default_rng(1))
    meshes = merge(make_planting(town, blocks, preset, np.random.default_rng(2)))
    assert {Material.LEAF, Material.TRUNK, Material.WALL} <= set(meshes.material.tolist())
    assert make_planting(town, blocks, town_preset("demo"), np.random.default_rng(2)) == []
