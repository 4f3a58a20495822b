"""The message that an agent sends: its header (sender, time, pose, base) and its maps, boxes or points, to bytes and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.grid import block_shape
from heal.message.byte_reader import PayloadError
from heal.message.codec import FLOAT32, Codec
from heal.message.header import (
    FORMAT_VERSION,
    MAX_MAPS,
    MAX_NUMBERS,
    Buffer,
    Header,
    MessageError,
    MessageOrigin,
    UnreadMessage,
)
from heal.message.items import ITEM_NUMBERS, require_boxes, require_items, require_points
from heal.message.payload import Layout, decode, encode
from heal.types import SCORE_FLOOR, SPLITS, BoolMask, Float32, Split, require_shape

# The names of the header that most readers of messages need too.
__all__ = ["FORMAT_VERSION", "MAX_NUMBERS", "Buffer", "Message", "MessageError"]

# A foreground score is a sigmoid plus the floor; the last hundredth of the floor allows for rounding of the sum.
_MAX_SCORE = 1 + 1.01 * SCORE_FLOOR


@dataclass(frozen=True, eq=False)
class Message(MessageOrigin):
    """What an agent sends of one instant, with its origin: feature maps, boxes or points.

    Attributes:
        maps: float32, possibly read-only views of received bytes. Feature split: the one feature map (C, ny, nx) on `grid`, which
            has fewer channels if the encoder of `compressor` has made it. Pyramid split: the trunk's map (C, ny, nx) of every
            scale, the finest first. Boxes: one list (8, 1, K), of each box x, y, z, h, w, l, yaw in the sender's frame, in metres
            and radians, and its score in [0, 1]. Points: one list (4, 1, N), of each point x, y, z in metres in the sender's frame,
            and its intensity in [0, 1]. K and N may be 0.
        scores: (ny, nx) float32 foreground scores in [0, 1 + 1e-4]. Pyramid split: one of every scale, 0 for a cell that was not
            sent. Feature split: none or one, by which the sender chooses cells; it is not sent. Boxes and points: none.
        split: what is sent, see `heal.types.Split`.
        covered: (rows, columns) the blocks of the grid that the sender's sensors cover (`heal.grid.block_shape`), under the feature
            split; None if the sender does not tell them. Under the pyramid split the scores tell: they are 0 elsewhere.
        free: (ny, nx) the cells of the finest map that the sender's LiDAR saw to be empty (`heal.defence.free_space`); None if the
            sender does not tell them. The ego tells them its own fusion node, which believes nobody else's.
    """

    maps: tuple[Float32, ...]
    scores: tuple[Float32, ...] = ()
    split: Split = "feature"
    covered: BoolMask | None = None
    free: BoolMask | None = None

    def __post_init__(self) -> None:
        """Check the origin, and that maps and scores fit the grid and each other."""
        super().__post_init__()
        self._check_maps()
        self._check_scores()
        if self.compressor and self.split != "feature":
            raise ValueError(f"Message.compressor: a compressor encodes feature maps, expected none under the {self.split} split")
        if self.covered is not None:
            require_shape("Message.covered", self.covered, block_shape(self.grid.ny, self.grid.nx))
            if self.split != "feature":
                raise ValueError(f"Message.covered: feature maps alone have covered blocks, expected None under split {self.split}")
        if self.free is not None:
            if self.split in ITEM_NUMBERS:
                raise ValueError(f"Message.free: only maps have free cells, expected None under split {self.split}")
            require_shape("Message.free", self.free, self.maps[0].shape[1:])

    def _check_maps(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"Message.split: expected one of {', '.join(SPLITS)}, got {self.split!r}")
        most = MAX_MAPS if self.split == "pyramid" else 1
        if not 1 <= len(self.maps) <= most:
            raise ValueError(f"Message.maps: expected 1 to {most} under the {self.split} split, got {len(self.maps)}")
        for i, level in enumerate(self.maps):
            require_shape(f"Message.maps[{i}]", level, self._shape_of(level))
            if level.dtype != np.float32 or not (level.size or self.split in ITEM_NUMBERS):
                raise ValueError(f"Message.maps[{i}]: expected float32 in shape (C, ny, nx), got {level.dtype} {level.shape}")
        if sum(level.size for level in self.maps) > MAX_NUMBERS:
            raise ValueError(f"Message.maps: expected at most {MAX_NUMBERS} numbers, got {[level.shape for level in self.maps]}")
        if self.split == "boxes":
            require_boxes(self.maps[0])
        elif self.split == "points":
            require_points(self.maps[0])

    def _shape_of(self, level: Float32) -> tuple[int | None, int | None, int | None]:
        """Return the shape that a map should have; None for any length."""
        if self.split in ITEM_NUMBERS:
            numbers = ITEM_NUMBERS[self.split]
            return (level.shape[0] if level.ndim and level.shape[0] in numbers else numbers[0], 1, None)
        return (None, self.grid.ny, self.grid.nx) if self.split == "feature" else (None, None, None)

    def _check_scores(self) -> None:
        if len(self.scores) != len(self.maps) and (self.split == "pyramid" or self.scores):
            raise ValueError(f"Message.scores: expected one for each of {len(self.maps)} maps, got {len(self.scores)}")
        for i, (level, scores) in enumerate(zip(self.maps, self.scores, strict=False)):
            require_shape(f"Message.scores[{i}]", scores, level.shape[1:])
            if scores.dtype != np.float32 or not (scores.min() >= 0 and scores.max() <= _MAX_SCORE):
                raise ValueError(
                    f"Message.scores[{i}]: expected float32 from 0 to 1.0001, got {scores.dtype} {scores.min()} to {scores.max()}"
                )

    def to_bytes(self, codec: Codec = FLOAT32) -> bytes:
        """Return the bytes to send; their number is the size of the message on the link.

        Raises:
            ValueError: the codec chooses cells, but the message has no scores; or it does not write boxes or points as floats.
        """
        require_items(Layout.of(self.maps, self.split, codec))
        if codec.chooses_cells and not self.scores:
            raise ValueError(f"codec {codec} chooses cells by their scores: expected Message.scores, got none")
        room = None
        if codec.budget_bytes is not None:
            room = codec.budget_bytes - self._header(Layout.of(self.maps, self.split, codec)).length_bytes
        layout, payload = encode(self.maps, self.scores, self.split, codec, room, self.covered, self.free)
        return self._header(layout).to_bytes(payload)

    @staticmethod
    def from_bytes(buffer: Buffer) -> Message:
        """Read a message. Plain float32 maps and scores are not copied: they are read-only views of `buffer`.

        Raises:
            MessageError: `buffer` is not exactly the bytes of one message of this format version.
        """
        return Message.of(UnreadMessage.of(buffer))

    @staticmethod
    def of(unread: UnreadMessage) -> Message:
        """Decode the payload of a message whose header has been read.

        Raises:
            MessageError: the payload is not what the header describes.
        """
        header = unread.header
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                content = decode(header.layout, unread.payload)
                return Message(
                    header.agent_id,
                    header.agent_type,
                    header.base_hash,
                    header.timestamp_ns,
                    header.world_SE3_agent,
                    header.grid,
                    content.maps,
                    content.scores,
                    header.layout.split,
                    content.covered,
                    content.free,
                    coverage=header.coverage,
                    compressor=header.compressor,
                )
        except (PayloadError, ValueError, OverflowError) as error:
            raise MessageError(f"message of agent {header.agent_id!r}: {error}") from error

    def _header(self, layout: Layout) -> Header:
        return Header(
            self.agent_id,
            self.agent_type,
            self.base_hash,
            self.timestamp_ns,
            self.world_SE3_agent,
            self.grid,
            layout,
            coverage=self.coverage,
            compressor=self.compressor,
        )
