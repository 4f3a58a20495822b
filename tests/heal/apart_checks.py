"""All code for GPUs, run on a simulated device that refuses CPU tensors; `test_apart.py` runs this file in its own process."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.agent_types import same_type
from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.host import NodeHost
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest, TickResult
from heal.aligners.aligner import ALIGNERS
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import build_config, to_plain
from heal.datasets.in_memory import ScenesInMemory
from heal.detection.detections import Detections
from heal.layers.inference import for_inference
from heal.message.codec import FLOAT32
from heal.tools.sweeps.lying import Liars, LieMemory, LyingRuntime, Shared
from heal.tools.sweeps.memo import MemoAlliance, MemoSource
from heal.training.augment import AugmentConfig
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.replica import Replica
from heal.training.step import StepTaker
from heal.training.validation import ValidationScenes, validate
from heal.types import Scene
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id
from tests.apart import apart, register
from tests.heal.networks import AGENT, BASE, GRID, LIFT_SPLAT, SECOND, small_scene, with_random_norms
from tests.heal.views import camera_view
from tests.tools.training.small_training import SETTINGS

register()
TYPES = {
    "pillars": AGENT,
    "second": SECOND,
    "cameras": replace(
        SECOND, encoder=replace(LIFT_SPLAT, cell_m=0.8, range_m=(-8.0, -4.8, -10.0, 8.0, 4.8, 10.0), depth_supervision=True)
    ),
}
# As wide as the paper's base, so that the CPU uses its own convolution algorithm.
WIDE_BASE = replace(BASE, pyramid=replace(BASE.pyramid, upsample_channels=(128, 128)), shrink_channels=(256,))


@pytest.fixture
def device() -> Iterator[torch.device]:
    with apart() as there:
        yield there


def scene_with_cameras(seed: int) -> Scene:
    """Make a scene with one agent for each type."""
    scene = small_scene(seed, agents=3)
    views = tuple(camera_view(f"camera{i}", yaw_deg=90 * i, depth_m=5.0) for i in range(2))
    return replace(scene, frames=tuple(replace(frame, cameras=views) for frame in scene.frames))


SOURCE = ScenesInMemory([scene_with_cameras(seed) for seed in range(2)])


def test_sides_do_not_mix(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        torch.ones(3) + torch.ones(3, device=device)
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        torch.ones(3)[torch.ones(1, dtype=torch.long, device=device)]
    assert (torch.ones(3, device=device) + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", TYPES)
def test_types_give_the_same_maps(name: str, device: torch.device) -> None:
    torch.manual_seed(0)
    model = with_random_norms(AgentModel(TYPES[name], GRID)).eval()
    inputs = model.prepare(SOURCE.scenes[0].frames)
    with torch.no_grad():
        expected = model(inputs)
        for there in (for_inference(model).to(device), for_inference(model.to(device))):
            maps = there(inputs.to(device))
            assert maps.device == device
            torch.testing.assert_close(maps.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ALIGNERS)
def test_aligners_run_and_learn(kind: str, device: torch.device) -> None:
    wide = replace(AGENT, backbone=replace(AGENT.backbone, channels=(32,)))
    aligned = build_config(AgentConfig, {**to_plain(wide), "aligner": {"kind": kind}})
    model = AgentModel(aligned, GRID).to(device).train()
    maps = model(model.prepare(SOURCE.scenes[0].frames).to(device))
    maps.square().sum().backward()
    assert all(weight.grad is None or weight.grad.device == device for weight in model.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("frozen", [False, True], ids=["stage 1", "stage 2"])
def test_training_steps(frozen: bool, precision: str, device: torch.device) -> None:
    training = replace(SETTINGS.training, max_agents=3, random_agents=False, frozen_base=frozen, precision=precision)
    settings = TrainingConfig(base=WIDE_BASE, agents=TYPES, loss=SETTINGS.loss, augment=AugmentConfig(), training=training)

    def losses(where: str) -> list[float]:
        torch.manual_seed(0)
        model = CollabModel(BaseModel(WIDE_BASE), {name: AgentModel(config, GRID) for name, config in TYPES.items()})
        steps = TrainingSteps(SOURCE, model, settings)
        taker = StepTaker(model, settings, Replica(device=where))
        return [float(taker.take(steps[i].to(taker.device), 1e-3).total.detach()) for i in range(2)]

    assert losses(str(device)) == pytest.approx(losses("cpu"), rel=1e-3 if precision == "float32" else 0.05)


@pytest.mark.parametrize("frozen", [False, True], ids=["stage 1", "stage 2"])
def test_validation(frozen: bool, device: torch.device) -> None:
    settings = TrainingConfig(base=WIDE_BASE, agents=TYPES, training=replace(SETTINGS.training, frozen_base=frozen))

    def loss(where: str) -> float:
        torch.manual_seed(0)
        model = CollabModel(BaseModel(WIDE_BASE), {name: AgentModel(config, GRID) for name, config in TYPES.items()})
        return validate(StepTaker(model, settings, Replica(device=where)), ValidationScenes(SOURCE, model, settings)).loss

    assert loss(str(device)) == pytest.approx(loss("cpu"), rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("split", ["feature", "pyramid"])
def test_agents_and_fusion_node(split: str, precision: str, device: torch.device) -> None:
    options = RunOptions(split=split, precision=precision)

    def outcome(where: torch.device) -> FusionOutcome:
        alliance, source = TinyAlliance(), TinySource()
        host = AgentHost(AgentSetup.of(alliance, "m1", source, options), where, together=where == device)
        ids, outline = ("ego", "b", "c"), source.outline(0)
        sent = host.step([AgentRequest(0, agent_id, FLOAT32) for agent_id in ids])
        request = FusionRequest(0, outline.timestamp_ns, "tiny", "ego", outline.world_SE3_ego)
        arrivals = [Arrival(agent_id, message, 0) for agent_id, (message, _) in zip(ids, sent, strict=True)]
        return NodeHost(NodeKnowledge.of(alliance, options), where).step([(request, arrivals)])[0]

    there, here = outcome(device), outcome(torch.device("cpu"))
    assert there.used == here.used == ("ego", "b", "c") and not there.rejected
    assert there.detections.corners.device.type == "cpu"
    if precision == "float32":
        assert_close(there.detections, here.detections)


def test_batched_evaluation(device: torch.device) -> None:
    types = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})

    def results(where: torch.device, batch: int) -> list[TickResult]:
        options = RunOptions(keep_views=True, correct_poses="peaks")
        with LocalRuntime(TinyAlliance(), TinySource(), types, options=options, device=where, batch=batch) as runtime:
            return list(runtime.run(range(4)))

    for there, here in zip(results(device, 3), results(torch.device("cpu"), 1), strict=True):
        assert_close(there.detections, here.detections)
        assert there.counts == here.counts and len(there.views) == len(here.views)


def test_a_sweep_keeps_maps_on_the_device(device: torch.device) -> None:
    options = RunOptions()

    def boxes(where: torch.device) -> list[Detections]:
        alliance, source = MemoAlliance(TinyAlliance()), MemoSource(TinySource())
        given, shared = (alliance, source, same_type("m1")), Shared(0, alliance.base.fusion.trunk, LieMemory(8))
        honest = LocalRuntime(*given, options=options, device=where)
        lying = LyingRuntime(*given, options=options, device=where).lying(Liars("noise", 2), shared)
        return [next(run.run([0])).detections for run in (honest, lying)]

    for there, here in zip(boxes(device), boxes(torch.device("cpu")), strict=True):
        assert_close(there, here)


def assert_close(found: Detections, expected: Detections) -> None:
    assert len(found) and len(found) == len(expected)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.corners, expected.corners, atol=1e-3, rtol=1e-4)
