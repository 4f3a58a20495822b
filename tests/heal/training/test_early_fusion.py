"""Training for early fusion joins the clouds of a scene's agents, and a network of early fusion can teach one that fuses maps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseModel, BaseOutput
from heal.collab_model import CollabModel
from heal.detection.head import HeadOutput
from heal.encoders.joint_cloud import points_to_share
from heal.encoders.lidar import transform_scan
from heal.errors import UserError
from heal.fusion.maximum import MaximumConfig
from heal.se3 import relative_SE3
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.distillation import distillation_loss, make_teacher, require_teacher
from heal.training.drawing import DrawnScene
from heal.training.joined import joined
from heal.training.partners import PartnersConfig
from heal.training.step import StepTaker
from heal.training.validation import ValidationScenes, validate
from tests.heal.networks import AGENT, BASE, GRID, LIFT_SPLAT, small_model, small_scene
from tests.tools.training.small_training import SETTINGS, SOURCE, fresh_model

EARLY = replace(SETTINGS, training=replace(SETTINGS.training, merge_points=True))


def whole(drawn_seed: int = 1) -> DrawnScene:
    scene = small_scene(drawn_seed, agents=3)
    return DrawnScene(scene, dict.fromkeys(scene.outline.agent_ids, "m1"), of_union=True)


def test_the_ego_has_the_points_of_all_agents_and_finds_all_objects() -> None:
    drawn = whole()
    scene, (ego, *others) = joined(drawn).scene, drawn.scene.ego_first
    [frame] = scene.frames
    assert frame.lidar is not None and scene.outline.agent_ids == (ego.agent_id,) == tuple(joined(drawn).agent_types)
    parts = []
    for part in (ego, *others):
        points = points_to_share(part)
        assert points is not None
        parts.append(transform_scan(relative_SE3(ego.world_SE3_agent_measured, part.world_SE3_agent_measured), points))
    np.testing.assert_array_equal(frame.lidar.points, np.concatenate(parts))
    assert set(scene.objects.ids) == set(drawn.scene.objects.ids) >= set(frame.objects.ids)


def test_points_are_where_the_measured_poses_say() -> None:
    drawn = whole()
    ego, other, *_ = drawn.scene.frames
    moved = replace(other, world_SE3_agent_measured=other.world_SE3_agent_measured @ _moved_by(1.0))
    wrong = replace(drawn.scene, frames=(ego, moved, *drawn.scene.frames[2:]))
    right, found = (joined(replace(drawn, scene=scene)).scene.frames[0].lidar for scene in (drawn.scene, wrong))
    assert right is not None and found is not None
    distance = np.linalg.norm(found.points[:, :2] - right.points[:, :2], axis=1)
    shared = points_to_share(other)
    assert shared is not None and np.isclose(distance, 1.0, atol=1e-3).sum() == len(shared)


def _moved_by(metres: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = metres
    return pose


def test_a_training_of_early_fusion_learns_and_is_validated() -> None:
    model = fresh_model()
    steps, taker = TrainingSteps(SOURCE, model, EARLY), StepTaker(model, EARLY)
    batch = steps[0]
    assert batch.inputs.agents_per_scene == (1, 1) and batch.joint is None
    losses = [float(taker.take(batch, 1e-2).total.detach()) for _ in range(6)]
    assert losses[-1] < losses[0]
    scenes = ValidationScenes(SOURCE, model, EARLY)
    assert scenes[0].batch.inputs.agents_per_scene == (1, 1)
    assert np.isfinite(validate(taker, [scenes[i] for i in range(len(scenes))]).loss)


def teacher() -> CollabModel:
    torch.manual_seed(7)
    return make_teacher(BaseModel(BASE), "m1", AgentModel(AGENT, GRID))


def test_a_student_comes_nearer_to_its_teacher_which_stays_as_it_is() -> None:
    model, taught_by = fresh_model(), teacher()
    before = {name: tensor.clone() for name, tensor in taught_by.state_dict().items()}
    steps, taker = TrainingSteps(SOURCE, model, SETTINGS, teacher=taught_by), StepTaker(model, SETTINGS, teacher=taught_by)
    batch = steps[0]
    assert batch.joint is not None and batch.joint.agents_per_scene == (1, 1)
    losses = [taker.take(batch, 1e-2) for _ in range(8)]
    assert losses[-1].distillation < 0.5 * losses[0].distillation
    first = losses[0]
    parts = first.classification + first.regression + first.direction + first.occupancy + first.distillation
    torch.testing.assert_close(float(first.total.detach()), parts, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in taught_by.state_dict().items())
    assert TrainingSteps(SOURCE, model, SETTINGS)[0].joint is None
    half = replace(SETTINGS, loss=replace(SETTINGS.loss, distillation_weight=5000.0))
    ours, theirs = (StepTaker(fresh_model(), part, teacher=taught_by).losses(batch).distillation for part in (SETTINGS, half))
    assert ours == pytest.approx(2 * theirs)


def test_the_divergence_is_that_of_the_softmax_over_channels() -> None:
    generator = torch.Generator().manual_seed(0)

    def output() -> BaseOutput:
        head = HeadOutput(*(torch.randn(2, n, 3, 4, generator=generator) for n in (2, 14, 4)))
        return BaseOutput(head, (), torch.randn(2, 6, 3, 4, generator=generator))

    student, wanted = output(), output()
    by_hand = 0.0
    for one, other in (
        (student.fused, wanted.fused),
        (student.head.classification, wanted.head.classification),
        (student.head.regression, wanted.head.regression),
    ):
        p, q = other.exp() / other.exp().sum(1, keepdim=True), one.exp() / one.exp().sum(1, keepdim=True)
        by_hand += float((p * (p / q).log()).sum()) / one.numel()
    assert float(distillation_loss(student, wanted)) == pytest.approx(by_hand, rel=1e-5)
    assert float(distillation_loss(student, student)) == pytest.approx(0, abs=1e-8)


def test_the_scores_of_a_single_box_for_each_cell_are_taught_too() -> None:
    fused, regression, direction = torch.randn(1, 4, 3, 3), torch.randn(1, 6, 3, 3), torch.randn(1, 4, 3, 3)

    def output(score: float) -> BaseOutput:
        return BaseOutput(HeadOutput(torch.full((1, 1, 3, 3), score), regression, direction), (), fused)

    p, q = torch.tensor([2.0, -1.0]).sigmoid().tolist()
    by_hand = (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 2
    assert float(distillation_loss(output(-1.0), output(2.0))) == pytest.approx(by_hand, rel=1e-5)


def test_a_teacher_of_other_maps_is_refused() -> None:
    require_teacher(small_model().base, teacher())
    other = BaseModel(replace(BASE, fusion=MaximumConfig(), in_channels=8))
    with pytest.raises(UserError, match="maps of teacher and student must have the same shapes"):
        require_teacher(other, teacher())
    cameras = make_teacher(BaseModel(BASE), "m2", AgentModel(CAMERAS, GRID))
    with pytest.raises(UserError, match="the teacher's m2 reads cameras"):
        require_teacher(small_model().base, cameras)


CAMERAS = AgentConfig(encoder=replace(LIFT_SPLAT, cell_m=0.8), backbone=replace(AGENT.backbone, strides=(1,)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"agents": {"m1": AGENT, "m2": CAMERAS}}, "merge_points: expected types that read LiDAR alone, got m2"),
        ({"partners": PartnersConfig(noise=0.1)}, "merge_points: no map can be noise"),
        ({"training": replace(EARLY.training, frozen_base=True)}, "merge_points is for a base and its types"),
        ({"training": replace(EARLY.training, teacher="runs/early")}, "set training.merge_points=false"),
    ],
)
def test_settings_that_contradict_early_fusion_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        replace(EARLY, **changes)  # type: ignore[arg-type]


def test_a_detector_for_one_agent_may_be_trained_on_joint_clouds() -> None:
    detector = replace(BASE, pyramid=replace(BASE.pyramid, single_agent=True))
    settings = replace(EARLY, base=detector, loss=replace(EARLY.loss, occupancy_weights=(0.0, 0.0)))
    model = CollabModel(BaseModel(detector), {"m1": AgentModel(AGENT, GRID)})
    taker = StepTaker(model, settings)
    assert (
        settings.training.max_agents == 5 and float(taker.take(TrainingSteps(SOURCE, model, settings)[0], 1e-2).total.detach()) > 0
    )
    with pytest.raises(UserError, match="is trained with 1 agent, got 5"):
        TrainingConfig(base=detector, agents={"m1": AGENT}, loss=settings.loss)
