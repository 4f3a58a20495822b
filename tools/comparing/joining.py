"""The parameters that are trained when agent types join, counted in the networks of a comparison's settings: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.config import build_config
from heal.tools.comparing.plan import ComparePlan, Entrant
from heal.tools.comparing.spec import Join
from heal.tools.profiling.parameters import parameters_of


@dataclass(frozen=True)
class JoiningParameters:
    """The parameters that a method trains while its further types join the first one.

    Attributes:
        join: how they join.
        base: parameters of the base.
        types: parameters of each type's own networks, in the order in which the types join, the first type's first.
    """

    join: Join
    base: int
    types: Mapping[str, int]

    @property
    def in_all(self) -> int:
        """The parameters of all networks; a detector has a base of its own."""
        bases = len(self.types) if self.join == "detectors" else 1
        return bases * self.base + sum(self.types.values())

    @property
    def by_type(self) -> dict[str, int]:
        """The parameters that are trained when each further type joins, in order.

        Aligned, they are the type's own; as a detector, those with a base; jointly, everything so far, because it is trained anew.
        """
        if self.join == "joint":
            trained = [*accumulate(self.types.values(), initial=self.base)][1:]
        else:
            base = self.base if self.join == "detectors" else 0
            trained = [size + base for size in self.types.values()]
        return dict(zip([*self.types][1:], trained[1:], strict=True))

    @property
    def one_by_one(self) -> int:
        """The parameters that are trained in all if the further types join one after the other."""
        return sum(self.by_type.values())

    @property
    def at_last(self) -> int:
        """The parameters that are trained when the last type joins."""
        return next(reversed(self.by_type.values()), 0)

    @property
    def at_once(self) -> int:
        """The parameters that are trained if all further types come together: jointly, one training is enough."""
        return self.in_all if self.join == "joint" else self.one_by_one


def joining_parameters(plan: ComparePlan, entrant: Entrant) -> JoiningParameters:
    """Count the parameters of a method's networks."""
    trainings = [plan.trainings[key].settings for key in entrant.trainings]
    base = build_config(BaseConfig, trainings[0].get("base", {}), "base")
    plain = {kind: agent for settings in trainings for kind, agent in settings["agents"].items()}
    agents = {kind: build_config(AgentConfig, agent, kind) for kind, agent in plain.items()}
    with torch.device("meta"):  # networks without numbers are enough to count them
        types = {kind: parameters_of(AgentModel(agent, base.grid)) for kind, agent in agents.items()}
        return JoiningParameters(entrant.join, parameters_of(BaseModel(base)), types)
