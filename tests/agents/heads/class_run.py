"""A tiny world of three classes, beside the tests: Ray's processes import the source from here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from heal.base_model import BaseModel, ClassConfig
from heal.detection.decode import DecodeConfig
from heal.types import AgentFrame, SensorChoice
from tests.agents.tiny_run import TinyAlliance, TinySource

NAMES = ("vehicle", "pedestrian", "cyclist")


class ClassAlliance(TinyAlliance):
    """The tiny agent types with a base of three classes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            settings = replace(self.base.config, classes=tuple(ClassConfig(name=name) for name in NAMES))
            self.base = BaseModel(replace(settings, decode=DecodeConfig(score_threshold=0.75))).eval()
        # Untrained, yet each class has something to say: its scores differ from cell to cell, around one half.
        scores = self.base.cls_head
        scores.bias.data.zero_()
        agent = self.agent("m1")
        with torch.no_grad():
            maps = agent(agent.prepare([TinySource().agent_frame(0, "ego")]))
            logits = self.base(maps, torch.eye(4, dtype=torch.float64)[None], [1]).head.classification[0].flatten(1)
            scores.weight.data /= logits.std(dim=1)[:, None, None, None]
            scores.bias.data -= (logits / logits.std(dim=1, keepdim=True)).mean(dim=1)


class ClassSource(TinySource):
    """The tiny scenes, in which what only one agent labels is a cyclist."""

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = super().agent_frame(index, agent_id, choice)
        return replace(frame, objects=replace(frame.objects, classes=np.array([0, 2])))
