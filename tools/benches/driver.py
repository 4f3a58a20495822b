"""The driver's own work in a tick of many agents: planning, links, mailbox, regions and labels, without Ray and without networks.

The driver is the process that coordinates a run. Agents and fusion nodes are stubs here, which answer at once. The times are CPU
times, which do not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from heal.agent_types import same_type
from heal.agents.fusion.division import FusionTask
from heal.agents.interfaces import AllianceLike
from heal.agents.message_records import AgentLatency
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.records import AgentReport, FusionOutcome, NodeLatency
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep
from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections
from heal.se3 import pose_to_SE3
from heal.tools.benches.measure import BenchRow
from heal.types import AgentFrame, Float64, ObjectLabels, SceneOutline, SensorChoice

CROWDS = (8, 64, 500)
# Maps are held for 5 ticks; with the seventh tick the mailbox and the regions are full.
WARM_TICKS, TICKS, TICK_NS = 8, 32, 100_000_000
SPACING_M, SPEED_M, LABELS = 25.0, 1.0, 20
MESSAGE_BYTES, LINK = 8_000, "dsrc,delay:50,loss:0.1"
OPTIONS = RunOptions(adapt=True)
DIVISIONS = {"driver": OPTIONS, "regions": replace(OPTIONS, region_m=51.2)}
BOX = (0.0, 0.0, -1.0, 1.5, 1.8, 4.4, 0.0)


class Crowd:
    """A `SceneSource` of agents that are spread evenly over the ground and drive straight on; there is nothing to sense.

    Each agent labels its nearest neighbours.
    """

    def __init__(self, agents: int) -> None:
        """Place a number of agents at random, one for every square of `SPACING_M`."""
        rng = np.random.default_rng(0)
        self.ids = tuple(f"agent-{number}" for number in range(agents))
        self._starts = [*rng.uniform(0, SPACING_M * agents**0.5, (agents, 2))]
        self._yaws_deg = rng.uniform(-180, 180, agents)
        self._nearest = [np.argsort([np.hypot(*(end - start)) for end in self._starts])[1 : 1 + LABELS] for start in self._starts]

    def __len__(self) -> int:
        """Return the number of scenes."""
        return WARM_TICKS + TICKS

    def pose(self, index: int, place: int) -> Float64:
        """Return the pose of an agent, by its place among the agents."""
        yaw_deg = self._yaws_deg[place]
        way_m = SPEED_M * index * np.array([np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))])
        return pose_to_SE3([*(self._starts[place] + way_m), 1.9, 0, yaw_deg, 0])

    def outline(self, index: int) -> SceneOutline:
        """Return the agents and poses of a scene."""
        return SceneOutline(f"crowd/{index:06d}", index * TICK_NS, self.ids[0], self.ids, self.pose(index, 0))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Raise an error: the agents are stubs, and every one of them sends a report."""
        raise NotImplementedError(f"{agent_id} has no sensors")

    def scene_objects(self, index: int) -> None:
        """Return None: the objects of a scene are the union of the agents' labels."""

    def reports(self, index: int) -> list[AgentReport]:
        """Return the reports of all agents in a scene."""
        poses = [self.pose(index, place) for place in range(len(self.ids))]
        corners = boxes_to_corners(torch.tensor([BOX], dtype=torch.float64))[0].numpy()
        boxes = np.stack([corners @ pose[:3, :3].T + pose[:3, 3] for pose in poses])
        return [
            AgentReport(agent_id, "m1", MESSAGE_BYTES, pose, pose, ObjectLabels(near, boxes[near]), AgentLatency(1.0, 1.0, 1.0))
            for agent_id, pose, near in zip(self.ids, poses, self._nearest, strict=True)
        ]


def bench_driver(alliance: AllianceLike, crowds: Sequence[int] = CROWDS) -> list[BenchRow]:
    """Measure the driver's time of a tick for several numbers of agents, with a single fusion node and with regions."""
    rows = []
    for name, options in DIVISIONS.items():
        times_s = [driver_time_s(alliance, options, agents) for agents in crowds]
        for agents, time_s in zip(crowds, times_s, strict=True):
            note = f"driver's own work in a tick of {agents} agents, {time_s / times_s[0]:.1f} times that of {crowds[0]}"
            rows.append(BenchRow(f"scale/{name}{agents}", time_s, note=note))
    return rows


def driver_time_s(alliance: AllianceLike, options: RunOptions, agents: int) -> float:
    """Return the median CPU time of a tick, without the making of the reports and of the fusion nodes' answers."""
    crowd = Crowd(agents)
    coordinator: TickCoordinator[bytes] = TickCoordinator(
        alliance, crowd, same_type("m1"), LinkSpec.parse(LINK).network(0), options
    )
    times_s = []
    for tick in range(len(crowd)):
        steps = [AgentStep(report, b"") for report in crowd.reports(tick)]
        began_s = time.process_time()
        plan = coordinator.plan(tick)
        delivery = coordinator.deliver(plan, steps)
        delivered_s = time.process_time()
        outcomes = [_answer(tick, task) for task in delivery.tasks]
        answered_s = time.process_time()
        coordinator.settle(plan, delivery, outcomes)
        times_s.append(delivered_s - began_s + time.process_time() - answered_s)
    return median(times_s[WARM_TICKS:])


def _answer(tick: int, task: FusionTask[bytes]) -> FusionOutcome:
    """Return the outcome of a fusion node that uses all messages and finds one vehicle in the middle of its grid."""
    used = tuple(agent_id for agent_id, sent in task.senders if sent == tick)
    found = Detections(boxes_to_corners(torch.tensor([BOX])), torch.ones(1))
    return FusionOutcome(tick, found, used, (), (), NodeLatency(1.0, 1.0, 1.0))
