"""Agent types learn what lies in their own range: labels, targets and the grid of stage 2 end there."""

from dataclasses import replace

import numpy as np
import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.datasets.in_memory import ScenesInMemory
from heal.grid import BevGrid
from heal.training.batches import BatchMaker
from heal.training.config import TrainingConfig
from heal.training.drawing import DrawnScene
from heal.training.own_range import RING_M, cropped_grid, limit_labels, own_range, validated_range
from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline
from tests.heal.encoders.test_coverage import CAMERA
from tests.heal.networks import AGENT, BASE, CORNER_SIGNS, GRID, small_scene
from tests.heal.views import camera_view

WIDE = BevGrid((-51.2, -51.2, -3.0, 51.2, 51.2, 1.0), 0.8)
OWN = (-6.4, -6.4, -3.0, 6.4, 6.4, 1.0)  # the camera's 6.4 x 9.6 m, in x and within the grid's 12.8 x 6.4 m
SETTINGS = TrainingConfig(base=BASE, agents={"m1": AGENT, "c1": CAMERA})
# Two cars inside the camera's range, one at its border, two outside.
PLACES = [(3.0, 3.0), (-3.0, -2.0), (5.5, 0.0), (9.0, 0.0), (-10.0, 3.0)]


def _labels() -> ObjectLabels:
    half = CORNER_SIGNS * np.array([2.0, 0.9, 0.7])
    return ObjectLabels(np.arange(len(PLACES)), np.stack([half + np.array([x, y, -1.0]) for x, y in PLACES]))


def _scene(types: dict[str, str], of_union: bool = True) -> DrawnScene:
    scan = small_scene(0, agents=1).frames[0].lidar
    frames = tuple(
        AgentFrame(name, "vehicle", 0, np.eye(4), np.eye(4), scan, (camera_view(depth_m=4.0),), _labels()) for name in types
    )
    outline = SceneOutline("s", 0, frames[0].agent_id, tuple(types), np.eye(4))
    return DrawnScene(Scene(outline, frames, _labels()), types, of_union)


def _maker() -> BatchMaker:
    model = CollabModel(BaseModel(BASE), {"m1": AgentModel(AGENT, GRID), "c1": AgentModel(CAMERA, GRID)})
    return BatchMaker(model, SETTINGS)


def test_a_range_ends_with_the_encoders_map_or_the_grid() -> None:
    assert own_range(AGENT, GRID) is None
    assert own_range(CAMERA, GRID) == OWN
    assert own_range(CAMERA, BevGrid((-3.2, -3.2, -3.0, 3.2, 3.2, 1.0), 0.8)) is None


def test_stage_two_runs_on_the_own_range_and_its_surroundings() -> None:
    base = BaseConfig(grid=WIDE)  # the scales' strides multiply to 4 cells, 3.2 m
    assert cropped_grid(AGENT, base) == WIDE
    cropped = cropped_grid(CAMERA, base)
    assert cropped.range_m[:2] == (-12.8, -16.0) and cropped.range_m[2::3] == WIDE.range_m[2::3] and cropped.cell_m == WIDE.cell_m
    assert cropped.range_m[3] >= 6.4 + RING_M and cropped.range_m[4] >= 9.6 + RING_M
    assert cropped_grid(CAMERA, BASE) == GRID  # never more than the base's own grid


def test_labels_outside_of_a_types_range_are_dropped_and_only_there() -> None:
    single = _scene({"c": "c1"})
    limited = limit_labels(single.scene, {"c": OWN}, of_union=True)
    assert limited.objects.ids.tolist() == limited.frames[0].objects.ids.tolist() == [0, 1]
    both = _scene({"l": "m1", "c": "c1"})
    mixed = limit_labels(both.scene, {"l": None, "c": OWN}, of_union=True)
    assert mixed.objects.ids.tolist() == [0, 1, 2, 3, 4]
    assert [frame.objects.ids.tolist() for frame in mixed.frames] == [[0, 1, 2, 3, 4], [0, 1]]
    assert limit_labels(single.scene, {"c": OWN}, of_union=False).objects.ids.tolist() == [0, 1]
    assert limit_labels(both.scene, {"l": None, "c": None}, of_union=True) is both.scene
    asked = replace(both.scene, objects=ObjectLabels(_labels().ids[1:3], _labels().world_corners[1:3]))
    assert limit_labels(asked, {"l": None, "c": OWN}, of_union=True).objects.ids.tolist() == [1, 2]  # not more than before


def test_detections_of_lone_agents_are_validated_in_their_own_range() -> None:
    assert validated_range({"c1": CAMERA}, GRID, max_agents=1) == OWN
    assert validated_range({"c1": CAMERA}, GRID, max_agents=2) == validated_range({"m1": AGENT}, GRID, 1) == GRID.range_m


def test_a_camera_is_taught_inside_its_range_alone() -> None:
    maker = _maker()
    drawn = [_scene({"c": "c1"}), _scene({"l": "m1"})]
    batch = maker.make(drawn, maker.truths(drawn), None)
    for targets in (batch.targets, batch.agent_targets):
        taught = (targets.positive | targets.negative).any(dim=-1)
        inside = torch.zeros(GRID.ny, GRID.nx, dtype=torch.bool)
        inside[:, 8:24] = True  # 6.4 of 12.8 m
        assert not taught[0][~inside].any() and taught[0][inside].float().mean() > 0.8
        assert targets.positive[0].any() and taught[1][~inside].any()
        assert targets.positive[1].sum() > targets.positive[0].sum()


def test_a_scene_with_another_agent_is_taught_everywhere() -> None:
    maker = _maker()
    drawn = [_scene({"l": "m1", "c": "c1"})]
    batch = maker.make(drawn, maker.truths(drawn), None)
    assert (batch.targets.positive | batch.targets.negative)[0, :, :4].any()
    assert not (batch.agent_targets.positive | batch.agent_targets.negative)[1, :, :4].any()


def test_a_base_of_lidars_is_taught_as_before() -> None:
    settings = replace(SETTINGS, agents={"m1": AGENT})
    maker = BatchMaker(CollabModel(BaseModel(BASE), {"m1": AgentModel(AGENT, GRID)}), settings)
    drawn = [DrawnScene(ScenesInMemory([small_scene(3, agents=2)]).scenes[0], {"0": "m1", "1": "m1"}, True)]
    batch = maker.make(drawn, maker.truths(drawn), None)
    assert (
        batch.inputs.noisy == (False, False) and (batch.targets.positive | batch.targets.negative).any(dim=-1).float().mean() > 0.9
    )


def test_the_range_of_labels_can_be_higher_than_the_grid() -> None:
    model = CollabModel(BaseModel(BASE), {"m1": AgentModel(AGENT, GRID), "c1": AgentModel(CAMERA, GRID)})
    higher = replace(SETTINGS, training=replace(SETTINGS.training, z_margin_m=1.0))
    moved = np.array([0.0, 0.0, 1.6])  # the cars reach from 0.0 to 1.3 m with these, the grid to 1.0 m
    for agent_type, counts in (("m1", [0, 5]), ("c1", [0, 2])):
        drawn = _scene({"a": agent_type})
        labels = ObjectLabels(_labels().ids, _labels().world_corners + moved)
        frame = replace(drawn.scene.frames[0], objects=labels)
        drawn = replace(drawn, scene=replace(drawn.scene, frames=(frame,), objects=labels))
        makers = [BatchMaker(model, SETTINGS), BatchMaker(model, higher)]
        assert [len(maker.truths([drawn])[0]) for maker in makers] == counts
        alone = [maker.make([drawn], maker.truths([drawn]), None).agent_targets.positive.sum() for maker in makers]
        assert not alone[0] and alone[1]
