"""Options of the town's cameras: the size of the images, their smoothing, the agents that have cameras, the step of depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.camera_options import CameraOptions
from heal.errors import UserError
from heal.types import SensorChoice

SEEING = SensorChoice(cameras=True, depth=True)


def source(options: CameraOptions) -> TownSource:
    return TownSource("test", seed=2, ticks=1, cameras=options)


@pytest.fixture(scope="module")
def whole() -> TownSource:
    return source(CameraOptions())


def test_a_smaller_image_shows_the_same_view(whole: TownSource) -> None:
    large, small = (town.agent_frame(0, "1000", SEEING).cameras for town in (whole, source(CameraOptions(image_px=(40, 30)))))
    for first, second in zip(large, small, strict=True):
        assert second.image.shape == (30, 40, 3)
        assert second.depth_m is not None and second.depth_m.shape == (30, 40)
        np.testing.assert_allclose(second.intrinsic[:2], first.intrinsic[:2] / 2)
        np.testing.assert_array_equal(second.agent_SE3_camera, first.agent_SE3_camera)
        halved = first.image.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
        assert np.median(np.abs(halved - second.image)) < 6
        shifted = np.roll(halved, 8, axis=1)
        assert np.abs(halved - second.image).mean() < 0.5 * np.abs(shifted - second.image).mean()


def test_the_preset_s_own_size_is_no_change(whole: TownSource) -> None:
    same = source(CameraOptions(image_px=town_preset("test").image_px))
    assert same.cameras == CameraOptions() and same.preset == whole.preset


def test_without_smoothing_pixels_differ_at_edges_alone(whole: TownSource) -> None:
    smooth, plain = (town.pictures(0, "1000")[0] for town in (whole, source(CameraOptions(smooth=False))))
    changed = (smooth.image != plain.image).any(axis=2)
    assert 0.02 < changed.mean() < 0.7
    np.testing.assert_array_equal(smooth.depth_m, plain.depth_m)
    grey = plain.image.astype(float).mean(axis=2)
    steps = np.abs(np.diff(grey, axis=1))[:-1] + np.abs(np.diff(grey, axis=0))[:, :-1]
    assert steps[changed[:-1, :-1]].mean() > 3 * steps[~changed[:-1, :-1]].mean()


@pytest.mark.parametrize(
    ("agents", "seeing"),
    [("all", {"1000", "1001", "-1"}), ("vehicles", {"1000", "1001"}), ("roadside", {"-1"}), ("ego", {"1000"})],
)
def test_only_the_wanted_agents_have_cameras(agents: str, seeing: set[str], whole: TownSource) -> None:
    town = source(CameraOptions(agents=agents))
    frames = {agent_id: town.agent_frame(0, agent_id, SEEING) for agent_id in ("1000", "1001", "-1")}
    assert {agent_id for agent_id, frame in frames.items() if frame.cameras} == seeing
    for agent_id, frame in frames.items():
        expected = whole.agent_frame(0, agent_id, SEEING)
        assert frame.lidar is not None and expected.lidar is not None
        np.testing.assert_array_equal(frame.lidar.points, expected.lidar.points)
        for mine, other in zip(frame.cameras, expected.cameras, strict=agent_id in seeing):
            np.testing.assert_array_equal(mine.image, other.image)


def test_an_agent_without_cameras_sees_nothing() -> None:
    town = source(CameraOptions(agents="vehicles"))
    frame = town.agent_frame(0, "-1", SensorChoice(labels="camera"))
    assert len(frame.objects) == 0 and len(town.labels(0, "-1")) > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_px": (8, 64)}, "16 to 4096 pixels a side, got 8x64"),
        ({"agents": "vehicle"}, "'vehicle'; there are all, vehicles, roadside, ego"),
        ({"depth_step_m": 0.001}, "from 0.01 to 1 m, got 0.001"),
        ({"depth_step_m": float("nan")}, "got nan"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CameraOptions(**values)  # type: ignore[arg-type]


def test_roadside_cameras_can_have_a_longer_focal_length_at_any_size() -> None:
    preset = replace(town_preset("test"), roadside_focal_px=90.0)
    town = TownSource(preset, seed=2, ticks=1, cameras=CameraOptions(image_px=(40, 30)))
    vehicle, roadside = (town.agent_frame(0, agent_id, SEEING).cameras[0] for agent_id in ("1000", "-1"))
    assert vehicle.intrinsic[0, 0] == pytest.approx(preset.focal_px / 2) and roadside.intrinsic[0, 0] == pytest.approx(45.0)
    plain = TownSource("test", seed=2, ticks=1, cameras=CameraOptions(image_px=(40, 30))).agent_frame(0, "-1", SEEING).cameras[0]
    assert roadside.depth_m is not None and plain.depth_m is not None
    # The optical axis looks at the same place; the longer lens sees a part of the same view.
    assert roadside.depth_m[15, 20] == pytest.approx(plain.depth_m[15, 20], rel=0.1)
    assert np.ptp(roadside.depth_m[:, 20]) < np.ptp(plain.depth_m[:, 20])
