"""The rules of ground truth of DAIR-V2X-C, through the commands: one label file or both sides' own, with or without z."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import heal.tools.evaluate as evaluate_command
from heal.agents.labels import read_labels
from heal.agents.truth import TruthRule
from heal.config import load_yaml, save_config
from heal.tools.evaluation.plan import Plan
from tests.agents.tiny_run import save_tiny_alliance
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.real_data import real_data
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

RANGE_M = ("--range-m", -25.6, -25.6, -3, 25.6, 25.6, 1)
JOINT, NO_Z = ["--ground-truth", "joint"], ["--no-use-z"]
MERGED = ["--ground-truth", "merged"]


def box(x: float, y: float, z: float) -> dict[str, Any]:
    """A car's label in a side's LiDAR frame."""
    values = dair_tree.label("Car", x, y)
    values["3d_location"]["z"] = z
    return values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a tree whose vehicle is 2 m up at (1000, 2000), looking along +y, and whose roadside unit is 7 m up at (1010, 2000).

    The vehicle labels two cars; the roadside unit labels the first of them half a metre beside, one of its own, and one that is
    too high. The cooperative file has a car of its own, and one that is too high.
    """
    tree = dair_tree.write_tree(tmp_path / "data")
    for frame_id, roadside_id in (("000010", "000003"), ("000011", "000004")):
        inner = tree / dair_tree.INNER
        roadside = [box(9.5, -10, -6), box(5, -5, -6), box(5, 8, 0)]
        dair_tree.write_json(inner / f"vehicle-side/label/lidar/{frame_id}.json", [box(10, 0, -1), box(15, 5, -1)])
        dair_tree.write_json(inner / f"infrastructure-side/label/virtuallidar/{roadside_id}.json", roadside)
        low, high = dair_tree.world_label("car", 1000.0, 2020.0), dair_tree.world_label("car", 1010.0, 2010.0)
        high["world_8_points"] = [[x, y, z + 6] for x, y, z in high["world_8_points"]]
        dair_tree.write_json(inner / f"cooperative/label_world/{frame_id}.json", [low, high])
    return tree


def evaluated(root: Path, tmp_path: Path, *options: object) -> tuple[str, dict[str, Any]]:
    """Run `heal evaluate`; return its output and metrics.json."""
    out, common = tmp_path / "out", ("--pictures", 0, "--threads", 1, "--overwrite", *RANGE_M)
    alliance = save_tiny_alliance(tmp_path / "alliance")
    said = run_command("evaluate", "--alliance", alliance, "--data", root, "--split", "val", "--out", out, *common, *options)
    return " ".join(said.split()), json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("options", "objects"),
    [
        (JOINT, 1),
        ([*JOINT, *NO_Z], 2),
        ([*JOINT, "--comm-range-m", 5], 1),  # a file of its own, whatever is in range
        (MERGED, 3),  # two of the vehicle, and one of the roadside unit
        ([*MERGED, *NO_Z], 4),
        ([*MERGED, "--agents", 1], 3),  # the roadside unit takes no part, but it is in range
        ([*MERGED, "--comm-range-m", 5], 2),
    ],
)
def test_objects_are_counted_by_each_rule_and_the_results_name_it(
    root: Path, tmp_path: Path, options: list[object], objects: int
) -> None:
    said, metrics = evaluated(root, tmp_path, *options)
    assert metrics["ground_truths"] == objects
    assert (metrics["data"]["ground_truth"], metrics["data"]["labels"]) == (options[1], "original labels")
    assert metrics["use_z"] == ("--no-use-z" not in options)
    assert f"scored against: original labels, {options[1]} ground truth" in said and ("objects in x and y alone" in said) == (
        not metrics["use_z"]
    )


def test_today_s_rule_is_the_default_and_a_cache_keeps_the_rules_apart(root: Path, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    counts = [evaluated(root, tmp_path, *cache, *more)[1]["ground_truths"] for more in ([], MERGED, [], [*MERGED, *NO_Z])]
    assert counts == [1, 3, 1, 4]


def test_a_simulation_has_the_rules_too_and_runs_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("--source", root, "--split", "val", "--runtime", "local", "--set", "run.guard=off", *MERGED)
    options = ("simulate", "--alliance", save_tiny_alliance(tmp_path / "alliance"), "--include-ego", *common)
    run_command(*options, "--out", "all", "--no-use-z")
    run_command(*options, "--out", "setting", "--set", "run.use_z=false")
    run_command("rerun", "all", "--out", "again")
    counts = [json.loads(Path(name, "metrics.json").read_text()) for name in ("all", "setting", "again")]
    assert [metrics["use_z"] for metrics in counts] == [False] * 3
    assert len({metrics["ground_truths"] for metrics in counts}) == 1 and {m["data"]["ground_truth"] for m in counts} == {"merged"}
    assert load_yaml(Path("again", "run.yaml"))["run"]["use_z"] is False
    run_command(*options, "--out", "in-height", "--config", "all/run.yaml", "--use-z")
    assert load_yaml(Path("in-height", "run.yaml"))["run"]["use_z"] is True


def test_an_evaluation_without_z_runs_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, metrics = evaluated(root, tmp_path, *MERGED, *NO_Z)
    assert {"--no-use-z", "merged"} <= set(metrics["made_by"]["command"].split())
    run_command("rerun", "out", "--out", "again")
    assert json.loads(Path("again", "metrics.json").read_text())["ground_truths"] == metrics["ground_truths"] == 4


def test_other_rules_and_other_data_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--ground-truth: expected joint or merged, got 'both'"):
        evaluated(root, tmp_path, "--ground-truth", "both")
    alliance = save_tiny_alliance(tmp_path / "alliance")
    with pytest.raises(ValueError, match="a rule for DAIR-V2X-C, and the source is the town"):
        run_command("simulate", "--alliance", alliance, "--preset", "test", "--out", tmp_path / "town", *MERGED)
    with pytest.raises(ValueError, match="ground truth 'merged' is a rule for DAIR-V2X-C and V2V4Real, and this is OPV2V"):
        evaluated(opv2v_tree.write_tree(tmp_path), tmp_path, "--split", "test", *MERGED)
    with pytest.raises(ValueError, match="give --ground-truth merged instead"):
        run_command("simulate", "--alliance", alliance, "--out", tmp_path / "town", "--set", "run.ground_truth=merged")


def test_a_training_names_its_rule_and_its_data_too(root: Path, tmp_path: Path) -> None:
    save_config(replace(SETTINGS, training=replace(SETTINGS.training, epochs=1, batch_scenes=1)), tmp_path / "base.yaml")
    common = ("--data", root, "--split", "train", "--config", tmp_path / "base.yaml", "--device", "cpu", "--out", tmp_path / "run")
    said = run_command("train", "base", *common, "--set", "training.ground_truth=merged", "--set", "training.z_margin_m=1")
    assert "original labels, merged ground truth" in said
    assert json.loads((tmp_path / "run" / "data.json").read_text())["ground_truth"] == "merged"


@pytest.mark.real
@pytest.mark.parametrize(
    ("options", "objects"), [(JOINT, 523), ([*JOINT, *NO_Z], 544), (MERGED, 522), ([*MERGED, *NO_Z], 543)], ids=str
)
def test_objects_of_the_real_pairs(options: list[object], objects: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the objects of 28 pairs, 20 for training and 8 for validation, as `heal evaluate` scores them."""
    counts: list[int] = []

    def count(plan: Plan, *_: Any) -> None:
        run = next(iter(plan.runs.values()))
        for tick in plan.ticks:
            outline = plan.source.outline(tick)
            read = read_labels(tick, outline, (), (), plan.source, range_m=run.ego_range_m, counts=False, tolerant=False)
            rule = TruthRule.of(run, plan.alliance.grid.range_m)
            counts.append(len(rule.ground_truth(read.objects, outline.world_SE3_ego)))

    monkeypatch.setattr(evaluate_command, "run_and_report", count)
    common = ("--alliance", save_tiny_alliance(tmp_path / "alliance"), "--data", real_data("dair_v2x_example"))
    common = (*common, "--range-m", -102.4, -51.2, -3.5, 102.4, 51.2, 1.5, "--comm-range-m", 100, "--include-ego")
    for split in ("train", "val"):
        run_command("evaluate", *common, "--split", split, "--out", tmp_path / split, "--pictures", 0, "--threads", 1, *options)
    assert (len(counts), sum(counts)) == (28, objects)
