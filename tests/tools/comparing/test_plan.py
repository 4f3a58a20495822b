"""The plan of a comparison: what is trained once for several methods, what changes a key, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heal.config import ConfigError
from heal.tools.comparing.plan import ComparePlan, plan_comparison
from heal.tools.comparing.spec import load_spec
from heal.tools.shared.paths import CONFIGS
from tests.tools.comparing.micro import TYPE, micro, save_spec

JOINT = {"join": "joint"}
WIDE = {"stage1": {"base": {"grid": {"range_m": [-12.8, -12.8, -3.0, 12.8, 12.8, 1.0]}}}}


def plan(tmp_path: Path, **changes: Any) -> ComparePlan:
    return plan_comparison(load_spec(save_spec(tmp_path / "spec.yaml", micro(tmp_path, **changes))))


def titles(found: ComparePlan) -> list[str]:
    return [training.title for training in found.trainings.values()]


def test_every_type_joins_the_base_of_its_method_and_seed(tmp_path: Path) -> None:
    found = plan(tmp_path, seeds=[3])
    assert titles(found) == [
        "pyramid: base with m1 on town, seed 3",
        "pyramid: m5 joins on town, seed 3",
        "f_cooper: base with m1 on town, seed 3",
        "f_cooper: m5 joins on town, seed 3",
    ]
    base, joining = list(found.trainings.values())[:2]
    assert (base.base, joining.base, joining.agent_type) == ("", base.key, "m5")
    assert [one.condition for one in found.entrants[0].evaluations] == ["perfect", "noisy"]


def test_equal_trainings_are_done_once_and_evaluated_apart(tmp_path: Path) -> None:
    alone = {"run": {"agents": 1}}
    found = plan(tmp_path, methods={"pyramid": {}, "alone": alone}, seeds=[0])
    pyramid, other = found.entrants
    assert len(found.trainings) == 2 and pyramid.trainings == other.trainings
    assert {one.key for one in pyramid.evaluations}.isdisjoint(one.key for one in other.evaluations)
    assert other.evaluations[0].settings.run.agents == 1


def test_joint_training_is_one_and_detectors_are_one_for_each_type(tmp_path: Path) -> None:
    detector = {"base": {"pyramid": {"single_agent": True}}, "loss": {"occupancy_weights": [0, 0]}, "training": {"max_agents": 1}}
    methods = {"pyramid": JOINT, "late": {"join": "detectors", "stage1": detector}}
    found = plan(tmp_path, methods=methods, seeds=[0])
    assert [list(training.settings["agents"]) for training in found.trainings.values()] == [["m1", "m5"], ["m1"], ["m5"]]


def test_a_teacher_comes_first_and_is_no_network_of_the_method(tmp_path: Path) -> None:
    methods = {"f_cooper": {"teacher": "pyramid", "stage1": {"base": {"fusion": {"kind": "f_cooper"}}}}, "pyramid": {}}
    found = plan(tmp_path, methods=methods, seeds=[0])
    teacher, student = list(found.trainings.values())[:2]
    assert student.needs == (teacher.key,) and found.entrants[0].trainings[0] == student.key
    assert len(found.trainings) == 4  # the teacher is that of the pyramid


def test_only_what_matters_changes_a_key(tmp_path: Path) -> None:
    spec = micro(tmp_path)
    schedule = spec["stage1"]["training"]
    keys = set(plan(tmp_path).trainings)

    def with_training(**changes: Any) -> set[str]:
        return set(plan(tmp_path, stage1={**spec["stage1"], "training": {**schedule, **changes}}).trainings)

    assert with_training(workers=1, checkpoint_s=30) == keys
    assert with_training(epochs=3).isdisjoint(keys)  # an aligned type has another base then
    more = plan(tmp_path, methods={**spec["methods"], "joint": JOINT}, conditions={"perfect": {}})
    assert keys < set(more.trainings)
    assert set(plan(tmp_path, data={"town": {"kind": "folder", "root": str(tmp_path / "other")}}).trainings).isdisjoint(keys)
    assert set(plan(tmp_path, data={"town": {"kind": "folder", "root": str(tmp_path), "frames": 2}}).trainings) == keys


def test_a_condition_changes_the_keys_of_evaluations_alone(tmp_path: Path) -> None:
    before, after = plan(tmp_path), plan(tmp_path, run_seed=1)
    assert set(before.trainings) == set(after.trainings)
    assert before.entrants[0].evaluations[0].key != after.entrants[0].evaluations[0].key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "pyramids"}, "against: expected one of pyramid, f_cooper, got 'pyramids'"),
        ({"methods": {"pyramid": {"stage1": {"base": {"fusion": {"kind": "f_coper"}}}}}}, "methods.pyramid.*'f_coper'.*f_cooper"),
        ({"methods": {"pyramid": {"joins": "joint"}}}, "methods.pyramid.joins: unknown key; did you mean 'join'"),
        ({"methods": {"pyramid": {"teacher": "none"}}}, "methods.pyramid.teacher: expected one of pyramid"),
        ({"conditions": {"odd": {"types": ["m9"]}}}, "conditions.odd.types: expected one of m1, m5, got 'm9'"),
        ({"conditions": {"odd": {"run": {"agent": 2}}}}, r"methods.pyramid, conditions.odd: run:\s+run.agent: unknown key"),
        ({"conditions": {"odd": {"link": "slow"}}}, "slow"),
        ({"methods": {"pyramid": {"stage1": {"agents": {"m5": {}}}}}}, "pyramid.stage1.agents: .* trained there, m1, got 'm5'"),
        ({"methods": {"pyramid": {"stage2": {"agents": {"m6": {}}}}}}, "pyramid.stage2.agents: .* trained there, m5, got 'm6'"),
        ({"methods": {"pyramid": {**JOINT, "stage2": {"loss": {}}}}}, "pyramid.stage2: types join by joint, without stage 2"),
        ({"stage1": {"agents": {"m1": {}}}}, "stage1.agents: the agent types of a comparison stand in its section `types`"),
        (
            {"methods": {"pyramid": {}, "flat": {"run": {"use_z": False}}}},
            "flat: expected the run.use_z of pyramid, True, got False",
        ),
        ({"methods": {"pyramid": {}, "wide": WIDE}}, r"wide: expected the base.grid.range_m of pyramid, \(-12.8, -6.4"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"seeds": [1, 1]}, "seeds: expected different numbers"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        plan(tmp_path, **changes)


def test_the_evaluated_split_does_not_choose_weights(tmp_path: Path) -> None:
    spec = micro(tmp_path)
    data = {"dair": {"kind": "folder", "root": str(tmp_path), "test": "val"}}
    assert plan(tmp_path, data=data).trainings
    validated = {stage: {**spec[stage], "training": {"epochs": 2}} for stage in ("stage1", "stage2")}
    with pytest.raises(ConfigError, match=r"data\.dair: the split val is evaluated, and would also validate the training"):
        plan(tmp_path, data=data, **validated)
    assert plan(tmp_path, data={"dair": {**data["dair"], "val": "another"}}, **validated).trainings


def test_the_command_line_changes_a_spec(tmp_path: Path) -> None:
    path = save_spec(tmp_path / "spec.yaml", micro(tmp_path))
    spec = load_spec(path, ["seeds=[7]", "data.town.frames=2"])
    assert spec.seeds == (7,) and spec.data["town"].frames == 2  # type: ignore[union-attr]


def test_types_may_be_like_a_file(tmp_path: Path) -> None:
    spec = load_spec(save_spec(tmp_path / "spec.yaml", micro(tmp_path, types={"m1": TYPE, "mine": "demo/agents/m5"})))
    assert spec.types["mine"]["lidar_beams"] == 16


@pytest.mark.parametrize("path", sorted((CONFIGS / "compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_comparisons_can_be_planned(path: Path) -> None:
    found = plan_comparison(load_spec(path))
    assert found.spec.against == "pyramid" and len(found.entrants) == len(found.spec.methods) * len(found.spec.seeds)
