"""Single stages of a frame at the paper's size, and how their time grows with the number of agents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heal.base_model import BaseModel
from heal.encoders.lidar import lidar_clouds
from heal.encoders.voxelize import VoxelGrid, voxelize
from heal.fusion.interface import AgentLevels
from heal.layers.inference import for_inference
from heal.tools.benches.machine import FLOAT32, set_float32_precision, synchronized, yardstick_flops_per_s
from heal.tools.benches.measure import BenchRow, Timing, timed, timed_beside
from heal.tools.benches.plain import encoders as plain_encoders
from heal.tools.benches.plain import fusion as plain_fusion
from heal.tools.benches.plain import voxels as plain_voxels
from heal.tools.benches.setup import (
    CPU,
    PAPER_TYPES,
    PLAIN_REPEATS,
    WIDE,
    BenchSetup,
    PaperScene,
    count_flops,
    paper_scene,
    torch_threads,
)

LIDAR_TYPES = ("m1", "m3")
# Numbers of agents whose encoding and whose fusion are timed.
ENCODED = (1, 2, 4, 8)
FUSED = (2, 4, 8, 16)


def bench_voxelize(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench voxelize`: convert one cloud to m1's pillars and one to m3's voxels, with one thread."""
    with torch_threads(1):
        return [_voxelize(setup, name) for name in LIDAR_TYPES]


def _voxelize(setup: BenchSetup, name: str) -> BenchRow:
    """Time the voxelization of one agent's cloud for an agent type."""
    scene = paper_scene(setup, (name,), WIDE)
    clouds, grid = lidar_clouds(scene.frames), scene.agents[name].encoder.voxel_grid
    assert isinstance(grid, VoxelGrid), "a LiDAR encoder has a voxel grid"
    plain = (lambda: plain_voxels.voxelize(clouds, grid)) if setup.measures_plain else None
    timing, plain_timing = timed_beside(lambda: voxelize(clouds, grid), plain, 3 * setup.repeats)
    return BenchRow.of(f"voxelize/{name}", timing, f"{len(clouds[0])} points", plain_timing)


def bench_encode(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench encode`: one agent of every type, then several agents of m1, whose time should grow in proportion."""
    with torch.no_grad():
        return [*(_encode(setup, name) for name in PAPER_TYPES), *_encode_several(setup)]


def _encode(setup: BenchSetup, name: str) -> BenchRow:
    """Time the encoding of one agent's prepared sensor data for an agent type."""
    scene, plain = paper_scene(setup, (name,), WIDE), None
    model, fast = scene.agents[name], for_inference(scene.agents[name]).to(setup.device)
    inputs, flops = model.prepare(scene.frames), count_flops(lambda: model(model.prepare(scene.frames)))
    device_inputs = inputs.to(setup.device)
    set_float32_precision(FLOAT32)
    [timing] = timed(synchronized(setup.device, lambda: fast(device_inputs)), repeats=setup.repeats)
    if setup.measures_plain:
        [plain] = timed(lambda: plain_encoders.encode(model, inputs), repeats=PLAIN_REPEATS)
    row = BenchRow.of(f"encode/{name}", timing, "prepared sensor data to the shared feature space", plain)
    return row.of_flops(flops, yardstick_flops_per_s(setup.device, FLOAT32), FLOAT32.name)


def _encode_several(setup: BenchSetup) -> list[BenchRow]:
    """Time encoding one m1 agent, and several m1 agents one after the other."""
    scene = paper_scene(setup, ("m1",), WIDE)
    model = for_inference(scene.agents["m1"]).to(setup.device)
    inputs = model.prepare(scene.frames).to(setup.device)

    def several(count: int) -> None:
        for _ in range(count):
            model(inputs)

    calls = [lambda n=count: several(n) for count in ENCODED]
    timings = timed(*(synchronized(setup.device, call) for call in calls), repeats=setup.repeats)
    return [_relative_row(f"encode/m1x{count}", timing, timings[0]) for count, timing in zip(ENCODED, timings, strict=True)]


def bench_fuse(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench fuse`: the trunk of one agent, then fusion and heads under `split: pyramid` with more and more agents."""
    scene = paper_scene(setup, ("m1",) * max(FUSED), WIDE)
    base = for_inference(scene.base).to(setup.device)
    features = torch.randn(1, base.config.in_channels, WIDE.ny, WIDE.nx, device=setup.device)
    set_float32_precision(FLOAT32)
    with torch.no_grad():
        flops = count_flops(lambda: scene.base.trunk(features.to(CPU)))
        [trunk] = timed(synchronized(setup.device, lambda: base.trunk(features)), repeats=setup.repeats)
        row = BenchRow.of("fuse/trunk", trunk, "trunk of one agent; under split: pyramid the agent computes it")
        levels = base.trunk(features)
        scores = base.fusion.scores(levels.occupancy)
        calls = [lambda n=count: _fuse(base, levels, scores, scene, n) for count in FUSED]
        *timings, alone = timed(
            *(synchronized(setup.device, call) for call in (*calls, lambda: _fuse(base, levels, scores, scene, 1))),
            repeats=setup.repeats,
        )
        plain = _plain_fuse(scene, levels, scores) if setup.measures_plain else None
    rows = [_relative_row(f"fuse/{count}", timing, timings[0]) for count, timing in zip(FUSED, timings, strict=True)]
    rows[0] = BenchRow.of(rows[0].name, timings[0], rows[0].note, plain)
    per_agent_s = (timings[-1].seconds - timings[0].seconds) / (FUSED[-1] - FUSED[0])
    note = f"one more agent: {per_agent_s / trunk.seconds:.1%} of the time of its trunk"
    return [
        row.of_flops(flops, yardstick_flops_per_s(setup.device, FLOAT32), FLOAT32.name),
        *rows,
        BenchRow.of("fuse/agent", Timing(per_agent_s, 0.0), note),
        BenchRow.of(
            "fuse/alone", alone, f"heads for the ego alone: {alone.seconds / timings[0].seconds:.0%} of fusion and heads of two"
        ),
    ]


def _fuse(base: BaseModel, levels: AgentLevels, scores: Sequence[Tensor], scene: PaperScene, count: int) -> object:
    """Fuse `count` agents that all have the same levels and scores, and run the heads."""
    maps = [[level] * count for level in levels.maps]
    return base.heads(base.fuse_scored(maps, [[score] * count for score in scores], scene.agent_SE3_ego[:count], [count]))


def _plain_fuse(scene: PaperScene, levels: AgentLevels, scores: Sequence[Tensor]) -> Timing:
    """Time the plain form of fusion and heads with the smallest number of agents."""
    maps = [level.expand(FUSED[0], -1, -1, -1) for level in levels.maps]
    expanded = [score.expand(FUSED[0], -1, -1, -1) for score in scores]
    poses = scene.agent_SE3_ego[: FUSED[0]]
    [timing] = timed(lambda: plain_fusion.fuse(scene.base, maps, expanded, poses), repeats=PLAIN_REPEATS)
    return timing


def _relative_row(name: str, timing: Timing, first: Timing) -> BenchRow:
    """Make a row whose note compares the time with that of the first row of a series."""
    return BenchRow.of(name, timing, f"{timing.seconds / first.seconds:.2f} times the first of this series")
