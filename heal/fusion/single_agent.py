"""The base of a single-agent detector: in the place of Pyramid Fusion, residual stages behind one agent's own map.

HEAL's late fusion and its results without fusion use such detectors, one for each agent type (`heal.fusion.late`). They are trained
on single agents (`training.max_agents: 1`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from heal.errors import UserError
from heal.fusion.pyramid import PyramidConfig, PyramidFusion


class SingleAgentPyramid(PyramidFusion):
    """Scales of one agent, the first of which is the agent's own map; no foreground is scored, and no agents are fused."""

    first_stage = 1
    scores_foreground = False

    def require_counts(self, agents: int, agent_SE3_ego: Tensor, agents_per_scene: Sequence[int]) -> None:
        """Raise UserError if a scene has several agents, and ValueError as every fusion does."""
        require_alone(self.config, max(agents_per_scene))
        super().require_counts(agents, agent_SE3_ego, agents_per_scene)


def require_alone(settings: PyramidConfig, agents: int | None) -> None:
    """Raise UserError if a base is to fuse several agents but cannot; `agents` is the largest number, None for any number."""
    if settings.single_agent and agents != 1:
        raise UserError(
            "the base is a single-agent detector, which does not fuse feature maps of several agents; run the ego alone with "
            "--agents 1, or join the boxes of all agents: `heal evaluate --late`, `heal simulate --set run.split=boxes`"
        )
