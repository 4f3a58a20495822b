"""Ticks written by hand: two agents beside an ego, a few boxes, and whatever is to have happened to their messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from heal.agents.faults import Fault
from heal.agents.message_records import AgentLatency, MessageRecord, MessageStatus
from heal.agents.records import AgentView, HeldMap, NodeLatency, Rejection, TickResult
from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.se3 import pose_to_SE3
from heal.types import Float32, Float64

RANGE_M = (-20.0, -20.0, -3.0, 20.0, 20.0, 1.0)
TICK_NS = 100_000_000
# As far from the origin as places on a map are, where single precision knows half metres only.
PLACE = (4_000_000.0, 500_000.0, 30.0)
TYPES = {"ego": "m1", "b": "m2", "-1": "m5"}
PLACES_M = ((8.0, 5.0), (-8.0, 5.0), (3.0, -12.0))
BYTES = {"ego": 1000, "b": 2000, "-1": 500}


def pose_of(agent_id: str, tick: int = 0) -> Float64:
    """World pose of an agent: in a row to the left of the ego, 10 m apart, each turned by 30 degrees more, driving along x."""
    place = list(TYPES).index(agent_id)
    return pose_to_SE3([PLACE[0] + tick, PLACE[1] + 10 * place, PLACE[2], 0, 30 * place, 0])


def boxes_at(*places: tuple[float, float]) -> torch.Tensor:
    """(N, 8, 3) corners of cars in the ego's frame."""
    return boxes_to_corners(torch.tensor([[x, y, -1.0, 1.5, 1.8, 4.4, 0.3] for x, y in places]).reshape(-1, 7))


def made_tick(tick: int = 0, found: int = 3, **statuses: MessageStatus) -> TickResult:
    """A tick in which the first `found` of three cars were found; `b="late"` says what became of b's message, by default used."""
    records = tuple(_record(tick, agent_id, statuses.get(agent_id, "used")) for agent_id in TYPES)
    detections = Detections(boxes_at(*PLACES_M[:found]), torch.linspace(0.9, 0.5, 3)[:found])
    views = tuple(AgentView(agent_id, pose_of(agent_id, tick), points_of(agent_id), heat_of(agent_id)) for agent_id in TYPES)
    return TickResult(
        tick=tick,
        scene_id=f"made/{tick:03d}",
        timestamp_ns=tick * TICK_NS,
        ego_id="ego",
        world_SE3_ego=pose_of("ego", tick),
        detections=detections,
        ground_truth=GroundTruth(boxes_at(*PLACES_M), torch.arange(3)),
        messages=records,
        latency=NodeLatency(1.5, 30.0, 4.0),
        views=views,
    )


def troubled_tick(tick: int = 0) -> TickResult:
    """A tick in which nearly everything goes wrong, though an older map of b's stands in."""
    return replace(
        made_tick(tick, found=1, b="late", **{"-1": "rejected"}),
        latency=None,
        held=(HeldMap("b", 200.0, 0.5),),
        late_rejections=(Rejection("b", max(0, tick - 2), "stale", "its time is 900 ms off"),),
        faults=(Fault("agent crashed", "-1"), Fault("fusion node hung"), Fault("fusion node restarted")),
    )


def points_of(agent_id: str) -> Float32:
    """(N, 4) an agent's cloud; b has cameras alone."""
    rng = np.random.default_rng(sum(agent_id.encode()))
    count = 0 if agent_id == "b" else 500
    return rng.uniform((-15, -15, -2, 0), (15, 15, 1, 1), (count, 4)).astype(np.float32)


def heat_of(agent_id: str) -> Float32:
    """(10, 20) a heat map with one hot cell: row 1, column 15; the cells are 2 m wide."""
    heat = np.full((10, 20), 0.02, np.float32)
    heat[1, 15] = 0.9
    return heat


def _record(tick: int, agent_id: str, status: MessageStatus) -> MessageRecord:
    own, sent_ns = agent_id == "ego", tick * TICK_NS
    arrival_ns = None if status in ("lost", "not sent") else sent_ns + (0 if own else 40_000_000)
    reasons = {"late": "after the deadline", "lost": "on the link", "rejected": "wrong base", "not sent": "agent crashed"}
    return MessageRecord(
        tick=tick,
        agent_id=agent_id,
        agent_type=TYPES[agent_id],
        own=own,
        size_bytes=BYTES[agent_id],
        sent_ns=sent_ns,
        arrival_ns=arrival_ns,
        status=status,
        reason=reasons.get(status, ""),
        detail="made for beef, this is f00d" if status == "rejected" else "",
        latency=AgentLatency(20.0, 15.0, 2.5),
    )
