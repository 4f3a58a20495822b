"""Stage 2 through the commands: new types are added to an alliance, and the base does not change by a bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.alliance import AllianceError, load_alliance
from heal.config import ConfigError, save_config
from heal.tools.training.loop import train
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.step import FrozenGuard, TrainingStoppedError, make_optimizer, set_learning
from tests.heal.networks import AGENT, BASE, small_model
from tests.tools.command import generate_town, run_command
from tests.tools.training.small_training import SETTINGS, SOURCE

NARROW = replace(AGENT, encoder=replace(AGENT.encoder, channels=(4,)))
STAGE_TWO = "loss: {occupancy_weights: [0.4, 0.2]}\ntraining: {epochs: 1, batch_scenes: 2, workers: 0}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scenes of a town, a base, and two agent types that are narrower than the base's own."""
    path = tmp_path_factory.mktemp("stage-two")
    generate_town(path / "town")
    training = ScheduleConfig(epochs=1, batch_scenes=2, workers=0)
    save_config(TrainingConfig(base=BASE, agents={"m1": AGENT}, loss=SETTINGS.loss, training=training), path / "base.yaml")
    run_command("train", "base", "--data", path / "town", "--config", path / "base.yaml", "--out", path / "run", "--threads", 1)
    (path / "agent.yaml").write_text(STAGE_TWO)
    for name in ("narrow", "other"):
        save_config(NARROW, path / f"{name}.yaml")
    return path


def _train(folder: Path, *types: str, out: Path) -> None:
    """Align one type, or several side by side, to the base in the folder."""
    command = ("agent", "--type", *types) if len(types) == 1 else ("agents", *types)
    paths = ("--base", folder / "run" / "alliance", "--data", folder / "town", "--out", out, "--config", folder / "agent.yaml")
    run_command("train", *command, *paths)


def test_a_type_is_added_to_an_alliance_and_the_base_does_not_change(folder: Path) -> None:
    alliance = folder / "run" / "alliance"
    before = {path.name: path.read_bytes() for path in (alliance / "base").iterdir()}
    _train(folder, str(folder / "narrow.yaml"), out=alliance)
    assert before == {path.name: path.read_bytes() for path in (alliance / "base").iterdir()}
    opened = load_alliance(alliance)
    assert opened.agent_names == ("m1", "narrow") and opened.agent("narrow").config == NARROW
    assert opened.agent_card("narrow").base_hash == opened.base_hash == opened.agent_card("narrow").training.initial
    assert (folder / "run" / "alliance-narrow" / "predictions.png").exists()
    out = folder / "in-order"
    paths = ("--alliance", alliance, "--data", folder / "town", "--out", out)
    run_command("evaluate", *paths, "--in-order", "m1,narrow,m1", "--pictures", 0, "--record")
    metrics = json.loads((out / "metrics.json").read_text())
    assert [step["agents"] for step in metrics["steps"]] == [1, 2, 3] and metrics["steps"][-1]["ap"] == metrics["ap"]
    described = run_command("info", alliance)
    assert "m1 + narrow + m1" in described and f"{metrics['ap']['0.5']:.3f}" in described
    run_command("assign", folder / "town", "--types", "m1,narrow", "--in-order", "--out", folder / "types.json")
    run_command("evaluate", *paths, "--types", folder / "types.json", "--pictures", 0, "--overwrite")
    assert json.loads((out / "metrics.json").read_text())["ap"] == metrics["ap"]
    with pytest.raises(AllianceError, match="no agent type 'm7'"):
        run_command("evaluate", *paths, "--types", "m1,m7", "--overwrite")


def test_types_trained_side_by_side_equal_those_trained_alone(folder: Path, tmp_path: Path) -> None:
    files = [str(folder / f"{name}.yaml") for name in ("narrow", "other")]
    _train(folder, *files, out=tmp_path / "both")
    _train(folder, files[0], out=tmp_path / "one")
    both, one = load_alliance(tmp_path / "both"), load_alliance(tmp_path / "one")
    assert both.agent_names == ("narrow", "other")
    for name, tensor in one.agent("narrow").state_dict().items():
        torch.testing.assert_close(both.agent("narrow").state_dict()[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_type_that_does_not_fit_the_grid_is_refused_before_training(folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text("backbone: {strides: [1]}\n")
    with pytest.raises((ConfigError, ValueError), match="change the encoder's cells"):
        _train(folder, str(wrong), out=folder / "nowhere")


def test_only_the_type_changes_and_not_even_the_bases_statistics(tmp_path: Path) -> None:
    settings = replace(SETTINGS, training=replace(SETTINGS.training, frozen_base=True, max_agents=1, random_ego=True))
    torch.manual_seed(0)
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, TrainingSteps(SOURCE, model, settings), settings, tmp_path, lambda _: None)
    after = model.state_dict()
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"agents"}
    assert {id(weight) for weight in model.agent("m1").parameters()} == {
        id(weight) for group in make_optimizer(model, settings.training).param_groups for weight in group["params"]
    }


def test_a_changed_base_stops_the_training() -> None:
    model = small_model()
    guard = set_learning(model, ScheduleConfig(frozen_base=True))
    guard.check()
    with torch.no_grad():
        model.base.cls_head.bias[0] += 1e-6
    with pytest.raises(TrainingStoppedError, match=r"cls_head.bias"):
        guard.check()
    FrozenGuard({}).check()
