"""Classes of objects in the town, on a slope: rays hit each at its size, vehicles become labels, files name the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heal.datasets.files import read_yaml
from heal.datasets.open import open_dataset
from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import box, merge
from heal.datasets.town.geometry.raycast import RayMesh, RayScene
from heal.datasets.town.opv2v_writer import write_opv2v
from heal.datasets.town.sensors.lidar import cast_sweep, draw_lidar
from heal.datasets.town.world.kinds import MIXES, OBJECT_CLASSES, VEHICLE_CLASSES
from heal.datasets.town.world.vehicles import draw_pedestrian, draw_vehicle, vehicle_mesh
from heal.se3 import pose_to_SE3

SIZES = {"car": (3.6, 6.0), "truck": (6.0, 9.0), "bus": (10.0, 12.0), "cyclist": (1.7, 2.0), "pedestrian": (0.5, 0.9)}


@pytest.mark.parametrize("name", OBJECT_CLASSES)
def test_rays_hit_every_class_at_its_size(name: str) -> None:
    rng, preset = np.random.default_rng(1), replace(town_preset("test"), range_noise_m=(0.0, 0.0), loss_share=(0.0, 0.0))
    spec = draw_pedestrian(rng)
    while spec.kind.object_class != name:
        spec = draw_vehicle(rng, MIXES["mixed"])
    assert SIZES[name][0] <= spec.length_m <= SIZES[name][1]
    body = vehicle_mesh(spec).owned_by(7)
    far = box((900.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.METAL, (0.5, 0.5, 0.5))
    scene = RayScene(RayMesh(far), RayMesh(body), len(far.triangles))
    seen = []
    for x, y, yaw in ((-9.0, -6.0, 30.0), (9.0, 6.0, 210.0)):
        pose = pose_to_SE3([x, y, 1.6, 0.0, yaw, 0.0])
        sweep = cast_sweep(draw_lidar("spinning128", preset, rng), scene, merge([far, body]), pose, rng)
        assert (sweep.owner == 7).all()
        seen.append(sweep.points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
    points, half = np.concatenate(seen), spec.size_m / 2
    assert (np.abs(points - [0.0, 0.0, half[2]]) < half + 0.05).all(), "no point outside of the box of the label"
    assert (np.ptp(points, axis=0) > [0.85 * spec.length_m - 0.2, 0.7 * spec.width_m, 0.8 * spec.height_m - 0.2]).all()
    assert len(points) > 60


@pytest.fixture(scope="module")
def hillside() -> TownSource:
    """One instant of a small town on a steep slope, with all classes."""
    preset = replace(
        town_preset("slope"),
        streets=2,
        block_m=(44.0, 48.0),
        built_share=(0.0, 0.1),
        parked_share=(0.1, 0.2),
        clutter=(0.1, 0.2),
        moving=(10, 12),
        walkers=(14, 16),
        vehicles=2,
        lidars=("coarse16",),
        roadside_lidars=("coarse16",),
        range_noise_m=(0.0, 0.0),
    )
    return TownSource(preset, 3, 1, "train")


def test_clouds_follow_the_slope_and_boxes_stand_on_it(hillside: TownSource) -> None:
    ground = hillside.town.map.ground
    middle = ground.normal(np.zeros(2))
    assert 4.0 < np.degrees(np.arccos(middle[2])) < 9.5
    for agent_id in hillside.outline(0).agent_ids:
        frame = hillside.agent_frame(0, agent_id)
        world = frame.lidar.points[:, :3] @ frame.world_SE3_agent[:3, :3].T + frame.world_SE3_agent[:3, 3]
        above = world[:, 2] - ground.height(world[:, :2])
        assert above.min() > -0.3 and (np.abs(above) < 0.2).mean() > 0.3
        street = np.abs(above) < 0.2
        assert np.ptp(world[street, 2]) > 3.0, "the ground in the cloud rises by metres"
        objects = hillside.classed_objects(0, agent_id)
        bottoms = objects.world_corners[:, :4].mean(axis=1)
        np.testing.assert_allclose(bottoms[:, 2], ground.height(bottoms[:, :2]), atol=0.2)
        uprights = objects.world_corners[:, 4:].mean(axis=1) - bottoms
        normals = ground.normal(bottoms[:, :2])
        assert (np.sum(uprights * normals, axis=1) > 0.999 * np.linalg.norm(uprights, axis=1)).all()


def test_vehicles_become_labels_and_all_classes_are_reachable(hillside: TownSource) -> None:
    classes = set()
    for agent_id in hillside.outline(0).agent_ids:
        objects, labels = hillside.classed_objects(0, agent_id), hillside.labels(0, agent_id)
        vehicles = [number for number, name in zip(objects.ids.tolist(), objects.classes, strict=True) if name in VEHICLE_CLASSES]
        assert labels.ids.tolist() == vehicles and set(objects.ids.tolist()) == set(hillside.hits(0, agent_id))
        classes |= set(objects.classes)
    assert {"car", "pedestrian", "cyclist"} <= classes <= set(OBJECT_CLASSES)


def test_files_name_the_classes_and_the_reader_takes_the_vehicles(hillside: TownSource, tmp_path: Path) -> None:
    report = write_opv2v(hillside, tmp_path)
    listed = read_yaml(next(tmp_path.rglob("1000/*.yaml")))["vehicles"]
    objects = hillside.classed_objects(0, "1000")
    assert {number: entry["obj_type"] for number, entry in listed.items()} == dict(
        zip(objects.ids.tolist(), objects.classes, strict=True)
    )
    disk = open_dataset(tmp_path, "train")
    assert disk.agent_frame(0, "1000").objects.ids.tolist() == hillside.labels(0, "1000").ids.tolist()
    assert "pedestrian" in str(disk.summary) and report.labelled > 0
