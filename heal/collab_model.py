"""A base with its agent types as one network, and its batches: the agents of several scenes, as training needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from heal.agent_model import AgentModel
from heal.base_model import BaseModel, BaseOutput
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.table import EncoderInput
from heal.fusion.interface import Coverage, coverage_of
from heal.layers.compressor import Compressor
from heal.se3 import relative_SE3
from heal.types import AgentFrame, Scene


@dataclass(frozen=True)
class CollabBatch:
    """The agents of B scenes, M in total: scene after scene, the ego of each scene first.

    Attributes:
        inputs: by agent type, the encoder's input for all agents of that type, in their order.
        agent_types: (M,) the type of each agent.
        agents_per_scene: (B,) number of agents of each scene.
        agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
        coverage: (M,) what the sensors of each agent cover, see `Fusion.scores`.
        noisy: (M,) whether noise takes the place of the agent's feature map, in training; empty for no agent.
    """

    inputs: Mapping[str, EncoderInput]
    agent_types: tuple[str, ...]
    agents_per_scene: tuple[int, ...]
    agent_SE3_ego: Tensor
    coverage: tuple[Coverage, ...]
    noisy: tuple[bool, ...] = ()

    def to(self, device: torch.device) -> CollabBatch:
        """Copy the encoder inputs to `device`; poses stay on the CPU, where the warp computes its grids in float64."""
        return replace(self, inputs={name: part.to(device) for name, part in self.inputs.items()})


class CollabModel(nn.Module):
    """A base with the agent types that are trained or run together with it (HEAL, section 3)."""

    def __init__(self, base: BaseModel, agents: Mapping[str, AgentModel], compressor: Compressor | None = None) -> None:
        """Join a base, its agent types, and a compressor that all maps go through; the modules are shared, not copied."""
        super().__init__()
        self.base = base
        self.agents = nn.ModuleDict(dict(agents))
        self.compressor: nn.Module = nn.Identity() if compressor is None else compressor

    def prepare(
        self, scenes: Sequence[Scene], types: Sequence[Mapping[str, str]], rng: np.random.Generator | None = None
    ) -> CollabBatch:
        """Turn scenes into encoder inputs.

        Args:
            scenes: B scenes, their agents in any order.
            types: for each scene, agent id -> agent type.
            rng: random generator that shuffles points in training; None in evaluation.
        """
        ordered = [scene.ego_first for scene in scenes]
        frames = [frame for part in ordered for frame in part]
        agent_types = tuple(types[i][frame.agent_id] for i, part in enumerate(ordered) for frame in part)
        inputs = {
            name: self.agent(name).prepare([frame for frame, kind in zip(frames, agent_types, strict=True) if kind == name], rng)
            for name in dict.fromkeys(agent_types)
        }
        poses = [
            relative_SE3(frame.world_SE3_agent_measured, part[0].world_SE3_agent_measured) for part in ordered for frame in part
        ]
        coverage = tuple(self._coverage(kind, frame) for kind, frame in zip(agent_types, frames, strict=True))
        return CollabBatch(inputs, agent_types, tuple(len(part) for part in ordered), torch.from_numpy(np.stack(poses)), coverage)

    def _coverage(self, agent_type: str, frame: AgentFrame) -> Coverage:
        agent = self.agent(agent_type)
        return coverage_of(agent.coverage, agent.covered_blocks(frame))

    def encode(self, batch: CollabBatch) -> Tensor:
        """Return the aligned feature maps (M, C, ny, nx) of all agents, in the batch's order."""
        return self._in_batch_order(batch, {name: self.agent(name)(part) for name, part in batch.inputs.items()})

    def forward(self, batch: CollabBatch) -> BaseOutput:
        """Encode, fuse and detect the scenes of a batch."""
        return self._detect(batch, self.encode(batch))

    def forward_with_depth(self, batch: CollabBatch) -> tuple[BaseOutput, dict[str, DepthPrediction]]:
        """Encode, fuse and detect; return also the depths that each camera agent type predicts, for the loss."""
        encoded = {name: self.agent(name).forward_with_depth(part) for name, part in batch.inputs.items()}
        depths = {name: depth for name, (_, depth) in encoded.items() if depth is not None}
        maps = self._in_batch_order(batch, {name: type_maps for name, (type_maps, _) in encoded.items()})
        return self._detect(batch, _with_noise(maps, batch.noisy)), depths

    def _in_batch_order(self, batch: CollabBatch, maps: Mapping[str, Tensor]) -> Tensor:
        """Join the maps of all agent types to one tensor (M, C, ny, nx) in the batch's order."""
        if len(maps) == 1:
            return next(iter(maps.values()))
        rows = torch.cat(list(maps.values()))
        by_type = [i for name in maps for i, kind in enumerate(batch.agent_types) if kind == name]
        return rows[torch.argsort(torch.tensor(by_type, device=rows.device))]

    def _detect(self, batch: CollabBatch, features: Tensor) -> BaseOutput:
        received = self.compressor(features)
        output: BaseOutput = self.base(received, batch.agent_SE3_ego, batch.agents_per_scene, batch.coverage, batch.agent_types)
        return output

    def agent(self, name: str) -> AgentModel:
        """Return the network of an agent type."""
        model = self.agents[name]
        assert isinstance(model, AgentModel)
        return model


def _with_noise(maps: Tensor, noisy: Sequence[bool]) -> Tensor:
    """Replace the maps (M, C, ny, nx) of some agents by noise with the mean of each channel, and half to five times its spread."""
    if not any(noisy):
        return maps
    true = maps.detach()
    amplitude = torch.empty(len(maps), 1, 1, 1).uniform_(0.5, 5.0).to(maps)
    noise = true.mean((2, 3), keepdim=True) + true.std((2, 3), keepdim=True) * amplitude * torch.randn_like(true)
    return torch.where(torch.tensor(noisy, device=maps.device)[:, None, None, None], noise, maps)
