"""Agents out of range are dropped before the agents that take part are counted, and their labels are no ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.reach import reach_of
from heal.agents.records import TickResult
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, Float64, ObjectLabels, SceneOutline, SensorChoice
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

AGENTS = ("ego", "far", "b", "c")
PLACES_M = {"ego": 0.0, "far": 9.0, "b": 2.0, "c": 4.0}
TYPES = by_id({"ego": "m1", "far": "m2", "b": "m1", "c": "m2"})
OWN_LABEL = {agent_id: sum(agent_id.encode()) for agent_id in AGENTS}  # TinySource: the object that this agent alone labels
OPTIONS = RunOptions(agents=2, comm_range_m=5.0, late="drop")


@dataclass(frozen=True)
class Spread(TinySource):
    """Agents on a line, the second of them out of the others' range.

    Attributes:
        error_m: error of the pose that the second agent measures.
        whole: whether the scenes have labels of their own.
        read: ids of the agents that were read, if not None.
    """

    scenarios: tuple[tuple[str, ...], ...] = (AGENTS,)
    ticks_each: int = 1
    error_m: float = 0.0
    whole: bool = False
    read: list[str] | None = None

    def outline(self, index: int) -> SceneOutline:
        return replace(super().outline(index), labelled_as_whole=self.whole)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        if self.read is not None:
            self.read.append(agent_id)
        frame = super().agent_frame(index, agent_id, choice)
        error = pose_to_SE3([self.error_m if agent_id == "far" else 0.0, 0, 0, 0, 0, 0])
        return replace(frame, world_SE3_agent_measured=error @ frame.world_SE3_agent)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        labels = self._labels(index, "ego")
        return ObjectLabels(np.array([500, 501]), labels.world_corners) if self.whole else None

    def _pose(self, index: int, agent_id: str) -> Float64:
        return pose_to_SE3([100 + PLACES_M[agent_id], 50, 1.9, 0, 0, 0])


def run(source: TinySource, options: RunOptions, tolerant: bool = False) -> TickResult:
    with LocalRuntime(TinyAlliance(), source, TYPES, options=options, tolerant=tolerant) as runtime:
        return next(runtime.run([0]))


def took_part(result: TickResult) -> list[str]:
    return [record.agent_id for record in result.messages]


def labelled_by(ids: Sequence[int]) -> set[str]:
    return {agent_id for agent_id, number in OWN_LABEL.items() if number in ids}


@pytest.mark.parametrize(("agents", "expected"), [(1, ["ego"]), (2, ["ego", "b"]), (3, ["ego", "b", "c"])])
def test_the_first_agents_in_range_take_part(agents: int, expected: list[str]) -> None:
    assert took_part(run(Spread(), replace(OPTIONS, agents=agents))) == expected


@pytest.mark.parametrize("agents", [1, 2, 3, 4, None])
def test_ground_truth_is_of_all_agents_in_range(agents: int | None) -> None:
    assert labelled_by(run(Spread(), replace(OPTIONS, agents=agents)).objects.ids.tolist()) == {"ego", "b", "c"}
    nearby = replace(OPTIONS, agents=agents, comm_range_m=3.0)
    assert labelled_by(run(Spread(), nearby).objects.ids.tolist()) == {"ego", "b"}


def test_where_all_may_take_part_the_fusion_node_rejects_those_out_of_range() -> None:
    result = run(Spread(), replace(OPTIONS, agents=None))
    assert {record.agent_id: record.status for record in result.messages} == dict.fromkeys(AGENTS, "used") | {"far": "out of range"}


def test_with_regions_the_range_counts_from_those_and_all_labels_are_ground_truth() -> None:
    result = run(Spread(), replace(OPTIONS, region_m=16.0))
    assert took_part(result) == ["ego", "far"] and labelled_by(result.objects.ids.tolist()) == set(AGENTS)


def test_agents_are_chosen_by_measured_poses_and_ground_truth_by_true_ones() -> None:
    result = run(Spread(error_m=-5.0), OPTIONS)
    assert took_part(result) == ["ego", "far"] and labelled_by(result.objects.ids.tolist()) == {"ego", "b", "c"}


def test_labels_of_the_scene_as_a_whole_count_whatever_is_in_range() -> None:
    assert run(Spread(whole=True), replace(OPTIONS, comm_range_m=0.0)).objects.ids.tolist() == [500, 501]


def test_poses_are_read_only_where_they_decide() -> None:
    read: list[str] = []
    source = Spread(read=read)
    is_reached = reach_of(source, 0, "ego", 5.0)
    assert read == [] and is_reached("b") and not is_reached("far") and is_reached("b") and read == ["ego", "b", "far"]
    read.clear()
    run(source, replace(OPTIONS, agents=None))
    assert sorted(read) == sorted(AGENTS)


def test_an_agent_whose_pose_cannot_be_read_is_chosen_and_fails() -> None:
    result = run(Spread(broken="far"), OPTIONS, tolerant=True)
    assert [(record.agent_id, record.status) for record in result.messages] == [("ego", "used"), ("far", "not sent")]
