"""Images as input of a network: every pixel goes where the affine map says."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal.encoders.images import (
    COLOUR_MEAN,
    ImageConfig,
    ImageTransform,
    camera_batch,
    evaluation_transform,
    mirror_view,
    normalize_colours,
    random_transform,
    rescale_view,
    transform_pixels,
)
from heal.training.augment import mirror_frame, rescale_frame
from heal.types import CameraView
from tests.heal.views import camera_frame, camera_view

SMALL = ImageConfig(size=(24, 40))


def shown(affine: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """Map a pixel through an affine map (2, 3)."""
    return affine[:, :2] @ pixel + affine[:, 2]


def project(view: CameraView, point: np.ndarray) -> np.ndarray:
    """Return the pixel (x, y) of a point in the agent's frame."""
    x, y, z = np.linalg.inv(view.agent_SE3_camera)[:3] @ [*point, 1.0]
    return (view.intrinsic @ [x / z, y / z, 1.0])[:2]


def test_in_evaluation_an_image_is_shrunk_until_it_covers_and_cut_at_the_bottom() -> None:
    transform = evaluation_transform((600, 800), ImageConfig())
    # 384 / 600 = 512 / 800 = 0.64. Of 384 rows 2.5 % are cut off, which leaves int(374.4), so 10 black rows are added above.
    assert transform == ImageTransform(0.64, (512, 384), (0, -10, 512, 374))
    np.testing.assert_allclose(transform.affine(), [[0.64, 0, 0], [0, 0.64, 10]])


def test_an_image_of_another_shape_is_cut_in_the_middle() -> None:
    # The image is twice as wide as needed: a scale of 0.5 covers the height, and of 200 columns 50 are cut off at each side.
    settings = ImageConfig(size=(100, 100), bottom_cut=(0.0, 0.0))
    assert evaluation_transform((200, 400), settings) == ImageTransform(0.5, (200, 100), (50, 0, 150, 100))


def test_variations_stay_within_their_limits_and_are_equal_for_equal_generators() -> None:
    settings = replace(ImageConfig(), flip=True)
    drawn = [random_transform((600, 800), settings, np.random.default_rng(seed)) for seed in range(60)]
    assert drawn[7] == random_transform((600, 800), settings, np.random.default_rng(7))
    assert {transform.flip for transform in drawn} == {False, True}
    for transform in drawn:
        x0, y0, x1, y1 = transform.crop
        assert 0.65 <= transform.scale <= 0.7 and -3.6 <= transform.rotate_deg <= 3.6
        assert (x1 - x0, y1 - y0) == (512, 384) and x0 >= 0 and x1 <= transform.resized[0]


@given(
    st.floats(0.5, 1.2),
    st.integers(-24, -12),
    st.integers(-24, -12),
    st.booleans(),
    st.floats(-20, 20),
    st.tuples(*[st.integers(18, 42)] * 2),
)
def test_pixels_go_where_the_affine_map_says(
    scale: float, x0: int, y0: int, flip: bool, turn: float, spot: tuple[int, int]
) -> None:
    image = np.zeros((60, 60), np.float32)
    x, y = spot
    image[y - 2 : y + 3, x - 2 : x + 3] = 1.0
    transform = ImageTransform(scale, (int(60 * scale), int(60 * scale)), (x0, y0, x0 + 96, y0 + 96), flip, turn)
    moved = transform_pixels(image, transform).clip(0)
    rows, columns = np.indices(moved.shape) + 0.5
    found = np.array([(columns * moved).sum(), (rows * moved).sum()]) / moved.sum()
    np.testing.assert_allclose(found, shown(transform.affine(), (x + 0.5, y + 0.5)), atol=1.2)


def test_colours_are_centred() -> None:
    grey = np.round(np.array(COLOUR_MEAN) * 255).astype(np.uint8)
    normalized = normalize_colours(np.broadcast_to(grey, (4, 5, 3)))
    assert normalized.shape == (3, 4, 5) and normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, 0.0, atol=0.01)


def test_signed_colours_lie_between_minus_one_and_one() -> None:
    view = replace(camera_view("camera0"), image=np.full((60, 80, 3), (0, 127, 255), np.uint8))
    plain, signed = (camera_batch([camera_frame(view)], settings).images for settings in (SMALL, replace(SMALL, colours="signed")))
    np.testing.assert_allclose(signed[0, :, 12, 20], [-127 / 128, 0.0, 1.0])
    assert not torch.equal(plain, signed)


def test_agents_may_have_different_numbers_of_cameras() -> None:
    two = camera_frame(camera_view("camera0"), camera_view("camera1", yaw_deg=90), agent_id="a")
    batch = camera_batch([two, camera_frame(camera_view("front", (120, 100)), agent_id="b")], SMALL)
    assert batch.images.shape == (3, 3, 24, 40) and batch.agents == 2
    assert batch.agent.tolist() == [0, 0, 1] and batch.depth_m is None
    assert batch.agent_SE3_camera[1, :3, 2].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    chosen = camera_batch([two], SMALL, ("camera1",))
    torch.testing.assert_close(chosen.images, batch.images[1:2])


def test_a_depth_image_keeps_its_depths_and_is_zero_outside_of_the_image() -> None:
    view = camera_view(depth_m=7.0)
    depths = view.depth_m
    assert depths is not None
    depths[:, 40:] = 90.0
    batch = camera_batch([camera_frame(view)], ImageConfig(size=(48, 64)), depth=True)
    assert batch.depth_m is not None
    assert batch.depth_m.unique().tolist() == [0.0, 7.0, 90.0]  # zero in the black rows above the image
    assert batch.depth_m[0, -1, :32].eq(7.0).all() and batch.depth_m[0, -1, 32:].eq(90.0).all()


def test_the_error_names_an_agent_that_lacks_images_or_depths() -> None:
    with pytest.raises(ValueError, match=r"agent '9' has no camera images.*sensors=\{'camera'\}"):
        camera_batch([camera_frame(agent_id="9")], SMALL)
    with pytest.raises(ValueError, match="has the cameras camera0, but its type needs rear"):
        camera_batch([camera_frame(camera_view())], SMALL, ("camera0", "rear"))
    with pytest.raises(ValueError, match=r"camera0 has no depth image.*depth_supervision=false"):
        camera_batch([camera_frame(camera_view())], SMALL, depth=True, rng=np.random.default_rng(0))
    assert camera_batch([camera_frame(camera_view())], SMALL, depth=True).depth_m is None  # not needed in evaluation


@pytest.mark.parametrize(("negate", "signs"), [("y", (1, -1, 1)), ("x", (-1, 1, 1))])
def test_a_mirrored_world_is_seen_in_mirrored_images(negate: Literal["x", "y"], signs: tuple[int, int, int]) -> None:
    view = camera_view(yaw_deg=20, position_m=(1.0, 0.5, 0.3), depth_m=5.0)
    assert view.depth_m is not None
    view.depth_m[:, 0] = 9.0
    mirrored = mirror_view(view, negate)
    point = np.array([6.0, 1.5, 1.0])
    x, y = project(view, point)
    np.testing.assert_allclose(project(mirrored, point * signs), [80 - x, y])
    np.testing.assert_array_equal(mirrored.image, view.image[:, ::-1])
    assert mirrored.depth_m is not None and mirrored.depth_m[:, -1].tolist() == [9.0] * 60


def test_cameras_are_augmented_with_their_agents() -> None:
    view = camera_view(yaw_deg=20, position_m=(1.0, 0.5, 0.3))
    point = np.array([6.0, 1.5, 1.0, 1.0])
    at = np.eye(4)
    at[:3, 3] = (3.0, 2.0, 0.0)
    frame = replace(camera_frame(view), world_SE3_agent=at, world_SE3_agent_measured=at)
    x, y = project(view, point[:3])
    for changed, world in ((mirror_frame(frame), (9.0, -3.5, 1.0)), (rescale_frame(frame, 2.0), (18.0, 7.0, 2.0))):
        in_agent = np.linalg.inv(changed.world_SE3_agent) @ [*world, 1.0]
        expected = (80 - x, y) if world[1] < 0 else (x, y)
        np.testing.assert_allclose(project(changed.cameras[0], in_agent[:3]), expected)


def test_a_larger_world_looks_the_same_from_farther_away() -> None:
    view = camera_view(yaw_deg=20, position_m=(1.0, 0.5, 0.3), depth_m=5.0)
    larger = rescale_view(view, 1.5)
    point = np.array([6.0, 1.5, 1.0])
    np.testing.assert_allclose(project(larger, point * 1.5), project(view, point))
    np.testing.assert_array_equal(larger.image, view.image)
    assert larger.depth_m is not None and (larger.depth_m == 7.5).all()
