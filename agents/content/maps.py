"""Agents that send maps: the feature map of their own network, or the scales of the base's trunk."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from heal.agents.content.content import Content, Sensed
from heal.agents.interfaces import Trunk
from heal.message.codec import Codec


class FeatureMaker:
    """The agent's feature map, with foreground scores of the trunk if the codec chooses cells by them."""

    encodes = True

    def __init__(self, trunk: Trunk) -> None:
        """Score the foreground by a trunk."""
        self._trunk = trunk

    def content(self, sensed: Sensed, codec: Codec) -> Content:
        """Return the feature map."""
        return Content((sensed.features,), (self._scores(sensed),) if codec.chooses_cells else (), codec)

    def heat(self, sensed: Sensed, content: Content | None) -> Tensor:
        """Return the scores of the finest scale, which are computed now if the message did not need them."""
        return content.scores[0] if content is not None and content.scores else self._scores(sensed)

    def _scores(self, sensed: Sensed) -> Tensor:
        scores = self._trunk.scores(self._trunk.trunk(sensed.features).occupancy, [sensed.coverage])
        return F.interpolate(scores[0], size=sensed.features.shape[-2:])


class PyramidMaker:
    """The maps and the foreground scores of all scales of the trunk, which the agent runs."""

    encodes = True

    def __init__(self, trunk: Trunk) -> None:
        """Run a trunk."""
        self._trunk = trunk

    def content(self, sensed: Sensed, codec: Codec) -> Content:
        """Return the scales."""
        levels = self._trunk.trunk(sensed.features)
        return Content(levels.maps, self._trunk.scores(levels.occupancy, [sensed.coverage]), codec)

    def heat(self, sensed: Sensed, content: Content | None) -> Tensor:
        """Return the scores of the finest scale."""
        assert content is not None
        return content.scores[0]
