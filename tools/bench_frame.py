"""Whole frames at the paper's size: from files on disk to boxes, and the networks' share of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from heal.agent_model import AgentModel, EncoderInput
from heal.base_model import BaseModel
from heal.datasets.open import open_dataset
from heal.datasets.opv2v_writer import write_opv2v
from heal.datasets.town import TownSource
from heal.decode import decode
from heal.detections import Detections
from heal.encoders.lidar import lidar_clouds
from heal.grid import BevGrid
from heal.head import HeadOutput
from heal.inference import for_inference
from heal.tools.bench_machine import Precision, finished, use, yardstick_flops_per_s
from heal.tools.bench_row import BenchRow, timed
from heal.tools.bench_setup import (
    CPU,
    PLAIN_REPEATS,
    SQUARE,
    WIDE,
    BenchSetup,
    PaperScene,
    bench_town,
    flops_of,
    frames_of,
    paper_scene,
    poses_of,
)
from heal.tools.naive import naive
from heal.types import AgentFrame, SceneSource, Sensor

CASES: dict[str, tuple[tuple[str, ...], BevGrid]] = {
    "m1x2": (("m1", "m1"), WIDE),
    "m1": (("m1",), SQUARE),
    "m1m2m3m4": (("m1", "m2", "m3", "m4"), SQUARE),
}
# What a GPU must do ten times a second.
GPU_CASES = {**CASES, "m1m2m3m4m1": (("m1", "m2", "m3", "m4", "m1"), SQUARE)}


@dataclass(frozen=True)
class Perceiver:
    """Networks that turn frames into boxes; the way of `heal simulate` without its messages.

    Attributes:
        types: of the agents, the ego first.
        base: as it runs.
        agents: network of each type, as it runs.
        device: where.
    """

    types: tuple[str, ...]
    base: BaseModel
    agents: dict[str, AgentModel]
    device: torch.device

    @staticmethod
    def of(scene: PaperScene, device: torch.device) -> Perceiver:
        """Networks for inference on a device."""
        agents = {name: for_inference(model).to(device) for name, model in scene.agents.items()}
        return Perceiver(scene.types, for_inference(scene.base).to(device), agents, device)

    def prepare(self, frames: Sequence[AgentFrame]) -> list[EncoderInput]:
        """What the encoders take, agent by agent."""
        return [self.agents[name].prepare([frame]).to(self.device) for name, frame in zip(self.types, frames, strict=True)]

    def head(self, inputs: Sequence[EncoderInput], agent_SE3_ego: Tensor) -> HeadOutput:
        """The head's output in the ego's frame: encoders and trunk agent by agent, then fusion and heads."""
        pyramid, maps, scores = self.base.pyramid_backbone, [], []
        for name, own in zip(self.types, inputs, strict=True):
            model = self.agents[name]
            levels = pyramid.trunk(model(own))
            maps.append(levels.maps)
            scores.append(pyramid.scores(levels.occupancy, [model.coverage]))
        levels_of, scores_of = (list(zip(*parts, strict=True)) for parts in (maps, scores))
        return self.base.heads(self.base.fuse_scored(levels_of, scores_of, agent_SE3_ego, [len(self.types)]))

    def boxes(self, frames: Sequence[AgentFrame]) -> Detections:
        """What is found."""
        base = self.base.config
        head = self.head(self.prepare(frames), poses_of(frames))
        return decode(head, self.base.anchors(), base.decode, base.grid.range_m)


def bench_frame(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench frame`."""
    cases = CASES if setup.device == CPU else GPU_CASES
    return [row for name, (types, grid) in cases.items() for row in _case(setup, name, paper_scene(setup, types, grid))]


def _case(setup: BenchSetup, name: str, scene: PaperScene) -> list[BenchRow]:
    """From disk to boxes, and from inputs to the head's output, in every precision."""
    plain = Perceiver(scene.types, scene.base, scene.agents, CPU)
    flops = flops_of(lambda: plain.boxes(scene.frames))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        source = _on_disk(setup, scene, Path(folder))
        rows = [row for precision in setup.precisions for row in _rows(setup, name, scene, source, precision, flops)]
        if setup.naive("encoders") is None:
            return rows
        [slow] = timed(lambda: plain_boxes(scene, frames_of(source, scene.types, scene.agents)), repeats=PLAIN_REPEATS)
    first, *others = rows
    assert first.seconds is not None, "a time"
    return [replace(first, speedup_over_naive=slow.seconds / first.seconds), *others]


def _rows(
    setup: BenchSetup, name: str, scene: PaperScene, source: SceneSource, precision: Precision, flops: float
) -> list[BenchRow]:
    ours, rate = Perceiver.of(scene, setup.device), yardstick_flops_per_s(setup.device, precision)
    inputs = ours.prepare(scene.frames)
    use(precision)
    with setup.autocast(precision):
        whole, dense = timed(
            finished(setup.device, lambda: ours.boxes(frames_of(source, scene.types, scene.agents))),
            finished(setup.device, lambda: ours.head(inputs, scene.agent_SE3_ego)),
            repeats=setup.repeats,
        )
    rows = (
        BenchRow.of(f"frame/{name}", whole, "disk to boxes"),
        BenchRow.of(f"forward/{name}", dense, "inputs to the head's output"),
    )
    return [row.of_flops(flops, rate, precision.name) for row in rows]


def plain_boxes(scene: PaperScene, frames: Sequence[AgentFrame]) -> Detections:
    """What is found by the plain form of every stage, with the same weights."""
    detections, base = naive("detections"), scene.base.config
    assert detections is not None, "asked for before"
    head = plain_head(scene, frames)
    found: Detections = detections.decode(head, scene.base.anchors(), base.decode, base.grid.range_m)
    return found


def plain_head(scene: PaperScene, frames: Sequence[AgentFrame]) -> HeadOutput:
    """The head's output by the plain forms."""
    encoders, fusion = naive("encoders"), naive("fusion")
    assert encoders is not None and fusion is not None, "asked for before"
    models = [scene.agents[name] for name in scene.types]
    encoded = [encoders.encode(model, _plain_inputs(model, frame)) for model, frame in zip(models, frames, strict=True)]
    levels = scene.base.trunk(torch.cat(encoded))
    scores = scene.base.pyramid_backbone.scores(levels.occupancy, scene.coverage)
    head: HeadOutput = fusion.fuse(scene.base, levels.maps, scores, poses_of(frames))
    return head


def _plain_inputs(model: AgentModel, frame: AgentFrame) -> EncoderInput:
    voxels = naive("voxels")
    grid = getattr(model.encoder, "voxel_grid", None)
    if grid is None or voxels is None:
        return model.prepare([frame])
    inputs: EncoderInput = voxels.voxelize(lidar_clouds([frame]), grid)
    return inputs


def _on_disk(setup: BenchSetup, scene: PaperScene, folder: Path) -> SceneSource:
    if setup.scenes is not None:
        return open_dataset(setup.scenes, "test")
    cameras = any(model.sensor.cameras for model in scene.agents.values())
    return written(bench_town(len(scene.types)), folder, frozenset({"lidar", "camera"}) if cameras else frozenset({"lidar"}))


def written(town: TownSource, root: Path, sensors: frozenset[Sensor]) -> SceneSource:
    """The town as files in the layout of OPV2V, and opened again."""
    write_opv2v(TownSource(town.preset, town.seed, 1, town.split, sensors), root)
    return open_dataset(root, town.split)
