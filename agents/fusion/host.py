"""The fusion nodes of one process: one for each region that it has been dealt, or the one that has the ego's frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heal.agents.fusion.map_reader import SharedMapReader
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.agents.region import Region
from heal.base_model import BaseModel


class NodeHost:
    """Serves regions with one base. Each has a fusion node of its own, which is made when it is first asked for."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions, device: torch.device | str = "cpu") -> None:
        """Arguments as for the fusion node."""
        self._base, self._base_hash, self._options, self._device = base, base_hash, options, torch.device(device)
        self._reader = SharedMapReader(base.to(self._device), self._device, options)
        self._nodes: dict[Region | None, FusionNode] = {}

    def step(self, tasks: Sequence[tuple[FusionRequest, Sequence[Arrival]]]) -> list[FusionOutcome]:
        """One tick of all its regions that are in use. The others are forgotten: by then nothing that they hold is of use."""
        self._nodes = {request.region: self._nodes.get(request.region) or self._make() for request, _ in tasks}
        outcomes = [self._nodes[request.region].step(request, arrivals) for request, arrivals in tasks]
        self._reader.forget()
        return outcomes

    def _make(self) -> FusionNode:
        return FusionNode(self._base, self._base_hash, self._options, self._device, self._reader)
