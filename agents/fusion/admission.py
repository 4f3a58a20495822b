"""The admission of messages to a fusion node: checks of a message's header, so that a rejected message costs almost nothing."""

from __future__ import annotations

from collections.abc import Sequence

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.plausible import implausible_coverage, implausible_pose
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionRequest
from heal.base_model import BaseModel
from heal.errors import UserError
from heal.message.header import Header
from heal.message.items import ITEM_NUMBERS, numbers_of_box
from heal.storage.compressors import StoredCompressor

MAX_AHEAD_MS = 200.0
"""How far the time of a message may lie after the instant of the tick in which it is read.

The limit allows for the wait for a tick's messages (100 ms by default), and for as large an error of the sender's clock. Without a
limit, a clock that is ahead would make the sender's maps count as newer than they are.
"""

SUPERSEDED = "superseded"
"""The reason of the rejection of a message after which the sender's next one has been read."""

Problem = tuple[str, str]
"""The reason and the detail of a rejection."""


class Admission:
    """Decides by their headers which messages a fusion node reads; of a message's payload nothing has been decoded yet."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions, compressors: Sequence[StoredCompressor] = ()) -> None:
        """Admit the messages for one base; arguments as for `FusionNode`."""
        self._base_hash, self._options, self._grid = base_hash, options, base.config.grid
        grid = base.config.grid
        whole = (base.config.in_channels, grid.ny, grid.nx)
        self._compressed = {part.hash: ((part.network.config.sent_channels, grid.ny, grid.nx),) for part in compressors}
        self._shapes = tuple(base.fusion.level_shapes()) if options.split == "pyramid" else (whole,)
        self._most_boxes, self._require_types = base.config.decode.max_candidates, base.fusion.require_types
        self._numbers_of_box = numbers_of_box(base.detection.classes)

    def problem(self, request: FusionRequest, arrival: Arrival, header: Header, newest: KnownMap | None) -> Problem | None:
        """Return the reason and the detail of a message's rejection; None for a message that is to be read.

        Args:
            request: of the tick.
            arrival: the message as it came.
            header: of the message.
            newest: the newest map that is known of the sender.
        """
        if header.agent_id != arrival.agent_id:
            return "wrong sender", f"claims to be from {header.agent_id!r}"
        if header.base_hash != self._base_hash:
            return "other base", f"made for base {header.base_hash[:12]}, this is {self._base_hash[:12]}"
        return self._mismatch(header) or _implausible(header) or self._untimely(request, arrival, header, newest)

    def _mismatch(self, header: Header) -> Problem | None:
        """Check that the split, the grid and the shapes are those of the run, and that there is the compressor of the map."""
        layout = header.layout
        if layout.split != self._options.split:
            return "other split", f"split {layout.split}, this run has {self._options.split}"
        if header.compressor and header.compressor not in self._compressed:
            there = ", ".join(known[:12] for known in self._compressed) or "none"
            return "unknown compressor", f"its map is compressed by {header.compressor[:12]}, there are {there}"
        if layout.split in ITEM_NUMBERS:
            return self._unfit_list(header)
        try:
            self._require_types([header.agent_type])
        except UserError as error:  # its map would make the fusion fail with all other maps
            return "other type", str(error)
        shapes = self._compressed[header.compressor] if header.compressor else self._shapes
        if header.grid != self._grid or layout.shapes != shapes:
            return "other grid", f"maps {layout.shapes} on {header.grid}, expected {shapes} on {self._grid}"
        return None

    def _unfit_list(self, header: Header) -> Problem | None:
        """Check that boxes have a class where the base has several, and that there are no more of them than agents send.

        Of points there may be any number. No grid binds either.
        """
        [(numbers, _, items)] = header.layout.shapes
        if header.layout.split != "boxes":
            return None
        if numbers != self._numbers_of_box:
            return "other classes", f"boxes of {numbers} numbers, expected {self._numbers_of_box} for the classes of this base"
        if items > self._most_boxes:
            return "too many boxes", f"{items} boxes, allowed are {self._most_boxes}"
        return None

    def _untimely(self, request: FusionRequest, arrival: Arrival, header: Header, newest: KnownMap | None) -> Problem | None:
        """Check that the message is neither too old nor from the future, and the sender's first of its tick and newest so far.

        A message's tick is the receiver's knowledge, its timestamp the sender's claim. So ticks decide which message is newer: one
        timestamp ahead of its time does not shut out the sender's later messages.
        """
        age_ms = (request.timestamp_ns - header.timestamp_ns) / 1e6
        if abs(age_ms) > self._options.max_age_ms:
            return "stale", f"its time is {age_ms:.0f} ms before the tick's, allowed are {self._options.max_age_ms:g}"
        if -age_ms > MAX_AHEAD_MS:
            return "clock ahead", f"its time is {-age_ms:.0f} ms after the tick's, allowed are {MAX_AHEAD_MS:g}"
        if newest is not None and newest.tick == arrival.tick:
            return "duplicate", "a second message for one tick"
        if newest is not None and newest.tick > arrival.tick:
            return SUPERSEDED, "a newer message has come before it"
        return None


def _implausible(header: Header) -> Problem | None:
    """Check that the pose and the coverage can be those of an agent in the world."""
    pose, coverage = implausible_pose(header.world_SE3_agent), implausible_coverage(header.coverage)
    if pose is not None:
        return "implausible pose", pose
    return None if coverage is None else ("implausible coverage", coverage)
