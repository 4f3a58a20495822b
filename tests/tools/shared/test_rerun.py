"""`heal rerun`: the recorded command runs again with the recorded settings, and the AP of both is compared."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heal.errors import UserError
from heal.tools.cli import app
from heal.tools.rerun import ap_of
from heal.tools.shared.made_by import read_made_by
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import run_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with an alliance and, in `town`, two scenes."""
    save_tiny_alliance(tmp_path / "alliance")
    monkeypatch.chdir(tmp_path)
    run_command("generate", "town", "--preset", "test", "--split", "test", "--frames", 2, "--sensors", "lidar", "--workers", 1)
    return tmp_path


def rerun(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rerun", *map(str, arguments)])


def test_a_simulation_is_run_again_with_its_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "settings.yaml").write_text("link: delay:120,loss:0.2\nrun: {late: hold}\n")
    options = ("--preset", "test", "--ticks", 3, "--seed", 2, "--runtime", "local", "--config", "settings.yaml", "--codec", "int8")
    run_command("simulate", "--alliance", "alliance", "--out", "runs/a", *options, "--set", "run.split=pyramid")
    (folder / "settings.yaml").unlink()  # the recorded settings count
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")  # relative paths start where the command was run
    result = rerun("../runs/a")
    assert result.exit_code == 0 and "AP is equal to that of ../runs/a: all 33 values" in result.output, result.output
    assert Path.cwd() == folder / "elsewhere"
    first, again = folder / "runs" / "a", folder / "runs" / "a-2"
    assert (first / "ticks.jsonl").read_bytes() == (again / "ticks.jsonl").read_bytes()
    settings = [path.read_text().partition("\nrun:")[2] for path in (first / "run.yaml", again / "run.yaml")]
    assert settings[0] == settings[1] and "late: hold" in settings[0]
    third = rerun("../runs/a-2", "--out", "third")
    assert third.exit_code == 0 and (folder / "elsewhere" / "third" / "metrics.json").exists(), third.output
    with pytest.raises(UserError, match="already holds the output"):
        run_command("rerun", "../runs/a", "--out", "third")


def test_an_evaluation_is_run_again_and_writes_nothing_outside(folder: Path) -> None:
    common = ("--alliance", "alliance", "--data", "town", "--pictures", 1, "--threads", 1)
    run_command("evaluate", *common, "--out", "a", "--range-m", -12.8, -12.8, -3, 12.8, 12.8, 1, "--in-order", "m1,m1", "--record")
    (folder / "alliance" / "evaluations.json").unlink()
    result = rerun("a", "--out", "b")
    assert result.exit_code == 0 and "AP is equal to that of a" in result.output and "another" not in result.output, result.output
    assert not (folder / "alliance" / "evaluations.json").exists()
    one, two = (json.loads((folder / name / "metrics.json").read_text()) for name in "ab")
    assert one.pop("made_by")["command"] != two.pop("made_by")["command"] and one == two
    made_by = read_made_by(folder / "b")
    assert made_by is not None and "--record" not in shlex.split(made_by.command)
    assert "--range-m -12.8 -12.8 -3.0 12.8 12.8 1.0" in made_by.command


def test_another_alliance_is_named_and_another_ap_ends_with_an_error(folder: Path) -> None:
    run_command("evaluate", "--alliance", "alliance", "--data", "town", "--pictures", 0, "--out", "a")
    path = folder / "a" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["ap"]["0.5"] = 2.0
    path.write_text(json.dumps(metrics))
    save_tiny_alliance(folder / "alliance", seed=1)
    result = rerun("a")
    assert result.exit_code == 1 and "AP is not equal to that of a:" in result.output
    assert "ap 0.5: " in result.output and "recorded 2.0" in result.output and "another alliance: " in result.output


def test_ap_is_read_wherever_it_stands(tmp_path: Path) -> None:
    sweep = {"rows": [{"name": "a", "ap": {"0.5": 0.25}, "ready_ap": {"0.5": None}, "frames": 3}], "made_by": {"command": "x"}}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    assert ap_of(tmp_path) == {"rows 0 ap 0.5": 0.25, "rows 0 ready_ap 0.5": None}
    metrics = {"ego": {"ap": {"0.7": 1.0}}, "differences": [{"ap": {"0.7": {"low": 0.1}}}]}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert ap_of(tmp_path)["ego ap 0.7"] == 1.0 and len(ap_of(tmp_path)) == 3


def test_folders_that_no_command_has_recorded_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="found no record of a command"):
        run_command("rerun", "town")
    options = ("--preset", "test", "--ticks", 1, "--runtime", "local")
    run_command("simulate", "--alliance", "alliance", "--out", "a", *options)
    record = folder / "a" / "run.yaml"
    record.write_text(record.read_text().replace("heal simulate", "heal train"))
    with pytest.raises(UserError, match="found 'heal train"):
        run_command("rerun", "a")
