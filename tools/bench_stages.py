"""The stages of a frame one by one at the paper's size, and how their cost grows with what they are given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heal.base_model import BaseModel
from heal.encoders.lidar import lidar_clouds
from heal.fusion.pyramid import PyramidLevels
from heal.inference import for_inference
from heal.tools.bench_machine import FLOAT32, finished, use, yardstick_flops_per_s
from heal.tools.bench_row import BenchRow, Timing, timed
from heal.tools.bench_setup import (
    CPU,
    PAPER_TYPES,
    PLAIN_REPEATS,
    WIDE,
    BenchSetup,
    PaperScene,
    flops_of,
    one_thread,
    paper_scene,
)
from heal.voxelize import VoxelGrid, voxelize

LIDAR_TYPES = ("m1", "m3")
AGENTS = (1, 2, 4, 8)
FUSED = (2, 4, 8, 16)


def bench_voxelize(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench voxelize`: one cloud to pillars and to voxels, with one thread."""
    with one_thread():
        return [_voxelize(setup, name) for name in LIDAR_TYPES]


def _voxelize(setup: BenchSetup, name: str) -> BenchRow:
    scene, plain = paper_scene(setup, (name,), WIDE), setup.naive("voxels")
    clouds, grid = lidar_clouds(scene.frames), scene.agents[name].encoder.voxel_grid
    assert isinstance(grid, VoxelGrid), "of a LiDAR encoder"
    [timing] = timed(lambda: voxelize(clouds, grid), repeats=3 * setup.repeats)
    slow = None if plain is None else timed(lambda: plain.voxelize(clouds, grid), repeats=PLAIN_REPEATS)[0]
    return BenchRow.of(f"voxelize/{name}", timing, f"{len(clouds[0])} points", slow)


def bench_encode(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench encode`: every type, and several agents of m1, which should cost so many times one."""
    with torch.no_grad():
        return [*(_encode(setup, name) for name in PAPER_TYPES), *_encode_many(setup)]


def _encode(setup: BenchSetup, name: str) -> BenchRow:
    scene, plain = paper_scene(setup, (name,), WIDE), setup.naive("encoders")
    model, fast = scene.agents[name], for_inference(scene.agents[name]).to(setup.device)
    inputs, flops = model.prepare(scene.frames), flops_of(lambda: model(model.prepare(scene.frames)))
    moved = inputs.to(setup.device)
    use(FLOAT32)
    [timing] = timed(finished(setup.device, lambda: fast(moved)), repeats=setup.repeats)
    slow = None if plain is None else timed(lambda: plain.encode(model, inputs), repeats=PLAIN_REPEATS)[0]
    row = BenchRow.of(f"encode/{name}", timing, "prepared sensors to the shared feature space", slow)
    return row.of_flops(flops, yardstick_flops_per_s(setup.device, FLOAT32), FLOAT32.name)


def _encode_many(setup: BenchSetup) -> list[BenchRow]:
    scene = paper_scene(setup, ("m1",), WIDE)
    model = for_inference(scene.agents["m1"]).to(setup.device)
    inputs = model.prepare(scene.frames).to(setup.device)

    def several(count: int) -> None:
        for _ in range(count):
            model(inputs)

    timings = timed(*(finished(setup.device, lambda n=count: several(n)) for count in AGENTS), repeats=setup.repeats)  # type: ignore[misc]
    return [_grown(f"encode/m1x{count}", timing, timings[0]) for count, timing in zip(AGENTS, timings, strict=True)]


def bench_fuse(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench fuse`: one agent's trunk; fusing and detecting under `split: pyramid` with more and more agents."""
    scene = paper_scene(setup, ("m1",) * max(FUSED), WIDE)
    base = for_inference(scene.base).to(setup.device)
    features = torch.randn(1, base.config.in_channels, WIDE.ny, WIDE.nx, device=setup.device)
    use(FLOAT32)
    with torch.no_grad():
        flops = flops_of(lambda: scene.base.trunk(features.to(CPU)))
        [trunk] = timed(finished(setup.device, lambda: base.trunk(features)), repeats=setup.repeats)
        row = BenchRow.of("fuse/trunk", trunk, "one agent's trunk, which it runs itself under split: pyramid")
        levels = base.trunk(features)
        scores = base.pyramid_backbone.scores(levels.occupancy)
        calls = [lambda n=count: _fuse(base, levels, scores, scene, n) for count in FUSED]
        timings = timed(*(finished(setup.device, call) for call in calls), repeats=setup.repeats)
        plain = _plain_fuse(setup, scene, levels, scores)
    each = (timings[-1].seconds - timings[0].seconds) / (FUSED[-1] - FUSED[0])
    rows = [_grown(f"fuse/{count}", timing, timings[0]) for count, timing in zip(FUSED, timings, strict=True)]
    rows[0] = BenchRow.of(rows[0].name, timings[0], rows[0].note, plain)
    words = f"an agent more: {each / trunk.seconds:.1%} of its trunk"
    return [
        row.of_flops(flops, yardstick_flops_per_s(setup.device, FLOAT32), FLOAT32.name),
        *rows,
        BenchRow.of("fuse/agent", Timing(each, 0.0), words),
    ]


def _fuse(base: BaseModel, levels: PyramidLevels, scores: Sequence[Tensor], scene: PaperScene, count: int) -> object:
    maps = [[level] * count for level in levels.maps]
    return base.heads(base.fuse_scored(maps, [[score] * count for score in scores], scene.agent_SE3_ego[:count], [count]))


def _plain_fuse(setup: BenchSetup, scene: PaperScene, levels: PyramidLevels, scores: Sequence[Tensor]) -> Timing | None:
    plain = setup.naive("fusion")
    if plain is None:
        return None
    maps = [level.expand(FUSED[0], -1, -1, -1) for level in levels.maps]
    spread = [score.expand(FUSED[0], -1, -1, -1) for score in scores]
    return timed(lambda: plain.fuse(scene.base, maps, spread, scene.agent_SE3_ego[: FUSED[0]]), repeats=PLAIN_REPEATS)[0]


def _grown(name: str, timing: Timing, first: Timing) -> BenchRow:
    return BenchRow.of(name, timing, f"{timing.seconds / first.seconds:.2f} times the first of them")
