"""The fusions at the paper's size: three LiDAR agents from encoder inputs to the head's output, beside Pyramid Fusion."""

from __future__ import annotations

from dataclasses import replace

import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.fusion.table import FusionConfig, known_fusions
from heal.tools.benches.frame import Perceiver
from heal.tools.benches.machine import FLOAT32, set_float32_precision, synchronized, yardstick_flops_per_s
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.setup import CPU, SEED, WIDE, BenchSetup, PaperScene, count_flops, paper_scene
from heal.tools.shared.setting_files import read_agent_type

AGENTS = 3
# The grid of the fusions of one scale, whose recipes have cells twice as wide as those of Pyramid Fusion.
COARSE = replace(WIDE, cell_m=1.6)


def bench_methods(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench methods`: measure every fusion in the same rounds as Pyramid Fusion with two agents."""
    own = paper_scene(setup, ("m1",) * AGENTS, WIDE)
    pair = paper_scene(setup, ("m1", "m1"), WIDE)
    return [_row(setup, settings().kind, method_scene(own, settings()), pair) for settings in known_fusions()]


def method_scene(own: PaperScene, fusion: FusionConfig) -> PaperScene:
    """Return a scene of m1 agents with the networks of another fusion, as the recipes of HEAL's baselines have them."""
    torch.manual_seed(SEED)
    several = len(fusion.strides) > 1
    agent = read_agent_type("m1" if several else "plain/m1")
    config = BaseConfig(grid=WIDE, fusion=fusion) if several else _one_scale(fusion, agent.backbone.out_channels)
    base, model = BaseModel(config), AgentModel(agent, config.grid)
    return replace(own, base=base.eval().requires_grad_(False), agents={"m1": model.eval().requires_grad_(False)})


def _one_scale(fusion: FusionConfig, channels: int) -> BaseConfig:
    """Return a base that fuses maps of so many channels at one scale, without layers between fusion and heads."""
    return BaseConfig(grid=COARSE, in_channels=channels, fusion=fusion, shrink_channels=(), shrink_sizes=(), shrink_strides=())


def _row(setup: BenchSetup, kind: str, scene: PaperScene, pair: PaperScene) -> BenchRow:
    """Measure one fusion with all agents of a scene."""
    ours, beside = Perceiver.of(scene, setup.device), Perceiver.of(pair, setup.device)
    inputs, others = ours.prepare(scene.frames), beside.prepare(pair.frames)
    plain = Perceiver(scene.types, scene.base, scene.agents, CPU)
    with torch.no_grad():
        flops = count_flops(lambda: plain.head(plain.prepare(scene.frames), scene.agent_SE3_ego))
        set_float32_precision(FLOAT32)
        timing, pyramid = timed(
            synchronized(setup.device, lambda: ours.head(inputs, scene.agent_SE3_ego)),
            synchronized(setup.device, lambda: beside.head(others, pair.agent_SE3_ego)),
            repeats=setup.repeats,
        )
    ratio = timing.seconds / pyramid.seconds
    row = BenchRow.of(f"methods/{kind}", timing, f"{AGENTS} m1 agents; {ratio:.2f} of Pyramid Fusion with 2 in the same rounds")
    return row.of_flops(flops, yardstick_flops_per_s(setup.device, FLOAT32), FLOAT32.name)
