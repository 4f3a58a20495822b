"""Received bytes to the scales that are fused; where several regions of a process read one message, it is read once."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.options import RunOptions
from heal.agents.records import Arrival
from heal.base_model import BaseModel
from heal.message.message import Buffer, Message
from heal.types import Float32


class MapReader:
    """Reads what has arrived at a fusion node."""

    def __init__(self, base: BaseModel, device: torch.device, options: RunOptions) -> None:
        """With the trunk of a base, which is on the device already."""
        self._base, self._device, self._options = base, device, options

    def message(self, arrival: Arrival) -> Message:
        """The message; MessageError if it is none."""
        return Message.from_bytes(arrival.buffer)

    def known(self, arrival: Arrival, message: Message) -> KnownMap:
        """The message's scales. The trunk takes one map at a time: in a batch its last bits would depend on who else is there."""
        maps = tuple(self._tensor(part) for part in message.maps)
        scores = tuple(self._tensor(part[None]) for part in message.scores)
        borrowed = self._device.type == "cpu" and not all(part.flags.writeable for part in message.maps)
        if message.split == "feature":
            with torch.no_grad(), self._options.autocast(self._device.type):
                levels = self._base.trunk(maps[0])
                maps = tuple(level.float() for level in levels.maps)
                scores = self._base.pyramid_backbone.scores(levels.occupancy, [message.coverage])
            borrowed = False
        return KnownMap(message.agent_id, arrival.tick, message.timestamp_ns, message.world_SE3_agent, maps, scores, borrowed)

    def _tensor(self, part: Float32) -> Tensor:
        """With a batch's axis (1, ...)."""
        with warnings.catch_warnings():
            # That a view of a message's bytes must not be written to; nobody does.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(part)[None].to(self._device)


class SharedMapReader(MapReader):
    """Reads the same bytes once, until it is told to forget them."""

    def __init__(self, base: BaseModel, device: torch.device, options: RunOptions) -> None:
        """Nothing is read yet."""
        super().__init__(base, device, options)
        # The bytes are kept beside what was read of them, so that no others can come to lie at their address.
        self._messages: dict[int, tuple[Buffer, Message]] = {}
        self._known: dict[tuple[int, int], KnownMap] = {}

    def message(self, arrival: Arrival) -> Message:
        """The message; MessageError if it is none."""
        key = id(arrival.buffer)
        if key not in self._messages:
            self._messages[key] = (arrival.buffer, super().message(arrival))
        return self._messages[key][1]

    def known(self, arrival: Arrival, message: Message) -> KnownMap:
        """Its scales."""
        key = (id(arrival.buffer), arrival.tick)
        if key not in self._known:
            self._known[key] = super().known(arrival, message)
        return self._known[key]

    def forget(self) -> None:
        """Let go of all that was read."""
        self._messages.clear()
        self._known.clear()
