"""The town's cameras: nothing is mirrored, depth is depth, images and LiDAR agree."""

import numpy as np
import pytest

from heal.datasets.town import TownSource
from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import box, merge
from heal.datasets.town.geometry.raycast import RayMesh, RayScene
from heal.datasets.town.sensors.camera import NO_DEPTH_M, RenderInput, render_picture
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points


@pytest.fixture(scope="module")
def town():
    return TownSource("test", seed=2, ticks=2, sensors=frozenset({"lidar", "camera", "depth"}))


def picture_of(town, *objects):
    """Render meshes as a camera at the origin sees them along +x; 160 x 120 pixels, focal length 80."""
    mesh, nothing = merge(objects), box((0, 0, -500), (1, 1, 1), Material.WALL, (0.5, 0.5, 0.5))
    scene = RayScene(RayMesh(mesh), RayMesh(nothing), len(mesh.triangles))
    built = town.town
    return render_picture(
        RenderInput(built.map, built.blocks, built.weather, merge([mesh, nothing]), scene), np.eye(4), (160, 120), 80.0
    )


def block(owner, *centre):
    return box(centre, (2.0, 2.0, 2.0), Material.PAINT, (0.7, 0.1, 0.1)).owned_by(owner)


def test_right_is_right_and_up_is_up(town):
    owner = picture_of(town, block(1, 10, 3, 0), block(2, 10, -3, 0), block(3, 10, 0, 4)).owner
    middle = {number: np.argwhere(owner == number).mean(axis=0) for number in (1, 2, 3)}
    assert middle[1][1] > 90 and middle[2][1] < 70, "an object at +y is on the right, one at -y on the left"
    assert middle[3][0] < 40 and abs(middle[1][0] - 59.5) < 3
    # The face at x = 9 of the box from y = 2 to 4 spans columns 80 + 80 * 2 / 9 to 80 + 80 * 4 / 9.
    columns = np.unique(np.argwhere(owner == 1)[:, 1])
    assert columns.min() == pytest.approx(80 + 80 * 2 / 11, abs=1) and columns.max() == pytest.approx(80 + 80 * 4 / 9, abs=1)


def test_depth_is_measured_along_the_axis(town):
    wall = box((12.5, 0, 0), (5.0, 40.0, 40.0), Material.WALL, (0.5, 0.5, 0.5))
    depth = picture_of(town, wall).depth_m
    np.testing.assert_allclose(depth, 10.0, atol=1e-4)
    assert (picture_of(town, block(1, 10, 0, 0)).depth_m[0] == NO_DEPTH_M).all()


def test_lidar_points_have_the_depth_of_the_pixels_they_project_to(town):
    for agent_id in ("1000", "-1"):
        frame = town.agent_frame(1, agent_id)
        points = frame.lidar.points[:, :3].astype(np.float64)
        compared = 0
        for view in frame.cameras:
            height, width = view.depth_m.shape
            in_camera = transform_points(inverse_SE3(view.agent_SE3_camera), points)
            in_camera = in_camera[in_camera[:, 2] > 3.0]
            pixels = in_camera @ view.intrinsic.T
            column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
            seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            off = np.abs(view.depth_m[row[seen], column[seen]] / in_camera[seen, 2] - 1)
            # Not equal everywhere: camera and LiDAR sit apart, and a pixel covers more than a ray.
            assert np.median(off) < 0.08, f"{agent_id} {view.name}"
            compared += seen.sum()
        assert compared > 500


def test_the_four_cameras_look_where_opv2v_s_do(town):
    views = town.agent_frame(0, "1000").cameras
    yaws = [np.degrees(np.arctan2(view.agent_SE3_camera[1, 2], view.agent_SE3_camera[0, 2])) for view in views]
    np.testing.assert_allclose(np.cos(np.radians(np.subtract(yaws, [0, 100, -100, 180]))), 1.0, atol=1e-3)
    assert [view.image.shape for view in views] == [(60, 80, 3)] * 4
    assert views[0].intrinsic[0, 2] == 40.0


def test_pictures_are_deterministic_and_have_contrast(town):
    again = TownSource("test", seed=2, ticks=2, sensors=frozenset({"camera"}))
    for first, second in zip(town.agent_frame(0, "-1").cameras, again.agent_frame(0, "-1").cameras, strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        assert second.depth_m is None and first.image.std() > 15


def test_the_visibility_map_marks_vehicles_where_they_are(town):
    seen = town.visibility_map(0, "-1")
    assert seen.shape == (256, 256) and set(np.unique(seen)) == {0, 255}
    pose = town.agent_frame(0, "-1").world_SE3_agent
    middles = transform_points(inverse_SE3(pose), town.agent_frame(0, "-1").objects.world_corners).mean(axis=1)[:, :2] / 0.39
    row, column = 127 - np.trunc(middles[:, 0]).astype(int), 127 + np.trunc(middles[:, 1]).astype(int)
    inside = (np.abs(row - 127) < 127) & (np.abs(column - 127) < 127)
    assert (seen[row[inside], column[inside]] == 255).any()
    assert seen.mean() < 60, "most of the map is no vehicle"


def test_a_shadow_falls_away_from_the_sun(town):
    ground = box((20, 0, -3), (60, 60, 1), Material.WALL, (0.5, 0.5, 0.5))
    with_post = picture_of(town, ground, box((12, 0, 2), (1, 1, 9), Material.WALL, (0.5, 0.5, 0.5)))
    without = picture_of(town, ground)
    darker = (without.image.astype(int) - with_post.image.astype(int)).mean(axis=2)[70:] > 20
    assert darker.sum() > 20
    sun = town.town.weather.sun
    side = np.argwhere(darker)[:, 1].mean() - 80
    if abs(sun[1]) > 0.3:
        assert np.sign(side) == -np.sign(sun[1])


def test_a_turned_camera_sees_what_lies_there(town):
    mesh = block(9, 0, 10, 0)
    nothing = box((0, 0, -500), (1, 1, 1), Material.WALL, (0.5, 0.5, 0.5))
    inputs = RenderInput(
        town.town.map, town.town.blocks, town.town.weather, merge([mesh, nothing]), RayScene(RayMesh(mesh), RayMesh(nothing), 10)
    )
    picture = render_picture(inputs, pose_to_SE3([0, 0, 0, 0, 90.0, 0]), (80, 60), 40.0)
    assert np.abs(np.argwhere(picture.owner == 9).mean(axis=0) - [29.5, 39.5]).max() < 1.0
