"""What an evaluation compares: rows with the row before, an ego with a blind one; and the sums of what the ego finds alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from heal.agent_types import in_order
from heal.agents.options import RunOptions
from heal.agents.records import GuardReport
from heal.alliance import load_alliance
from heal.errors import UserError
from heal.tools.evaluation.plan import evaluation_runs, has_camera_egos, with_blind_egos
from heal.tools.shared.compared_runs import Earlier, compare_runs, matches_of
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.scene_matches import write_scenes
from heal.tools.shared.scoring import RunScore, score_table
from heal.types import SceneOutline
from tests.agents.made_ticks import RANGE_M, made_tick


def score_of(
    found: int, alone: int | None = None, agents: int = 3, reports: Sequence[GuardReport | None] = (None, None)
) -> RunScore:
    """Return the score of two ticks in which so many of three cars were found, and so many by the ego alone."""
    score = RunScore(RANGE_M)
    for tick, report in enumerate(reports):
        result = made_tick(tick, found=found)
        boxes = None if alone is None else made_tick(tick, found=alone).detections
        score.add(replace(result, messages=result.messages[:agents], alone=boxes, guard=report))
    return score


def test_rows_are_compared_with_the_row_before_and_with_their_blind_twins() -> None:
    runs = with_blind_egos(evaluation_runs("m2,m1,m3", RunOptions()))
    assert list(runs) == ["m2", "m2 + m1", "m2 + m1, ego blind", "m2 + m1 + m3", "m2 + m1 + m3, ego blind"]
    assert [options.blind_ego for options in runs.values()] == [False, False, True, False, True]
    scores = {
        name: score_of(found, 1, options.agents or 3) for (name, options), found in zip(runs.items(), (1, 2, 1, 3, 0), strict=True)
    }
    pairs = [(one.run, one.other, round(one.ap[1].difference or 0, 3)) for one in compare_runs(scores)]
    assert pairs == [
        ("m2 + m1", "m2", 0.333),
        ("m2 + m1 + m3", "m2 + m1", 0.333),
        ("m2 + m1", "m2 + m1, ego blind", 0.333),
        ("m2 + m1 + m3", "m2 + m1 + m3, ego blind", 1.0),
    ]


def test_the_ego_is_blinded_where_it_has_cameras_and_company() -> None:
    alliance = load_alliance(CONFIGS / "demo" / "alliance")
    two, one = (SceneOutline("town/0", 0, "a", ids, np.eye(4)) for ids in (("b", "a"), ("a",)))
    assert has_camera_egos(alliance, [one, two], in_order(["m2", "m1"]))
    assert not has_camera_egos(alliance, [two], in_order(["m1", "m2"]))
    assert not has_camera_egos(alliance, [one], in_order(["m2", "m1"]))
    assert list(with_blind_egos(evaluation_runs(None, RunOptions(agents=1)))) == ["ego alone"]


def test_an_earlier_evaluation_is_compared_by_the_names_of_its_runs(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes.npz", matches_of({"m1": score_of(1, 1, 1), "m1 + m3": score_of(3, 1)}))
    scenes = ["made/000", "made/001"]
    earlier = Earlier.read(tmp_path, scenes)
    found = compare_runs({"m1": score_of(1, 1, 1), "m1 + m2": score_of(2, 1)}, earlier)[1:]
    assert {(one.run, one.other, round(one.ap[1].difference or 0, 3)) for one in found} == {
        ("m1", str(tmp_path), 0.0),
        ("m1 + m2", f"{tmp_path}: m1 + m3", -0.333),
    }
    with pytest.raises(UserError, match="1 only in this evaluation, such as made/002"):
        Earlier.read(tmp_path, [*scenes, "made/002"])


def test_a_run_with_others_says_what_the_ego_finds_alone() -> None:
    score = score_of(3, 2)
    assert score.metrics()["ego_alone"] == {"ap": dict.fromkeys(("0.3", "0.5", "0.7"), 2 / 3), "ground_truths": 6, "frames": 2}
    console = Console(width=200)
    with console.capture() as captured:
        console.print(score_table({"all agents": score}, "a run"))
    [row] = [line for line in captured.get().splitlines() if "ego alone" in line]
    assert row.count("0.667") == 3
    [comparison] = compare_runs({"all agents": score})
    assert (comparison.run, comparison.other) == ("all agents", "ego alone") and comparison.ap[0].difference == pytest.approx(1 / 3)
    without = score_of(3)
    assert without.metrics()["ego_alone"] is None and compare_runs({"all agents": without}) == []


def test_reports_of_the_guard_are_summed() -> None:
    reports = (GuardReport(3, 1, 1, ("b",)), GuardReport(1, 1, 0, ("b", "-1")))
    assert score_of(3, 2, reports=reports).metrics()["guard"] == {
        "confident": 4,
        "lost": 2,
        "share_lost": 0.5,
        "put_back": 1,
        "blamed": {"-1": 1, "b": 2},
    }
    assert score_of(3, 2, reports=(GuardReport(0, 0), None)).metrics()["guard"]["share_lost"] is None
    assert score_of(3).metrics()["guard"] is None
