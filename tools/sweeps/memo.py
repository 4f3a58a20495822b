"""Memoized sensing and encoding for runs side by side over the same ticks, as in a sweep.

The conditions of a sweep change the links, the noise and the fusion, but neither the sensor data nor the feature maps. Reading or
casting the sensors and running the encoders and the trunk take most of a tick's time, so their results are kept for the next run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from heal.agents.interfaces import AllianceLike, Encoder, Trunk
from heal.fusion.interface import AgentLevels, Coverage
from heal.tools.sweeps.wrapped import WrappedAlliance, WrappedEncoder
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

Key = TypeVar("Key")
Value = TypeVar("Value")

# Number of kept frames and feature maps: enough for the agents of a few ticks, and the runs are at most one tick apart.
FRAMES, MAPS = 32, 16


class RecentValues(Generic[Key, Value]):
    """The most recently used values, by key; the least recently used one is dropped first."""

    def __init__(self, size: int) -> None:
        """Make an empty memory for `size` values."""
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key; call `make` if the value is not in the memory."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


class MemoSource:
    """A source that keeps recent frames: each run reads the same sensor data, and reading or casting is slow."""

    def __init__(self, source: SceneSource) -> None:
        """Wrap a source."""
        self._source = source
        self._frames: RecentValues[tuple[int, str, SensorChoice | None], AgentFrame] = RecentValues(FRAMES)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        """Return the agents and the instant of a scene."""
        return self._source.outline(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return the frame of an agent, kept by scene, agent and choice of sensors."""
        return self._frames.get((index, agent_id, choice), lambda: self._source.agent_frame(index, agent_id, choice))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of the scene as a whole, None if the source has none."""
        return self._source.scene_objects(index)


class MemoEncoder(WrappedEncoder):
    """The network of an agent type that keeps recent feature maps: links, codecs and pose noise do not change a frame's map."""

    def __init__(self, encoder: Encoder) -> None:
        """Wrap a network."""
        super().__init__(encoder)
        # Sensor data by identity: a kept map also keeps its sensor data, so that no other object gets the same id.
        self._maps: RecentValues[tuple[int, int], tuple[object, Tensor]] = RecentValues(MAPS)

    def __call__(self, frames: Sequence[AgentFrame]) -> Tensor:
        """Return the feature maps (agents, C, ny, nx); for a single frame with a kept map, the kept tensor itself."""
        maps = [self._kept(frame) for frame in frames]
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def _kept(self, frame: AgentFrame) -> Tensor:
        # Keyed by the sensor data, not by the frame: pose noise makes several frames with the same sensor data.
        data = (frame.lidar, frame.cameras)
        return self._maps.get((id(frame.lidar), id(frame.cameras)), lambda: (data, self.encode([frame])))[1]


class MemoTrunk:
    """The trunk of a base that keeps the scales of recent feature maps: with `split: pyramid` every run needs the same scales."""

    def __init__(self, pyramid: Trunk) -> None:
        """Wrap the base's pyramid."""
        self._pyramid = pyramid
        # Feature maps by address: a kept entry also keeps its map, so that no other map gets the same address.
        self._levels: RecentValues[int, tuple[Tensor, AgentLevels]] = RecentValues(MAPS)

    def trunk(self, features: Tensor) -> AgentLevels:
        """Return the scales of feature maps (agents, C, ny, nx); a kept map of `MemoEncoder` has the same address in every run."""
        return self._levels.get(features.data_ptr(), lambda: (features, self._pyramid.trunk(features)))[1]

    def scores(self, occupancy: Sequence[Tensor], coverage: Sequence[Coverage] | None = None) -> tuple[Tensor, ...]:
        """Return the foreground scores of all scales from their occupancy logits; not memoized."""
        return self._pyramid.scores(occupancy, coverage)

    def to(self, device: torch.device) -> MemoTrunk:
        """Move the trunk to a device; return self."""
        self._pyramid.to(device)
        return self


class MemoAlliance(WrappedAlliance):
    """An alliance whose encoders and trunk are memoized; one is shared by all runs of a sweep."""

    def __init__(self, alliance: AllianceLike) -> None:
        """Wrap an alliance; the networks are shared with it."""
        super().__init__(alliance)
        self._trunk = MemoTrunk(alliance.trunk)
        self._encoders: dict[str, MemoEncoder] = {}
        self._trust: dict[str, float] = {}

    @property
    def trunk(self) -> MemoTrunk:
        """The memoized trunk."""
        return self._trunk

    def agent(self, name: str) -> MemoEncoder:
        """Return the memoized network of one type."""
        if name not in self._encoders:
            self._encoders[name] = MemoEncoder(self._alliance.agent(name))
        return self._encoders[name]

    def trust_of(self, name: str) -> float:
        """Return the trust in one type, which is read once: its file takes longer to read than a tick to fuse."""
        if name not in self._trust:
            self._trust[name] = super().trust_of(name)
        return self._trust[name]
