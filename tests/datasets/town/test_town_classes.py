"""Types of objects in the town, on a slope: rays hit each at its size, wanted classes become labels, files name the types."""

from __future__ import annotations

from copy import copy
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
from heal.datasets.town.world.kinds import MIXES
from heal.datasets.town.world.vehicles import draw_pedestrian, draw_vehicle, vehicle_mesh
from heal.detection.classes import EVERY_TYPE, OBJECT_TYPES, VEHICLES, ObjectClass
from heal.se3 import pose_to_SE3

THREE = tuple(map(ObjectClass.of, ("pedestrian", "vehicle", "cyclist")))
SIZES = {"car": (3.6, 6.0), "truck": (6.0, 9.0), "bus": (10.0, 12.0), "cyclist": (1.7, 2.0), "pedestrian": (0.5, 0.9)}


@pytest.mark.parametrize("name", OBJECT_TYPES)
def test_rays_hit_every_type_at_its_size(name: str) -> None:
    rng, preset = np.random.default_rng(1), replace(town_preset("test"), range_noise_m=(0.0, 0.0), loss_share=(0.0, 0.0))
    spec = draw_pedestrian(rng)
    while spec.kind.object_type != name:
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
    """One instant of a small town on a steep slope, with all types labelled."""
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
    return TownSource(preset, 3, 1, "train", classes=EVERY_TYPE)


def labelling(town: TownSource, classes: tuple[ObjectClass, ...]) -> TownSource:
    """The same built town with labels of other classes."""
    other = copy(town)
    other.classes = classes
    return other


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
        objects = hillside.labels(0, agent_id)
        bottoms = objects.world_corners[:, :4].mean(axis=1)
        np.testing.assert_allclose(bottoms[:, 2], ground.height(bottoms[:, :2]), atol=0.2)
        uprights = objects.world_corners[:, 4:].mean(axis=1) - bottoms
        normals = ground.normal(bottoms[:, :2])
        assert (np.sum(uprights * normals, axis=1) > 0.999 * np.linalg.norm(uprights, axis=1)).all()


def test_the_wanted_classes_become_labels(hillside: TownSource) -> None:
    seen = set()
    people, alone = labelling(hillside, THREE), labelling(hillside, VEHICLES)
    for agent_id in hillside.outline(0).agent_ids:
        every, vehicles = hillside.labels(0, agent_id), alone.labels(0, agent_id)
        assert every.ids.tolist() == sorted(hillside.hits(0, agent_id))
        types = dict(zip(every.ids.tolist(), [OBJECT_TYPES[number] for number in every.classes.tolist()], strict=True))
        assert vehicles.ids.tolist() == [number for number, kind in types.items() if kind in ("car", "truck", "bus")]
        assert not vehicles.classes.any()
        wanted = [{"pedestrian": 0, "cyclist": 2}.get(kind, 1) for kind in types.values()]
        assert people.labels(0, agent_id).classes.tolist() == wanted
        seen |= set(types.values())
    assert {"car", "pedestrian", "cyclist"} <= seen


def test_files_name_the_types_and_the_reader_takes_the_wanted_classes(hillside: TownSource, tmp_path: Path) -> None:
    report = write_opv2v(hillside, tmp_path)
    listed = read_yaml(next(tmp_path.rglob("1000/*.yaml")))["vehicles"]
    objects = hillside.labels(0, "1000")
    types = [OBJECT_TYPES[number] for number in objects.classes.tolist()]
    assert {number: entry["obj_type"] for number, entry in listed.items()} == dict(zip(objects.ids.tolist(), types, strict=True))
    disk = open_dataset(tmp_path, "train", cache=tmp_path / "cache")
    assert disk.agent_frame(0, "1000").objects.ids.tolist() == labelling(hillside, VEHICLES).labels(0, "1000").ids.tolist()
    assert "pedestrian" in str(disk.summary) and report.labelled > 0
    for _ in range(2):  # fills the cache, then reads it
        disk = open_dataset(tmp_path, "train", cache=tmp_path / "cache", classes=THREE)
        read, made = disk.agent_frame(0, "1000").objects, labelling(hillside, THREE).labels(0, "1000")
        assert (read.ids.tolist(), read.classes.tolist()) == (made.ids.tolist(), made.classes.tolist())
        np.testing.assert_allclose(read.world_corners, made.world_corners, atol=1e-6)
        assert disk.scene_objects(0).classes.max() == 2 and "left out" not in str(disk.summary)
