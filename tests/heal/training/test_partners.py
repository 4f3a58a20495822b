"""Spoiled partners: what they lose, and what is still asked of a scene with them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from heal.config import ConfigError, build_config
from heal.datasets.town import TownSource
from heal.detection.points import points_in_boxes
from heal.se3 import inverse_SE3, transform_points
from heal.training.batches import BatchMaker
from heal.training.drawing import DrawnScene
from heal.training.partners import PartnersConfig, SpoiledScene, spoil_partners
from heal.types import AgentFrame, Int64, LidarScan, Scene, load_scene
from tests.heal.networks import small_model
from tests.heal.views import camera_view
from tests.tools.training.small_training import SETTINGS

KINDS = ("blind", "partial", "wrong_pose", "noise", "few_lines")


@cache
def _scene() -> Scene:
    scene = load_scene(TownSource("test", 3, 1), 0)
    assert len(scene.frames) > 1 and len(scene.objects) > 2
    return scene


def _spoiled(seed: int = 0, **shares: float) -> SpoiledScene:
    return spoil_partners(_scene(), PartnersConfig(**shares), np.random.default_rng(seed))


def _others(scene: Scene) -> list[AgentFrame]:
    return [frame for frame in scene.frames if frame.agent_id != scene.outline.ego_id]


def _scan(frame: AgentFrame) -> LidarScan:
    assert frame.lidar is not None
    return frame.lidar


def _hits(frame: AgentFrame) -> Int64:
    corners = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners)
    return points_in_boxes(_scan(frame).points[:, :3].astype(np.float64), corners)


def test_without_shares_nothing_changes_and_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert spoil_partners(_scene(), PartnersConfig(), rng).scene is _scene()
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("kind", KINDS)
def test_the_ego_stays_as_it_is(kind: str) -> None:
    spoiled = _spoiled(**{kind: 1.0})
    assert spoiled.scene.ego is _scene().ego
    assert _scene().outline.ego_id not in spoiled.noisy | spoiled.misplaced
    assert all(after is not before for after, before in zip(_others(spoiled.scene), _others(_scene()), strict=True))
    assert set(_scene().ego.objects.ids) <= set(spoiled.scene.objects.ids) <= set(_scene().objects.ids)


def test_a_blind_agent_has_no_points_and_nothing_is_asked_of_it() -> None:
    scene = _spoiled(blind=1.0).scene
    assert all(len(_scan(frame).points) == 0 and len(frame.objects) == 0 for frame in _others(scene))
    assert set(scene.objects.ids) == set(scene.ego.objects.ids) < set(_scene().objects.ids)


def test_a_blind_camera_is_black_and_measures_no_depth() -> None:
    frames = tuple(replace(frame, cameras=(camera_view(depth_m=4.0),)) for frame in _scene().frames)
    spoiled = spoil_partners(replace(_scene(), frames=frames), PartnersConfig(blind=1.0), np.random.default_rng(0)).scene
    for frame in _others(spoiled):
        [view] = frame.cameras
        assert not view.image.any() and view.depth_m is not None and not view.depth_m.any()
    assert spoiled.ego.cameras[0].depth_m is not None and spoiled.ego.cameras[0].depth_m.any()


@pytest.mark.parametrize("kind", ["partial", "few_lines"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_of_a_scan_is_what_is_asked(kind: str, seed: int) -> None:
    scene = _spoiled(seed, **{kind: 1.0}).scene
    for after, before in zip(_others(scene), _others(_scene()), strict=True):
        assert 0 < len(_scan(after).points) < len(_scan(before).points)
        assert (_hits(after) > 0).all()
        assert set(after.objects.ids) <= set(before.objects.ids)


def test_a_second_or_a_fourth_of_the_lines_is_left() -> None:
    shares = {
        round(len(_scan(after).points) / len(_scan(before).points), 1)
        for seed in range(6)
        for after, before in zip(_others(_spoiled(seed, few_lines=1.0).scene), _others(_scene()), strict=True)
    }
    assert shares <= {0.2, 0.3, 0.5} and len(shares) > 1


def test_an_agent_with_a_wrong_pose_keeps_its_labels_but_the_scene_does_not() -> None:
    dropped = kept = 0
    for seed in range(20):
        spoiled = _spoiled(seed, wrong_pose=1.0)
        for after, before in zip(_others(spoiled.scene), _others(_scene()), strict=True):
            assert after.agent_id in spoiled.misplaced and after.objects is before.objects
            np.testing.assert_array_equal(after.world_SE3_agent, before.world_SE3_agent)
            error = inverse_SE3(before.world_SE3_agent_measured) @ after.world_SE3_agent_measured
            off = np.hypot(*error[:2, 3]) > 0.5 or abs(np.degrees(np.arctan2(error[1, 0], error[0, 0]))) > 2
            only = set(before.objects.ids) - {
                i for f in spoiled.scene.frames if f.agent_id != before.agent_id for i in f.objects.ids
            }
            if len(_others(_scene())) == 1 or only:
                dropped += bool(off and not only & set(spoiled.scene.objects.ids))
                kept += not off and only <= set(spoiled.scene.objects.ids)
    assert dropped > 5 and kept > 0


def test_a_map_of_noise_is_fused_and_not_taught() -> None:
    spoiled = _spoiled(noise=1.0)
    names = {frame.agent_id: "m1" for frame in spoiled.scene.frames}
    drawn = DrawnScene(spoiled.scene, names, True, spoiled.noisy, spoiled.misplaced)
    torch.manual_seed(0)
    model = small_model()
    maker = BatchMaker(model, SETTINGS)
    batch = maker.make([drawn], maker.truths([drawn]), None)
    assert batch.inputs.noisy == (False, *[True] * len(spoiled.noisy))
    taught = batch.agent_targets.positive | batch.agent_targets.negative
    assert taught[0].any() and not taught[1:].any()
    clean = replace(batch.inputs, noisy=())
    model.eval()
    torch.manual_seed(1)
    noisy = model.forward_with_depth(batch.inputs)[0]
    assert torch.equal(noisy.occupancy[0][0], model.forward_with_depth(clean)[0].occupancy[0][0])  # the ego's own map
    assert not torch.allclose(noisy.occupancy[0][1], model.forward_with_depth(clean)[0].occupancy[0][1])


def test_the_own_targets_of_a_misplaced_agent_stay_where_it_sees_them() -> None:
    spoiled = _spoiled(3, wrong_pose=1.0)
    names = {frame.agent_id: "m1" for frame in spoiled.scene.frames}
    maker = BatchMaker(small_model(), SETTINGS)
    wrong = DrawnScene(spoiled.scene, names, True, spoiled.noisy, spoiled.misplaced)
    right = DrawnScene(_scene(), names, True)
    wrong_targets, right_targets = (maker.make([part], maker.truths([part]), None).agent_targets for part in (wrong, right))
    assert torch.equal(wrong_targets.positive, right_targets.positive)


def test_shares_have_to_leave_some_agents_as_they_are() -> None:
    with pytest.raises(ConfigError, match="sum to at most 1"):
        build_config(PartnersConfig, {"blind": 0.6, "noise": 0.6})
