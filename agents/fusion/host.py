"""The fusion nodes of one process: one for each region that the process is given, or the single node around the ego."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from heal.agents.content.items import reads_points_alone, require_cloud_reader
from heal.agents.fusion.map_reader import SharedMapReader
from heal.agents.fusion.node import FusionNode
from heal.agents.interfaces import AllianceLike, Encoder, KnowsMaps
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.agents.region import Region
from heal.base_model import BaseModel
from heal.defence.statistics import MapStatistics
from heal.fusion.single_agent import require_alone
from heal.identity.allow_list import AllowedSenders
from heal.storage.compressors import StoredCompressor
from heal.types import MAP_SPLITS


def require_base(base: BaseModel, options: RunOptions) -> None:
    """Raise UserError if a base cannot do what a run asks of it: fuse the maps of so many agents, or score foreground."""
    if options.split not in MAP_SPLITS:
        return
    require_alone(base.config.pyramid, options.most_agents)
    if options.codec.chooses_cells:
        base.fusion.require_scores()


class NodeHost:
    """Hosts fusion nodes that share one base. The node of a region is made at the first request for the region."""

    def __init__(
        self,
        base: BaseModel,
        base_hash: str,
        options: RunOptions,
        device: torch.device | str = "cpu",
        trust: Mapping[str, float] | None = None,
        compressors: Sequence[StoredCompressor] = (),
        encoders: Mapping[str, Encoder] | None = None,
        allowed: AllowedSenders | None = None,
        statistics: Mapping[str, MapStatistics] | None = None,
    ) -> None:
        """Make a host without nodes; arguments as for `FusionNode`."""
        self._base, self._base_hash, self._options, self._device = base, base_hash, options, torch.device(device)
        self._trust, self._compressors, self._encoders = trust, tuple(compressors), encoders
        self._allowed, self._statistics = allowed, statistics
        self._reader = SharedMapReader(base.to(self._device), self._device, options, self._compressors)
        self._nodes: dict[Region | None, FusionNode] = {}

    def step(self, tasks: Sequence[tuple[FusionRequest, Sequence[Arrival]]]) -> list[FusionOutcome]:
        """Return the outcomes of a tick, one for each region in use, in the order of `tasks`.

        The nodes of all other regions are dropped: a region falls out of use only once all maps that its node holds are too old.
        The allow list is read again before, if its file has changed.
        """
        if self._allowed is not None:
            self._allowed.refresh()
        self._nodes = {request.region: self._nodes.get(request.region) or self._make_node() for request, _ in tasks}
        outcomes = [self._nodes[request.region].step(request, arrivals) for request, arrivals in tasks]
        self._reader.forget()
        return outcomes

    def warm(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> None:
        """Fuse messages with a node of which nothing is kept, so that the first tick does not pay for what torch prepares."""
        self._make_node().step(request, arrivals)
        self._reader.forget()

    def _make_node(self) -> FusionNode:
        parts = self._reader, self._trust, self._compressors, self._encoders, self._allowed, self._statistics
        return FusionNode(self._base, self._base_hash, self._options, self._device, *parts)


def trust_by_type(alliance: AllianceLike) -> dict[str, float]:
    """Return the trust in each agent type of an alliance."""
    return {name: alliance.trust_of(name) for name in alliance.agent_names}


def statistics_by_type(alliance: AllianceLike, options: RunOptions) -> dict[str, MapStatistics]:
    """Return the statistics of the agent types that have some; none where no check needs them."""
    if options.defence == "off" or not isinstance(alliance, KnowsMaps):
        return {}
    found = {name: alliance.statistics_of(name) for name in alliance.agent_names}
    return {name: statistics for name, statistics in found.items() if statistics is not None}


def joint_encoders(alliance: AllianceLike, options: RunOptions) -> dict[str, Encoder]:
    """Return the networks that read the joint cloud of a run with `split: points`, by agent type; none under any other split.

    Raises:
        UserError: no type has a network that reads it.
    """
    if options.split != "points":
        return {}
    require_cloud_reader(options, alliance)
    encoders = {name: alliance.agent(name) for name in alliance.agent_names}
    return {name: encoder for name, encoder in encoders.items() if reads_points_alone(encoder.sensor)}
