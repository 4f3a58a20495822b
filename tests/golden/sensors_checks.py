"""Sensor data, read from the recorded folder tree, equals the reference's: clouds by number of laser lines, cameras."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from heal.encoders.images import COLOUR_STD, ImageConfig, camera_batch, evaluation_transform, transform_pixels
from heal.types import AgentFrame, CameraView
from tests.golden.camera_checks import image_config
from tests.golden.fixture import Fixture
from tests.golden.recorded_scenes import Array, RecordedScene, recorded_scenes, scene_of

# The box of the own vehicle that the reference cuts out of a cloud: smallest x, largest x, largest |y|.
OWN_VEHICLE_M = (-1.95, 2.95, 1.1)


def recorded_inputs(fixture: Fixture, cameras: bool) -> Iterator[tuple[RecordedScene, str, str, list[AgentFrame]]]:
    """Yield every recorded input of LiDARs, or of cameras: the scene, its prefix in the file, the agent type, and the agents."""
    for recorded, place, kind, members in all_inputs(fixture, cameras):
        if recorded.has(f"{place}/voxel_coords") != cameras:
            yield recorded, place, kind, members


def all_inputs(fixture: Fixture, cameras: bool) -> Iterator[tuple[RecordedScene, str, str, list[AgentFrame]]]:
    for recorded in recorded_scenes(fixture, fused=True):
        scene, types = scene_of(recorded, cameras)
        part = recorded.plain("ego/agent_modality_list")
        for kind in dict.fromkeys(part):
            members = [frame for frame in scene.frames[: len(part)] if types[frame.agent_id] == kind]
            yield recorded, f"ego/inputs_{kind}", kind, members
    for recorded in recorded_scenes(fixture, fused=False):
        scene, types = scene_of(recorded, cameras)
        for name, frame in zip(("ego", *scene.outline.agent_ids[1:]), scene.frames, strict=True):
            kind = types[frame.agent_id]
            yield recorded, f"{name}/inputs_{kind}", kind, [frame]


def check_clouds_of_scenes(fixture: Fixture) -> None:
    clouds = 0
    for recorded, place, kind, members in recorded_inputs(fixture, cameras=False):
        clouds += 1
        same_cloud(recorded, place, kind, members)
    assert clouds


def check_cameras_of_scenes(fixture: Fixture) -> None:
    checked = 0
    for recorded, place, kind, members in recorded_inputs(fixture, cameras=True):
        checked += 1
        same_calibrations(recorded, place, members)
        same_images(recorded, place, kind, members)
    assert checked


def same_calibrations(recorded: RecordedScene, place: str, members: list[AgentFrame]) -> None:
    extrinsics = np.array([[camera.agent_SE3_camera for camera in frame.cameras] for frame in members])
    np.testing.assert_allclose(extrinsics, recorded.array(f"{place}/extrinsics"), atol=1e-4)
    np.testing.assert_allclose(extrinsics[..., :3, :3], recorded.array(f"{place}/rots"), atol=1e-4)
    np.testing.assert_allclose(extrinsics[..., :3, 3], recorded.array(f"{place}/trans"), atol=1e-4)
    intrinsics = [[camera.intrinsic for camera in frame.cameras] for frame in members]
    np.testing.assert_allclose(intrinsics, recorded.array(f"{place}/intrins"), atol=1e-3)


def shown_depth(view: CameraView, settings: ImageConfig) -> Array:
    """Return depth in whole metres (h, w), resized like a picture, as the reference does."""
    assert view.depth_m is not None
    metres = view.depth_m.astype(np.uint8)
    return transform_pixels(metres, evaluation_transform(metres.shape, settings)).astype(np.float64)


def same_cloud(recorded: RecordedScene, place: str, kind: str, members: list[AgentFrame]) -> None:
    """Check that every voxel holds as many points as recorded, with the same sum where no point was dropped."""
    setting = recorded.fixture.config["heter"]["modality_setting"][kind]["preprocess"]
    limit = setting["args"]["max_points_per_voxel"]
    names = ("voxel_coords", "voxel_num_points", "voxel_point_sum")
    coords, numbers, sums = (recorded.array(f"{place}/{name}") for name in names)
    ours: dict[tuple[int, ...], list[Array]] = {}
    for batch, frame in enumerate(members):
        for key, point in voxels(frame, setting["cav_lidar_range"], setting["args"]["voxel_size"]):
            ours.setdefault((batch, *key), []).append(point)
    assert set(ours) == {tuple(row) for row in coords.tolist()}
    for row, number, total in zip(coords.tolist(), numbers, sums, strict=True):
        points = ours[tuple(row)]
        assert min(len(points), limit) == number
        if len(points) < limit:
            np.testing.assert_allclose(np.sum(points, axis=0), total, rtol=1e-5, atol=1e-4)


def voxels(frame: AgentFrame, range_m: list[float], size_m: list[float]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield the points outside the own vehicle and inside the range, each with its voxel (z, y, x)."""
    assert frame.lidar is not None
    points = frame.lidar.points
    x_from, x_to, y_to = OWN_VEHICLE_M
    own = (points[:, 0] >= x_from) & (points[:, 0] <= x_to) & (np.abs(points[:, 1]) <= y_to)
    low, high = np.array(range_m[:3], np.float32), np.array(range_m[3:], np.float32)
    inside = (points[:, :3] >= low).all(axis=1) & (points[:, :3] < high).all(axis=1)
    for point in points[~own & inside]:
        x, y, z = np.floor((point[:3] - low) / np.array(size_m, np.float32)).astype(int).tolist()
        yield (z, y, x), point


def same_images(recorded: RecordedScene, place: str, kind: str, members: list[AgentFrame]) -> None:
    """Check the pixels that the network gets in evaluation, and the pixel of the image that each comes from."""
    setting = recorded.fixture.config["heter"]["modality_setting"][kind]["data_aug_conf"]
    made = camera_batch(members, image_config(setting), setting["cams"][: setting["Ncams"]])
    affine = made.shown_from_image.numpy().reshape(len(members), -1, 2, 3)
    rotation, shift = recorded.array(f"{place}/post_rots"), recorded.array(f"{place}/post_trans")
    np.testing.assert_allclose(affine[..., :2], rotation[..., :2, :2], atol=1e-5)
    np.testing.assert_allclose(affine[..., 2], shift[..., :2], atol=1e-4)
    images = made.images.numpy().reshape(*affine.shape[:2], 3, *made.images.shape[-2:])
    some, mean = recorded.array(f"{place}/imgs_u8like"), recorded.array(f"{place}/imgs_mean")
    one_step = 1.01 / 255 / min(COLOUR_STD)
    np.testing.assert_allclose(images[..., ::8, ::8], some[..., :3, :, :], atol=one_step)
    np.testing.assert_allclose(images.mean(axis=(-2, -1)), mean[..., :3], atol=0.1 * one_step)
    depth = [[shown_depth(view, image_config(setting)) for view in frame.cameras] for frame in members]
    np.testing.assert_allclose(np.array(depth)[..., ::8, ::8], some[..., 3, :, :], atol=1.0)
