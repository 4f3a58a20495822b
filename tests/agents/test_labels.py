"""The vehicles that are hidden from the ego: each agent counts its own points, in whatever process it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.box_corners import boxes_to_corners
from heal.detection.visibility import SceneVisibility
from heal.se3 import inverse_SE3, transform_points
from heal.types import AgentFrame, LidarScan, ObjectLabels, SensorChoice
from tests.agents.counted_points import SourceOfPoints
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1"})
COUNTED = RunOptions(late="drop", count_points=True)
SOURCE = SourceOfPoints(scenarios=(("ego", "b", "c"),), ticks_each=2)


EGOS_CAR = 7


@dataclass(frozen=True)
class EgoIsLabelled(SourceOfPoints):
    """The same, where agent b labels the ego's car, on which it has 40 points and the ego none."""

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = super().agent_frame(index, agent_id, choice)
        if agent_id != "b" or frame.lidar is None:
            return frame
        centre = self.outline(index).world_SE3_ego[:3, 3]
        corners = boxes_to_corners(np.array([[*centre, 2.0, 2.0, 4.0, 0.0]]))
        points = transform_points(inverse_SE3(frame.world_SE3_agent), np.tile(centre, (40, 1)))
        sweep = np.concatenate([frame.lidar.points, np.pad(points, ((0, 0), (0, 1))).astype(np.float32)])
        labels = ObjectLabels.union([frame.objects, ObjectLabels(np.array([EGOS_CAR]), corners)])
        return replace(frame, lidar=LidarScan(sweep), objects=labels)


def run(source: TinySource, options: RunOptions, name: str = "local") -> list[TickResult]:
    with open_runtime(name, TinyAlliance(), source, TYPES, PerfectNetwork(), options) as runtime:
        return list(runtime.run(range(len(source))))


def car_1(visibility: SceneVisibility | None) -> tuple[int, int, bool]:
    """Points of the ego and of the other agent with most points on car 1, and whether it is hidden."""
    assert visibility is not None
    [row] = np.flatnonzero(visibility.ids == 1)
    return int(visibility.ego_points[row]), int(visibility.best_other_points[row]), bool(visibility.hidden[row])


def test_agents_count_their_points_on_labelled_vehicles() -> None:
    for result in run(SOURCE, COUNTED):
        assert car_1(result.visibility) == (3, 40, True)
        assert result.visibility is not None
        assert result.visibility.ids.tolist() == result.ground_truth.ids.tolist()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_the_counts_come_from_the_agents_processes() -> None:
    assert [car_1(result.visibility) for result in run(SOURCE, COUNTED, "ray")] == [(3, 40, True)] * 2


def test_agents_that_take_no_part_count_too() -> None:
    assert car_1(run(SOURCE, replace(COUNTED, agents=1))[0].visibility) == (3, 40, True)
    assert car_1(run(replace(SOURCE, unreadable="c"), replace(COUNTED, agents=1))[0].visibility) == (3, 25, True)


def test_without_the_egos_points_nothing_is_known() -> None:
    assert run(replace(SOURCE, scenarios=(("ego", "b", "c"),)), RunOptions())[0].visibility is None
    failed = run(replace(SOURCE, broken="ego"), COUNTED)
    assert [result.visibility for result in failed] == [None, None]


def test_the_egos_own_car_is_not_hidden_from_it() -> None:
    for result in run(EgoIsLabelled(scenarios=(("ego", "b", "c"),), ticks_each=2), replace(COUNTED, include_ego=True)):
        assert EGOS_CAR in result.ground_truth.ids
        assert car_1(result.visibility) == (3, 40, True)
        assert result.ground_truth.ids[torch.from_numpy(result.hidden)].tolist() == [1]


def test_labels_count_within_a_range_of_their_own() -> None:
    """The agents stand 3 m apart and each labels a car of its own; beyond the range of communication this car still counts."""
    source = TinySource(scenarios=(("ego", "b", "c"),))
    usual, near, near_on_all = (
        run(source, options)
        for options in (RunOptions(), RunOptions(comm_range_m=4), RunOptions(comm_range_m=4, labels_range_m=70))
    )
    for everyone, few, all_labels in zip(usual, near, near_on_all, strict=True):
        assert torch.equal(all_labels.ground_truth.ids, everyone.ground_truth.ids)
        assert len(few.ground_truth) < len(everyone.ground_truth)
        assert [message.agent_id for message in all_labels.messages if message.status == "used"] == ["ego", "b"]
