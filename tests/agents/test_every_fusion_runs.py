"""Runs with every fusion: under both splits, with codecs that choose cells, and the same on both runtimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.errors import UserError
from heal.message.codec import Codec
from heal.types import Split
from tests.agents.tiny_run import TinyAlliance, TinySource, assert_same_results, by_id
from tests.heal.fusion.test_every_fusion import CHANNELS, SMALL

SOURCE = TinySource(ticks_each=2)
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
CHOSEN = Codec.parse("int8,score:0.1,zstd")
every_fusion = pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.kind)
ON_RAY = [part for part in SMALL if part.kind in ("v2vnet", "coalign")]


def alliance_of(settings: Any) -> TinyAlliance:
    """Return the tiny alliance with a fusion, which finds foreground in a part of the cells."""
    alliance = TinyAlliance(fusion=settings, channels=CHANNELS)
    heads = [part for name, part in alliance.base.fusion.named_modules() if name.startswith(("foreground_head", "single_head"))]
    generator = torch.Generator().manual_seed(0)
    for head in heads:
        assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
        head.weight.data = torch.randn(head.weight.shape, generator=generator)
        head.bias.data.fill_(-3.0)
    return alliance


def run_local(alliance: TinyAlliance, options: RunOptions) -> list[TickResult]:
    with LocalRuntime(alliance, SOURCE, TYPES, options=options) as runtime:
        return list(runtime.run(range(len(SOURCE))))


@every_fusion
def test_both_splits_give_the_same_boxes(settings: Any) -> None:
    alliance = alliance_of(settings)
    feature, pyramid = (run_local(alliance, RunOptions(split=split)) for split in ("feature", "pyramid"))
    for one, other in zip(feature, pyramid, strict=True):
        assert len(one.detections) and one.detections.scores.isfinite().all()
        assert torch.equal(one.detections.corners, other.detections.corners)
        assert torch.equal(one.detections.scores, other.detections.scores)


@every_fusion
@pytest.mark.parametrize("split", ["feature", "pyramid"])
def test_cells_are_chosen_by_the_foreground_scores(settings: Any, split: Split) -> None:
    alliance = alliance_of(settings)
    whole, chosen = (run_local(alliance, RunOptions(split=split, codec=codec)) for codec in (Codec.parse("int8,zstd"), CHOSEN))
    for one, other in zip(whole, chosen, strict=True):
        assert len(other.detections) and all(record.status == "used" for record in other.messages)
        pairs = [pair for pair in zip(other.messages, one.messages, strict=True) if not pair[0].own]
        assert pairs and all(0 < less.size_bytes < more.size_bytes for less, more in pairs)


@every_fusion
def test_boxes_and_points_are_sent_with_the_base_of_any_fusion(settings: Any) -> None:
    alliance = alliance_of(settings)
    runs = [run_local(alliance, RunOptions(split=split, guard="off")) for split in ("feature", "boxes", "points")]
    for feature, boxes, points in zip(*runs, strict=True):
        assert feature.alone is not None and boxes.alone is not None and points.alone is not None
        for alone in (boxes.alone, points.alone):
            torch.testing.assert_close(alone.scores, feature.alone.scores, rtol=0, atol=1e-4)
        assert len(boxes.detections) and len(points.detections)
        assert not torch.equal(boxes.detections.scores, boxes.alone.scores)
        assert not torch.equal(points.detections.scores, points.alone.scores)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("settings", ON_RAY, ids=lambda settings: settings.kind)
def test_ray_equals_local_to_the_last_bit(settings: Any) -> None:
    alliance, options = alliance_of(settings), RunOptions(split="pyramid", codec=CHOSEN)
    with open_runtime("ray", alliance, SOURCE, TYPES, None, options) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    assert_same_results(results, run_local(alliance, options))


def test_a_run_stops_at_once_for_a_type_that_the_fusion_cannot_take() -> None:
    alliance = alliance_of(replace(next(part for part in SMALL if part.kind == "hmvit"), kinds={"m1": "lidar"}))
    with pytest.raises(UserError, match="expected one of m1, got 'm2'"):
        run_local(alliance, RunOptions())
    with LocalRuntime(alliance, SOURCE, TYPES, options=RunOptions(agents=1)) as runtime:
        [alone] = runtime.run(range(1))
    assert [message.status for message in alone.messages] == ["used"]
