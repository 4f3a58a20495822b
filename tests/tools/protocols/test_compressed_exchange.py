"""HEAL's `compressor`: its weights come in and go out key for key, with the block of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseModel
from heal.config import load_yaml
from heal.layers.compressor import Compressor, CompressorConfig
from heal.storage.compressors import save_compressor
from tests.heal.networks import AGENT, BASE, small_model, with_random_norms
from tests.tools.command import run_command


@pytest.fixture
def alliance(tmp_path: Path) -> Path:
    path, model = tmp_path / "alliance", small_model()
    base_hash = save_base(path, BaseModel(BASE), TrainingRecord())
    save_agent(path, "m1", model.agent("m1"), base_hash, TrainingRecord())
    network = with_random_norms(Compressor(CompressorConfig(channels=8, ratio=4)))
    assert isinstance(network, Compressor)
    save_compressor(path, network, base_hash, TrainingRecord())
    return path


def _exported(alliance: Path, out: Path, *more: object) -> dict[str, torch.Tensor]:
    run_command("export", alliance, "--out", out, *more)
    state: dict[str, torch.Tensor] = torch.load(out / "net_epoch1.pth", weights_only=True)
    return state


def test_a_compressor_goes_out_under_heals_names_and_comes_back(alliance: Path, tmp_path: Path) -> None:
    state = _exported(alliance, tmp_path / "run", "--compressor", 4)
    assert load_yaml(tmp_path / "run" / "config.yaml")["model"]["args"]["compressor"] == {"input_dim": 8, "compress_ratio": 4}
    own = {key.removeprefix("compressor.") for key in state if key.startswith("compressor.")}
    layers = [f"encoder.{i}" for i in (0, 1)] + [f"decoder.{i}" for i in (0, 1, 3, 4)]
    norms = ("running_mean", "running_var", "num_batches_tracked")
    expected = {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}
    assert own == expected | {f"{layer}.{name}" for layer in layers if layer[-1] in "14" for name in norms}
    run_command("import", tmp_path / "run", "--out", tmp_path / "again")
    before, after = (load_alliance(path) for path in (alliance, tmp_path / "again"))
    assert after.compressors[4].hash == before.compressors[4].hash and after.agent_names == ("m1",)
    again = _exported(tmp_path / "again", tmp_path / "second", "--compressor", 4)
    assert again.keys() == state.keys() and all(torch.equal(again[key], state[key]) for key in state)


def test_without_the_option_no_compressor_is_exported(alliance: Path, tmp_path: Path) -> None:
    state = _exported(alliance, tmp_path / "run")
    assert not any(key.startswith("compressor") for key in state)
    assert "compressor" not in load_yaml(tmp_path / "run" / "config.yaml")["model"]["args"]
    with pytest.raises(AllianceError, match="no compressor of ratio 8; there are 4"):
        run_command("export", alliance, "--compressor", 8, "--out", tmp_path / "other")


def test_two_compressors_of_one_ratio_are_not_imported(alliance: Path, tmp_path: Path) -> None:
    _exported(alliance, tmp_path / "run", "--compressor", 4, "--rename", "m1=m7")
    with pytest.raises(AllianceError, match="more than one compressor has the ratio 4"):
        run_command("import", tmp_path / "run", "--out", alliance)
    assert load_alliance(alliance).agent_names == ("m1",)


def test_runs_that_differ_in_their_compressor_alone_become_one_alliance(alliance: Path, tmp_path: Path) -> None:
    opened, network = load_alliance(alliance), with_random_norms(Compressor(CompressorConfig(channels=8, ratio=2)))
    assert isinstance(network, Compressor)
    save_compressor(alliance, network, opened.base_hash, TrainingRecord())
    for ratio in (2, 4):
        _exported(alliance, tmp_path / f"run_{ratio}", "--compressor", ratio)
    run_command("import", tmp_path / "run_2", tmp_path / "run_4", "--out", tmp_path / "at_once")
    for ratio in (2, 4):
        run_command("import", tmp_path / f"run_{ratio}", "--out", tmp_path / "one_by_one")
    for out in ("at_once", "one_by_one"):
        found = load_alliance(tmp_path / out)
        assert found.agent_names == ("m1",) and found.agent_card("m1").hash == opened.agent_card("m1").hash
        assert {ratio: part.hash for ratio, part in found.compressors.items()} == {
            ratio: part.hash for ratio, part in load_alliance(alliance).compressors.items()
        }


def test_the_type_is_still_the_same(alliance: Path) -> None:
    assert load_alliance(alliance).agent_card("m1").config == AGENT
