"""All costs of an alliance's networks: what `heal profile` measures, in one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from heal.tools.benches.setup import bench_town
from heal.tools.profiling.flops import FrameFlops, TypeFlops, frame_flops, type_flops
from heal.tools.profiling.messages import MessageSize, message_sizes
from heal.tools.profiling.networks import Networks
from heal.tools.profiling.parameters import AgentParameters, BaseParameters, GrowthStep, growth
from heal.tools.profiling.training import TrainingCost, training_case, training_cost
from heal.tools.terminal.progress import Bar


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        agents: numbers of agents of the frames whose operations are counted; scenes of stage 1 have the largest one.
        steps: training steps that are timed.
        device: on which they are.
        training: whether training steps are measured at all.
    """

    agents: tuple[int, ...]
    steps: int
    device: torch.device
    training: bool


@dataclass(frozen=True)
class Accuracy:
    """The recorded AP of an alliance as it grows, of as many types as were evaluated.

    Attributes:
        data: the data set and its split.
        ap50: AP at IoU 0.5 after each type has joined.
        ap70: the same at IoU 0.7.
    """

    data: str
    ap50: tuple[float, ...]
    ap70: tuple[float, ...]


@dataclass(frozen=True)
class Costs:
    """The costs of a base and of its agent types; types are in the order in which they join.

    Attributes:
        base_parameters: of the base, by part.
        type_parameters: of each type, by part.
        growth: the alliance after each type has joined.
        accuracy: its AP on each data set on which the first type was evaluated, if the alliance has a record of it.
        type_flops: operations for an agent of each type.
        frame_flops: operations for a frame, by number of agents.
        messages: lengths of messages.
        training: memory and throughput of the training of each type; empty if not measured.
    """

    base_parameters: BaseParameters
    type_parameters: tuple[AgentParameters, ...]
    growth: tuple[GrowthStep, ...]
    accuracy: tuple[Accuracy, ...]
    type_flops: tuple[TypeFlops, ...]
    frame_flops: tuple[FrameFlops, ...]
    messages: tuple[MessageSize, ...]
    training: tuple[TrainingCost, ...]


def work_items(networks: Networks, plan: Plan) -> int:
    """Return how often `measure_costs` advances its bar."""
    return len(networks.names) * (2 if plan.training else 1)


def measure_costs(networks: Networks, evaluations: Mapping[str, Any], plan: Plan, bar: Bar) -> Costs:
    """Measure all costs; sensor data come from the first scene of a built-in town with dense traffic.

    Args:
        networks: the networks.
        evaluations: the record of the alliance's evaluations; empty without one.
        plan: what to measure.
        bar: shows what is being measured.
    """
    # A town with a single agent, so that its scene does not depend on the numbers of agents.
    model, town = networks.model, bench_town(1)
    operations, messages, training = list[TypeFlops](), list[MessageSize](), list[TrainingCost]()
    for name in networks.names:
        bar.describe(f"{name}: operations and bytes")
        frame = town.agent_frame(0, town.outline(0).ego_id, model.agent(name).sensor)
        operations.append(type_flops(name, model.agent(name), frame))
        messages += message_sizes(networks, name, town)
        bar.advance()
    for name in networks.names if plan.training else ():
        bar.describe(f"{name}: training steps")
        training.append(training_cost(training_case(networks.settings, name, max(plan.agents), plan.device), plan.steps))
        bar.advance()
    return Costs(
        BaseParameters.of(model.base),
        tuple(AgentParameters.of(name, model.agent(name)) for name in networks.names),
        growth(model),
        recorded_accuracy(networks.names, evaluations),
        tuple(operations),
        frame_flops(model.base, operations, plan.agents),
        tuple(messages),
        tuple(training),
    )


def recorded_accuracy(names: Sequence[str], evaluations: Mapping[str, Any]) -> tuple[Accuracy, ...]:
    """Return the AP of a growing alliance from the record of its evaluations, as `heal evaluate --in-order --record` writes it."""
    found = []
    for data, runs in evaluations.items():
        points = []
        for count in range(1, len(names) + 1):
            run = runs.get(" + ".join(names[:count]))
            if run is None or None in (run["ap"]["0.5"], run["ap"]["0.7"]):
                break
            points.append((run["ap"]["0.5"], run["ap"]["0.7"]))
        if points:
            ap50, ap70 = zip(*points, strict=True)
            found.append(Accuracy(data, ap50, ap70))
    return tuple(found)
