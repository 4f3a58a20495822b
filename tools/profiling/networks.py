"""The networks to profile, in the order in which their types join: of a trained alliance, or of configurations without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.alliance import load_alliance
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.detection.loss import LossConfig
from heal.errors import UserError
from heal.tools.shared.made_by import AllianceRecord
from heal.tools.shared.paths import type_path
from heal.tools.shared.setting_files import read_agent_type
from heal.tools.shared.type_argument import base_type, split_names
from heal.training.config import ScheduleConfig, TrainingConfig


@dataclass(frozen=True)
class Networks:
    """A base with its agent types.

    Attributes:
        record: where the networks come from.
        settings: of the base and of the agent types, in the order in which they join; the first one is trained with the base.
        model: the networks, on the CPU in evaluation; types in the same order.
    """

    record: AllianceRecord
    settings: TrainingConfig
    model: CollabModel

    @property
    def names(self) -> tuple[str, ...]:
        """The agent types, in the order in which they join."""
        return tuple(self.settings.agents)

    @staticmethod
    def of_alliance(path: Path, in_order: str | None = None) -> Networks:
        """Open a trained alliance.

        Args:
            path: its folder.
            in_order: agent types, separated by commas; None for all of them, the base's own type first.

        Raises:
            AllianceError: the folder is no alliance, or a type cannot be used.
            UserError: the alliance has no type of a name.
        """
        alliance = load_alliance(path)
        first = base_type(alliance)
        names = (first, *(name for name in alliance.agent_names if name != first))
        agents = _chosen({name: alliance.agent_card(name).config for name in names}, in_order)
        # The costs do not depend on the weights of the losses, which an alliance does not keep.
        pyramid = alliance.base.config.pyramid
        loss = LossConfig(occupancy_weights=(0.0 if pyramid.single_agent else 1.0,) * len(pyramid.channels))
        training = ScheduleConfig(max_agents=1) if pyramid.single_agent else ScheduleConfig()
        model = CollabModel(alliance.base, {name: alliance.agent(name) for name in agents})
        settings = TrainingConfig(base=alliance.card.config, agents=agents, loss=loss, training=training)
        return Networks(AllianceRecord.of(alliance), settings, model)

    @staticmethod
    def of_settings(name: str, settings: TrainingConfig, types: str | None = None, in_order: str | None = None) -> Networks:
        """Make the networks of configurations, with random weights.

        Args:
            name: name of the base's configuration.
            settings: configuration of stage 1, with the base's own type.
            types: further agent types, names or files, separated by commas.
            in_order: as in `of_alliance`.

        Raises:
            ConfigError: there is no such type.
            UserError: the configurations have no type of a name, or a type does not fit the base.
        """
        agents = dict(settings.agents)
        for text in split_names(types) if types else []:
            if text not in settings.agents:
                agents[type_path(text).stem] = read_agent_type(text)
        settings = replace(settings, agents=_chosen(agents, in_order))
        torch.manual_seed(settings.training.seed)
        grid = settings.base.grid
        model = CollabModel(BaseModel(settings.base), {key: AgentModel(agent, grid) for key, agent in settings.agents.items()})
        record = AllianceRecord.of_settings(f"{name}: {', '.join(settings.agents)}", settings)
        return Networks(record, settings, model.eval().requires_grad_(False))


def _chosen(agents: Mapping[str, AgentConfig], in_order: str | None) -> dict[str, AgentConfig]:
    """Return the agent types of `--in-order`, or all."""
    names = split_names(in_order) if in_order else list(agents)
    for name in names:
        if name not in agents:
            raise UserError(f"--in-order: no agent type {name!r}; expected some of {', '.join(agents)}")
    return {name: agents[name] for name in names}
