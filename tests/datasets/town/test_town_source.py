"""The town as a source of scenes: deterministic, with LiDAR points on surfaces and labels by OPV2V's rule."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.sensors.lidar import draw_lidar
from heal.detection.points import points_in_boxes
from heal.detection.visibility import scene_visibility
from heal.se3 import inverse_SE3, transform_points
from heal.types import SensorChoice, load_scene


@pytest.fixture(scope="module")
def town():
    return TownSource("test", seed=3, ticks=3, stride=10)


def assert_same(first, second):
    assert first.outline.scene_id == second.outline.scene_id and first.outline.agent_ids == second.outline.agent_ids
    for a, b in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(a.lidar.points, b.lidar.points)
        np.testing.assert_array_equal(a.world_SE3_agent, b.world_SE3_agent)
        np.testing.assert_array_equal(a.objects.world_corners, b.objects.world_corners)


def test_a_pickled_copy_senses_the_same_in_any_order(town):
    scenes = [load_scene(town, index) for index in range(3)]
    copy = pickle.loads(pickle.dumps(town))
    assert len(pickle.dumps(town)) < 5000, "the built town travels with the source"
    for index in (2, 0, 1):
        assert_same(scenes[index], load_scene(copy, index))


def test_a_tick_is_the_same_however_many_are_asked_for(town):
    other = TownSource("test", seed=3, ticks=30, stride=5)
    first, second = load_scene(town, 2), load_scene(other, 4)
    assert_same(first, second)


def test_splits_and_seeds_give_other_towns(town):
    poses = [
        TownSource("test", seed, 1, split).outline(0).world_SE3_ego for seed, split in ((3, "test"), (4, "test"), (3, "train"))
    ]
    assert np.abs(poses[0] - town.outline(0).world_SE3_ego).max() == 0
    assert np.abs(poses[0] - poses[1]).max() > 1e-3 < np.abs(poses[0] - poses[2]).max()


def test_every_lidar_point_lies_on_a_surface():
    import open3d as o3d

    exact = replace(town_preset("test"), range_noise_m=(0.0, 0.0))
    source = TownSource(exact, seed=1, ticks=1)
    mesh = source.state(0).mesh
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor.from_numpy(mesh.vertices), o3d.core.Tensor.from_numpy(mesh.triangles))
    for agent_id in source.outline(0).agent_ids:
        frame = source.agent_frame(0, agent_id)
        world = transform_points(frame.world_SE3_agent, frame.lidar.points[:, :3].astype(np.float64)).astype(np.float32)
        distance = scene.compute_distance(o3d.core.Tensor.from_numpy(world)).numpy()
        assert len(world) > 1000 and distance.max() < 5e-3


def test_the_ground_lies_where_a_sensor_of_that_height_sees_it(town):
    ground = town.town.map.ground
    for agent_id, expected in (("1000", (-2.6, -1.5)), ("-1", (-2.1, -1.3))):
        frame = town.agent_frame(0, agent_id)
        points = frame.lidar.points[:, :3].astype(np.float64)
        near = np.linalg.norm(points[:, :2], axis=1) < 30.0
        world = transform_points(frame.world_SE3_agent, points[near])
        above = world[:, 2] - ground.height(world[:, :2])
        road = np.abs(above) < 0.06
        assert road.mean() > 0.1
        assert expected[0] < np.median(points[near][road, 2]) < expected[1]
        assert above.min() > -0.15, "points under the ground"


def test_an_agent_lists_what_it_hits_and_never_itself(town):
    for index in range(3):
        outline = town.outline(index)
        for agent_id in outline.agent_ids:
            frame = town.agent_frame(index, agent_id)
            hits = town.hits(index, agent_id)
            assert set(frame.objects.ids.tolist()) == set(hits) and min(hits.values()) >= 1
            assert agent_id not in {str(number) for number in hits}
            assert "-1" not in {str(number) for number in hits}
            corners = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners)
            counts = points_in_boxes(frame.lidar.points[:, :3].astype(np.float64), corners, margin_m=0.25)
            assert (counts >= [hits[number] for number in frame.objects.ids.tolist()]).all()


def test_agents_list_each_other():
    source = TownSource("test", seed=5, ticks=12, stride=10)
    listed = {number for index in range(12) for number in source.hits(index, "-1")}
    assert {1000, 1001} & listed


def test_thinned_clouds_keep_whole_lines(town):
    sweep = town.sweep(0, "1000")
    beams = town.agent("1000").lidar.beams
    assert len(sweep.thinned(beams, beams)) == len(sweep.points)
    assert len(sweep.thinned(beams, 64)) == len(sweep.points)
    rows = {row.tobytes() for row in sweep.points}
    thin = sweep.thinned(beams, 4)
    assert {row.tobytes() for row in thin} <= rows
    assert len(thin) == np.isin(sweep.line, [0, 5, 10, 15]).sum()


def test_every_agent_can_be_asked_for_what_its_type_wants():
    preset = replace(town_preset("test"), lidars=("uniform64",), roadside_lidars=("sector300",))
    source = TownSource(preset, seed=3, ticks=1)
    for agent_id, own in (("1000", 64), ("-1", 300)):
        full = source.agent_frame(0, agent_id).lidar
        assert full.beams == own
        for beams in (16, 32):
            frame = source.agent_frame(0, agent_id, SensorChoice(beams=beams))
            assert frame.lidar.beams == beams and frame.cameras == ()
            assert len(frame.lidar.points) == pytest.approx(beams / own * len(full.points), rel=0.25)
            assert {row.tobytes() for row in frame.lidar.points} <= {row.tobytes() for row in full.points}
        eyes = source.agent_frame(0, agent_id, SensorChoice(lidar=False, cameras=True, depth=True, labels="camera"))
        assert eyes.lidar is None and len(eyes.cameras) == 4 and eyes.cameras[0].depth_m is not None
        assert set(eyes.objects.ids.tolist()) < set(frame.objects.ids.tolist()), "labels do not depend on the lines, but on sight"


def test_cameras_label_vehicles_that_are_in_their_pictures():
    preset = replace(town_preset("test"), image_px=(320, 240), focal_px=134.0, moving=(14, 20))
    source = TownSource(preset, seed=2, ticks=1)
    frame = source.agent_frame(0, "1000", SensorChoice(labels="camera"))
    pixels = np.concatenate([picture.owner.ravel() for picture in source.pictures(0, "1000")])
    assert len(frame.objects) >= 3
    assert all((pixels == number).sum() >= 12 for number in frame.objects.ids)
    hidden = set(source.labels(0, "1000").ids.tolist()) - set(frame.objects.ids.tolist())
    assert all((pixels == number).sum() < 12 or not on_map(source, number) for number in hidden)


def on_map(source, number):
    """Return whether a vehicle's middle is on the ego's visibility map, 49.5 m to every side."""
    middle = transform_points(inverse_SE3(source.outline(0).world_SE3_ego), source.corners(0, [number])).mean(axis=(0, 1))
    return np.abs(middle[:2]).max() < 49.5


def test_intensities_are_shares_and_spread(town):
    intensity = town.sweep(0, "1000").points[:, 3]
    assert intensity.min() >= 0 and intensity.max() <= 1
    assert np.percentile(intensity, 95) > 1.5 * np.percentile(intensity, 5)


def test_the_kinds_of_lidar_have_their_lines():
    preset, rng = town_preset("demo"), np.random.default_rng(0)
    assert [draw_lidar(name, preset, rng).beams for name in ("uniform64", "dense_middle40", "sector300")] == [64, 40, 300]
    sector = draw_lidar("sector300", preset, rng)
    assert 93 < np.ptp(sector.azimuth_deg) < 105
    np.testing.assert_allclose(np.linalg.norm(sector.directions, axis=1), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match="uniform64"):
        draw_lidar("radar", preset, rng)


def test_what_cannot_be_asked_for_says_what_can(town):
    with pytest.raises(ValueError, match=r"unknown town preset 'demmo'.*demo, easy.*did you mean 'demo'"):
        TownSource("demmo", 0, 1)
    with pytest.raises(ValueError, match="train, validate, test"):
        TownSource("demo", 0, 1, split="val")
    with pytest.raises(ValueError, match="at least one tick"):
        TownSource("demo", 0, 0)
    with pytest.raises(KeyError, match="'1000', '1001', '-1'"):
        town.agent_frame(0, "9")
    with pytest.raises(IndexError, match="has 3"):
        town.outline(3)


def test_in_the_demo_many_vehicles_are_hidden_from_the_ego():
    scenes = [scene_visibility(load_scene(TownSource("demo", seed, 1), 0)) for seed in range(4)]
    assert sum(scene.hidden.sum() for scene in scenes) > 0.15 * sum(len(scene.ids) for scene in scenes)
    assert all(len(scene.ids) >= 5 for scene in scenes)
