"""Our fast form of every stage gives the same numbers as its plain form in heal.tools.benches.plain."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.datasets.dair.source import DairSource
from heal.datasets.lidar import read_lidar
from heal.detection.anchors import make_anchors
from heal.detection.boxes import boxes_to_corners
from heal.detection.decode import DecodeConfig
from heal.detection.detections import Detections, GroundTruth
from heal.detection.ground_truth import agent_ground_truth, ground_truth
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig, depth_loss
from heal.detection.metrics import ApAccumulator
from heal.detection.rotated_iou import rotated_iou
from heal.detection.targets import TargetConfig, Targets, assign_targets
from heal.encoders.lift_splat_depth import DepthBinsConfig
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.voxelize import VoxelGrid, voxelize
from heal.layers.backbone import BackboneConfig
from heal.se3 import pose_to_SE3, relative_SE3
from heal.tools.benches import plain as plain_forms
from heal.tools.benches.plain import detections, encoders, fusion, readers, training, voxels
from heal.training.batches import TrainingBatch
from heal.training.config import TrainingConfig
from heal.training.step import Learner, training_loss
from heal.types import AgentFrame, LidarScan, Scene, load_scene
from tests.heal.networks import AGENT, BASE, GRID, LIFT_SPLAT, SECOND, small_scene, with_random_norms
from tests.heal.views import camera_frame, camera_view
from tests.real_data import real_data

PLAIN_FILES = sorted(Path(plain_forms.__path__[0]).glob("*.py"))
PILLARS = replace(AGENT, encoder=PointPillarsConfig(channels=(8, 6), max_points=5, distance=True))
CAMERA = AgentConfig(
    encoder=replace(
        LIFT_SPLAT,
        depth=DepthBinsConfig(start_m=1.0, end_m=12.0, count=8),
        range_m=(-9.6, -9.6, -10.0, 9.6, 9.6, 10.0),
        cell_m=0.4,
    ),
    backbone=BackboneConfig(blocks=(1,), channels=(8,)),
)


def agent_model(settings: AgentConfig) -> AgentModel:
    torch.manual_seed(0)
    model = with_random_norms(AgentModel(settings, GRID)).eval()
    assert isinstance(model, AgentModel)
    return model


def frames_of(settings: AgentConfig) -> list[AgentFrame]:
    """Make the frames of two agents, for a LiDAR also of a third one without points. The cameras look in several directions."""
    if settings.sensor.lidar:
        blind = AgentFrame("9", "vehicle", 0, np.eye(4), np.eye(4), LidarScan(np.zeros((0, 4), np.float32)))
        return [*small_scene(0).frames, blind]
    views = [camera_view(f"camera{i}", yaw_deg=110 * i, position_m=(0.3, 0.2, 1.5), depth_m=5.0) for i in range(3)]
    return [camera_frame(*views), camera_frame(*views[:1])]


@pytest.mark.parametrize("path", PLAIN_FILES, ids=lambda path: path.stem)
def test_plain_forms_import_no_other_tools(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imported += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    others = [name for name in imported if name.startswith(("tests", "heal.tools"))]
    assert all(name.startswith("heal.tools.benches.plain") for name in others)


def test_all_plain_forms_are_found() -> None:
    assert {path.stem for path in PLAIN_FILES} == {"__init__", "detections", "encoders", "fusion", "readers", "training", "voxels"}


@pytest.mark.parametrize(("max_points", "max_voxels"), [(3, 40), (32, 70000)])
def test_voxels(max_points: int, max_voxels: int) -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.uniform((-4, -2, -3, 0), (4, 2, 1, 1), (size, 4)).astype(np.float32) for size in (500, 0, 80)]
    clouds[0][:100] = clouds[0][:100].round(1)  # points on the borders of cells
    grid = VoxelGrid((-3.2, -1.6, -3.0, 3.2, 1.6, 1.0), (0.4, 0.4, 0.8), max_points, max_voxels)
    ours, plain = voxelize(clouds, grid), voxels.voxelize(clouds, grid)
    assert vars(ours).keys() == vars(plain).keys() and len(ours.coords) > 2
    torch.testing.assert_close(vars(ours), vars(plain), atol=0, rtol=0)
    nothing = voxels.voxelize(clouds[1:2], grid)
    torch.testing.assert_close(vars(voxelize(clouds[1:2], grid)), vars(nothing), atol=0, rtol=0)


@pytest.mark.parametrize("settings", [PILLARS, SECOND, CAMERA], ids=["pillars", "sparse", "camera"])
def test_encoders(settings: AgentConfig) -> None:
    model = agent_model(settings)
    inputs = model.prepare(frames_of(settings))
    with torch.no_grad():
        ours, plain = model(inputs), encoders.encode(model, inputs)
        raw = model.encoder(inputs)
        torch.testing.assert_close(raw, _encoded(model, inputs), atol=2e-6, rtol=1e-5)
    assert raw[0].any() and raw.std() > 0.01
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)


def _encoded(model: AgentModel, inputs: object) -> Tensor:
    by_kind = {"point_pillars": encoders.point_pillars, "second": encoders.second, "lift_splat": encoders.lift_splat}
    return by_kind[model.config.encoder.kind](model.encoder, inputs)  # type: ignore[arg-type]


def _poses(*xy_yaw: tuple[float, float, float]) -> Tensor:
    return torch.from_numpy(np.stack([relative_SE3(pose_to_SE3([x, y, 0, 0, yaw, 0]), np.eye(4)) for x, y, yaw in xy_yaw]))


@pytest.mark.parametrize(
    "poses",
    [
        [(0.0, 0.0, 0.0)],
        [(0.0, 0.0, 0.0), (3.1, -1.7, 25.0), (-4.4, 2.3, 190.0), (500.0, 0.0, 0.0)],
        [(2.3, 1.1, 40.0), (-3.3, 0.7, 100.0)],  # the map of the ego is missing
    ],
    ids=["alone", "four", "without the ego"],
)
def test_fusion(poses: list[tuple[float, float, float]]) -> None:
    torch.manual_seed(0)
    base = with_random_norms(BaseModel(BASE)).eval()
    with torch.no_grad():
        levels = base.trunk(torch.randn(len(poses), 8, GRID.ny, GRID.nx))
        scores = base.pyramid_backbone.scores(levels.occupancy, [None, *[(1.5, 1.2)] * (len(poses) - 1)])
        scores[0][:, :, :3] = 0.0  # cells in which no agent has a score
        ours = base.heads(base.fuse_scored(levels.maps, scores, _poses(*poses), [len(poses)]))
        plain = fusion.fuse(base, levels.maps, scores, _poses(*poses))
    assert ours.classification.std() > 1e-3
    torch.testing.assert_close(vars(ours), vars(plain), atol=1e-5, rtol=1e-4)


ANCHORS = make_anchors(GRID, BASE.anchors)


def random_head(scenes: int, seed: int) -> HeadOutput:
    """Make the head's output with small regression codes, all directions and a few high scores."""
    generator = torch.Generator().manual_seed(seed)
    scores, codes, bins = (torch.randn(scenes, k * 2, GRID.ny, GRID.nx, generator=generator) for k in (1, 7, 2))
    return HeadOutput(scores * 2 - 4, codes * 0.3, bins)


@pytest.mark.parametrize(
    "config",
    [DecodeConfig(), DecodeConfig(score_threshold=0.05, nms_iou=0.3, max_candidates=30, max_extent_m=5.5, z_limits_m=(-2.5, 0.5))],
    ids=["defaults", "all limits"],
)
def test_decoding(config: DecodeConfig) -> None:
    for seed in range(3):
        head = random_head(1, seed)
        head.regression[0, 3, 4, 5] = math.inf
        head.classification[0, 0, 4, 5] = 9.0
        ours = BaseModel(replace(BASE, decode=config)).detection.decode(head, GRID.range_m)
        plain = detections.decode(head, ANCHORS, config, GRID.range_m)
        assert len(ours) > 5
        torch.testing.assert_close(vars(ours), vars(plain), atol=1e-5, rtol=1e-5)


def random_boxes(count: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    low, high = (-9, -6, -1, 1, 1.5, 3, -math.pi), (9, 6, -1, 2, 2.5, 6, math.pi)
    return torch.from_numpy(rng.uniform(low, high, (count, 7))).float()


def test_overlaps_of_rotated_boxes() -> None:
    a, b = (boxes_to_corners(random_boxes(count, count))[:, :4, :2] for count in (25, 17))
    b[3] = a[4]
    found = rotated_iou(a, b)
    assert found.gt(0).sum() > 20 and found[4, 3] == 1
    torch.testing.assert_close(found, detections.rotated_iou(a, b), atol=1e-6, rtol=1e-5)


def test_average_precision() -> None:
    frames, ours = [], ApAccumulator()
    for seed in range(6):
        truth = random_boxes(seed, seed)  # the first frame has none
        boxes = torch.cat(
            [truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed)) * 0.25, random_boxes(3, 99)]
        )
        scores = torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 1, len(boxes)).round(1)).float()
        found = Detections.sorted(boxes_to_corners(boxes), scores)
        frames.append((found, GroundTruth(boxes_to_corners(truth), torch.arange(len(truth)))))
        ours.add(*frames[-1])
    expected = ours.results().ap
    assert len({*expected.values()}) == 3 and all(0.05 < ap < 1 for ap in expected.values())
    assert detections.average_precision(frames, (0.3, 0.5, 0.7)) == pytest.approx(expected, abs=1e-9)
    assert detections.average_precision(frames[:1], (0.5,)) == {0.5: 0.0}


LOSS = LossConfig(occupancy_weights=(0.4, 0.2))
SETTINGS = TrainingConfig(base=BASE, agents={"m1": AGENT}, loss=LOSS)


def batch_of(model: CollabModel, scenes: list[Scene], types: list[str]) -> TrainingBatch:
    """Make a batch from scenes in which the agents get the types in turn."""
    assigned = [{agent: types[i % len(types)] for i, agent in enumerate(scene.outline.agent_ids)} for scene in scenes]
    fused = [assign_targets(ANCHORS, ground_truth(scene, GRID.range_m).boxes, TargetConfig()) for scene in scenes]
    truths = [agent_ground_truth(frame, GRID.range_m) for scene in scenes for frame in scene.ego_first]
    alone = [assign_targets(ANCHORS, truth.boxes, TargetConfig()) for truth in truths]
    return TrainingBatch(("",), model.prepare(scenes, assigned), Targets.stack(fused), Targets.stack(alone))


def with_cameras(scene: Scene) -> Scene:
    """Return the scene with a camera added to each agent."""
    view = camera_view(position_m=(0.3, 0.2, 1.5), depth_m=5.0)
    return replace(scene, frames=tuple(replace(frame, cameras=(view,)) for frame in scene.frames))


@pytest.mark.parametrize("frozen", [False, True], ids=["all learn", "frozen base"])
@pytest.mark.parametrize("camera", [False, True], ids=["lidar", "lidar and camera"])
def test_training_loss_gradients_and_statistics(frozen: bool, camera: bool) -> None:
    def fresh() -> CollabModel:
        torch.manual_seed(0)
        agents = {"m1": AgentModel(AGENT, GRID)} | ({"m2": AgentModel(CAMERA, GRID)} if camera else {})
        model = CollabModel(BaseModel(BASE), agents).train()
        if frozen:
            model.base.requires_grad_(False).eval()
        return model

    models = fresh(), fresh()
    scenes = [with_cameras(small_scene(seed, agents=1 + seed)) for seed in (1, 0, 2)]
    batch = batch_of(models[0], scenes, list(models[0].agents))
    assert batch.targets.positive.any() and not batch.targets.positive.all()
    ours = training_loss(Learner(models[0]), batch, SETTINGS, models[0].base.detection).total
    single_weight = SETTINGS.training.single_weight
    plain = training.training_loss(models[1], batch.inputs, batch.targets, batch.agent_targets, LOSS, single_weight, ANCHORS)
    torch.testing.assert_close(ours, plain, atol=0, rtol=2e-5)
    for loss in (ours, plain):
        loss.backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (frozen and name.startswith("base.")), name
        if a.grad is not None and b.grad is not None:
            assert (a.grad - b.grad).abs().max() <= 1e-3 * a.grad.abs().max() + 1e-6, name
    torch.testing.assert_close(dict(models[0].state_dict()), dict(models[1].state_dict()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("smooth", [False, True])
def test_depth_loss(smooth: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, bins = torch.randn(2, 8, 3, 4, generator=generator), torch.randint(8, (2, 3, 4), generator=generator)
    config = replace(LOSS, smooth_depth=smooth, depth_weight=3.0)
    torch.testing.assert_close(depth_loss(logits, bins, config), training.depth_loss(logits, bins, config))


@pytest.mark.real
def test_reading_a_real_dair_pair() -> None:
    root = real_data("dair_v2x_example")
    scene = load_scene(DairSource(root, "val", {"lidar"}), 3)
    plain = readers.read_dair_clouds(root, "val", 3)
    assert [len(cloud) > 40_000 for cloud in plain] == [True, True]
    for agent_id, cloud in zip(("vehicle", "roadside"), plain, strict=True):
        lidar = scene.frame(agent_id).lidar
        assert lidar is not None and cloud.dtype == np.float32
        np.testing.assert_array_equal(lidar.points, cloud)


@pytest.mark.real
def test_reading_a_real_opv2v_cloud() -> None:
    path = real_data("opv2v_pieces", "lidar", "000070.pcd")
    np.testing.assert_array_equal(read_lidar(path), readers.read_opv2v_cloud(path))
