"""The commands end to end on a tiny town: generate, train, evaluate, simulate, info; the version, and the error messages."""

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from heal.config import ConfigError, save_config
from heal.detection.loss import LossConfig
from heal.errors import UserError
from heal.tools.cli import main
from heal.tools.demo import next_command
from heal.training.config import ScheduleConfig, TrainingConfig
from tests.heal.networks import AGENT, BASE
from tests.tools.command import generate_town, run_command

SETTINGS = TrainingConfig(
    base=BASE,
    agents={"m1": AGENT},
    loss=LossConfig(occupancy_weights=(0.4, 0.2)),
    training=ScheduleConfig(epochs=1, batch_scenes=2, workers=0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scenes of a town in `town` and a base trained on them in `run`."""
    path = tmp_path_factory.mktemp("commands")
    generate_town(path / "town")
    save_config(SETTINGS, path / "settings.yaml")
    run_command("train", "base", "--data", path / "town", "--config", path / "settings.yaml", "--out", path / "run", "--threads", 1)
    return path


def test_a_run_folder_holds_settings_metrics_a_picture_and_the_alliance(folder: Path) -> None:
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"config.yaml", "metrics.jsonl", "tensorboard", "checkpoint.pt", "predictions.png", "alliance"} <= names
    assert len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    described = " ".join(run_command("info", folder / "run" / "alliance").split())
    assert "base" in described and "m1" in described and "25.6 x 12.8 m" in described


def test_evaluation_writes_the_keys_that_scripts_rely_on(folder: Path) -> None:
    out = folder / "evaluation"
    run_command("evaluate", "--alliance", folder / "run" / "alliance", "--data", folder / "town", "--out", out, "--pictures", 1)
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["ap"]) == {"0.3", "0.5", "0.7"}
    assert (metrics["frames"], metrics["agents"], metrics["range_m"]) == (4, 3, list(BASE.grid.range_m))
    assert metrics["bytes_per_message"] > 8 * BASE.grid.ny * BASE.grid.nx * 4
    assert (out / "precision_recall.png").exists() and len(list(out.glob("scene_*.png"))) == 1


def test_the_ego_alone_has_the_same_ground_truth(folder: Path) -> None:
    common = ("--alliance", folder / "run" / "alliance", "--data", folder / "town", "--pictures", 0)
    run_command("evaluate", *common, "--out", folder / "all")
    run_command("evaluate", *common, "--out", folder / "alone", "--agents", 1)
    together, alone = (json.loads((folder / name / "metrics.json").read_text()) for name in ("all", "alone"))
    assert alone["agents"] == 1 and alone["ground_truths"] == together["ground_truths"] > 0
    assert alone["bytes_per_message"] == 0 < together["bytes_per_message"]
    for metrics in (together, alone):  # a run with others says what the ego finds alone
        assert metrics["ego_alone"] == {"ap": alone["ap"], "ground_truths": alone["ground_truths"], "frames": alone["frames"]}
    [difference] = together["differences"]
    assert (difference["run"], difference["other"], alone["differences"]) == ("all agents", "ego alone", [])
    assert difference["ap"]["0.5"]["difference"] == pytest.approx(together["ap"]["0.5"] - alone["ap"]["0.5"])


def test_an_evaluation_is_compared_with_an_earlier_one_of_the_same_scenes(folder: Path) -> None:
    common = ("evaluate", "--alliance", folder / "run" / "alliance", "--data", folder / "town", "--pictures", 0)
    run_command(*common, "--out", folder / "before", "--agents", 1)
    run_command(*common, "--out", folder / "after", "--against", folder / "before")
    one, two = (json.loads((folder / name / "metrics.json").read_text()) for name in ("before", "after"))
    found = {(each["run"], each["other"]): each["ap"]["0.5"]["difference"] for each in two["differences"]}
    assert found["all agents", f"{folder / 'before'}: ego alone"] == pytest.approx(two["ap"]["0.5"] - one["ap"]["0.5"])
    assert found["ego alone", str(folder / "before")] == 0
    with pytest.raises(UserError, match=r"only in .*before, such as .*; evaluate the same split with the same --frames"):
        run_command(*common, "--out", folder / "fewer", "--frames", 2, "--against", folder / "before")
    assert not (folder / "fewer").exists()
    larger = (-25.6, -12.8, -3.0, 25.6, 12.8, 1.0)
    with pytest.raises(UserError, match=r"objects in the one and .* in the other; evaluate both on the same data"):
        run_command(*common, "--out", folder / "wider", "--range-m", *larger, "--against", folder / "before")
    wider = json.loads((folder / "wider" / "metrics.json").read_text())
    assert (wider["frames"], wider["differences"]) == (4, []) and "stopped" not in wider


def test_simulation_and_evaluation_agree(folder: Path) -> None:
    alliance = folder / "run" / "alliance"
    run_command(
        "evaluate", "--alliance", alliance, "--data", folder / "town", "--out", folder / "one", "--pictures", 0, "--threads", 1
    )
    run_command("simulate", "--alliance", alliance, "--source", folder / "town", "--runtime", "local", "--out", folder / "two")
    one, two = (json.loads((folder / name / "metrics.json").read_text()) for name in ("one", "two"))
    for key in ("ap", "ego_alone", "guard", "rule", "range_m", "frames", "agents", "bytes_per_message"):
        assert one[key] == two[key]


def test_another_range_is_run_with_the_same_weights(folder: Path) -> None:
    larger = (-25.6, -12.8, -3.0, 25.6, 12.8, 1.0)
    run_command(
        *("evaluate", "--alliance", folder / "run" / "alliance", "--data", folder / "town", "--out", folder / "larger"),
        *("--frames", 1, "--pictures", 0, "--range-m", *larger),
    )
    metrics = json.loads((folder / "larger" / "metrics.json").read_text())
    assert metrics["range_m"] == list(larger) and metrics["frames"] == 1


def test_the_demo_ends_with_a_command_that_works_in_the_readers_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/heal")
    monkeypatch.chdir(tmp_path)
    assert next_command(Path("alliance")) == "heal simulate --alliance alliance --view web --out runs/simulation"
    (tmp_path / "runs" / "simulation" / "old").mkdir(parents=True)
    assert next_command(Path("alliance")).endswith("--out runs/simulation-2")
    monkeypatch.setattr("shutil.which", lambda name: None)
    activation, command = next_command(Path("alliance")).split(" && ")
    assert activation == f". {Path(sys.executable).parent / 'activate'}" and command.startswith("heal simulate")


def test_the_demo_compares_the_ego_alone_with_all(folder: Path) -> None:
    options = ("--types", "m1,m1,m1", "--ticks", 2, "--seed", 1, "--runtime", "local")
    run_command("demo", "--out", folder / "demo", "--alliance", folder / "run" / "alliance", *options)
    metrics = json.loads((folder / "demo" / "metrics.json").read_text())
    assert set(metrics) == {"ego", "fused", "join", "made_by"} and metrics["join"]["messages_used"] == 1
    assert metrics["ego"]["agents"] == 1 and metrics["fused"]["agents"] == 3
    assert (folder / "demo" / "found_through_others.png").exists() and (folder / "demo" / "drive.gif").exists()


def test_a_training_does_not_start_in_the_folder_of_another_one(folder: Path) -> None:
    options = ["--data", folder / "town", "--config", folder / "settings.yaml", "--out", folder / "run", "--set", "training.seed=5"]
    with pytest.raises(ConfigError, match="other settings"):
        run_command("train", "base", *options)


def test_the_version_is_that_of_the_distribution() -> None:
    assert run_command("--version") == f"heal-perception {importlib.metadata.version('heal-perception')}\n"


def test_the_help_lists_version_and_shell_completion() -> None:
    text = run_command("--help")
    assert all(option in text for option in ("--version", "--install-completion", "--show-completion"))


def test_an_error_that_the_user_can_correct_is_printed_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["heal", "info", "/nowhere"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "not an alliance" in error and "Traceback" not in error
