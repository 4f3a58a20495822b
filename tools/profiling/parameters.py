"""Parameters: of each part, and of an alliance as it grows, in all and trained; the paper's numbers to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabModel

# Parameters of the networks that HEAL trains for m1, m2, m3 and m4 (base included), which the paper's configurations have.
PAPER_NETWORKS = (5_464_791, 20_250_219, 6_313_879, 7_149_639)


@dataclass(frozen=True)
class Published:
    """A method of HEAL's comparison on OPV2V-H, where m2, m3 and m4 have joined m1, without pose noise.

    Attributes:
        name: of the method.
        parameters: that are trained, as published; for HEAL those of the network in which m4 is trained, the frozen base included.
        ap50: AP at IoU 0.5.
        ap70: AP at IoU 0.7.
    """

    name: str
    parameters: float
    ap50: float
    ap70: float


PUBLISHED = (
    Published("HEAL", 7.15e6, 0.894, 0.813),
    Published("CoBEVT", 51.58e6, 0.885, 0.742),
    Published("V2X-ViT", 54.62e6, 0.882, 0.753),
    Published("HM-ViT", 83.34e6, 0.876, 0.755),
)


@dataclass(frozen=True)
class AgentParameters:
    """The parameters of an agent type, by part."""

    name: str
    encoder: int
    backbone: int
    aligner: int

    @staticmethod
    def of(name: str, model: AgentModel) -> AgentParameters:
        """Count those of a network."""
        return AgentParameters(name, *(parameters_of(part) for part in (model.encoder, model.backbone, model.aligner)))


@dataclass(frozen=True)
class BaseParameters:
    """The parameters of a base, by part: the fusion with its trunk, the shrink layers, the heads and single heads."""

    fusion: int
    shrink: int
    heads: int

    @staticmethod
    def of(base: BaseModel) -> BaseParameters:
        """Count those of a network."""
        fusion, shrink = parameters_of(base.fusion), parameters_of(base.shrink_conv)
        return BaseParameters(fusion, shrink, parameters_of(base) - fusion - shrink)


@dataclass(frozen=True)
class GrowthStep:
    """An alliance after a type has joined.

    Attributes:
        name: the type.
        trained: parameters that are trained when it joins: the base and the first type in stage 1, then the type's own in stage 2.
        network: parameters of the network in this training, with those of the frozen base.
        aligned: parameters that all stages 2 so far have trained.
        in_all: parameters of the alliance; each of them has been trained once.
    """

    name: str
    trained: int
    network: int
    aligned: int
    in_all: int


def parameters_of(network: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def growth(model: CollabModel) -> tuple[GrowthStep, ...]:
    """Return the alliance after each of its types has joined, in the model's order; the first type is trained with the base."""
    base, steps, aligned = parameters_of(model.base), list[GrowthStep](), 0
    for name in model.agents:
        own = parameters_of(model.agent(name))
        aligned += own if steps else 0
        before = steps[-1].in_all if steps else base
        steps.append(GrowthStep(name, own if steps else base + own, base + own, aligned, before + own))
    return tuple(steps)


def are_the_papers(steps: Sequence[GrowthStep]) -> bool:
    """Return whether an alliance has grown as the paper's on OPV2V-H, in the sizes of its networks."""
    return tuple(step.network for step in steps) == PAPER_NETWORKS
