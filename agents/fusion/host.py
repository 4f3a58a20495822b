"""The fusion nodes of one process: one for each region that the process is given, or the single node around the ego."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_reader import SharedMapReader
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.agents.region import Region
from heal.base_model import BaseModel
from heal.fusion.single_agent import require_alone
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

    def __init__(self, known: NodeKnowledge, device: torch.device | str = "cpu") -> None:
        """Make a host without nodes; arguments as for `FusionNode`."""
        self._known, self._device = known, torch.device(device)
        self._reader = SharedMapReader(known.base.to(self._device), self._device, known.options, known.compressors)
        self._nodes: dict[Region | None, FusionNode] = {}

    def step(self, tasks: Sequence[tuple[FusionRequest, Sequence[Arrival]]]) -> list[FusionOutcome]:
        """Return the outcomes of a tick, one for each region in use, in the order of `tasks`.

        The nodes of all other regions are dropped: a region falls out of use only once all maps that its node holds are too old.
        The allow list is read again before, if its file has changed.
        """
        if self._known.allowed is not None:
            self._known.allowed.refresh()
        self._nodes = {request.region: self._nodes.get(request.region) or self._make_node() for request, _ in tasks}
        outcomes = [self._nodes[request.region].step(request, arrivals) for request, arrivals in tasks]
        self._reader.forget()
        return outcomes

    def warm(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> None:
        """Fuse messages with a node of which nothing is kept, so that the first tick does not pay for what torch prepares."""
        self._make_node().step(request, arrivals)
        self._reader.forget()

    def _make_node(self) -> FusionNode:
        return FusionNode(self._known, self._device, self._reader)
