"""Compressors on disk: they come back as they were saved, and one of another base, or with changed weights, is left out by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heal.alliance import AllianceError, TrainingRecord, load_alliance
from heal.layers.compressor import Compressor, CompressorConfig
from heal.storage.compressors import require_compressor, save_compressor, weights_path
from heal.tools.shared.made_by import AllianceRecord
from tests.agents.tiny_run import save_tiny_alliance
from tests.heal.networks import with_random_norms
from tests.tools.command import run_command


def _saved(path: Path, *ratios: int) -> str:
    """Write the tiny alliance with compressors of 8 channels; return the hash of its base."""
    base_hash = load_alliance(save_tiny_alliance(path)).base_hash
    for ratio in ratios:
        torch.manual_seed(ratio)
        network = with_random_norms(Compressor(CompressorConfig(channels=8, ratio=ratio)))
        assert isinstance(network, Compressor)
        save_compressor(path, network, base_hash, TrainingRecord(data="town"))
    return base_hash


def test_compressors_come_back_by_their_ratio(tmp_path: Path) -> None:
    _saved(tmp_path, 8, 2)
    alliance, x = load_alliance(tmp_path), torch.rand(1, 8, 6, 6)
    assert list(alliance.compressors) == [2, 8]
    assert [part.network.encoder(x).shape[1] for part in alliance.compressors.values()] == [4, 1]
    assert len({part.hash for part in alliance.compressors.values()}) == 2
    plain, fast = (part.compressors[8] for part in (alliance, alliance.for_inference()))
    assert plain.hash == fast.hash and len(list(fast.network.modules())) == len(list(plain.network.modules()))
    torch.testing.assert_close(fast.network(x), plain.network(x), atol=1e-5, rtol=1e-4)
    with pytest.raises(AllianceError, match="no compressor of ratio 4; there are 2, 8"):
        require_compressor(alliance.compressors, 4)


def test_a_compressor_of_another_base_is_left_out_by_name(tmp_path: Path) -> None:
    _saved(tmp_path / "one", 4)
    save_tiny_alliance(tmp_path / "other", seed=1)
    (tmp_path / "one" / "compressor").rename(tmp_path / "other" / "compressor")
    other = load_alliance(tmp_path / "other")
    assert dict(other.compressors) == {}
    said = " ".join(run_command("info", tmp_path / "other").split())
    assert "ae4 cannot be used" in said and "ae4.yaml: it was trained with the base" in said


def test_changed_weights_are_left_out_and_found_by_verify(tmp_path: Path) -> None:
    _saved(tmp_path, 2, 4)
    assert "ae4" in run_command("alliance", "verify", tmp_path)
    weights_path(tmp_path, 2).replace(weights_path(tmp_path, 4))
    _saved(tmp_path, 2)
    assert list(load_alliance(tmp_path).compressors) == [2]
    with pytest.raises(AllianceError, match=r"not whole: .*ae4\.safetensors: its content hash is"):
        run_command("alliance", "verify", tmp_path)


def test_the_record_of_an_output_tells_compressors_apart(tmp_path: Path) -> None:
    without = AllianceRecord.of(load_alliance(save_tiny_alliance(tmp_path))).hash
    _saved(tmp_path, 4)
    four = AllianceRecord.of(load_alliance(tmp_path)).hash
    _saved(tmp_path, 2)
    assert len({without, four, AllianceRecord.of(load_alliance(tmp_path)).hash}) == 3


def test_an_alliance_is_described_and_packed_with_its_compressors(tmp_path: Path) -> None:
    _saved(tmp_path / "one", 4)
    assert "compressor ae4" in " ".join(run_command("info", tmp_path / "one").split())
    run_command("alliance", "pack", tmp_path / "one", "--out", tmp_path / "one.zip")
    run_command("alliance", "unpack", tmp_path / "one.zip", "--out", tmp_path / "two")
    hashes = [load_alliance(tmp_path / name).compressors[4].hash for name in ("one", "two")]
    assert hashes[0] == hashes[1]
