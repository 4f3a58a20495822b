"""Sense and encode once, fuse many times: what several runs over the same ticks share, remembered while it is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from heal.agent_model import AgentModel
from heal.alliance import Alliance
from heal.fusion.pyramid import PyramidFusion, PyramidLevels
from heal.grid import BevGrid
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

Key = TypeVar("Key")
Value = TypeVar("Value")

# Frames and maps of a few ticks of a few agents: runs side by side are never further apart.
FRAMES, MAPS = 32, 16


class Recent(Generic[Key, Value]):
    """The values that were asked for last."""

    def __init__(self, size: int) -> None:
        """Keep so many."""
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not remembered."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


class RememberingSource:
    """A source that reads each frame once, however many runs ask for it in turn."""

    def __init__(self, source: SceneSource) -> None:
        """Remember what `source` gives."""
        self._source = source
        self._frames: Recent[tuple[int, str, SensorChoice | None], AgentFrame] = Recent(FRAMES)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part."""
        return self._source.outline(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """The agent's frame."""
        return self._frames.get((index, agent_id, choice), lambda: self._source.agent_frame(index, agent_id, choice))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """The labels of the scene."""
        return self._source.scene_objects(index)


class RememberingEncoder:
    """An agent type that encodes what the same sensors have given once."""

    def __init__(self, model: AgentModel) -> None:
        """Remember what `model` makes."""
        self._model = model
        self._maps: Recent[int, tuple[object, Tensor]] = Recent(MAPS)

    @property
    def sensor(self) -> SensorChoice:
        """What its agents sense."""
        return self._model.sensor

    @property
    def coverage(self) -> tuple[float, float] | None:
        """As the model's."""
        return self._model.coverage

    def prepare(self, frames: Sequence[AgentFrame]) -> Sequence[AgentFrame]:
        """Nothing: it may not be needed."""
        return frames

    def __call__(self, frames: Sequence[AgentFrame]) -> Tensor:
        """The feature maps (agents, C, ny, nx); one frame's map is the same tensor every time."""
        maps = [self._encode(frame) for frame in frames]
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def to(self, device: torch.device) -> RememberingEncoder:
        """Move the model."""
        self._model.to(device)
        return self

    def _encode(self, frame: AgentFrame) -> Tensor:
        # Not the frame itself: noise of poses makes other frames of what the same sensors have given.
        sensed: object = frame.cameras if frame.lidar is None else frame.lidar
        return self._maps.get(id(sensed), lambda: (sensed, self._model(self._model.prepare([frame]))))[1]


class RememberingTrunk:
    """A base's trunk that takes each feature map once."""

    def __init__(self, pyramid: PyramidFusion) -> None:
        """Remember what `pyramid` makes."""
        self._pyramid = pyramid
        self._levels: Recent[int, tuple[Tensor, PyramidLevels]] = Recent(MAPS)

    def trunk(self, features: Tensor) -> PyramidLevels:
        """The scales of feature maps; an encoder that remembers gives the same memory for the same map."""
        return self._levels.get(features.data_ptr(), lambda: (features, self._pyramid.trunk(features)))[1]

    def scores(
        self, occupancy: Sequence[Tensor], coverage: Sequence[tuple[float, float] | None] | None = None
    ) -> tuple[Tensor, ...]:
        """Their foreground scores."""
        return self._pyramid.scores(occupancy, coverage)

    def to(self, device: torch.device) -> RememberingTrunk:
        """Move it."""
        self._pyramid.to(device)
        return self


class RememberingAlliance:
    """An alliance whose networks are remembering ones."""

    def __init__(self, alliance: Alliance) -> None:
        """Share the networks of `alliance`."""
        self._alliance, self.base, self.trunk = alliance, alliance.base, RememberingTrunk(alliance.trunk)
        self._encoders: dict[str, RememberingEncoder] = {}

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self._alliance.base_hash

    @property
    def grid(self) -> BevGrid:
        """Of all feature maps."""
        return self._alliance.grid

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types."""
        return self._alliance.agent_names

    def agent(self, name: str) -> RememberingEncoder:
        """The network of one type."""
        if name not in self._encoders:
            self._encoders[name] = RememberingEncoder(self._alliance.agent(name))
        return self._encoders[name]
