"""Whole frames at the paper's size: the time from files on disk to boxes, and the time of the networks alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.datasets.open import open_dataset
from heal.datasets.town import TownSource
from heal.datasets.town.opv2v_writer import write_opv2v
from heal.detection.anchors import make_anchors
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.encoders.lidar import lidar_clouds
from heal.encoders.table import EncoderInput
from heal.grid import BevGrid
from heal.layers.inference import for_inference
from heal.tools.benches.machine import Precision, set_float32_precision, synchronized, yardstick_flops_per_s
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.plain import detections as plain_detections
from heal.tools.benches.plain import encoders as plain_encoders
from heal.tools.benches.plain import fusion as plain_fusion
from heal.tools.benches.plain import voxels as plain_voxels
from heal.tools.benches.setup import (
    CPU,
    PLAIN_REPEATS,
    SQUARE,
    WIDE,
    BenchSetup,
    PaperScene,
    bench_town,
    count_flops,
    frames_of,
    paper_scene,
    poses_of,
)
from heal.types import AgentFrame, SceneSource, Sensor

# Name of the case: agent types, the ego first, and the grid.
CASES: dict[str, tuple[tuple[str, ...], BevGrid]] = {
    "m1x2": (("m1", "m1"), WIDE),
    "m1": (("m1",), SQUARE),
    "m1m2m3m4": (("m1", "m2", "m3", "m4"), SQUARE),
}
# The additional case is the one that a GPU must compute ten times per second.
GPU_CASES = {**CASES, "m1m2m3m4m1": (("m1", "m2", "m3", "m4", "m1"), SQUARE)}


Levels = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""The maps and the foreground scores of one agent at every scale."""


@dataclass(frozen=True)
class Perceiver:
    """The networks of one scene in one process. They compute the same as `heal simulate` without its messages.

    Attributes:
        types: agent type of each agent, the ego first.
        base: base network.
        agents: network of each agent type.
        device: device of all networks.
    """

    types: tuple[str, ...]
    base: BaseModel
    agents: dict[str, AgentModel]
    device: torch.device

    @staticmethod
    def of(scene: PaperScene, device: torch.device) -> Perceiver:
        """Copy a scene's networks to a device, optimised for inference: norms folded, kernels in channels_last."""
        agents = {name: for_inference(model).to(device) for name, model in scene.agents.items()}
        return Perceiver(scene.types, for_inference(scene.base).to(device), agents, device)

    def prepare(self, frames: Sequence[AgentFrame]) -> list[EncoderInput]:
        """Convert each agent's sensor data to the input of its encoder, on the networks' device."""
        return [self.agents[name].prepare([frame]).to(self.device) for name, frame in zip(self.types, frames, strict=True)]

    def head(self, inputs: Sequence[EncoderInput], agent_SE3_ego: Tensor) -> HeadOutput:
        """Run encoder and trunk for one agent at a time, then fusion and heads for all M agents together.

        Args:
            inputs: encoder input of each agent, the ego first.
            agent_SE3_ego: (M, 4, 4) float64, maps coordinates of the ego's frame into each agent's frame.

        Returns:
            The head's output for one scene, in the ego's frame.
        """
        return self.fused([self.levels(name, own) for name, own in zip(self.types, inputs, strict=True)], agent_SE3_ego)

    def levels(self, name: str, own: EncoderInput) -> Levels:
        """Run the encoder and the trunk for one agent of a type: its maps and its scores at every scale."""
        pyramid, model = self.base.fusion, self.agents[name]
        levels = pyramid.trunk(model(own))
        return levels.maps, pyramid.scores(levels.occupancy, [model.coverage])

    def fused(self, levels: Sequence[Levels], agent_SE3_ego: Tensor) -> HeadOutput:
        """Run fusion and heads for agents, the ego first."""
        maps, scores = (list(zip(*parts, strict=True)) for parts in zip(*levels, strict=True))
        types = self.types[: len(levels)]
        return self.base.heads(self.base.fuse_scored(maps, scores, agent_SE3_ego, [len(levels)], agent_types=types))

    def alone(self, ego: Levels) -> Detections:
        """Detect objects from the levels of the ego alone, as a fusion node does beside every fusion."""
        head = self.fused([ego], torch.eye(4, dtype=torch.float64)[None])
        return self.base.detection.decode(head, self.base.config.grid.range_m)

    def boxes(self, frames: Sequence[AgentFrame]) -> Detections:
        """Detect objects in the sensor data of all agents; boxes are in the ego's frame."""
        head = self.head(self.prepare(frames), poses_of(frames))
        return self.base.detection.decode(head, self.base.config.grid.range_m)


def bench_frame(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench frame`: measure every case of agents and grid."""
    cases = CASES if setup.device == CPU else GPU_CASES
    return [row for name, (types, grid) in cases.items() for row in _case(setup, name, paper_scene(setup, types, grid))]


def _case(setup: BenchSetup, name: str, scene: PaperScene) -> list[BenchRow]:
    """Measure one case in every precision, and the plain form in float32."""
    unfolded = Perceiver(scene.types, scene.base, scene.agents, CPU)
    flops = count_flops(lambda: unfolded.boxes(scene.frames))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        source = _scene_files(setup, scene, Path(folder))
        rows = [row for precision in setup.precisions for row in _rows(setup, name, scene, source, precision, flops)]
        if not setup.measures_plain:
            return rows
        [plain] = timed(lambda: plain_boxes(scene, frames_of(source, scene.types, scene.agents)), repeats=PLAIN_REPEATS)
    first, *others = rows
    assert first.seconds is not None, "the first row holds a time"
    return [replace(first, speedup_over_plain=plain.seconds / first.seconds), *others]


def _rows(
    setup: BenchSetup, name: str, scene: PaperScene, source: SceneSource, precision: Precision, flops: float
) -> list[BenchRow]:
    """Measure one case in one precision: from files to boxes, from encoder inputs to the head's output, and the ego's own boxes."""
    ours, yardstick = Perceiver.of(scene, setup.device), yardstick_flops_per_s(setup.device, precision)
    inputs = ours.prepare(scene.frames)
    set_float32_precision(precision)
    with setup.autocast(precision):
        ego = ours.levels(scene.types[0], inputs[0])
        whole, forward, alone = timed(
            synchronized(setup.device, lambda: ours.boxes(frames_of(source, scene.types, scene.agents))),
            synchronized(setup.device, lambda: ours.head(inputs, scene.agent_SE3_ego)),
            synchronized(setup.device, lambda: ours.alone(ego)),
            repeats=setup.repeats,
        )
    rows = (
        BenchRow.of(f"frame/{name}", whole, "files on disk to boxes"),
        BenchRow.of(f"forward/{name}", forward, "encoder inputs to the head's output"),
    )
    note = f"boxes of the ego alone, for the guard: {alone.seconds / whole.seconds:.1%} of the frame"
    guard = replace(BenchRow.of(f"alone/{name}", alone, note), dtype=precision.name)
    return [*(row.of_flops(flops, yardstick, precision.name) for row in rows), guard]


def plain_boxes(scene: PaperScene, frames: Sequence[AgentFrame]) -> Detections:
    """Detect objects with the plain form of every stage and the scene's weights; boxes are in the ego's frame."""
    base = scene.base.config
    head = plain_head(scene, frames)
    return plain_detections.decode(head, make_anchors(base.grid, base.anchors), base.decode, base.grid.range_m)


def plain_head(scene: PaperScene, frames: Sequence[AgentFrame]) -> HeadOutput:
    """Compute the head's output in the ego's frame with the plain form of every stage and the scene's weights."""
    models = [scene.agents[name] for name in scene.types]
    encoded = [plain_encoders.encode(model, _plain_inputs(model, frame)) for model, frame in zip(models, frames, strict=True)]
    levels = scene.base.trunk(torch.cat(encoded))
    scores = scene.base.fusion.scores(levels.occupancy, scene.coverage)
    return plain_fusion.fuse(scene.base, levels.maps, scores, poses_of(frames))


def _plain_inputs(model: AgentModel, frame: AgentFrame) -> EncoderInput:
    """Convert one agent's sensor data to its encoder's input, a LiDAR cloud with the plain form of voxelization."""
    grid = getattr(model.encoder, "voxel_grid", None)
    return model.prepare([frame]) if grid is None else plain_voxels.voxelize(lidar_clouds([frame]), grid)


def _scene_files(setup: BenchSetup, scene: PaperScene, folder: Path) -> SceneSource:
    """Open the scenes of `--scenes`; without this option write the built-in town to the folder and open it."""
    if setup.scenes is not None:
        return open_dataset(setup.scenes, "test")
    cameras = any(model.sensor.cameras for model in scene.agents.values())
    return write_town(bench_town(len(scene.types)), folder, frozenset({"lidar", "camera"}) if cameras else frozenset({"lidar"}))


def write_town(town: TownSource, root: Path, sensors: frozenset[Sensor]) -> SceneSource:
    """Write the first scene of a town to files in OPV2V's layout, and open these files.

    Args:
        town: town to write.
        root: folder that the files are written to.
        sensors: sensors whose data is written.
    """
    write_opv2v(TownSource(town.preset, town.seed, 1, town.split, sensors), root)
    return open_dataset(root, town.split)
