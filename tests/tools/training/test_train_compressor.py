"""`heal train compressor`: the compressor alone learns, the loss falls, and a killed training goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.datasets.dataset import DatasetSummary
from heal.datasets.in_memory import ScenesInMemory
from heal.datasets.split_names import NoSplitError
from heal.errors import UserError
from heal.layers.compressor import Compressor
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.job import make_model
from heal.tools.training.settings import resolve_agent_settings, resolve_settings
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker, TrainingStoppedError
from tests.heal.networks import AGENT, small_model, with_random_norms
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS, SOURCE


class _Town(ScenesInMemory):
    """Scenes in memory that the command takes for a data set."""

    summary = DatasetSummary("OPV2V", Path("town"), "train", 1, len(SOURCE), 1)
    listed = ScenesInMemory.outline


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an alliance of m1 and m2, and with settings; every data set holds the same scenes."""
    torch.manual_seed(3)
    model = with_random_norms(small_model())
    assert isinstance(model, CollabModel)
    base_hash = save_base(tmp_path / "alliance", model.base, TrainingRecord(agent_types=("m1",)))
    for name in ("m1", "m2"):
        save_agent(tmp_path / "alliance", name, model.agent("m1"), base_hash, TrainingRecord())

    def open_town(root: Path, split: str, **_: object) -> _Town:
        if split == "validate":
            raise NoSplitError(root / split, "no such split")
        return _Town(SOURCE.scenes)

    monkeypatch.setattr("heal.tools.shared.sources.open_dataset", open_town)
    monkeypatch.setattr("heal.tools.training.scenes.choose_scenes", lambda source, scenes, *_: (list(scenes), source.summary))
    (tmp_path / "ae.yaml").write_text(
        "loss: {occupancy_weights: [0.4, 0.2]}\ntraining: {epochs: 2, batch_scenes: 2, workers: 0, learning_rate: 1.0e-2}\n"
    )
    return tmp_path


def _train(folder: Path, *more: object, out: str = "alliance") -> str:
    paths = ("--alliance", folder / "alliance", "--data", folder / "town", "--config", folder / "ae.yaml", "--out", folder / out)
    return run_command("train", "compressor", *paths, "--ratio", 4, "--device", "cpu", *more)


def test_a_compressor_is_trained_and_added_to_its_alliance(folder: Path) -> None:
    before = {file: file.read_bytes() for file in (folder / "alliance").rglob("*") if file.is_file()}
    assert "from 8 to 2 channels" in " ".join(_train(folder, "--types", "m1").split())
    alliance = load_alliance(folder / "alliance")
    assert list(alliance.compressors) == [4] and {file: file.read_bytes() for file in before} == before
    rows = [json.loads(line) for line in (folder / "alliance-ae4" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    network, fresh = alliance.compressors[4].network, Compressor(alliance.compressors[4].network.config)
    assert all(not torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_a_killed_training_ends_with_the_same_compressor(folder: Path) -> None:
    _train(folder, out="whole")
    _train(folder, "--set", "training.epochs=1", out="twice")
    _train(folder, out="twice")
    whole, twice = (load_alliance(folder / name) for name in ("whole", "twice"))
    assert whole.compressors[4].hash == twice.compressors[4].hash
    assert (
        whole.agent_names == twice.agent_names == ("m1", "m2") and whole.base_hash == load_alliance(folder / "alliance").base_hash
    )


def test_the_frozen_networks_keep_every_bit_and_the_loss_falls() -> None:
    settings = replace(SETTINGS, compressor_ratio=2, training=replace(SETTINGS.training, frozen_base=True))
    model = with_random_norms(make_model(settings, None))
    assert isinstance(model, CollabModel)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taker, steps = StepTaker(model, settings), TrainingSteps(SOURCE, model, settings)
    losses = [float(taker.take(steps[0], 1e-2).total.detach()) for _ in range(12)]
    taker.guard.check()
    changed = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"compressor"} and losses[-1] < 0.9 * losses[0]
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"compressor"}
    next(model.agent("m1").parameters()).add_(1.0)
    with pytest.raises(TrainingStoppedError, match=r"changed in m1\."):
        taker.guard.check()


def test_what_would_change_the_frozen_networks_is_refused(folder: Path) -> None:
    for setting in ("base.shrink_channels=[8]", "agents.m1.lidar_beams=32", "compressor_ratio=2"):
        with pytest.raises(ConfigError, match=r"--set: base and agents of .* are frozen"):
            _train(folder, "--set", setting)
    for setting in ("training.range_m=[10, 10]", "training.fix_encoder=true"):
        with pytest.raises(ConfigError, match=r"training\.range_m and training\.fix_encoder are for `heal train agent`"):
            _train(folder, "--set", setting)
    with pytest.raises(UserError, match="8 channels cannot be divided by 3"):
        run_command(
            *("train", "compressor", "--alliance", folder / "alliance", "--data", folder / "town", "--ratio", 3),
            *("--config", folder / "ae.yaml", "--out", folder / "out"),
        )
    with pytest.raises(AllianceError, match=r"no agent type 'm9'"):
        _train(folder, "--types", "m9")
    with pytest.raises(UserError, match=r"a compressor is trained with training\.frozen_base=true"):
        replace(SETTINGS, compressor_ratio=2)
    assert SETTINGS.agents["m1"] == AGENT and not (folder / "out").exists() and not (folder / "alliance" / "compressor").exists()


def test_a_compressor_is_trained_by_its_own_command_alone(folder: Path) -> None:
    alliance, wanted = load_alliance(folder / "alliance"), r"compressor_ratio is for `heal train compressor --ratio 4`"
    overrides = ["compressor_ratio=4", "training.frozen_base=true"]
    with pytest.raises(ConfigError, match=wanted):
        resolve_settings(folder / "ae.yaml", alliance, overrides)
    with pytest.raises(ConfigError, match=wanted):
        resolve_agent_settings(CONFIGS / "demo" / "agents" / "m3.yaml", alliance, folder / "ae.yaml", overrides)
    with pytest.raises(ConfigError, match=r"training\.frozen_base=false: an agent type is aligned to the base as it is"):
        resolve_agent_settings(
            CONFIGS / "demo" / "agents" / "m3.yaml", alliance, folder / "ae.yaml", ["training.frozen_base=false"]
        )
