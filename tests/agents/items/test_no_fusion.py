"""Without fusion the ego's own map alone gives the boxes: with a base that fuses nothing, or with one agent."""

from __future__ import annotations

from dataclasses import replace

import torch

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.fusion.ego_only import EgoOnlyConfig
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id
from tests.heal.networks import BASE, small_model
from tests.tools.training.small_training import SETTINGS, SOURCE

TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m1"})


class EgoOnlyAlliance(TinyAlliance):
    """The tiny alliance with a base that fuses nothing."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.base = BaseModel(replace(self.base.config, fusion=EgoOnlyConfig())).eval()
            self.base.cls_head.bias.data.zero_()
            self.base.cls_head.weight.data.normal_(std=5.0)


def run(options: RunOptions) -> list[TickResult]:
    with LocalRuntime(EgoOnlyAlliance(), TinySource(), TYPES, options=options) as runtime:
        return list(runtime.run(range(2)))


def test_three_agents_and_one_give_the_egos_own_boxes() -> None:
    for split in ("feature", "pyramid"):
        together, alone = run(RunOptions(split=split)), run(RunOptions(split=split, agents=1))  # type: ignore[arg-type]
        for one, other in zip(together, alone, strict=True):
            assert one.alone is not None and other.alone is not None and len(other.detections) > 3
            for found in (one.detections, one.alone, other.alone):
                assert torch.equal(found.corners, other.detections.corners)
            assert [record.status for record in one.messages] == ["used"] * 3


def test_a_base_without_fusion_is_trained_on_single_agents() -> None:
    base = replace(BASE, fusion=EgoOnlyConfig())
    training = replace(SETTINGS.training, max_agents=1)
    settings = replace(SETTINGS, base=base, training=training)
    torch.manual_seed(0)
    model = CollabModel(BaseModel(base), {"m1": small_model().agent("m1")})
    taker, batch = StepTaker(model, settings), TrainingSteps(SOURCE, model, settings)[0]
    assert batch.inputs.agents_per_scene == (1, 1)
    losses = [float(taker.take(batch, 1e-2).total.detach()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
