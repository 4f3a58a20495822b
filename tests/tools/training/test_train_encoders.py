"""Types of every encoder through the commands: a base with two sensors in one agent, types aligned to it, a run of all of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from heal.alliance import load_alliance
from heal.config import save_config
from heal.training.config import ScheduleConfig, TrainingConfig
from tests.heal.encoders.test_every_encoder import BOTH, SMALL
from tests.heal.networks import BASE
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

ALIGNED = ("voxel_net", "pixor", "point_transformer")
SCHEDULE = ScheduleConfig(epochs=1, batch_scenes=2, workers=0, precision="bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scenes of a town, and an alliance of a base with its first type and of three aligned types."""
    path = tmp_path_factory.mktemp("encoders")
    town = ("--preset", "test", "--frames", 4, "--sensors", "all", "--image-px", "80x60", "--no-smooth", "--workers", 1)
    for split in ("train", "test"):
        run_command("generate", path / "town", "--split", split, *town)
    both = replace(SMALL["both"], encoder=replace(BOTH, drop=0.2), cell_coverage=True)
    settings = TrainingConfig(base=BASE, agents={"both": both}, loss=SETTINGS.loss, training=SCHEDULE)
    save_config(settings, path / "base.yaml")
    data = ("--data", path / "town", "--threads", 1)
    run_command("train", "base", *data, "--config", path / "base.yaml", "--out", path / "run")
    schedule = "{epochs: 1, batch_scenes: 2, workers: 0, precision: bfloat16}"
    (path / "agent.yaml").write_text(f"loss: {{occupancy_weights: [0.4, 0.2]}}\ntraining: {schedule}\n")
    for name in ALIGNED:
        save_config(replace(SMALL[name], cell_coverage=True), path / f"{name}.yaml")
        base = ("--base", path / "run" / "alliance", "--config", path / "agent.yaml", "--out", path / "run" / "alliance")
        run_command("train", "agent", "--type", path / f"{name}.yaml", *base, *data)
    return path


def test_an_alliance_of_all_encoders_is_described(folder: Path) -> None:
    alliance = load_alliance(folder / "run" / "alliance")
    assert set(alliance.agent_names) == {"both", *ALIGNED}
    assert {alliance.agent_card(name).base_hash for name in ALIGNED} == {alliance.base_hash}
    printed = run_command("info", folder / "run" / "alliance")
    assert all(name in printed for name in ("both", *ALIGNED))
    log = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(line.get("depth", 0) > 0 for line in log), "the cameras of an agent with two sensors learn depth"


def test_evaluation_and_simulation_agree_on_all_encoders(folder: Path) -> None:
    alliance, town = folder / "run" / "alliance", folder / "town"
    order = ("--in-order", "both,pixor,voxel_net", "--pictures", 1, "--lines", "both=32")
    run_command("evaluate", "--alliance", alliance, "--data", town, "--out", folder / "evaluated", *order)
    steps = json.loads((folder / "evaluated" / "metrics.json").read_text())["steps"]
    assert [step["agents"] for step in steps] == [1, 2, 3]
    # An ego with a LiDAR is no ego of cameras, whose worth would be shown by a blind ego.
    assert not any("blind" in str(step) for step in steps)
    types = "both,point_transformer,pixor,voxel_net"
    run = ("--alliance", alliance, "--types", types, "--preset", "test", "--ticks", 2, "--runtime", "local", "--pictures")
    run_command("simulate", *run, "--out", folder / "simulated")
    metrics = json.loads((folder / "simulated" / "metrics.json").read_text())
    assert metrics["frames"] == 2 and metrics["arrived"] == metrics["sent"] > 0 and not metrics["reasons"].get("damaged")


def test_a_type_with_two_sensors_is_profiled(folder: Path) -> None:
    alliance = folder / "run" / "alliance"
    options = ("--in-order", "both", "--agents", 1, "--no-training")
    run_command("profile", alliance, *options, "--out", folder / "costs")
    costs = json.loads((folder / "costs" / "profile.json").read_text())
    assert "both" in json.dumps(costs)
