"""Agents that join while a run goes on, with types that may come later too, and with the trust in these types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heal.agents.faults import Fault
from heal.agents.joining import Join, Joining, require_joins
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.alliance import TrainingRecord, load_alliance, save_agent
from heal.types import SceneOutline
from tests.agents.tiny_run import TinyAlliance, TinySource, assert_same_results, by_id, save_tiny_alliance

OUTLINE = SceneOutline("tiny/0", 0, "ego", ("b", "ego", "c", "d"), np.eye(4))
ALL_M1 = dict.fromkeys(OUTLINE.agent_ids, "m1")
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=8)
TYPES = by_id({"ego": "m1", "b": "m1", "c": "m1"})
DROP = RunOptions(late="drop")


def taking_part(text: str, tick: int, limit: int | None = None, assigned: Mapping[str, str] = ALL_M1) -> dict[str, str]:
    return Joining(Join.parse(text), limit, lambda _: "").taking_part(tick, OUTLINE, assigned)[0]


def test_joins_are_read_and_bad_ones_named() -> None:
    assert Join.parse("m5@100:-1, m2@3") == (Join("m5", 100, "-1"), Join("m2", 3))
    assert [str(join) for join in Join.parse("m5@100:-1,m2@3")] == ["m5@100:-1", "m2@3"]
    for text in ("m5", "@3", "m5@x", "m5@3:", "m5@-3"):
        with pytest.raises(ValueError, match="expected TYPE@TICK"):
            Join.parse(text)


def test_a_named_agent_takes_no_part_before_its_tick() -> None:
    assert list(taking_part("m5@4:c", 3).items()) == [("ego", "m1"), ("b", "m1"), ("d", "m1")]
    assert list(taking_part("m5@4:c", 4).items()) == [("ego", "m1"), ("b", "m1"), ("c", "m5"), ("d", "m1")]
    # It counts in addition to the agents that take part from the beginning, whatever the order of the scene.
    assert taking_part("m5@4:b", 4, limit=2) == {"ego": "m1", "b": "m5", "c": "m1"}


def test_without_a_name_the_first_agent_joins_that_takes_no_part_yet() -> None:
    text = "m3@6,m5@4,m2@8:b"
    assert taking_part(text, 3, limit=1) == {"ego": "m1"}
    assert taking_part(text, 4, limit=1) == {"ego": "m1", "c": "m5"}
    assert taking_part(text, 8, limit=1) == {"ego": "m1", "b": "m2", "c": "m5", "d": "m3"}
    assert taking_part("m5@4", 4, assigned={"ego": "m1", "b": "m1"}) == {"ego": "m1", "b": "m1", "c": "m5"}


def test_an_agent_whose_type_is_missing_waits_for_it_and_both_are_reported_once() -> None:
    problems = ["no m5", "no m5", "", ""]
    joining = Joining(Join.parse("m5@1:c"), None, lambda _: problems.pop(0))
    ticks = [joining.taking_part(tick, OUTLINE, ALL_M1) for tick in range(5)]
    assert ["c" in types for types, _ in ticks] == [False, False, False, True, True]
    waits, returns = Fault("agent not placed", "c", "no m5"), Fault("agent rejoined", "c")
    assert [faults for _, faults in ticks] == [[], [waits], [], [returns], []]


@pytest.mark.parametrize(
    ("text", "limit", "match"),
    [
        ("m5@1:x", None, "no such agent; there are b, c, d"),
        ("m5@1:ego", None, "is the ego"),
        ("m5@1", None, "--agents"),
        ("m5@1,m5@2", 3, "only 1"),
    ],
)
def test_joins_that_cannot_happen_are_refused(text: str, limit: int | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        require_joins(Join.parse(text), OUTLINE, ALL_M1, limit)
    require_joins(Join.parse("m5@1:c,m3@2"), OUTLINE, ALL_M1, 2)


def test_an_agent_that_joins_counts_from_then_on() -> None:
    def run(text: str) -> list[TickResult]:
        with LocalRuntime(TinyAlliance(), SOURCE, TYPES, options=replace(DROP, joins=Join.parse(text))) as runtime:
            return list(runtime.run(range(4)))

    joined = run("m2@2:b")
    assert_same_results(joined[:2], run("m2@9:b")[:2])
    assert_same_results(joined[2:], run("m2@0:b")[2:])
    assert [len(result.messages) for result in joined] == [2, 2, 3, 3]


@pytest.mark.parametrize("name", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_type_whose_folder_appears_during_the_run_joins_with_its_own_trust(name: str, tmp_path: Path) -> None:
    path, tiny = save_tiny_alliance(tmp_path / "alliance"), TinyAlliance()
    options, results = replace(DROP, joins=Join.parse("m2@2:b")), list[TickResult]()
    opened = load_alliance(path)
    with open_runtime(name, opened, SOURCE, TYPES, PerfectNetwork(), options) as runtime:
        for result in runtime.run(range(len(SOURCE))):
            results.append(result)
            if result.tick == 2:
                save_agent(path, "m2", tiny.agent("m2"), opened.base_hash, TrainingRecord(), trust=0.3)
    faults = [(result.tick, fault.kind, fault.agent_id) for result in results for fault in result.faults]
    back = faults[-1][0]
    assert faults == [(2, "agent not placed", "b"), (back, "agent rejoined", "b")] and 2 < back < len(SOURCE)
    assert {record.agent_type for record in results[back].messages if record.agent_id == "b"} == {"m2"}
    with LocalRuntime(load_alliance(path), SOURCE, TYPES, options=options) as runtime:
        assert_same_results(results[back:], list(runtime.run(range(len(SOURCE))))[back:])
