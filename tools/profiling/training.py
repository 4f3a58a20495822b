"""Peak memory and throughput of both training stages: a few steps of each, by the training's own code, each in its own process."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from heal.agent_model import AgentConfig, EncoderConfig
from heal.encoders.lidar_and_camera import LidarAndCameraConfig
from heal.encoders.lift_splat import LiftSplatConfig
from heal.tools.benches.measure import timed
from heal.tools.benches.setup import bench_town
from heal.tools.benches.train import Case, StepWorker, our_step
from heal.training.config import TrainingConfig
from heal.training.own_range import cropped_grid


@dataclass(frozen=True)
class TrainingCost:
    """The cost of a training's steps, each with one scene, in float32.

    Attributes:
        name: the agent type.
        stage: 1 with the base, 2 against the frozen base.
        agents: agents of the scene.
        device: "cpu" or "cuda".
        peak_bytes: on a CPU the growth of the resident memory in the first step, without networks and batch; on a GPU the most that
            torch has allocated, with them. None if the operating system does not report memory.
        scenes_per_s: scenes in a second, without the time of loading them.
    """

    name: str
    stage: int
    agents: int
    device: str
    peak_bytes: int | None
    scenes_per_s: float


def training_case(settings: TrainingConfig, name: str, agents: int, device: torch.device) -> Case:
    """Return the training of an agent type in the built-in town.

    Args:
        settings: of the base and of all agent types, in the order in which they join.
        name: the type; the first one is trained together with the base (stage 1), all others alone (stage 2).
        agents: agents of a scene in stage 1.
        device: of the networks.
    """
    agent, base, first = _untrained(settings.agents[name]), settings.base, next(iter(settings.agents))
    step = replace(
        settings.training,
        batch_scenes=1,
        replicas=1,
        workers=0,
        precision="float32",
        random_agents=False,
        comm_range_m=math.inf,
        max_agents=agents,
    )
    if name != first:
        step = replace(step, max_agents=1, random_ego=True, frozen_base=True)
        base = replace(base, grid=cropped_grid(agent, base))
    return Case(name, replace(settings, base=base, agents={name: agent}, training=step), bench_town(agents), str(device))


def training_cost(case: Case, steps: int) -> TrainingCost:
    """Measure a training: the memory of its first step, then the time of some steps."""
    training = case.settings.training
    with StepWorker(case, our_step) as worker:
        peak_bytes = worker.first_step_bytes()
        [step] = timed(worker.step, repeats=steps, warm_up=0)
    stage = 2 if training.frozen_base else 1
    device = torch.device(case.device).type
    return TrainingCost(case.name, stage, training.max_agents, device, peak_bytes, training.batch_scenes / step.seconds)


def _untrained(agent: AgentConfig) -> AgentConfig:
    """Return an agent type without published weights, which cost a download and change no cost of a step."""
    encoder = agent.encoder
    if isinstance(encoder, LidarAndCameraConfig):
        return replace(agent, encoder=replace(encoder, camera=_without_weights(encoder.camera)))
    return replace(agent, encoder=_without_weights(encoder))


def _without_weights(encoder: EncoderConfig) -> EncoderConfig:
    return replace(encoder, pretrained=False) if isinstance(encoder, LiftSplatConfig) else encoder
