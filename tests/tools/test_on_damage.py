"""`--on-damage`: a missing file stops a command before it begins, a damaged one when its turn comes, and `skip` goes on without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heal.config import save_config
from heal.detection.visibility import SceneVisibility, scene_visibility
from heal.errors import UserError
from heal.tools.cli import app
from heal.tools.shared.sources import ReadOptions
from heal.types import Scene
from tests.agents.tiny_run import save_tiny_alliance
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

STAMPS = ("000068", "000070", "000072")
CLOUD = Path("OPV2V/test/scenario_a/650/000070.pcd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an alliance and three scenes of two agents."""
    write_tree(tmp_path, stamps=STAMPS)
    save_tiny_alliance(tmp_path / "alliance")
    return tmp_path


def _evaluate(folder: Path, *more: object) -> list[object]:
    paths = ("--alliance", folder / "alliance", "--data", folder / "OPV2V", "--out", folder / "out")
    return ["evaluate", *paths, "--pictures", 0, "--threads", 1, *more]


def _simulate(folder: Path, *more: object) -> list[object]:
    paths = ("--alliance", folder / "alliance", "--source", folder / "OPV2V", "--out", folder / "out")
    return ["simulate", *paths, "--runtime", "local", *more]


def _train(folder: Path, *more: object) -> list[object]:
    save_config(replace(SETTINGS, training=replace(SETTINGS.training, epochs=1)), folder / "base.yaml")
    paths = ("--config", folder / "base.yaml", "--data", folder / "OPV2V", "--split", "test", "--out", folder / "out")
    return ["train", "base", *paths, "--device", "cpu", *more]


COMMANDS = {"evaluate": _evaluate, "simulate": _simulate, "train": _train}


def _failed(arguments: list[object]) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 0
    return result


def _metrics(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file_stops_a_command_before_it_begins(folder: Path, command: str) -> None:
    (folder / CLOUD).unlink()
    error = _failed(COMMANDS[command](folder)).exception
    assert isinstance(error, UserError) and f"{CLOUD.name}: no such file" in str(error) and "--on-damage skip" in str(error)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_go_on_without_the_scene_and_says_so(folder: Path, command: str) -> None:
    (folder / CLOUD).write_bytes(b"")
    said = " ".join(run_command(*COMMANDS[command](folder, "--on-damage", "skip")).split())
    assert "skipped scenario_a/000068:" not in said and "skipped scenario_a/000070:" in said
    assert "1 of 3 scenes are left out" in said
    record = json.loads((folder / "out" / "data.json").read_text()) if command == "train" else _metrics(folder)["data"]
    assert record["damaged_scenes"] == 1
    [[scene, damage]] = record["skipped"]
    assert scene == "scenario_a/000070" and CLOUD.name in damage
    if command != "train":
        assert _metrics(folder)["frames"] == 2


def test_the_scores_before_a_damaged_file_are_kept(folder: Path) -> None:
    (folder / CLOUD).write_bytes(b"")
    (folder / "out").mkdir()
    result = _failed(_evaluate(folder, "--record"))
    assert "stopped after 1 scenes" in result.output and "AP@0.3" in result.output and CLOUD.name in str(result.exception)
    metrics = _metrics(folder)
    assert metrics["frames"] == 1 and CLOUD.name in metrics["stopped"]
    assert not (folder / "alliance" / "evaluations.json").exists()
    run_command(*_evaluate(folder, "--on-damage", "skip", "--overwrite"))
    assert "stopped" not in _metrics(folder)


def test_the_scores_before_an_interruption_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(scene: Scene, range_m: Sequence[float]) -> SceneVisibility:
        if scene.outline.scene_id.endswith(STAMPS[1]):
            raise KeyboardInterrupt
        return scene_visibility(scene, range_m)

    monkeypatch.setattr("heal.tools.evaluation.read_ahead.scene_visibility", interrupted)
    _failed(_evaluate(folder))
    assert (_metrics(folder)["frames"], _metrics(folder)["stopped"]) == (1, "interrupted")


def test_clouds_that_no_agent_needs_cost_only_the_recall_of_hidden_vehicles(folder: Path) -> None:
    (folder / CLOUD).write_bytes(b"")
    said = run_command(*_evaluate(folder, "--agents", 1))
    assert "without 1 scenes in which clouds of other agents cannot be read" in said and _metrics(folder)["frames"] == 3


def test_without_a_readable_scene_there_is_one_error(folder: Path) -> None:
    for path in folder.rglob("*.pcd"):
        path.unlink()
    error = _failed(_evaluate(folder, "--on-damage", "skip")).exception
    assert isinstance(error, UserError) and "no scene is left" in str(error)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(UserError, match="--on-damage: expected stop, skip or a list that heal doctor has written, got 'drop'"):
        ReadOptions.of("drop", None)
