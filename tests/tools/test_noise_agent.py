"""The shipped alliance gains nothing from an agent that sends noise, so the ego alone is a fair reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionRequest
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import TownSource
from heal.detection.ground_truth import ground_truth
from heal.detection.metrics import ApAccumulator
from heal.message.codec import FLOAT32
from heal.message.message import Message
from heal.types import load_scene

ALLIANCE = Path(__file__).resolve().parents[2] / "configs" / "demo" / "alliance"
SEEDS = range(101, 113)
INSTANTS = (0, 20, 40)


def _noise_like(message: Message, rng: np.random.Generator) -> Message:
    """Return a message with random features of the same mean and spread in each channel, from a sender two car lengths ahead."""
    mean = message.maps[0].mean(axis=(1, 2), keepdims=True)
    spread = message.maps[0].std(axis=(1, 2), keepdims=True)
    features = (mean + spread * rng.standard_normal(message.maps[0].shape)).astype(np.float32)
    pose = message.world_SE3_agent.copy()
    pose[:3, 3] += 9.0 * pose[:3, 0]
    return replace(message, agent_id="noise", maps=(features,), world_SE3_agent=pose)


def _aps(alliance: Alliance) -> tuple[dict[float, float], dict[float, float]]:
    """Return AP by IoU threshold of the ego alone, and of the ego with an agent that sends noise."""
    alone, noisy = ApAccumulator(), ApAccumulator()
    name, range_m = alliance.agent_names[0], alliance.grid.range_m
    options, rng = RunOptions(), np.random.default_rng(0)
    node = FusionNode(alliance.base, alliance.base_hash, options)
    for seed in SEEDS:
        source = TownSource("demo", seed=seed, ticks=max(INSTANTS) + 1, split="test")
        for tick in INSTANTS:
            scene = load_scene(source, tick)
            outline = scene.outline
            setup = AgentSetup.of(alliance, name, source, options)
            [(buffer, _)] = AgentHost(setup).step(tick, [AgentRequest(outline.ego_id, FLOAT32)])
            noise = _noise_like(Message.from_bytes(buffer), rng)
            # Each request belongs to another sequence, so that the node holds no map from one request for the next.
            alone_request, joint_request = (
                FusionRequest(tick, outline.timestamp_ns, f"{seed}/{tick}/{kind}", outline.ego_id, outline.world_SE3_ego)
                for kind in ("alone", "noisy")
            )
            own, other = Arrival(outline.ego_id, buffer, tick), Arrival("noise", noise.to_bytes(), tick)
            truth = ground_truth(scene, range_m, include_ego=False)
            alone.add(node.step(alone_request, [own]).detections, truth)
            outcome = node.step(joint_request, [own, other])
            assert outcome.used == (outline.ego_id, "noise")
            noisy.add(outcome.detections, truth)
    return alone.results().ap, noisy.results().ap


def test_an_agent_that_sends_noise_does_not_raise_ap() -> None:
    torch.manual_seed(0)
    alone, noisy = _aps(load_alliance(ALLIANCE))
    assert alone[0.5] > 0.3
    for threshold, ap in noisy.items():
        # Half a percentage point is allowed: the same boxes can have a slightly different order of scores.
        assert ap <= alone[threshold] + 0.005, f"IoU {threshold}: {ap} with noise, {alone[threshold]} without"
