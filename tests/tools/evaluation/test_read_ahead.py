"""Scenes that are read ahead hold all that their evaluation asks for, and change nothing of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.alliance import Alliance, load_alliance
from heal.tools.evaluation.compute import Compute
from heal.tools.evaluation.scenes import Evaluated, results_of
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SensorChoice
from tests.agents.tiny_run import TinySource, assert_same_results, by_id, save_tiny_alliance

TYPES = by_id(dict.fromkeys(("ego", "b", "c", "d"), "m1"))


class NotingSource(TinySource):
    """A tiny source that notes what is asked of it in the process that made it."""

    def __init__(self, *, broken: str = "") -> None:
        super().__init__(spacing_m=30.0, broken=broken)
        object.__setattr__(self, "process", os.getpid())
        object.__setattr__(self, "asked", [])

    process: int
    asked: list[str]

    def _note(self, text: str) -> None:
        if os.getpid() == self.process:
            self.asked.append(text)

    def outline(self, index: int) -> SceneOutline:
        self._note(f"outline {index}")
        return super().outline(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        self._note(f"{agent_id} {index} {choice}")
        return super().agent_frame(index, agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        self._note(f"objects {index}")
        return super().scene_objects(index)


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return load_alliance(save_tiny_alliance(tmp_path_factory.mktemp("tiny")))


def evaluated(
    alliance: Alliance, source: TinySource, options: RunOptions, compute: Compute, ticks: Sequence[int]
) -> list[TickResult]:
    return list(results_of(Evaluated(alliance, source, TYPES, options), ticks, compute))


@pytest.mark.parametrize("agents", [None, 1, 2])
def test_nothing_is_read_again_and_the_results_are_the_same(alliance: Alliance, agents: int | None) -> None:
    # At 50 m, c is out of range of the ego: it takes no part, and its labels are no ground truth.
    options, ticks = RunOptions(agents=agents, comm_range_m=50.0, late="drop"), [0, 2, 4, 5]
    ahead, plain = NotingSource(), NotingSource()
    results = evaluated(alliance, ahead, options, Compute(workers=2), ticks)
    assert ahead.asked == [] and [result.tick for result in results] == ticks
    expected = evaluated(alliance, plain, options, Compute(), ticks)
    assert_same_results(results, expected)
    assert [result.visibility is None for result in results] == [result.visibility is None for result in expected] == [False] * 4


def test_an_error_comes_from_the_run_itself(alliance: Alliance) -> None:
    source = NotingSource(broken="b")
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"^cloud of b is truncated$"):
            evaluated(alliance, source, RunOptions(), Compute(workers=workers), [0])
