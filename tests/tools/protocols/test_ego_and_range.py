"""The commands choose agents, types, ego and labels as the reference has recorded them for a small folder tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import heal.tools.evaluate as evaluate_command
from heal.agents.records import TickResult
from heal.alliance import TrainingRecord, save_agent, save_base
from heal.errors import UserError
from heal.tools.evaluation.plan import Plan
from heal.tools.evaluation.run import evaluate_source
from tests.agents.tiny_run import TinyAlliance
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.golden.data_checks import same_boxes
from tests.golden.fixture import Fixture, golden_units
from tests.golden.recorded_scenes import IN_ORDER_EGO, IN_ORDER_RANGE_M, RecordedScene, recorded_scenes
from tests.tools.command import run_command

TYPES = ("m1", "m2", "m3", "m4")


@pytest.fixture
def alliance(tmp_path: Path) -> Path:
    """Make an alliance whose types all have the same small LiDAR network."""
    tiny, path = TinyAlliance(), tmp_path / "alliance"
    base_hash = save_base(path, tiny.base, TrainingRecord())
    for name in TYPES:
        save_agent(path, name, tiny.agent("m1"), base_hash, TrainingRecord())
    return path


def evaluated(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[TickResult]:
    """Let `heal evaluate` choose scenes, agents and options; return the results of its first run."""
    results: list[TickResult] = []

    def run(plan: Plan, *_: Any) -> None:
        options = next(iter(plan.runs.values()))
        evaluate_source(plan.alliance, plan.source, plan.types_of, options, plan.ticks, results.append)

    monkeypatch.setattr(evaluate_command, "run_and_report", run)
    run_command("evaluate", *arguments, "--pictures", 0, "--threads", 1)
    return results


def arguments_of(recorded: RecordedScene) -> list[object]:
    """Return the options of `heal evaluate` that stand for the settings of a recorded run."""
    in_order, config = "infer" in recorded.change, recorded.fixture.config
    return [
        *("--data", recorded.tree, "--types", recorded.tree / f"assignment{'_in_order' if in_order else ''}.json"),
        *("--ego-type", IN_ORDER_EGO if in_order else ",".join(recorded.ego_types)),
        *("--comm-range-m", IN_ORDER_RANGE_M if in_order else config["comm_range"]),
        *("--range-m", *config["postprocess"]["gt_range"], "--include-ego"),
    ]


def used(result: TickResult) -> list[str]:
    return [record.agent_id for record in result.messages if record.status == "used"]


def types_of(result: TickResult, agent_ids: Sequence[str]) -> list[str]:
    return [record.agent_type for record in result.messages if record.agent_id in agent_ids]


@pytest.mark.parametrize("fixture", golden_units("mini_dataset"))
def test_agents_types_ego_and_labels_are_those_recorded(
    fixture: Fixture, alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: dict[str, list[RecordedScene]] = {}
    for recorded in recorded_scenes(fixture, fused=True):
        runs.setdefault(recorded.run, []).append(recorded)
    assert sorted(runs) == ["infer_use2", "intermediate_ego_m1", "intermediate_ego_m2m4"]
    for name, scenes in runs.items():
        common = ("--alliance", alliance, "--out", tmp_path / name, *arguments_of(scenes[0]))
        everyone = evaluated(monkeypatch, *common)
        some = evaluated(monkeypatch, *common, "--agents", scenes[0].change.get("infer", 5))
        for recorded, together, fewer in zip(scenes, everyone, some, strict=True):
            in_range, types = recorded.plain("ego/cav_id_list"), recorded.plain("ego/agent_modality_list")
            assert used(together) == in_range and together.ego_id == fewer.ego_id == in_range[0]
            assert used(fewer) == in_range[: len(types)] and types_of(fewer, used(fewer)) == types
            # The other runs were recorded with the labels of training, in which cameras see a part of the objects.
            if "infer" in recorded.change:
                for result in (together, fewer):
                    same_boxes(result.ground_truth, recorded.plain("ego/object_ids"), recorded.boxes("ego/"))
            else:
                assert set(recorded.plain("ego/object_ids")) <= set(together.ground_truth.ids.tolist())


def test_simulate_moves_the_ego_too_and_the_record_says_so(alliance: Path, tmp_path: Path) -> None:
    root, out = write_tree(tmp_path, ("641", "650", "659")), tmp_path / "out"
    common = ("simulate", "--alliance", alliance, "--source", root, "--types", "m1,m2,m2", "--runtime", "local", "--out", out)
    run_command(*common, "--ego-type", "m3,m2")
    ticks = [json.loads(line) for line in (out / "ticks.jsonl").read_text().splitlines()]
    assert {tick["ego_id"] for tick in ticks} == {"650"}
    assert [(m["agent_id"], m["agent_type"]) for m in ticks[0]["messages"]] == [("650", "m2"), ("641", "m1"), ("659", "m2")]
    assert json.loads((out / "metrics.json").read_text())["made_by"]["scenes"]["ego_type"] == "m3,m2"


def test_the_sixth_agent_can_be_the_ego_and_five_agents_remain(
    alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path, tuple("123456"))
    common = ("--alliance", alliance, "--data", root, "--out", tmp_path / "out", "--comm-range-m", 1000)
    types = ("--types", "m1,m1,m1,m1,m1,m4")
    assert used(evaluated(monkeypatch, *common, *types)[0]) == ["1", "2", "3", "4", "5"]
    assert used(evaluated(monkeypatch, *common, *types, "--ego-type", "m4")[0]) == ["6", "1", "2", "3", "4"]


def test_an_ego_of_a_type_that_no_agent_has_is_refused(alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ("--alliance", alliance, "--data", write_tree(tmp_path), "--out", tmp_path / "out")
    with pytest.raises(ValueError, match="--ego-type: no agent is a m3 or m4; --types gives them m1, m2"):
        evaluated(monkeypatch, *common, "--types", "m1,m2", "--ego-type", "m3,m4")


@pytest.mark.parametrize("option", [("--agents", 2), ("--types", "m1")], ids=str)
def test_what_in_order_chooses_itself_cannot_be_given(option: tuple[str, object], alliance: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", ("641", "650"))
    with pytest.raises(UserError, match=f"{option[0]}.*--in-order .* itself; give one of the two"):
        run_command("evaluate", "--alliance", alliance, "--data", root, "--in-order", "m1,m2", *option, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
