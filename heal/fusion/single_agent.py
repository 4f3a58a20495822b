"""The base of a single-agent detector: in the place of Pyramid Fusion, residual stages behind one agent's own map.

HEAL's late fusion and its results without fusion use such detectors, one for each agent type (`heal.fusion.late`). They are trained
on single agents (`training.max_agents: 1`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from heal.errors import UserError
from heal.fusion.interface import AgentLevels, AgentMaps
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.grid import BevGrid


class SingleAgentPyramid(PyramidFusion):
    """Scales of one agent, the first of which is the agent's own map; no foreground is scored, and no agents are fused.

    The first stage is not used. It is there because HEAL's checkpoints contain its weights.
    """

    scores_foreground = False

    def __init__(self, settings: PyramidConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`; UserError unless the first scale has as many channels."""
        if in_channels != settings.channels[0]:
            raise UserError(
                f"pyramid.channels: the first scale of a single-agent detector is the agent's own map of {in_channels} channels, "
                f"got {settings.channels}"
            )
        super().__init__(settings, in_channels, grid)

    def _add_foreground_heads(self) -> None:
        """Add no layers: nothing is fused, so no foreground has to be scored."""

    def trunk(self, features: Tensor) -> AgentLevels:
        """Compute the scales of maps (M, C, ny, nx); the logits of the foreground are zero."""
        maps = (features, *self.resnet(features, first=1))
        return AgentLevels(maps, tuple(level.new_zeros(len(level), 1, *level.shape[-2:]) for level in maps))

    def fuse_scored(
        self,
        maps: Sequence[AgentMaps],
        scores: Sequence[AgentMaps],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
        ego_first: bool = True,
        agent_types: Sequence[str] = (),
    ) -> tuple[Tensor, ...]:
        """Return the scales of scenes with one agent each; arguments as for Pyramid Fusion.

        Raises:
            UserError: a scene has several agents.
        """
        require_alone(self.config, max(agents_per_scene))
        return super().fuse_scored(maps, scores, agent_SE3_ego, agents_per_scene, trust, ego_first, agent_types)


def require_alone(settings: PyramidConfig, agents: int | None) -> None:
    """Raise UserError if a base is to fuse several agents but cannot; `agents` is the largest number, None for any number."""
    if settings.single_agent and agents != 1:
        raise UserError(
            "the base is a single-agent detector, which does not fuse feature maps of several agents; run the ego alone with "
            "--agents 1, or join the boxes of all agents with `heal evaluate --late`"
        )
