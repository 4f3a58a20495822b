"""The defence of a fusion node against senders that lie: checks of each message, the cheapest first, and of what it disputes.

What each check catches and misses is measured in docs/lying_senders.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agents.fusion.admission import Problem
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.motion import Motions
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest
from heal.base_model import BaseModel
from heal.defence.agreement import agreement
from heal.defence.free_space import claims_in, without_weight_in
from heal.defence.placement import misplaced, shift_of
from heal.defence.scores import unfounded_scores
from heal.defence.statistics import MapStatistics, excess_of
from heal.message.header import Header
from heal.message.message import Message
from heal.pose_correction.peaks import find_peaks
from heal.se3 import relative_SE3

SHUT_OUT, MOTION, STATISTICS = "shut out", "implausible motion", "unlike its type"
SCORES, DISPUTED = "unfounded scores", "disputed by the ego"
MISPLACED, IN_FREE_SPACE = "misplaced", "vehicles in free space"
"""Reasons of rejections: the sender has been caught again and again; its poses jump; its map is not one of its type; its scores do
not follow from its scales; it claims vehicles where the ego sees none, or none where the ego sees some; it is not where it says, by
the vehicles that both see; it claims vehicles where the ego's LiDAR saw empty ground."""


class Defending(Protocol):
    """What a fusion node asks about the messages of other agents than the ego."""

    def begin_tick(self, request: FusionRequest) -> None:
        """Take note of the tick."""
        ...

    def header_problem(self, header: Header) -> Problem | None:
        """Return the reason and the detail of a message's rejection by its header, before its payload is decoded."""
        ...

    def map_problem(self, header: Header, message: Message, known: KnownMap) -> Problem | None:
        """Return the reason and the detail of a message's rejection by its map and its scales; a sender without one is believed."""
        ...

    def disputed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> dict[str, Problem]:
        """Return the senders whose maps the ego disputes, each with reason and detail; the ego's map is the first."""
        ...

    def weighed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> list[KnownMap]:
        """Return the maps to fuse, the ego's first, without weight where the ego saw that there is no vehicle."""
        ...


class Undefended:
    """Believes every sender."""

    def begin_tick(self, request: FusionRequest) -> None:
        """Take no note."""

    def header_problem(self, header: Header) -> Problem | None:
        """Find no problem."""
        return None

    def map_problem(self, header: Header, message: Message, known: KnownMap) -> Problem | None:
        """Find no problem."""
        return None

    def disputed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> dict[str, Problem]:
        """Dispute no sender."""
        return {}

    def weighed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> list[KnownMap]:
        """Return the maps as they are."""
        return list(maps)


class Defence:
    """Checks what senders claim, and remembers who was caught."""

    def __init__(self, base: BaseModel, options: RunOptions, statistics: Mapping[str, MapStatistics], suspicion: Suspicion) -> None:
        """Defend a node.

        Args:
            base: scores the scales that are sent.
            options: of the run.
            statistics: of honest maps, by agent type.
            suspicion: of the node, which other parts of the node add to as well.
        """
        self._fusion, self._grid, self._statistics = base.fusion, base.config.grid, dict(statistics)
        self._suspicion, self._motions = suspicion, Motions()
        # Where a codec chooses cells, or a compressor comes between, honest maps have other means and spreads.
        codec = options.codec
        self._whole = not (codec.chooses_cells or options.adapt or codec.ae_ratio is not None)
        self._sequence, self._last_disputed = "", dict[str, int]()

    def begin_tick(self, request: FusionRequest) -> None:
        """Forget where senders were when another recording begins; the node's suspicion is told by the node."""
        if request.sequence != self._sequence:
            self._motions.forget()
        self._sequence = request.sequence

    def header_problem(self, header: Header) -> Problem | None:
        """Return the reason and the detail of a message's rejection by its header, before its payload is decoded."""
        if self._suspicion.is_shut_out(header.agent_id):
            return SHUT_OUT, "it has been caught again and again, and is let in when its suspicion has faded"
        jump = self._motions.implausible(header)
        return self._caught(header, MOTION, jump)

    def map_problem(self, header: Header, message: Message, known: KnownMap) -> Problem | None:
        """Return the reason and the detail of a message's rejection by its map and its scales; a sender without one is believed."""
        problem = self._caught(header, STATISTICS, self._unlike_its_type(message, known))
        if problem is None and message.split == "pyramid":
            problem = self._caught(header, SCORES, unfounded_scores(self._fusion, known.maps, known.scores))
        if problem is None:
            self._motions.add(header)
        return problem

    def disputed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> dict[str, Problem]:
        """Return the senders whose maps the ego disputes, each with reason and detail; nobody without the ego's map of this tick.

        A map that is held is compared in every tick, but its sender counts as caught once for each message.
        """
        own = _own(request, maps)
        if own is None:
            return {}
        elsewhere = self._misplaced(own, maps[1:])
        problems = {known.agent_id: self._dispute(own, known, elsewhere.get(known.agent_id)) for known in maps[1:]}
        found = {agent_id: problem for agent_id, problem in problems.items() if problem is not None}
        for known in maps[1:]:
            if known.agent_id in found and self._last_disputed.get(known.agent_id) != known.tick:
                self._last_disputed[known.agent_id] = known.tick
                self._suspicion.add(known.agent_id)
        return found

    def weighed(self, request: FusionRequest, maps: Sequence[KnownMap]) -> list[KnownMap]:
        """Return the maps to fuse, the ego's first, without weight where the ego saw that there is no vehicle.

        Where the ego's map of this tick tells no free cells, as one of cameras does not, all maps are returned as they are.
        """
        own = _own(request, maps)
        if own is None or own.free is None:
            return list(maps)
        return [own, *(self._weighed(own, own.free, known) for known in maps[1:])]

    def _weighed(self, own: KnownMap, free: Tensor, known: KnownMap) -> KnownMap:
        ego_SE3_agent = relative_SE3(own.world_SE3_agent, known.world_SE3_agent)
        return replace(known, scores=without_weight_in(free, known.scores, ego_SE3_agent, self._grid))

    def _misplaced(self, own: KnownMap, others: Sequence[KnownMap]) -> dict[str, str]:
        """Return the senders that are not where they say, with the reason; nobody with a base that scores no foreground."""
        fresh = [known for known in others if known.tick == own.tick]  # the vehicles of an older map may have driven on
        if not self._fusion.scores_foreground:
            return {}
        ego, *peaks = (find_peaks(known.scores[0], self._grid) for known in (own, *fresh))
        shifts_m = {
            known.agent_id: shift_of(ego, seen, relative_SE3(own.world_SE3_agent, known.world_SE3_agent))
            for known, seen in zip(fresh, peaks, strict=True)
        }
        return misplaced({agent_id: shift_m for agent_id, shift_m in shifts_m.items() if shift_m is not None})

    def _dispute(self, own: KnownMap, known: KnownMap, elsewhere: str | None) -> Problem | None:
        limits = self._statistics.get(own.agent_type)
        if limits is not None:
            agent_SE3_ego = relative_SE3(known.world_SE3_agent, own.world_SE3_agent)
            compared = agreement(own.scores[0], known.scores[0], agent_SE3_ego, self._grid)
            # What the ego confirms depends on the ego; what a sender notices, on the sender's type too.
            least_noticed = min(limits.least_noticed, self._statistics.get(known.agent_type, limits).least_noticed)
            problem = compared.problem(limits.least_confirmed, least_noticed)
            if problem is not None:
                return DISPUTED, problem
        if elsewhere is not None:
            return MISPLACED, elsewhere
        # Where vehicles were when an older map was sensed may be empty now.
        if own.free is None or known.tick != own.tick or not self._fusion.scores_foreground:
            return None
        claims = claims_in(own.free, known.scores[0], relative_SE3(own.world_SE3_agent, known.world_SE3_agent), self._grid)
        return None if claims is None else (IN_FREE_SPACE, claims)

    def _caught(self, header: Header, reason: str, detail: str | None) -> Problem | None:
        if detail is None:
            return None
        self._suspicion.add(header.agent_id)
        return reason, detail

    def _unlike_its_type(self, message: Message, known: KnownMap) -> str | None:
        """Return how a map lies outside of the statistics of its type; of a type without any, of those of every other type."""
        own = self._statistics.get(known.agent_type)
        if own is not None:
            return self._excess(own, message, known, self._whole)
        found = [self._excess(other, message, known, whole=False) for other in self._statistics.values()]
        return found[0] if found and None not in found else None

    def _excess(self, statistics: MapStatistics, message: Message, known: KnownMap, whole: bool) -> str | None:
        scales = [f"scale {number}" for number in range(len(known.maps))]
        levels = list(zip(scales, statistics.scales, known.maps, known.scores, strict=False))
        if message.split == "feature" and not message.compressor:
            received = torch.from_numpy(np.array(message.maps[0]))[None]
            levels.insert(0, ("the map", statistics.feature, received, F.interpolate(known.scores[0], received.shape[-2:])))
        for name, level, values, score in levels:
            excess = excess_of(level, values, score, whole=whole)
            if excess is not None and excess.is_too_large:
                return f"{name}: {excess}"
        return None


def _own(request: FusionRequest, maps: Sequence[KnownMap]) -> KnownMap | None:
    """Return the ego's map of this tick, the first of the maps to fuse; None if it is not among them."""
    return maps[0] if maps and (maps[0].agent_id, maps[0].tick) == (request.ego_id, request.tick) else None


def defence_of(options: RunOptions, base: BaseModel, statistics: Mapping[str, MapStatistics], suspicion: Suspicion) -> Defending:
    """Return the defence of a run."""
    return Defence(base, options, statistics, suspicion) if options.defence == "on" else Undefended()
