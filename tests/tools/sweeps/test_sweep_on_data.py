"""`heal sweep` on a data set has the egos, the ground truth and the range that `heal evaluate` has with the same options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.alliance import TrainingRecord, save_agent, save_base
from tests.agents.tiny_run import TinyAlliance
from tests.tools.command import generate_town, run_command

LARGE = ("--range-m", -25.6, -25.6, -2.5, 25.6, 25.6, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny town on disk, and an alliance of two types that differ."""
    folder = tmp_path_factory.mktemp("data")
    base_hash = save_base(folder / "alliance", TinyAlliance().base, TrainingRecord())
    for seed, name in enumerate(("m1", "m2")):
        save_agent(folder / "alliance", name, TinyAlliance(seed).agent("m1"), base_hash, TrainingRecord())
    generate_town(folder / "town")
    return folder


@pytest.mark.parametrize("options", [(), ("--ego-type", "m2", "--include-ego", "--no-use-z", *LARGE)], ids=["usual", "chosen"])
def test_the_ap_of_a_sweep_is_that_of_an_evaluation(options: tuple[object, ...], folder: Path, tmp_path: Path) -> None:
    common = ("--alliance", folder / "alliance", "--comm-range-m", 60, *options)
    of_sweep = ("--source", folder / "town", "--types", "m1,m2", "--set", "run.correct_poses=false", "--processes", 1)
    run_command("sweep", "agents", *common, *of_sweep, "--out", tmp_path / "sweep")
    of_evaluation = ("--data", folder / "town", "--in-order", "m1,m2", "--pictures", 0, "--threads", 1)
    run_command("evaluate", *common, *of_evaluation, "--out", tmp_path / "evaluation")
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["rows"]
    steps = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["steps"]
    assert steps[1]["ap"]["0.3"] > 0
    found = {row["name"]: row["ap"] for row in rows if row["series"] == "fused"}
    assert found == {step["run"]: {iou: round(ap, 4) for iou, ap in step["ap"].items()} for step in steps}


def test_the_rule_of_another_data_set_is_refused(folder: Path, tmp_path: Path) -> None:
    common = ("--alliance", folder / "alliance", "--out", tmp_path / "out", "--ground-truth", "merged")
    for source in (folder / "town", "town"):
        with pytest.raises(ValueError, match="a rule for DAIR-V2X-C"):
            run_command("sweep", "delay", *common, "--source", source)


def test_published_curves_are_refused_for_other_sweeps_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--published: the paper has curves for the sweeps noise and codec, and none for range"):
        run_command("sweep", "range", "--alliance", folder / "alliance", "--out", tmp_path / "out", "--published")
    assert not (tmp_path / "out").exists()
