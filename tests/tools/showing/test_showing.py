"""Tests of `heal show`: pixels of boxes, counts and warnings, damaged files, the choice of scenes, the page and the live view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heal.box_corners import boxes_to_corners
from heal.datasets.in_memory import ScenesInMemory
from heal.datasets.open import open_dataset
from heal.errors import UserError
from heal.se3 import transform_points
from heal.tools.pictures.colors import TRUTH
from heal.tools.showing.choosing import choose_scenes
from heal.tools.showing.contents import ShownScene, contents_of, range_around
from heal.tools.showing.figure import draw_scene
from heal.tools.showing.images import depth_image
from heal.tools.showing.live import LiveScenes
from heal.tools.showing.page import PageScene, render_scenes_page, require_replaceable
from heal.tools.showing.projection import NEAR_M, boxes_ahead, boxes_inside, project_box
from heal.tools.showing.reading import ReadScene, read_scene
from heal.types import Float64, ObjectLabels, Scene
from tests.datasets.dair.dair_tree import INNER, write_tree
from tests.tools.command import run_command
from tests.tools.showing.made_scene import CARS, INTRINSIC, ROADSIDE, VEHICLE, camera_at, cars, frame_of, made_scene, points_on


def box(x: float, y: float, z: float, length: float = 2.0) -> Float64:
    """Corners (8, 3) of a box, 2 m wide and high, in the agent's frame."""
    return boxes_to_corners(np.array([[x, y, z, 2.0, 2.0, length, 0.0]]))[0]


def shown(scene: Scene, **options: Any) -> ShownScene:
    return contents_of(ReadScene(scene), **options)


def test_the_corners_of_a_box_land_on_the_pixels_of_the_camera_model() -> None:
    """Its face towards the camera is 9 m ahead: 1 m to the side is 90 px / 9 = 10 px from the principal point (320, 240)."""
    projected = project_box(camera_at(1.0, 0.0, 1.5), box(11.0, 0.0, 1.5))
    [near] = projected.near
    assert {tuple(pixel) for pixel in near.round(9).tolist()} == {(310.0, 230.0), (330.0, 230.0), (330.0, 250.0), (310.0, 250.0)}
    assert len(projected.far) == 5 and projected.depth_m == pytest.approx(10.0)
    raised, left = (project_box(camera_at(), box(10.0, y, z)).near[0].mean(axis=0) for y, z in ((0.0, 5.0), (5.0, 0.0)))
    assert raised[1] < 240 and left[0] < 320, "up in the world is up in the image, left is left"


def test_a_box_that_is_seen_at_an_angle_shows_its_near_faces_and_a_mirrored_camera_the_same_ones() -> None:
    view = camera_at()
    mirrored = replace(view, agent_SE3_camera=view.agent_SE3_camera @ np.diag([-1.0, 1, 1, 1]))
    aside = box(10.0, -6.0, -4.0)  # to the right and below: its rear, its left side and its top are seen
    assert len(project_box(view, aside).near) == 3
    for plain, turned in zip(project_box(view, aside).near, project_box(mirrored, aside).near, strict=True):
        np.testing.assert_allclose(turned, [640, 0] + plain * [-1, 1])


def test_a_box_is_cut_off_before_the_camera_and_one_behind_it_is_left_out() -> None:
    behind = project_box(camera_at(), box(-10.0, 0.0, 0.0))
    assert behind.near == behind.far == ()
    beside = project_box(camera_at(), box(0.0, 3.0, 0.0, length=10.0))
    pixels = np.concatenate([*beside.near, *beside.far])
    # It is 2 to 4 m to the left, from the cut at NEAR_M up to its front 5 m ahead.
    offsets = 320 - pixels[:, 0]
    assert offsets.min() == pytest.approx(90 / 5 * 2) and offsets.max() == pytest.approx(90 / NEAR_M * 4)


def test_boxes_ahead_and_in_the_image() -> None:
    corners = np.array([box(10, 0, 0), box(10, 12, 0), box(-10, 0, 0), box(10, 0, 9.5), box(4, 30, 0)])
    assert boxes_ahead(camera_at(), corners).tolist() == [True, False, False, True, False]
    assert boxes_inside(camera_at(), corners).tolist() == [True, True, False, True, False]
    narrow = np.array([[900.0, 0, 320], [0, 900, 240], [0, 0, 1]])
    assert boxes_inside(camera_at(intrinsic=narrow), corners).tolist() == [True, False, False, False, False]


def test_captions_count_points_boxes_and_images() -> None:
    scene = shown(made_scene())
    assert scene.warnings == () and "2 agents, 5 labelled boxes" in scene.caption
    car, rsu = scene.agents
    assert car.hits.tolist() == rsu.hits.tolist() == [20] * 5
    assert car.caption == "car: 100 points, on 5 of 5 boxes within 40 m"
    ahead = sum(abs(y) <= x for x, y in CARS)  # all but the one at 45 degrees, whose centre is lower than the camera
    assert car.camera_caption(car.cameras[0]) == f"car camera0: {ahead - 1} of {ahead - 1} boxes ahead in the image"
    np.testing.assert_allclose(scene.corners.mean(axis=1)[:, :2], CARS, atol=1e-9)


def test_points_of_the_ground_are_no_points_of_a_box() -> None:
    poses = {"car": VEHICLE, "rsu": ROADSIDE}
    scene = shown(Scene.of([frame_of(name, pose, scan=points_on(cars(), pose, floor=True)) for name, pose in poses.items()]))
    assert not any(agent.hits.any() for agent in scene.agents)
    assert scene.warnings[0] == "5 of 5 labelled boxes hold no point of any agent: 10, 11, 12, 13, 14"


def test_a_box_without_points_is_named_and_the_agents_own_vehicle_is_not() -> None:
    own = transform_points(VEHICLE, boxes_to_corners(np.array([[-1.0, 0, -1.25, 1.5, 2.0, 4.0, 0]])))
    far = transform_points(VEHICLE, boxes_to_corners(np.array([[-20.0, 5, -1.25, 1.5, 2.0, 4.0, 0]])))
    more = ObjectLabels(np.array([1, 77]), np.concatenate([own, far]))
    scene = made_scene()
    labelled = Scene(scene.outline, scene.frames, ObjectLabels.union([scene.objects, more]))
    assert shown(labelled).warnings == ("1 of 7 labelled boxes hold no point of any agent: 77",)
    without = Scene(scene.outline, tuple(replace(frame, lidar=None) for frame in scene.frames), labelled.objects)
    assert shown(without).warnings == () and shown(without).agents[0].caption == "car: no cloud"
    assert shown(labelled, boxes=False).warnings == () and "0 labelled boxes" in shown(labelled, boxes=False).caption


def test_exchanged_calibrations_change_the_warnings() -> None:
    """Each agent with the other's pose: no box holds points; only one agent with a wrong pose: its cloud is named."""
    car, rsu = made_scene().frames
    exchanged = [replace(car, world_SE3_agent=ROADSIDE), replace(rsu, world_SE3_agent=VEHICLE)]
    warnings = shown(Scene.of(exchanged)).warnings
    assert warnings[0].startswith("5 of 5 labelled boxes hold no point of any agent")
    assert [line.split(":")[0] for line in warnings[1:]] == ["the cloud of car", "the cloud of rsu"]
    [line] = shown(Scene.of([car, replace(rsu, world_SE3_agent=VEHICLE)])).warnings
    assert line.startswith("the cloud of rsu: 100 points, on 0 of 5 boxes within 40 m")


def test_a_camera_whose_image_shows_no_box_ahead_is_named() -> None:
    wrong = INTRINSIC.copy()
    wrong[0, 2] = -3000.0
    scene = Scene.of([frame_of("car", VEHICLE, camera_at(intrinsic=wrong)), frame_of("rsu", ROADSIDE)])
    [line] = shown(scene).warnings
    assert line == "car camera0: none of the 4 boxes ahead falls into the image"


def test_frames_and_ranges() -> None:
    scene = made_scene()
    world = shown(scene, frame="world")
    np.testing.assert_allclose(world.corners, scene.objects.world_corners - VEHICLE[:3, 3], atol=1e-9)
    near = shown(scene, range_m=(0, -5, -5, 15, 5, 5))
    assert near.ids.tolist() == [10, 11] and near.outside == 3 and len(near.agents[0].points) < 100
    with pytest.raises(UserError, match="ego or world"):
        shown(scene, frame="lidar")
    with pytest.raises(UserError, match="--range-m"):
        shown(scene, range_m=(0, 0, 0, 1, -1, 1))
    assert range_around(np.array([[0.0, 0, 0], [500.0, 0, 0]]))[3] == 120.0


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    (root / INNER / "vehicle-side" / "velodyne" / "000011.pcd").write_bytes(b"no cloud")
    (root / INNER / "infrastructure-side" / "image" / "000004.jpg").unlink()
    read = read_scene(open_dataset(root, "val", intensity_scale=1.0), 0)
    vehicle, roadside = read.scene.frames
    assert vehicle.lidar is None and vehicle.cameras and roadside.lidar is not None and not roadside.cameras
    [line] = read.troubles
    assert line.startswith("vehicle: ") and "000011.pcd" in line
    alone = read_scene(open_dataset(root, "val", intensity_scale=1.0), 0, ["roadside"]).scene
    assert alone.outline.ego_id == "roadside" and alone.outline.agent_ids == ("roadside",)
    with pytest.raises(UserError, match="vehicle, roadside"):
        read_scene(open_dataset(root, "val", intensity_scale=1.0), 0, ["641"])


def scenes_called(*names: str) -> ScenesInMemory:
    scene = made_scene()
    return ScenesInMemory([replace(scene, outline=replace(scene.outline, scene_id=name)) for name in names])


def test_scenes_are_chosen_by_number_from_the_beginning_by_scenario_or_spread() -> None:
    source = scenes_called(*(f"a/{i}" for i in range(20)), "b/0", "b/1")
    assert choose_scenes(source, "0, 21,5") == [0, 21, 5] and choose_scenes(source, first=3) == [0, 1, 2]
    assert choose_scenes(source, scenario="b") == [20, 21] and choose_scenes(source, "1", scenario="b") == [21]
    assert choose_scenes(source) == [0, 2, 4, 6, 8, 11, 13, 15, 17, 19]
    for numbers in ("22", "x", "-1", ""):
        with pytest.raises(UserError, match="from 0 to 21"):
            choose_scenes(source, numbers)
    with pytest.raises(UserError, match="a, b"):
        choose_scenes(source, scenario="c")
    with pytest.raises(UserError, match="exclude"):
        choose_scenes(source, "1", 2)


def test_a_figure_has_a_view_of_each_agent_and_of_each_camera() -> None:
    depth = np.full((480, 640), 5.0, np.float32)
    scene = made_scene()
    car = replace(scene.frames[0], cameras=(replace(camera_at(), depth_m=depth),))
    figure = draw_scene(ScenesInMemory([Scene.of([car, scene.frames[1]])]))
    assert len(figure.axes) == 3 + 3  # all agents, each alone; two images and a depth image
    image = figure.axes[3]
    drawn = [line for line in image.lines if line.get_color() == TRUTH]
    assert drawn and image.get_xlim() == (0, 640) and image.get_ylim() == (480, 0)
    assert len(draw_scene(ScenesInMemory([scene]), agents=["rsu"], images=False).axes) == 1


def test_depth_is_red_near_blue_far_and_black_where_there_is_none() -> None:
    near, far, none, unknown = depth_image(np.array([[2.0, 120.0, 0.0, np.inf]], np.float32))[0].astype(int)
    assert near[0] > near[2] and far[2] > far[0] and not none.any() and not unknown.any()


def test_a_page_holds_every_scene_and_no_name_becomes_html() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    scene = shown(made_scene())
    contents = [replace(scene, scene_id=f"<b>{i}</b>", troubles=("damaged",) if i == 1 else ()) for i in range(3)]
    entries = [PageScene.of(i, each, image) for i, each in enumerate(contents)]
    html = render_scenes_page("data & more", entries, "heal show data")
    assert html.count('<section class="scene">') == html.count("data:image/webp;base64,") == html.count("<option") == 3
    assert "<b>" not in html and "&lt;b&gt;2&lt;/b&gt;" in html and "data &amp; more" in html
    assert "3 scenes, 1 with warnings" in html and html.count('<p class="warning">damaged</p>') == 1
    assert "http" not in html.replace("http-equiv", "")


def test_the_command_writes_page_and_pictures_and_replaces_no_other_file(tmp_path: Path) -> None:
    root, page, out = write_tree(tmp_path / "data"), tmp_path / "page.html", tmp_path / "pictures"
    printed = run_command("show", root, "--split", "val", "--no-images", "--html", page, "--out", out)
    # The tree's clouds hold one point, which is in no box.
    assert "1 of 1 labelled boxes hold no point of any agent" in printed and "3/000011" in page.read_text()
    with Image.open(out / "scene_000000.png") as picture:
        assert picture.width == 1920
    require_replaceable(page)
    page.write_text("my notes")
    with pytest.raises(UserError, match="no page of `heal show`"):
        require_replaceable(page)
    with pytest.raises(UserError, match="is a folder"):
        require_replaceable(out)


def test_the_live_view_places_agents_and_draws_boxes_into_images() -> None:
    pytest.importorskip("rerun")
    from tests.tools.viewer.test_view import FakeRecording, numbers

    recording = FakeRecording()
    LiveScenes(recording).add(7, shown(made_scene()))
    paths = recording.shown(7)
    assert {"world/boxes", "captions", "world/agents/rsu/cloud", "world/agents/rsu/camera0/image/boxes"} <= paths
    [moved] = [thing for when, path, thing in recording.entries if path == "world/agents/rsu" and hasattr(thing, "translation")]
    np.testing.assert_allclose(numbers(moved.translation)[0], shown(made_scene()).agents[1].frame_SE3_agent[:3, 3], rtol=1e-5)
    assert numbers(recording.at(7, "world/boxes").labels).tolist() == ["10", "11", "12", "13", "14"]
