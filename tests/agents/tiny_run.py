"""A small world for tests of the run: random clouds, networks of a few weights, and nothing from disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.agent_types import TypesOf
from heal.agents.message_records import MessageRecord
from heal.agents.network.transit import Transit, Transmission
from heal.agents.records import TickResult
from heal.alliance import TrainingRecord, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.encoders.point_pillars import PointPillarsConfig
from heal.fusion.interface import Fusion
from heal.fusion.pyramid import PyramidConfig
from heal.grid import BevGrid
from heal.layers.backbone import BackboneConfig
from heal.se3 import pose_to_SE3, transform_points
from heal.storage.compressors import StoredCompressor
from heal.types import AgentFrame, LidarScan, ObjectLabels, SceneOutline, SensorChoice

GRID = BevGrid((-12.8, -12.8, -3.0, 12.8, 12.8, 1.0), 0.8)
TICK_NS = 100_000_000
_UNIT_CORNERS = np.array([[1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]])


class TinyAlliance:
    """Two agent types with random weights, aligned to nothing, but the same every time.

    Attributes:
        trust: factors on the types' weights.
    """

    def __init__(
        self, seed: int = 0, trust: Mapping[str, float] | None = None, fusion: Any | None = None, channels: int = 8
    ) -> None:
        """Make the networks; `fusion` are the settings of another fusion than Pyramid Fusion, of maps with so many `channels`."""
        self.trust = dict(trust or {})
        generator = torch.random.fork_rng()
        with generator:
            torch.manual_seed(seed)
            pyramid = PyramidConfig(
                blocks=(1, 1), strides=(1, 2), channels=(8, 16), groups=0, upsample_strides=(1, 2), upsample_channels=(8, 8)
            )
            settings = BaseConfig(grid=GRID, in_channels=channels, pyramid=pyramid, fusion=fusion, shrink_channels=(8,))
            self.base = BaseModel(settings).eval()
            # Untrained, yet with something to say: scores spread around one half and differ from cell to cell.
            self.base.cls_head.bias.data.zero_()
            self.base.cls_head.weight.data.normal_(std=5.0)
            backbone = BackboneConfig(blocks=(1,), strides=(2,), channels=(channels,))
            agent = AgentConfig(encoder=PointPillarsConfig(channels=(8,)), backbone=backbone)
            self._agents = {name: AgentModel(agent, GRID).eval() for name in ("m1", "m2")}

    @property
    def trunk(self) -> Fusion:
        return self.base.fusion

    base_hash = "f00d" * 16
    grid = GRID
    agent_names = ("m1", "m2")
    compressors: Mapping[int, StoredCompressor] = {}

    def agent(self, name: str) -> AgentModel:
        return self._agents[name]

    def trust_of(self, name: str) -> float:
        return self.trust.get(name, 1.0)


@dataclass(frozen=True)
class TinySource:
    """Scenarios of a few agents each; clouds and labels are random, and the same whoever asks.

    Attributes:
        scenarios: the agents of each, its ego first.
        ticks_each: length of each.
        spacing_m: distance between neighbouring agents.
        broken: an agent whose data cannot be read.
        slow: an agent whose data takes a quarter of a second to read.
        dirty: ticks in which the sensors of agent b cannot be read, but its labels can.
    """

    scenarios: tuple[tuple[str, ...], ...] = (("ego", "b", "c"), ("d", "ego"))
    ticks_each: int = 5
    spacing_m: float = 3.0
    broken: str = ""
    slow: str = ""
    dirty: tuple[int, ...] = ()

    def __len__(self) -> int:  # noqa: D105
        return self.ticks_each * len(self.scenarios)

    def outline(self, index: int) -> SceneOutline:
        ids = self.scenarios[index // self.ticks_each]
        return SceneOutline(f"tiny-{index // self.ticks_each}/{index:03d}", index * TICK_NS, ids[0], ids, self._pose(index, ids[0]))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        if agent_id == self.broken:
            raise ValueError(f"cloud of {agent_id} is truncated")
        if agent_id == "b" and index in self.dirty and (choice is None or choice.lidar):
            raise ValueError("the lens of b is dirty\nwipe it")
        if agent_id == self.slow:
            time.sleep(0.25)
        rng = np.random.default_rng((index, sum(agent_id.encode())))
        points = rng.uniform((-12, -12, -2.5, 0), (12, 12, 0.5, 1), (400, 4)).astype(np.float32)
        pose = self._pose(index, agent_id)
        labels = self._labels(index, agent_id)
        return AgentFrame(agent_id, "vehicle", index * TICK_NS, pose, pose, LidarScan(points), (), labels)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return None

    def _pose(self, index: int, agent_id: str) -> np.ndarray:
        place = self.scenarios[index // self.ticks_each].index(agent_id)
        return pose_to_SE3([100 + self.spacing_m * place + 0.1 * index, 50 - place, 1.9, 0, 20 * place, 0])

    def _labels(self, index: int, agent_id: str) -> ObjectLabels:
        """Two cars, one that all agents label and one that this agent alone does."""
        own = sum(agent_id.encode())
        centres = np.array([[104.0, 52.0, 1.0], [98.0 + own % 7, 45.0, 1.0]])
        corners = centres[:, None] + _UNIT_CORNERS * (2.0, 0.8, 0.75)
        return ObjectLabels(np.array([1, own]), transform_points(np.eye(4), corners))


@dataclass(frozen=True)
class Trap(TinySource):
    """Scenes that another process than this one never gets open while a file is there; the file is gone then."""

    file: Path = Path()
    home: int = os.getpid()

    def outline(self, index: int) -> SceneOutline:
        if os.getpid() != self.home and self.file.exists():
            self.file.unlink()
            time.sleep(600)
        return super().outline(index)


@dataclass(frozen=True)
class Without:
    """A network that loses some messages, (tick of the run, agent), and delivers the others at once."""

    gone: frozenset[tuple[int, str]]

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        return [
            Transit(None if (tick, transmission.agent_id) in self.gone else transmission.sent_ns) for transmission in transmissions
        ]


def save_tiny_alliance(path: Path, seed: int = 0) -> Path:
    """The tiny alliance with its first type, on disk."""
    tiny = TinyAlliance(seed)
    base_hash = save_base(path, tiny.base, TrainingRecord())
    save_agent(path, "m1", tiny.agent("m1"), base_hash, TrainingRecord())
    return path


def assert_same_results(a: list[TickResult], b: list[TickResult]) -> None:
    """Equal to the last bit in all that is not a measured time."""
    assert [result.tick for result in a] == [result.tick for result in b]
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)
        assert torch.equal(one.detections.scores, other.detections.scores)
        assert torch.equal(one.detections.classes, other.detections.classes)
        assert torch.equal(one.ground_truth.corners, other.ground_truth.corners)
        assert torch.equal(one.ground_truth.ids, other.ground_truth.ids)
        assert torch.equal(one.ground_truth.classes, other.ground_truth.classes)
        assert (one.scene_id, one.ego_id, one.timestamp_ns) == (other.scene_id, other.ego_id, other.timestamp_ns)
        assert (one.held, one.late_rejections, one.guard) == (other.held, other.late_rejections, other.guard)
        assert (one.alone is None) == (other.alone is None)
        if one.alone is not None and other.alone is not None:
            assert torch.equal(one.alone.corners, other.alone.corners) and torch.equal(one.alone.scores, other.alone.scores)
        assert [without_times(record) for record in one.messages] == [without_times(record) for record in other.messages]


def without_times(record: MessageRecord) -> tuple[object, ...]:
    return record.agent_id, record.agent_type, record.own, record.size_bytes, record.arrival_ns, record.status, record.reason


def by_id(agent_types: Mapping[str, str]) -> TypesOf:
    """Agents have their types in all scenes; in a scene with an agent that is not named, ValueError."""

    def types_of(outline: SceneOutline) -> Mapping[str, str]:
        unknown = [agent_id for agent_id in outline.agent_ids if agent_id not in agent_types]
        if unknown:
            raise ValueError(f"no agent type is assigned to agent {unknown[0]!r}; assigned are {sorted(agent_types)}")
        return {agent_id: agent_types[agent_id] for agent_id in outline.agent_ids}

    return types_of
