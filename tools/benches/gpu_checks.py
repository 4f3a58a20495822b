"""Networks on a device against the same networks on the CPU: the largest difference of what they compute, and of AP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from heal.agent_model import AgentModel
from heal.agent_types import in_order
from heal.agents.interfaces import AllianceLike
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.aligners.aligner import ALIGNERS, Aligner, AlignerConfig, IdentityAligner
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import build_config, config
from heal.detection.metrics import ApAccumulator
from heal.layers.inference import for_inference
from heal.tools.benches.machine import FLOAT32, Precision, set_float32_precision
from heal.tools.benches.made_scenes import MadeScenes
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.setup import CPU, SEED
from heal.tools.benches.train import Case
from heal.tools.evaluation.compute import GPU_BATCH
from heal.training.replica import Replica
from heal.training.step import StepTaker

ALIGNED_CHANNELS = 64  # of the paper's feature maps
ALIGNER_SPREAD = 0.05
FUSED_AGENTS = 4
STEPS = 2
LEARNING_RATE = 1e-3
EVALUATED_TYPES = 4
Outputs: TypeAlias = Sequence[Tensor]


@config
class _AlignerOf:
    """The settings of an aligner of any kind."""

    aligner: AlignerConfig


@dataclass(frozen=True)
class Checked:
    """What is checked on a device.

    Attributes:
        device: compared with the CPU.
        agents: a network for each agent type.
        base: the base that they share.
        trainings: the trainings whose first steps are compared.
        alliance: trained networks, which are evaluated.
        scenes: the scenes of all checks.
    """

    device: torch.device
    agents: Mapping[str, AgentModel]
    base: BaseModel
    trainings: Sequence[Case]
    alliance: AllianceLike
    scenes: MadeScenes


def check_device(checked: Checked, precisions: Sequence[Precision]) -> list[BenchRow]:
    """Return a row for each encoder, aligner, base and training, all in exact float32, and for the evaluation in all precisions."""
    set_float32_precision(FLOAT32)
    with torch.no_grad():
        rows = [_encoder(checked, name) for name in checked.agents]
        rows += [_aligner(checked, kind) for kind in ALIGNERS if ALIGNERS[kind] is not IdentityAligner]
        rows.append(_base(checked))
    rows += [row for case in checked.trainings for row in _training(checked, case)]
    return [*rows, *_evaluations(checked, precisions)]


def largest_difference(expected: Outputs, found: Outputs) -> float:
    """Return the largest difference of tensors relative to the largest value of `expected`; NaN if one is not finite."""
    most = max(float(part.abs().max()) for part in expected)
    differences = [float((one - other.to(one)).abs().max()) for one, other in zip(expected, found, strict=True)]
    return float("nan") if any(value != value for value in differences) else max(differences) / most


def _row(name: str, note: str, expected: Outputs, found: Outputs) -> BenchRow:
    return BenchRow(f"check/{name}", value=largest_difference(expected, found), threads=torch.get_num_threads(), note=note)


def _encoder(checked: Checked, name: str) -> BenchRow:
    """Compare an agent type's network: on the CPU agent by agent, on the device in one batch and optimised for inference."""
    model, scenes = checked.agents[name], checked.scenes
    frames = [scenes.agent_frame(0, agent_id, model.sensor) for agent_id in scenes.outline(0).agent_ids[:2]]
    expected = torch.cat([model(model.prepare([frame])) for frame in frames])
    found = for_inference(model).to(checked.device)(model.prepare(frames).to(checked.device))
    return _row(f"encoder-{name}", f"{model.config.encoder.kind}, 2 agents in one batch", [expected], [found.cpu()])


def _aligner(checked: Checked, kind: str) -> BenchRow:
    """Compare an aligner with random weights on random maps."""
    grid = checked.base.config.grid
    torch.manual_seed(SEED)
    aligner = Aligner(build_config(_AlignerOf, {"aligner": {"kind": kind}}).aligner, ALIGNED_CHANNELS).eval()
    for weight in aligner.parameters():  # new aligners hardly change a map
        weight.add_(torch.randn_like(weight), alpha=ALIGNER_SPREAD)
    maps = torch.randn(1, ALIGNED_CHANNELS, grid.ny, grid.nx)
    found = for_inference(aligner).to(checked.device)(maps.to(checked.device))
    return _row(f"aligner-{kind}", f"{ALIGNED_CHANNELS} channels", [aligner(maps)], [found.cpu()])


def _base(checked: Checked) -> BenchRow:
    """Compare trunk, fusion and heads of several agents that stand in different places."""
    base, settings = checked.base, checked.base.config
    generator = torch.Generator().manual_seed(SEED)
    maps = torch.randn(FUSED_AGENTS, settings.in_channels, settings.grid.ny, settings.grid.nx, generator=generator)
    poses = torch.eye(4, dtype=torch.float64).repeat(FUSED_AGENTS, 1, 1)
    poses[:, :2, 3] = 5 * torch.randn(FUSED_AGENTS, 2, generator=generator, dtype=torch.float64)
    poses[0, :2, 3] = 0
    here = base(maps, poses, [FUSED_AGENTS]).head
    there = for_inference(base).to(checked.device)(maps.to(checked.device), poses, [FUSED_AGENTS]).head
    pairs = [(getattr(here, name), getattr(there, name).cpu()) for name in ("classification", "regression", "direction")]
    return _row("base", f"{FUSED_AGENTS} agents: trunk, fusion, heads", *zip(*pairs, strict=True))


def _training(checked: Checked, case: Case) -> Iterator[BenchRow]:
    """Compare the losses of some steps of a training, and the gradients of the first one."""
    losses, gradients = zip(*(_steps(replace(case, device=str(device))) for device in (CPU, checked.device)), strict=True)
    yield _row(f"{case.name}-losses", f"the first {STEPS} steps", *([torch.tensor(part)] for part in losses))
    yield _row(f"{case.name}-gradients", f"of {len(gradients[0])} weights in the first step", *gradients)


def _steps(case: Case) -> tuple[list[float], list[Tensor]]:
    """Take steps from the same weights on any device: return their losses, and the gradients of the first step."""
    torch.manual_seed(SEED)
    model, batch = case.prepared()
    taker, gradients, losses = StepTaker(model, case.settings, Replica(device=case.device)), list[Tensor](), []
    on_device = batch.to(taker.device)
    for _ in range(STEPS):
        losses.append(float(taker.take(on_device, LEARNING_RATE).total.detach()))
        gradients = gradients or _gradients(taker.model)
    return losses, gradients


def _gradients(model: CollabModel) -> list[Tensor]:
    return [weight.grad.detach().cpu().clone() for weight in model.parameters() if weight.grad is not None]


def _evaluations(checked: Checked, precisions: Sequence[Precision]) -> Iterator[BenchRow]:
    """Compare AP: tick by tick on the CPU in float32, with several ticks in a batch on the device in every precision."""
    expected = _ap(checked, CPU, 1, "float32")
    for precision in precisions:
        found = _ap(checked, checked.device, GPU_BATCH, precision.name)
        worst = max(abs(found[threshold] - value) for threshold, value in expected.items())
        ap = " / ".join(f"{value:.4f}" for value in found.values())
        note = f"difference of AP on {len(checked.scenes)} scenes; AP@{'/'.join(f'{threshold:g}' for threshold in found)} {ap}"
        yield BenchRow("check/evaluation", value=worst, threads=torch.get_num_threads(), dtype=precision.name, note=note)


def _ap(checked: Checked, device: torch.device, batch: int, precision: Any) -> dict[float, float]:
    """Return AP by threshold; 0 without objects."""
    alliance, scenes, total = checked.alliance, checked.scenes, ApAccumulator()
    options = RunOptions(correct_poses="off", precision=precision, threads=torch.get_num_threads())
    types_of = in_order(alliance.agent_names[:EVALUATED_TYPES])
    with LocalRuntime(alliance, scenes, types_of, options=options, device=device, batch=batch) as runtime:
        for result in runtime.run(range(len(scenes))):
            total.add_match(result.match)
    return {threshold: value or 0.0 for threshold, value in total.results().ap.items()}
