"""The commands of training check first and write afterwards; a repeated command goes on, with another rate if one is given."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.agent_model import AgentModel
from heal.alliance import AllianceError, TrainingRecord, load_alliance
from heal.base_model import BaseModel
from heal.config import ConfigError, save_config
from heal.datasets.dataset import DatasetError
from heal.tools.train import save_alliance
from heal.tools.training import job
from heal.training.config import TrainingConfig
from tests.heal.networks import AGENT, SceneList, small_model
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS, SOURCE

SHORT = replace(SETTINGS, training=replace(SETTINGS.training, epochs=1))


class _Town(SceneList):
    """Scenes in memory that the commands take for a data set."""

    summary = "five scenes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the settings of a base and a type; every data set holds the same scenes, without a read from disk."""
    town = _Town(SOURCE.scenes)
    for module in ("heal.tools.train", "heal.tools.training.job"):
        monkeypatch.setattr(f"{module}.open_dataset", lambda *_, **__: town)
    monkeypatch.setattr("heal.tools.train.draw_predictions", lambda *_: None)
    save_config(SHORT, tmp_path / "base.yaml")
    save_config(AGENT, tmp_path / "m2.yaml")
    (tmp_path / "agent.yaml").write_text(
        "loss: {occupancy_weights: [0.4, 0.2]}\ntraining: {epochs: 1, batch_scenes: 2, workers: 0}\n"
    )
    return tmp_path


def _base(folder: Path, *more: object) -> str:
    paths = ("--data", folder / "town", "--config", folder / "base.yaml", "--out", folder / "run")
    return run_command("train", "base", *paths, "--device", "cpu", *more)


def _agent(folder: Path, base: Path, out: Path, *more: object) -> str:
    paths = (
        "--type",
        folder / "m2.yaml",
        "--base",
        base,
        "--data",
        folder / "town",
        "--config",
        folder / "agent.yaml",
        "--out",
        out,
    )
    return run_command("train", "agent", *paths, "--device", "cpu", *more)


def _contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _steps(run: Path) -> int:
    return int(torch.load(run / "checkpoint.pt", weights_only=True)["step"])


def test_a_restart_keeps_the_types_of_others_and_the_data(folder: Path) -> None:
    _base(folder)
    run = folder / "run"
    _agent(folder, run / "alliance", run / "alliance")
    (run / "town").mkdir()
    (run / "town" / "scene.pcd").write_text("points")
    kept = {name: data for name, data in _contents(run).items() if name.startswith(("alliance/m2", "town"))}
    _base(folder, "--restart", "--set", "training.seed=1")
    assert len(kept) == 3 and {name: data for name, data in _contents(run).items() if name in kept} == kept
    alliance = load_alliance(run / "alliance")
    assert alliance.agent_names == ("m1",) and "m2 is aligned to the base" in alliance.foreign["m2"]
    with pytest.raises(ConfigError, match=r"another base.*--restart"):
        _agent(folder, run / "alliance", run / "alliance")
    _agent(folder, run / "alliance", run / "alliance", "--restart")
    assert load_alliance(run / "alliance").agent_names == ("m1", "m2")


def test_a_restart_deletes_nothing_if_the_data_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _base(folder)
    before = _contents(folder)
    monkeypatch.undo()
    with pytest.raises(DatasetError):
        _base(folder, "--restart")
    assert _contents(folder) == before


def test_a_restart_in_the_folder_of_all_runs_is_refused(folder: Path) -> None:
    (folder / "run" / "town").mkdir(parents=True)
    (folder / "run" / "town" / "scene.pcd").write_text("points")
    before = _contents(folder)
    with pytest.raises(ConfigError, match=r"run holds town, but no config\.yaml"):
        _base(folder, "--restart")
    assert _contents(folder) == before


def test_a_stopped_training_goes_on_with_another_rate_and_more_epochs_and_says_so(folder: Path) -> None:
    _base(folder)
    before = (folder / "run" / "metrics.jsonl").read_text()
    with (folder / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "ep')
    said = _base(folder, "--set", "training.learning_rate=1e-4", "--set", "training.epochs=2")
    assert "training.learning_rate 0.01 -> 0.0001" in " ".join(said.split()) and _steps(folder / "run") == 4
    lines = (folder / "run" / "metrics.jsonl").read_text()
    assert lines.startswith(before) and len(lines.splitlines()) == 4
    assert load_alliance(folder / "run" / "alliance").card.training.epochs == 2
    with pytest.raises(ConfigError, match=r"training\.max_agents 5 -> 3"):
        _base(folder, "--set", "training.max_agents=3")


def test_a_type_is_not_aligned_to_one_base_and_written_beside_another(folder: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_alliance(folder / name, small_model(), SETTINGS, TrainingRecord())
    before = _contents(folder)
    for command in ("agent", "--type", folder / "m2.yaml"), ("agents", folder / "m2.yaml"):
        paths = ("--base", folder / "one", "--data", folder / "town", "--config", folder / "agent.yaml", "--out", folder / "two")
        with pytest.raises(AllianceError, match="two holds the base"):
            run_command("train", *command, *paths, "--device", "cpu")
    assert _contents(folder) == before and {path.name for path in folder.iterdir()} == {
        "agent.yaml",
        "base.yaml",
        "m2.yaml",
        "one",
        "two",
    }


def test_weights_that_cannot_be_stored_are_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = job._new_networks

    def make_expanded(settings: TrainingConfig) -> tuple[BaseModel, dict[str, AgentModel]]:
        base, agents = make(settings)
        agents["m1"].encoder.register_buffer("heights", torch.ones(1).expand(4))
        return base, agents

    monkeypatch.setattr(job, "_new_networks", make_expanded)
    with pytest.raises(AllianceError, match=r"agents\.m1\.encoder\.heights share memory"):
        _base(folder)
    assert not (folder / "run").exists()
