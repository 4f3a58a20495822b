"""Reading the scales of a feature map from received bytes; a message for several regions of one process is read once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.options import RunOptions
from heal.agents.records import Arrival
from heal.base_model import BaseModel
from heal.fusion.interface import coverage_of
from heal.identity.envelope import Envelope
from heal.message.header import Buffer, UnreadMessage
from heal.message.message import Message
from heal.storage.compressors import StoredCompressor
from heal.types import MAP_SPLITS, Float32


class MapReader:
    """Reads the messages that arrive at a fusion node.

    Attributes:
        trunk_ms: how long the trunk has computed so far.
    """

    def __init__(
        self, base: BaseModel, device: torch.device, options: RunOptions, compressors: Sequence[StoredCompressor] = ()
    ) -> None:
        """Make a reader that computes scales with the trunk of a base, which is on the device already, and decodes maps."""
        self._base, self._device, self._options = base, device, options
        self._decoders = {part.hash: part.network.to(device).decoder for part in compressors}
        self.trunk_ms = 0.0

    def open_envelope(self, buffer: Buffer) -> Envelope:
        """Read the envelope of a signed message.

        Raises:
            EnvelopeError: the bytes are not an envelope.
        """
        return Envelope.of(buffer)

    def open_message(self, arrival: Arrival) -> UnreadMessage:
        """Read the header of a message alone.

        Raises:
            MessageError: the bytes are not a message.
        """
        return UnreadMessage.of(arrival.buffer)

    def read_message(self, arrival: Arrival, unread: UnreadMessage) -> Message:
        """Decode the payload of a message that `open_message` has opened.

        Raises:
            MessageError: the payload is not what the header describes.
        """
        return Message.of(unread)

    def read_map(self, arrival: Arrival, message: Message) -> KnownMap:
        """Return the scales of a message, computed by the base's trunk if the message holds a plain feature map.

        The trunk takes one map at a time: in a batch the last bits of a map would depend on the other maps. Boxes and points stay
        on the CPU, where they are joined.
        """
        device = self._device if message.split in MAP_SPLITS else torch.device("cpu")
        maps = tuple(_tensor(part, device) for part in message.maps)
        scores = tuple(_tensor(part[None], device) for part in message.scores)
        borrowed = device.type == "cpu" and not all(part.flags.writeable for part in message.maps)
        if message.split == "feature":
            maps, scores = self._scales(message, maps[0])
            borrowed = False
        origin = message.agent_id, message.agent_type, arrival.tick, message.timestamp_ns, message.world_SE3_agent
        free = None if message.free is None else _tensor(message.free[None].astype(np.float32), device)
        return KnownMap(*origin, maps, scores, borrowed, free)

    def _scales(self, message: Message, received: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the scales of a feature map as received (1, C, ny, nx), decoded if it is compressed, and their scores."""
        began = perf_counter()
        with torch.no_grad(), self._options.autocast(self._device.type):
            features = self._decoders[message.compressor](received).float() if message.compressor else received
            levels = self._base.trunk(features)
            maps = tuple(level.float() for level in levels.maps)
            scores = tuple(self._base.fusion.scores(levels.occupancy, [coverage_of(message.coverage, message.covered)]))
        self.trunk_ms += (perf_counter() - began) * 1e3
        return maps, scores


class SharedMapReader(MapReader):
    """A reader for several fusion nodes, which keeps the messages and maps that are read until `forget` is called."""

    def __init__(
        self, base: BaseModel, device: torch.device, options: RunOptions, compressors: Sequence[StoredCompressor] = ()
    ) -> None:
        """Make a reader that has read nothing yet; arguments as for `MapReader`."""
        super().__init__(base, device, options, compressors)
        # Each envelope and each header is stored with its bytes: while these are alive no other bytes can have the same id.
        self._envelopes: dict[int, tuple[Buffer, Envelope]] = {}
        self._opened: dict[int, tuple[Buffer, UnreadMessage]] = {}
        self._messages: dict[int, Message] = {}
        self._maps: dict[tuple[int, int], KnownMap] = {}

    def open_envelope(self, buffer: Buffer) -> Envelope:
        """Return the envelope of the bytes, which is read and verified at the first call for these bytes.

        Raises:
            EnvelopeError: the bytes are not an envelope.
        """
        key = id(buffer)
        if key not in self._envelopes:
            self._envelopes[key] = (buffer, super().open_envelope(buffer))
        return self._envelopes[key][1]

    def open_message(self, arrival: Arrival) -> UnreadMessage:
        """Return the opened message of the bytes, whose header is read at the first call for these bytes.

        Raises:
            MessageError: the bytes are not a message.
        """
        key = id(arrival.buffer)
        if key not in self._opened:
            self._opened[key] = (arrival.buffer, super().open_message(arrival))
        return self._opened[key][1]

    def read_message(self, arrival: Arrival, unread: UnreadMessage) -> Message:
        """Return the message of the bytes, decoded at the first call for these bytes.

        Raises:
            MessageError: the payload is not what the header describes.
        """
        key = id(arrival.buffer)
        if key not in self._messages:
            self._messages[key] = super().read_message(arrival, unread)
        return self._messages[key]

    def read_map(self, arrival: Arrival, message: Message) -> KnownMap:
        """Return the scales of a message, computed at the first call for these bytes and this tick."""
        key = (id(arrival.buffer), arrival.tick)
        if key not in self._maps:
            self._maps[key] = super().read_map(arrival, message)
        return self._maps[key]

    def forget(self) -> None:
        """Forget all messages and maps."""
        self._envelopes.clear()
        self._opened.clear()
        self._messages.clear()
        self._maps.clear()


def _tensor(part: Float32, device: torch.device) -> Tensor:
    """Return an array on a device with a batch axis (1, ...)."""
    with warnings.catch_warnings():
        # torch warns that a read-only array (a view of a message's bytes) must not be written to; no code writes to it.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(part)[None].to(device)
