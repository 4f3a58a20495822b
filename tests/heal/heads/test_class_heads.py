"""Heads for several classes: each class has its own channels, targets, loss and boxes, and one class is what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from heal.base_model import BaseConfig, BaseModel, ClassConfig, make_heads
from heal.config import build_config, to_plain
from heal.detection.anchors import AnchorConfig
from heal.detection.classes import VEHICLES
from heal.detection.decode import DecodeConfig
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig, direction_bins
from heal.detection.targets import AnchorTargets, ClassTargets, TargetConfig, Targets
from heal.errors import UserError
from heal.heads.center_targets import CentersConfig, CenterTargets
from heal.heads.interface import DetectionHeads
from tests.heal.networks import BASE, GRID

EVERYWHERE = (-99.0,) * 3 + (99.0,) * 3
SMALL = AnchorConfig(length_m=0.8, width_m=0.7, height_m=1.7)
THREE = (
    ClassConfig(name="vehicle"),
    ClassConfig(name="pedestrian", anchors=SMALL, targets=TargetConfig(positive_iou=0.4, negative_iou=0.25)),
    ClassConfig(name="cyclist", anchors=replace(SMALL, length_m=1.9), targets=TargetConfig(positive_iou=0.45, negative_iou=0.3)),
)
ANCHORS = replace(BASE, classes=THREE, decode=DecodeConfig(score_threshold=0.5))
CENTERS = replace(ANCHORS, heads=CentersConfig(channels=8))
BOTH = pytest.mark.parametrize("settings", [ANCHORS, CENTERS], ids=["anchors", "centers"])
# A vehicle with a pedestrian in its footprint, a cyclist, and another pedestrian.
BOXES = torch.tensor(
    [
        [-4.4, 1.2, -1.0, 1.56, 1.6, 3.9, 0.1],
        [-4.4, 1.2, -1.0, 1.70, 0.7, 0.8, 0.3],
        [5.2, -2.8, -1.1, 1.70, 0.8, 1.9, 1.4],
        [2.0, 4.4, -1.1, 1.80, 0.6, 0.7, -2.0],
    ]
)
CLASSES = torch.tensor([0, 1, 2, 1])


def perfect_part(heads: DetectionHeads, targets: Targets, number: int) -> HeadOutput:
    """Return the output of heads that predict the targets of a class exactly."""
    if isinstance(targets, CenterTargets):
        codes = targets.regression.permute(2, 0, 1)[None]
        return HeadOutput(targets.heatmap.logit(1e-6)[None, None], codes[:, :6], codes[:, 6:])
    assert isinstance(targets, AnchorTargets)
    anchors: Tensor = heads.anchors[number]
    yaws = targets.regression.view(*anchors.shape)[..., 6] + anchors[..., 6].float()
    bins = torch.nn.functional.one_hot(direction_bins(yaws, 2, 0.7853), 2) * 9.0
    maps = (targets.positive * 18.0 - 9.0, targets.regression, bins.flatten(2))
    return HeadOutput(*(part.permute(2, 0, 1)[None] for part in maps))


def perfect_head(heads: DetectionHeads, targets: Targets) -> HeadOutput:
    """Return the output of heads that predict the targets of all classes exactly."""
    assert isinstance(targets, ClassTargets)
    parts = [perfect_part(heads, part, number) for number, part in enumerate(targets.parts)]
    return HeadOutput(*(torch.cat([vars(part)[name] for part in parts], dim=1) for name in vars(parts[0])))


@BOTH
def test_perfect_heads_find_every_class_even_one_inside_another(settings: BaseConfig) -> None:
    heads = make_heads(settings)
    found = heads.decode(perfect_head(heads, heads.targets(BOXES, CLASSES)), EVERYWHERE)
    for number in range(3):
        boxes, wanted = found.boxes[found.classes == number], BOXES[number == CLASSES]
        order, expected = boxes[:, 0].argsort(), wanted[wanted[:, 0].argsort()]
        torch.testing.assert_close(boxes[order], expected, atol=1e-3, rtol=0)


@BOTH
def test_targets_ask_of_a_class_only_its_own_objects(settings: BaseConfig) -> None:
    heads = make_heads(settings)
    targets = heads.targets(BOXES, CLASSES)
    assert isinstance(targets, ClassTargets)
    for number, part in enumerate(targets.parts):
        alone = heads.targets_of_class(BOXES[number == CLASSES], number)
        assert all(torch.equal(vars(part)[name], vars(alone)[name]) for name in vars(alone))
    cells = torch.stack([part.foreground for part in targets.parts])
    assert torch.equal(targets.foreground, cells.any(dim=0)) and cells.any(dim=2).any(dim=1).all()
    assert not (targets.background & targets.foreground).any()
    nothing = targets.within(torch.zeros_like(targets.foreground))
    assert not nothing.foreground.any()
    batch = Targets.stack([targets, nothing]).to("cpu")
    assert torch.equal(batch.foreground, torch.stack([targets.foreground, nothing.foreground]))


@BOTH
def test_the_loss_is_the_sum_over_the_classes_and_teaches_each(settings: BaseConfig) -> None:
    heads, config = make_heads(settings), LossConfig()
    targets = Targets.stack([heads.targets(BOXES, CLASSES), heads.targets(BOXES[:1], CLASSES[:1])])
    assert isinstance(targets, ClassTargets)
    torch.manual_seed(0)
    layers = heads.layers(8)
    head = heads.output(layers, torch.randn(2, 8, GRID.ny, GRID.nx))
    loss = heads.loss(head, targets, config)
    parts = zip(head.by_class(3), targets.parts, strict=True)
    counts = sum(part.positives for part in targets.parts)
    assert isinstance(counts, torch.Tensor) and counts[0] > counts[1] > 0 and torch.equal(counts, targets.positives)
    alone = [heads.loss_of_class(one, part, config, number, counts.float()) for number, (one, part) in enumerate(parts)]
    for name, value in vars(loss).items():
        torch.testing.assert_close(value, sum(vars(part)[name] for part in alone))
    weights = (1.0, 0.5, 0.25)
    weighted = replace(settings, classes=tuple(replace(one, weight=w) for one, w in zip(THREE, weights, strict=True)))
    expected = sum(part.total * weight for part, weight in zip(alone, weights, strict=True))
    torch.testing.assert_close(make_heads(weighted).loss(head, targets, config).total, expected)
    loss.total.backward()
    for part in alone:
        assert part.classification > 0 and part.regression > 0
    perfect = heads.loss(perfect_head(heads, heads.targets(BOXES, CLASSES)), Targets.stack([heads.targets(BOXES, CLASSES)]), config)
    assert perfect.regression < 1e-3
    swapped = Targets.stack([heads.targets(BOXES, torch.tensor([0, 2, 1, 2]))])
    wrong = heads.loss(perfect_head(heads, heads.targets(BOXES, CLASSES)), swapped, config)
    assert wrong.classification > 5 * perfect.classification + 1


@pytest.mark.parametrize("heads", [None, CentersConfig(channels=8, iou_exponent=0.5)], ids=["anchors", "centers"])
def test_one_named_class_is_the_base_without_classes(heads: CentersConfig | None) -> None:
    plain = replace(BASE, heads=heads)
    named = replace(plain, classes=(ClassConfig(name="vehicle"),))
    assert plain.object_classes == named.object_classes == VEHICLES
    assert "classes" not in to_plain(plain, hashed=True), "the hashes of bases that were saved before do not change"
    bases = []
    for settings in (plain, named):
        torch.manual_seed(3)
        bases.append(BaseModel(settings).eval())
    maps = torch.randn(2, 16, GRID.ny, GRID.nx)
    outputs = [base.detection.output(base.head_layers, maps) for base in bases]
    targets = [Targets.stack([base.detection.targets(BOXES, torch.zeros(4, dtype=torch.int64))] * 2) for base in bases]
    losses = [base.detection.loss(*parts, LossConfig()) for base, *parts in zip(bases, outputs, targets, strict=True)]
    for one, other in (outputs, targets, losses):
        assert type(one) is type(other) and all(torch.equal(vars(one)[name], vars(other)[name]) for name in vars(one))


@BOTH
def test_layers_have_the_channels_of_each_class(settings: BaseConfig) -> None:
    base = BaseModel(settings).eval()
    alone = BaseModel(replace(settings, classes=())).eval()
    maps = torch.randn(1, 8, GRID.ny, GRID.nx), torch.eye(4, dtype=torch.float64)[None], [1]
    for name, part in vars(base(*maps).head).items():
        assert part.shape[1] == 3 * vars(alone(*maps).head)[name].shape[1]


def test_settings_of_classes() -> None:
    section = [{"name": "vehicle"}, {"name": "person", "types": ["pedestrian", "cyclist"], "anchors": {"length_m": 0.8}}]
    made = build_config(BaseConfig, {**to_plain(BASE), "classes": section})
    assert made.class_names == ("vehicle", "person") and made.object_classes[1].types == ("pedestrian", "cyclist")
    assert [one.anchors.length_m for one in made.anchor_classes] == [BASE.anchors.length_m, 0.8]
    assert build_config(BaseConfig, to_plain(made)) == made
    for classes, cause in (
        ((ClassConfig(name="bus"), ClassConfig(name="vehicle")), "each type once, got bus twice"),
        ((ClassConfig(name="vehicle"), ClassConfig(name="cyclist", anchors=AnchorConfig(yaws_deg=(0.0,)))), "as many yaws_deg"),
    ):
        with pytest.raises(UserError, match=cause):
            replace(BASE, classes=classes)
    with pytest.raises(UserError, match="a weight above 0, got 0"):
        ClassConfig(name="vehicle", weight=0.0)
